"""What every batch engine of features does."""

from typing import Protocol

import polars as pl

from mlops_assets.features.view import FeatureView


class FeatureEngine(Protocol):
    """Computes feature views over frames. Whatever the engine, equal inputs give equal features."""

    def features_at(self, view: FeatureView, events: pl.DataFrame, spine: pl.DataFrame) -> pl.DataFrame:
        """Return the features of each row of ``spine``: one Float64 column per feature, same rows, same order.

        ``events`` has the view's entity, event_time and aggregated columns; ``spine`` has the view's entity and
        event_time columns and says who is asked about and when. Only events strictly before a row's time are seen.

        Raises ``FeatureError`` naming view and column when a column is missing or of the wrong type, when an entity or
        a time is null, and when a number is NaN, infinite or out of range.
        """


def feature_table(view: FeatureView, events: pl.DataFrame, engine: FeatureEngine) -> pl.DataFrame:
    """Return entity, event_time and the features at each distinct pair of them, sorted."""
    keys = [view.entity, view.event_time]
    missing = [key for key in keys if key not in events.columns]
    spine = events if missing else events.select(keys).unique().sort(keys)  # the engine says what is missing
    return pl.concat([spine, engine.features_at(view, events, spine)], how="horizontal")
