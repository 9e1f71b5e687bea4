"""A gate that only evidence of an improvement opens."""

from dataclasses import dataclass
from typing import ClassVar

from mlops_assets.evaluation.report import Comparison
from mlops_assets.gates.comparing import ComparingGate, is_positive


@dataclass(frozen=True, slots=True, kw_only=True)
class Superior(ComparingGate):
    """Pass a candidate that beats the champion on ``metric``; one no better gets by at rate ``alpha``.

    ``PASSED`` when the one-sided p-value is at most ``alpha`` on a golden set large enough to show ``minimum_effect``
    with probability ``power``, or there is no champion. ``FAILED`` when the candidate is significantly worse, or when
    such a golden set showed nothing. Else nobody knows: ``INCONCLUSIVE``, with the number of clusters that would tell.
    """

    minimum_effect: float

    promise: ClassVar[str] = "superior"

    @property
    def effect(self) -> float:
        """The smallest gain worth seeing."""
        return self.minimum_effect

    @property
    def fails_unshown(self) -> bool:
        """A gain that a large enough golden set did not show is not there."""
        return True

    def faults(self) -> list[str]:
        """Return what is wrong with the declaration, one sentence each."""
        found = ComparingGate.faults(self)
        if not is_positive(self.minimum_effect):
            found.append(f"{self.name}: minimum_effect is {self.minimum_effect}, must be a finite number above 0")
        return found

    def p_value(self, comparison: Comparison) -> float:
        """Return the p-value of "it is no better"."""
        return comparison.p_value if comparison.gain > 0 else 1.0

    def contrary(self, comparison: Comparison, alpha: float) -> str | None:
        """Return that it is worse, if that was shown."""
        return "it is worse than the champion" if comparison.upper(alpha) < 0 else None

    def _reason(self, found: Comparison, level: float) -> str:
        return f"{self.metric} gained {found.gain:+.4g}, p = {self.p_value(found):.4g}, needs at most {level:.3g}"
