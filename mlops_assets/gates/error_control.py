"""What the policy makes of the gates' error rates: over the uses of a golden set, and over all that is claimed at once.

A candidate is promoted only if every gate passes, so the chance of a wrong *promotion* needs no correction for their
number (Berger 1982; see ``panel.py``). Whoever reads the claims one by one, as on a model card, is promised more: with
``claims="each"``, the chance that *any* claim shown as passed is wrong stays below ``alpha``, by Holm's step-down ("A
Simple Sequentially Rejective Multiple Test Procedure", Scandinavian J. Statistics 6, 1979), over gates and slices.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from mlops_assets.evaluation.report import EvaluationReport
from mlops_assets.gates.gate import ClaimingGate, Gate, Known
from mlops_assets.gates.golden_budget import GoldenBudget, use_of
from mlops_assets.ledger.canonical import Digest
from mlops_assets.ledger.entry import Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorControl:
    """What is promised: of the promotion, or of each claim with ``alpha`` over all; and how golden sets are spent."""

    claims: Literal["promotion", "each"] = "promotion"
    alpha: float = 0.05
    golden: GoldenBudget = field(default_factory=GoldenBudget)

    def faults(self) -> list[str]:
        """Return what is wrong with the declaration, one sentence each."""
        found = [f"golden: {fault}" for fault in self.golden.faults()]
        if self.claims not in {"promotion", "each"}:
            found.append(f"claims is {self.claims!r}, must be 'promotion' or 'each'")
        if not 0 < self.alpha <= 0.5:
            found.append(f"alpha is {self.alpha}, must be above 0 and at most 0.5")
        return found

    def known(
        self,
        gates: Sequence[Gate],
        report: EvaluationReport,
        *,
        entries: Sequence[Entry] = (),
        views: Mapping[str, Digest] | None = None,
    ) -> Known:
        """Return what gates are told: entries, views, and the level of each claim that the report allows."""
        use = use_of(entries, report)
        share = self.golden.share(use) if use else 1.0
        claims = {
            name: found for gate in gates if isinstance(gate, ClaimingGate) for name, found in claimed(gate, report)
        }
        levels = {name: alpha * share for name, (_, alpha) in claims.items()}
        if self.claims == "each":
            allowed = holm_levels({name: p for name, (p, _) in claims.items()}, self.alpha * share)
            levels = {name: min(level, allowed[name]) for name, level in levels.items()}
        return Known(views=views or {}, entries=entries, levels=levels)


def claimed(gate: ClaimingGate, report: EvaluationReport) -> list[tuple[str, tuple[float, float]]]:
    """Return the claims of a gate; none if it breaks, because then it passes nothing either."""
    try:
        return list(gate.claims(report).items())
    except Exception:  # a team's own gate; judging it meets the error again, and reports it
        return []


def holm_levels(p_values: Mapping[str, float], alpha: float) -> dict[str, float]:
    """Return the level of each test, by name: Holm rejects exactly those with a p-value at most their level.

    >>> holm_levels({"a": 0.001, "b": 0.03, "c": 0.02}, 0.05)
    {'a': 0.016666666666666666, 'c': 0.025, 'b': 0.05}
    """
    levels, level = {}, 0.0
    rejecting, left = True, len(p_values)
    for name in sorted(p_values, key=lambda each: p_values[each]):
        if rejecting:
            level = alpha / left
            rejecting = p_values[name] <= level
            left -= 1
        levels[name] = level
    return levels
