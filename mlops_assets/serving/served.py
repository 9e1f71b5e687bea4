"""What the server must know of a product: what a request carries, and how features and events come of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

from mlops_assets.features.view import FeatureView, RequestFeature
from mlops_assets.ledger.canonical import Digest, digest_of


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedProduct:
    """``inputs`` are the request's columns with their Open Inference Protocol types, ``schema`` their Polars types.

    An outcome, posted for a prediction, makes the event {inputs, ``outcome`` column, ``derived`` columns}, which later
    features see.
    """

    name: str
    entity: str
    event_time: str
    event_key: tuple[str, ...]
    outcome: str
    inputs: Mapping[str, str]
    schema: Mapping[str, pl.DataType]
    views: tuple[FeatureView, ...]
    request_features: tuple[RequestFeature, ...] = ()
    derived: Mapping[str, str] = field(default_factory=dict)

    @property
    def required(self) -> frozenset[str]:
        """Inputs that may not be null: they name entities and events."""
        named = {self.entity, self.event_time, *self.event_key, *(view.entity for view in self.views)}
        return frozenset(named) & frozenset(self.inputs)

    @property
    def definitions(self) -> Digest:
        """The digest of all that decides the features of the views: a prediction says which it was answered by."""
        views = {view.name: view.digest for view in self.views}
        return digest_of({"views": views, "event_key": list(self.event_key), "derived": dict(self.derived)})
