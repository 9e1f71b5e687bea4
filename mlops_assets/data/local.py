"""Snapshots in a folder: each its own directory, which appears whole by one rename.

Layout: ``<root>/<hex digest>/data.parquet`` and ``manifest.json``; what is unfinished lies in ``<root>/.unfinished``.
"""

import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlops_assets.data.manifest import VerifiedSnapshots
from mlops_assets.ledger.canonical import Digest

GRACE_SECONDS = 60.0


class LocalSnapshots(VerifiedSnapshots):
    """A snapshot store below ``root``. Safe for many writers: the same content ends up in the same place once.

    A writer holds a lock on its unfinished folder, which the system takes back when it dies, however it dies.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def name(self) -> str:
        """The folder."""
        return str(self._root)

    def sweep(self) -> int:
        """Remove what dead writers left behind and return how much; every write does it too.

        A writer is dead if nobody holds the lock on its folder. The minute's grace is for one that has just made the
        folder and not yet locked it.
        """
        swept = 0
        for left in (self._root / ".unfinished").glob("*"):
            try:
                with _opened(left) as descriptor:
                    if time.time() - os.fstat(descriptor).st_mtime < GRACE_SECONDS:
                        continue
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(left, ignore_errors=True)
                    swept += 1
            except OSError:
                continue  # locked by a living writer, or swept by another one
        return swept

    @contextmanager
    def _workplace(self) -> Iterator[Path]:
        self.sweep()
        folder = self._root / ".unfinished" / uuid.uuid4().hex
        folder.mkdir(parents=True)
        try:
            with _opened(folder) as descriptor:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _publish(self, folder: Path, digest: Digest) -> None:
        for file in (*folder.iterdir(), folder):
            _sync(file)
        final = self._place(digest)
        try:
            folder.rename(final)
        except OSError:
            if not final.exists():
                raise
            if not self.is_intact(digest):  # otherwise another writer of the same content came first
                final.rename(folder.with_name(uuid.uuid4().hex))
                folder.rename(final)
        _sync(self._root)

    def _load(self, digest: Digest, file: str) -> bytes | None:
        try:
            return (self._place(digest) / file).read_bytes()
        except FileNotFoundError:
            return None

    def _place(self, digest: Digest) -> Path:
        return self._root / digest.removeprefix("sha256:")


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _sync(path: Path) -> None:
    with _opened(path) as descriptor:
        os.fsync(descriptor)
