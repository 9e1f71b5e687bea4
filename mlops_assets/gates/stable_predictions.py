"""A gate against needless change: how often the candidate decides otherwise than the champion."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

import numpy as np

from mlops_assets.evaluation.means import bounded_share
from mlops_assets.evaluation.report import EvaluationReport
from mlops_assets.evaluation.workbench import Workbench
from mlops_assets.gates.bounds import judge_ceiling, rate_faults
from mlops_assets.gates.gate import NOTHING, Judgement, Known, Verdict, measurement


@dataclass(frozen=True, slots=True, kw_only=True)
class StablePredictions:
    """Pass a candidate that decides otherwise than the champion on a share of ``tolerance`` rows at most.

    Churn (Milani Fard et al., "Launch and Iterate: Reducing Prediction Churn", NeurIPS 2016): the share of golden rows
    whose score lies on the other side of ``threshold``. ``PASSED`` when its upper bound at ``alpha`` is within the
    tolerance, or there is no champion; ``FAILED`` when its lower bound is not; else ``INCONCLUSIVE``.
    """

    tolerance: float
    threshold: float = 0.5
    alpha: float = 0.05
    name: str = "stable_predictions"

    @property
    def metrics(self) -> frozenset[str]:
        """None: it compares scores."""
        return frozenset()

    def faults(self) -> list[str]:
        """Return what is wrong with the declaration, one sentence each."""
        found = rate_faults(self.name, alpha=self.alpha, tolerance=self.tolerance)
        if not isfinite(self.threshold):
            found.append(f"{self.name}: threshold is {self.threshold}, must be a finite number")
        return found

    def measure(self, bench: Workbench) -> Mapping[str, Any]:
        """Return the share of rows decided otherwise with its bounds, and how far scores moved."""
        if bench.champion is None:
            return {"churn": None}
        ours, theirs = bench.candidate.scores, bench.champion.scores
        flipped = (ours >= self.threshold) != (theirs >= self.threshold)
        found = bounded_share(flipped, bench.clusters, alpha=self.alpha)
        moved = float(np.abs(ours - theirs).mean())
        return {"churn": asdict(found) if found else None, "mean_difference": moved, "rows": len(flipped)}

    def judge(self, report: EvaluationReport, known: Known = NOTHING) -> Judgement:
        """Decide by the bounds of the churn."""
        found = measurement(report, self.name)
        if isinstance(found, Judgement):
            return found
        if report.champion is None:
            return Judgement(Verdict.PASSED, "there is no champion to differ from")
        evidence = {"alpha": self.alpha, "mean_difference": found.get("mean_difference"), "clusters": report.clusters}
        return judge_ceiling("churn", found["churn"], self.tolerance, evidence)
