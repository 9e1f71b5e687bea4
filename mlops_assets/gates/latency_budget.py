"""A gate for how long an answer may take, measured on the packaged model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from scipy.stats import binom

from mlops_assets.errors import EvaluationError
from mlops_assets.evaluation.latency import measure_latency
from mlops_assets.evaluation.report import EvaluationReport
from mlops_assets.evaluation.workbench import Workbench
from mlops_assets.gates.gate import NOTHING, Judgement, Known, Verdict, measurement


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyBudget:
    """Pass a candidate that answers one row within ``budget`` at ``quantile``, measured ``rows`` times.

    The model alone, without features and network, loaded from its package in a process of its own. Order statistics
    bound the quantile whatever the distribution (David and Nagaraja, "Order Statistics", 3rd ed., 2003, ch. 7.1).
    ``PASSED`` when the upper bound at ``alpha`` is within the budget, ``FAILED`` when the lower one is not, or when the
    model hangs or brings its process down; else ``INCONCLUSIVE``.
    """

    budget: timedelta
    quantile: float = 0.99
    rows: int = 1000
    alpha: float = 0.05
    timeout: timedelta = timedelta(seconds=60)
    name: str = "latency_budget"

    @property
    def metrics(self) -> frozenset[str]:
        """None: it measures the package."""
        return frozenset()

    def faults(self) -> list[str]:
        """Return what is wrong with the declaration, one sentence each."""
        found = [] if self.name.isidentifier() else [f"{self.name!r}: name must be letters, digits and underscores"]
        if self.budget <= timedelta(0) or self.timeout <= timedelta(0):
            found.append(f"{self.name}: budget and timeout must be positive, found {self.budget} and {self.timeout}")
        if not 0 < self.quantile < 1 or not 0 < self.alpha <= 0.5:
            found.append(f"{self.name}: quantile and alpha must be shares, found {self.quantile} and {self.alpha}")
        elif upper_rank(self.rows, self.quantile, self.alpha) is None:
            found.append(f"{self.name}: {self.rows} rows cannot bound the quantile {self.quantile:g}: measure more")
        return found

    def measure(self, bench: Workbench) -> Mapping[str, Any]:
        """Return the milliseconds of each answer, ascending, or what became of the process."""
        if bench.candidate.directory is None:
            raise EvaluationError("the candidate's package is not at hand")
        found = measure_latency(
            bench.candidate.directory, bench.golden, rows=self.rows, timeout_seconds=self.timeout.total_seconds()
        )
        return {"broke": found} if isinstance(found, str) else {"milliseconds": [round(s * 1e3, 4) for s in found]}

    def judge(self, report: EvaluationReport, known: Known = NOTHING) -> Judgement:
        """Decide by the bounds of the quantile."""
        found = measurement(report, self.name)
        if isinstance(found, Judgement):
            return found
        if "broke" in found:
            return Judgement(Verdict.FAILED, f"the model broke: {found['broke']}", {"broke": found["broke"]})
        answers: Sequence[float] = found["milliseconds"]
        budget = self.budget.total_seconds() * 1e3
        high = upper_rank(len(answers), self.quantile, self.alpha)
        low = int(binom.ppf(self.alpha, len(answers), self.quantile))  # 0: no answer lies below with that certainty
        bounds = [answers[low - 1] if low else None, answers[high - 1] if high else None]
        evidence = {"low": bounds[0], "high": bounds[1], "budget": budget, "rows": len(answers)}
        evidence |= {"quantile": self.quantile, "median": answers[len(answers) // 2], "alpha": self.alpha}
        reason = f"p{self.quantile * 100:g} lies in {bounds[0]} … {bounds[1]} ms, must be at most {budget:g}"
        if bounds[1] is not None and bounds[1] <= budget:
            return Judgement(Verdict.PASSED, reason, evidence)
        verdict = Verdict.FAILED if (bounds[0] or 0.0) > budget else Verdict.INCONCLUSIVE
        return Judgement(verdict, reason, evidence)


def upper_rank(rows: int, quantile: float, alpha: float) -> int | None:
    """Return the rank of the smallest answer that lies above the quantile but at rate ``alpha``, if there is one."""
    rank = int(binom.ppf(1 - alpha, rows, quantile)) + 1
    return rank if rank <= rows else None
