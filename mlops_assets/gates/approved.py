"""A gate that people open: it stands before the release, when there is a judgement to approve."""

from dataclasses import dataclass

from mlops_assets.evaluation.report import EvaluationReport
from mlops_assets.gates.gate import NOTHING, Judgement, Known, Verdict
from mlops_assets.ledger.entry import Entry, Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Approved:
    """Pass a candidate that ``people`` different persons approved after it was last judged, and nobody rejected.

    The release asks it, not the evaluation: an approval is of a judgement, so it comes after it.
    """

    people: int = 1
    name: str = "approved"

    @property
    def metrics(self) -> frozenset[str]:
        """None: it reads the ledger."""
        return frozenset()

    def faults(self) -> list[str]:
        """Return what is wrong with the declaration, one sentence each."""
        return [] if self.people >= 1 else [f"{self.name}: people is {self.people}, must be at least 1"]

    def judge(self, report: EvaluationReport, known: Known = NOTHING) -> Judgement:
        """Decide by the approvals and rejections since the candidate's last judgement."""
        since = [entry for entry in known.entries if entry.body.get("candidate") == report.candidate]
        rejections = [entry for entry in since if entry.kind is Kind.REJECTED]
        judged = max((entry.sequence for entry in since if entry.kind is Kind.JUDGED), default=None)
        given = [entry for entry in since if entry.kind is Kind.APPROVED and judged and entry.sequence > judged]
        people = sorted({entry.body["by"] for entry in given})
        evidence = {"approvals": _said(given), "rejections": _said(rejections), "needed": self.people}
        if rejections:
            return Judgement(Verdict.FAILED, f"rejected by {rejections[-1].body['by']}", evidence)
        if len(people) < self.people:
            reason = f"{len(people)} of {self.people} people approved it; run {report.product}_approve"
            return Judgement(Verdict.INCONCLUSIVE, reason, evidence)
        return Judgement(Verdict.PASSED, f"approved by {', '.join(people)}", evidence)


def _said(entries: list[Entry]) -> list[dict[str, object]]:
    return [{"by": e.body["by"], "why": e.body["why"], "ledger_entry": e.sequence} for e in entries]
