"""The embedded stores below one folder. They need no Dagster, so the prediction server opens them as well."""

from pathlib import Path

from mlops_assets.adapters.mlflow import MlflowRegistry
from mlops_assets.adapters.online_stores import stores_at
from mlops_assets.data.local import LocalSnapshots
from mlops_assets.features.online_stores import OnlineStores
from mlops_assets.ledger.sql import SqlLedger
from mlops_assets.serving.log import Durability, FilePredictionLog

ONLINE_URL = "memory:"
"""Where prediction servers keep features. ``file:///folder`` and ``redis://…`` are filled by an asset as well."""


def local_ledger(home: Path) -> SqlLedger:
    """Return the ledger below ``home``."""
    return SqlLedger(f"sqlite:///{home / 'ledger.db'}")


def local_snapshots(home: Path) -> LocalSnapshots:
    """Return the snapshots below ``home``."""
    return LocalSnapshots(home / "snapshots")


def local_registry(home: Path) -> MlflowRegistry:
    """Return the models below ``home``."""
    return MlflowRegistry(f"sqlite:///{home / 'mlflow.db'}", artifact_root=home / "models")


def prediction_log(home: Path, *, durability: Durability = Durability.PROCESS) -> FilePredictionLog:
    """Return the prediction log below ``home``; ``durability`` is for those who write it."""
    return FilePredictionLog(home / "predictions", durability=durability)


def online_stores(url: str = ONLINE_URL) -> OnlineStores:
    """Return the stores of online features at ``url``."""
    return stores_at(url)
