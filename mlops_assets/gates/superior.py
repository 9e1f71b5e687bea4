"""A gate that only evidence of an improvement opens."""

from dataclasses import dataclass

from mlops_assets.evaluation.report import Comparison, EvaluationReport
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
class Superior:
    """Pass a candidate that beats the champion on ``metric``; one no better gets by at rate ``alpha``.

    ``PASSED`` when the one-sided p-value is at most ``alpha``, or there is no champion. ``FAILED`` when the candidate
    is significantly worse, or when the golden set was large enough to show ``minimum_effect`` with probability
    ``power`` and showed nothing. Else, also without a declared ``minimum_effect`` or with fewer clusters than
    ``minimum_clusters``, nobody knows: ``INCONCLUSIVE``, with the number of clusters that would tell.
    """

    metric: str
    alpha: float = 0.05
    minimum_effect: float | None = None
    power: float = 0.8
    minimum_clusters: int = MINIMUM_CLUSTERS

    @property
    def name(self) -> str:
        """``superior_<metric>``."""
        return f"superior_{self.metric}"

    @property
    def metrics(self) -> frozenset[str]:
        """The one metric it reads."""
        return frozenset({self.metric})

    def faults(self) -> list[str]:
        """Return what is wrong with the declaration, one sentence each."""
        found = find_level_faults(self.name, alpha=self.alpha, power=self.power, minimum_clusters=self.minimum_clusters)
        if self.minimum_effect is not None and not is_positive(self.minimum_effect):
            found.append(f"{self.name}: minimum_effect is {self.minimum_effect}, must be a finite number above 0")
        return found

    def judge(self, report: EvaluationReport) -> Judgement:
        """Decide by the p-value, and by what the golden set could have shown."""
        found = find_comparison(report, self.metric, self.minimum_clusters)
        if isinstance(found, Judgement):
            return found
        evidence = evidence_of(found, report, metric=self.metric, alpha=self.alpha)
        reason = f"{self.metric} gained {found.gain:+.4g}, p = {found.p_value:.4g}, needs at most {self.alpha:g}"
        if found.p_value <= self.alpha and found.gain > 0:
            return Judgement(Verdict.PASSED, reason, evidence)
        if found.upper(self.alpha) < 0:
            return Judgement(Verdict.FAILED, f"{reason}: it is worse than the champion", evidence)
        return self._without_significance(found, report, reason, evidence)

    def _without_significance(
        self, found: Comparison, report: EvaluationReport, reason: str, evidence: dict[str, object]
    ) -> Judgement:
        if self.minimum_effect is None:
            said = f"{reason}: no gain was shown, and no minimum_effect says what the golden set should have shown"
            return Judgement(Verdict.INCONCLUSIVE, said, evidence)
        needed = find_needed(
            found,
            report,
            effect=self.minimum_effect,
            alpha=self.alpha,
            power=self.power,
            minimum=self.minimum_clusters,
        )
        evidence |= {"needed": needed, "minimum_effect": self.minimum_effect, "power": self.power}
        clusters = f"a gain of {self.minimum_effect:g} needs {needed} clusters, the golden set has {report.clusters}"
        verdict = Verdict.FAILED if report.clusters >= needed else Verdict.INCONCLUSIVE
        return Judgement(verdict, f"{reason}; {clusters}", evidence)
