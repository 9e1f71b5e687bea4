"""Segments: the files that the workers of a server append lines to, all of them to the same one.

A line is in the file by the time its request is acknowledged, so it outlives the process that wrote it. Workers share
one order without asking each other: a write to a file opened with ``O_APPEND`` goes to its end as a whole, and the
place where it landed is the line's name. The hour and, in busy hours, a part number begin a new segment; what is older
can be compacted as soon as no worker holds it (``compaction.py``).

Every write begins with a line feed. What a crash or a full disk cut off is so a line of its own, which is no JSON, was
acknowledged to nobody, and is not read.
"""

import fcntl
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any

import orjson

from mlops_assets.errors import RequestRefused

LARGEST_BYTES = 256 * 1024 * 1024
_NAME = re.compile(r"\d{8}T\d{6}")  # day, hour, part: 20260131T130000


@dataclass(frozen=True, slots=True)
class Line:
    """One whole line: the segment it is in, the byte it begins at, its bytes."""

    segment: str
    place: int
    content: bytes

    @property
    def locator(self) -> str:
        """The name of the place, by which ``find_line`` finds the line again."""
        return locator_of(self.segment, self.place)


class SegmentWriter:
    """Appends lines below ``directory``. Whoever has a segment open for writing holds it against compaction."""

    def __init__(self, directory: Path, *, largest_bytes: int = LARGEST_BYTES) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._largest = largest_bytes
        self._file = -1
        self._size = 0
        self._swapping = Lock()  # a flush, in another thread, must not meet a file that is just being closed
        self.segment = max(segments(directory), default="")

    def append(self, lines: list[bytes], now: datetime) -> list[str]:
        """Write the lines, all or none, and return the locator of each. ``RequestRefused`` (503) on a full disk."""
        self.roll(now)
        whole = b"\n" + b"\n".join(lines) + b"\n"
        try:
            written = os.write(self._file, whole)
            end = os.lseek(self._file, 0, os.SEEK_CUR)
        except OSError as error:
            raise RequestRefused(f"the prediction log cannot be written: {error}; free space", 503) from error
        if written < len(whole):
            raise RequestRefused("the prediction log's disk is full; free space", 503)
        self._size = end
        places, place = [], end - len(whole) + 1
        for line in lines:
            places.append(locator_of(self.segment, place))
            place += len(line) + 1
        return places

    def roll(self, now: datetime) -> None:
        """Begin the segment of the hour of ``now``, or the next part of a full one. A clock set back begins nothing."""
        wanted = max(self.segment, f"{now:%Y%m%dT%H}0000")
        if self._file >= 0 and self._size >= self._largest:
            wanted = max(wanted, _next_part(self.segment))
        if wanted == self.segment and self._file >= 0:
            return
        while (file := self._opened(wanted)) is None:
            wanted = _next_part(wanted)
        with self._swapping:
            before, self._file = self._file, file
            self.segment, self._size = wanted, os.fstat(file).st_size
        if before >= 0:
            os.fdatasync(before)  # a flush that is waited for may mean this one
            os.close(before)

    def _opened(self, segment: str) -> int | None:
        """Return the segment's file, held; ``None`` when it is, or is being, compacted."""
        path = self._directory / f"{segment}.jsonl"
        if compacted_path(self._directory, segment).exists():
            return None
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise RequestRefused(f"the prediction log cannot be written: {error}; free space", 503) from error
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return None
        if os.fstat(file).st_nlink == 0 or compacted_path(self._directory, segment).exists():
            os.close(file)
            return None
        return file

    def flush(self) -> None:
        """Have all that was appended on the disk: what is flushed outlives a loss of power."""
        with self._swapping:
            file = os.dup(self._file)
        try:
            os.fdatasync(file)
        finally:
            os.close(file)

    def close(self) -> None:
        """Let go of the segment."""
        with self._swapping:
            if self._file >= 0:
                os.close(self._file)
            self._file = -1


def segments(directory: Path) -> list[str]:
    """Return the names of the segments below ``directory``, the oldest first."""
    return sorted(path.stem for path in directory.glob("*.jsonl") if _NAME.fullmatch(path.stem))


def compacted_path(directory: Path, segment: str) -> Path:
    """Return where the Parquet file of a compacted segment is: below its day, as any engine reads a partition."""
    day = datetime.strptime(segment[:8], "%Y%m%d").replace(tzinfo=UTC).date().isoformat()
    return directory / "compacted" / f"date={day}" / f"{segment}.parquet"


def _next_part(segment: str) -> str:
    return f"{segment[:11]}{int(segment[11:]) + 1:04d}"


def locator_of(segment: str, place: int) -> str:
    """Return the name of a place."""
    return f"{segment}-{place:x}"


def read_lines(path: Path, start: int = 0) -> tuple[list[Line], int]:
    """Return the whole lines from byte ``start`` on, and the byte to go on from. Cut-off lines are left out."""
    with path.open("rb") as file:
        file.seek(start)
        new = file.read()
    end = new.rfind(b"\n") + 1
    return list(_whole(path.stem, start, new[:end])), start + end


def _whole(segment: str, start: int, content: bytes) -> Iterator[Line]:
    place = start
    for line in content.split(b"\n"):
        if line.startswith(b"{") and line.endswith(b"}"):
            yield Line(segment, place, line)
        place += len(line) + 1


def parsed(lines: Iterable[Line]) -> Iterator[tuple[Line, dict[str, Any]]]:
    """Yield lines with what they say; what was cut off says nothing."""
    for line in lines:
        try:
            yield line, orjson.loads(line.content)
        except orjson.JSONDecodeError:
            continue


def find_line(directory: Path, locator: str) -> dict[str, Any] | None:
    """Return what the line at ``locator`` says, ``None`` when no line begins there."""
    segment, _, place = locator.rpartition("-")
    if not _NAME.fullmatch(segment) or not re.fullmatch(r"[0-9a-f]{1,12}", place):
        return None
    try:
        with (directory / f"{segment}.jsonl").open("rb") as file:
            file.seek(max(int(place, 16) - 1, 0))
            if file.read(1) != b"\n":
                return None
            found = orjson.loads(file.readline())
    except (OSError, orjson.JSONDecodeError):
        return None
    return found if isinstance(found, dict) else None
