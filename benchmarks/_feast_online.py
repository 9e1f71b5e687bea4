"""Run by Feast's own interpreter: milliseconds of its online store on Redis. Arguments: folder, port, features, users.

Prints ``{"read": {"1": [p50, p99], "100": [p50, p99]}, "write": [p50, p99]}``. Feast reads values that were computed
before; it has no windows.
"""

import json
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.types import Float64


def main(folder: Path, port: str, features: int, users: int) -> None:
    names = [f"f{number}" for number in range(features)]
    values = {name: [float(user) for user in range(users)] for name in names}
    frame = pd.DataFrame({"user": [f"u{n}" for n in range(users)], "event_timestamp": datetime.now(UTC), **values})
    frame.to_parquet(folder / "values.parquet")
    store = FeatureStore(
        config=RepoConfig(
            project="bench",
            provider="local",
            registry=str(folder / "registry.db"),
            online_store={"type": "redis", "connection_string": f"127.0.0.1:{port}"},
            offline_store={"type": "file"},
            entity_key_serialization_version=3,
        )
    )
    user = Entity(name="user", join_keys=["user"], value_type=ValueType.STRING)
    source = FileSource(path=str(folder / "values.parquet"), timestamp_field="event_timestamp")
    schema = [Field(name=name, dtype=Float64) for name in names]
    view = FeatureView(name="v", entities=[user], ttl=timedelta(days=1), schema=schema, source=source)
    store.apply([user, view])
    store.write_to_online_store("v", frame)
    asked = [f"v:{name}" for name in names]

    def read(batch: int, times: int) -> list[float]:
        taken = []
        for turn in range(times):
            rows = [{"user": f"u{(turn * batch + place) % users}"} for place in range(batch)]
            began = time.perf_counter()
            store.get_online_features(features=asked, entity_rows=rows).to_dict()
            taken.append(time.perf_counter() - began)
        return quantiles(taken[times // 10 :])

    def write(times: int) -> list[float]:
        taken = []
        for turn in range(times):
            row = frame.iloc[turn % users : turn % users + 1]
            began = time.perf_counter()
            store.write_to_online_store("v", row)
            taken.append(time.perf_counter() - began)
        return quantiles(taken[times // 10 :])

    print(json.dumps({"read": {"1": read(1, 600), "100": read(100, 40)}, "write": write(60)}))


def quantiles(seconds: list[float]) -> list[float]:
    ordered = sorted(seconds)
    return [ordered[int(len(ordered) * share)] * 1e3 for share in (0.5, 0.99)]


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
