"""Where trainings run: a subprocess, a pod, a managed service.

Belongs here: the protocol and what comes back. Each backend is an adapter.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from mlops_assets.data.snapshot import SnapshotStore
from mlops_assets.ledger.canonical import Digest
from mlops_assets.training.job import TrainingJob


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedCandidate:
    """A trained model: the directory that holds it, its digest, the trainer's last metrics, how long it took."""

    directory: Path
    digest: Digest
    metrics: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0


class TrainingBackend(Protocol):
    """Runs ``mlops_assets.training.process`` somewhere and brings back what it wrote."""

    def train(
        self, context: Any, job: TrainingJob, snapshots: SnapshotStore
    ) -> AbstractContextManager[TrainedCandidate]:
        """Return the trained candidate, whose directory lives as long as the ``with`` block.

        ``context`` is the execution context of the Dagster step; progress is streamed to its log. A backend that can
        read the snapshots from afar sends the digest alone. Raises ``TrainingFailed`` with the trainer's message when
        no model comes back; nothing is left behind, and nothing keeps running.
        """
