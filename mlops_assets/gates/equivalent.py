"""A gate for what must stay as it is: a model rewritten, made smaller or moved must neither lose nor gain."""

from dataclasses import dataclass, replace
from typing import ClassVar

from mlops_assets.evaluation.report import Comparison
from mlops_assets.gates.comparing import ComparingGate, is_positive


@dataclass(frozen=True, slots=True, kw_only=True)
class Equivalent(ComparingGate):
    """Pass a candidate that differs from the champion on ``metric`` by less than ``margin`` either way.

    Two one-sided tests at ``alpha`` (Schuirmann, "A Comparison of the Two One-Sided Tests Procedure and the Power
    Approach", J. Pharmacokinetics and Biopharmaceutics 15, 1987): ``PASSED`` when both bounds of the gain lie within
    the margin on a golden set large enough to show that with probability ``power`` for a candidate that does not differ
    at all, or there is no champion; one that differs by the margin or more passes at rate ``alpha`` at most.
    ``FAILED`` when a bound shows a difference beyond the margin. Else ``INCONCLUSIVE``, with the number of clusters.
    """

    margin: float

    promise: ClassVar[str] = "equivalent"

    @property
    def effect(self) -> float:
        """The margin: how far from a difference that matters an equal candidate lies."""
        return self.margin

    @property
    def test_power(self) -> float:
        """Each of the two tests must succeed, so each may miss half as often."""
        return 1 - (1 - self.power) / 2

    def faults(self) -> list[str]:
        """Return what is wrong with the declaration, one sentence each."""
        found = ComparingGate.faults(self)
        if not is_positive(self.margin):
            found.append(f"{self.name}: margin is {self.margin}, must be a finite number above 0")
        return found

    def p_value(self, comparison: Comparison) -> float:
        """Return the p-value of "it differs by the margin or more": the larger of the two."""
        return max(comparison.p_beyond(-self.margin), _mirrored(comparison).p_beyond(-self.margin))

    def contrary(self, comparison: Comparison, alpha: float) -> str | None:
        """Return that it differs by more than the margin, if that was shown."""
        lower, upper = comparison.lower(alpha), comparison.upper(alpha)
        return "it differs by more" if lower > self.margin or upper < -self.margin else None

    def _reason(self, found: Comparison, level: float) -> str:
        bounds = f"{found.lower(level):+.4g} … {found.upper(level):+.4g}"
        return f"{self.metric} gained {found.gain:+.4g} ({bounds}), must stay within {self.margin:g}"


def _mirrored(comparison: Comparison) -> Comparison:
    """Return the comparison as the champion would see it."""
    pivots = tuple(-pivot for pivot in reversed(comparison.pivots))
    return replace(comparison, gain=-comparison.gain, low=-comparison.high, high=-comparison.low, pivots=pivots)
