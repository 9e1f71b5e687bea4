"""How widely comparisons scatter, known before the next one: from the last comparison that the ledger holds.

A sample size that is computed from the very data it is to judge spoils the test's power: where the spread comes out
wide by chance, a good candidate is sent away. So the number of clusters needed comes from an earlier comparison, as a
pilot study's would (Julious 2010, "Sample Sizes for Clinical Trials", ch. 3). Only the first comparison of a product is
its own pilot.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from mlops_assets.evaluation.report import EvaluationReport
from mlops_assets.ledger.entry import Entry, Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Pilot:
    """The standard error of a metric's difference as seen with ``clusters`` of them; ``source`` says where."""

    standard_error: float
    clusters: int
    source: str

    @classmethod
    def of(cls, report: EvaluationReport, metric: str) -> "Pilot":
        """Return what the report itself shows of ``metric``."""
        error = report.comparisons[metric].standard_error
        return cls(standard_error=error, clusters=report.clusters, source="this comparison, the first")


def find_pilot(entries: Iterable[Entry], metric: str, *, before: EvaluationReport | None = None) -> Pilot | None:
    """Return the last comparison of ``metric`` that was judged before the report ``before`` was, if there is one."""
    found, own = None, before.digest if before else None
    for entry in entries:
        if entry.kind is not Kind.JUDGED:
            continue
        if entry.body["report"] == own:
            break
        seen = entry.body["evaluation"]
        if comparison := seen["comparisons"].get(metric):
            found = Pilot(
                standard_error=comparison["standard_error"],
                clusters=seen["clusters"],
                source=f"ledger entry {entry.sequence}",
            )
    return found
