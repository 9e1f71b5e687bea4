"""Pictures of an evaluation: metrics with their intervals, and what the model looks at."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_assets.evaluation.explain import Explanation
from mlops_assets.evaluation.metrics import Floats
from mlops_assets.evaluation.report import EvaluationReport

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CANDIDATE, CHAMPION, GAIN = "#4f43dd", "#8d99ae", "#2b9348"
MOST_FEATURES = 12


def plot_metrics(report: EvaluationReport) -> "Figure":
    """Return a forest plot: candidate and champion per metric, and beside them the gain against zero."""
    from matplotlib.figure import Figure

    names = sorted(report.candidate_metrics)
    figure = Figure(figsize=(8, 0.8 + 1.1 * max(1, len(names))), layout="constrained")
    if not names:
        figure.text(0.5, 0.5, "no metric could be computed", ha="center", va="center")
        return figure
    for axes, name in zip(figure.subplots(len(names), 2, squeeze=False), names, strict=True):
        _plot_values(axes[0], report, name)
        _plot_gain(axes[1], report, name)
    figure.suptitle(
        f"{report.product}: {report.rows:,} rows, {report.clusters:,} clusters, {report.confidence:.0%} intervals",
        fontsize="medium",
    )
    return figure


def plot_explanation(explanation: Explanation) -> "Figure":
    """Return a SHAP summary (a dot per row, by feature) or, for permutation importance, bars."""
    from matplotlib.figure import Figure

    count = min(MOST_FEATURES, len(explanation.features))
    figure = Figure(figsize=(7, 1.2 + 0.34 * max(1, count)), layout="constrained")
    axes = figure.subplots()
    if explanation.contributions is None or explanation.values is None:
        axes.barh(range(count), explanation.importance[:count], color=CANDIDATE, height=0.6)
        axes.set(xlabel=f"loss of {explanation.metric} when shuffled", title="Permutation importance")
    else:
        shown = _plot_swarm(axes, explanation.contributions[:, :count], explanation.values[:, :count])
        bar = figure.colorbar(shown, ax=axes, ticks=[0, 1], aspect=40)
        bar.set_ticklabels(["low", "high"])
        bar.set_label("feature value", labelpad=-8)
        axes.axvline(0, color="#2b2d42", linewidth=0.8)
        axes.set(xlabel="contribution to the raw score (SHAP)", title="What the model looks at")
    axes.set_yticks(range(count), explanation.features[:count], fontsize="small")
    axes.invert_yaxis()
    return figure


def plot_folds(reports: Sequence[EvaluationReport], names: Sequence[str]) -> "Figure":
    """Return one panel per metric: its value with its interval in each report, which ``names`` name in order."""
    from matplotlib.figure import Figure

    metrics = sorted({metric for report in reports for metric in report.candidate_metrics})
    figure = Figure(figsize=(7, 0.6 + 1.6 * max(1, len(metrics))), layout="constrained")
    for axes, metric in zip(figure.subplots(max(1, len(metrics)), 1, squeeze=False)[:, 0], metrics, strict=False):
        for place, report in enumerate(reports):
            if found := report.candidate_metrics.get(metric):
                axes.plot([place, place], [found.low, found.high], color=CANDIDATE, linewidth=2.5)
                axes.plot(place, found.value, "o", color=CANDIDATE)
        axes.set_xticks(range(len(names)), names, fontsize="small")
        axes.set_title(metric, fontsize="small", loc="left")
        axes.margins(x=0.1)
    return figure


def _plot_values(axes: Any, report: EvaluationReport, name: str) -> None:
    rows = [("candidate", report.candidate_metrics[name], CANDIDATE)]
    if name in report.champion_metrics:
        rows.append(("champion", report.champion_metrics[name], CHAMPION))
    for place, (_, found, color) in enumerate(rows):
        axes.plot([found.low, found.high], [place, place], color=color, linewidth=2.5, solid_capstyle="round")
        axes.plot(found.value, place, "o", color=color)
    axes.set_yticks(range(len(rows)), [role for role, _, _ in rows], fontsize="small")
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_title(name, fontsize="small", loc="left")
    axes.locator_params(axis="x", nbins=5)
    axes.tick_params(labelsize="small")


def _plot_gain(axes: Any, report: EvaluationReport, name: str) -> None:
    found = report.comparisons.get(name)
    axes.set_yticks([])
    if found is None:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "nothing to compare with", ha="center", va="center", transform=axes.transAxes)
        return
    axes.axvline(0, color="#2b2d42", linewidth=0.8)
    axes.plot([found.low, found.high], [0, 0], color=GAIN, linewidth=2.5, solid_capstyle="round")
    axes.plot(found.gain, 0, "o", color=GAIN)
    axes.set_title(f"gain {found.gain:+.4g}, p = {found.p_value:.2g}", fontsize="small", loc="left")
    axes.locator_params(axis="x", nbins=5)
    axes.tick_params(labelsize="small")


def _plot_swarm(axes: Any, contributions: Floats, values: Floats) -> Any:
    """Draw one dot per row and feature, dodged where they crowd, coloured by the value within its 5-95 % range."""
    shown = None
    for place in range(contributions.shape[1]):
        x, value = contributions[:, place], values[:, place]
        known = value[np.isfinite(value)]
        low, high = np.quantile(known, (0.05, 0.95)) if known.size else (0.0, 1.0)
        tint = np.clip((value - low) / (high - low if high > low else 1.0), 0, 1)
        color = np.where(np.isfinite(tint), tint, 0.5)
        shown = axes.scatter(x, place + _dodge(x), c=color, s=6, cmap="cool", vmin=0, vmax=1, linewidths=0)
    return shown


def _dodge(x: Floats) -> Floats:
    """Return an offset for each dot so that dots in the same narrow bin stand beside one another."""
    span = x.max() - x.min()
    bins = np.floor((x - x.min()) / (span or 1) * 60).astype(int)
    order = np.argsort(bins, kind="stable")
    _, first, count = np.unique(bins[order], return_index=True, return_counts=True)
    within = np.empty(len(x))
    within[order] = np.arange(len(x)) - np.repeat(first, count) - (np.repeat(count, count) - 1) / 2
    return np.asarray(0.7 * within / max(1, count.max()))
