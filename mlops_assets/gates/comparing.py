"""What the comparing gates share: when there is nothing to compare, what is wrong with an error rate, the evidence."""

from math import isfinite
from typing import Any

from mlops_assets.evaluation.report import Comparison, EvaluationReport
from mlops_assets.gates.gate import Judgement, Verdict
from mlops_assets.gates.power import required_clusters

MINIMUM_CLUSTERS = 5
"""The fewest clusters for which the comparison's error rates were validated."""


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


def find_needed(
    comparison: Comparison, report: EvaluationReport, *, effect: float, alpha: float, power: float, minimum: int
) -> int:
    """Return how many clusters like those of the report show ``effect`` with ``power``, ``minimum`` at least."""
    error, had = comparison.standard_error, report.clusters
    if had < 2:
        return minimum
    return max(minimum, required_clusters(standard_error=error, clusters=had, effect=effect, alpha=alpha, power=power))


def evidence_of(comparison: Comparison, report: EvaluationReport, *, metric: str, alpha: float) -> dict[str, Any]:
    """Return what every comparing gate saw, as JSON values; the bounds are one-sided at ``alpha``."""
    return {
        "metric": metric,
        "gain": comparison.gain,
        "lower_bound": comparison.lower(alpha),
        "upper_bound": comparison.upper(alpha),
        "p_value": comparison.p_value,
        "standard_error": comparison.standard_error,
        "alpha": alpha,
        "clusters": report.clusters,
        "rows": report.rows,
    }


def find_level_faults(name: str, *, alpha: float, power: float, minimum_clusters: int) -> list[str]:
    """Return what is wrong with error rates and sizes, one sentence each."""
    found = []
    if not 0 < alpha <= 0.5:
        found.append(f"{name}: alpha is {alpha}, must be above 0 and at most 0.5")
    if not 0.5 <= power < 1:
        found.append(f"{name}: power is {power}, must be at least 0.5 and below 1")
    if minimum_clusters < 2:
        found.append(f"{name}: minimum_clusters is {minimum_clusters}, must be at least 2")
    return found


def is_positive(value: float) -> bool:
    """Return whether ``value`` is a finite number above 0."""
    return isfinite(value) and value > 0
