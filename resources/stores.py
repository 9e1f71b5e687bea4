"""The embedded stores below one folder. They need no Dagster, so the prediction server opens them as well."""

from pathlib import Path

from mlops_assets.adapters.mlflow import MlflowRegistry
from mlops_assets.data.local import LocalSnapshots
from mlops_assets.ledger.sql import SqlLedger
from mlops_assets.serving.log import FilePredictionLog


def local_ledger(home: Path) -> SqlLedger:
    """Return the ledger below ``home``."""
    return SqlLedger(f"sqlite:///{home / 'ledger.db'}")


def local_snapshots(home: Path) -> LocalSnapshots:
    """Return the snapshots below ``home``."""
    return LocalSnapshots(home / "snapshots")


def local_registry(home: Path) -> MlflowRegistry:
    """Return the models below ``home``."""
    return MlflowRegistry(f"sqlite:///{home / 'mlflow.db'}", artifact_root=home / "models")


def prediction_log(home: Path) -> FilePredictionLog:
    """Return the prediction log below ``home``."""
    return FilePredictionLog(home / "predictions")
