"""A gate for equal treatment: no group may fare much otherwise than another."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import permutations
from math import isfinite
from typing import Any, Literal

import numpy as np

from mlops_assets.errors import EvaluationError
from mlops_assets.evaluation.means import bounded_mean, bounded_share
from mlops_assets.evaluation.metrics import Floats, require_binary
from mlops_assets.evaluation.report import EvaluationReport
from mlops_assets.evaluation.workbench import Workbench
from mlops_assets.gates.bounds import judge_ceiling, rate_faults
from mlops_assets.gates.gate import NOTHING, Judgement, Known, Verdict, measurement

What = Literal["selection_rate", "true_positive_rate", "false_positive_rate", "calibration"]
KINDS: tuple[What, ...] = ("selection_rate", "true_positive_rate", "false_positive_rate", "calibration")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fair:
    """Pass a candidate for which ``what`` differs by ``tolerance`` at most between the groups of a column.

    ``what`` is the rate of scores from ``threshold`` on (demographic parity), that rate among positives or negatives
    (equalized odds: Hardt, Price and Srebro, NeurIPS 2016), or the mean of score less label (calibration within
    groups). The groups' intervals respect clusters and hold all at once with probability ``1 - alpha`` (Bonferroni);
    they bound the gap. Groups with fewer rows than ``minimum_rows`` are named and leave it ``INCONCLUSIVE``, unless
    ``ignores_small``.
    """

    group: str
    what: What
    tolerance: float
    threshold: float = 0.5
    alpha: float = 0.05
    minimum_rows: int = 30
    ignores_small: bool = False

    @property
    def name(self) -> str:
        """``fair_<what>_by_<group>``."""
        return f"fair_{self.what}_by_{self.group}"

    @property
    def metrics(self) -> frozenset[str]:
        """None: it looks at scores and labels."""
        return frozenset()

    def faults(self) -> list[str]:
        """Return what is wrong with the declaration, one sentence each."""
        found = rate_faults(self.name, alpha=self.alpha, tolerance=self.tolerance)
        if self.what not in KINDS:
            found.append(f"{self.name}: what is {self.what!r}, must be one of {KINDS}")
        if not isfinite(self.threshold):
            found.append(f"{self.name}: threshold is {self.threshold}, must be a finite number")
        if self.minimum_rows < 1:
            found.append(f"{self.name}: minimum_rows is {self.minimum_rows}, must be at least 1")
        return found

    def measure(self, bench: Workbench) -> Mapping[str, Any]:
        """Return each group's rows that count, and the rate with its bounds."""
        if self.group not in bench.golden.columns:
            raise EvaluationError(f"the golden set has no column {self.group!r}; it has {bench.golden.columns}")
        require_binary(bench.labels)
        groups = bench.golden[self.group].cast(str).fill_null("unknown").to_numpy()
        values, counts = self._values(bench)
        names = sorted(set(groups.tolist()))
        level = self.alpha / len(names) / 2
        return {"groups": {name: self._rate(bench, values, counts & (groups == name), level) for name in names}}

    def _values(self, bench: Workbench) -> tuple[Floats, Any]:
        """Return the value of each row, and which rows count."""
        scores, labels = bench.candidate.scores, bench.labels
        if self.what == "calibration":
            return scores - labels, np.ones(len(labels), dtype=bool)
        of = {"true_positive_rate": labels > 0, "false_positive_rate": labels <= 0}
        return (scores >= self.threshold).astype(np.float64), of.get(self.what, np.ones(len(labels), dtype=bool))

    def _rate(self, bench: Workbench, values: Floats, rows: Any, level: float) -> dict[str, Any]:
        found = None
        if rows.any() and self.what == "calibration":
            found = bounded_mean(values[rows], bench.clusters[rows], alpha=level, lowest=-1.0, highest=1.0)
        elif rows.any():
            found = bounded_share(values[rows] > 0, bench.clusters[rows], alpha=level)
        return {"rows": int(rows.sum()), "rate": asdict(found) if found else None}

    def judge(self, report: EvaluationReport, known: Known = NOTHING) -> Judgement:
        """Decide by the least and the largest gap that the groups' intervals allow."""
        found = measurement(report, self.name)
        if isinstance(found, Judgement):
            return found
        groups = found["groups"]
        small = [name for name, each in groups.items() if each["rows"] < self.minimum_rows or each["rate"] is None]
        evidence = {"alpha": self.alpha, "groups": groups, "small_groups": small}
        rates = [each["rate"] for name, each in groups.items() if name not in small]
        if len(rates) < 2 or (small and not self.ignores_small):
            reason = f"groups with fewer than {self.minimum_rows} rows that count: {', '.join(small) or 'none'}"
            return Judgement(Verdict.INCONCLUSIVE, f"{reason}; {len(rates)} can be compared", evidence)
        pairs = list(permutations(rates, 2))
        gap = {
            "value": max(one["value"] - other["value"] for one, other in pairs),
            "low": max(0.0, *(one["low"] - other["high"] for one, other in pairs)),
            "high": max(one["high"] - other["low"] for one, other in pairs),
        }
        return judge_ceiling("gap", gap, self.tolerance, evidence)
