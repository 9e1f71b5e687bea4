"""Absolute gates: a metric of the candidate, with its whole interval on the right side of a limit."""

from dataclasses import dataclass
from math import isfinite

from mlops_assets.evaluation.report import EvaluationReport
from mlops_assets.gates.gate import NOTHING, Judgement, Known, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class AtLeast:
    """Pass a candidate whose ``metric`` is at least ``floor``, with the report's confidence.

    ``PASSED`` when the low end of its interval reaches the floor, ``FAILED`` when the high end does not,
    ``INCONCLUSIVE`` when the interval holds the floor inside or the metric is missing.
    """

    metric: str
    floor: float

    @property
    def name(self) -> str:
        """``at_least_<metric>``."""
        return f"at_least_{self.metric}"

    @property
    def metrics(self) -> frozenset[str]:
        """The one metric it reads."""
        return frozenset({self.metric})

    def faults(self) -> list[str]:
        """Return what is wrong with the declaration, one sentence each."""
        return [] if isfinite(self.floor) else [f"{self.name}: floor is {self.floor}, must be a finite number"]

    def judge(self, report: EvaluationReport, known: Known = NOTHING) -> Judgement:
        """Decide by where the interval lies."""
        return _judge_limit(report, self.metric, self.floor, sign=1, words="at least")


@dataclass(frozen=True, slots=True, kw_only=True)
class AtMost:
    """Pass a candidate whose ``metric`` is at most ``ceiling``, with the report's confidence: ``AtLeast``, mirrored."""

    metric: str
    ceiling: float

    @property
    def name(self) -> str:
        """``at_most_<metric>``."""
        return f"at_most_{self.metric}"

    @property
    def metrics(self) -> frozenset[str]:
        """The one metric it reads."""
        return frozenset({self.metric})

    def faults(self) -> list[str]:
        """Return what is wrong with the declaration, one sentence each."""
        return [] if isfinite(self.ceiling) else [f"{self.name}: ceiling is {self.ceiling}, must be a finite number"]

    def judge(self, report: EvaluationReport, known: Known = NOTHING) -> Judgement:
        """Decide by where the interval lies."""
        return _judge_limit(report, self.metric, self.ceiling, sign=-1, words="at most")


def _judge_limit(report: EvaluationReport, metric: str, limit: float, *, sign: int, words: str) -> Judgement:
    found = report.candidate_metrics.get(metric)
    if found is None:
        return Judgement(Verdict.INCONCLUSIVE, f"{metric} is not in the report", {"metric": metric, "limit": limit})
    nearest, furthest = (found.low, found.high) if sign > 0 else (found.high, found.low)
    verdict = Verdict.INCONCLUSIVE
    if sign * nearest >= sign * limit:
        verdict = Verdict.PASSED
    elif sign * furthest < sign * limit:
        verdict = Verdict.FAILED
    interval = f"{found.low:.4g} … {found.high:.4g} at {report.confidence:.0%}"
    evidence = {"metric": metric, "value": found.value, "low": found.low, "high": found.high, "limit": limit}
    evidence |= {"confidence": report.confidence, "clusters": report.clusters}
    return Judgement(verdict, f"{metric} is {found.value:.4g} ({interval}), must be {words} {limit:g}", evidence)
