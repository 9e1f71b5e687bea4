"""Blue-green: the new version stands by, scoring everything and answering nothing, then takes over at once."""

from dataclasses import dataclass, replace

from mlops_assets.gates.gate import Verdict
from mlops_assets.release.rollout import Phase, Rollout, stopped


@dataclass(frozen=True, slots=True, kw_only=True)
class BlueGreen:
    """Keep the candidate at no traffic, mirrored, until ``PASSED`` moves all of it; ``FAILED`` takes it away."""

    @property
    def name(self) -> str:
        """The name."""
        return "blue_green"

    def faults(self) -> list[str]:
        """Return nothing: there is nothing to declare."""
        return []

    def start(self, *, has_champion: bool) -> Rollout:
        """Return the candidate standing by, or live when there is no champion."""
        if not has_champion:
            return Rollout(percent=100, step=1, phase=Phase.COMPLETED)
        return Rollout(percent=0, step=0, phase=Phase.RUNNING)

    def advance(self, rollout: Rollout, verdict: Verdict) -> Rollout:
        """Return the switch, the retreat, or the same."""
        if rollout.phase is Phase.RUNNING and verdict is Verdict.FAILED:
            return stopped(rollout)
        if rollout.phase is not Phase.RUNNING or verdict is not Verdict.PASSED:
            return rollout
        return replace(rollout, percent=100, step=rollout.step + 1, phase=Phase.COMPLETED)
