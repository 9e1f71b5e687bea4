"""What the live champion promised when it was evaluated.

The ledger says who is champion; the report it was judged by is in the metadata of the evaluation that made it.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from mlops_assets.evaluation.report import Estimate, EvaluationReport
from mlops_assets.ledger.canonical import Digest
from mlops_assets.ledger.entry import Entry
from mlops_assets.ledger.state import fold


def find_champion(entries: Iterable[Entry]) -> Digest | None:
    """Return the digest of the champion after ``entries`` of one product, if it has one."""
    champion = fold(entries).champion
    return None if champion is None else champion.digest


def find_report(champion: Digest, evaluations: Iterable[Mapping[str, Any]]) -> EvaluationReport | None:
    """Return the first evaluation report of ``champion`` among the metadata of evaluations, newest first.

    A report is known by what it holds, ``candidate`` and ``candidate_metrics``, under whatever name it was recorded.
    """
    for metadata in evaluations:
        for value in metadata.values():
            is_report = isinstance(value, Mapping) and "candidate_metrics" in value
            if is_report and value.get("candidate") == champion:
                return EvaluationReport.from_json(value)
    return None


def expected_of(report: EvaluationReport | None, metric: str) -> Estimate | None:
    """Return what ``report`` says of its candidate's ``metric``, if anything."""
    return None if report is None else report.candidate_metrics.get(metric)
