"""Guardrails that compare: the candidate may be bad as often as the champion is, and a little more.

A bet against "the difference of both rates is at most ``by``", in an order that later answers do not change, wins with
probability alpha at most where that holds, however often one looks (``betting.py``).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from mlops_assets.ledger.canonical import Digest
from mlops_assets.release.betting import log_capital_above
from mlops_assets.release.guardrails import Breach, ComparingGuardrail, Guardrail, breached, expression_faults, flat

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class RateNotAbove:
    """The share of the candidate's answers for which ``breach`` holds is above the champion's by at most ``by``.

    ``breach`` is a Polars SQL expression as of ``RateAtMost``. ``paired`` compares the scores of both versions for the
    same request. What only an answer has, as its latency, is compared between arms: each of the candidate's answers
    that follows one of the champion's, with that one, so that a busy hour, or a mixture of requests that changes with
    time, touches both alike.
    """

    name: str
    breach: str
    by: float
    paired: bool = True

    def faults(self) -> list[str]:
        """Return what is wrong with the declaration, one sentence each."""
        found = expression_faults(self.name, self.breach)
        if not 0 <= self.by < 1:
            found.append(f"{self.name}: by is {self.by}, must be at least 0 and below 1")
        if not found and self.paired and "latency_seconds" in pl.sql_expr(self.breach).meta.root_names():
            found.append(f"{self.name}: a mirror has no latency_seconds of its own; set paired=False")
        return found

    def watch(self, answers: pl.DataFrame) -> Breach:  # noqa: ARG002 - the protocol has it
        """Return nothing seen: the candidate's own answers say nothing of the champion."""
        return Breach(name=self.name, requests=0, breaches=0, allowed=self.by, log_e=0.0)

    def compare(self, answers: pl.DataFrame, mirrors: pl.DataFrame, *, candidate: Digest, champion: Digest) -> Breach:
        """Return what ``answers`` of both, in the order they were given, and ``mirrors`` say of it.

        A request that was mirrored counts when its mirror was logged.
        """
        both = flat(answers.filter(pl.col("version").is_in([candidate, champion])))
        if not both.height:  # before the first answer nobody knows its inputs and features
            return self.watch(both)
        if self.paired:
            ours, theirs = self._pairs(both, mirrors.filter(pl.col("version").is_in([candidate, champion])), candidate)
        else:
            ours, theirs = self._neighbours(both, candidate)
        differences = ours.astype(float) - theirs.astype(float)
        return Breach(
            name=self.name,
            requests=len(ours),
            breaches=int(ours.sum()),
            allowed=round(float(theirs.mean()) + self.by, 12) if len(theirs) else self.by,
            log_e=round(float(log_capital_above(differences, self.by).max()), 6) if len(differences) else 0.0,
        )

    def _pairs(self, both: pl.DataFrame, mirrors: pl.DataFrame, candidate: Digest) -> tuple[Flags, Flags]:
        other = mirrors.select("id", other_version="version", other_score="score").unique(
            ["id", "other_version"], keep="first", maintain_order=True
        )
        pairs = other.join(both, on="id", how="inner", maintain_order="left").filter(
            pl.col("other_version") != pl.col("version")
        )
        is_ours = pairs["version"].to_numpy() == candidate
        answered = breached(pairs, self.breach)
        mirrored = breached(pairs.with_columns(score="other_score"), self.breach)
        return np.where(is_ours, answered, mirrored), np.where(is_ours, mirrored, answered)

    def _neighbours(self, both: pl.DataFrame, candidate: Digest) -> tuple[Flags, Flags]:
        found, is_ours = breached(both, self.breach), both["version"].to_numpy() == candidate
        (before,) = np.nonzero(~is_ours[:-1] & is_ours[1:])
        return found[before + 1], found[before]


def watch_all(
    guardrails: Sequence[Guardrail],
    answers: pl.DataFrame,
    mirrors: pl.DataFrame,
    *,
    candidate: Digest,
    champion: Digest,
) -> tuple[list[Breach], list[str]]:
    """Return what each of ``guardrails`` saw, and which read what was not logged: those saw nothing, and are told."""
    found, unreadable = [], []
    own = answers.filter(pl.col("version") == candidate)
    for guardrail in guardrails:
        try:
            if isinstance(guardrail, ComparingGuardrail):
                found.append(guardrail.compare(answers, mirrors, candidate=candidate, champion=champion))
            else:
                found.append(guardrail.watch(own))
        except pl.exceptions.PolarsError as error:
            unreadable.append(f"guardrail {guardrail.name}: {first_line(error)}")
            found.append(Breach(name=guardrail.name, requests=0, breaches=0, allowed=0.0, log_e=0.0))
    return found, unreadable


def first_line(error: Exception) -> str:
    """Return the first line of what ``error`` says."""
    return str(error).partition("\n")[0]
