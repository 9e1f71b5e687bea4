"""What the ledger gets of a judgement: the policy where it is another than it was, and what was judged by it."""

from collections.abc import Mapping
from typing import Any

from mlops_assets.evaluation.report import EvaluationReport
from mlops_assets.gates.gate import NOTHING, Known
from mlops_assets.gates.golden_budget import use_of
from mlops_assets.gates.panel import Panel
from mlops_assets.ledger.canonical import Digest, digest_of
from mlops_assets.ledger.declared import changes
from mlops_assets.ledger.entry import Entry, Kind, Ledger

ACTOR = "gates"


def record_policy(ledger: Ledger, product: str, policy: Mapping[str, Any]) -> Digest:
    """Return the digest of ``policy``, after an entry that tells of it and of what changed, if it did."""
    digest = digest_of(policy)
    entries = [entry.body for entry in ledger.entries(product) if entry.kind is Kind.POLICY_CHANGED]
    if not entries or entries[-1]["digest"] != digest:
        earlier = entries[-1] if entries else None
        body = {
            "policy": policy,
            "digest": digest,
            "previous": earlier["digest"] if earlier else None,
            "changes": changes(earlier["policy"], policy) if earlier else [],
        }
        ledger.append(product, Kind.POLICY_CHANGED, body, actor=ACTOR)
    return digest


def record_judgement(
    ledger: Ledger,
    product: str,
    report: EvaluationReport,
    panel: Panel,
    *,
    run_id: str,
    known: Known = NOTHING,
    policy: Digest | None = None,
) -> Entry:
    """Append the panel's judgement and return its entry, or the entry this run already left for the same report."""
    for entry in reversed(ledger.entries(product)):
        if entry.kind is Kind.JUDGED and (entry.body["report"], entry.body.get("run_id")) == (report.digest, run_id):
            return entry
    body = {
        "candidate": report.candidate,
        "champion": report.champion,
        "report": report.digest,
        "verdict": panel.verdict.value,
        "judgements": panel.to_json(),
        "evaluation": report.to_json(),
        "policy": policy,
        "views": dict(known.views),
        "use": use_of(known.entries, report),
        "run_id": run_id,
    }
    return ledger.append(product, Kind.JUDGED, body, actor=ACTOR)
