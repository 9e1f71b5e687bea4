"""A gate for what must not get worse while something else gets better."""

from dataclasses import dataclass

from mlops_assets.evaluation.report import EvaluationReport
from mlops_assets.gates.comparing import (
    MINIMUM_CLUSTERS,
    evidence_of,
    find_comparison,
    find_level_faults,
    find_needed,
    is_positive,
)
from mlops_assets.gates.gate import Judgement, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class NonInferior:
    """Pass a candidate that is worse than the champion on ``metric`` by less than ``margin``, shown at ``alpha``.

    ``PASSED`` when the one-sided lower bound of the gain lies above ``-margin``, or there is no champion. A loss that
    is real but smaller than the margin passes: that is what a margin means. ``FAILED`` when that is not shown and the
    candidate is significantly worse than the champion. Else ``INCONCLUSIVE``, with the number of clusters that would
    show it with probability ``power`` for a candidate just as good as the champion.
    """

    metric: str
    margin: float
    alpha: float = 0.05
    power: float = 0.8
    minimum_clusters: int = MINIMUM_CLUSTERS

    @property
    def name(self) -> str:
        """``non_inferior_<metric>``."""
        return f"non_inferior_{self.metric}"

    @property
    def metrics(self) -> frozenset[str]:
        """The one metric it reads."""
        return frozenset({self.metric})

    def faults(self) -> list[str]:
        """Return what is wrong with the declaration, one sentence each."""
        found = find_level_faults(self.name, alpha=self.alpha, power=self.power, minimum_clusters=self.minimum_clusters)
        if not is_positive(self.margin):
            found.append(f"{self.name}: margin is {self.margin}, must be a finite number above 0")
        return found

    def judge(self, report: EvaluationReport) -> Judgement:
        """Decide by where the one-sided bounds lie."""
        found = find_comparison(report, self.metric, self.minimum_clusters)
        if isinstance(found, Judgement):
            return found
        needed = find_needed(
            found, report, effect=self.margin, alpha=self.alpha, power=self.power, minimum=self.minimum_clusters
        )
        evidence = evidence_of(found, report, metric=self.metric, alpha=self.alpha)
        evidence |= {"margin": self.margin, "needed": needed, "power": self.power}
        lower, upper = found.lower(self.alpha), found.upper(self.alpha)
        reason = f"{self.metric} gained {found.gain:+.4g}, at least {lower:+.4g}, must stay above {-self.margin:+.4g}"
        if lower > -self.margin:
            return Judgement(Verdict.PASSED, reason, evidence)
        if upper < 0:
            return Judgement(Verdict.FAILED, f"{reason}: it is worse than the champion", evidence)
        clusters = f"{needed} clusters would show it, the golden set has {report.clusters}"
        return Judgement(Verdict.INCONCLUSIVE, f"{reason}; {clusters}", evidence)
