"""Canary: a rising share of traffic, each step earned by a verdict."""

from dataclasses import dataclass, replace

from mlops_assets.gates.gate import Verdict
from mlops_assets.release.rollout import Phase, Rollout, stopped


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """Move to the next of ``percents`` with each ``PASSED``; the last is 100, and completes. ``FAILED`` rolls back."""

    percents: tuple[int, ...] = (5, 25, 50, 100)

    @property
    def name(self) -> str:
        """The name with its steps."""
        return f"canary({' → '.join(str(percent) for percent in self.percents)} %)"

    def faults(self) -> list[str]:
        """Return what is wrong with the declaration, one sentence each."""
        found = []
        rises = all(low < high for low, high in zip(self.percents, self.percents[1:], strict=False))
        if not rises:
            found.append(f"percents must rise, found {self.percents}")
        if not self.percents or self.percents[-1] != 100:
            found.append(f"percents must end with 100, found {self.percents}")
        if any(not 1 <= percent <= 100 for percent in self.percents):
            found.append(f"percents must lie between 1 and 100, found {self.percents}")
        return found

    def start(self, *, has_champion: bool) -> Rollout:
        """Return the first step, or all traffic when there is no champion to compare with."""
        if not has_champion or len(self.percents) == 1:
            return Rollout(percent=100, step=len(self.percents) - 1, phase=Phase.COMPLETED)
        return Rollout(percent=self.percents[0], step=0, phase=Phase.RUNNING)

    def advance(self, rollout: Rollout, verdict: Verdict) -> Rollout:
        """Return the next step; 100 % completes.

        The next step is the first percent above the present one, so a declaration that changed meanwhile is no trap.
        """
        if rollout.phase is Phase.RUNNING and verdict is Verdict.FAILED:
            return stopped(rollout)
        if rollout.phase is not Phase.RUNNING or verdict is not Verdict.PASSED:
            return rollout
        percent = next((percent for percent in self.percents if percent > rollout.percent), 100)
        phase = Phase.COMPLETED if percent == 100 else Phase.RUNNING
        return replace(rollout, percent=percent, step=rollout.step + 1, phase=phase)
