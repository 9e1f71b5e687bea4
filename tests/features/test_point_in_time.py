"""Feature tables joined to a spine: no row is lost, doubled or moved, and nothing leaks from after a row's moment."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from feature_cases import QUARTER, START, TICK, moments
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.errors import FeatureError
from mlops_assets.features import point_in_time
from mlops_assets.features.latest_known import LatestKnown
from mlops_assets.features.point_in_time import FeatureTable, join_point_in_time, write_point_in_time
from mlops_assets.features.row_blocks import write_blocks

UTC_TIME = pl.Datetime("us", "UTC")
SPINE = {"row": pl.Int64, "user": pl.String, "film": pl.Int64, "at": UTC_TIME}
ROWS = {
    "user": pl.String,
    "film": pl.Int64,
    "time": UTC_TIME,
    "known": UTC_TIME,
    "value": pl.Float64,
    "text": pl.String,
}
USER = FeatureTable(
    name="user",
    rows=pl.DataFrame(schema=ROWS),
    entity=("user",),
    event_time="time",
    features=("value", "text"),
    empty={"value": -1.0},
    prefix="user_",
)
FILM = replace(USER, name="film", entity=("film",), known_time="known", empty={}, prefix="film_")
BOTH = replace(FILM, name="both", entity=("user", "film"), time_to_live=2 * QUARTER, prefix="both_")

users = st.sampled_from(["ann", "bob", "čeněk"])
films = st.sampled_from([1, 2, 3_000_000_000])
delays = st.sampled_from([timedelta(0), timedelta(0), TICK, QUARTER, 4 * QUARTER, -QUARTER])
spines = st.lists(st.tuples(users | st.just("nobody"), films | st.just(-7), moments), max_size=12)


@st.composite
def histories(draw, keys):
    """Return rows of a table, of one entity and times at most one, in any order."""
    rows = draw(st.lists(st.tuples(users, films, moments, delays, st.none() | st.floats(-9, 9), st.sampled_from("ab"))))
    drawn = [dict(zip(ROWS, (user, film, at, at + late, *rest), strict=True)) for user, film, at, late, *rest in rows]
    once = {tuple(row[key] for key in keys): row for row in drawn}
    return draw(st.permutations(list(once.values())))


def reference(table, rows, asked):
    """Return what a row of the spine sees, found by looking at all rows of the table."""
    seen = [row for row in rows if all(row[key] == asked[key] for key in table.entity) and row["time"] < asked["at"]]
    if table.known_time:
        seen = [row for row in seen if row["known"] < asked["at"]]
    last = max(seen, key=lambda row: (row["time"], row["known"]), default=None)
    if last is None or (table.time_to_live and last["time"] < asked["at"] - table.time_to_live):
        return {f"{table.prefix}{name}": table.empty.get(name) for name in table.features}
    return {f"{table.prefix}{name}": last[name] for name in table.features}


def as_spine(asked):
    return pl.DataFrame([(number, *row) for number, row in enumerate(asked)], schema=SPINE, orient="row")


def with_rows(table, rows):
    return replace(table, rows=pl.DataFrame(rows, schema=ROWS, orient="row"))


def joined(spine, tables, rows=5):
    return pl.concat(join_point_in_time(spine, tables, time="at", rows=rows))


def assert_joined_as_meant(asked, histories):
    spine = as_spine(asked)
    found = joined(spine, [with_rows(table, rows) for table, rows in histories])
    assert found.select(SPINE.keys()).equals(spine)
    for row in found.rows(named=True):
        for table, rows in histories:
            meant = reference(table, rows, row)
            assert {name: row[name] for name in meant} == meant


user_rows, film_rows = histories(("user", "time")), histories(("film", "time", "known"))
both_rows = histories(("user", "film", "time", "known"))


@given(spines, user_rows, film_rows, both_rows)
@settings(max_examples=60)
def test_every_row_is_there_once_in_its_place_with_what_was_known_just_before(asked, user, film, both):
    assert_joined_as_meant(asked, [(USER, user), (FILM, film), (BOTH, both)])


@given(spines, film_rows, film_rows)
@settings(max_examples=40)
def test_what_happens_or_becomes_known_later_changes_nothing_before(asked, rows, others):
    spine = as_spine(asked)
    for now in sorted({row[-1] for row in asked})[-3:]:
        past = [row for row in rows if row["time"] < now and row["known"] < now]
        late = [row for row in others if row["time"] >= now or row["known"] >= now]
        before = spine.filter(pl.col("at") <= now)
        assert joined(before, [with_rows(FILM, past + late)]).equals(joined(before, [with_rows(FILM, past)]))


@given(spines, film_rows, st.randoms(use_true_random=False))
@settings(max_examples=25)
def test_neither_the_order_of_rows_nor_the_size_of_blocks_shows(asked, rows, random):
    spine = as_spine(asked)
    whole = joined(spine, [with_rows(FILM, rows)], rows=1000)
    random.shuffle(rows)
    assert joined(spine.lazy(), [with_rows(FILM, rows)], rows=2).equals(whole)


def many_rows(number, entities, seed):
    random = np.random.default_rng(seed)
    happened = random.integers(0, 10**12, number)
    late = random.integers(0, 10**11, number)
    user, film = random.integers(0, entities, (2, number))
    time, known = (pl.Series(instants).cast(UTC_TIME) for instants in (happened, happened + late))
    columns = {"user": [f"user {n}" for n in user], "film": film, "time": time, "known": known}
    return pl.DataFrame(columns | {"value": random.normal(size=number), "text": ["a"] * number}, schema=ROWS)


def test_a_great_join_equals_the_one_of_polars_row_by_row():
    """Without knowledge time, Polars' own join of the latest earlier row says the same."""
    rows, asked = many_rows(20_000, 300, 1), many_rows(50_000, 320, 2).select("user", "film", at="time")
    spine = asked.with_row_index("row")
    table = replace(FILM, rows=rows, known_time=None)
    ordered = spine.sort("at").join_asof(
        rows.sort("time").select("film", "time", film_value="value"),
        left_on="at",
        right_on="time",
        by="film",
        allow_exact_matches=False,
        check_sortedness=False,
    )
    assert joined(spine, [table], rows=7_000)["film_value"].equals(ordered.sort("row")["film_value"])


def test_a_hot_key_known_late_is_found_in_logarithmic_steps():
    """Every row before the asked moment became known after it but the first: each question walks over all of them."""
    number = 30_000
    times = [START + n * TICK for n in range(number)]
    known = [START - QUARTER, *([START + QUARTER] * (number - 1))]
    rows = pl.DataFrame({"user": "ann", "film": 1, "time": times, "known": known, "value": 1.0, "text": "a"}, ROWS)
    asked = [("ann", 1, START + n * TICK) for n in range(1, number)]
    found = joined(
        as_spine(asked), [replace(FILM, rows=rows.with_columns(value=pl.int_range(number).cast(float)))], 999
    )
    assert found["film_value"].to_list() == [0.0] * (number - 1)


@pytest.mark.parametrize("values", [[-5, 3], [2**62, 2**63 - 1], [-(2**63), 2**63 - 1], [7]])
def test_entities_of_any_size_are_found(values):
    rows = [{"user": "u", "film": film, "time": START, "known": START, "value": 1.0, "text": "a"} for film in values]
    asked = [("u", film, START + TICK) for film in [*values, -6, 8, 0, -(2**63), 2**63 - 1]]
    expected = [1.0 if film in values else None for _, film, _ in asked]
    assert joined(as_spine(asked), [with_rows(FILM, rows)])["film_value"].to_list() == expected


def test_categories_and_strings_are_the_same_entity():
    row = {"user": "ann", "film": 1, "time": START, "known": START, "value": 1.0, "text": "a"}
    table = with_rows(USER, [row])
    found = joined(as_spine([("ann", 1, START + TICK)]).with_columns(pl.col("user").cast(pl.Categorical)), [table])
    assert found["user_value"].to_list() == [1.0]


def test_an_empty_spine_and_an_empty_table_keep_their_columns():
    found = joined(as_spine([]), [USER, FILM])
    assert found.schema == pl.Schema(
        SPINE | {"user_value": pl.Float64, "user_text": pl.String, "film_value": pl.Float64, "film_text": pl.String}
    )
    assert joined(as_spine([("ann", 1, START)]), [USER])["user_value"].to_list() == [-1.0]


def test_what_is_written_is_what_is_joined(tmp_path):
    rows, spine = many_rows(500, 20, 3), many_rows(2_000, 25, 4).select("user", "film", at="time")
    spine.write_parquet(tmp_path / "spine.parquet", row_group_size=300)
    table = replace(FILM, rows=rows)
    number = write_point_in_time(
        pl.scan_parquet(tmp_path / "spine.parquet"), [table], tmp_path / "out.parquet", time="at"
    )
    assert number == spine.height
    assert pl.read_parquet(tmp_path / "out.parquet").equals(joined(spine, [table]))


def test_a_join_that_fails_half_way_leaves_what_was_written_before(tmp_path):
    spine = as_spine([("ann", 1, START), ("ann", 1, START)])
    path = tmp_path / "out.parquet"
    write_point_in_time(spine, [USER], path, time="at")
    broken = pl.concat([spine, spine.with_columns(user=pl.lit(None, pl.String))])
    with pytest.raises(FeatureError, match="the spine: column 'user' is null in 2 rows"):
        write_blocks(join_point_in_time(broken, [USER], time="at", rows=2), path)
    assert pl.read_parquet(path).height == 2


ROW = {"user": "ann", "film": 1, "time": START, "known": START, "value": 1.0, "text": "a"}


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (replace(USER, features=("nope",), empty={}), "'user' has no column 'nope'; it has"),
        (replace(USER, entity=("who",)), "'user' has no column 'who'"),
        (replace(USER, event_time="value"), "column 'value' must be a Datetime or a Date, it is Float64"),
        (replace(USER, entity=()), "'user' names no entity"),
        (replace(USER, empty={"nope": 1}), r"'user' lacks \['nope'\]"),
        (replace(USER, features=("value", "value")), "'user_value' is also in feature table 'user'; give"),
        (
            replace(USER, features=("film",), empty={}, prefix=""),
            "'film' is also in the spine; give the table a prefix",
        ),
        (replace(USER, time_to_live=timedelta(0)), "time_to_live"),
        (with_rows(USER, [ROW, {**ROW, "user": None}]), "'user': column 'user' is null in 1 rows"),
        (with_rows(USER, [ROW, {**ROW, "value": 2.0}]), "'user': 1 rows have another 'value' than a row of the same"),
        (
            replace(USER, rows=USER.rows.with_columns(pl.col("user").cast(pl.Int64))),
            "'user': column 'user' is Int64 and String in the spine",
        ),
    ],
)
def test_what_cannot_be_joined_is_refused_with_its_place(table, said):
    with pytest.raises(FeatureError, match=said):
        joined(as_spine([("ann", 1, START)]), [table])


def test_equal_rows_are_one():
    assert joined(as_spine([("ann", 1, START + TICK)]), [with_rows(USER, [ROW, ROW])])["user_value"].to_list() == [1.0]


@pytest.mark.parametrize("fault", ["moment", "known", "older"])
def test_a_planted_leak_is_found(monkeypatch, fault):
    early = {**ROW, "known": START - QUARTER}
    rows = [early, {**early, "time": START - TICK, "value": 2.0}, {**ROW, "known": START + QUARTER, "value": 3.0}]
    asked = [("ann", 1, START + n * TICK) for n in range(3)] + [("ann", 1, START + n * QUARTER) for n in (1, 2)]
    assert_joined_as_meant(asked, [(FILM, rows)])
    if fault == "moment":
        search = point_in_time.first_at_or_after
        later = lambda times, first, stop, now: search(times, first, stop, now + 1)  # noqa: E731
        monkeypatch.setattr(point_in_time, "first_at_or_after", later)
    elif fault == "known":
        monkeypatch.setattr(LatestKnown, "before", lambda _, first, end, now: end - 1)
    else:
        monkeypatch.setattr(LatestKnown, "before", lambda _, first, end, now: end - 2)
    with pytest.raises(AssertionError):
        assert_joined_as_meant(asked, [(FILM, rows)])
