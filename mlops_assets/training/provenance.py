"""Which code, in which environment, from which inputs: what one must know to train the same model again."""

import functools
import platform
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from mlops_assets.ledger.canonical import Digest, digest_of

GIT_SECONDS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where a model came from. ``git_commit`` is ``None`` outside a repository; ``dirty`` says it was not that commit.

    ``environment`` is the digest of the Python version and all installed distributions with their versions; ``inputs``
    maps what was read to its digest.
    """

    git_commit: str | None
    dirty: bool
    environment: Digest
    inputs: Mapping[str, Digest] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the provenance as a JSON value: the same facts always give the same one."""
        return {
            "git_commit": self.git_commit,
            "dirty": self.dirty,
            "environment": self.environment,
            "inputs": dict(sorted(self.inputs.items())),
        }

    @property
    def commit(self) -> str:
        """The commit as people write it, with ``+changes`` if files differed from it; ``none`` without a repository."""
        if self.git_commit is None:
            return "none"
        return f"{self.git_commit}+changes" if self.dirty else self.git_commit


def find_provenance(inputs: Mapping[str, Digest], *, code: Path | None = None) -> Provenance:
    """Return the provenance of what this process does with ``inputs``; ``code`` is a folder of the repository."""
    folder = code or Path.cwd()
    commit = _git(folder, "rev-parse", "HEAD")
    dirty = bool(commit) and _git(folder, "status", "--porcelain", "--untracked-files=no") != ""
    return Provenance(git_commit=commit or None, dirty=dirty, environment=environment_digest(), inputs=dict(inputs))


@functools.cache  # it reads the metadata of every distribution: a second of work for what a process does not change
def environment_digest() -> Digest:
    """Return the digest of the Python version and the sorted ``name==version`` of all installed distributions."""
    installed = {f"{_normal(d.name)}=={d.version}" for d in distributions() if d.name}
    return digest_of({"python": platform.python_version(), "distributions": sorted(installed)})


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _git(folder: Path, *arguments: str) -> str | None:
    """Return what git prints, ``None`` when there is no git, no repository or no answer in time."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=GIT_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
