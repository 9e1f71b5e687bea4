"""What a policy would do: candidates of known quality, put before its gates and its live analysis, many times.

A team that chooses margins and error rates sees with this what they cost: how often a candidate that is no better gets
through, how often a better one does, how long that takes and how many requests it meets. Each entity of the golden set,
and each unit of live traffic, has a gain drawn from a normal distribution around the candidate's true one; spreads are
those of the product's own earlier comparisons where there are any.

Belongs here: the simulation, pure and seeded. Gates that do not compare (limits, calibration, latency, …) are taken as
passed: a candidate that they stop never gets so far.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from scipy.special import stdtr, stdtrit

from mlops_assets.evaluation.report import LEVELS, Comparison, Estimate, EvaluationReport
from mlops_assets.gates.comparing import ComparingGate
from mlops_assets.gates.gate import Gate, Verdict
from mlops_assets.gates.panel import judge_all
from mlops_assets.gates.slices_hold import SlicesHold
from mlops_assets.ledger.entry import GENESIS, Entry, Kind
from mlops_assets.release.betting import Floats, log_capital_above, log_capital_below
from mlops_assets.release.policy import Policy
from mlops_assets.release.rollout import Phase

NONE = "sha256:" + "0" * 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A kind of candidate: its true gain on each metric (``gains``; 0 where not named), live, and in one slice.

    ``uses`` candidates of this kind are tried on one golden set against one champion, until one is promoted.
    """

    name: str
    gains: Mapping[str, float] = field(default_factory=dict)
    live_gain: float = 0.0
    slice_gain: float | None = None
    uses: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What a policy meets: golden entities, the spread of their gains by metric, and live units and theirs.

    Spreads are standard deviations over entities, and over live units; ``units`` is when live analysis ends for want of
    traffic. A golden set that ``grows`` is made as large as the gates ask for after the pilot, which has ``clusters``.
    """

    clusters: int
    spreads: Mapping[str, float]
    live_spread: float
    units: int = 400
    grows: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of the releases of one scenario: shares, and medians over those that were decided live."""

    scenario: str
    releases: int
    passed_gates: float
    promoted: float
    rolled_back: float
    undecided: float
    units_to_decide: float
    exposed_requests: float


def simulate(policy: Policy, world: World, scenario: Scenario, *, releases: int = 500, seed: int = 0) -> Outcome:
    """Return what became of ``releases`` tries of ``scenario``; the same seed gives the same."""
    generator = np.random.default_rng(seed)
    ends: list[str] = []
    units, exposed, passed = [], [], 0
    for _ in range(releases):
        if not _passes_gates(policy, world, scenario, generator):
            ends.append("stopped")
            continue
        passed += 1
        gains = generator.normal(scenario.live_gain, world.live_spread, world.units)
        rolled = roll_out(policy, gains)
        ends.append(rolled.end)
        units.append(rolled.units)
        exposed.append(rolled.exposed_requests)
    return Outcome(
        scenario=scenario.name,
        releases=releases,
        passed_gates=passed / releases,
        promoted=ends.count("promoted") / releases,
        rolled_back=ends.count("rolled back") / releases,
        undecided=ends.count("undecided") / releases,
        units_to_decide=float(np.median(units)) if units else 0.0,
        exposed_requests=float(np.median(exposed)) if exposed else 0.0,
    )


def _passes_gates(policy: Policy, world: World, scenario: Scenario, generator: np.random.Generator) -> bool:
    """Return whether one of the scenario's candidates passes all comparing gates."""
    gates: list[Gate] = [gate for gate in policy.gates if isinstance(gate, ComparingGate | SlicesHold)]
    pilot = _report(gates, world, None, scenario, "pilot", generator)
    entries = [entry_of(pilot, 0)]
    if world.grows:
        world = replace(world, clusters=_asked_for(policy, gates, pilot))
    for use in range(scenario.uses):
        report = _report(gates, world, scenario, scenario, f"candidate {use}", generator)
        known = policy.errors.known(gates, report, entries=entries)
        if not gates or judge_all(gates, report, known).verdict is Verdict.PASSED:
            return True
        entries.append(entry_of(report, use + 1))
    return False


def _asked_for(policy: Policy, gates: Sequence[Gate], pilot: EvaluationReport) -> int:
    """Return how many clusters the comparing gates ask for, by the pilot, at the level of a first use."""
    share = policy.errors.golden.share(1)
    needed = [
        gate.needed(
            standard_error=pilot.comparisons[gate.metric].standard_error,
            clusters=pilot.clusters,
            alpha=gate.alpha * share,
        )
        for gate in gates
        if isinstance(gate, ComparingGate)
    ]
    return max(needed, default=pilot.clusters)


def _report(
    gates: Sequence[Gate],
    world: World,
    scenario: Scenario | None,
    kind: Scenario,
    candidate: str,
    generator: np.random.Generator,
) -> EvaluationReport:
    """Return a report on drawn entities; without a ``scenario``, the pilot's: the usual spread, and no gain."""
    metrics = sorted({metric for gate in gates for metric in gate.metrics})
    comparisons, measured = {}, {}
    for metric in metrics:
        gain = scenario.gains.get(metric, 0.0) if scenario else 0.0
        comparisons[metric] = _drawn(gain, world.spreads[metric], world.clusters, generator)
    for gate in gates:
        if isinstance(gate, SlicesHold):
            measured[gate.name] = {"slices": _slices(gate, world, kind, generator)}
    estimate = Estimate(value=0.0, low=0.0, high=0.0)
    return EvaluationReport(
        product="simulated",
        candidate=candidate,
        champion="pilot's champion" if scenario is None else "champion",
        golden=NONE,
        rows=world.clusters,
        clusters=world.clusters,
        candidate_metrics=dict.fromkeys(metrics, estimate),
        comparisons=comparisons,
        measured=measured,
    )


def _slices(gate: SlicesHold, world: World, scenario: Scenario, generator: np.random.Generator) -> list[dict[str, Any]]:
    """Return comparisons on slices of equal size, the first of them with the scenario's own gain."""
    clusters = max(2, world.clusters // max(1, len(gate.slices)))
    found = []
    for place, part in enumerate(gate.slices):
        gain = scenario.gains.get(gate.metric, 0.0)
        if place == 0 and scenario.slice_gain is not None:
            gain = scenario.slice_gain
        drawn = _drawn(gain, world.spreads[gate.metric], clusters, generator)
        facts = {name: getattr(drawn, name) for name in ("gain", "low", "high", "p_value", "standard_error", "pivots")}
        found.append(
            {"name": part.name, "where": part.where, "rows": clusters, "clusters": clusters, "comparison": facts}
        )
    return found


def _drawn(gain: float, spread: float, clusters: int, generator: np.random.Generator) -> Comparison:
    """Return what a comparison of ``clusters`` with normal gains finds: Student's, as their mean and spread are."""
    error = spread * float(np.sqrt(generator.chisquare(clusters - 1) / (clusters - 1) / clusters))
    seen = float(generator.normal(gain, spread / clusters**0.5))
    pivots = tuple(float(stdtrit(clusters - 1, level)) for level in LEVELS)
    half = -float(stdtrit(clusters - 1, 0.025)) * error
    p_value = float(stdtr(clusters - 1, -seen / error))
    return Comparison(
        gain=seen, low=seen - half, high=seen + half, p_value=p_value, standard_error=error, pivots=pivots
    )


def entry_of(report: EvaluationReport, sequence: int) -> Entry:
    """Return the part of a ``JUDGED`` entry that later gates look at."""
    errors = {name: {"standard_error": found.standard_error} for name, found in report.comparisons.items()}
    seen = {"golden": report.golden, "clusters": report.clusters, "comparisons": errors}
    judged = {"candidate": report.candidate, "champion": report.champion, "report": report.candidate}
    body: dict[str, Any] = {**judged, "evaluation": seen}
    return Entry(
        sequence=sequence,
        product="simulated",
        kind=Kind.JUDGED,
        at=datetime(2000, 1, 1, tzinfo=UTC),
        actor="simulation",
        body=body,
        previous=GENESIS,
        digest=GENESIS,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RolledOut:
    """How a rollout ended (``promoted``, ``rolled back``, ``undecided``), at which share, after how many units.

    ``exposed_requests`` is how many requests the candidate answered till then, ``percent`` its last share of traffic.
    """

    end: str
    units: int
    exposed_requests: float
    percent: int


def roll_out(policy: Policy, gains: Floats) -> RolledOut:
    """Return how the policy's rollout ends on units with these mean gains, in the order they become complete."""
    analysis = policy.analysis
    harm, safe = _capitals(policy, np.clip(gains, -analysis.bound, analysis.bound) / analysis.bound)
    rollout = policy.strategy.start(has_champion=True)
    reached = RolledOut(end="undecided", units=0, exposed_requests=0.0, percent=rollout.percent)
    began = 0
    for unit in range(len(gains)):
        exposed = reached.exposed_requests + analysis.outcomes_per_unit * rollout.percent / 100
        reached = replace(reached, units=unit + 1, exposed_requests=exposed, percent=rollout.percent)
        if harm[unit] >= np.log(1 / analysis.harm_alpha):
            return replace(reached, end="rolled back")
        if safe[unit] >= np.log(1 / analysis.alpha) and unit + 1 - began >= analysis.minimum_units:
            rollout, began = policy.strategy.advance(rollout, Verdict.PASSED), unit + 1
            if rollout.phase is Phase.COMPLETED:
                return replace(reached, end="promoted")
    return reached


def _capitals(policy: Policy, values: Floats) -> tuple[Floats, Floats]:
    beaten = 0.0 if policy.analysis.promise == "better" else -policy.analysis.margin / policy.analysis.bound
    harm = np.maximum.accumulate(log_capital_below(values, 0.0))
    return harm, log_capital_above(values, beaten)


def world_of(entries: Sequence[Entry], policy: Policy, *, clusters: int = 200, units: int = 400) -> World:
    """Return the world that a product's ledger tells of: spreads of its last comparisons and of its last rollout.

    Where the ledger tells nothing, an entity's gain spreads by four times the effect that a gate looks for, and a
    unit's by a quarter of the analysis' bound.
    """
    spreads = {
        gate.metric: 4 * (gate.effect if isinstance(gate, ComparingGate) else gate.margin)
        for gate in policy.gates
        if isinstance(gate, ComparingGate | SlicesHold)
    }
    live_spread = policy.analysis.bound / 4
    for entry in entries:
        if entry.kind is Kind.JUDGED:
            seen = entry.body["evaluation"]
            clusters = seen["clusters"]
            known = {name: each["standard_error"] * clusters**0.5 for name, each in seen["comparisons"].items()}
            spreads |= {name: spread for name, spread in known.items() if name in spreads and spread > 0}
        elif entry.kind is Kind.ROLLOUT_MOVED and len(entry.body["evidence"].get("gains", ())) > 1:
            live_spread = float(np.std(entry.body["evidence"]["gains"])) * policy.analysis.bound
    return World(clusters=clusters, spreads=spreads, live_spread=live_spread, units=units)


def usual_scenarios(policy: Policy) -> list[Scenario]:
    """Return what a team wants to know: equal, better, worse by a margin, broken in a slice, better offline only."""
    better = {gate.metric: gate.effect for gate in policy.gates if isinstance(gate, ComparingGate)}
    margin = policy.analysis.margin
    found = [
        Scenario(name="no better than the champion"),
        Scenario(name="better by the effects declared", gains=better, live_gain=margin),
        Scenario(name="worse by the margins declared", gains={m: -e for m, e in better.items()}, live_gain=-margin),
        Scenario(name="better offline, worse live by the margin", gains=better, live_gain=-margin),
        Scenario(name="no better, tried ten times on one golden set", uses=10),
    ]
    losses = [gate.margin for gate in policy.gates if isinstance(gate, SlicesHold)]
    if losses:
        broken = Scenario(name="better, but broken in a slice", gains=better, live_gain=margin, slice_gain=-losses[0])
        found.append(broken)
    return found
