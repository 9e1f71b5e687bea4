"""A gate judges a report; a judgement has a verdict, a reason and the evidence it saw."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from mlops_assets.evaluation.report import EvaluationReport


class Verdict(StrEnum):
    """Doubt is its own verdict, and never promotes."""

    PASSED = "PASSED"
    FAILED = "FAILED"
    INCONCLUSIVE = "INCONCLUSIVE"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a gate found. ``evidence`` holds JSON values: effect, interval, p-value, n it had and n it needed."""

    verdict: Verdict
    reason: str
    evidence: Mapping[str, Any] = field(default_factory=dict)


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

    def judge(self, report: EvaluationReport) -> Judgement:
        """Decide from the report alone; never raises for a missing metric, which is ``INCONCLUSIVE``."""
