"""How old the newest event is that a server's features hold: a Prometheus gauge, measured when it is asked for."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from mlops_assets.features.freshness import Freshness
from mlops_assets.serving.runtime import ProductRuntime


class FreshnessCollector(Collector):
    """Gives ``mlops_feature_freshness_seconds{product,view}``.

    It is 0 for an event of the future; a view that holds no event, or has no plan yet, has no sample.
    """

    def __init__(self, runtimes: Mapping[str, ProductRuntime]) -> None:
        self._runtimes = runtimes

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the gauge as it is now."""
        gauge = GaugeMetricFamily(
            "mlops_feature_freshness_seconds",
            "Seconds since the newest event that a feature view holds.",
            labels=("product", "view"),
        )
        now = datetime.now(UTC)
        for product, runtime in self._runtimes.items():
            for view, newest in runtime.newest_events().items():
                age = Freshness(newest_event=newest, newest_in_dataset=None, now=now).age
                if age is not None:
                    gauge.add_metric((product, view), age.total_seconds())
        yield gauge
