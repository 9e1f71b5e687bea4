"""What the server remembers of a prediction, of its mirrors and of its outcome.

A prediction is one JSON object on a line (``segments.py``), in these words:

``trace``, ``at``       the W3C trace id, and when it was answered, in microseconds since 1970
``version``, ``score``  who answered, and what
``arm``                 why that version: ``routed`` by the weights, sent by a ``rule``, or ``asked`` for
``failed_version``      the version that should have answered and could not, if there is one
``entity``, ``inputs``, ``features``  what was asked, and what the model was told
``snapshot``, ``told``, ``definitions``  what the features were read from: the snapshot that the server began with, how
                        many outcomes it had been told, the digest of the views
``latency_seconds``     how long it took
``odd``                 values that JSON cannot say (NaN, infinities), as text, by ``features.<name>``

A mirror is ``id``, ``version``, ``score`` (null where the version failed to give one). An outcome is in
``outcomes.py``.
"""

from typing import Protocol

import polars as pl


class PredictionLog(Protocol):
    """Reading what servers logged. Writing is the server's own (``log.py``)."""

    def predictions(self, product: str) -> pl.DataFrame:
        """Return one row per acknowledged prediction, in the order they were answered.

        Columns: ``id``, ``at`` (UTC microseconds), ``version``, ``arm``, ``failed_version`` (null but for a fallback),
        ``entity``, ``score``, ``latency_seconds``, ``outcome`` (the first one told; null until known), ``outcome_at``,
        ``outcome_order`` (its place among all outcomes, from 0), ``corrected`` (what the outcome is now said to be, if
        that is another), ``snapshot``, ``definitions``, ``told`` (null if it is not known which outcomes those were),
        ``inputs`` (struct), ``features`` (struct). An empty frame with these columns when there are none.
        """

    def mirrors(self, product: str) -> pl.DataFrame:
        """Return ``id``, ``version``, ``score``: what other versions would have answered; null where they failed."""
