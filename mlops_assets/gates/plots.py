"""Pictures of judgements: an interval for each thing that was judged, against the line it must not cross."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlops_assets.gates.gate import Judgement, Verdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = {True: "#2b9348", False: "#8d99ae", None: "#dc2626"}
LINE = "#dc2626"


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A value with its bounds; ``holds`` is ``None`` for what was shown to be wrong."""

    name: str
    value: float
    low: float
    high: float
    holds: bool | None = False


def plot_judgement(judgement: Judgement) -> "Figure | None":
    """Return a forest plot of what a judgement saw, or a reliability diagram; ``None`` if there is nothing to draw."""
    evidence = judgement.evidence
    if "bins" in evidence and all(each["difference"] for each in evidence["bins"]):
        return _reliability(evidence["bins"])
    intervals, line, axis = _intervals(judgement)
    return _forest(intervals, line, axis) if intervals else None


def _intervals(judgement: Judgement) -> tuple[list[Interval], float | None, str]:
    """Return what is to be drawn, the line that matters, and what the axis measures."""
    evidence, holds = judgement.evidence, _holds(judgement.verdict)
    if "slices" in evidence and isinstance(evidence["slices"], Sequence):
        parts = [part for part in evidence["slices"] if part.get("gain") is not None]
        found = [
            _bounded(part["name"], part["gain"], part, holds=None if part["is_worse"] else part["holds"])
            for part in parts
        ]
        return found, -evidence["margin"], f"gain on {evidence['metric']}"
    if "groups" in evidence:
        rates = {name: each["rate"] for name, each in evidence["groups"].items() if each["rate"]}
        found = [
            Interval(name=n, value=r["value"], low=r["low"], high=r["high"], holds=holds) for n, r in rates.items()
        ]
        return found, None, "rate"
    if "lower_bound" in evidence:
        line = evidence["line"]
        return [_bounded("gain", evidence["gain"], evidence, holds=holds)], line, f"gain on {evidence['metric']}"
    if {"low", "high", "ceiling"} <= set(evidence):
        value = next(v for v in evidence.values() if isinstance(v, float))
        one = Interval(name="found", value=value, low=evidence["low"], high=evidence["high"], holds=holds)
        return [one], evidence["ceiling"], "value"
    return [], None, ""


def _bounded(name: str, value: float, facts: Mapping[str, Any], *, holds: bool | None) -> Interval:
    return Interval(name=name, value=value, low=facts["lower_bound"], high=facts["upper_bound"], holds=holds)


def _holds(verdict: Verdict) -> bool | None:
    return None if verdict is Verdict.FAILED else verdict is Verdict.PASSED


def _forest(intervals: Sequence[Interval], line: float | None, axis: str) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 0.9 + 0.35 * len(intervals)), layout="constrained")
    axes = figure.add_subplot()
    for place, each in enumerate(intervals):
        colour = COLOURS[each.holds]
        axes.plot([each.low, each.high], [place, place], color=colour, linewidth=2.5)
        axes.plot(each.value, place, "o", color=colour)
    axes.set_yticks(range(len(intervals)), [each.name for each in intervals], fontsize="small")
    axes.invert_yaxis()
    axes.axvline(0, color="#2b2d42", linewidth=0.8)
    if line is not None:
        axes.axvline(line, color=LINE, linewidth=1, linestyle="--")
    axes.set_xlabel(axis)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _reliability(bins: Sequence[Mapping[str, Any]]) -> "Figure":
    """Return mean label against mean score of each bin, with the bounds of their difference."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="#8d99ae", linewidth=0.8)
    for each in bins:
        low, high = each["score"] - each["difference"]["high"], each["score"] - each["difference"]["low"]
        axes.plot([each["score"]] * 2, [low, high], color="#4f43dd", linewidth=2)
        axes.plot(each["score"], each["label"], "o", color="#4f43dd")
    axes.set(xlabel="mean score", ylabel="mean label", xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.spines[["top", "right"]].set_visible(False)
    return figure
