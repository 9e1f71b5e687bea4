"""A model registry in a folder: the embedded default, and the fake that tests use.

Layout, below ``root/<product>``::

    versions/<n>/model/…           the model's directory
    versions/<n>/registered.json   digest, params, metrics, facts
    aliases.json                   alias → digest

A version appears by one rename, so it is there whole or not at all; a lock on ``root/<product>/lock`` gives each digest
one version under concurrent writers. A process that dies leaves at most a hidden folder, which the next one removes.
"""

import fcntl
import json
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlops_assets.errors import ServiceUnavailable, SnapshotMissing
from mlops_assets.ledger.canonical import Digest, canonical_json
from mlops_assets.training.registry import RegisteredModel, copy_verified

_UNFINISHED = ".unfinished-"


@dataclass(frozen=True, slots=True)
class DirectoryRegistry:
    """Keeps models below ``root``. Safe under concurrent processes of one machine."""

    root: Path

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

        Raises ``SnapshotCorrupt`` if ``directory`` does not have that digest.
        """
        content = {"digest": digest, "params": dict(params), "metrics": dict(metrics), "facts": dict(facts)}
        with self._locked(product) as versions:
            found = self.find(product, digest)
            if found is not None:
                return found
            unfinished = versions / f"{_UNFINISHED}{uuid.uuid4().hex}"
            copy_verified(directory, unfinished / "model", digest)
            (unfinished / "registered.json").write_bytes(canonical_json(content))
            number = max((int(path.name) for path in _versions(versions)), default=0) + 1
            unfinished.rename(versions / str(number))
        return self._read(product, versions / str(number))

    def find(self, product: str, digest: Digest) -> RegisteredModel | None:
        """Return the version with that digest, if any."""
        with self._answering():
            paths = _versions(self.root / product / "versions")
            models = (self._read(product, path) for path in paths)
            return next((model for model in models if model.digest == digest), None)

    def fetch(self, product: str, digest: Digest, destination: Path) -> Path:
        """Copy the model below ``destination`` and return its directory, verified against ``digest``."""
        found = self._find_or_raise(product, digest)
        source = self.root / product / "versions" / found.version / "model"
        with self._answering():
            return copy_verified(source, destination / digest.removeprefix("sha256:"), digest)

    def aliases(self, product: str) -> Mapping[str, Digest]:
        """Return alias → digest."""
        with self._answering():
            path = self.root / product / "aliases.json"
            return dict(json.loads(path.read_bytes())) if path.exists() else {}

    def set_aliases(self, product: str, aliases: Mapping[str, Digest]) -> None:
        """Make the aliases exactly these; ``SnapshotMissing`` if a digest has no version."""
        for digest in aliases.values():
            self._find_or_raise(product, digest)
        with self._locked(product):
            path = self.root / product / "aliases.json"
            written = path.with_suffix(f".{uuid.uuid4().hex}.json")
            written.write_bytes(canonical_json(dict(aliases)))
            written.replace(path)

    def _find_or_raise(self, product: str, digest: Digest) -> RegisteredModel:
        found = self.find(product, digest)
        if found is None:
            raise SnapshotMissing(f"{product}: the registry at {self.root} has no model {digest}; register it first")
        return found

    def _read(self, product: str, path: Path) -> RegisteredModel:
        content = json.loads((path / "registered.json").read_bytes())
        return RegisteredModel(
            product=product,
            digest=content["digest"],
            version=path.name,
            run_url=path.resolve().as_uri(),
            facts=content["facts"],
        )

    @contextmanager
    def _locked(self, product: str) -> Iterator[Path]:
        """Hold the product's lock and yield its folder of versions, without what dead processes left."""
        versions = self.root / product / "versions"
        with self._answering():
            versions.mkdir(parents=True, exist_ok=True)
            with (versions.parent / "lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                for leftover in versions.glob(f"{_UNFINISHED}*"):
                    shutil.rmtree(leftover, ignore_errors=True)
                yield versions

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ServiceUnavailable(f"the registry at {self.root} cannot be used: {error}") from error


def _versions(folder: Path) -> list[Path]:
    """Return the versions in order of their numbers."""
    names = [path.name for path in folder.glob("*") if path.name.isdigit()]
    return [folder / name for name in sorted(names, key=int)]
