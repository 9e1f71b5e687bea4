"""What the server remembers of a prediction, of its mirrors and of its outcome.

The log holds three kinds of record, one JSON object a line, each with ``kind``:

``prediction``  id, at, product, version (digest that answered), entity, inputs {column: value},
                features {column: value}, score, latency_seconds; and what the features were read from:
                snapshot (digest that the server began with), told (how many outcomes it had been told since),
                definitions (digest of the views)
``mirror``      id, version, score         another live version's score of the same request and the same features
``outcome``     id, at, value              the truth, later; the first one for an id counts
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import polars as pl

from mlops_assets.ledger.canonical import Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """One acknowledged answer."""

    id: str
    at: datetime
    product: str
    version: Digest
    entity: str
    inputs: Mapping[str, Any]
    features: Mapping[str, Any]
    score: float
    latency_seconds: float


class PredictionLog(Protocol):
    """Reading what servers logged. Writing is the server's own (``log.py``)."""

    def predictions(self, product: str) -> pl.DataFrame:
        """Return one row per acknowledged prediction, in the order they were answered.

        Columns: ``id``, ``at`` (UTC microseconds), ``version``, ``entity``, ``score``, ``latency_seconds``,
        ``outcome`` (null until known), ``outcome_at``, ``outcome_order`` (its place among all outcomes, from 0),
        ``snapshot``, ``definitions``, ``told`` (null if it is not known which outcomes those were), ``inputs``
        (struct), ``features`` (struct). An empty frame with these columns when there are none.
        """

    def mirrors(self, product: str) -> pl.DataFrame:
        """Return ``id``, ``version``, ``score``: what other versions would have answered."""
