"""A gate for probabilities that must be what they say."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import expit, logit
from scipy.stats import rankdata

from mlops_assets.evaluation.means import bounded_mean
from mlops_assets.evaluation.metrics import Floats, require_binary
from mlops_assets.evaluation.report import EvaluationReport
from mlops_assets.evaluation.workbench import Workbench
from mlops_assets.gates.bounds import judge_ceiling, rate_faults
from mlops_assets.gates.gate import NOTHING, Judgement, Known, measurement


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrated:
    """Pass a candidate whose probabilities are off by ``tolerance`` at most, on average over ``bins`` of equal count.

    The expected calibration error (Naeini, Cooper and Hauskrecht, AAAI 2015) is biased upwards, because an average of
    absolute values sees noise as error (Kumar, Liang and Ma, NeurIPS 2019). So it is bounded instead: each bin's mean
    difference of score and label has an interval that respects clusters, all hold at once with probability
    ``1 - alpha`` (Bonferroni), and the smallest and largest error they allow are the bounds. ``PASSED`` when the upper
    bound is within the tolerance, ``FAILED`` when the lower one is not, else ``INCONCLUSIVE``. Rows with equal scores
    share a bin, so the order of rows never counts.

    Three more figures are kept for people, and decide nothing: the mean difference of score and label with its bounds
    (calibration in the large), the slope of the labels over the scores' logits, 1 where scores are neither too extreme
    nor too timid (Cox, Biometrika 45, 1958; Van Calster et al., J. Clin. Epidemiol. 74, 2016), and the squared error
    without the part that is noise (Kumar, Liang and Ma).
    """

    tolerance: float
    bins: int = 5
    alpha: float = 0.05
    name: str = "calibrated"

    @property
    def metrics(self) -> frozenset[str]:
        """None: it looks at scores and labels."""
        return frozenset()

    def faults(self) -> list[str]:
        """Return what is wrong with the declaration, one sentence each."""
        found = rate_faults(self.name, alpha=self.alpha, tolerance=self.tolerance)
        return found if self.bins >= 1 else [*found, f"{self.name}: bins is {self.bins}, must be at least 1"]

    def measure(self, bench: Workbench) -> Mapping[str, Any]:
        """Return each bin's rows, mean score, mean label and the bounds of their difference, and the same of all."""
        scores, labels = bench.candidate.scores, bench.labels
        require_binary(labels)
        if ((scores < 0) | (scores > 1)).any():
            raise ValueError("scores lie outside 0 … 1: they are no probabilities")
        places = bins_of(scores, self.bins)
        level = self.alpha / self.bins / 2
        bins = [self._bin(bench, np.flatnonzero(places == place), level) for place in np.unique(places)]
        whole = self._bin(bench, np.arange(len(scores)), self.alpha / 2)
        return {"bins": bins, "in_the_large": whole["difference"], "slope": slope_of(scores, labels)}

    def _bin(self, bench: Workbench, rows: Any, level: float) -> dict[str, Any]:
        scores, labels = bench.candidate.scores[rows], bench.labels[rows]
        found = bounded_mean(scores - labels, bench.clusters[rows], alpha=level, lowest=-1.0, highest=1.0)
        facts = {"rows": len(rows), "score": float(scores.mean()), "label": float(labels.mean())}
        return facts | {"difference": asdict(found) if found else None}

    def judge(self, report: EvaluationReport, known: Known = NOTHING) -> Judgement:
        """Decide by the least and the largest error that the bins' intervals allow."""
        found = measurement(report, self.name)
        if isinstance(found, Judgement):
            return found
        bins = found["bins"]
        evidence = {"alpha": self.alpha, "bins": bins, "clusters": report.clusters}
        evidence |= {"in_the_large": found.get("in_the_large"), "slope": found.get("slope")}
        evidence["squared_error_without_noise"] = squared_error_without_noise(bins)
        if any(each["difference"] is None for each in bins):
            return judge_ceiling("calibration_error", None, self.tolerance, evidence)
        rows = sum(each["rows"] for each in bins)
        shares = [(each["rows"] / rows, each["difference"]) for each in bins]
        bounded = {
            "value": sum(share * abs(d["value"]) for share, d in shares),
            "low": sum(share * max(0.0, d["low"], -d["high"]) for share, d in shares),
            "high": sum(share * max(abs(d["low"]), abs(d["high"])) for share, d in shares),
        }
        return judge_ceiling("calibration_error", bounded, self.tolerance, evidence)


def bins_of(scores: Floats, count: int) -> Any:
    """Return the bin of each row, from 0: ``count`` of equal size at most, equal scores in one."""
    return ((rankdata(scores) - 0.5) / len(scores) * count).astype(int)


def slope_of(scores: Floats, labels: Floats, steps: int = 50) -> float | None:
    """Return the slope of a logistic regression of labels on the scores' logits; ``None`` where there is none.

    There is none where all scores or labels are equal, or where a cut through the scores separates the labels.
    """
    inner = np.clip(scores, 1e-6, 1 - 1e-6)
    zeros, ones = inner[labels <= 0], inner[labels > 0]
    if not (len(zeros) and len(ones)) or ones.min() >= zeros.max() or zeros.min() >= ones.max():
        return None
    design = np.column_stack([np.ones(len(inner)), logit(inner)])
    found = np.array([0.0, 1.0])
    for _ in range(steps):  # Newton, from what a calibrated model would have
        chances = expit(design @ found)
        curvature = (design * (chances * (1 - chances))[:, None]).T @ design
        if np.linalg.cond(curvature) > 1e12:
            return None
        step = np.linalg.solve(curvature, design.T @ (labels - chances))
        found = found + step
        if np.abs(step).max() < 1e-9:
            return float(found[1])
    return None


def squared_error_without_noise(bins: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the mean squared difference of score and label over bins, less what noise adds; ``None`` with one row."""
    if any(each["rows"] < 2 for each in bins):
        return None
    rows = sum(each["rows"] for each in bins)
    return float(
        sum(
            each["rows"]
            / rows
            * ((each["score"] - each["label"]) ** 2 - each["label"] * (1 - each["label"]) / (each["rows"] - 1))
            for each in bins
        )
    )
