"""Making a registered model again from what was recorded of it, stage by stage, to see whether the same comes out.

Belongs here: what is compared, and what a difference means. Pure but for the snapshots that are read and written; the
training itself is the job's (``jobs.py``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from mlops_assets.data.snapshot import SnapshotStore
from mlops_assets.errors import NotReproduced
from mlops_assets.features.engine import feature_table
from mlops_assets.features.polars_engine import PolarsEngine
from mlops_assets.features.view import FeatureView
from mlops_assets.ledger.canonical import Digest
from mlops_assets.ledger.entry import Entry, Kind
from mlops_assets.ledger.state import fold
from mlops_assets.training.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One thing that was made again: the digest it had, and the digest it has now."""

    stage: str
    recorded: Digest
    found: Digest

    @property
    def is_equal(self) -> bool:
        """The same came out."""
        return self.recorded == self.found


def find_registration(entries: Sequence[Entry], product: str, candidate: Digest | None) -> Entry:
    """Return the entry that first registered ``candidate``, by default the champion: the registry keeps its facts.

    Raises ``NotReproduced`` when there is no such entry.
    """
    state = fold(entries)
    if candidate is None and state.champion is None:
        raise NotReproduced(f"{product}: no version is live; name the candidate to reproduce in the run's config")
    wanted = candidate or (state.champion.digest if state.champion else "")
    found = [e for e in entries if e.kind is Kind.CANDIDATE_REGISTERED and e.body["candidate"] == wanted]
    if not found:
        raise NotReproduced(f"{product}: {wanted} was never registered; registered: {', '.join(state.registered)}")
    return found[0]


def find_recipe(recipes: Sequence[Recipe], product: str, name: str, facts: Mapping[str, str]) -> Recipe:
    """Return the recipe that trained a model; ``NotReproduced`` if it is gone or was changed since."""
    known = {recipe.name: recipe for recipe in recipes}
    by = f"by recipe {name!r} at commit {facts.get('git_commit', 'unknown')}"
    if name not in known:
        raise NotReproduced(f"{product}: the model was trained {by}, which is declared no more; check out that commit")
    if known[name].digest != facts.get("recipe_digest"):
        raise NotReproduced(f"{product}: the model was trained {by}, which was changed since; check out that commit")
    return known[name]


def make_tables_again(
    product: str,
    views: Sequence[FeatureView],
    rows: pl.DataFrame,
    facts: Mapping[str, str],
    snapshots: SnapshotStore,
) -> tuple[dict[FeatureView, pl.DataFrame], list[Stage]]:
    """Return each view's table computed again from ``rows``, and how its digest compares with the recorded one.

    A view of another product's events is read as it was recorded: that product reproduces it.
    """
    tables, stages = {}, []
    for view in views:
        recorded = facts.get(f"input.features/{view.name}", "none")
        if view.source != product:
            tables[view] = snapshots.read(recorded)
            continue
        tables[view] = feature_table(view, rows, PolarsEngine())
        found = snapshots.write(tables[view]).digest
        stages.append(Stage(stage=f"features/{view.name}", recorded=recorded, found=found))
    return tables, stages


def differences(product: str, stages: Sequence[Stage], environment: Mapping[str, Any]) -> str | None:
    """Return what to say when something came out another: the first stage that differs, and what may be why."""
    first = next((stage for stage in stages if not stage.is_equal), None)
    if first is None:
        return None
    moved = environment["recorded"] != environment["found"]
    why = (
        f"the environment differs ({environment['recorded']} then, {environment['found']} now): install the pins of "
        "that commit and try again"
        if moved
        else "the environment is the same: look for randomness, threads or clocks in what computes it"
    )
    return f"{product}: {first.stage} was {first.recorded} and came out {first.found}; {why}"
