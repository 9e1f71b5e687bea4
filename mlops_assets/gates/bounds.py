"""Deciding by bounds: what gates on a measured value with an interval share."""

from collections.abc import Mapping
from typing import Any

from mlops_assets.gates.gate import Judgement, Verdict


def judge_ceiling(
    what: str, found: Mapping[str, float] | None, ceiling: float, evidence: Mapping[str, Any] | None = None
) -> Judgement:
    """Return the judgement on a value that must be at most ``ceiling``: by its bounds, never by the value itself.

    ``found`` holds ``value``, ``low`` and ``high``; ``None`` where it could not be computed.
    """
    if found is None:
        return Judgement(Verdict.INCONCLUSIVE, f"{what} could not be computed: too few entities", evidence or {})
    value, low, high = (float(found[name]) for name in ("value", "low", "high"))
    facts = {what: value, "low": low, "high": high, "ceiling": ceiling, **(evidence or {})}
    reason = f"{what} is {value:.4g} ({low:.4g} … {high:.4g}), must be at most {ceiling:g}"
    if high <= ceiling:
        return Judgement(Verdict.PASSED, reason, facts)
    if low > ceiling:
        return Judgement(Verdict.FAILED, reason, facts)
    return Judgement(Verdict.INCONCLUSIVE, f"{reason}: the golden set is too small to tell", facts)


def rate_faults(name: str, *, alpha: float, tolerance: float) -> list[str]:
    """Return what is wrong with an error rate and a share that is tolerated, one sentence each."""
    found = [] if name.isidentifier() else [f"{name!r}: name must be letters, digits and underscores"]
    if not 0 < alpha <= 0.5:
        found.append(f"{name}: alpha is {alpha}, must be above 0 and at most 0.5")
    if not 0 < tolerance <= 1:
        found.append(f"{name}: tolerance is {tolerance}, must be above 0 and at most 1")
    return found
