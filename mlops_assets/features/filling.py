"""Filling an online store with a snapshot's events, once: by an asset ahead of time, or by the server that needs it.

A store that has all events of a snapshot says so, in a record that is written after them. Whoever is killed on the way
leaves no such record, and the next one fills again, which changes nothing that is there.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

from mlops_assets.features.online import OnlineFeatures
from mlops_assets.features.state import StateStore
from mlops_assets.features.tiles import ROOT, Seen
from mlops_assets.ledger.canonical import Digest, digest_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """What a store was filled with: the snapshot's ``events``, and the entities of each view."""

    events: int
    entities: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Filling:
    """How a store came to be full: ``new`` events were added now, none if it ``was_full``."""

    filled: Filled
    new: int
    was_full: bool


def version_of(features: OnlineFeatures, snapshot: Digest) -> Digest:
    """Return the digest of all that decides what a store is filled with: the snapshot and the definitions."""
    return digest_of({"snapshot": snapshot, "definitions": features.definitions})


def fill(features: OnlineFeatures, store: StateStore, snapshot: Digest, read: Callable[[], pl.DataFrame]) -> Filling:
    """Add the events that ``read`` returns of ``snapshot`` to the store of ``features``, unless it has them all.

    Raises what ``OnlineFeatures.bootstrap`` raises.
    """
    key = f"\0filled:{version_of(features, snapshot)}"
    if (before := _recalled(store, key)) is not None:
        return Filling(filled=before, new=0, was_full=True)
    events = read()
    new = features.bootstrap(events)
    entities = {view.name: events[view.entity].n_unique() for view in features.views}
    filled = Filled(events=events.height, entities=entities)
    store.write_new({key: {ROOT: Seen(json.dumps(asdict(filled)))}})
    return Filling(filled=filled, new=new, was_full=False)


def _recalled(store: StateStore, key: str) -> Filled | None:
    ((record,),) = store.read([(key, [ROOT])])
    if not isinstance(record, Seen):
        return None
    said: dict[str, Any] = json.loads(record.mark)
    return Filled(**said)
