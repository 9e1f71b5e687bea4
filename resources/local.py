"""The embedded default: files, SQLite and local processes below one folder. Nothing is opened before it is used."""

from pathlib import Path

from mlops_assets.adapters.http_serving import HttpServing
from mlops_assets.adapters.mlflow import MlflowRegistry
from mlops_assets.adapters.subprocess_training import SubprocessTraining
from mlops_assets.build import Platform
from mlops_assets.data.local import LocalSnapshots
from mlops_assets.data.source import FileSource
from mlops_assets.ledger.sql import SqlLedger
from mlops_assets.serving.log import FilePredictionLog

SERVING_URL = "http://127.0.0.1:8811"


def local_ledger(home: Path) -> SqlLedger:
    """Return the ledger below ``home``."""
    return SqlLedger(f"sqlite:///{home / 'ledger.db'}")


def prediction_log(home: Path) -> FilePredictionLog:
    """Return the prediction log below ``home``."""
    return FilePredictionLog(home / "predictions")


def local_platform(home: Path, *, serving_url: str = SERVING_URL) -> Platform:
    """Return a platform that keeps all it has below ``home`` and serves at ``serving_url``."""
    return Platform(
        sources={"ratings": FileSource(home / "source" / "ratings")},
        ledger=local_ledger(home),
        snapshots=LocalSnapshots(home / "snapshots"),
        registry=MlflowRegistry(f"sqlite:///{home / 'mlflow.db'}", artifact_root=home / "models"),
        training=SubprocessTraining(home / "training"),
        serving=HttpServing(serving_url),
        predictions=prediction_log(home),
    )
