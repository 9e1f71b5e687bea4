"""What decides whether a candidate goes live, as one declaration that can be recorded, compared and made again."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mlops_assets.gates.error_control import ErrorControl
from mlops_assets.gates.gate import Gate
from mlops_assets.ledger.canonical import Digest, digest_of
from mlops_assets.ledger.declared import changes, declared_json, from_declared
from mlops_assets.release.live import LiveAnalysis
from mlops_assets.release.rollout import RolloutStrategy


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The gates and what their errors may add up to, the live analysis, the strategy, the people who must approve."""

    gates: tuple[Gate, ...]
    analysis: LiveAnalysis
    strategy: RolloutStrategy
    approvals: int = 0
    errors: ErrorControl = field(default_factory=ErrorControl)

    @property
    def digest(self) -> Digest:
        """The digest of ``to_json()``."""
        return digest_of(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """Return the policy as a JSON value; ``TypeError`` names a part that cannot be recorded."""
        found: dict[str, Any] = declared_json(self)
        return found

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Policy":
        """Make again what ``to_json`` wrote."""
        made: Policy = from_declared(dict(value))
        return made

    def changes_since(self, earlier: Mapping[str, Any]) -> list[str]:
        """Return what differs from an earlier policy as JSON, one line each."""
        return changes(dict(earlier), self.to_json())
