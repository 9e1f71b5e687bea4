"""The error rates that gates and live analysis keep, by full simulation, and what they cost in time."""

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
from scipy import stats

from benchmarks._turns import seconds
from mlops_assets.evaluation.metrics import brier
from mlops_assets.evaluation.slice_discovery import Discovery, discover
from mlops_assets.evaluation.slices import Slice
from mlops_assets.evaluation.workbench import ScoredModel, Workbench
from mlops_assets.gates.error_control import ErrorControl
from mlops_assets.gates.golden_budget import GoldenBudget
from mlops_assets.gates.non_inferior import NonInferior
from mlops_assets.gates.slices_hold import SlicesHold
from mlops_assets.gates.superior import Superior
from mlops_assets.release.betting import log_capital_below
from mlops_assets.release.canary import Canary
from mlops_assets.release.live import LiveAnalysis
from mlops_assets.release.policy import Policy
from mlops_assets.release.simulate import Scenario, World, simulate

Line = dict[str, Any]

ALPHA, POWER = 0.05, 0.8
STREAMS, REQUESTS = 10_000, 400
SLICES = tuple(Slice(name=f"s{n}", where=f"part = {n}") for n in range(20))
WORLD = World(clusters=800, spreads={"brier": 0.07, "auc": 0.1}, live_spread=0.05, units=300)
POLICY = Policy(
    gates=(Superior(metric="brier", minimum_effect=0.01), NonInferior(metric="auc", margin=0.02)),
    analysis=LiveAnalysis(margin=0.02, bound=0.25, outcomes_per_unit=10),
    strategy=Canary(),
    errors=ErrorControl(golden=GoldenBudget(uses=1)),
)
SLICED = SlicesHold(metric="brier", margin=0.02, slices=SLICES, discovery=None)


def false_promotions() -> list[Line]:
    """Return how often a whole policy promotes what it should not, as a share of tries, beside the alpha it promises.

    A candidate no better than the champion, once; fifty of them on one golden set until one gets through; one that is
    better but loses the margin in one of twenty slices, with the gain of the others on its side.
    """
    fifty = replace(POLICY, errors=ErrorControl(golden=GoldenBudget(uses=50)))
    sliced, large = replace(POLICY, gates=(*POLICY.gates, SLICED)), replace(WORLD, clusters=8000)
    gains = {"brier": 0.02, "auc": 0.02}
    broken = Scenario(name="broken in a slice", gains=gains, live_gain=0.02, slice_gain=-0.02)
    cases = [
        ("once", POLICY, WORLD, Scenario(name="equal"), 10_000),
        ("50_uses", fifty, WORLD, Scenario(name="equal", uses=50), 1200),
        ("20_slices", sliced, large, broken, 2000),
    ]
    rates = {name: simulate(policy, world, tried, releases=n).promoted for name, policy, world, tried, n in cases}
    worst = max(rates.values())
    lines = [_rate(f"gates.false_promotion_rate_{name}", value) for name, value in rates.items()]
    return [_rate("gates.false_promotion_rate", worst), *lines]


def power() -> Line:
    """Return how often a candidate with exactly the declared effect is promoted, beside the power that is promised.

    One gate, on a golden set of the size it asks for after a pilot of a hundred entities.
    """
    better = Scenario(name="better", gains={"brier": 0.01}, live_gain=0.02)
    alone = replace(POLICY, gates=POLICY.gates[:1])
    found = simulate(alone, replace(WORLD, clusters=100, grows=True), better, releases=4000).promoted
    return {"name": "gates.power", "value": found, "unit": "share", "baseline": POWER, "ratio": found / POWER}


def live_false_positives() -> list[Line]:
    """Return how often live analysis, looked at after every outcome, calls an equal candidate harmful.

    Ten thousand streams of paired losses. The base rate of the label drifts from a tenth to a half, outcomes come in an
    order of their own (delays of up to a quarter of the stream), and each request's gain has mean 0 given its past.
    Beside it, on the same streams: a t-test at the same alpha, made anew at every look.
    """
    generator = np.random.default_rng(1)
    alarms, naive = 0, 0
    for _ in range(10):
        values = _streams(generator, STREAMS // 10)
        alarms += int((log_capital_below(values, 0.0).max(axis=1) >= np.log(1 / ALPHA)).sum())
        naive += int(_t_test_alarms(values).sum())
    return [
        _rate("gates.live_false_positive_rate", alarms / STREAMS),
        _rate("gates.live_naive_false_positive_rate", naive / STREAMS),
    ]


def _streams(generator: np.random.Generator, count: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    base = np.linspace(0.1, 0.5, REQUESTS)
    label = generator.random((count, REQUESTS)) < base
    ours, theirs = (np.clip(base + generator.normal(0, 0.2, label.shape), 0, 1) for _ in range(2))
    gain = np.clip((theirs - label) ** 2 - (ours - label) ** 2, -0.25, 0.25) / 0.25
    told = np.arange(REQUESTS) + generator.random(label.shape) * REQUESTS / 4
    return np.take_along_axis(gain, np.argsort(told, axis=1), axis=1)


def _t_test_alarms(values: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    count = np.arange(1, values.shape[1] + 1)
    mean = values.cumsum(axis=1) / count
    variance = (np.square(values).cumsum(axis=1) - count * mean**2) / np.maximum(count - 1, 1)
    reached = mean / np.sqrt(np.maximum(variance, 1e-12) / count)
    return np.asarray((stats.t.cdf(reached, np.maximum(count - 1, 1))[:, 9:] <= ALPHA).any(axis=1))


def slice_discovery() -> Line:
    """Return seconds to look through a million rows by thirty columns, alone and in pairs, for slices that lose.

    The baseline groups the same rows by the same columns and pairs with Polars, mean and count only: no test, no
    clusters.
    """
    generator, rows = np.random.default_rng(2), 1_000_000
    columns = {f"text{n}": generator.choice(list("abcde"), rows) for n in range(10)}
    columns |= {f"flag{n}": generator.random(rows) < 0.3 for n in range(10)}
    columns |= {f"number{n}": generator.integers(0, 8, rows) for n in range(10)}
    golden = pl.DataFrame(columns)
    person, labels = generator.integers(0, 50_000, rows).astype(float), (generator.random(rows) < 0.3).astype(float)
    old, new = (np.clip(0.3 + generator.normal(0, 0.1, rows), 0, 1) for _ in range(2))
    model: Any = None
    bench = Workbench(
        product="p",
        candidate=ScoredModel(digest="sha256:new", model=model, scores=new),
        champion=ScoredModel(digest="sha256:old", model=model, scores=old),
        golden=golden,
        label="label",
        cluster="person",
        labels=labels,
        clusters=person,
        metrics={"brier": brier()},
    )
    gains = golden.with_columns(gain=pl.Series(np.square(old - labels) - np.square(new - labels)))
    names = golden.columns

    def group_all() -> None:
        for place, one in enumerate(names):
            for other in names[place:]:
                gains.group_by([one] if one == other else [one, other]).agg(pl.col("gain").mean(), pl.len())

    took = seconds(lambda: discover(bench, brier(), Discovery(), margin=0.01))
    baseline = seconds(group_all)
    return {
        "name": "gates.slice_discovery_seconds",
        "value": took,
        "unit": "seconds",
        "baseline": baseline,
        "ratio": baseline / took,
    }


def policies_per_second() -> Line:
    """Return releases that the policy simulator tries in a second, from golden set to the last canary step.

    The baseline is what a release of the same kind takes in real time at the least: a second.
    """
    better = Scenario(name="better", gains={"brier": 0.02}, live_gain=0.02)
    took = seconds(lambda: simulate(POLICY, WORLD, better, releases=1000))
    return {
        "name": "gates.simulated_releases_per_second",
        "value": 1000 / took,
        "unit": "1/s",
        "baseline": 1.0,
        "ratio": 1000 / took,
    }


def _rate(name: str, value: float) -> Line:
    """Return a rate of errors beside the alpha that is promised; a ratio of 1 or more means that it is kept."""
    return {"name": name, "value": value, "unit": "share", "baseline": ALPHA, "ratio": ALPHA / max(value, 1e-9)}


FIGURES = [false_promotions, power, live_false_positives, slice_discovery, policies_per_second]
for _figure in FIGURES:
    _figure.group = "gates"  # type: ignore[attr-defined]
