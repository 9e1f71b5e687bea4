"""Pictures of what monitoring found, for the metadata of its assets."""

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from mlops_assets.monitoring.drift import DriftReport

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SLICES = 40


def plot_traffic(predictions: pl.DataFrame) -> "Figure":
    """Return how many predictions each version answered, over time (columns ``at`` and ``version``)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 2.6), layout="constrained")
    axes = figure.subplots()
    seconds = predictions["at"].dt.epoch("us").to_numpy() / 1e6
    edges = np.linspace(seconds.min(), max(seconds.max(), seconds.min() + 1), SLICES + 1)
    versions = predictions["version"].unique(maintain_order=True).to_list()
    counts = [np.histogram(seconds[(predictions["version"] == version).to_numpy()], edges)[0] for version in versions]
    middles = (edges[1:] + edges[:-1]) / 2 - edges[0]
    axes.stackplot(middles, counts, labels=[short(version) for version in versions], alpha=0.85)
    axes.set(xlabel="seconds since the first prediction", ylabel="predictions", title="Answered by version")
    axes.legend(loc="upper left", fontsize="small", frameon=False)
    return figure


def plot_drift(report: DriftReport) -> "Figure":
    """Return the effect in each column beside its threshold; columns that drifted stand out."""
    from matplotlib.figure import Figure

    columns = sorted(report.columns, key=lambda column: column.effect)
    figure = Figure(figsize=(7, 1.2 + 0.28 * len(columns)), layout="constrained")
    axes = figure.subplots()
    names = [column.name for column in columns]
    colors = ["#d1495b" if column.drifted else "#8d99ae" for column in columns]
    axes.barh(names, [column.effect for column in columns], color=colors, height=0.62)
    axes.scatter([column.threshold for column in columns], names, marker="|", s=160, color="#2b2d42", zorder=3)
    axes.set(xlabel="effect (bar: threshold)", title=f"Drift in window {report.window}", xlim=(0, None))
    return figure


def short(digest: str) -> str:
    """Return the first eight digits of a digest.

    >>> short("sha256:0123456789abcdef")
    '01234567'
    """
    return digest.removeprefix("sha256:")[:8]
