"""One meaning in every engine: the batch engine equals the reference to the last bit, and nothing sees the future."""

from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from feature_cases import (
    EVERYTHING,
    QUARTER,
    SCHEMA,
    SPINE,
    START,
    TICK,
    Case,
    cases,
    differences,
    events,
    moments,
    users,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.errors import FeatureError
from mlops_assets.features import distinct, event_table, extremes, polars_engine, sources
from mlops_assets.features.answers import feature_dtype
from mlops_assets.features.exact import IntegerPrefixes, _cumulated
from mlops_assets.features.known_since import KnownSince
from mlops_assets.features.polars_engine import PolarsEngine
from mlops_assets.features.reference import reference_features
from mlops_assets.features.view import Aggregate, FeatureView

HOUR = 4 * QUARTER
EVENT = dict.fromkeys(SCHEMA) | {"id": 1, "user": "ann", "time": START, "known": START, "amount": 5.0, "paid": True}
PLAIN = replace(EVERYTHING, known_time=None, time_to_live=None, event_key=())


def in_batch(case):
    return PolarsEngine().features_at(case.view, case.frame(), case.spine()).rows(named=True)


def faults(case):
    return differences(in_batch(case), reference_features(case.view, case.events, case.asked))


def of_amounts(*amounts, view=PLAIN, apart=TICK, at=START + HOUR):
    rows = [{**EVENT, "id": n, "time": START + n * apart, "amount": amount} for n, amount in enumerate(amounts)]
    return in_batch(Case(view, rows, [("ann", at)]))[0]


@given(cases())
@settings(max_examples=50)
def test_the_batch_engine_equals_the_reference_in_value_and_type(case):
    assert not faults(case)


@given(events(), st.lists(st.tuples(users, moments), max_size=6))
@settings(max_examples=25)
def test_every_function_of_every_type_equals_the_reference(rows, asked):
    assert not faults(Case(EVERYTHING, rows, asked))


@contextmanager
def small_blocks():
    """Everything that is done for very many rows is done for a few."""
    settings = {
        polars_engine: {"_BLOCK": 3, "ROWS": 4, "_NUMBERS": 1, "_PAIRS": 5},
        extremes: {"_SPAN_LEVEL": 1, "_SPAN": 2, "_LONG": 4, "_SPARSE": 1},
        distinct: {"_FEW": 0},
    }
    with pytest.MonkeyPatch.context() as patch:
        for module, values in settings.items():
            for name, value in values.items():
                patch.setattr(module, name, value)
        yield


@given(cases())
@settings(max_examples=40)
def test_what_is_done_for_very_many_rows_equals_the_reference(case):
    with small_blocks():
        assert not faults(case)


@given(cases())
@settings(max_examples=15)
def test_lazy_frames_and_categories_give_the_same_in_declared_types(case):
    texts = pl.col("user", "shop")
    frame = case.frame().lazy().with_columns(texts.cast(pl.Categorical))
    found = PolarsEngine().features_at(case.view, frame, case.spine().lazy())
    assert found.equals(PolarsEngine().features_at(case.view, case.frame(), case.spine()))
    assert found.schema == pl.Schema({feature.name: feature_dtype(feature) for feature in case.view.features})


@given(cases(), events(max_size=8))
@settings(max_examples=25)
def test_nothing_that_happens_or_becomes_known_at_or_after_a_moment_changes_its_features(case, others):
    for who, now in case.asked[:3]:
        past = [row for row in case.events if row["time"] < now]
        later = [{**row, "id": 1000 + row["id"], "time": max(row["time"], now)} for row in others]
        if case.view.known_time:
            later += [{**row, "id": 2000 + row["id"], "known": max(row["known"], now)} for row in others]
        asked = [(who, now)]
        assert in_batch(Case(case.view, past, asked)) == in_batch(Case(case.view, [*later, *past], asked))


@given(cases(), st.data())
@settings(max_examples=25)
def test_each_row_of_the_spine_is_answered_in_its_place(case, data):
    order = data.draw(st.permutations(range(len(case.asked))))
    straight = in_batch(case)
    shuffled = in_batch(Case(case.view, case.events, [case.asked[place] for place in order]))
    assert len(straight) == len(case.asked)
    assert shuffled == [straight[place] for place in order]


@pytest.mark.parametrize(
    ("offset", "seen"), [(0, 0), (-1, 1), (1, 0), (-HOUR // TICK, 1), (-HOUR // TICK - 1, 0), (-HOUR // TICK + 1, 1)]
)
def test_a_window_holds_its_start_and_not_its_end(offset, seen):
    (answer,) = in_batch(Case(PLAIN, [{**EVENT, "time": START + offset * TICK}], [("ann", START)]))
    assert answer["count_double_hour"] == seen
    assert answer["last_double_hour"] == (5.0 if seen else None)


def test_sums_are_exact_where_running_sums_are_not():
    values = [1e16, 1.0, -1e16, 0.1]
    assert sum(values) == 0.1
    assert of_amounts(*values)["sum_double_all"] == 1.1


def test_equal_values_deviate_by_exactly_nothing():
    assert of_amounts(*[0.1] * 10)["std_double_hour"] == 0.0


def test_of_several_events_at_the_latest_moment_the_last_is_the_greatest_and_the_first_the_least():
    for order in ((2.0, 9.0, 4.0), (9.0, 4.0, 2.0)):
        found = of_amounts(*order, apart=timedelta(0))
        assert (found["first_double_all"], found["last_double_all"]) == (2.0, 9.0)
        assert found["last_k_double_all"] == [9.0, 4.0, 2.0]


@pytest.mark.parametrize(("values", "total"), [((2**62, 2**62 - 1), 2**63 - 1), ((2**62, 2**62), None)])
def test_a_sum_of_integers_that_does_not_fit_is_null_and_never_wraps(values, total):
    rows = [{**EVENT, "id": n, "stars": value} for n, value in enumerate(values)]
    assert in_batch(Case(PLAIN, rows, [("ann", START + HOUR)]))[0]["sum_integer_all"] == total


def test_a_time_without_zone_is_utc_and_other_zones_are_the_same_instants():
    case = Case(PLAIN, [EVENT], [("ann", START + HOUR)])
    expected = PolarsEngine().features_at(PLAIN, case.frame(), case.spine())
    assert expected["count_double_hour"].to_list() == [1]
    naive = case.frame().with_columns(pl.col("time").dt.replace_time_zone(None))
    berlin = case.frame().with_columns(pl.col("time").dt.convert_time_zone("Europe/Berlin"))
    for frame in (naive, berlin):
        assert PolarsEngine().features_at(PLAIN, frame, case.spine()).equals(expected)


def test_an_hour_is_an_hour_in_the_night_in_which_clocks_change():
    berlin = pl.datetime_range(START, START + 6 * HOUR, "15m", eager=True).dt.convert_time_zone("Europe/Berlin")
    frame = pl.DataFrame({"user": "ann", "time": berlin, "amount": 1.0})
    view = FeatureView(
        name="v",
        source="shop",
        entity="user",
        event_time="time",
        features=(Aggregate(name="n", function="count", column="amount", window=HOUR),),
    )
    assert PolarsEngine().features_at(view, frame, frame)["n"].to_list() == [0, 1, 2, 3] + [4] * 21


def test_another_event_with_the_key_of_one_is_refused_by_its_key():
    keyed = replace(PLAIN, event_key=("id",))
    with pytest.raises(FeatureError, match="two different events|different") as refused:
        in_batch(Case(keyed, [EVENT, {**EVENT, "amount": 7.0}], [("ann", START)]))
    assert "1" in str(refused.value)


def test_a_view_of_a_thousand_features_is_computed():
    features = tuple(
        Aggregate(name=f"f{n}", function="sum", column="amount", window=(n + 1) * QUARTER) for n in range(1000)
    )
    found = of_amounts(1.0, 2.0, view=replace(PLAIN, features=features), apart=2 * QUARTER)
    assert len(found) == 1000
    assert [found["f0"], found["f1"], found["f3"]] == [0.0, 2.0, 3.0]


@pytest.mark.parametrize(("number", "people"), [(200_000, 1), (200_000, 200_000)])
def test_one_entity_with_very_many_events_and_very_many_with_one(number, people):
    frame = pl.DataFrame({"id": range(number)}).select(
        user=(pl.col("id") % people).cast(pl.String),
        time=START + pl.duration(seconds=pl.col("id")),
        amount=pl.lit(0.1),
    )
    view = replace(PLAIN, features=tuple(f for f in PLAIN.aggregates if f.column == "amount" and f.where is None))
    spine = pl.DataFrame({"user": ["0"], "time": [START + timedelta(seconds=number)]}, schema=SPINE)
    (found,) = PolarsEngine().features_at(view, frame, spine).rows(named=True)
    assert found["count_double_all"] == number // people
    assert found["sum_double_all"] == pytest.approx(0.1 * number // people, abs=1)
    assert found["std_double_all"] == 0.0


def plant(monkeypatch, fault):
    """Break the engine: an edge, the order of ties, the rule of nulls, late events, knowledge time, overflow."""
    search = polars_engine.first_at_or_after
    if fault in {"end", "start"}:
        step = 1 if fault == "end" else -1
        monkeypatch.setattr(
            polars_engine, "first_at_or_after", lambda t, low, high, at: search(t, low, high, at + step)
        )
    elif fault == "known":
        all_known = lambda self, happened, low: (happened, np.zeros(len(low), bool))  # noqa: E731
        monkeypatch.setattr(KnownSince, "seen", all_known)
    elif fault == "gap":
        seen = KnownSince.seen
        no_gap = lambda self, happened, low: (seen(self, happened, low)[0], np.zeros(len(low), bool))  # noqa: E731
        monkeypatch.setattr(KnownSince, "seen", no_gap)
    elif fault == "late":
        read = event_table.read_events
        running = lambda frame: frame.filter(pl.col("time") >= pl.col("time").cum_max())  # noqa: E731
        monkeypatch.setattr("mlops_assets.features.windows.read_events", lambda v, e: read(v, running(e)))
    elif fault == "nulls":
        read = event_table.read_events
        filled = lambda frame: frame.with_columns(pl.col("amount").fill_null(0.0))  # noqa: E731
        monkeypatch.setattr("mlops_assets.features.windows.read_events", lambda v, e: read(v, filled(e)))
    elif fault == "ties":
        monkeypatch.setattr(sources.Source, "_ordered", property(lambda source: source.values))
    elif fault == "overflow":
        wrapping = lambda values, _longest: IntegerPrefixes(_cumulated(values), None)  # noqa: E731
        monkeypatch.setattr(sources, "integer_prefixes_of", wrapping)
    elif fault == "repeated":
        monkeypatch.setattr(event_table, "_once_each", lambda _view, frame: frame)


@pytest.mark.parametrize("fault", ["end", "start", "known", "gap", "late", "nulls", "ties", "overflow", "repeated"])
def test_a_planted_fault_is_found(monkeypatch, fault):
    rows = [
        {**EVENT, "id": 1, "amount": 9.0},
        {**EVENT, "id": 2, "amount": None, "time": START + QUARTER},
        {**EVENT, "id": 3, "amount": 4.0, "time": START - HOUR},
        {**EVENT, "id": 4, "amount": 1.0, "time": START - HOUR / 2, "known": START + 8 * HOUR},
        {**EVENT, "id": 5, "amount": 2.0, "time": START - TICK},
        {**EVENT, "id": 5, "amount": 2.0, "time": START - TICK, "known": START + HOUR},
        *({**EVENT, "id": 9 - n, "amount": -float(n), "stars": 2**62, "time": START - TICK} for n in range(4)),
    ]
    view = replace(EVERYTHING, time_to_live=None)
    case = Case(view, rows, [("ann", START + n * QUARTER) for n in range(-4, 9)])
    assert not faults(case)
    plant(monkeypatch, fault)
    assert faults(case)
