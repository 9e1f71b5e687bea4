"""The board: how all workers of a server switch to a traffic plan at once.

A plan is proposed, each worker makes ready what it names and says so, and one write of eight bytes, in memory that all
of them share, is the switch: a request that begins after it, in whichever worker, sees the new plan. A worker that
cannot make the plan ready says why, and the plan before goes on everywhere. A worker that dies is not waited for; one
that starts applies what was switched to last. Two proposals at a time: the later one counts.

Belongs here: files, locks and shared memory. What a worker makes ready is its own (``runtime.py``).
"""

import fcntl
import json
import mmap
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlops_assets.errors import MlopsError
from mlops_assets.release.plan import TrafficPlan

_APPLIED, _PROPOSED = 0, 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbered:
    """A plan with its number: a later plan has a higher one."""

    number: int
    plan: TrafficPlan


class PlanBoard:
    """The board of one product below ``directory``. Each worker has one."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._workers = directory / "workers"
        self._workers.mkdir(parents=True, exist_ok=True)
        self._numbers = _shared_numbers(directory / "numbers")
        self._name = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._presence = -1

    @property
    def applied(self) -> int:
        """The number of the plan to answer by; 0 before the first."""
        return self._numbers[_APPLIED]

    @property
    def proposed(self) -> int:
        """The number of the newest proposal."""
        return self._numbers[_PROPOSED]

    def join(self) -> None:
        """Be one of the workers from now on: proposals wait for this one. Ends with the process at the latest."""
        self._presence = os.open(self._workers / self._name, os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(self._presence, fcntl.LOCK_EX)
        with self._locked():
            self._catch_up()

    def leave(self) -> None:
        """Be waited for no more."""
        if self._presence >= 0:
            (self._workers / self._name).unlink(missing_ok=True)
            os.close(self._presence)
            self._presence = -1

    def read_applied(self) -> Numbered | None:
        """Return the plan that was switched to last."""
        return _read(self._directory / "plan.json")

    def read_proposed(self) -> Numbered | None:
        """Return the newest proposal."""
        return _read(self._directory / "proposal.json")

    def propose(self, plan: TrafficPlan) -> int:
        """Ask all workers to make ``plan`` ready; return its number."""
        with self._locked():
            number = max(self.applied, self.proposed) + 1
            _write_durably(self._directory / "proposal.json", {"number": number, "plan": plan.to_json()})
            self._numbers[_PROPOSED] = number
            return number

    def say(self, number: int, *, trouble: str | None = None) -> None:
        """Say that this worker has made a proposal ready, or why it cannot."""
        said = json.dumps({"number": number, "trouble": trouble}).encode()
        os.pwrite(self._presence, said.ljust(4096), 0)  # one write, over what was said before

    def switch(self, number: int) -> bool:
        """Switch all workers to a proposal once each has made it ready; return whether that is so.

        Raises ``MlopsError`` when a worker cannot, or a later proposal took its place.
        """
        with self._locked():
            proposed = self.read_proposed()
            if self.proposed != number or proposed is None:
                raise MlopsError("another plan was proposed meanwhile, and counts")
            said = [self._said(path) for path in self._present()]
            trouble = [one["trouble"] for one in said if one["number"] == number and one["trouble"]]
            if trouble:
                raise MlopsError(trouble[0])
            if any(one["number"] != number for one in said):
                return False
            _write_durably(self._directory / "plan.json", {"number": number, "plan": proposed.plan.to_json()})
            self._numbers[_APPLIED] = number
            return True

    def _catch_up(self) -> None:
        """Have the shared numbers say what the files say: a machine that lost power keeps only these."""
        applied, proposed = self.read_applied(), self.read_proposed()
        self._numbers[_APPLIED] = applied.number if applied else 0
        self._numbers[_PROPOSED] = max(self.applied, proposed.number if proposed else 0)

    def _present(self) -> Iterator[Path]:
        """Yield the files of workers that live; those of others are removed."""
        for path in sorted(self._workers.iterdir()):
            if path.name == self._name or _is_held(path):
                yield path
            else:
                path.unlink(missing_ok=True)

    def _said(self, path: Path) -> dict[str, Any]:
        said = path.read_bytes().strip()
        return dict(json.loads(said)) if said else {"number": 0, "trouble": None}

    @contextmanager
    def _locked(self) -> Iterator[None]:
        file = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
        finally:
            os.close(file)


def _is_held(path: Path) -> bool:
    try:
        file = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


def _shared_numbers(path: Path) -> "memoryview[int]":
    """Return two numbers in memory that all processes with this file share; each is read and written as a whole."""
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        os.ftruncate(file, 16)
        return memoryview(mmap.mmap(file, 16)).cast("Q")
    finally:
        os.close(file)


def _read(path: Path) -> Numbered | None:
    if not path.exists():
        return None
    content = json.loads(path.read_bytes())
    return Numbered(number=content["number"], plan=TrafficPlan.from_json(content["plan"]))


def _write_durably(path: Path, content: Any) -> None:
    """Replace a file at once: a crash leaves the old content or the new."""
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with unfinished.open("wb") as file:
            file.write(json.dumps(content).encode())
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        raise MlopsError(f"{path} cannot be written: {error}; free space") from error
    finally:
        unfinished.unlink(missing_ok=True)
