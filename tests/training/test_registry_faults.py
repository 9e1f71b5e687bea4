"""What happens to a registration when the disk is full, may not be written, is locked, or its process is killed."""

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from odd_trainers import Constant

from mlops_assets.adapters.mlflow import MlflowRegistry
from mlops_assets.errors import ServiceUnavailable
from mlops_assets.training.directory_registry import DirectoryRegistry
from mlops_assets.training.model import digest_of_directory
from mlops_assets.training.package import Package, save_package

LIBRARY = Path(__file__).resolve().parents[2]


def make(folder, kind):
    if kind == "directory":
        return DirectoryRegistry(folder / "registry")
    return MlflowRegistry(f"sqlite:///{folder / 'mlflow.db'}", artifact_root=folder / "models")


def write_model(directory, value, size=0):
    """Write a model of ``size`` bytes or a few more; return its directory and digest."""
    save_package(
        Constant(value, ("a", "b")), Package(loader="odd_trainers:load_constant", features=("a", "b")), directory
    )
    (directory / "weights.bin").write_bytes(random.Random(value).randbytes(size))
    return directory, digest_of_directory(directory)


def register(registry, product, directory, digest):
    return registry.register(product, directory, digest=digest, params={}, metrics={}, facts={})


@contextlib.contextmanager
def mounted(*arguments, at):
    at.mkdir()
    mount = shutil.which("mount")
    command = [mount or "mount", *map(str, arguments), str(at)]
    if mount is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not permitted here")
    try:
        yield at
    finally:
        subprocess.run(["umount", "--lazy", str(at)], check=True)


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory):
    with mounted("-t", "tmpfs", "-o", "size=8m", "tmpfs", at=tmp_path_factory.mktemp("disks") / "small") as disk:
        yield disk


@pytest.fixture(params=["directory", "mlflow"])
def kind(request):
    return request.param


@pytest.fixture
def product():
    return f"shop_{uuid.uuid4().hex[:8]}"


@pytest.mark.services  # fills a disk, though it needs no server
@pytest.mark.parametrize("left", [0, 300_000], ids=["from_the_start", "in_the_middle"])
def test_a_full_disk_registers_nothing_and_the_next_attempt_makes_one_version(
    small_disk, kind, left, product, tmp_path
):
    """With 300 kB left, a registration of a megabyte begins, and cannot end."""
    registry = make(small_disk, kind)
    first = write_model(tmp_path / "first", 1)
    register(registry, product, *first)
    registry.set_aliases(product, {"champion": first[1]})
    large = write_model(tmp_path / "large", 2, size=1_000_000)
    filler = small_disk / "filler"
    filler.write_bytes(bytes(max(shutil.disk_usage(small_disk).free - left, 0)))
    try:
        with pytest.raises(ServiceUnavailable, match="full|No space left"):
            register(registry, product, *large)
        assert registry.find(product, large[1]) is None
        assert registry.aliases(product) == {"champion": first[1]}
    finally:
        filler.unlink()
    assert digest_of_directory(registry.fetch(product, first[1], tmp_path / "fetched")) == first[1]
    assert register(registry, product, *large).version == "2"
    assert digest_of_directory(registry.fetch(product, large[1], tmp_path / "fetched")) == large[1]


def test_a_registry_that_may_only_be_read_is_read_and_refuses_the_rest(small_disk, kind, product, tmp_path):
    first = write_model(tmp_path / "first", 1)
    register(make(small_disk, kind), product, *first)
    with mounted("--bind", small_disk, at=tmp_path / "read_only") as read_only:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(read_only)], check=True)
        registry = make(read_only, kind)
        assert registry.find(product, first[1]).version == "1"
        assert digest_of_directory(registry.fetch(product, first[1], tmp_path / "fetched")) == first[1]
        second = write_model(tmp_path / "second", 2)
        with pytest.raises(ServiceUnavailable, match="(?i)read-?only"):
            register(registry, product, *second)
        with pytest.raises(ServiceUnavailable, match="(?i)read-?only"):
            registry.set_aliases(product, {"champion": first[1]})
        assert registry.find(product, second[1]) is None


@pytest.mark.services  # needs no server, but MLflow waits 20 s for a lock
def test_a_locked_mlflow_database_is_unavailable_and_then_used_again(small_disk, product, tmp_path):
    registry, model = make(small_disk, "mlflow"), write_model(tmp_path / "model", 1)
    assert registry.find(product, model[1]) is None
    with contextlib.closing(sqlite3.connect(small_disk / "mlflow.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ServiceUnavailable, match="database is locked"):
            register(registry, product, *model)
    assert register(registry, product, *model).version == "1"


REGISTERING = """
import sys
from pathlib import Path
from mlops_assets.training.directory_registry import DirectoryRegistry
from mlops_assets.training.model import digest_of_directory

root, directory = map(Path, sys.argv[1:])
registry = DirectoryRegistry(root)
print("ready", flush=True)
number = 0
while True:
    (directory / "value.txt").write_text(str(number))
    digest = digest_of_directory(directory)
    print(registry.register("shop", directory, digest=digest, params={}, metrics={}, facts={}).digest, flush=True)
    number += 1
"""


def test_a_process_killed_while_it_registers_leaves_whole_versions_and_all_it_acknowledged(tmp_path):
    chance = random.Random(3)
    acknowledged = []
    for life in range(3):
        directory, _ = write_model(tmp_path / f"model{life}", life, size=3_000_000)
        command = [sys.executable, "-c", REGISTERING, str(tmp_path / "registry"), str(directory)]
        environment = {**os.environ, "PYTHONPATH": str(LIBRARY)}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
            assert process.stdout.readline() == "ready\n"
            for _ in range(1 + chance.randrange(3)):
                acknowledged.append(process.stdout.readline().strip())
            for _ in range(chance.randrange(100_000)):
                pass
            process.send_signal(signal.SIGKILL)
            told = process.stdout.read().splitlines(keepends=True)
            acknowledged += [line.strip() for line in told if line.endswith("\n")]
    registry = DirectoryRegistry(tmp_path / "registry")
    for digest in acknowledged:
        assert digest_of_directory(registry.fetch("shop", digest, tmp_path / "fetched")) == digest
    versions = tmp_path / "registry" / "shop" / "versions"
    numbers = sorted(int(path.name) for path in versions.iterdir() if path.name.isdigit())
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(acknowledged) <= len(numbers) <= len(acknowledged) + 3
    for number in numbers:
        registered = registry.find("shop", digest_of_directory(versions / str(number) / "model"))
        assert registered.version == str(number)
    register(registry, "shop", *write_model(tmp_path / "last", 9))
    assert all(path.name.isdigit() for path in versions.iterdir())
