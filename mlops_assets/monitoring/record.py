"""What monitoring leaves in the ledger: one entry a window, or a finding, however often it is looked at."""

from collections.abc import Mapping
from typing import Any

from mlops_assets.errors import LedgerConflict
from mlops_assets.features.parity import ParityReport
from mlops_assets.features.view import FeatureView
from mlops_assets.ledger.entry import Entry, Kind, Ledger

ACTOR = "monitoring"
ATTEMPTS = 20


def record_once(ledger: Ledger, product: str, kind: Kind, body: Mapping[str, Any]) -> Entry:
    """Append ``body`` unless ``product`` has an entry of ``kind`` for ``body["window"]``; return that window's entry.

    Two runs of one window race to one entry: the append expects the state that was looked at. ``LedgerConflict`` when
    other decisions on the product kept coming first.
    """
    for _ in range(ATTEMPTS):
        seen = ledger.entries(product)
        for entry in seen:
            if entry.kind is kind and entry.body["window"] == body["window"]:
                return entry
        try:
            return ledger.append(product, kind, body, actor=ACTOR, expected=seen[-1].sequence if seen else 0)
        except LedgerConflict:
            continue
    raise LedgerConflict(
        f"{product}: {kind.value} of window {body['window']} met {ATTEMPTS} newer decisions in a row; run it again"
    )


def record_parity(ledger: Ledger, product: str, view: FeatureView, report: ParityReport, *, run_id: str) -> Entry:
    """Append the report unless the view's last entry says the same of the same definition; return the entry there is.

    Runs that race may both append: what counts is the last.
    """
    body = {"view": view.name, "definition": view.digest, "report": report.digest, "parity": report.to_json()}
    for entry in reversed(ledger.entries(product)):
        if entry.kind is Kind.PARITY_MEASURED and entry.body["view"] == view.name:
            if (entry.body["definition"], entry.body["report"]) == (view.digest, report.digest):
                return entry
            break
    return ledger.append(product, Kind.PARITY_MEASURED, {**body, "run_id": run_id}, actor=ACTOR)
