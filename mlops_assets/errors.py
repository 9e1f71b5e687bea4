"""Every exception the library raises, in one tree.

.. code-block:: text

    MlopsError
    ├── InvalidDefinition      a declaration is wrong; raised at load, names every fault at once
    ├── DataError
    │   ├── SourceMissing      nothing is at the source's address
    │   ├── SourceUnreadable   something is there, but it is empty, truncated or of another type
    │   ├── SourceChanged      the source is no longer at the version that was asked for
    │   ├── ContractBreached   more rows broke the contract than it tolerates
    │   ├── SnapshotMissing    no snapshot has that digest
    │   └── SnapshotCorrupt    stored bytes no longer match their digest
    ├── FeatureError           a feature cannot be computed as it was declared
    │   └── FeaturesAbsent     an entity has no event that lives, and its view refuses that
    ├── TrainingFailed         the training process ended without a model
    ├── NotReproduced          trained again from its recorded inputs, a model came out another
    ├── EvaluationError        a model or a golden set cannot be scored
    ├── LedgerError
    │   ├── LedgerConflict     another decision on this product came first
    │   └── LedgerCorrupt      an entry was changed, removed or reordered
    ├── ReleaseRefused         the gates, approvals or a running rollout forbid it
    ├── RequestRefused         a prediction request or outcome is not acceptable (carries an HTTP status)
    └── ServiceUnavailable     an outside system (registry, server, bucket) does not answer

``InvalidDefinition`` is raised while definitions load; all others while something runs. A message names the
product, the thing, what was found and what to do.
"""

from collections.abc import Sequence


class MlopsError(Exception):
    """The root of the tree: catch this to catch all that the library raises on purpose."""


class InvalidDefinition(MlopsError):
    """A declaration is wrong. ``faults`` holds every fault found, one sentence each."""

    def __init__(self, faults: Sequence[str] | str) -> None:
        self.faults = (faults,) if isinstance(faults, str) else tuple(faults)
        super().__init__("\n".join(self.faults))


class DataError(MlopsError):
    """A source, a contract or a snapshot does not hold what it must."""


class SourceMissing(DataError):
    """Nothing is at the source's address."""


class SourceUnreadable(DataError):
    """The source exists but is empty, truncated, or not of the declared type."""


class SourceChanged(DataError):
    """The source moved on from the version that was asked for."""


class ContractBreached(DataError):
    """More rows broke the data contract than it tolerates."""


class SnapshotMissing(DataError):
    """No snapshot has the digest that was asked for."""


class SnapshotCorrupt(DataError):
    """The stored bytes of a snapshot no longer match its digest."""


class FeatureError(MlopsError):
    """A feature cannot be computed as it was declared."""


class FeaturesAbsent(FeatureError):
    """An entity has no event that still lives, and the view's policy is to refuse that."""


class TrainingFailed(MlopsError):
    """The training process ended without a model."""


class NotReproduced(MlopsError):
    """What was made again from its recorded inputs is not what was recorded."""


class EvaluationError(MlopsError):
    """A model or a golden set cannot be scored."""


class LedgerError(MlopsError):
    """The ledger refuses."""


class LedgerConflict(LedgerError):
    """Another decision on the same product was recorded first: read the state again and decide anew."""


class LedgerCorrupt(LedgerError):
    """An entry was changed, removed or reordered after it was written."""


class ReleaseRefused(MlopsError):
    """The gates, the approvals or a running rollout forbid this release."""


class RequestRefused(MlopsError):
    """A request to the prediction server is not acceptable; ``status`` is the HTTP status that says so."""

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.status = status


class ServiceUnavailable(MlopsError):
    """An outside system does not answer."""
