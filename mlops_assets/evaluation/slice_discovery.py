"""Looking for parts of the golden set where a candidate loses, that nobody thought of.

Each value of a column, or each fifth of a numeric one, and pairs of those are tried (Chung et al., "Slice Finder:
Automated Data Slicing for Model Validation", ICDE 2019). Thousands of parts are tested, so what is named is controlled
by false discovery rate (Benjamini and Hochberg, JRSS-B 57, 1995; parts overlap, so their tests depend positively, which
is allowed: Benjamini and Yekutieli, Annals of Statistics 29, 2001). Each part has a cluster-robust t-test.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.special import stdtr

from mlops_assets.errors import EvaluationError
from mlops_assets.evaluation.metrics import Clusters, Floats, Metric
from mlops_assets.evaluation.workbench import Workbench

Codes = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovery:
    """How slices are looked for: in ``columns`` (all but keys and times, if none is named), alone and in pairs.

    A part needs ``minimum_rows``; of what is found, the ``most`` that lose most are kept.
    """

    columns: tuple[str, ...] = ()
    pairs: bool = True
    minimum_rows: int = 100
    bins: int = 5
    most: int = 10
    rate: float = 0.05

    def faults(self) -> list[str]:
        """Return what is wrong with the declaration, one sentence each."""
        found = [] if 0 < self.rate <= 0.5 else [f"discovery: rate is {self.rate}, must be above 0 and at most 0.5"]
        counts = {"minimum_rows": self.minimum_rows, "bins": self.bins - 1, "most": self.most}
        return found + [f"discovery: {name} is too small" for name, value in counts.items() if value < 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """A column cut into parts: the part of each row (-1: none), and the condition that each part stands for."""

    column: str
    codes: Codes
    conditions: tuple[str, ...]


def discover(bench: Workbench, metric: Metric, how: Discovery, *, margin: float) -> dict[str, Any]:
    """Return the slices where the candidate loses by more than ``margin``, as far as the false discovery rate allows.

    The metric's contributions by cluster give each part's loss only where they are sums over rows; for others, such as
    rankings, discovery looks at the squared error of the scores, and says so.
    """
    if bench.champion is None:
        return {"tested": 0, "metric": metric.name, "found": []}
    gains, looked_at = row_gains(bench, metric)
    parts = list(cut(bench.golden, how, leave_out=(bench.label, bench.cluster)))
    clusters = Clusters.of(bench.clusters)
    tested = [
        found for some in _families(parts, pairs=how.pairs) for found in _tested(some, gains, clusters, how, margin)
    ]
    kept = false_discoveries_controlled([found["p_value"] for found in tested], how.rate)
    worst = sorted((found for found, keep in zip(tested, kept, strict=True) if keep), key=lambda found: found["gain"])
    return {"tested": len(tested), "metric": looked_at, "found": worst[: how.most]}


def row_gains(bench: Workbench, metric: Metric) -> tuple[Floats, str]:
    """Return by how much the candidate's loss is smaller on each row, and the name of the loss."""
    if bench.champion is None:
        raise EvaluationError("there is no champion to compare with")
    rows = Clusters.of(np.arange(len(bench.labels)))
    tables = [metric.contributions(s, bench.labels, rows) for s in (bench.candidate.scores, bench.champion.scores)]
    if metric.is_row_mean and tables[0] is not None and tables[1] is not None:
        sign = 1.0 if metric.higher_is_better else -1.0
        return sign * (tables[0][:, 0] - tables[1][:, 0]), metric.name
    ours, theirs = (np.square(m.scores - bench.labels) for m in (bench.candidate, bench.champion))
    return theirs - ours, "squared error"


def cut(golden: pl.DataFrame, how: Discovery, *, leave_out: Sequence[str]) -> Iterator[Parts]:
    """Yield the columns that can be cut: text, booleans and few numbers by value, other numbers by quantile."""
    for name in how.columns or [name for name in golden.columns if name not in leave_out]:
        if name not in golden.columns:
            raise EvaluationError(f"discovery: there is no column {name!r} among {golden.columns}")
        column = golden[name]
        few = column.n_unique() <= how.bins * 4
        if column.dtype.is_numeric() and not few:
            yield _by_quantile(column, how.bins)
        elif few and (column.dtype.is_numeric() or column.dtype in {pl.String, pl.Boolean, pl.Categorical}):
            yield _by_value(column)


def _by_value(column: pl.Series) -> Parts:
    values = column.drop_nulls().unique().sort()
    codes = column.replace_strict(values, pl.Series(range(len(values)), dtype=pl.Int64), default=None)
    conditions = [_equals(column.name, value) for value in values]
    if column.null_count():
        codes = codes.fill_null(len(conditions))
        conditions.append(f"{_quoted(column.name)} IS NULL")
    return Parts(column=column.name, codes=codes.fill_null(-1).to_numpy(), conditions=tuple(conditions))


def _by_quantile(column: pl.Series, bins: int) -> Parts:
    values = column.cast(pl.Float64).to_numpy()
    known = np.isfinite(values)
    edges = np.unique(np.quantile(values[known], np.arange(1, bins) / bins)) if known.any() else np.array([])
    codes = np.where(known, np.searchsorted(edges, values, side="left"), len(edges) + 1)
    ends = [None, *(float(edge) for edge in edges), None]
    conditions = [_between(column.name, low, high) for low, high in pairwise(ends)]
    return Parts(column=column.name, codes=codes, conditions=(*conditions, f"{_quoted(column.name)} IS NULL"))


def _families(parts: Sequence[Parts], *, pairs: bool) -> Iterator[Parts]:
    yield from parts
    for one, other in combinations(parts, 2) if pairs else ():
        width = len(other.conditions)
        both = np.where((one.codes >= 0) & (other.codes >= 0), one.codes * width + other.codes, -1)
        conditions = tuple(f"{a} AND {b}" for a in one.conditions for b in other.conditions)
        yield Parts(column=f"{one.column}, {other.column}", codes=both, conditions=conditions)


def _tested(
    parts: Parts, gains: Floats, clusters: Clusters, how: Discovery, margin: float
) -> Iterator[Mapping[str, Any]]:
    """Yield each part that is large enough with its mean gain and the p-value of "it loses no more than the margin"."""
    width = len(parts.conditions)
    inside = parts.codes >= 0
    if not inside.all():
        parts, gains = replace(parts, codes=parts.codes[inside]), gains[inside]
        owner = clusters.codes[inside]
    else:
        owner = clusters.codes
    rows = np.bincount(parts.codes, minlength=width)
    means = np.bincount(parts.codes, gains, width) / np.maximum(rows, 1)
    cells = _by_part_and_cluster(parts.codes, owner, gains, width, clusters.count)
    squares = np.square(cells.gains - means[cells.parts] * cells.rows)
    count = np.bincount(cells.parts, minlength=width)
    spread = np.bincount(cells.parts, squares, width) * count / np.maximum(count - 1, 1)
    for part in np.flatnonzero((rows >= how.minimum_rows) & (count >= 5)):
        error = float(np.sqrt(spread[part])) / rows[part]
        reached = (means[part] + margin) / error if error else np.sign(means[part] + margin) * 1e9
        yield {
            "where": parts.conditions[part],
            "rows": int(rows[part]),
            "clusters": int(count[part]),
            "gain": float(means[part]),
            "standard_error": error,
            "p_value": float(stdtr(count[part] - 1, reached)),
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cells:
    """Rows and summed gains of each pair of part and cluster that has a row."""

    parts: Codes
    rows: Floats
    gains: Floats


def _by_part_and_cluster(codes: Codes, owner: Codes, gains: Floats, width: int, clusters: int) -> Cells:
    """Return the cells; counted in a table where that is not much larger than the rows, else sorted."""
    keys = codes * clusters + owner
    if width * clusters <= 8 * len(keys):
        rows = np.bincount(keys, minlength=width * clusters)
        used = np.flatnonzero(rows)
        summed: Floats = np.bincount(keys, gains, width * clusters).astype(np.float64)
        return Cells(parts=used // clusters, rows=rows[used].astype(np.float64), gains=summed[used])
    used, place = np.unique(keys, return_inverse=True)
    sums: Floats = np.bincount(place, gains).astype(np.float64)
    return Cells(parts=used // clusters, rows=np.bincount(place).astype(np.float64), gains=sums)


def false_discoveries_controlled(p_values: Sequence[float], rate: float) -> list[bool]:
    """Return which hypotheses Benjamini and Hochberg's step-up rejects at ``rate``.

    >>> false_discoveries_controlled([0.2, 0.011, 0.02], 0.05)
    [False, True, True]
    """
    order = np.argsort(p_values, kind="stable")
    below = np.flatnonzero(np.asarray(p_values)[order] <= rate * np.arange(1, len(order) + 1) / max(1, len(order)))
    last = below[-1] + 1 if len(below) else 0
    rejected = np.zeros(len(order), dtype=bool)
    rejected[order[:last]] = True
    return [bool(each) for each in rejected]


def _equals(name: str, value: Any) -> str:
    if isinstance(value, str):
        escaped = value.replace("'", "''")
        return f"{_quoted(name)} = '{escaped}'"
    return f"{_quoted(name)} = {str(value).upper() if isinstance(value, bool) else repr(value)}"


def _between(name: str, low: float | None, high: float | None) -> str:
    above = "" if low is None else f"{_quoted(name)} > {low!r}"
    below = "" if high is None else f"{_quoted(name)} <= {high!r}"
    return " AND ".join(part for part in (above, below) if part) or f"{_quoted(name)} IS NOT NULL"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
