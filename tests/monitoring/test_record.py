from concurrent.futures import ThreadPoolExecutor

import pytest

from mlops_assets.errors import LedgerConflict
from mlops_assets.ledger.entry import Kind
from mlops_assets.ledger.sql import SqlLedger
from mlops_assets.monitoring.record import record_once

BODY = {"window": "p:1", "columns": ["x"], "report": "sha256:r"}


def test_a_window_is_recorded_once_however_often_it_is_looked_at():
    ledger = SqlLedger("sqlite://")
    first = record_once(ledger, "p", Kind.DRIFT_FOUND, BODY)
    assert record_once(ledger, "p", Kind.DRIFT_FOUND, BODY) == first
    assert len(ledger.entries("p")) == 1


def test_another_window_kind_or_product_is_another_entry():
    ledger = SqlLedger("sqlite://")
    record_once(ledger, "p", Kind.DRIFT_FOUND, BODY)
    record_once(ledger, "p", Kind.DRIFT_FOUND, BODY | {"window": "p:2"})
    record_once(ledger, "p", Kind.PERFORMANCE_FELL, {"window": "p:1", "metric": "m", "report": "r"})
    record_once(ledger, "q", Kind.DRIFT_FOUND, BODY)
    assert [(entry.product, entry.kind.value) for entry in ledger.entries()] == [
        ("p", "drift_found"),
        ("p", "drift_found"),
        ("p", "performance_fell"),
        ("q", "drift_found"),
    ]


def test_runs_of_one_window_that_race_make_one_entry(tmp_path):
    ledger = SqlLedger(f"sqlite:///{tmp_path / 'ledger.db'}")
    with ThreadPoolExecutor(6) as pool:
        entries = list(pool.map(lambda _: record_once(ledger, "p", Kind.DRIFT_FOUND, BODY), range(12)))
    assert len({entry.digest for entry in entries}) == 1
    assert ledger.verify() == 1


def test_a_ledger_that_always_moves_on_is_given_up_on():
    class Busy(SqlLedger):
        def entries(self, product=None, *, after=0):
            seen = super().entries(product, after=after)
            super().append(product, Kind.APPROVED, {"candidate": "c", "by": "b", "why": "w"}, actor="other")
            return seen

    with pytest.raises(LedgerConflict, match="drift_found of window p:1"):
        record_once(Busy("sqlite://"), "p", Kind.DRIFT_FOUND, BODY)
