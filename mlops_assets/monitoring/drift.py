"""Whether a window of live inputs still looks like the data the model was trained on, and which columns moved.

Belongs here: the report, the protocol of detectors, the default detector. Not here: the tests of one column
(``shift.py``), or what to do about drift (``mlops_assets.retraining``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import polars as pl

from mlops_assets.errors import DataError
from mlops_assets.ledger.canonical import Digest, digest_of
from mlops_assets.monitoring.shift import (
    Codes,
    Sample,
    Shift,
    categorical_shift,
    cluster_codes,
    null_shift,
    numeric_shift,
)

TOO_SMALL = "too_small"


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnDrift:
    """What was found in one column. ``test`` is ``too_small`` when there were too few rows or entities to say.

    ``p_value`` accounts for the tests tried on this column, ``q_value`` for those on all columns (Benjamini–Hochberg).
    ``threshold`` is the effect from which a significant shift counts as drift.
    """

    name: str
    test: str
    statistic: float
    p_value: float
    q_value: float
    effect: float
    threshold: float
    drifted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftReport:
    """One window against one reference. ``reference`` is the digest of the rows it was compared with."""

    window: str
    rows: int
    reference: Digest
    reference_rows: int
    columns: tuple[ColumnDrift, ...]

    @property
    def drifted_columns(self) -> tuple[str, ...]:
        """The columns that moved, the largest effect first."""
        moved = [column for column in self.columns if column.drifted]
        return tuple(column.name for column in sorted(moved, key=lambda column: (-column.effect, column.name)))

    @property
    def too_small(self) -> bool:
        """Whether no column at all could be tested: such a report says nothing, neither drift nor calm."""
        return all(column.test == TOO_SMALL for column in self.columns)

    @property
    def score(self) -> float:
        """The share of the tested columns that drifted, 0 to 1."""
        tested = [column for column in self.columns if column.test != TOO_SMALL]
        return len(self.drifted_columns) / len(tested) if tested else 0.0

    @property
    def digest(self) -> Digest:
        """The digest of ``to_json()``."""
        return digest_of(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON value, numbers to six significant digits; ``from_json`` reads it back."""
        columns = [
            {key: _rounded(value) if isinstance(value, float) else value for key, value in asdict(column).items()}
            for column in self.columns
        ]
        return {
            "window": self.window,
            "rows": self.rows,
            "reference": self.reference,
            "reference_rows": self.reference_rows,
            "score": _rounded(self.score),
            "columns": columns,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "DriftReport":
        """Read back what ``to_json`` wrote."""
        facts = {key: value[key] for key in ("window", "rows", "reference", "reference_rows")}
        return cls(**facts, columns=tuple(ColumnDrift(**column) for column in value["columns"]))


class DriftDetector(Protocol):
    """Compares a window with a reference, column by column. Equal frames give equal reports."""

    def faults(self) -> list[str]:
        """Return what is wrong with the declaration, one sentence each."""

    def detect(
        self,
        reference: pl.DataFrame,
        current: pl.DataFrame,
        *,
        window: str,
        reference_digest: Digest,
        cluster: str | None = None,
    ) -> DriftReport:
        """Return what moved. All columns of ``reference`` but ``cluster`` are compared.

        ``cluster`` names the column of both frames that holds the entity whose rows depend on each other. A column
        that ``current`` lacks counts as null throughout. Raises ``DataError`` for a type that has no order or levels.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class UnivariateDrift:
    """Drift is a shift that is significant over all columns *and* large enough to matter.

    Numeric columns are compared by Kolmogorov–Smirnov, text and booleans by chi-square over levels, and the share of
    nulls apart from the values. The false-discovery rate over columns is held at ``alpha`` (Benjamini and Hochberg
    1995), so without any drift the whole report raises a false alarm with probability at most ``alpha``. Fewer than
    ``min_rows`` rows, or fewer than ``min_clusters`` effective entities, on either side are ``too_small``.
    """

    alpha: float = 0.05
    min_effect_ks: float = 0.1
    min_effect_levels: float = 0.1
    min_effect_nulls: float = 0.05
    min_rows: int = 100
    min_clusters: float = 20.0

    def faults(self) -> list[str]:
        """Return what is wrong with the declaration, one sentence each."""
        found = []
        if not 0 < self.alpha < 1:
            found.append(f"drift: alpha is {self.alpha}, must lie between 0 and 1")
        for name in ("min_effect_ks", "min_effect_levels", "min_effect_nulls"):
            if not 0 <= getattr(self, name) < 1:
                found.append(f"drift: {name} is {getattr(self, name)}, must be at least 0 and below 1")
        if self.min_rows < 20:
            found.append(f"drift: min_rows is {self.min_rows}, must be at least 20 for the tests to hold")
        if self.min_clusters < 10:
            found.append(f"drift: min_clusters is {self.min_clusters}, must be at least 10 for the tests to hold")
        return found

    def detect(
        self,
        reference: pl.DataFrame,
        current: pl.DataFrame,
        *,
        window: str,
        reference_digest: Digest,
        cluster: str | None = None,
    ) -> DriftReport:
        """Return which columns moved; see ``DriftDetector``."""
        codes = _codes(reference, current, cluster)
        names = [name for name in reference.columns if name != cluster]
        current = current.with_columns(pl.lit(None).alias(name) for name in names if name not in current.columns)
        found = [self._column(reference[name], current[name], codes) for name in names]
        return DriftReport(
            window=window,
            rows=current.height,
            reference=reference_digest,
            reference_rows=reference.height,
            columns=tuple(self._judged(names, found)),
        )

    def _column(self, reference: pl.Series, current: pl.Series, codes: Sequence[Codes | None]) -> "_Tested | None":
        """Return the test that speaks loudest for a material shift, its p-value corrected for how many were tried."""
        values = _comparable(reference, current)
        tried: list[tuple[Shift, float]] = []
        nulls = [Sample(values=side.is_null(), clusters=code) for side, code in zip(values, codes, strict=True)]
        if self._enough(nulls) and any(side.null_count() for side in values):
            tried.append((null_shift(*nulls), self.min_effect_nulls))
        present = [_present(side, code) for side, code in zip(values, codes, strict=True)]
        if self._enough(present):
            is_numeric = values[0].dtype == pl.Float64
            shift = numeric_shift(*present) if is_numeric else categorical_shift(*present)
            tried.append((shift, self.min_effect_ks if is_numeric else self.min_effect_levels))
        if not tried:
            return None
        shift, threshold = min(tried, key=lambda pair: (pair[0].effect < pair[1], pair[0].p_value, -pair[0].effect))
        return _Tested(shift, min(1.0, shift.p_value * len(tried)), threshold)

    def _enough(self, sides: Sequence[Sample]) -> bool:
        if any(len(side.values) < self.min_rows for side in sides):
            return False
        return all(side.clusters is None or side.effective_clusters >= self.min_clusters for side in sides)

    def _judged(self, names: Sequence[str], found: Sequence["_Tested | None"]) -> list[ColumnDrift]:
        q_values = iter(adjusted([tested.p_value for tested in found if tested is not None]))
        columns = []
        for name, tested in zip(names, found, strict=True):
            if tested is None:
                columns.append(_untested(name, self.min_effect_ks))
                continue
            q_value = next(q_values)
            columns.append(
                ColumnDrift(
                    name=name,
                    test=tested.shift.test,
                    statistic=tested.shift.statistic,
                    p_value=tested.p_value,
                    q_value=q_value,
                    effect=tested.shift.effect,
                    threshold=tested.threshold,
                    drifted=q_value <= self.alpha and tested.shift.effect >= tested.threshold,
                )
            )
        return columns


@dataclass(frozen=True, slots=True)
class _Tested:
    shift: Shift
    p_value: float
    threshold: float


def adjusted(p_values: Sequence[float]) -> list[float]:
    """Return Benjamini–Hochberg's q-values, in the order of the p-values.

    >>> adjusted([0.01, 0.04, 0.03])
    [0.03, 0.04, 0.04]
    """
    count = len(p_values)
    order = np.argsort(p_values, kind="stable")
    raw = np.asarray(p_values, dtype=np.float64)[order] * count / np.arange(1, count + 1)
    q_values = np.empty(count)
    q_values[order] = np.minimum(1.0, np.minimum.accumulate(raw[::-1])[::-1])
    return [float(value) for value in q_values]


def _codes(reference: pl.DataFrame, current: pl.DataFrame, cluster: str | None) -> tuple[Codes | None, Codes | None]:
    if cluster is None:
        return None, None
    for side, frame in (("reference", reference), ("window", current)):
        if cluster not in frame.columns:
            raise DataError(f"drift: the {side} has no column {cluster!r} to cluster by; it has {frame.columns}")
    return cluster_codes(reference[cluster], current[cluster])


def _comparable(reference: pl.Series, current: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Return both sides as floats if both are numeric, as text otherwise; NaN is a null."""
    for series in (reference, current):
        if series.dtype.is_nested() or series.dtype in {pl.Binary, pl.Object}:
            raise DataError(f"drift: column {reference.name!r} is {series.dtype}, which cannot be compared")
    sides = [series.to_physical() if series.dtype.is_temporal() else series for series in (reference, current)]
    typed = [series.dtype for series in sides if series.dtype != pl.Null]
    if typed and all(dtype.is_numeric() for dtype in typed):
        left, right = (series.cast(pl.Float64).fill_nan(None) for series in sides)
    else:
        left, right = (series.cast(pl.String) for series in sides)
    return left, right


def _present(values: pl.Series, codes: Codes | None) -> Sample:
    keep = values.is_not_null()
    return Sample(values=values.drop_nulls(), clusters=None if codes is None else codes[keep.to_numpy()])


def _untested(name: str, threshold: float) -> ColumnDrift:
    return ColumnDrift(
        name=name,
        test=TOO_SMALL,
        statistic=0.0,
        p_value=1.0,
        q_value=1.0,
        effect=0.0,
        threshold=threshold,
        drifted=False,
    )


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
