"""Whoever gets past the database's guards is found by the chain, as far as a chain can tell."""

import sqlite3
from pathlib import Path

import pytest

from mlops_assets.errors import LedgerCorrupt, LedgerError
from mlops_assets.ledger.canonical import digest_of
from mlops_assets.ledger.entry import Kind
from mlops_assets.ledger.explain import why_live
from mlops_assets.ledger.sql import SqlLedger

FIELDS = ("sequence", "product", "kind", "at", "actor", "body", "previous")


@pytest.fixture
def ledger(sqlite_url) -> SqlLedger:
    """A ledger of five entries whose guards are gone."""
    ledger = SqlLedger(sqlite_url)
    for n in range(5):
        ledger.append("p" if n % 2 else "q", Kind.DRIFT_FOUND, {"n": n}, actor="x")
    tamper(ledger, *(f"DROP TRIGGER ledger_no_{verb}" for verb in ("update", "delete", "squeezing_in")))
    assert ledger.verify() == 5
    return ledger


def tamper(ledger: SqlLedger, *statements: str) -> None:
    path = Path(str(ledger).split("sqlite:///")[1].rstrip("')"))
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("sequence = 33", "entry 3 is missing: the next one there is 4"),
        ("sequence = -3", "entry 1 is missing: the next one there is -3"),
        ("product = 'p'", r"entry 3 \(drift_found of p\) was changed"),
        ("kind = 'approved'", r"entry 3 \(approved of q\) was changed"),
        ("at = '2020-01-01T00:00:00.000000+00:00'", "entry 3 .* was changed"),
        ("actor = 'y'", "entry 3 .* was changed"),
        ("body = '{\"n\":3}'", "entry 3 .* was changed"),
        ("body = '{\"n\": 2}'", "entry 3 .* was changed"),
        ("body = CAST(body AS BLOB)", "entry 3 .* was changed"),
        ("body = CAST(x'ff00' AS TEXT)", "cannot be read"),
        ("previous = digest", "entry 3 does not follow"),
        ("digest = previous", "entry 3 .* was changed"),
    ],
)
def test_a_changed_field_is_found_and_its_entry_named(ledger, change, found):
    tamper(ledger, f"UPDATE ledger SET {change} WHERE sequence = 3")
    with pytest.raises(LedgerCorrupt, match=found):
        ledger.verify()


def test_a_changed_entry_with_its_digest_computed_anew_breaks_the_next(ledger):
    fields = {name: None for name in FIELDS}
    entry = ledger.entries()[2]
    fields.update(sequence=3, product="q", kind="drift_found", at=entry.at.isoformat(timespec="microseconds"))
    fields.update(actor="y", body='{"n":2}', previous=entry.previous)
    tamper(ledger, f"UPDATE ledger SET actor = 'y', digest = '{digest_of(fields)}' WHERE sequence = 3")
    with pytest.raises(LedgerCorrupt, match="entry 4 does not follow"):
        ledger.verify()


@pytest.mark.parametrize("sequence", [1, 2, 4])
def test_a_removed_entry_is_missing(ledger, sequence):
    tamper(ledger, f"DELETE FROM ledger WHERE sequence = {sequence}")
    with pytest.raises(LedgerCorrupt, match=f"entry {sequence} is missing"):
        ledger.verify()


def test_a_removed_entry_is_found_though_the_gap_was_closed(ledger):
    tamper(
        ledger, "DELETE FROM ledger WHERE sequence = 2", "UPDATE ledger SET sequence = sequence - 1 WHERE sequence > 2"
    )
    with pytest.raises(LedgerCorrupt, match="entry 2 does not follow"):
        ledger.verify()


def test_entries_that_changed_places_are_found(ledger):
    tamper(
        ledger,
        "UPDATE ledger SET sequence = 99 WHERE sequence = 3",
        "UPDATE ledger SET sequence = 3 WHERE sequence = 4",
        "UPDATE ledger SET sequence = 4 WHERE sequence = 99",
    )
    with pytest.raises(LedgerCorrupt, match="entry 3 does not follow"):
        ledger.verify()


def test_an_entry_put_in_is_found(ledger):
    columns = "product, kind, at, actor, body, previous, digest"
    tamper(ledger, f"INSERT INTO ledger SELECT 6, {columns} FROM ledger WHERE sequence = 5")
    with pytest.raises(LedgerCorrupt, match="entry 6 does not follow"):
        ledger.verify()


def test_entries_removed_from_the_end_are_found_by_a_head_that_was_remembered(ledger):
    head = ledger.head()
    tamper(ledger, "DELETE FROM ledger WHERE sequence >= 4")
    assert ledger.verify() == 3  # a chain by itself cannot tell
    with pytest.raises(LedgerCorrupt, match=f"entry 4 is missing: the ledger once ended with entry 5, {head[1]}"):
        ledger.verify(head=head)


def test_a_ledger_that_was_emptied_is_found_by_a_head_that_was_remembered(ledger):
    head = ledger.head()
    tamper(ledger, "DELETE FROM ledger")
    assert ledger.verify() == 0
    with pytest.raises(LedgerCorrupt, match="entry 1 is missing"):
        ledger.verify(head=head)


def test_a_chain_written_anew_is_found_by_a_head_that_was_remembered(ledger):
    head = ledger.head()
    tamper(ledger, "DELETE FROM ledger WHERE sequence = 5")
    ledger.append("q", Kind.DRIFT_FOUND, {"n": "another past"}, actor="x")
    assert ledger.verify() == 5
    with pytest.raises(LedgerCorrupt, match=f"entry 5 once was {head[1]} and now is .*written anew"):
        ledger.verify(head=head)


def test_a_remembered_head_holds_while_the_ledger_grows(ledger):
    head = ledger.head()
    ledger.append("p", Kind.DRIFT_FOUND, {}, actor="x")
    assert ledger.verify(head=head) == 6


def test_no_story_is_told_from_a_changed_entry(ledger):
    tamper(ledger, "UPDATE ledger SET actor = 'y' WHERE sequence = 4")
    with pytest.raises(LedgerCorrupt, match="entry 4 of p was changed"):
        why_live(ledger.entries("p"), "p")
    why_live(ledger.entries("q"), "q")


def test_an_entry_that_cannot_be_read_is_named(ledger):
    tamper(ledger, "UPDATE ledger SET body = '{' WHERE sequence = 2")
    with pytest.raises(LedgerCorrupt, match="entry 2 of p is unreadable"):
        ledger.entries()
    assert len(ledger.entries("q")) == 3


def test_an_entry_of_a_kind_to_come_is_not_skipped(ledger):
    tamper(ledger, "UPDATE ledger SET kind = 'golden_set_spent' WHERE sequence = 2")
    with pytest.raises(LedgerError, match="entry 2 of p is of the kind 'golden_set_spent'.*upgrade"):
        ledger.entries()
