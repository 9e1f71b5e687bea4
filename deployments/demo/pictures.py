"""The pictures of the demo's report, as SVG that takes its colours from the page, so that it suits light and dark."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from io import StringIO
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Each stands in the drawing for a variable of the page's style sheet and is replaced by it in the SVG.
INK, FAINT, GRID, PAPER = "#010101", "#020202", "#030303", "#040404"
SERIES = ("#050505", "#060606", "#070707", "#080808", "#090909", "#0a0a0a")
GOOD, BAD = "#0b0b0b", "#0c0c0c"
VARIABLES = {
    INK: "ink",
    FAINT: "faint",
    GRID: "grid",
    PAPER: "card",
    GOOD: "good",
    BAD: "bad",
    **{color: f"series-{number}" for number, color in enumerate(SERIES, start=1)},
}
SLOTS = 160


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened to a rollout at a moment: ``label`` in few words, ``bad`` if it was a fall."""

    at: datetime
    label: str
    bad: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricPoint:
    """One interval of the forest plot. ``role`` is ``candidate`` or ``champion``."""

    act: str
    role: str
    metric: str
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveSequence:
    """A rollout's live analysis, look by look: ``units`` seen, ``gain`` with ``low`` and ``high`` (equal lengths).

    ``margin`` is the loss that is still tolerated (a positive number); ``verdict`` is the last one.
    """

    title: str
    units: Sequence[float]
    gain: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    margin: float
    verdict: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftBar:
    """One column's effect beside the threshold from which it counts."""

    name: str
    effect: float
    threshold: float
    drifted: bool


def draw_traffic(traffic: pl.DataFrame, versions: Mapping[str, str], events: Sequence[Event]) -> str:
    """Return the share of requests by version over time, with events marked (``traffic``: ``at``, ``version``)."""
    figure = _figure(10.6, 4.5)
    share, rate = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    start = cast(datetime, traffic["at"].min())
    seconds = (traffic["at"] - start).dt.total_microseconds().to_numpy() / 1e6
    edges = np.linspace(0.0, max(float(seconds.max()), 1.0), SLOTS + 1)
    order = traffic["version"].unique(maintain_order=True).to_list()
    counts = np.array([np.histogram(seconds[(traffic["version"] == name).to_numpy()], edges)[0] for name in order])
    total = counts.sum(axis=0)
    middles = (edges[1:] + edges[:-1]) / 2
    bottom = np.zeros(SLOTS)
    for number, (name, count) in enumerate(zip(order, counts, strict=True)):
        height = np.divide(100.0 * count, total, out=np.zeros(SLOTS), where=total > 0)
        color = SERIES[number % len(SERIES)]
        width = (edges[1] - edges[0]) * 1.02
        share.bar(
            middles, height, width, bottom=bottom, color=color, label=versions.get(name, name[:15]), lw=0, aa=False
        )
        bottom += height
    rate.fill_between(middles, total / (edges[1] - edges[0]), step="mid", color=FAINT, alpha=0.55, linewidth=0)
    _mark(share, rate, [((event.at - start).total_seconds(), event) for event in events])
    _style(share, ylabel="% of requests", grid="y")
    _style(rate, ylabel="req/s", xlabel="seconds since the first request", grid="y")
    share.set_ylim(0, 100)
    share.margins(x=0.01)
    figure.legend(*share.get_legend_handles_labels(), loc="outside upper left", ncols=4, frameon=False, labelcolor=INK)
    return _svg(figure, "traffic")


def draw_metrics(points: Sequence[MetricPoint]) -> str:
    """Return the forest plot: one panel a metric, one line an act and role."""
    metrics = list(dict.fromkeys(point.metric for point in points))
    acts = list(dict.fromkeys(point.act for point in points))
    figure = _figure(10.6, 1.5 + 0.62 * len(acts))
    panels: list[Axes] = list(np.ravel(figure.subplots(1, len(metrics), sharey=True, squeeze=False)))
    offsets = {"candidate": -0.14, "champion": 0.14}
    colors = {"candidate": SERIES[0], "champion": SERIES[1]}
    for panel, metric in zip(panels, metrics, strict=True):
        for role, offset in offsets.items():
            chosen = [point for point in points if point.metric == metric and point.role == role]
            heights = [acts.index(point.act) + offset for point in chosen]
            values = [point.value for point in chosen]
            spread = [[p.value - p.low for p in chosen], [p.high - p.value for p in chosen]]
            color = colors[role]
            panel.errorbar(values, heights, xerr=spread, fmt="o", ms=5.5, color=color, lw=2, capsize=3, label=role)
        _style(panel, title=metric, grid="x")
        panel.set_yticks(range(len(acts)), acts)
        panel.set_ylim(len(acts) - 0.5, -0.5)
    handles = panels[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper right", ncols=2, frameon=False, labelcolor=INK)
    return _svg(figure, "metrics")


def draw_live(sequences: Sequence[LiveSequence]) -> str:
    """Return each rollout's confidence sequence: the gain over the champion against the tolerated loss."""
    figure = _figure(10.6, 3.4)
    panels: list[Axes] = list(np.ravel(figure.subplots(1, len(sequences), sharey=True, squeeze=False)))
    for panel, sequence in zip(panels, sequences, strict=True):
        color = BAD if sequence.verdict == "FAILED" else SERIES[0]
        panel.fill_between(sequence.units, sequence.low, sequence.high, color=color, alpha=0.22, linewidth=0)
        panel.plot(sequence.units, sequence.gain, color=color, lw=2, marker="o", ms=3.5)
        panel.axhline(0, color=FAINT, lw=1)
        panel.axhline(-sequence.margin, color=INK, lw=1.2, ls=(0, (4, 3)))
        _style(panel, title=f"{sequence.title} · {sequence.verdict}", xlabel="units observed", grid="y")
        if len(sequence.units) == 1:
            panel.set_xlim(0, 2 * sequence.units[0])
    panels[0].set_ylabel("gain over champion", color=FAINT, fontsize=9.5)
    panels[0].annotate(
        "tolerated loss",
        (0.99, -sequences[0].margin),
        xycoords=("axes fraction", "data"),
        xytext=(0, -4),
        textcoords="offset points",
        ha="right",
        va="top",
        color=FAINT,
        fontsize=9,
    )
    return _svg(figure, "live")


def draw_shap(importance: Mapping[str, float], limit: int = 15) -> str:
    """Return mean absolute SHAP values by feature, the largest first."""
    chosen = sorted(importance.items(), key=lambda pair: pair[1])[-limit:]
    figure = _figure(5.1, 1.0 + 0.27 * len(chosen))
    axes = figure.subplots()
    axes.barh([name for name, _ in chosen], [value for _, value in chosen], color=SERIES[0], height=0.66)
    _style(axes, xlabel="mean |SHAP value|", grid="x")
    return _svg(figure, "shap")


def draw_drift(bars: Sequence[DriftBar]) -> str:
    """Return each column's effect with its threshold; columns that drifted stand out."""
    chosen = sorted(bars, key=lambda bar: bar.effect)
    names = [bar.name for bar in chosen]
    figure = _figure(5.1, 1.0 + 0.27 * len(chosen))
    axes = figure.subplots()
    colors = [BAD if bar.drifted else FAINT for bar in chosen]
    axes.barh(names, [bar.effect for bar in chosen], color=colors, height=0.66)
    axes.scatter([bar.threshold for bar in chosen], names, marker="|", s=110, color=INK, lw=1.6, zorder=3)
    _style(axes, xlabel="effect, with the threshold from which it counts", grid="x")
    axes.set_xlim(0, None)
    return _svg(figure, "drift")


def _mark(share: "Axes", rate: "Axes", marks: Sequence[tuple[float, Event]]) -> None:
    """Draw a numbered line for each event; numbers that would overlap are set at different heights."""
    latest = [-np.inf, -np.inf, -np.inf]
    span = max(share.get_xlim()[1], 1.0)
    for number, (second, event) in enumerate(marks, start=1):
        level = next((k for k, last in enumerate(latest) if second - last > 0.028 * span), int(np.argmin(latest)))
        latest[level] = second
        color = BAD if event.bad else INK
        for axes in (share, rate):
            axes.axvline(second, color=color, lw=1.1, ls=(0, (2, 2)))
        share.annotate(
            str(number),
            (second, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(0, 9 + 15 * level),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=8.5,
            color=PAPER,
            bbox={"boxstyle": "circle,pad=0.25", "facecolor": color, "edgecolor": "none"},
        )


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_alpha(0.0)
    return figure


def _style(axes: "Axes", *, grid: Literal["x", "y"], title: str = "", xlabel: str = "", ylabel: str = "") -> None:
    axes.set_facecolor("none")
    axes.set_axisbelow(True)
    axes.grid(axis=grid, color=GRID, lw=0.8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(GRID)
    axes.tick_params(colors=FAINT, labelcolor=INK, length=0, labelsize=9.5)
    axes.set_title(title, color=INK, fontsize=11, loc="left")
    if xlabel:
        axes.set_xlabel(xlabel, color=FAINT, fontsize=9.5)
    if ylabel:
        axes.set_ylabel(ylabel, color=FAINT, fontsize=9.5)


def _svg(figure: "Figure", name: str) -> str:
    """Return the figure as an SVG element, its colours replaced by the page's variables, the same bytes each time."""
    import matplotlib as mpl

    target = StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(target, format="svg", metadata={"Date": None, "Creator": None})
    text = target.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    for color, variable in VARIABLES.items():
        text = text.replace(color, f"var(--{variable})")
    # Attributes cannot hold var(); style properties can, and a bare stroke or fill attribute is rare here.
    text = re.sub(r'(fill|stroke)="(var\(--[\w-]+\))"', r'style="\1: \2"', text)
    text = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font: \1 system-ui, sans-serif", text)
    # Names are made unique: all pictures stand in one page.
    text = re.sub(r'(id="|xlink:href="#|url\(#)', rf"\g<1>{name}-", text)
    return re.sub(r'<svg ([^>]*?)width="[^"]+"', r"<svg \1", re.sub(r'height="[\d.]+pt"', "", text, count=1), count=1)
