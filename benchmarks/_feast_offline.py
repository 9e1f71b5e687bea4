"""Run by Feast's own interpreter: seconds of its offline point-in-time join. Arguments: folder, views, features.

The folder has ``spine.parquet`` (user, event_timestamp) and ``view0.parquet``, …; prints ``{"seconds": …, "rows": …,
"sum": …}``, the sum that of the first feature.
"""

import json
import sys
import time
from datetime import timedelta
from pathlib import Path

import pandas as pd
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.types import Float64


def main(folder: Path, views: int, features: int) -> None:
    store = FeatureStore(
        config=RepoConfig(
            project="bench",
            provider="local",
            registry=str(folder / "registry.db"),
            online_store={"type": "sqlite", "path": str(folder / "online.db")},
            offline_store={"type": "file"},
            entity_key_serialization_version=3,
        )
    )
    user = Entity(name="user", join_keys=["user"], value_type=ValueType.INT64)
    made = []
    for number in range(views):
        source = FileSource(path=str(folder / f"view{number}.parquet"), timestamp_field="event_timestamp")
        schema = [Field(name=f"v{number}_f{place}", dtype=Float64) for place in range(features)]
        ttl = timedelta(days=3650)
        made.append(FeatureView(name=f"v{number}", entities=[user], ttl=ttl, schema=schema, source=source))
    store.apply([user, *made])
    asked = [f"v{number}:v{number}_f{place}" for number in range(views) for place in range(features)]
    spine = pd.read_parquet(folder / "spine.parquet")
    began = time.perf_counter()
    found = store.get_historical_features(entity_df=spine, features=asked).to_df()
    seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds, "rows": len(found), "sum": found["v0_f0"].sum()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
