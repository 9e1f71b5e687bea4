"""A gate that asks the candidate itself to answer real requests, as it will have to."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import polars as pl

from mlops_assets.errors import EvaluationError
from mlops_assets.evaluation.report import EvaluationReport
from mlops_assets.evaluation.workbench import Workbench
from mlops_assets.gates.gate import NOTHING, Judgement, Known, Verdict, measurement
from mlops_assets.serving.rehearsal import rehearse


@dataclass(frozen=True, slots=True, kw_only=True)
class Serves:
    """Pass a candidate that answers real requests in a serving process before any traffic.

    ``FAILED`` when a request is not answered, a score is no number, or an answer is not what the model says of the same
    features in a batch: a model that looks at the other rows of its batch is right offline and wrong live.
    ``INCONCLUSIVE`` when the golden set has fewer rows than ``requests``.
    """

    requests: int = 50
    timeout: timedelta = timedelta(minutes=2)
    name: str = "serves"

    @property
    def metrics(self) -> frozenset[str]:
        """None: it asks the package."""
        return frozenset()

    def faults(self) -> list[str]:
        """Return what is wrong with the declaration, one sentence each."""
        found = [] if self.name.isidentifier() else [f"{self.name!r}: name must be letters, digits and underscores"]
        if self.requests < 1:
            found.append(f"{self.name}: requests is {self.requests}, must be at least 1")
        return found if self.timeout > timedelta(0) else [*found, f"{self.name}: timeout must be positive"]

    def measure(self, bench: Workbench) -> Mapping[str, Any]:
        """Return what came of requests made of the newest golden rows, over all events before them."""
        if bench.candidate.directory is None or bench.served is None:
            raise EvaluationError("this evaluation has no package to serve, or does not know what is served")
        time = bench.served.event_time
        shared = [name for name in bench.golden.columns if not bench.golden.schema[name].is_nested()]
        rows = pl.concat([bench.train().select(shared), bench.golden.select(shared)]).sort(time)
        first = rows.height - min(self.requests, bench.golden.height)
        return rehearse(
            bench.served,
            bench.candidate.directory,
            bench.candidate.digest,
            events=rows[:first],
            requests=rows[first:],
            timeout_seconds=self.timeout.total_seconds(),
        )

    def judge(self, report: EvaluationReport, known: Known = NOTHING) -> Judgement:  # noqa: ARG002
        """Decide by what was answered."""
        found = measurement(report, self.name)
        if isinstance(found, Judgement):
            return found
        if "broke" in found:
            return Judgement(Verdict.FAILED, f"it cannot be served: {found['broke']}", dict(found))
        wrong = []
        if found["answered"] < found["requests"]:
            wrong.append(f"{found['requests'] - found['answered']} requests were refused: {found['said']}")
        if found["not_finite"]:
            wrong.append(f"{found['not_finite']} scores are no numbers")
        if found["differing"]:
            wrong.append(f"{found['differing']} answers are not what the model says of the same features in a batch")
        if wrong:
            return Judgement(Verdict.FAILED, f"of {found['requests']} requests, {'; '.join(wrong)}", dict(found))
        if found["requests"] < self.requests:
            reason = f"all {found['requests']} requests were answered, needs {self.requests}: widen the golden set"
            return Judgement(Verdict.INCONCLUSIVE, reason, dict(found) | {"needed": self.requests})
        return Judgement(Verdict.PASSED, f"all {found['requests']} requests were answered", dict(found))
