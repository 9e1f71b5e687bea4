"""Where models are kept by digest, and under which names they are known.

Belongs here: the protocol, and the verified copy that every registry makes. Implementations:
``directory_registry.py`` here, MLflow in adapters.
"""

import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from mlops_assets.errors import SnapshotCorrupt
from mlops_assets.ledger.canonical import Digest
from mlops_assets.training.model import digest_of_directory


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredModel:
    """One version of a product's model. ``version`` is the registry's own number for ``digest``."""

    product: str
    digest: Digest
    version: str
    run_url: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)


class ModelRegistry(Protocol):
    """Keeps model directories by digest. Raises ``ServiceUnavailable`` when it does not answer."""

    def register(
        self,
        product: str,
        directory: Path,
        *,
        digest: Digest,
        params: Mapping[str, Any],
        metrics: Mapping[str, float],
        facts: Mapping[str, str],
    ) -> RegisteredModel:
        """Keep the model in ``directory``; registering a digest again returns the version it already has.

        ``facts`` say where the model came from (``dagster_run_id``, ``training_set``, ``git_commit``, …). Raises
        ``SnapshotCorrupt`` if the directory does not have that digest. A process killed on the way leaves no version,
        or the one version that the next registration returns.
        """

    def find(self, product: str, digest: Digest) -> RegisteredModel | None:
        """Return the version with that digest, if any."""

    def fetch(self, product: str, digest: Digest, destination: Path) -> Path:
        """Copy the model below ``destination`` and return its directory, verified against ``digest``.

        The copy is there whole or not at all. Raises ``SnapshotMissing`` if the registry has no such model, and
        ``SnapshotCorrupt`` if its bytes no longer match.
        """

    def aliases(self, product: str) -> Mapping[str, Digest]:
        """Return alias → digest."""

    def set_aliases(self, product: str, aliases: Mapping[str, Digest]) -> None:
        """Make the aliases ``champion`` and ``challenger`` exactly these; an absent one is removed.

        Raises ``SnapshotMissing`` if a digest has no version.
        """


def copy_verified(source: Path, target: Path, digest: Digest) -> Path:
    """Copy a model's directory to ``target``, which appears whole or not at all, and return it.

    A ``target`` that already has that digest is kept. Raises ``SnapshotCorrupt`` if ``source`` has another digest.
    """
    if target.exists() and digest_of_directory(target) == digest:
        return target
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        shutil.copytree(source, partial)
        found = digest_of_directory(partial)
        if found != digest:
            raise SnapshotCorrupt(
                f"the model at {source} should be {digest}, but its files are {found}; register it anew"
            )
        _replace(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _replace(partial: Path, target: Path) -> None:
    """Put ``partial`` in the place of a ``target`` that is missing, or that some other process made odd."""
    if target.exists() and digest_of_directory(target) != digest_of_directory(partial):
        shutil.rmtree(target)
    try:
        partial.rename(target)
    except OSError:  # another process put the same model there first
        if digest_of_directory(target) != digest_of_directory(partial):
            raise
