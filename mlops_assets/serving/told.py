"""The online features of a product, and how far they know what was told to any worker of the server."""

import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import polars as pl

from mlops_assets.errors import FeatureError, ServiceUnavailable
from mlops_assets.features.online import OnlineFeatures
from mlops_assets.features.request import RequestFeatures, derived_features
from mlops_assets.serving.outcomes import Outcome, OutcomeBook
from mlops_assets.serving.served import ServedProduct

_LOG = logging.getLogger(__name__)


class ToldFeatures:
    """``features`` that have seen the first ``place`` outcomes of a book, in their order.

    An event that they refuse must not keep others, or requests, waiting: it is logged, and ``on_refused`` called.
    """

    def __init__(self, features: OnlineFeatures, served: ServedProduct, *, on_refused: Callable[[], None]) -> None:
        self.features = features
        self.place = 0
        self._served = served
        self._derived = RequestFeatures(derived_features(served.derived), dict(served.schema))
        self._on_refused = on_refused
        self._version: Any = None

    def catch_up(self, book: OutcomeBook) -> None:
        """Learn what was told since. Nothing is skipped when the store does not answer (``ServiceUnavailable``)."""
        version = book.version()
        if version == self._version:
            return
        for outcome in book.after(self.place):
            self._learn(outcome)
            self.place = outcome.place
        self._version = version

    def forget_version(self) -> None:
        """Ask the next book, which may be another object, whether there is more."""
        self._version = None

    def try_to_catch_up(self, book: OutcomeBook) -> None:
        """Learn what was told, or leave it for the next time when the store does not answer."""
        try:
            self.catch_up(book)
        except ServiceUnavailable as error:
            _LOG.warning("%s: events wait: %s", self._served.name, error)

    def _learn(self, outcome: Outcome) -> None:
        try:
            self.features.add(self.event(outcome))
        except FeatureError as error:
            _LOG.warning("%s: an event is not counted: %s", self._served.name, error)
            self._on_refused()

    def event(self, outcome: Outcome) -> dict[str, Any]:
        """Return the event that an outcome makes of its prediction."""
        event = {**_parsed_times(outcome.inputs, self._served), self._served.outcome: outcome.value}
        return {**event, **self._derived.on_request(event)}


def _parsed_times(inputs: Mapping[str, Any], served: ServedProduct) -> dict[str, Any]:
    return {
        name: datetime.fromisoformat(value) if isinstance(served.schema[name], pl.Datetime) and value else value
        for name, value in inputs.items()
    }
