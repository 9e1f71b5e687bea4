"""From logged requests to the units that live analysis bets on: an entity's mean gain over its first outcomes.

What is counted never changes as time goes on. Without maturity, requests count in the order in which their outcomes
were told (the log's own order: a clock may jump back). With maturity they count when they are old enough, in the order
in which they were asked, so that outcomes which come sooner because they are good, or bad, gain nothing by it.
"""

from datetime import datetime, timedelta

import polars as pl

from mlops_assets.ledger.canonical import Digest

_SQUARED_ERROR = (pl.col("score") - pl.col("label")) ** 2
LOSSES = {
    "brier": _SQUARED_ERROR,
    "squared_error": _SQUARED_ERROR,
    "absolute_error": (pl.col("score") - pl.col("label")).abs(),
}


def paired_gains(
    answers: pl.DataFrame,
    mirrors: pl.DataFrame,
    *,
    candidate: Digest,
    champion: Digest,
    metric: str,
    label: str,
) -> pl.DataFrame:
    """Return (id, entity, order, complete_at, gain) of each request that both versions scored, its outcome known.

    ``answers`` have ``order`` and ``complete_at``, as ``matured`` gives them. A candidate's score that is no number has
    lost without limit; a champion's says nothing.
    """
    kept = ["id", "entity", "order", "complete_at"]
    known = answers.filter(pl.col("outcome").is_not_null(), pl.col("version").is_in([candidate, champion]))
    scores = pl.concat([known.select("id", "version", "score"), mirrors.select("id", "version", "score")])
    labelled = known.select(*kept, pl.sql_expr(label).cast(pl.Float64).alias("label"))
    labelled = labelled.filter(pl.col("label").is_finite())
    losses = labelled.join(scores.unique(["id", "version"], keep="first"), on="id", how="inner").select(
        *kept, "version", LOSSES[metric].alias("loss")
    )
    ours = losses.filter(pl.col("version") == candidate)
    theirs = losses.filter(pl.col("version") == champion).select("id", pl.col("loss").alias("champion_loss"))
    both = ours.join(theirs.filter(pl.col("champion_loss").is_finite()), on="id", how="inner")
    gain = pl.col("champion_loss") - pl.col("loss")
    counted = pl.when(pl.col("loss").is_finite()).then(gain).otherwise(float("-inf"))
    return both.select(*kept, gain=counted)


def matured(
    answers: pl.DataFrame, *, after: timedelta | None, silent_outcome: float | None, now: datetime
) -> pl.DataFrame:
    """Return the answers that may count by ``now``, with the ``order`` they count in and when they became complete.

    With ``after`` only answers that old count, with the outcome that came within that time, or ``silent_outcome`` where
    none did; what comes later is too late, so that nothing counted changes. An answer is as old as the latest time in
    the log up to it says, and an outcome came no earlier than those told before it: where the clock was set back, the
    past stays as it was counted.
    """
    told = pl.col("outcome_order") if "outcome_order" in answers.columns else pl.col("outcome_at")
    if after is None:
        return answers.with_columns(order=told.rank("dense"), complete_at=pl.col("outcome_at"))
    aged = answers.with_columns(order=pl.int_range(pl.len()).cast(pl.UInt32), due=pl.col("at").cum_max() + after)
    timed = aged.sort(told, "order", nulls_last=True).with_columns(told_at=pl.col("outcome_at").cum_max()).sort("order")
    in_time = pl.col("outcome").is_not_null() & (pl.col("told_at") <= pl.col("due"))
    return timed.filter(pl.col("due") <= now).with_columns(
        outcome=pl.when(in_time).then("outcome").otherwise(pl.lit(silent_outcome, dtype=pl.Float64)),
        complete_at=pl.col("at"),  # a step is tried by what was asked in it, not by what matured in it
    )


def units_of(gains: pl.DataFrame, outcomes_per_unit: int) -> pl.DataFrame:
    """Return one row (entity, complete_at, gain) per entity with enough outcomes, in the order of completion."""
    return (
        gains.sort("order", "id")
        .group_by("entity", maintain_order=True)
        .head(outcomes_per_unit)
        .group_by("entity", maintain_order=True)
        .agg(pl.len().alias("outcomes"), pl.col("order").max(), pl.col("complete_at").max(), pl.col("gain").mean())
        .filter(pl.col("outcomes") == outcomes_per_unit)
        .sort("order", "entity")
    )
