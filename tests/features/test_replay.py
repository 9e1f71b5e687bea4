"""What was served is compared with batch as of what the server knew, and every difference is found and told."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from feature_cases import SCHEMA, START, TICK, differences, events, moments, rows_of, users, views
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_engine import ReferenceEngine

from mlops_assets.features.parity import compare, merged
from mlops_assets.features.reference import reference_features
from mlops_assets.features.replay import replay
from mlops_assets.features.view import Aggregate, FeatureView

REQUESTS = {"entity": pl.String, "at": pl.Datetime("us", "UTC"), "told": pl.Int64}


def frame(rows):
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


@given(views(most=3), events(max_size=14), st.data())
@settings(max_examples=40)
def test_each_request_is_answered_by_what_its_server_had_been_told(view, rows, data):
    began = data.draw(st.integers(0, len(rows)))
    base, told = rows[:began], rows[began:]
    again = data.draw(st.lists(st.sampled_from(rows), max_size=3)) if rows else []
    told = [*told, *again] if view.event_key else told
    asked = data.draw(st.lists(st.tuples(users, moments, st.integers(0, len(told))), max_size=8))
    found = replay(
        view,
        ReferenceEngine(),
        base=frame(base),
        told=frame(told),
        asked=pl.DataFrame(asked, schema=REQUESTS, orient="row"),
    )
    meant = [reference_features(view, [*base, *told[:known]], [(who, when)])[0] for who, when, known in asked]
    assert differences(rows_of(found), meant) == []


TASTE = FeatureView(
    name="taste",
    source="shop",
    entity="user",
    event_time="time",
    features=(Aggregate(name="seen", function="count"), Aggregate(name="last", function="last", column="amount")),
)


def event(id, when, amount):
    return {**dict.fromkeys(SCHEMA), "id": id, "user": "ann", "time": when, "amount": amount}


def answered(told, *, base=(), asked=((1, 0),), key=("id",)):
    """Return the replayed answers to ann at hour ``at`` when ``known`` events had been told."""
    requests = [("ann", START + at * timedelta(hours=1), known) for at, known in asked]
    asked_frame = pl.DataFrame(requests, schema=REQUESTS, orient="row")
    found = replay(TASTE, ReferenceEngine(), base=frame(base), told=frame(told), asked=asked_frame, event_key=key)
    return found.rows()


def test_an_event_that_is_told_later_is_not_seen_though_it_happened_before():
    told = [event(1, START, 5.0), event(2, START + TICK, 7.0)]
    assert answered(told, asked=[(1, 2), (1, 0), (1, 1)]) == [(2, 7.0), (0, None), (1, 5.0)]


def test_of_different_events_of_one_key_the_first_counts():
    assert answered([event(1, START, 9.0)], base=[event(1, START, 5.0)], asked=[(1, 1)]) == [(1, 5.0)]


class Counting(ReferenceEngine):
    """Remembers of how many events it was asked."""

    events = 0

    def features_at(self, view, events, spine):
        self.events += events.height
        return super().features_at(view, events, spine)


def test_events_are_not_copied_for_requests_that_come_in_the_order_of_time():
    told = [event(n, START + n * TICK, 1.0) for n in range(40)]
    requests = [("ann", START + (n + 1) * TICK, max(n - 3, 0)) for n in range(40)]
    asked = pl.DataFrame(requests, schema=REQUESTS, orient="row")
    others = [{**event(1000 + n, START, 1.0), "user": "bob"} for n in range(60)]
    engine = Counting()
    found = replay(TASTE, engine, base=frame(others), told=frame(told), asked=asked, event_key=("id",))
    assert found["seen"].to_list() == [known for _, _, known in requests]
    assert engine.events == 40


TYPED = FeatureView(
    name="typed",
    source="shop",
    entity="user",
    event_time="time",
    features=(
        Aggregate(name="n", function="count"),
        Aggregate(name="mean", function="mean", column="amount"),
        Aggregate(name="due", function="max", column="due", type="time"),
        Aggregate(name="shop", function="last", column="shop", type="string"),
        Aggregate(name="stars", function="last_k", column="stars", type="integer", k=3),
        Aggregate(name="dues", function="last_k", column="due", type="time", k=2),
    ),
)
NEW_YEAR = datetime(2024, 1, 1, tzinfo=UTC)
BATCH = pl.DataFrame(
    {
        "n": [1, 2, 0],
        "mean": [0.1, None, None],
        "due": [NEW_YEAR, None, NEW_YEAR],
        "shop": ["a", "b", None],
        "stars": [[1, 2], [], [3]],
        "dues": [[NEW_YEAR], [], [NEW_YEAR, NEW_YEAR]],
    },
    schema_overrides={"due": pl.Datetime("us", "UTC"), "dues": pl.List(pl.Datetime("us", "UTC"))},
)
TEXT = NEW_YEAR.isoformat()
SERVED = {
    "n": [1, 2, 0],
    "mean": [0.1, None, None],
    "due": [TEXT, None, "2024-01-01T01:00:00+01:00"],
    "shop": ["a", "b", None],
    "stars": [[1, 2], [], [3]],
    "dues": [[TEXT], [], [TEXT, TEXT]],
}


def compared(**changes):
    served = {name: values for name, values in {**SERVED, **changes}.items() if values is not None}
    report = compare(TYPED, ["r1", "r2", "r3"], pl.DataFrame(served), BATCH)
    return report, {feature.name: feature for feature in report.features if feature.differences}


def test_equal_values_of_every_type_agree_as_json_tells_them():
    report, found = compared()
    assert found == {}
    assert (report.agrees, report.is_evidence, report.replayed) == (True, True, 3)
    assert report.summary == "typed: all 18 values of 3 requests are those of batch"


@pytest.mark.parametrize(
    ("name", "values", "counts"),
    [
        ("n", [1, 3, 0], (1, 0, 0)),
        ("n", [1.0, 2.5, 0.0], (1, 0, 0)),
        ("mean", [0.1 + 2**-56, None, None], (1, 0, 0)),
        ("mean", [0.1, 0.0, None], (0, 0, 1)),
        ("mean", [None, None, None], (0, 1, 0)),
        ("due", [TEXT, None, "2024-01-01T01:00:00+00:00"], (1, 0, 0)),
        ("due", [TEXT, None, "soon"], (1, 0, 0)),
        ("shop", ["a", "c", "x"], (1, 0, 1)),
        ("shop", [1, 2, None], (2, 0, 0)),
        ("stars", [[2, 1], [], [3]], (1, 0, 0)),
        ("stars", ["1", "", "3"], (3, 0, 0)),
        ("dues", [[TEXT], [TEXT], [TEXT, TEXT]], (1, 0, 0)),
        ("n", None, (0, 3, 0)),
    ],
)
def test_every_difference_is_found_and_only_where_it_is(name, values, counts):
    report, found = compared(**{name: values})
    assert list(found) == [name]
    assert (found[name].mismatches, found[name].missing, found[name].extra) == counts
    assert not report.agrees
    assert found[name].examples[0].startswith("r")
    assert name in report.summary


def test_reports_add_up_and_nothing_served_is_no_evidence():
    report, _ = compared(n=[9, 2, 0])
    both = merged([report, report], TYPED)
    assert (both.replayed, both.differences, both.features[0].compared) == (6, 2, 6)
    nothing = merged([], TYPED)
    assert (nothing.agrees, nothing.is_evidence) == (True, False)
    assert "nothing was served" in nothing.summary
    assert both.to_json()["features"][0]["examples"] == ["r1: served 9, batch 1"] * 2
