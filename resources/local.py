"""The embedded default: files, SQLite and local processes below one folder. Nothing is opened before it is used."""

from pathlib import Path

from mlops_assets.adapters.http_serving import HttpServing
from mlops_assets.adapters.subprocess_training import SubprocessTraining
from mlops_assets.build import Platform
from mlops_assets.data.source import FileSource
from resources.stores import (
    ONLINE_URL,
    local_ledger,
    local_registry,
    local_snapshots,
    online_stores,
    prediction_log,
)

SERVING_URL = "http://127.0.0.1:8811"


def local_platform(home: Path, *, serving_url: str = SERVING_URL, online_url: str = ONLINE_URL) -> Platform:
    """Return a platform that keeps all it has below ``home`` and serves at ``serving_url``.

    ``online_url`` is where its prediction server keeps features.
    """
    return Platform(
        sources={"ratings": FileSource(home / "source" / "ratings")},
        ledger=local_ledger(home),
        snapshots=local_snapshots(home),
        registry=local_registry(home),
        training=SubprocessTraining(home / "training"),
        serving=HttpServing(serving_url),
        predictions=prediction_log(home),
        online=online_stores(online_url),
    )
