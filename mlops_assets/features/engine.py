"""What every batch engine of features does."""

from typing import Protocol

import polars as pl

from mlops_assets.features.event_table import Frame, require, schema_of
from mlops_assets.features.view import FeatureView


class FeatureEngine(Protocol):
    """Computes feature views over frames. Whatever the engine, equal inputs give equal features."""

    def features_at(self, view: FeatureView, events: Frame, spine: Frame) -> pl.DataFrame:
        """Return the features of each row of ``spine``: one column per feature, same rows, same order.

        A count and an integer is an Int64, a double a Float64, a boolean a Boolean, a string a String, a time a
        Datetime("us", "UTC"); ``last_k`` gives a List of these. ``events`` has the view's inputs; ``spine`` has the
        view's entity and event_time and says who is asked about and when. Only events that happened, and were known,
        strictly before a row's time are seen.

        Raises ``FeatureError`` naming view and column when a column is missing or does not fit its declared type or
        its use in an expression; when an entity, a time or a part of a key is null; when a number is NaN, infinite or
        out of range; and when different events have the same key.
        """


def feature_table(view: FeatureView, events: Frame, engine: FeatureEngine) -> pl.DataFrame:
    """Return entity, event_time and the features at each distinct pair of them, sorted."""
    spine = distinct_moments(view, events)
    return pl.concat([spine, engine.features_at(view, events, spine)], how="horizontal")


def distinct_moments(view: FeatureView, events: Frame) -> pl.DataFrame:
    """Return the distinct pairs of entity and event_time of ``events``, sorted; ``FeatureError`` if they have none."""
    keys = [view.entity, view.event_time]
    require(view, schema_of(events), "the events", keys)
    return events.lazy().select(keys).unique().sort(keys).collect()
