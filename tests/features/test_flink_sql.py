"""Flink SQL is text: it names every feature once, grows with what is declared, and refuses what Flink cannot hold."""

import subprocess
import sys
from datetime import timedelta

import pytest
from feature_cases import CONDITIONS, EVERYTHING, views
from hypothesis import given, settings

from mlops_assets.errors import InvalidDefinition
from mlops_assets.features.flink_sql import column_types, flink_sql
from mlops_assets.features.view import Aggregate, EventExpression, FeatureView

FILES = {"connector": "filesystem", "path": "/x", "format": "json"}
HOUR = timedelta(hours=1)


def text_of(view, **types):
    return flink_sql(view, events=FILES, spine=FILES, features={"connector": "print"}, types=types)


def view_of(*features, **options):
    named = {"name": "v", "source": "p", "entity": "user", "event_time": "time"}
    return FeatureView(**named | options, features=features)


def total(name="total", **options):
    return Aggregate(**{"name": name, "function": "sum", "column": "amount"} | options)


@given(views())
@settings(max_examples=60, deadline=None)
def test_a_query_is_the_same_text_each_time_and_selects_every_feature_in_order(view):
    sql = text_of(view)
    assert text_of(view) == sql
    selected = sql.query.rpartition("\nSELECT ")[2]
    places = [selected.index(f" AS `{name}`") for name in ("user", "time", *view.feature_names)]
    assert places == sorted(places)
    assert sql.insert.endswith(sql.query)
    assert [line.split("`")[1] for line in sql.features.splitlines()[1:-2]] == [
        "spine_row",
        "user",
        "time",
        *view.feature_names,
    ]


@given(views())
@settings(max_examples=60, deadline=None)
def test_an_event_is_seen_only_after_it_happened_and_became_known(view):
    bounds = text_of(view).query.count("happened < asked_at AND known < asked_at")
    assert bounds == (1 if view.known_time else 0)
    assert text_of(view).query.count("happened < asked_at") == 1


def test_a_view_of_a_thousand_features_grows_by_the_line():
    def wide(number):
        return view_of(*(total(f"f{place}", window=timedelta(seconds=place + 1)) for place in range(number)))

    hundred, thousand = len(text_of(wide(100)).query), len(text_of(wide(1000)).query)
    assert thousand < 11 * hundred
    assert text_of(wide(1000)).query.count("takes finite numbers below 2^300") == 1  # a value is checked once


def test_what_two_features_need_alike_is_computed_once():
    hour = text_of(view_of(total(window=HOUR), Aggregate(name="mean", function="mean", column="amount", window=HOUR)))
    assert hour.query.count("SUM(") == 1


def test_a_window_longer_than_time_itself_is_no_overflow():
    query = text_of(view_of(total(window=timedelta.max))).query
    assert "asked_at - 1000000000000000000" in query


def test_names_and_texts_with_quotes_stay_names_and_texts():
    odd = view_of(
        Aggregate(name="it's `odd`", function="last", column="a`b", type="string", empty="it's"), entity="the user"
    )
    query = text_of(odd).query
    assert all(part in query for part in ("`it's ``odd```", "`a``b`", "'it''s'", "`the user`"))


@pytest.mark.parametrize("where", CONDITIONS)
def test_a_condition_is_computed_once_per_event(where):
    net = EventExpression(name="net", expression="amount - 1")
    query = text_of(view_of(total("a", where=where), total("b", where=where, window=HOUR), columns=(net,))).query
    read = query.partition("event AS (")[2].partition(" FROM given)")[0]
    assert query.count(" FILTER (WHERE") == 2
    assert len(read.splitlines()) == 4  # the entity, the time, the value, the condition


def test_columns_have_the_type_as_which_they_are_read():
    assert column_types(EVERYTHING, {"id": "BIGINT"}) == {
        "user": "STRING",
        "time": "BIGINT",
        "known": "BIGINT",
        "id": "BIGINT",
        "amount": "DOUBLE",
        "stars": "BIGINT",
        "paid": "BOOLEAN",
        "shop": "STRING",
        "due": "BIGINT",
    }


@pytest.mark.parametrize(
    ("features", "types", "said"),
    [
        (
            (total(), Aggregate(name="last", function="last", column="amount", type="string")),
            {},
            r"column 'amount' one type, but .*'total' reads it as double; .*'last' reads it as string",
        ),
        ((total(type="integer"),), {"amount": "DOUBLE"}, r"'total' reads column 'amount' as integer, which a DOUBLE"),
        ((total(),), {"amount": "DECIMAL(10, 2)"}, r"'amount' is DECIMAL\(10, 2\); Flink reads .*BIGINT.* exactly"),
        ((total("spine_row"),), {}, "names a question 'spine_row'"),
        ((total(column="net", type="integer"),), {}, "reads 'net' as integer, but that is computed as double"),
        ((total(window=timedelta(0)),), {}, "which is not positive"),
    ],
)
def test_what_flink_cannot_compute_exactly_is_refused_at_declaration(features, types, said):
    net = EventExpression(name="net", expression="other - 1")
    with pytest.raises(InvalidDefinition, match=f"feature view 'v'.*{said}"):
        text_of(view_of(*features, columns=(net,)), **types)


def test_the_text_is_made_without_flink():
    script = "import sys, mlops_assets.features.flink_sql; print({'pyflink', 'py4j', 'dagster'} & set(sys.modules))"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert said.stdout.strip() == "set()"
