"""The reference as a batch engine: slow, and right whatever state the other engines are in."""

import polars as pl

from mlops_assets.features.reference import reference_features

TYPES = {
    "double": pl.Float64,
    "integer": pl.Int64,
    "boolean": pl.Boolean,
    "string": pl.String,
    "time": pl.Datetime("us", "UTC"),
}


class ReferenceEngine:
    """A ``FeatureEngine``; ``calls`` says how many rows it was asked about each time."""

    def __init__(self):
        self.calls = []

    def features_at(self, view, events, spine):
        self.calls.append(spine.height)
        asked = spine.select(view.entity, view.event_time).rows()
        types = {f.name: pl.List(TYPES[f.result_type]) if f.is_list else TYPES[f.result_type] for f in view.features}
        return pl.DataFrame(reference_features(view, events.rows(named=True), asked), schema=types, orient="row")
