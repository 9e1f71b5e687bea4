"""One contract for every registry, then what only MLflow has."""

import socket
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from odd_trainers import Constant

from mlops_assets.adapters.mlflow import MlflowRegistry
from mlops_assets.errors import ServiceUnavailable, SnapshotCorrupt, SnapshotMissing
from mlops_assets.training.directory_registry import DirectoryRegistry
from mlops_assets.training.model import digest_of_directory
from mlops_assets.training.package import Package, load_model, save_package

FACTS = {"dagster_run_id": "run-1", "train": "sha256:0", "git_commit": "none"}


def make(folder, kind):
    if kind == "directory":
        return DirectoryRegistry(folder / "registry")
    uri = f"sqlite:///{folder / 'mlflow' / 'mlflow.db'}"
    return MlflowRegistry(uri, artifact_root=folder / "models", dagster_url="http://127.0.0.1:3000")


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("registries")


@pytest.fixture(params=["directory", "mlflow"])
def registry(request, home):
    return make(home, request.param)


@pytest.fixture(scope="module")
def shared_mlflow(home):
    return make(home, "mlflow")


@pytest.fixture
def product():
    return f"shop_{uuid.uuid4().hex[:8]}"


@pytest.fixture
def model(tmp_path):
    """Return a function that writes a model and returns its directory and digest."""

    def write(value):
        directory = tmp_path / f"model-{value}"
        package = Package(loader="odd_trainers:load_constant", features=("a", "b"))
        save_package(Constant(value, ("a", "b")), package, directory)
        return directory, digest_of_directory(directory)

    return write


def register(registry, product, directory, digest):
    return registry.register(product, directory, digest=digest, params={"x": 1}, metrics={"loss": 0.5}, facts=FACTS)


def test_a_model_comes_back_as_it_was_and_is_registered_once(registry, product, model, tmp_path, rows):
    directory, digest = model(0.25)
    assert registry.find(product, digest) is None
    first = register(registry, product, directory, digest)
    again = register(registry, product, directory, digest)
    assert first == again == registry.find(product, digest)
    assert (first.product, first.digest, first.version) == (product, digest, "1")
    assert first.run_url
    assert FACTS.items() <= first.facts.items()
    fetched = registry.fetch(product, digest, tmp_path / "fetched")
    assert digest_of_directory(fetched) == digest
    assert load_model(fetched).predict(rows)[0] == 0.25
    assert registry.fetch(product, digest, tmp_path / "fetched") == fetched


def test_versions_and_aliases_follow_the_digests(registry, product, model):
    (one, digest_one), (two, digest_two) = model(1), model(2)
    assert registry.aliases(product) == {}
    assert register(registry, product, one, digest_one).version == "1"
    assert register(registry, product, two, digest_two).version == "2"
    registry.set_aliases(product, {"champion": digest_one, "challenger": digest_two})
    assert registry.aliases(product) == {"champion": digest_one, "challenger": digest_two}
    registry.set_aliases(product, {"champion": digest_two})
    assert registry.aliases(product) == {"champion": digest_two}
    registry.set_aliases(product, {"champion": digest_two})
    registry.set_aliases(product, {})
    assert registry.aliases(product) == {}


def test_what_is_not_registered_is_missing(registry, product, tmp_path):
    with pytest.raises(SnapshotMissing, match="register it first"):
        registry.fetch(product, "sha256:0", tmp_path)
    with pytest.raises(SnapshotMissing, match="register it first"):
        registry.set_aliases(product, {"champion": "sha256:0"})
    registry.set_aliases(product, {})


def test_a_directory_of_another_digest_is_refused_and_leaves_no_version(registry, product, model):
    directory, digest = model(0.5)
    (directory / "value.txt").write_text("0.6")
    with pytest.raises(SnapshotCorrupt, match=digest):
        register(registry, product, directory, digest)
    assert registry.find(product, digest) is None


def test_a_stored_model_that_was_changed_is_not_handed_out(registry, product, model, home, tmp_path):
    directory, digest = model(0.5)
    register(registry, product, directory, digest)
    stored = [path for path in home.rglob("value.txt") if product in path.parts]
    assert stored
    for path in stored:
        path.write_text("0.6")
    with pytest.raises(SnapshotCorrupt, match=digest):
        registry.fetch(product, digest, tmp_path / "fetched")
    assert not list((tmp_path / "fetched").glob("*"))


@pytest.mark.parametrize("kind", ["directory", "mlflow"])
def test_concurrent_registrations_of_one_digest_give_one_version(kind, home, product, model):
    directory, digest = model(0.5)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: register(make(home, kind), product, directory, digest), range(4)))
    assert {one.version for one in found} == {"1"}
    assert make(home, kind).find(product, digest).version == "1"
    other, digest_of_other = model(0.75)
    register(make(home, kind), product, other, digest_of_other)


def test_a_folder_that_cannot_be_used_is_an_unavailable_registry(tmp_path, product, model):
    (tmp_path / "registry").write_text("a file")
    with pytest.raises(ServiceUnavailable, match="cannot be used"):
        register(make(tmp_path, "directory"), product, *model(0.5))


def test_a_kill_in_the_middle_of_a_directory_registration_leaves_no_version(tmp_path, product, model, rows):
    directory, digest = model(0.5)
    versions = tmp_path / "registry" / product / "versions"
    (versions / ".unfinished-1").mkdir(parents=True)
    (versions / ".unfinished-1" / "registered.json").write_text("{")
    registry = make(tmp_path, "directory")
    assert registry.find(product, digest) is None
    assert register(registry, product, directory, digest).version == "1"
    assert [path.name for path in versions.iterdir()] == ["1"]


def test_mlflow_holds_the_run_its_links_and_a_model_it_can_load(shared_mlflow, product, model, rows, monkeypatch):
    import mlflow.pyfunc

    directory, digest = model(0.5)
    registered = register(shared_mlflow, product, directory, digest)
    client = shared_mlflow._client()
    run = client.get_run(registered.run_url.removeprefix("runs:/"))
    assert run.info.status == "FINISHED"
    assert run.data.params == {"x": "1"}
    assert run.data.metrics == {"loss": 0.5}
    assert run.data.tags.items() >= {**FACTS, "digest": digest}.items()
    assert run.data.tags["dagster_run_url"] == "http://127.0.0.1:3000/runs/run-1"
    source = client.get_model_version_download_uri(product, registered.version)
    loaded = mlflow.pyfunc.load_model(source)
    assert loaded.metadata.signature.inputs.input_names() == ["a", "b"]
    assert list(loaded.predict(rows.select("a", "b").to_pandas())[:2]) == [0.5, 0.5]


def test_mlflow_down_is_unavailable(product, model):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    registry = MlflowRegistry(f"http://127.0.0.1:{port}")
    directory, digest = model(0.5)
    with pytest.raises(ServiceUnavailable, match="cannot be used"):
        register(registry, product, directory, digest)
    with pytest.raises(ServiceUnavailable):
        registry.aliases(product)


KILLED = """
import os, signal, sys
from pathlib import Path
from mlflow.tracking import MlflowClient
from mlops_assets.adapters.mlflow import MlflowRegistry

def dying(method, *, after):
    original = getattr(MlflowClient, method)
    def die(*positional, **named):
        if after:
            original(*positional, **named)
        os.kill(os.getpid(), signal.SIGKILL)
    setattr(MlflowClient, method, die)

uri, models, product, directory, digest = sys.argv[1:]
for method, after in (("log_batch", False), ("create_model_version", False), ("create_model_version", True)):
    child = os.fork()
    if child:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        continue
    dying(method, after=after)
    MlflowRegistry(uri, artifact_root=Path(models)).register(
        product, Path(directory), digest=digest, params={}, metrics={}, facts={}
    )
"""


@pytest.mark.services  # kills many processes, which takes its time
def test_a_registration_killed_at_every_stage_ends_in_one_version(shared_mlflow, home, product, model):
    directory, digest = model(0.5)
    arguments = [shared_mlflow.tracking_uri, str(home / "models"), product, str(directory), digest]
    subprocess.run([sys.executable, "-c", KILLED, *arguments], cwd=Path(__file__).parents[2], check=True)
    registered = register(shared_mlflow, product, directory, digest)
    client = shared_mlflow._client()
    assert len(client.search_model_versions(f"name = '{product}'")) == 1
    experiment = client.get_experiment_by_name(product).experiment_id
    statuses = {run.info.run_id: run.info.status for run in client.search_runs([experiment])}
    assert sorted(statuses.values()) == ["FINISHED", "KILLED", "KILLED"]
    assert statuses[registered.run_url.removeprefix("runs:/")] == "FINISHED"
