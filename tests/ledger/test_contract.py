"""What every ledger does, on every database it may be kept in."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from mlops_assets.errors import InvalidDefinition, LedgerConflict, LedgerError, ServiceUnavailable
from mlops_assets.ledger.canonical import canonical_json, digest_of
from mlops_assets.ledger.entry import GENESIS, Kind
from mlops_assets.ledger.sql import SqlLedger


def test_an_empty_ledger_has_no_entries_and_is_intact(url):
    ledger = SqlLedger(url)
    assert list(ledger.entries()) == []
    assert ledger.verify() == 0
    assert ledger.head() == (0, GENESIS)
    assert ledger.verify(head=(0, GENESIS)) == 0


def test_what_is_appended_is_read_back(url):
    ledger = SqlLedger(url)
    body = {
        "text": "ü ✓ \u0000 '; DROP TABLE ledger; --",
        "numbers": [1, 0.1, 1e-300, 2**70],
        "none": None,
        "deep": {"a": [{}]},
    }
    before = datetime.now(UTC)
    entry = ledger.append("p", Kind.JUDGED, body, actor="gates")
    assert list(ledger.entries()) == [entry]
    assert entry.body == body
    assert (entry.sequence, entry.product, entry.kind, entry.actor) == (1, "p", Kind.JUDGED, "gates")
    assert before <= entry.at <= datetime.now(UTC)
    assert entry.at.utcoffset() == timedelta(0)


def test_sequences_have_no_gap_over_all_products(url):
    ledger = SqlLedger(url)
    for product in "abab":
        ledger.append(product, Kind.JUDGED, {}, actor="x")
    assert [entry.sequence for entry in ledger.entries()] == [1, 2, 3, 4]
    assert [entry.sequence for entry in ledger.entries("b")] == [2, 4]
    assert [entry.sequence for entry in ledger.entries("b", after=2)] == [4]
    assert [entry.sequence for entry in ledger.entries(after=4)] == []


def test_every_entry_names_the_digest_of_the_one_before_and_its_own_is_of_all_its_fields(url):
    ledger = SqlLedger(url)
    first, second = (ledger.append("p", Kind.JUDGED, {"n": n}, actor="x") for n in range(2))
    assert (first.previous, second.previous) == (GENESIS, first.digest)
    fields = {
        "sequence": 2,
        "product": "p",
        "kind": "judged",
        "at": second.at.isoformat(timespec="microseconds"),
        "actor": "x",
        "body": canonical_json({"n": 1}).decode(),
        "previous": first.digest,
    }
    assert second.digest == digest_of(fields)
    assert second.is_intact
    assert ledger.head() == (2, second.digest)
    assert ledger.verify() == 2


def test_a_time_on_a_whole_second_still_has_its_microseconds(say):
    (entry,) = say.chained((Kind.JUDGED, {}))
    assert entry.at.microsecond == 0
    assert entry.is_intact


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_a_number_json_has_no_word_for_is_refused_and_nothing_is_recorded(url, number):
    ledger = SqlLedger(url)
    with pytest.raises(LedgerError, match="p: the body of judged is not plain JSON.*record finite numbers"):
        ledger.append("p", Kind.JUDGED, {"gain": [number]}, actor="x")
    assert ledger.head() == (0, GENESIS)


@pytest.mark.parametrize("value", [datetime(2026, 1, 1, tzinfo=UTC), {1, 2}, b"bytes", object(), "\ud800"])
def test_a_body_that_is_not_json_is_refused(value):
    with pytest.raises(LedgerError, match="not plain JSON"):
        SqlLedger("sqlite://").append("p", Kind.JUDGED, {"value": value}, actor="x")


def test_a_body_that_contains_itself_is_refused():
    body = {}
    body["self"] = body
    with pytest.raises(LedgerError, match="not plain JSON"):
        SqlLedger("sqlite://").append("p", Kind.JUDGED, body, actor="x")


@pytest.mark.parametrize("name", ["", "x" * 201, "a\x00b", "a\nb", "\ud800"])
def test_a_name_no_database_could_keep_is_refused_alike_by_all(url, name):
    ledger = SqlLedger(url)
    with pytest.raises(LedgerError, match="product .* cannot be recorded"):
        ledger.append(name, Kind.JUDGED, {}, actor="x")
    with pytest.raises(LedgerError, match="actor .* cannot be recorded"):
        ledger.append("p", Kind.JUDGED, {}, actor=name)
    assert ledger.append("x" * 200, Kind.JUDGED, {}, actor="ü" * 200).sequence == 1


def test_who_decided_on_an_old_state_is_refused_and_nothing_is_recorded(url):
    ledger = SqlLedger(url)
    first = ledger.append("p", Kind.JUDGED, {}, actor="x", expected=0)
    ledger.append("other", Kind.JUDGED, {}, actor="x")
    with pytest.raises(LedgerConflict, match="p: decided on the state at entry 0, but its newest entry is 1"):
        ledger.append("p", Kind.RELEASED, {}, actor="x", expected=0)
    with pytest.raises(LedgerConflict):
        ledger.append("p", Kind.RELEASED, {}, actor="x", expected=2)
    third = ledger.append("p", Kind.RELEASED, {}, actor="x", expected=first.sequence)
    assert (third.sequence, ledger.verify()) == (3, 3)


def test_threads_share_a_ledger(url):
    ledger = SqlLedger(url)
    threads = [threading.Thread(target=_append, args=(ledger, name)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ledger.verify() == 40
    assert [entry.body["n"] for entry in ledger.entries("c")] == list(range(10))


def _append(ledger: SqlLedger, product: str) -> None:
    for n in range(10):
        ledger.append(product, Kind.JUDGED, {"n": n}, actor="x")
        ledger.head()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ledger SET actor = 'y' WHERE sequence = 1",
        "DELETE FROM ledger WHERE sequence = 2",
        "DELETE FROM ledger",
    ],
)
def test_the_database_itself_refuses_to_change_entries(shared_url, statement):
    ledger = SqlLedger(shared_url)
    _append(ledger, "p")
    engine = sa.create_engine(shared_url)
    with pytest.raises(sa.exc.DBAPIError, match="append-only"), engine.begin() as connection:
        connection.execute(sa.text(statement))
    engine.dispose()
    assert ledger.verify() == 10


def test_the_database_itself_refuses_to_replace_or_squeeze_in_entries(sqlite_url):
    ledger = SqlLedger(sqlite_url)
    _append(ledger, "p")
    engine = sa.create_engine(sqlite_url)
    for sequence in (1, 10, 12, -1):
        row = f"({sequence}, 'p', 'judged', '', '', '', '', '')"
        with pytest.raises(sa.exc.DBAPIError, match="append-only"), engine.begin() as connection:
            connection.execute(sa.text(f"INSERT OR REPLACE INTO ledger VALUES {row}"))
    engine.dispose()
    assert ledger.verify() == 10


@pytest.mark.services
def test_truncating_is_refused_too(postgres_url):
    ledger = SqlLedger(postgres_url)
    _append(ledger, "p")
    engine = sa.create_engine(postgres_url)
    with pytest.raises(sa.exc.DBAPIError, match="append-only"), engine.begin() as connection:
        connection.execute(sa.text("TRUNCATE ledger"))
    engine.dispose()
    assert ledger.verify() == 10


def test_making_a_ledger_connects_to_nothing(tmp_path):
    SqlLedger(f"sqlite:///{tmp_path / 'ledger.db'}")
    SqlLedger("postgresql://nobody@203.0.113.1/nothing")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", ["ledger.db", "mysql://root@localhost/x", ""])
def test_a_url_of_no_known_database_is_refused_at_once(wrong):
    with pytest.raises(InvalidDefinition, match="ledger"):
        SqlLedger(wrong)


def test_the_password_is_in_no_message():
    ledger = SqlLedger("postgresql+psycopg2://ada:s3cret@127.0.0.1:1/ledger")
    with pytest.raises(ServiceUnavailable, match=r"ada:\*\*\*@127\.0\.0\.1:1.*does not answer") as refusal:
        ledger.head()
    assert "s3cret" not in f"{refusal.value}{refusal.value.__cause__}{ledger!r}"


def test_a_folder_that_cannot_be_made_is_said_to_be_unavailable(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ServiceUnavailable, match="file"):
        SqlLedger(f"sqlite:///{tmp_path / 'file' / 'ledger.db'}").head()


def test_the_ledger_comes_to_life_once_its_database_can_be_reached(tmp_path):
    obstacle = tmp_path / "folder"
    obstacle.write_text("in the way")
    ledger = SqlLedger(f"sqlite:///{obstacle / 'ledger.db'}")
    with pytest.raises(ServiceUnavailable):
        ledger.append("p", Kind.JUDGED, {}, actor="x")
    obstacle.unlink()
    assert ledger.append("p", Kind.JUDGED, {}, actor="x").sequence == 1
