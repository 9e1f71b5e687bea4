"""Prometheus metrics of a prediction server, in base units.

With several workers each counts in files that they share (``prometheus_client``'s multiprocess mode), so that whichever
worker is asked answers for all of them.
"""

import os
from collections.abc import Mapping
from functools import cache
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from mlops_assets.serving.freshness import FreshnessCollector
from mlops_assets.serving.runtime import ProductRuntime

LATENCY_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
WAITING_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SCORE_BUCKETS = tuple(step / 20 for step in range(1, 21))


class Metrics:
    """What ``/metrics`` tells of ``runtimes``."""

    def __init__(self, runtimes: Mapping[str, ProductRuntime]) -> None:
        self.registry = CollectorRegistry()
        one, two = ("product",), ("product", "version")
        self.requests = self._counter("mlops_requests", "Requests by status.", ("product", "code"))
        self.predictions = self._counter("mlops_predictions", "Rows answered.", two)
        self.failures = self._counter("mlops_failed_scores", "Rows that a version should have answered.", two)
        self.outcomes = self._counter("mlops_outcomes", "Outcomes told.", one)
        self.shed = self._counter("mlops_shed_requests", "Requests told to come again: too many waited.", one)
        self.late = self._counter("mlops_late_requests", "Requests not answered by their deadline.", one)
        self.unmirrored = self._counter("mlops_dropped_mirrors", "Answers that there was no time to mirror.", one)
        self.absent = self._counter(
            "mlops_absent_features", "Requests whose entity a view did not know.", ("product", "view")
        )
        self.refused_events = self._counter("mlops_refused_events", "Events that features do not count.", one)
        self.weight = self._gauge("mlops_traffic_weight_ratio", "Share of traffic.", two, "mostrecent")
        self.waiting = self._histogram(
            "mlops_waiting_requests", "Requests that wait for the worker as one arrives.", (), WAITING_BUCKETS
        )
        self.latency = self._histogram(
            "mlops_request_duration_seconds", "Time from a request's arrival to its answer.", one, LATENCY_BUCKETS
        )
        self.score = self._histogram("mlops_score", "Scores given.", two, SCORE_BUCKETS)
        self._freshness = FreshnessCollector(runtimes)
        self._runtimes = runtimes
        for name, runtime in runtimes.items():
            absent = {view.name: self.absent.labels(name, view.name) for view in runtime.served.views}
            runtime.preparation.on_absent = lambda view, counters=absent: counters[view].inc()  # type: ignore[misc]
            runtime.preparation.on_refused_event = self.refused_events.labels(name).inc
            runtime.mirroring.on_dropped = self.unmirrored.labels(name).inc
            runtime.answering.on_failure = lambda version, name=name: self.failures.labels(name, version).inc()  # type: ignore[misc]
        self.code = cache(self.requests.labels)
        self.of_product = cache(lambda metric, product: metric.labels(product))
        self.of_version = cache(lambda metric, product, version: metric.labels(product, version))

    def _counter(self, name: str, what: str, labels: tuple[str, ...]) -> Counter:
        return Counter(name, what, labels, registry=self.registry)

    def _gauge(self, name: str, what: str, labels: tuple[str, ...], mode: Any) -> Gauge:
        return Gauge(name, what, labels, registry=self.registry, multiprocess_mode=mode)

    def _histogram(self, name: str, what: str, labels: tuple[str, ...], buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, what, labels, buckets=buckets, registry=self.registry)

    def text(self) -> bytes:
        """Return all metrics as Prometheus reads them."""
        self._show_weights()
        freshness = CollectorRegistry()
        freshness.register(self._freshness)
        counted = self.registry
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            counted = CollectorRegistry()
            MultiProcessCollector(counted)  # type: ignore[no-untyped-call]
        return generate_latest(counted) + generate_latest(freshness)

    def _show_weights(self) -> None:
        """Have the weights be those of the plan now; a version that is gone has none."""
        for name, runtime in self._runtimes.items():
            plan = runtime.live.plan
            for version in plan.versions:
                self.weight.labels(name, version).set(plan.weights.get(version, 0) / 100)
        known = {(name, version) for name, runtime in self._runtimes.items() for version in runtime.live.plan.versions}
        for metric in self.weight.collect():
            for sample in metric.samples:
                labels = (sample.labels["product"], sample.labels["version"])
                if labels not in known:
                    self.weight.labels(*labels).set(0)
