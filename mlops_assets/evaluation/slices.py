"""Parts of the golden set that must hold by themselves: a declared slice is a condition on golden rows.

Belongs here: slices and what is measured on each. Not here: what it is good enough for (``gates/slices_hold.py``), and
looking for slices nobody thought of (``slice_discovery.py``).
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from mlops_assets.errors import EvaluationError
from mlops_assets.evaluation.comparison import compare
from mlops_assets.evaluation.metrics import Metric
from mlops_assets.evaluation.workbench import Workbench


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """The golden rows for which ``where`` holds, a Polars SQL expression over their columns."""

    name: str
    where: str

    def faults(self) -> list[str]:
        """Return what is wrong with the declaration, one sentence each."""
        found = [] if self.name else ["a slice has no name"]
        try:
            pl.sql_expr(self.where)
        except pl.exceptions.PolarsError as error:
            found.append(f"slice {self.name!r}: {self.where!r} is no Polars SQL expression: {error}")
        return found

    def rows(self, golden: pl.DataFrame) -> npt.NDArray[np.bool_]:
        """Return which rows are in it; ``EvaluationError`` if the expression cannot be computed, null is outside."""
        try:
            found = golden.select(pl.sql_expr(self.where).cast(pl.Boolean).fill_null(value=False)).to_series()
        except pl.exceptions.PolarsError as error:
            raise EvaluationError(f"slice {self.name!r}: {self.where!r} cannot be computed: {error}") from error
        if len(found) != golden.height:
            raise EvaluationError(f"slice {self.name!r}: {self.where!r} is one value, not one per row")
        return found.to_numpy()


def compare_slice(bench: Workbench, part: Slice, metric: Metric) -> dict[str, Any]:
    """Return rows, clusters and the comparison with the champion on a slice, ``None`` where it is undefined."""
    inside = part.rows(bench.golden)
    found = None
    if bench.champion is not None and inside.any():
        ours, theirs = bench.candidate.scores[inside], bench.champion.scores[inside]
        found = compare(ours, theirs, bench.labels[inside], bench.clusters[inside], metric, confidence=bench.confidence)
    return {
        "name": part.name,
        "where": part.where,
        "rows": int(inside.sum()),
        "clusters": len(np.unique(bench.clusters[inside])),
        "comparison": asdict(found) if found else None,
    }
