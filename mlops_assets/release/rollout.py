"""A rollout in progress, and what a strategy must say.

Belongs here: the state, its phases, the protocol. Each strategy is a file of its own beside this one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Protocol

from mlops_assets.gates.gate import Verdict


class Phase(StrEnum):
    """Where a rollout is. ``COMPLETED`` and ``ROLLED_BACK`` are final."""

    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    ROLLED_BACK = "ROLLED_BACK"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """Percent of traffic the candidate answers, at which step of its strategy, in which phase."""

    percent: int
    step: int
    phase: Phase

    def to_json(self) -> dict[str, Any]:
        """Return the rollout as a JSON value."""
        return {"percent": self.percent, "step": self.step, "phase": self.phase.value}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Rollout":
        """Read back what ``to_json`` wrote."""
        return cls(percent=value["percent"], step=value["step"], phase=Phase(value["phase"]))


class RolloutStrategy(Protocol):
    """A pure step function over (rollout, verdict)."""

    @property
    def name(self) -> str:
        """The strategy's name, for the ledger and the UI."""

    def faults(self) -> list[str]:
        """Return what is wrong with the declaration, one sentence each."""

    def start(self, *, has_champion: bool) -> Rollout:
        """Return the first step; without a champion there is nothing to compare with, and all traffic moves."""

    def advance(self, rollout: Rollout, verdict: Verdict) -> Rollout:
        """Return the next state. A final phase stays; ``FAILED`` rolls back; only ``PASSED`` moves on."""


def stopped(rollout: Rollout) -> Rollout:
    """Return ``rollout`` with no traffic left to the candidate, for good."""
    return replace(rollout, percent=0, phase=Phase.ROLLED_BACK)
