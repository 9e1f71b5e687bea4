"""A gate for what must not get worse while something else gets better."""

from dataclasses import dataclass
from typing import ClassVar

from mlops_assets.evaluation.report import Comparison
from mlops_assets.gates.comparing import ComparingGate, is_positive


@dataclass(frozen=True, slots=True, kw_only=True)
class NonInferior(ComparingGate):
    """Pass a candidate that is worse than the champion on ``metric`` by less than ``margin``, shown at ``alpha``.

    ``PASSED`` when the one-sided lower bound of the gain reaches ``-margin`` on a golden set large enough to show that
    with probability ``power`` for a candidate just as good as the champion, or there is no champion. A loss that is
    real but smaller than the margin passes: that is what a margin means. ``FAILED`` when that is not shown and the
    candidate is significantly worse. Else ``INCONCLUSIVE``, with the number of clusters that would tell.
    """

    margin: float

    promise: ClassVar[str] = "non_inferior"

    @property
    def effect(self) -> float:
        """The margin: how far from the loss that matters an equal candidate lies."""
        return self.margin

    def faults(self) -> list[str]:
        """Return what is wrong with the declaration, one sentence each."""
        found = ComparingGate.faults(self)
        if not is_positive(self.margin):
            found.append(f"{self.name}: margin is {self.margin}, must be a finite number above 0")
        return found

    def p_value(self, comparison: Comparison) -> float:
        """Return the p-value of "it is worse by the margin or more"."""
        return comparison.p_beyond(-self.margin)

    def contrary(self, comparison: Comparison, alpha: float) -> str | None:
        """Return that it is worse, if that was shown."""
        return "it is worse than the champion" if comparison.upper(alpha) < 0 else None

    def _reason(self, found: Comparison, level: float) -> str:
        lower = f"at least {found.lower(level):+.4g} at {level:.3g}"
        return f"{self.metric} gained {found.gain:+.4g}, {lower}, must stay above {-self.margin:+.4g}"
