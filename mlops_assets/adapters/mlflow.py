"""MLflow as the model registry: a run per registration, a version per digest, the aliases as the ledger says.

Uses ``MlflowClient`` alone, never MLflow's global run or tracking URI, so registries of different servers live side by
side in one process and a run is opened and ended within one call.

MLflow offers no condition on creating a version, so each digest is kept to one version like this: the version carries
the digest as a tag from the moment it exists, and of several versions with one digest the lowest number counts.
Numbers only grow, so whoever made a higher one sees the lower one, and removes its own.
"""

import logging
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mlops_assets.errors import MlopsError, ServiceUnavailable, SnapshotCorrupt, SnapshotMissing
from mlops_assets.ledger.canonical import Digest
from mlops_assets.training.model import digest_of_directory
from mlops_assets.training.package import read_package
from mlops_assets.training.registry import RegisteredModel, copy_verified

ALIASES = ("champion", "challenger")
DIGEST = "digest"
LOADER = "mlops_assets.adapters.pyfunc"
PARAM_CHARACTERS = 6000

_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}


class MlflowRegistry:
    """Keeps models in MLflow: on a server by URL, or in a SQLite file with the artifacts below ``artifact_root``.

    With ``dagster_url``, MLflow's run links to the Dagster run that made the model.
    """

    def __init__(
        self,
        tracking_uri: str,
        *,
        registry_uri: str | None = None,
        artifact_root: Path | None = None,
        dagster_url: str | None = None,
    ) -> None:
        self.tracking_uri = tracking_uri
        self.registry_uri = registry_uri or tracking_uri
        self.artifact_root = artifact_root
        self.dagster_url = dagster_url
        self._opened: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": None}

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

        Each registration is an MLflow run with params, metrics and the facts as tags, ended FINISHED or FAILED; one
        that was killed is ended as KILLED by the next of the same digest. Raises ``SnapshotCorrupt`` if ``directory``
        does not have that digest, ``ServiceUnavailable`` if MLflow does not answer.
        """
        found = digest_of_directory(directory)
        if found != digest:
            raise SnapshotCorrupt(f"{product}: the model at {directory} should be {digest}, but its files are {found}")
        with self._answering() as client:
            existing = self._settle(client, product, digest)
            if existing is None:
                self._create(client, product, directory, digest=digest, params=params, metrics=metrics, facts=facts)
                existing = self._settle(client, product, digest)
            if existing is None:
                raise ServiceUnavailable(f"{product}: MLflow at {self.tracking_uri} lost the version of {digest}")
            return self._registered(client, existing)

    def find(self, product: str, digest: Digest) -> RegisteredModel | None:
        """Return the version with that digest, if any."""
        with self._answering() as client:
            versions = self._versions(client, product, digest)
            return self._registered(client, versions[0]) if versions else None

    def fetch(self, product: str, digest: Digest, destination: Path) -> Path:
        """Copy the model below ``destination`` and return its directory, verified against ``digest``."""
        from mlflow.artifacts import download_artifacts
        from mlflow.models import Model

        with self._answering() as client, tempfile.TemporaryDirectory() as temporary:
            version = self._version_or_raise(client, product, digest)
            uri = client.get_model_version_download_uri(product, version.version)
            downloaded = Path(download_artifacts(uri, dst_path=temporary, tracking_uri=self.tracking_uri))
            data = Model.load(str(downloaded)).flavors["python_function"]["data"]
            return copy_verified(downloaded / data, destination / digest.removeprefix("sha256:"), digest)

    def aliases(self, product: str) -> Mapping[str, Digest]:
        """Return alias → digest, of versions that have one."""
        with self._answering() as client:
            versions = {
                alias: client.get_model_version(product, number)
                for alias, number in self._alias_versions(client, product)
            }
            return {alias: version.tags[DIGEST] for alias, version in versions.items() if DIGEST in version.tags}

    def set_aliases(self, product: str, aliases: Mapping[str, Digest]) -> None:
        """Make ``champion`` and ``challenger`` exactly these; other aliases are left alone."""
        unknown = sorted(set(aliases) - set(ALIASES))
        if unknown:
            raise ValueError(f"{product}: aliases are {ALIASES}, not {unknown}")
        with self._answering() as client:
            wanted = {
                alias: str(self._version_or_raise(client, product, digest).version) for alias, digest in aliases.items()
            }
            present = {alias: number for alias, number in self._alias_versions(client, product) if alias in ALIASES}
            for alias, number in wanted.items():
                if present.get(alias) != number:
                    client.set_registered_model_alias(product, alias, number)
            for alias in present.keys() - wanted.keys():
                client.delete_registered_model_alias(product, alias)

    def _create(
        self,
        client: Any,
        product: str,
        directory: Path,
        *,
        digest: Digest,
        params: Mapping[str, Any],
        metrics: Mapping[str, float],
        facts: Mapping[str, str],
    ) -> None:
        """Log a run with the model, then create its version, whose tags name the digest."""
        tags = {DIGEST: digest, **facts, **self._link(facts)}
        experiment = self._experiment(client, product)
        run_id = client.create_run(experiment, tags=tags, run_name=f"{product} {digest[7:15]}").info.run_id
        try:
            _log(client, run_id, params, metrics)
            model = _log_model(client, experiment, run_id, directory, product, tags)
            self._create_version(client, product, model, run_id, tags)
        except BaseException:
            with suppress(Exception):  # what went wrong first is what matters
                client.set_terminated(run_id, "FAILED")
            raise
        client.set_terminated(run_id, "FINISHED")

    def _create_version(self, client: Any, product: str, model: Any, run_id: str, tags: Mapping[str, str]) -> None:
        from mlflow.exceptions import MlflowException

        try:
            client.create_registered_model(product)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        client.create_model_version(
            product, model.artifact_location, run_id=run_id, tags=dict(tags), model_id=model.model_id
        )

    def _settle(self, client: Any, product: str, digest: Digest) -> Any:
        """Return the one version of ``digest``, or ``None``; remove later ones, end runs that were left open."""
        versions = self._versions(client, product, digest)
        for duplicate in versions[1:]:
            self._delete_version(client, product, duplicate.version)
        kept = {version.run_id for version in versions[:1]}
        for run in self._open_runs(client, product, digest):
            client.set_terminated(run.info.run_id, "FINISHED" if run.info.run_id in kept else "KILLED")
        return versions[0] if versions else None

    def _delete_version(self, client: Any, product: str, number: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            client.delete_model_version(product, number)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":  # another process removed it first
                raise

    def _open_runs(self, client: Any, product: str, digest: Digest) -> list[Any]:
        experiment = client.get_experiment_by_name(product)
        if experiment is None:
            return []
        wanted = f"tags.{DIGEST} = '{digest}' and attributes.status = 'RUNNING'"
        return list(client.search_runs([experiment.experiment_id], filter_string=wanted))

    def _versions(self, client: Any, product: str, digest: Digest) -> list[Any]:
        """Return the versions with that digest, lowest number first."""
        found = client.search_model_versions(f"name = '{product}' and tags.{DIGEST} = '{digest}'")
        return sorted(found, key=lambda version: int(version.version))

    def _version_or_raise(self, client: Any, product: str, digest: Digest) -> Any:
        versions = self._versions(client, product, digest)
        if not versions:
            raise SnapshotMissing(f"{product}: MLflow at {self.registry_uri} has no model {digest}; register it first")
        return versions[0]

    def _alias_versions(self, client: Any, product: str) -> list[tuple[str, str]]:
        found = client.search_registered_models(f"name = '{product}'")
        return [(alias, str(number)) for model in found for alias, number in model.aliases.items()]

    def _experiment(self, client: Any, product: str) -> str:
        from mlflow.exceptions import MlflowException

        found = client.get_experiment_by_name(product)
        if found is not None:
            return str(found.experiment_id)
        location = None if self.artifact_root is None else (self.artifact_root / product).resolve().as_uri()
        try:
            return str(client.create_experiment(product, artifact_location=location))
        except MlflowException:  # another process created it first
            found = client.get_experiment_by_name(product)
            if found is None:
                raise
            return str(found.experiment_id)

    def _registered(self, client: Any, version: Any) -> RegisteredModel:
        return RegisteredModel(
            product=version.name,
            digest=version.tags[DIGEST],
            version=str(version.version),
            run_url=self._run_url(client, version.run_id),
            facts={key: value for key, value in version.tags.items() if key != DIGEST},
        )

    def _run_url(self, client: Any, run_id: str) -> str:
        if not self.tracking_uri.startswith("http"):
            return f"runs:/{run_id}"
        experiment = client.get_run(run_id).info.experiment_id
        return f"{self.tracking_uri.rstrip('/')}/#/experiments/{experiment}/runs/{run_id}"

    def _link(self, facts: Mapping[str, str]) -> dict[str, str]:
        if self.dagster_url is None or "dagster_run_id" not in facts:
            return {}
        return {"dagster_run_url": f"{self.dagster_url.rstrip('/')}/runs/{facts['dagster_run_id']}"}

    def _client(self) -> Any:
        """Return the client, made at first use: importing MLflow takes seconds."""
        if self._opened is None:
            for name, value in _ENVIRONMENT.items():
                os.environ.setdefault(name, value)
            from mlflow.tracking import MlflowClient

            if self.tracking_uri.startswith("sqlite:///"):
                Path(self.tracking_uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
            self._opened = MlflowClient(tracking_uri=self.tracking_uri, registry_uri=self.registry_uri)
        return self._opened

    @contextmanager
    def _answering(self) -> Iterator[Any]:
        """Yield the client; what MLflow and its stores raise becomes ``ServiceUnavailable``."""
        try:
            yield self._client()
        except MlopsError:
            raise
        except Exception as error:
            if not _is_of_mlflow(error):
                raise
            raise ServiceUnavailable(f"MLflow at {self.tracking_uri} cannot be used: {_reason(error)}") from error


def _is_of_mlflow(error: Exception) -> bool:
    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    return isinstance(error, MlflowException | RequestException | SQLAlchemyError | OSError)


def _reason(error: Exception) -> str:
    """Return the first line that says what went wrong: SQLAlchemy may put advice to programmers before it."""
    lines = [line for line in str(error).splitlines() if not line.startswith("(raised as a result of")]
    return lines[0] if lines else type(error).__name__


def _log(client: Any, run_id: str, params: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
    from mlflow.entities import Metric, Param

    now = int(time.time() * 1000)
    client.log_batch(
        run_id,
        metrics=[Metric(name, float(value), now, 0) for name, value in metrics.items()],
        params=[Param(name, str(value)[:PARAM_CHARACTERS]) for name, value in params.items()],
    )


def _log_model(
    client: Any, experiment: str, run_id: str, directory: Path, product: str, tags: Mapping[str, str]
) -> Any:
    """Log the directory as a pyfunc model of the run, and return MLflow's logged model."""
    model = client.create_logged_model(
        experiment, name=product, source_run_id=run_id, tags=dict(tags), model_type="pyfunc"
    )
    with tempfile.TemporaryDirectory() as temporary:
        saved = Path(temporary) / "pyfunc"
        _save_pyfunc(directory, Path(temporary) / "model", saved)
        client.log_model_artifacts(model.model_id, str(saved))
    return client.finalize_logged_model(model.model_id, "READY")


def _save_pyfunc(directory: Path, named: Path, saved: Path) -> None:
    """Write MLflow's layout around a copy of ``directory``; signature and requirements given, so nothing is guessed."""
    import mlflow.pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    shutil.copytree(directory, named)  # MLflow names the data folder after the folder it is given
    columns: list[Any] = [ColSpec("double", name, required=False) for name in read_package(directory).features]
    with _quiet():
        mlflow.pyfunc.save_model(
            str(saved),
            loader_module=LOADER,
            data_path=str(named),
            signature=ModelSignature(inputs=Schema(columns), outputs=Schema([ColSpec("double")])),
            pip_requirements=["mlops-assets"],
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep back MLflow's advice to guess what it is told: requirements, and an input example beside the signature."""
    advisers = [logging.getLogger(f"mlflow.utils.{name}") for name in ("requirements_utils", "environment")]
    levels = [adviser.level for adviser in advisers]
    for adviser in advisers:
        adviser.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            yield
    finally:
        for adviser, level in zip(advisers, levels, strict=True):
            adviser.setLevel(level)
