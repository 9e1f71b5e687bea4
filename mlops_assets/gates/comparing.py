"""What the comparing gates share: the test, its power, when there is nothing to compare, the evidence.

Belongs here: ``ComparingGate``, which decides; a gate of its own says what is tested, and what shows the contrary.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, ClassVar

from mlops_assets.evaluation.report import Comparison, EvaluationReport
from mlops_assets.gates.gate import NOTHING, Judgement, Known, Verdict
from mlops_assets.gates.pilot import Pilot, find_pilot
from mlops_assets.gates.power import required_clusters

MINIMUM_CLUSTERS = 5
"""The fewest clusters for which the comparison's error rates were validated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparingGate:
    """What gates that compare with the champion are declared with: one metric, error rates, the fewest clusters.

    A golden set too small to show the declared effect with probability ``power`` says nothing: ``INCONCLUSIVE``,
    however good the candidate looks on it, with the number of clusters that would do. That number is known before the
    training (``pilot.py``), so that it does not hang on what is judged. ``alpha`` is what a golden set may err by
    against one champion, over all its uses (``golden_budget.py``).
    """

    metric: str
    alpha: float = 0.05
    power: float = 0.8
    minimum_clusters: int = MINIMUM_CLUSTERS

    promise: ClassVar[str]

    @property
    def name(self) -> str:
        """``<promise>_<metric>``."""
        return f"{self.promise}_{self.metric}"

    @property
    def metrics(self) -> frozenset[str]:
        """The one metric it reads."""
        return frozenset({self.metric})

    @property
    def effect(self) -> float:
        """The effect that a golden set must be able to show."""
        raise NotImplementedError

    @property
    def test_power(self) -> float:
        """The power that each single test must have."""
        return self.power

    @property
    def line(self) -> float:
        """The gain that the interval must not reach: minus the margin, or 0 where there is none."""
        return -float(getattr(self, "margin", 0.0))

    def p_value(self, comparison: Comparison) -> float:
        """Return the p-value of what the gate wants disproved."""
        raise NotImplementedError

    def contrary(self, comparison: Comparison, alpha: float) -> str | None:
        """Return what was shown at ``alpha`` that the gate promises to keep out, if anything was."""
        raise NotImplementedError

    def faults(self) -> list[str]:
        """Return what is wrong with the declaration, one sentence each."""
        found = []
        if not 0 < self.alpha <= 0.5:
            found.append(f"{self.name}: alpha is {self.alpha}, must be above 0 and at most 0.5")
        if not 0.5 <= self.power < 1:
            found.append(f"{self.name}: power is {self.power}, must be at least 0.5 and below 1")
        if self.minimum_clusters < 2:
            found.append(f"{self.name}: minimum_clusters is {self.minimum_clusters}, must be at least 2")
        return found

    def claims(self, report: EvaluationReport) -> Mapping[str, tuple[float, float]]:
        """Return the one claim, by the gate's name, with its p-value and alpha; none without a comparison."""
        found = find_comparison(report, self.metric, self.minimum_clusters)
        return {} if isinstance(found, Judgement) else {self.name: (self.p_value(found), self.alpha)}

    def needed(self, *, standard_error: float, clusters: int, alpha: float | None = None) -> int:
        """Return how many clusters show the effect, by a ``standard_error`` seen with ``clusters`` of their kind."""
        level = self.alpha if alpha is None else alpha
        if clusters < 2 or level <= 0:
            return self.minimum_clusters
        found = required_clusters(
            standard_error=standard_error, clusters=clusters, effect=self.effect, alpha=level, power=self.test_power
        )
        return max(self.minimum_clusters, found)

    def judge(self, report: EvaluationReport, known: Known = NOTHING) -> Judgement:
        """Decide by the p-value at the level the policy leaves, and by what the golden set can show at it."""
        found = find_comparison(report, self.metric, self.minimum_clusters)
        if isinstance(found, Judgement):
            return found
        level = known.level(self.name, self.alpha)
        evidence = self._evidence(found, report, level)
        if level <= 0:
            reason = "no error rate is left for this golden set against this champion: renew it, or wait for new data"
            return Judgement(Verdict.INCONCLUSIVE, reason, evidence)
        pilot = find_pilot(known.entries, self.metric, before=report) or Pilot.of(report, self.metric)
        needed = self.needed(standard_error=pilot.standard_error, clusters=pilot.clusters, alpha=level)
        evidence |= {"needed": needed, "pilot": pilot.source, "effect": self.effect, "power": self.test_power}
        return self._decide(found, report, level, needed, evidence)

    def _decide(
        self, found: Comparison, report: EvaluationReport, level: float, needed: int, evidence: dict[str, Any]
    ) -> Judgement:
        reason = self._reason(found, level)
        is_shown, contrary = self.p_value(found) <= level, self.contrary(found, level)
        if is_shown and report.clusters >= needed:
            return Judgement(Verdict.PASSED, reason, evidence)
        if contrary and not is_shown:
            return Judgement(Verdict.FAILED, f"{reason}: {contrary}", evidence)
        clusters = f"{needed} clusters show an effect of {self.effect:g}, the golden set has {report.clusters}"
        if report.clusters >= needed and self.fails_unshown:
            return Judgement(Verdict.FAILED, f"{reason}: {clusters}, and none was seen", evidence)
        return Judgement(Verdict.INCONCLUSIVE, f"{reason}; {clusters}", evidence)

    @property
    def fails_unshown(self) -> bool:
        """Whether a golden set that was large enough and showed nothing is a failure, or doubt."""
        return False

    def _reason(self, found: Comparison, level: float) -> str:
        raise NotImplementedError

    def _evidence(self, found: Comparison, report: EvaluationReport, level: float) -> dict[str, Any]:
        """Return what the gate saw, as JSON values; the bounds are one-sided at ``level``."""
        bounded = level if level > 0 else self.alpha
        return {
            "metric": self.metric,
            "gain": found.gain,
            "line": self.line,
            "lower_bound": found.lower(bounded),
            "upper_bound": found.upper(bounded),
            "p_value": self.p_value(found),
            "standard_error": found.standard_error,
            "alpha": self.alpha,
            "level": level,
            "clusters": report.clusters,
            "rows": report.rows,
        }


def find_comparison(report: EvaluationReport, metric: str, minimum_clusters: int) -> Comparison | Judgement:
    """Return the comparison to judge, or the judgement when there is none.

    Without a champion a gate passes, if the candidate has the metric; with one, a missing metric or fewer clusters than
    ``minimum_clusters`` is ``INCONCLUSIVE``.
    """
    evidence = {"metric": metric, "clusters": report.clusters}
    if metric not in report.candidate_metrics:
        return Judgement(Verdict.INCONCLUSIVE, f"{metric} is not in the candidate's report", evidence)
    if report.champion is None:
        return Judgement(Verdict.PASSED, "there is no champion to compare with", evidence)
    comparison = report.comparisons.get(metric)
    if comparison is None:
        return Judgement(Verdict.INCONCLUSIVE, f"{metric} of candidate and champion cannot be compared", evidence)
    if report.clusters < minimum_clusters:
        reason = f"{report.clusters} clusters are too few to compare, needs {minimum_clusters}: widen the golden set"
        return Judgement(Verdict.INCONCLUSIVE, reason, evidence | {"needed": minimum_clusters})
    return comparison


def is_positive(value: float) -> bool:
    """Return whether ``value`` is a finite number above 0."""
    return isfinite(value) and value > 0
