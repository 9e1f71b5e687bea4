"""A gate judges a report; a judgement has a verdict, a reason and the evidence it saw."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

from mlops_assets.evaluation.report import EvaluationReport
from mlops_assets.evaluation.workbench import Workbench
from mlops_assets.ledger.canonical import Digest
from mlops_assets.ledger.entry import Entry


class Verdict(StrEnum):
    """Doubt is its own verdict, and never promotes; an error of the gate is no fault of the model, and blocks too."""

    PASSED = "PASSED"
    FAILED = "FAILED"
    INCONCLUSIVE = "INCONCLUSIVE"
    ERROR = "ERROR"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a gate found. ``evidence`` holds JSON values: effect, interval, p-value, n it had and n it needed."""

    verdict: Verdict
    reason: str
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known beside a report: the product's views (digests by name), its ledger's entries in order.

    ``levels`` are the error rates left for claims, by name, where the policy allows less than a gate declares.
    """

    views: Mapping[str, Digest] = field(default_factory=dict)
    entries: Sequence[Entry] = ()
    levels: Mapping[str, float] = field(default_factory=dict)

    def level(self, claim: str, alpha: float) -> float:
        """Return the error rate at which ``claim`` is tested: ``alpha``, or less if the policy says so."""
        return min(alpha, self.levels.get(claim, alpha))


NOTHING = Known()


class Gate(Protocol):
    """A promise about a candidate. A gate that compares passes when there is no champion to compare with."""

    @property
    def name(self) -> str:
        """A name that is unique within a product and fit for an asset check (letters, digits, underscores)."""

    @property
    def metrics(self) -> frozenset[str]:
        """The metrics it reads, checked at load against those the product computes."""

    def faults(self) -> list[str]:
        """Return what is wrong with the declaration, one sentence each."""

    def judge(self, report: EvaluationReport, known: Known = NOTHING) -> Judgement:
        """Decide from the report, and from what became known since: the same of both give the same judgement.

        A metric that is missing is ``INCONCLUSIVE``. What is raised becomes the verdict ``ERROR``.
        """


@runtime_checkable
class MeasuringGate(Gate, Protocol):
    """A gate that needs more than metrics: the evaluation calls ``measure`` and keeps the answer in the report."""

    def measure(self, bench: Workbench) -> Mapping[str, Any]:
        """Return what was found, as JSON values; what is raised is kept as the gate's error."""


@runtime_checkable
class ClaimingGate(Gate, Protocol):
    """A gate that rests on tests: each has a name and a p-value, for the policy to control their errors together."""

    def claims(self, report: EvaluationReport) -> Mapping[str, tuple[float, float]]:
        """Return the p-value and the declared alpha of each claim that can be tested; none without a champion."""


def measurement(report: EvaluationReport, gate: str) -> Mapping[str, Any] | Judgement:
    """Return what was measured for ``gate``, or the judgement when nothing was: doubt, or the error that was met."""
    found = report.measured.get(gate)
    if found is None:
        return Judgement(Verdict.INCONCLUSIVE, f"the report has no measurement for {gate}; evaluate again")
    if "error" in found:
        return Judgement(Verdict.ERROR, f"could not be measured: {found['error']}", {"error": found["error"]})
    return found
