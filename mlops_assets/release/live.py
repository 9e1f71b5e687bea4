"""Live analysis: is the candidate safe to give more traffic, judged at every look.

While a rollout runs, every request is scored by both versions, so each gives a *paired* difference of losses. Requests
of one entity belong together, so the unit is the entity: the mean gain over its first ``outcomes_per_unit`` outcomes,
clipped to ±``bound``. Bets run over the units in the order they became complete, from the rollout's beginning:

* harm: against "the candidate is not worse" (mean gain ≥ 0); won, the verdict is ``FAILED``;
* safety: against "it is worse by ``margin`` or more" (mean gain ≤ −margin), or, where it must be ``better``, against
  "it is no better" (mean gain ≤ 0); won, the verdict is ``PASSED``;
* in each of ``segments``: against "it loses less than ``margin`` here"; won, the verdict is ``FAILED``;
* for each of ``guardrails``: against "it holds"; won, the verdict is ``FAILED``;
* against "it fails to answer at most a share of ``failures``"; won, the verdict is ``FAILED`` (``failing.py``).

The bets that fail a candidate share ``alpha`` evenly, so that a good one is stopped at rate ``alpha`` at most by all of
them together (the last one, on failures, adds a thousandth of its own); safety is wrong at rate ``alpha`` at most; both
however often one looks (``betting.py``). Harm that was proved stays proved, so the answer does not hang on when one
looked; safety must hold now. The claims are about the mean of clipped gains of entities that give outcomes: a narrow
``bound`` hides rare disasters. Where traffic is not shared as planned (``sample_ratio.py``), nothing passes. After
``give_up_after`` without a verdict the rollout ends: doubt does not promote, and does not stay for ever.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Protocol

import numpy as np
import polars as pl

from mlops_assets.gates.gate import Verdict
from mlops_assets.ledger.canonical import Digest, digest_of
from mlops_assets.release.betting import Floats, confidence_sequence, log_capital_above, log_capital_below
from mlops_assets.release.comparing import first_line, watch_all
from mlops_assets.release.failing import FAILURE_ALPHA, FAILURES, as_drawn, drawn, failures, with_failures
from mlops_assets.release.guardrails import Breach, Guardrail, expression_faults, first_breached, flat
from mlops_assets.release.latency import LatencySequence, latency_sequences
from mlops_assets.release.live_units import LOSSES, matured, paired_gains, units_of
from mlops_assets.release.live_verdict import LiveVerdict, Segment
from mlops_assets.release.sample_ratio import SampleRatio, Share, sample_ratio

RATIO_ALPHA = 0.001
"""The error rate of a sample-ratio mismatch: a false alarm holds a rollout up, so it must be rare."""

SERIES_POINTS = 400


class LiveEvidence(Protocol):
    """Where served requests can be read; the prediction log is one."""

    def predictions(self, product: str) -> pl.DataFrame:
        """Return the answers, with their outcomes where known."""

    def mirrors(self, product: str) -> pl.DataFrame:
        """Return what other versions would have answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveAnalysis:
    """How a candidate is judged on live traffic.

    ``label`` is a Polars SQL expression over ``outcome``. A step passes only after ``minimum_units`` entities became
    complete since it began, so that each share of traffic is really tried. With ``matured_after`` only predictions that
    old count, with the outcome that came in that time, or ``silent_outcome`` where none did. ``segments`` are Polars
    SQL conditions over inputs and features. A ``dry_run`` is shown and decides nothing.
    """

    metric: str = "brier"
    label: str = "outcome"
    margin: float = 0.02
    bound: float = 0.25
    alpha: float = 0.05
    outcomes_per_unit: int = 20
    minimum_units: int = 5
    promise: Literal["not_worse", "better"] = "not_worse"
    matured_after: timedelta | None = None
    silent_outcome: float | None = None
    give_up_after: timedelta | None = None
    guardrails: tuple[Guardrail, ...] = ()
    failures: float = 0.01
    segments: tuple[str, ...] = ()
    settle: timedelta = timedelta(seconds=30)
    latency_quantiles: tuple[float, ...] = (0.5, 0.99)
    dry_run: bool = False

    @property
    def harm_alpha(self) -> float:
        """The error rate of each bet that fails a candidate: they share ``alpha``."""
        return self.alpha / (1 + len(self.guardrails) + len(self.segments))

    def faults(self) -> list[str]:
        """Return what is wrong with the declaration, one sentence each."""
        found = _label_faults(self.label)
        if self.metric not in LOSSES:
            found.append(f"metric {self.metric!r} has no loss per request; known: {sorted(LOSSES)}")
        if not 0 < self.margin < self.bound < np.inf:
            found.append(f"margin must lie between 0 and bound, found margin={self.margin}, bound={self.bound}")
        if not 0 < self.alpha <= 0.5:
            found.append(f"alpha must lie between 0 and 0.5, found {self.alpha}")
        if not 0 < self.failures < 1:
            found.append(f"failures must lie between 0 and 1, found {self.failures}")
        if self.outcomes_per_unit < 1 or self.minimum_units < 1:
            found.append("outcomes_per_unit and minimum_units must be at least 1")
        return found + self._faults_of_parts()

    def _faults_of_parts(self) -> list[str]:
        found = [fault for guardrail in self.guardrails for fault in guardrail.faults()]
        names = [FAILURES, *(guardrail.name for guardrail in self.guardrails)]
        found += [
            f"the guardrail {name!r} is declared twice" for name in sorted({n for n in names if names.count(n) > 1})
        ]
        found += [fault for where in self.segments for fault in expression_faults("segment", where)]
        for name in ("matured_after", "give_up_after"):
            value: timedelta | None = getattr(self, name)
            if value is not None and value <= timedelta(0):
                found.append(f"{name} must be positive, found {value}")
        if self.silent_outcome is not None and self.matured_after is None:
            found.append("silent_outcome needs matured_after: without it nobody knows when silence is an answer")
        if any(not 0 < quantile < 1 for quantile in self.latency_quantiles):
            found.append(f"latency_quantiles must lie between 0 and 1, found {self.latency_quantiles}")
        if self.promise not in {"not_worse", "better"}:
            found.append(f"promise is {self.promise!r}, must be 'not_worse' or 'better'")
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
        now: datetime | None = None,
        shares: Sequence[Share] = (),
    ) -> LiveVerdict:
        """Return the verdict on all that was served ``since`` the rollout began, looked at ``now``.

        ``shares`` say since when the candidate has had which share of traffic.
        """
        now = now or datetime.now(UTC)
        answers = drawn(evidence.predictions(product).filter(pl.col("at") >= since))
        ripe = matured(answers, after=self.matured_after, silent_outcome=self.silent_outcome, now=now)
        both = {"candidate": candidate, "champion": champion}
        mirrors = with_failures(evidence.mirrors(product), answers, candidate)
        gains = paired_gains(ripe, mirrors, metric=self.metric, label=self.label, **both)
        units = units_of(gains, self.outcomes_per_unit)
        breaches, unreadable = watch_all(self.guardrails, answers, mirrors, **both)
        found = self.judge(
            units["gain"].to_numpy(),
            exposed=as_drawn(answers).filter(pl.col("version") == candidate).height,
            fresh=units.filter(pl.col("complete_at") >= step_began).height,
            breaches=[failures(answers, candidate, self.failures), *breaches],
            segments=self._segments(answers, gains, unreadable),
            unreadable=unreadable,
            ratio=sample_ratio(as_drawn(answers), shares, settle=self.settle, **both) if shares else None,
            latency=latency_sequences(answers, self.latency_quantiles, self.alpha, **both),
        )
        return self._in_time(found, since, now)

    def judge(
        self,
        gains: Floats,
        *,
        exposed: int = 0,
        fresh: int | None = None,
        breaches: Sequence[Breach] = (),
        segments: Sequence[Segment] = (),
        ratio: SampleRatio | None = None,
        latency: Sequence[LatencySequence] = (),
        unreadable: Sequence[str] = (),
    ) -> LiveVerdict:
        """Return the verdict on the units' mean ``gains``, in the order of their completion, and on all else seen.

        ``fresh`` is how many of them became complete in the present step; all by default.
        """
        clipped = np.clip(np.asarray(gains, dtype=float), -self.bound, self.bound)
        if np.isnan(clipped).any():
            raise ValueError("a unit's gain is no number; nothing can be said of it")
        values = np.round(clipped / self.bound, 6)  # as the ledger keeps them, so that a replay sees the same
        count = len(values) if fresh is None else fresh
        harmed = log_capital_below(values, 0.0)
        harm = float(harmed.max()) if len(values) else 0.0
        proved = log_capital_above(values, 0.0 if self.promise == "better" else -self.margin / self.bound)
        safe = float(proved[-1]) if len(values) else 0.0
        verdict, reason = self._decide(len(values), harm, safe, count, breaches, segments, ratio)
        if unreadable and verdict is Verdict.PASSED:
            verdict, reason = Verdict.INCONCLUSIVE, f"not all could be looked at: {'; '.join(unreadable)}"
        series = self._series(values)
        _, gain, low, high = series[-1] if series else (0, 0.0, -self.bound, self.bound)
        told = f"{reason} (gain {gain:+.4f} in [{low:+.4f}, {high:+.4f}], {len(values)} entities)"
        return LiveVerdict(
            verdict=Verdict.INCONCLUSIVE if self.dry_run else verdict,
            reason=f"dry run, would be {verdict.value}: {told}" if self.dry_run else told if len(values) else reason,
            units=len(values),
            exposed_requests=exposed,
            gain=gain,
            low=low,
            high=high,
            log_e_harm=round(harm, 6),
            log_e_safe=round(safe, 6),
            values=digest_of([float(value) for value in values]),
            series=series,
            gains=tuple(float(value) for value in values),
            fresh=count,
            breaches=tuple(breaches),
            segments=tuple(segments),
            ratio=ratio,
            would_be=verdict.value if self.dry_run else None,
            decided_at={
                Verdict.FAILED: _first(harmed, self.harm_alpha),
                Verdict.PASSED: _first(proved, self.alpha),
            }.get(verdict),
            latency=tuple(latency),
            unreadable=tuple(unreadable),
        )

    def replay(self, evidence: Mapping[str, Any]) -> LiveVerdict:
        """Return the verdict on evidence as ``LiveVerdict.to_json`` wrote it: the same as it was then."""
        ratio = evidence["sample_ratio"]
        found = self.judge(
            np.array(evidence["gains"]) * self.bound,
            exposed=evidence["exposed_requests"],
            fresh=evidence["fresh"],
            breaches=[Breach(**breach) for breach in evidence["guardrails"]],
            segments=[Segment(**segment) for segment in evidence["segments"]],
            ratio=SampleRatio(**ratio) if ratio else None,
            unreadable=evidence["unreadable"],
            latency=[LatencySequence.from_json(sequence) for sequence in evidence["latency"]],
        )
        return self._given_up(found) if evidence["gave_up"] else found

    def _decide(
        self,
        units: int,
        harm: float,
        safe: float,
        fresh: int,
        breaches: Sequence[Breach],
        segments: Sequence[Segment],
        ratio: SampleRatio | None,
    ) -> tuple[Verdict, str]:
        if harmed := self._harm(harm, breaches, segments):
            return Verdict.FAILED, harmed
        if ratio is not None and ratio.is_mismatch(RATIO_ALPHA):
            shared = (
                f"{ratio.candidate} of {ratio.entities} entities came to the candidate, expected {ratio.expected:.0f}"
            )
            return Verdict.INCONCLUSIVE, f"traffic is not shared as planned: {shared}; look at the router"
        if not units:
            return Verdict.INCONCLUSIVE, f"no entity has {self.outcomes_per_unit} outcomes yet"
        better = self.promise == "better"
        if safe < np.log(1 / self.alpha):
            wanted = "better than" if better else f"within {self.margin} of"
            return Verdict.INCONCLUSIVE, f"not yet known whether {self.metric} is {wanted} the champion's"
        if fresh < self.minimum_units:
            return Verdict.INCONCLUSIVE, f"safe so far, but only {fresh} of {self.minimum_units} entities in this step"
        return Verdict.PASSED, f"better on {self.metric}" if better else f"not worse on {self.metric} by {self.margin}"

    def _harm(self, harm: float, breaches: Sequence[Breach], segments: Sequence[Segment]) -> str | None:
        needed = np.log(1 / self.harm_alpha)
        if harm >= needed:
            return f"worse on {self.metric}"
        if breach := first_breached(breaches, {FAILURES: FAILURE_ALPHA}, self.harm_alpha):
            return f"{breach.name}: {breach.breaches} of {breach.requests} requests, allowed {breach.allowed:.3g}"
        lost = next((segment for segment in segments if segment.log_e >= needed), None)
        return f"worse on {self.metric} by {self.margin} where {lost.where}" if lost else None

    def _segments(self, answers: pl.DataFrame, gains: pl.DataFrame, unreadable: list[str]) -> list[Segment]:
        if not self.segments:
            return []
        columns = flat(answers)
        return [self._segment(columns, gains, where, unreadable) for where in self.segments]

    def _segment(self, columns: pl.DataFrame, gains: pl.DataFrame, where: str, unreadable: list[str]) -> Segment:
        inside = columns.select("id").clear()
        try:
            if columns.height:  # before the first answer nobody knows its inputs and features
                inside = columns.filter(pl.sql_expr(where).cast(pl.Boolean).fill_null(value=False)).select("id")
        except pl.exceptions.PolarsError as error:
            unreadable.append(f"segment {where}: {first_line(error)}")
        units = units_of(gains.join(inside, on="id", how="semi"), self.outcomes_per_unit)["gain"].to_numpy()
        values = np.clip(units, -self.bound, self.bound) / self.bound
        lost = float(log_capital_below(values, -self.margin / self.bound).max()) if len(values) else 0.0
        gain = round(float(values.mean()) * self.bound, 6) if len(values) else 0.0
        low, high = confidence_sequence(values, self.harm_alpha)
        return Segment(
            where=where,
            units=len(values),
            gain=gain,
            low=round(float(low[-1] if len(values) else -1.0) * self.bound, 6),
            high=round(float(high[-1] if len(values) else 1.0) * self.bound, 6),
            log_e=round(lost, 6),
        )

    def _series(self, values: Floats) -> tuple[tuple[float, ...], ...]:
        """Return (units, gain, low, high) at up to a few hundred looks, the last among them."""
        if not len(values):
            return ()
        low, high = confidence_sequence(values, self.alpha)
        means = np.cumsum(values) / np.arange(1, len(values) + 1)
        shown = np.unique(np.linspace(0, len(values) - 1, min(len(values), SERIES_POINTS)).astype(int))
        return tuple((int(n) + 1, *(round(float(x[n]) * self.bound, 6) for x in (means, low, high))) for n in shown)

    def _in_time(self, found: LiveVerdict, since: datetime, now: datetime) -> LiveVerdict:
        waits = found.verdict is Verdict.INCONCLUSIVE and not self.dry_run
        if not waits or self.give_up_after is None or now - since < self.give_up_after:
            return found
        return self._given_up(found)

    def _given_up(self, found: LiveVerdict) -> LiveVerdict:
        return replace(found, gave_up=True, reason=f"gave up after {self.give_up_after}: {found.reason}")


def _first(log_capital: Floats, alpha: float) -> int | None:
    """Return after how many units the bet was won for the first time."""
    won = log_capital >= np.log(1 / alpha)
    return int(won.argmax()) + 1 if won.any() else None


def _label_faults(label: str) -> list[str]:
    try:
        columns = sorted(set(pl.sql_expr(label).meta.root_names()))
    except pl.exceptions.PolarsError as error:
        return [f"label {label!r} is no Polars SQL expression: {error}"]
    return [] if columns == ["outcome"] else [f"label {label!r} reads {columns}, must read just 'outcome'"]
