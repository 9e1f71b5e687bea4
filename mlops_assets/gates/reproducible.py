"""A gate for models that come out the same when they are trained again."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlops_assets.evaluation.report import EvaluationReport
from mlops_assets.evaluation.workbench import Workbench
from mlops_assets.gates.gate import NOTHING, Judgement, Known, Verdict, measurement


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproducible:
    """Pass a candidate that comes out with the same digest when its recorded recipe and rows are trained again."""

    name: str = "reproducible"

    @property
    def metrics(self) -> frozenset[str]:
        """None: it compares digests."""
        return frozenset()

    def faults(self) -> list[str]:
        """Return nothing: there is nothing to declare but the name."""
        return []

    def measure(self, bench: Workbench) -> Mapping[str, Any]:
        """Return the digest that came out of training again."""
        return {"digest": bench.retrain()}

    def judge(self, report: EvaluationReport, known: Known = NOTHING) -> Judgement:
        """Decide by the two digests."""
        found = measurement(report, self.name)
        if isinstance(found, Judgement):
            return found
        evidence = {"candidate": report.candidate, "trained_again": found["digest"]}
        if found["digest"] == report.candidate:
            return Judgement(Verdict.PASSED, "trained again, it came out the same", evidence)
        reason = f"trained again it came out {found['digest']}: look for randomness, threads or clocks in its training"
        return Judgement(Verdict.FAILED, reason, evidence)
