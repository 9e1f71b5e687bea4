"""Guardrails: what must not break while a candidate is tried, apart from what it is meant to be better at.

Each is a bet against "it holds", on the candidate's own answers in the order they were given: won, the rollout fails.
The claim is that at every request, given those before, the chance of a breach is at most the declared rate; then the
bet wins with probability alpha at most, however often one looks (``betting.py``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import polars as pl

from mlops_assets.ledger.canonical import Digest
from mlops_assets.release.betting import log_capital_rate_above


@dataclass(frozen=True, slots=True, kw_only=True)
class Breach:
    """What a guardrail saw: of ``requests``, how many breached it, and the log capital of the bet against it."""

    name: str
    requests: int
    breaches: int
    allowed: float
    log_e: float

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON value."""
        names = ("name", "requests", "breaches", "allowed", "log_e")
        return {name: getattr(self, name) for name in names}


class Guardrail(Protocol):
    """Something that must hold for the candidate's answers."""

    @property
    def name(self) -> str:
        """A name, unique within an analysis."""

    def faults(self) -> list[str]:
        """Return what is wrong with the declaration, one sentence each."""

    def watch(self, answers: pl.DataFrame) -> Breach:
        """Return what the candidate's ``answers``, in the order they were given, say of it."""


@runtime_checkable
class ComparingGuardrail(Guardrail, Protocol):
    """A guardrail that asks what the champion did as well; it is asked to compare instead of to watch."""

    def compare(self, answers: pl.DataFrame, mirrors: pl.DataFrame, *, candidate: Digest, champion: Digest) -> Breach:
        """Return what the ``answers`` of both versions, in the order they were given, and ``mirrors`` say of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyAtMost:
    """At most a share of ``1 - quantile`` of answers may take longer than ``seconds``: the quantile lies below it.

    After Howard and Ramdas, "Sequential Estimation of Quantiles with Applications to A/B Testing and Best-Arm
    Identification", Bernoulli 28 (2022), sec. 1: a bound on a quantile is a bound on the mean of an indicator.
    """

    seconds: float
    quantile: float = 0.99

    @property
    def name(self) -> str:
        """The quantile's name."""
        return f"latency_p{self.quantile * 100:g}"

    def faults(self) -> list[str]:
        """Return what is wrong with the declaration, one sentence each."""
        found = [] if self.seconds > 0 else [f"{self.name}: seconds is {self.seconds}, must be above 0"]
        return found if 0 < self.quantile < 1 else [*found, f"{self.name}: quantile must lie between 0 and 1"]

    def watch(self, answers: pl.DataFrame) -> Breach:
        """Bet against "at most a share of 1 - quantile takes longer"."""
        slow = answers["latency_seconds"].fill_null(float("inf")).to_numpy() > self.seconds
        return breach_of(self.name, slow, 1 - self.quantile)


@dataclass(frozen=True, slots=True, kw_only=True)
class RateAtMost:
    """At most a share of ``rate`` of answers may be such that ``breach`` holds.

    ``breach`` is a Polars SQL expression over ``score``, ``latency_seconds``, the features and the inputs, as logged.
    Where it is unknown, because a value is null or no number, it is a breach.
    """

    name: str
    breach: str
    rate: float

    def faults(self) -> list[str]:
        """Return what is wrong with the declaration, one sentence each."""
        found = [] if 0 < self.rate < 1 else [f"{self.name}: rate is {self.rate}, must lie between 0 and 1"]
        return [*found, *expression_faults(self.name, self.breach)]

    def watch(self, answers: pl.DataFrame) -> Breach:
        """Bet against "at most that share is a breach"."""
        if not answers.height:  # before the first answer nobody knows its inputs and features
            return breach_of(self.name, [], self.rate)
        return breach_of(self.name, breached(flat(answers), self.breach), self.rate)


def breached(answers: pl.DataFrame, breach: str) -> npt.NDArray[np.bool_]:
    """Return of each of ``answers``, made ``flat``, whether the expression holds; where it is unknown, it does."""
    known = answers.with_columns(pl.selectors.float().fill_nan(None))
    return np.asarray(known.select(pl.sql_expr(breach).cast(pl.Boolean).fill_null(value=True)).to_series().to_numpy())


def expression_faults(name: str, expression: str) -> list[str]:
    """Return what is wrong with a Polars SQL expression, as far as it can be told without columns."""
    try:
        pl.sql_expr(expression)
    except pl.exceptions.PolarsError as error:
        return [f"{name}: {expression!r} is no Polars SQL expression: {error}"]
    return []


def flat(answers: pl.DataFrame) -> pl.DataFrame:
    """Return answers with features and inputs as columns; a feature goes before an input of its name."""
    structs = [answers.get_column(part).struct.unnest() for part in ("features", "inputs") if part in answers.columns]
    found = answers.drop("features", "inputs", strict=False)
    for part in structs:
        found = found.with_columns(part.select(name for name in part.columns if name not in found.columns))
    return found


def first_breached(breaches: Sequence[Breach], alphas: Mapping[str, float], alpha: float) -> Breach | None:
    """Return the first guardrail that the evidence has broken, at its own of ``alphas`` or at ``alpha``, if any."""
    return next((breach for breach in breaches if breach.log_e >= log(1 / alphas.get(breach.name, alpha))), None)


def breach_of(name: str, happened: Any, allowed: float) -> Breach:
    """Return the bet against "at most a share of ``allowed`` is a breach", given which of the requests were one."""
    values = np.asarray(happened, dtype=np.bool_)
    best = float(log_capital_rate_above(values, allowed).max()) if len(values) else 0.0
    return Breach(
        name=name, requests=len(values), breaches=int(values.sum()), allowed=round(allowed, 12), log_e=round(best, 6)
    )
