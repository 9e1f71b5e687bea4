"""Pictures of releases: traffic over time, the confidence sequence of a rollout, what a policy would do."""

from collections.abc import Sequence
from math import log
from typing import Any

from mlops_assets.ledger.entry import Entry
from mlops_assets.ledger.state import ProductState, fold
from mlops_assets.release.live import LiveAnalysis
from mlops_assets.release.live_verdict import LiveVerdict
from mlops_assets.release.simulate import Outcome

ENDS = {"promoted": "#2b9348", "rolled_back": "#dc2626", "undecided": "#e9c46a"}


def plot_outcomes(found: Sequence[Outcome]) -> Any:
    """Draw the shares of releases by how they end, a bar for each scenario; what is missing was stopped by gates."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 0.9 + 0.45 * max(1, len(found))), layout="constrained")
    axes = figure.add_subplot()
    left = [0.0] * len(found)
    for end, colour in ENDS.items():
        shares = [getattr(outcome, end) for outcome in found]
        axes.barh(range(len(found)), shares, left=left, color=colour, height=0.6, label=end.replace("_", " "))
        left = [done + share for done, share in zip(left, shares, strict=True)]
    axes.barh(range(len(found)), [1 - done for done in left], left=left, color="#e5e5e5", height=0.6, label="stopped")
    axes.set_yticks(range(len(found)), [outcome.scenario for outcome in found], fontsize="small")
    axes.invert_yaxis()
    axes.set(xlim=(0, 1), xlabel="share of releases")
    axes.legend(fontsize="small", frameon=False, ncols=4, loc="lower center", bbox_to_anchor=(0.4, 1.0))
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def plot_traffic(entries: Sequence[Entry]) -> Any:
    """Draw the percent of each version after every entry."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.figure import Figure

    states: list[ProductState] = []
    for entry in entries:
        states.append(fold([entry], states[-1] if states else None))
    times: Any = [entry.at for entry in entries]
    figure = Figure(figsize=(6, 2.2))
    axes = figure.add_subplot()
    for digest in dict.fromkeys(digest for state in states for digest in state.weights):
        axes.step(times, [state.weights.get(digest, 0) for state in states], where="post", label=digest[7:15])
    axes.set_ylabel("% of traffic")
    axes.spines[["top", "right"]].set_visible(False)
    if states and states[-1].weights:
        axes.legend(fontsize=7, frameon=False)
    if times:
        locator: Any = AutoDateLocator()  # type: ignore[no-untyped-call]
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    return figure


def plot_sequence(found: LiveVerdict, analysis: LiveAnalysis) -> Any:
    """Draw the confidence sequence of the mean gain over the units."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 2.5))
    axes = figure.add_subplot()
    if found.series:
        units, gain, low, high = zip(*found.series, strict=True)
        axes.fill_between(units, low, high, color="#4f46e5", alpha=0.15, linewidth=0)
        axes.plot(units, gain, color="#4f46e5")
    axes.axhline(0, color="#888", linewidth=0.8)
    axes.axhline(-analysis.margin, color="#dc2626", linewidth=0.8, linestyle="--")
    if found.decided_at is not None:
        told = found.would_be or found.verdict.value
        axes.axvline(found.decided_at, color="#888", linestyle=":", label=f"{told} at {found.decided_at}")
        axes.legend(fontsize=7, frameon=False)
    axes.set_xlabel("entities")
    axes.set_ylabel(f"gain in {analysis.metric}")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def plot_segments(found: LiveVerdict, analysis: LiveAnalysis) -> Any:
    """Draw each segment's gain with its bounds, one below the other; red where the candidate is worse by the margin."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 0.8 + 0.35 * len(found.segments)))
    axes = figure.add_subplot()
    for place, segment in enumerate(found.segments):
        colour = "#dc2626" if segment.log_e >= -log(analysis.harm_alpha) else "#4f46e5"
        axes.plot([segment.low, segment.high], [place, place], color=colour)
        axes.plot([segment.gain], [place], "o", color=colour, markersize=4)
    axes.set_yticks(range(len(found.segments)), [f"{segment.where} ({segment.units})" for segment in found.segments])
    axes.invert_yaxis()
    axes.axvline(0, color="#888", linewidth=0.8)
    axes.axvline(-analysis.margin, color="#dc2626", linewidth=0.8, linestyle="--")
    axes.set_xlabel(f"gain in {analysis.metric}")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def plot_latency(found: LiveVerdict) -> Any:
    """Draw the quantiles of each version's latency over its answers; a bound that is not known yet is not drawn."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 2.5))
    axes = figure.add_subplot()
    for sequence in found.latency:
        colour = "#4f46e5" if sequence.version == "candidate" else "#888"
        answers, low, middle, high = zip(*sequence.points, strict=True)
        lower, upper = ([float("nan") if bound is None else bound for bound in side] for side in (low, high))
        axes.fill_between(answers, lower, upper, color=colour, alpha=0.15, linewidth=0)
        style = "-" if sequence.quantile <= 0.5 else "--"
        axes.plot(answers, middle, style, color=colour, label=f"{sequence.version}, {100 * sequence.quantile:g} %")
    axes.set(xscale="log", xlabel="answers", ylabel="latency in s")
    axes.legend(fontsize=7, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
