"""The sensor that watches a source: a new version is a reason to train, if enough has come with it."""

import json
from typing import Any

import dagster as dg

from mlops_assets.data.assets import SOURCE_VERSION_TAG
from mlops_assets.data.source import DatasetSource
from mlops_assets.errors import DataError, ServiceUnavailable


def build_new_data_sensor(
    product: str,
    source: DatasetSource,
    job: str | None = None,
    *,
    minimum_growth: float = 0.0,
    interval_seconds: int = 30,
) -> dg.SensorDefinition:
    """Return the sensor ``<product>_new_data``: it launches ``job`` for each new version of ``source``.

    ``job`` is the name of a job, ``<product>_train`` by default. A version that is less than ``minimum_growth`` (a
    share) larger than the last one trained on waits for more. The cursor holds the version last trained on and its
    size; the run key is the version, so a replayed tick launches nothing twice, nor does a source that goes back to a
    version that was trained on. A source that is missing or does not answer is a reason to skip.
    """

    @dg.sensor(
        name=f"{product}_new_data",
        job_name=job or f"{product}_train",
        minimum_interval_seconds=interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Trains {product} when {source.name} has a new version.",
    )
    def new_data(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        seen: dict[str, Any] = json.loads(context.cursor) if context.cursor else {"version": None, "size": 0}
        try:
            version, size = source.version(), source.size_bytes()
        except (DataError, ServiceUnavailable) as error:
            return dg.SkipReason(str(error))
        if version == seen["version"]:
            return dg.SkipReason(f"{source.name} is still at version {version}")
        growth = size / seen["size"] - 1 if seen["size"] else float("inf")
        if minimum_growth and growth < minimum_growth:
            return dg.SkipReason(
                f"{source.name} grew by {growth:.0%}, less than {minimum_growth:.0%}: waiting for more"
            )
        request = dg.RunRequest(run_key=version, tags={SOURCE_VERSION_TAG: version, "mlops/cause": "new_data"})
        return dg.SensorResult(run_requests=[request], cursor=json.dumps({"version": version, "size": size}))

    return new_data
