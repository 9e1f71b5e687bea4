"""Live analysis: is the candidate safe to give more traffic, judged at every look.

While a rollout runs, every request is scored by both versions, so each gives a *paired* difference of losses. Requests
of one entity belong together, so the unit is the entity: the mean gain over its first ``outcomes_per_unit`` outcomes,
clipped to ±``bound``. Two bets run over the units in the order they became complete, from the rollout's beginning:

* harm: against "the candidate is not worse" (mean gain ≥ 0); won, the verdict is ``FAILED``;
* safety: against "it is worse by ``margin`` or more" (mean gain ≤ −margin); won, the verdict is ``PASSED``.

Each is wrong with probability ``alpha`` at most, however often one looks (``betting.py``). Harm that was proved stays
proved, so the answer does not hang on when one looked; safety must hold now. The claim is about the mean of clipped
gains of entities that give outcomes: a narrow ``bound`` hides rare disasters.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import numpy as np
import polars as pl

from mlops_assets.gates.gate import Verdict
from mlops_assets.ledger.canonical import Digest, digest_of
from mlops_assets.release.betting import Floats, confidence_sequence, log_capital_above, log_capital_below

_SQUARED_ERROR = (pl.col("score") - pl.col("label")) ** 2
LOSSES = {
    "brier": _SQUARED_ERROR,
    "squared_error": _SQUARED_ERROR,
    "absolute_error": (pl.col("score") - pl.col("label")).abs(),
}


class LiveEvidence(Protocol):
    """Where served requests can be read; the prediction log is one."""

    def predictions(self, product: str) -> pl.DataFrame:
        """Return the answers, with their outcomes where known."""

    def mirrors(self, product: str) -> pl.DataFrame:
        """Return what other versions would have answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveVerdict:
    """What the analysis found. Gains are in units of the loss, positive is better; ``series`` has a point a unit."""

    verdict: Verdict
    reason: str
    units: int
    exposed_requests: int
    gain: float
    low: float
    high: float
    log_e_harm: float
    log_e_safe: float
    values: Digest
    series: tuple[tuple[float, ...], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the evidence as a JSON value; the series as (units, gain, low, high)."""
        return {
            "units": self.units,
            "exposed_requests": self.exposed_requests,
            "gain": self.gain,
            "low": self.low,
            "high": self.high,
            "log_e_harm": self.log_e_harm,
            "log_e_safe": self.log_e_safe,
            "values": self.values,
            "series": [list(point) for point in self.series],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveAnalysis:
    """How a candidate is judged on live traffic.

    ``label`` is a Polars SQL expression over ``outcome``. A step passes only after ``minimum_units`` entities became
    complete since it began, so that each share of traffic is really tried.
    """

    metric: str = "brier"
    label: str = "outcome"
    margin: float = 0.02
    bound: float = 0.25
    alpha: float = 0.05
    outcomes_per_unit: int = 20
    minimum_units: int = 5

    def faults(self) -> list[str]:
        """Return what is wrong with the declaration, one sentence each."""
        found = _label_faults(self.label)
        if self.metric not in LOSSES:
            found.append(f"metric {self.metric!r} has no loss per request; known: {sorted(LOSSES)}")
        if not 0 < self.margin < self.bound < np.inf:
            found.append(f"margin must lie between 0 and bound, found margin={self.margin}, bound={self.bound}")
        if not 0 < self.alpha <= 0.5:
            found.append(f"alpha must lie between 0 and 0.5, found {self.alpha}")
        if self.outcomes_per_unit < 1 or self.minimum_units < 1:
            found.append("outcomes_per_unit and minimum_units must be at least 1")
        return found

    def analyse(
        self,
        evidence: LiveEvidence,
        product: str,
        *,
        candidate: Digest,
        champion: Digest,
        since: datetime,
        step_began: datetime,
    ) -> LiveVerdict:
        """Return the verdict on all that was served ``since`` the rollout began."""
        answers = evidence.predictions(product).filter(pl.col("at") >= since)
        gains = self._paired_gains(answers, evidence.mirrors(product), candidate, champion)
        units = self._units(gains)
        exposed = answers.filter(pl.col("version") == candidate).height
        fresh = units.filter(pl.col("complete_at") >= step_began).height
        return self.judge(units["gain"].to_numpy(), exposed=exposed, fresh=fresh)

    def judge(self, gains: Floats, *, exposed: int = 0, fresh: int | None = None) -> LiveVerdict:
        """Return the verdict on the units' mean ``gains``, in the order of their completion.

        ``fresh`` is how many of them became complete in the present step; all by default.
        """
        values = np.clip(np.asarray(gains, dtype=float), -self.bound, self.bound) / self.bound
        if np.isnan(values).any():
            raise ValueError("a unit's gain is no number; nothing can be said of it")
        if not len(values):
            reason = f"no entity has {self.outcomes_per_unit} outcomes yet"
            none = digest_of([])
            return LiveVerdict(
                verdict=Verdict.INCONCLUSIVE, reason=reason, units=0, exposed_requests=exposed, gain=0.0,
                low=-self.bound, high=self.bound, log_e_harm=0.0, log_e_safe=0.0, values=none,
            )  # fmt: skip
        harm = log_capital_below(values, 0.0).max()
        safe = log_capital_above(values, -self.margin / self.bound)[-1]
        low, high = confidence_sequence(values, self.alpha)
        means = np.cumsum(values) / np.arange(1, len(values) + 1)
        series = tuple(
            (n + 1, *(round(float(x[n]) * self.bound, 6) for x in (means, low, high))) for n in range(len(values))
        )
        verdict, reason = self._decide(harm, safe, len(values) if fresh is None else fresh)
        _, gain, lowest, highest = series[-1]
        return LiveVerdict(
            verdict=verdict,
            reason=f"{reason} (gain {gain:+.4f} in [{lowest:+.4f}, {highest:+.4f}], {len(values)} entities)",
            units=len(values),
            exposed_requests=exposed,
            gain=gain,
            low=lowest,
            high=highest,
            log_e_harm=round(float(harm), 6),
            log_e_safe=round(float(safe), 6),
            values=digest_of([round(float(value), 12) for value in values]),
            series=series,
        )

    def _decide(self, harm: float, safe: float, fresh: int) -> tuple[Verdict, str]:
        needed = np.log(1 / self.alpha)
        if harm >= needed:
            return Verdict.FAILED, f"worse on {self.metric}"
        if safe < needed:
            return (
                Verdict.INCONCLUSIVE,
                f"not yet known whether {self.metric} is within {self.margin} of the champion's",
            )
        if fresh < self.minimum_units:
            return Verdict.INCONCLUSIVE, f"safe so far, but only {fresh} of {self.minimum_units} entities in this step"
        return Verdict.PASSED, f"not worse on {self.metric} by {self.margin}"

    def _paired_gains(
        self, answers: pl.DataFrame, mirrors: pl.DataFrame, candidate: Digest, champion: Digest
    ) -> pl.DataFrame:
        """Return (id, entity, outcome_at, gain) of each request that both versions scored, its outcome known.

        A candidate's score that is no number has lost without limit; a champion's says nothing.
        """
        known = answers.filter(pl.col("outcome").is_not_null(), pl.col("version").is_in([candidate, champion]))
        scores = pl.concat([known.select("id", "version", "score"), mirrors.select("id", "version", "score")])
        label = pl.sql_expr(self.label).cast(pl.Float64).alias("label")
        labelled = known.select("id", "entity", "outcome_at", label).filter(pl.col("label").is_finite())
        losses = labelled.join(scores.unique(["id", "version"], keep="first"), on="id", how="inner").select(
            "id", "entity", "outcome_at", "version", LOSSES[self.metric].alias("loss")
        )
        ours = losses.filter(pl.col("version") == candidate)
        theirs = losses.filter(pl.col("version") == champion).select("id", pl.col("loss").alias("champion_loss"))
        both = ours.join(theirs.filter(pl.col("champion_loss").is_finite()), on="id", how="inner")
        gain = pl.col("champion_loss") - pl.col("loss")
        counted = pl.when(pl.col("loss").is_finite()).then(gain).otherwise(float("-inf"))
        return both.select("id", "entity", "outcome_at", gain=counted)

    def _units(self, gains: pl.DataFrame) -> pl.DataFrame:
        """Return one row (entity, complete_at, gain) per entity with enough outcomes, in the order of completion."""
        return (
            gains.sort("outcome_at", "id")
            .group_by("entity", maintain_order=True)
            .head(self.outcomes_per_unit)
            .group_by("entity", maintain_order=True)
            .agg(pl.len().alias("outcomes"), pl.col("outcome_at").max().alias("complete_at"), pl.col("gain").mean())
            .filter(pl.col("outcomes") == self.outcomes_per_unit)
            .sort("complete_at", "entity")
        )


def _label_faults(label: str) -> list[str]:
    try:
        columns = sorted(set(pl.sql_expr(label).meta.root_names()))
    except pl.exceptions.PolarsError as error:
        return [f"label {label!r} is no Polars SQL expression: {error}"]
    return [] if columns == ["outcome"] else [f"label {label!r} reads {columns}, must read just 'outcome'"]
