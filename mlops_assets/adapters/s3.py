"""Sources and snapshots in a bucket, over s3fs.

Nothing is cached between calls: a listing that is a minute old is not the version that is there now.
"""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl

from mlops_assets.data.manifest import DATA, MANIFEST, VerifiedSnapshots
from mlops_assets.data.parsing import FORMATS, Schema, parse_files
from mlops_assets.data.source import is_hidden
from mlops_assets.errors import ServiceUnavailable, SourceChanged, SourceMissing
from mlops_assets.ledger.canonical import Digest, digest_of

AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class S3Source:
    """An object, or all objects below a prefix, of one format: as ``FileSource``, but in a bucket.

    The version is the digest of keys, ETags and sizes, so nothing is downloaded to know it; it also changes when the
    same content is uploaded again in other parts. A read asks for each object by its ETag: what it returns is that
    version. ``options`` are those of ``s3fs.S3FileSystem``.
    """

    url: str
    schema: Schema | None = None
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """The address."""
        return self.url

    def version(self) -> str:
        """Return the digest of all keys, ETags and sizes; ``SourceMissing``, ``ServiceUnavailable``."""
        return _version_of(self._objects())

    def size_bytes(self) -> int:
        """Return the sum of the objects' sizes; ``SourceMissing``, ``ServiceUnavailable``."""
        return sum(int(facts["size"]) for facts in self._objects().values())

    def read(self, version: str) -> pl.DataFrame:
        """Return the rows of ``version``; see ``DatasetSource.read``. ``ServiceUnavailable`` if the bucket is not."""
        objects = self._objects()
        found = _version_of(objects)
        if found != version:
            raise SourceChanged(f"{self.name}: asked for version {version}, found {found}; take the new version")
        return parse_files(self.name, self._contents(objects), self.schema)

    def _objects(self) -> dict[str, Mapping[str, Any]]:
        """Return the facts of each object by its name relative to the prefix, in the order of names."""
        root = self.url.removeprefix("s3://").rstrip("/")
        with _answering(self.url):
            try:
                listed = _connect(self.options).find(root, detail=True)
            except FileNotFoundError:
                listed = {}
        objects = {path.removeprefix(root).lstrip("/") or path.rpartition("/")[2]: at for path, at in listed.items()}
        visible = {n: facts for n, facts in objects.items() if not any(map(is_hidden, n.split("/")))}
        files = {n: facts for n, facts in visible.items() if facts["type"] == "file" and not n.endswith("/")}
        if not files:
            raise SourceMissing(f"{self.name}: no object is there; deliver one of {', '.join(FORMATS)}")
        return dict(sorted(files.items()))

    def _contents(self, objects: Mapping[str, Mapping[str, Any]]) -> dict[str, bytes]:
        from fsspec.asyn import sync

        s3 = _connect(self.options)
        with _answering(self.url):
            try:
                contents = sync(s3.loop, _get_all, s3, list(objects.values()))
            except FileNotFoundError as error:
                raise SourceChanged(f"{self.name}: {error} went away while it was read; try again") from error
            except OSError as error:
                if not _is_refused_by_condition(error):
                    raise
                raise SourceChanged(f"{self.name} changed while it was read; take the new version") from error
        return dict(zip(objects, contents, strict=True))


class S3Snapshots(VerifiedSnapshots):
    """A snapshot store below ``url``: the table first, then the manifest on condition that there is none.

    A writer that dies between the two leaves a table that no manifest names: it is not visible, and the next writer of
    the same content completes it. Unfinished multipart uploads are left to a lifecycle rule of the bucket.
    """

    def __init__(self, url: str, options: Mapping[str, Any] | None = None) -> None:
        self._url = url.rstrip("/")
        self._options = dict(options or {})

    @property
    def name(self) -> str:
        """The address."""
        return self._url

    @contextmanager
    def _workplace(self) -> Iterator[Path]:
        with TemporaryDirectory(prefix="snapshot-") as folder:
            yield Path(folder)

    def _publish(self, folder: Path, digest: Digest) -> None:
        manifest = (folder / MANIFEST).read_bytes()
        with _answering(self._url):
            s3 = _connect(self._options)
            s3.put_file(str(folder / DATA), self._place(digest, DATA))
            try:
                s3.pipe_file(self._place(digest, MANIFEST), manifest, mode="create")
            except OSError as error:
                if not isinstance(error, FileExistsError) and not _is_refused_by_condition(error):
                    raise
                if s3.cat_file(self._place(digest, MANIFEST)) != manifest:  # spoilt: not by us, and named by its digest
                    s3.pipe_file(self._place(digest, MANIFEST), manifest)

    def _load(self, digest: Digest, file: str) -> bytes | None:
        with _answering(self._url):
            try:
                content: bytes = _connect(self._options).cat_file(self._place(digest, file))
            except FileNotFoundError:
                return None
            return content

    def _place(self, digest: Digest, file: str) -> str:
        return f"{self._url.removeprefix('s3://')}/{digest.removeprefix('sha256:')}/{file}"


def _connect(options: Mapping[str, Any]) -> Any:
    """Return the file system; fsspec keeps one per set of options and process."""
    import s3fs

    return s3fs.S3FileSystem(**{**options, "use_listings_cache": False})


async def _get_all(s3: Any, objects: list[Mapping[str, Any]]) -> list[bytes]:
    places = asyncio.Semaphore(AT_ONCE)

    async def get(facts: Mapping[str, Any]) -> bytes:
        bucket, _, key = facts["name"].partition("/")
        async with places:
            found = await s3._call_s3("get_object", Bucket=bucket, Key=key, IfMatch=facts["ETag"])
            async with found["Body"] as body:
                content: bytes = await body.read()
                return content

    return await asyncio.gather(*(get(facts) for facts in objects))


def _is_refused_by_condition(error: OSError) -> bool:
    """Say whether a conditional request failed by its condition; servers word it differently."""
    return "PreconditionFailed" in f"{error!r} {error.__cause__!r}" or "412" in str(error.__cause__)


def _version_of(objects: Mapping[str, Mapping[str, Any]]) -> str:
    return digest_of({name: [facts["ETag"].strip('"'), int(facts["size"])] for name, facts in objects.items()})


@contextmanager
def _answering(url: str) -> Iterator[None]:
    """Say of a bucket that does not answer, or refuses us, that it is unavailable; what is missing is not that."""
    from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]

    try:
        yield
    except (FileNotFoundError, FileExistsError):
        raise
    except PermissionError as error:
        raise ServiceUnavailable(f"{url} refuses: {error}; check its key, secret and bucket policy") from error
    except (BotoCoreError, ClientError, OSError) as error:
        raise ServiceUnavailable(f"{url} does not answer: {error}; check its endpoint, then try again") from error
