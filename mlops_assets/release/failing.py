"""What live analysis makes of requests that nobody drew for a version, and of those that a version failed to answer.

Only the weights draw at random: a request that a rule sent, or that asked for its version, says nothing of the others.
Where the candidate failed (it crashed, hung, or gave no number) the champion answered, and the candidate has lost
without limit. That it fails at all is watched apart from what is lost by it: a bet against "at each request, given
those before, the chance to fail is at most the declared rate", with an error rate of its own.
"""

import polars as pl

from mlops_assets.ledger.canonical import Digest
from mlops_assets.release.guardrails import Breach, breach_of
from mlops_assets.release.plan import ROUTED

FAILURES = "failures"
"""What the bet is called among the guardrails."""

FAILURE_ALPHA = 0.001
"""The error rate of the bet on failures: a version that fails does so often, and is found out soon all the same."""


def drawn(answers: pl.DataFrame) -> pl.DataFrame:
    """Return the answers whose version the weights drew; all of them where the log does not say."""
    return answers.filter(pl.col("arm") == ROUTED) if "arm" in answers.columns else answers


def as_drawn(answers: pl.DataFrame) -> pl.DataFrame:
    """Return the answers with the ``version`` that was drawn, also where the champion had to answer for it."""
    if "failed_version" not in answers.columns:
        return answers
    return answers.with_columns(version=pl.coalesce("failed_version", "version"))


def with_failures(mirrors: pl.DataFrame, answers: pl.DataFrame, candidate: Digest) -> pl.DataFrame:
    """Return the mirrors, before them a ``score`` of null for each answer that the candidate failed to give."""
    if "failed_version" not in answers.columns:
        return mirrors
    failed = answers.filter(pl.col("failed_version") == candidate)
    lost = failed.select("id", version="failed_version", score=pl.lit(None, dtype=pl.Float64))
    return pl.concat([lost, mirrors.select("id", "version", "score")])


def failures(answers: pl.DataFrame, candidate: Digest, allowed: float) -> Breach:
    """Bet against "the candidate fails at most that share of the requests drawn for it"."""
    own = as_drawn(answers).filter(pl.col("version") == candidate)
    failed = own["failed_version"].is_not_null() if "failed_version" in own.columns else [False] * own.height
    return breach_of(FAILURES, failed, allowed)
