"""The online engine has the features of the reference, whatever order events arrive in, however often, in any store."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from threading import Thread

import polars as pl
import pytest
from feature_cases import EVERYTHING, QUARTER, SCHEMA, START, TICK, Case, cases, differences, events
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.errors import FeatureError, FeaturesAbsent, InvalidDefinition, ServiceUnavailable
from mlops_assets.features import newest, parts, tiles
from mlops_assets.features.online import OnlineFeatures
from mlops_assets.features.reference import reference_features
from mlops_assets.features.state import FileStore, MemoryStore
from mlops_assets.features.view import Aggregate, FeatureView

KEY = ("id",)
HOUR = timedelta(hours=1)
EVENT = {"id": 1, "user": "ann", "time": START, "known": START, "amount": 5.0, "stars": 1, "paid": True, "shop": "a"}
EVENT["due"] = None
PLAIN = replace(EVERYTHING, known_time=None, time_to_live=None)
COUNT = FeatureView(
    name="visits",
    source="shop",
    entity="user",
    event_time="time",
    event_key=KEY,
    features=(Aggregate(name="visits", function="count", window=HOUR),),
)


@pytest.fixture(params=["memory", "file"])
def store(request, tmp_path):
    return MemoryStore() if request.param == "memory" else FileStore(tmp_path / "features.sqlite")


@pytest.fixture
def small_tiles(monkeypatch):
    monkeypatch.setattr(tiles, "LEAF", 2)


def numbered(case):
    """Return the case with a key for every event, as the online engine wants."""
    rows = [{**row, "id": number} for number, row in enumerate(case.events)]
    return case if case.view.event_key else Case(case.view, rows, case.asked)


def told(case, arrivals, many, store=None):
    online = OnlineFeatures([case.view], event_key=KEY, store=store)
    online.bootstrap(pl.DataFrame(arrivals[:many], schema=SCHEMA, orient="row"))
    for event in arrivals[many:]:
        online.add(event)
    return online


def faults(online, case):
    found = [online.features({"user": who}, when) for who, when in case.asked]
    return differences(found, reference_features(case.view, case.events, case.asked))


@given(cases(), st.data(), st.sampled_from([1, 3, 128]))
@settings(max_examples=80)
def test_the_online_engine_equals_the_reference_whatever_the_order_of_arrival(case, data, leaf):
    case = numbered(case)
    arrivals = data.draw(st.permutations(case.events))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "LEAF", leaf)
        online = told(case, arrivals, data.draw(st.integers(0, len(arrivals))))
        again = data.draw(st.lists(st.sampled_from(arrivals))) if arrivals else []
        assert not any(online.add(event) for event in again)
        assert not faults(online, case)


@given(events(max_size=40), st.data())
@settings(max_examples=25)
def test_every_function_of_every_type_equals_the_reference_from_tiles(rows, data):
    asked = data.draw(st.lists(st.tuples(st.just("ann"), st.sampled_from([START + n * QUARTER for n in range(16)]))))
    case = Case(EVERYTHING, [{**row, "user": "ann"} for row in rows], asked)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "LEAF", 2)
        assert not faults(told(case, case.events, len(rows) // 2), case)


@pytest.mark.usefixtures("small_tiles")
def test_what_was_told_is_there_after_a_restart(tmp_path):
    rows = [{**EVENT, "id": n, "time": START + n * TICK} for n in range(50)]
    case = Case(PLAIN, rows, [("ann", START + HOUR)])
    told(case, rows, 20, FileStore(tmp_path / "features.sqlite"))
    again = OnlineFeatures([PLAIN], store=FileStore(tmp_path / "features.sqlite"))
    assert not faults(again, case)
    assert not any(again.add(row) for row in rows)
    assert not faults(again, case)


@pytest.mark.usefixtures("small_tiles")
def test_two_writers_and_a_reader_of_one_store_lose_nothing(store):
    rows = [{**EVENT, "id": n, "time": START + n * TICK} for n in range(60)]
    case = Case(PLAIN, rows, [("ann", START + HOUR)])
    reader, *writers = (OnlineFeatures([PLAIN], store=store) for _ in range(3))
    assert faults(reader, case)  # it has read, and remembers, that there is nothing
    shares = (rows[:40], rows[20:])
    threads = [
        Thread(target=lambda w=writer, s=share: [w.add(row) for row in s])
        for writer, share in zip(writers, shares, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for online in (OnlineFeatures([PLAIN], store=store), reader):
        assert not faults(online, case)


def test_the_newest_event_is_known_to_all_that_share_a_store_and_after_a_restart(store):
    writer, reader = OnlineFeatures([COUNT], store=store), OnlineFeatures([COUNT], store=store)
    assert reader.newest_events() == {"visits": None}
    rows = [{**EVENT, "id": n, "user": f"u{n}", "time": START + n * HOUR} for n in (3, 1, 2)]
    assert writer.bootstrap(pl.DataFrame(rows, schema=SCHEMA, orient="row")) == 3
    assert reader.newest_events() == writer.newest_events() == {"visits": START + 3 * HOUR}
    writer.add({**EVENT, "id": 9, "time": START - HOUR})
    assert reader.newest_events() == {"visits": START + 3 * HOUR}
    reader.add({**EVENT, "id": 10, "time": START + 5 * HOUR})
    writer.add({**EVENT, "id": 11, "time": START + 4 * HOUR})
    writer.add({**EVENT, "id": 12, "time": START + 5 * HOUR + TICK})
    assert writer.newest_events() == {"visits": START + 5 * HOUR + TICK}
    assert OnlineFeatures([COUNT], store=store).newest_events() == {"visits": START + 5 * HOUR}  # or a second older
    assert [online.features({"user": "ann"}, START + 6 * HOUR)["visits"] for online in (writer, reader)] == [2, 2]


def test_the_newest_event_costs_no_second_write_for_each(monkeypatch):
    class Counting(MemoryStore):
        writes = 0

        def write(self, *arguments):
            self.writes += 1
            return super().write(*arguments)

    store, now = Counting(), [5.0]
    monkeypatch.setattr(newest, "monotonic", lambda: now[0])
    online = OnlineFeatures([COUNT], store=store)
    for n in range(1000):
        now[0] += 0.25
        online.add({**EVENT, "id": n, "time": START + n * HOUR})
    assert store.writes == 1000 + 250


def test_a_window_reads_a_number_of_tiles_and_not_of_events(monkeypatch):
    reads: list[int] = []

    class Counting(MemoryStore):
        def read(self, wanted):
            reads.extend(len(fields) for _, fields in wanted)
            return super().read(wanted)

        def generation(self):
            return None

    half_day = replace(COUNT, features=(Aggregate(name="visits", function="count", window=12 * HOUR),))
    for number in (2_000, 20_000):
        online = OnlineFeatures([half_day], store=Counting())
        frame = pl.DataFrame({"id": range(number), "user": "ann"}).with_columns(
            time=START + pl.duration(microseconds=pl.col("id") * (13 * HOUR // TICK // number))
        )
        online.bootstrap(frame)
        del reads[:]
        seen = online.features({"user": "ann"}, START + 13 * HOUR)["visits"]
        assert seen == frame.filter(pl.col("time") >= START + HOUR).height
        assert sum(reads) < 120


@pytest.mark.parametrize(
    ("at", "seen"), [(START, 0), (START + TICK, 1), (START + HOUR, 1), (START + HOUR + TICK, 0), (START - TICK, 0)]
)
def test_a_window_holds_its_start_and_not_its_end(store, at, seen):
    online = OnlineFeatures([COUNT], store=store)
    assert online.add(EVENT)
    assert online.features({"user": "ann"}, at) == {"visits": seen}


@pytest.mark.parametrize("leaf", [1, 128])
def test_another_event_with_the_key_of_one_is_refused_and_the_first_counts(store, monkeypatch, leaf):
    monkeypatch.setattr(tiles, "LEAF", leaf)
    online = OnlineFeatures([PLAIN], store=store)
    first = [{**EVENT, "id": n} for n in range(3)]
    assert [online.add(row) for row in first] == [True] * 3
    for other in ({**EVENT, "amount": 77.0}, {**EVENT, "time": START + HOUR}):
        with pytest.raises(FeatureError, match=r"two different events of 'ann' have the key \(1\.0,\)"):
            online.add(other)
    with pytest.raises(FeatureError, match="two different events"):
        online.bootstrap(pl.DataFrame([{**EVENT, "id": 1, "amount": 78.0}], schema=SCHEMA, orient="row"))
    assert online.features({"user": "ann"}, START + HOUR)["sum_double_all"] == 15.0


@pytest.mark.parametrize("leaf", [1, 128])
def test_an_event_that_turns_out_to_have_been_known_earlier_counts_from_then(store, monkeypatch, leaf):
    monkeypatch.setattr(tiles, "LEAF", leaf)
    view = replace(COUNT, known_time="known")
    online = OnlineFeatures([view], store=store)
    rows = [{**EVENT, "id": n, "known": START + 3 * QUARTER} for n in range(3)]
    assert all(online.add(row) for row in rows)
    assert online.features({"user": "ann"}, START + 2 * QUARTER) == {"visits": 0}
    assert not online.add({**rows[1], "known": START + QUARTER})
    assert online.features({"user": "ann"}, START + 2 * QUARTER) == {"visits": 1}
    assert online.features({"user": "ann"}, START + 4 * QUARTER) == {"visits": 3}


def test_an_absent_entity_gets_the_empty_values_or_is_refused(store):
    lively = replace(COUNT, time_to_live=HOUR, features=(Aggregate(name="visits", function="count"),))
    strict = replace(lively, name="strict", absent="refuse", features=(Aggregate(name="strict", function="count"),))
    online = OnlineFeatures([lively], store=store)
    online.add(EVENT)
    assert online.features({"user": "ann"}, START + HOUR) == {"visits": 1}
    assert online.features({"user": "ann"}, START + HOUR + TICK) == {"visits": 0}
    assert online.absent({"user": "ann"}, START + HOUR + TICK) == ("visits",)
    assert online.absent({"user": "ann"}, START + HOUR) == ()
    refusing = OnlineFeatures([strict], store=store)
    refusing.add(EVENT)
    with pytest.raises(FeaturesAbsent, match="user 'ann' has no event that lives"):
        refusing.features({"user": "ann"}, START + HOUR + TICK)
    with pytest.raises(FeaturesAbsent, match="'nobody'"):
        refusing.features({"user": "nobody"}, START)


def test_many_entities_are_read_at_once_in_their_order(store):
    online = OnlineFeatures([COUNT], store=store)
    online.bootstrap(pl.DataFrame([{**EVENT, "id": n, "user": f"u{n % 3}"} for n in range(7)], schema=SCHEMA))
    asked = [{"user": name} for name in ("u2", "u0", "nobody", "u1", "u0")]
    assert [row["visits"] for row in online.features_of(asked, START + TICK)] == [2, 3, 0, 2, 3]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"user": None}, "no value for 'user'"),
        ({"time": None}, "no value for 'time'"),
        ({"id": None}, "no value for 'id'"),
        ({"time": "yesterday"}, "must be a datetime"),
        ({"amount": float("nan")}, "finite"),
        ({"amount": "5"}, "must hold numbers"),
        ({"stars": 1.5}, "must hold integer values"),
        ({"user": 7}, "holds str, found the int 7"),
    ],
)
def test_a_wrong_event_is_refused_and_changes_nothing(store, change, words):
    online = OnlineFeatures([PLAIN], store=store)
    online.add(EVENT)
    before = online.features({"user": "ann"}, START + HOUR)
    with pytest.raises(FeatureError, match=words):
        online.add({**EVENT, "id": 2, **change})
    lacking = {name: value for name, value in EVENT.items() if name != "shop"}
    with pytest.raises(FeatureError, match="'shop' is missing"):
        online.add(lacking)
    assert online.features({"user": "ann"}, START + HOUR) == before


def test_a_question_about_nobody_or_about_another_type_is_refused(store):
    online = OnlineFeatures([COUNT], store=store)
    online.add(EVENT)
    with pytest.raises(FeatureError, match="no value for 'user'"):
        online.features({}, START)
    with pytest.raises(FeatureError, match="holds str, found the int 42"):
        online.features({"user": 42}, START)


def test_views_that_cannot_share_a_stream_are_refused():
    other = replace(COUNT, name="other", source="elsewhere", event_key=())
    with pytest.raises(InvalidDefinition) as refused:
        OnlineFeatures([COUNT, other])
    assert [words in str(refused.value) for words in ("no event_key", "different sources", "named 'visits'")] == [
        True
    ] * 3


WRITER = """
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from mlops_assets.features import tiles
from mlops_assets.features.online import OnlineFeatures
from mlops_assets.features.state import FileStore
sys.path.insert(0, sys.argv[2])
from test_online import EVENT, PLAIN
tiles.LEAF = 2
online = OnlineFeatures([PLAIN], store=FileStore(Path(sys.argv[1])))
for number in range(100_000):
    online.add({**EVENT, "id": number, "time": EVENT["time"] + timedelta(microseconds=number)})
    print(number, flush=True)
"""


def test_a_killed_writer_loses_nothing_that_it_acknowledged_and_leaves_nothing_half_written(tmp_path, monkeypatch):
    path = tmp_path / "features.sqlite"
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{here.parents[1]}:{here}"}
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), str(here)], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert writer.stdout is not None
    lines = [writer.stdout.readline() for _ in range(40)]
    writer.send_signal(signal.SIGKILL)
    lines += writer.stdout.read().splitlines()
    writer.wait()
    acknowledged = int(lines[-1]) + 1
    monkeypatch.setattr(tiles, "LEAF", 2)
    online = OnlineFeatures([PLAIN], store=FileStore(path))
    number = online.features({"user": "ann"}, START + HOUR)["count_double_all"]
    assert acknowledged <= number <= acknowledged + 1
    rows = [{**EVENT, "id": n, "time": START + n * TICK} for n in range(number)]
    assert not any(online.add(row) for row in rows)
    assert not faults(online, Case(PLAIN, rows, [("ann", START + HOUR)]))


def test_a_file_that_is_none_is_unavailable(tmp_path):
    (tmp_path / "features.sqlite").write_bytes(b"this is no database at all, it only has its name" * 100)
    with pytest.raises(ServiceUnavailable, match=r"features\.sqlite"):
        FileStore(tmp_path / "features.sqlite")


def planted(monkeypatch, fault):
    """Break the engine: an edge, the order of ties, the rule of nulls, a late event that is dropped, knowledge."""
    inside, insert = tiles._inside, tiles._with_event
    if fault == "end":
        monkeypatch.setattr(tiles, "_inside", lambda leaf, window: inside(leaf, replace(window, now=window.now + 1)))
    elif fault == "start":
        shifted = lambda window: replace(window, start=window.start and window.start + 1)  # noqa: E731
        monkeypatch.setattr(tiles, "_inside", lambda leaf, window: inside(leaf, shifted(window)))
    elif fault == "ties":
        monkeypatch.setattr(parts, "_pairs", lambda piece, latest: [(piece.times[-1], piece.values[-1])])
    elif fault == "nulls":
        monkeypatch.setattr(parts.Measures, "_value", staticmethod(lambda *_args: 1.0))
    elif fault == "late":
        is_late = lambda leaf, event: leaf.times and event.then < leaf.times[-1]  # noqa: E731
        monkeypatch.setattr(tiles, "_with_event", lambda l, e: l if is_late(l, e) else insert(l, e))  # noqa: E741
    else:
        monkeypatch.setattr(tiles, "_inside", lambda leaf, window: inside(replace(leaf, known=None), window))


@pytest.mark.parametrize("fault", ["end", "start", "ties", "nulls", "late", "known"])
def test_a_planted_fault_is_found(monkeypatch, fault):
    rows = [
        {**EVENT, "id": 1, "amount": 9.0},
        {**EVENT, "id": 2, "amount": 2.0},
        {**EVENT, "id": 3, "amount": None, "time": START + QUARTER},
        {**EVENT, "id": 4, "amount": 4.0, "time": START - HOUR},
        {**EVENT, "id": 5, "amount": 1.0, "time": START - HOUR / 2, "known": START + 8 * HOUR},
    ]
    case = Case(replace(EVERYTHING, time_to_live=None), rows, [("ann", START + n * QUARTER) for n in range(-2, 9)])
    assert not faults(told(case, rows, 0), case)
    planted(monkeypatch, fault)
    assert faults(told(case, rows, 0), case)
