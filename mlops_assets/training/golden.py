"""The golden set: pinned by digest, versioned, renewed by a decision that the ledger keeps.

A golden set that is cut anew from each snapshot follows the data; one that is pinned stays what it is until somebody
renews it, by name and with a reason. Either way the ledger says which rows judged which candidate, and how many of them
had judged candidates before.

Belongs here: which golden set holds, what a training set may contain beside it, the entry. Not here: what its use costs
(``gates/golden_budget.py``).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import polars as pl

from mlops_assets.data.snapshot import SnapshotStore
from mlops_assets.errors import DataError, TrainingFailed
from mlops_assets.ledger.canonical import Digest
from mlops_assets.ledger.entry import Entry, Kind
from mlops_assets.training.recipe import TimeSplit
from mlops_assets.training.training_set import TrainingSet


def pinned_golden(entries: Sequence[Entry]) -> Digest | None:
    """Return the golden set that holds, ``None`` before the first one and where somebody renewed it since."""
    for entry in reversed(entries):
        if entry.kind is Kind.GOLDEN_RENEWED:
            return None
        if entry.kind is Kind.GOLDEN_PINNED:
            return str(entry.body["golden"])
    return None


def with_pinned(
    product: str,
    parts: TrainingSet,
    entries: Sequence[Entry],
    snapshots: SnapshotStore,
    split: TimeSplit,
    event_time: str,
) -> TrainingSet:
    """Return the parts with the pinned golden set, where ``split`` pins one: what is older than it is for training.

    Newer rows wait for the renewal: to train on them and judge on older ones would be to look ahead. Raises
    ``TrainingFailed`` when the pinned set lacks a column that candidates are trained with now.
    """
    digest = pinned_golden(entries) if split.renewal == "by_hand" else None
    if digest is None:
        return parts
    golden = snapshots.read(digest)
    if missing := sorted(set(parts.train.columns) - set(golden.columns)):
        raise TrainingFailed(
            f"{product}: the pinned golden set {digest} lacks {missing}, which were declared since; run "
            f"{product}_renew_golden"
        )
    rows = pl.concat([parts.train, parts.golden])
    return replace(parts, train=rows.filter(pl.col(event_time) < golden[event_time].min()), golden=golden)


def refuse_overlap(product: str, parts: TrainingSet, event_key: Sequence[str]) -> None:
    """Raise ``TrainingFailed`` when a golden row, by its event key, is for training too: it would judge itself."""
    seen = parts.train.select(event_key).unique()
    shared = parts.golden.select(event_key).join(seen, on=list(event_key), how="semi", nulls_equal=True)
    if shared.height:
        raise TrainingFailed(
            f"{product}: {shared.height} events are in both the training rows and the golden set, such as "
            f"{dict(shared.row(0, named=True))}; each event must be delivered once, at one time"
        )


def golden_entry(
    parts: TrainingSet,
    digest: Digest,
    entries: Sequence[Entry],
    snapshots: SnapshotStore,
    *,
    event_key: Sequence[str],
    event_time: str,
    run_id: str,
) -> dict[str, Any] | None:
    """Return the body of the ``GOLDEN_PINNED`` entry for a golden set, ``None`` if the ledger has it as the last one.

    A set that was replaced before may come back, as when an old run is repeated: that is a version of its own.
    """
    decisions = [entry for entry in entries if entry.kind in {Kind.GOLDEN_RENEWED, Kind.GOLDEN_PINNED}]
    pinned = [entry for entry in decisions if entry.kind is Kind.GOLDEN_PINNED]
    asked = decisions[-1] if decisions and decisions[-1].kind is Kind.GOLDEN_RENEWED else None
    if pinned and pinned[-1].body["golden"] == digest and not asked:
        return None
    previous = str(pinned[-1].body["golden"]) if pinned else None
    golden = parts.golden
    return {
        "golden": digest,
        "version": len(pinned) + 1,
        "rows": golden.height,
        "since": str(golden[event_time].min()),
        "until": str(golden[event_time].max()),
        "previous": previous,
        "kept_share": kept_share(golden, previous, snapshots, event_key),
        "why": asked.body["why"] if asked else "first" if previous is None else "new data",
        "run_id": run_id,
    }


def kept_share(
    golden: pl.DataFrame, previous: Digest | None, snapshots: SnapshotStore, event_key: Sequence[str]
) -> float:
    """Return the share of rows that the previous golden set had too; 1, the worst, when it can no longer be read."""
    if previous is None:
        return 0.0
    try:
        earlier = snapshots.read(previous).select(event_key).unique()
    except (DataError, pl.exceptions.ColumnNotFoundError):
        return 1.0
    kept = golden.select(event_key).join(earlier, on=list(event_key), how="semi", nulls_equal=True)
    return round(kept.height / golden.height, 6)
