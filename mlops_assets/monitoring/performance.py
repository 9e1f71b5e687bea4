"""Whether the live champion still is as good as its evaluation said, from predictions whose outcome is known.

Belongs here: which predictions count, the estimate with its interval, the verdict. Not here: what to do about it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl

from mlops_assets.errors import EvaluationError
from mlops_assets.evaluation.comparison import estimate
from mlops_assets.evaluation.metrics import Metric
from mlops_assets.evaluation.report import Estimate
from mlops_assets.ledger.canonical import Digest, digest_of
from mlops_assets.monitoring.windows import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class LivePerformance:
    """What is promised of the live champion.

    ``label`` is a Polars SQL expression over ``outcome`` that gives the label ``metric`` compares scores with.
    Performance fell when the whole interval at ``confidence`` of live minus expected is worse than ``tolerance``. Fewer
    than ``min_rows`` matured rows or ``min_clusters`` entities say nothing. A prediction is mature when its outcome is
    known and it is older than ``maturity``: without that age, outcomes that come fast (a click) would be over-counted
    against those that come slowly (no click).
    """

    metric: Metric
    tolerance: float
    label: str = "outcome"
    confidence: float = 0.95
    min_rows: int = 100
    min_clusters: int = 20
    maturity: timedelta = timedelta(0)

    def faults(self) -> list[str]:
        """Return what is wrong with the declaration, one sentence each."""
        found = [f"performance: {fault}" for fault in self.metric.faults()]
        try:
            columns = set(pl.sql_expr(self.label).meta.root_names())
        except pl.exceptions.PolarsError as error:
            found.append(f"performance: label {self.label!r} is no Polars SQL expression: {error}")
        else:
            if columns != {"outcome"}:
                found.append(f"performance: label {self.label!r} reads {sorted(columns)}, must read just 'outcome'")
        if not self.tolerance >= 0:
            found.append(f"performance: tolerance is {self.tolerance}, must be at least 0")
        if not 0 < self.confidence < 1:
            found.append(f"performance: confidence is {self.confidence}, must lie between 0 and 1")
        if self.min_rows < 2 or self.min_clusters < 5:
            found.append(
                f"performance: min_rows is {self.min_rows} and min_clusters {self.min_clusters}, "
                "must be at least 2 and 5 for an interval to exist"
            )
        if self.maturity < timedelta(0):
            found.append(f"performance: maturity is {self.maturity}, must not be negative")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class PerformanceReport:
    """The champion's live metric against what was expected of it.

    ``gap`` is live minus expected, signed so that positive is better whatever the metric's direction; its interval
    holds the uncertainty of both. ``live`` and ``gap`` are ``None`` when there was too little to tell (``too_small``).
    """

    window: str
    version: Digest
    metric: str
    rows: int
    clusters: int
    expected: Estimate
    tolerance: float
    live: Estimate | None
    gap: Estimate | None

    @property
    def too_small(self) -> bool:
        """Whether there was too little to tell: neither well nor ill."""
        return self.gap is None

    @property
    def fell(self) -> bool:
        """Whether the interval of the gap lies wholly beyond the tolerance."""
        return self.gap is not None and self.gap.high < -self.tolerance

    @property
    def digest(self) -> Digest:
        """The digest of ``to_json()``."""
        return digest_of(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON value, numbers to six significant digits; ``from_json`` reads it back."""
        value = asdict(self) | {"fell": self.fell}
        for name in ("expected", "live", "gap"):
            if value[name] is not None:
                value[name] = {key: float(f"{number:.6g}") for key, number in value[name].items()}
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "PerformanceReport":
        """Read back what ``to_json`` wrote."""
        facts = {key: content for key, content in value.items() if key != "fell"}
        for name in ("expected", "live", "gap"):
            facts[name] = None if facts[name] is None else Estimate(**facts[name])
        return cls(**facts)


def matured(
    predictions: pl.DataFrame, window: Window, *, version: Digest, maturity: timedelta = timedelta(0)
) -> pl.DataFrame:
    """Return the last ``window.size`` matured predictions of ``version`` up to the end of ``window``.

    The rows may reach back before the window, since outcomes arrive late. Age is measured to the newest time stamp
    among those predictions and outcomes, not to the clock, so the same log gives the same rows.
    """
    seen = predictions.head(window.end)
    known = seen.filter((pl.col("version") == version) & pl.col("outcome").is_not_null())
    if maturity > timedelta(0) and not known.is_empty():
        newest = seen.select(pl.max_horizontal(pl.col("at").max(), pl.col("outcome_at").max())).item()
        known = known.filter(pl.col("at") <= newest - maturity)
    return known.tail(window.size)


def judge_performance(
    rows: pl.DataFrame, promise: LivePerformance, *, window: str, version: Digest, expected: Estimate
) -> PerformanceReport:
    """Return how matured predictions of ``version`` do against ``expected``."""
    clusters = rows["entity"].n_unique()
    live = None
    if rows.height >= promise.min_rows and clusters >= promise.min_clusters:
        live = estimate(
            rows["score"].to_numpy(),
            labels_of(rows, promise.label).to_numpy(),
            rows["entity"].cast(pl.String).to_numpy(),
            promise.metric,
            confidence=promise.confidence,
        )
    return PerformanceReport(
        window=window,
        version=version,
        metric=promise.metric.name,
        rows=rows.height,
        clusters=clusters,
        expected=expected,
        tolerance=promise.tolerance,
        live=live,
        gap=None if live is None else _gap(live, expected, higher_is_better=promise.metric.higher_is_better),
    )


def labels_of(rows: pl.DataFrame, label: str) -> pl.Series:
    """Return the label of each row; ``EvaluationError`` where the expression gives none."""
    labels = rows.select(pl.sql_expr(label).cast(pl.Float64).alias("label"))["label"]
    if labels.null_count():
        raise EvaluationError(f"performance: {label!r} is null for {labels.null_count()} of {rows.height} outcomes")
    return labels


def _gap(live: Estimate, expected: Estimate, *, higher_is_better: bool) -> Estimate:
    """Return live minus expected with an interval from both of theirs (MOVER; Zou and Donner 2008)."""
    value = live.value - expected.value
    below = float(np.hypot(live.value - live.low, expected.high - expected.value))
    above = float(np.hypot(live.high - live.value, expected.value - expected.low))
    if higher_is_better:
        return Estimate(value=value, low=value - below, high=value + above)
    return Estimate(value=-value, low=-value - above, high=-value + below)
