"""An expression over one event is the same in Polars and in Python, and what engines cannot agree on is refused."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.features.event_expression import (
    EventExpression,
    event_expression_fault,
    parse,
    to_polars,
    to_python,
    to_sql,
)

SCHEMA = {"a": pl.Float64, "n": pl.Int64, "flag": pl.Boolean, "s": pl.String}
EXPRESSIONS = (
    "s = 'paid' AND a * 2 > 3",
    "a / n",
    "a / 24",
    "a / 1.1",
    "3 / a",
    "a - -1.5e3",
    "a * a * a",
    "CASE WHEN a > 1 THEN 2 ELSE n END",
    "CASE WHEN flag THEN 1 WHEN n > 2 THEN 3 END",
    "CASE WHEN flag THEN s ELSE 'no' END",
    "COALESCE(a, n, 0)",
    "COALESCE(s, 'none') = 'none'",
    "a IS NULL OR s IS NOT NULL",
    "NOT flag OR n <> 3",
    "flag = TRUE AND NOT (a <= 2)",
    "s LIKE 'p%' OR s LIKE '%d' OR s LIKE '%ai%'",
    "s LIKE '100%'",
    "ABS(a) + CAST(flag AS DOUBLE)",
    "n BETWEEN 1 AND 2",
    "a / (n - n)",
)
rows = st.fixed_dictionaries(
    {
        "a": st.none() | st.sampled_from([0.0, -0.0, 1.0, 1e308, -1e308]) | st.floats(allow_nan=False),
        "n": st.none() | st.integers(-3, 3) | st.sampled_from([2**62, -(2**63)]),
        "flag": st.none() | st.booleans(),
        "s": st.none() | st.sampled_from(["paid", "p", "said", "100%", "", "ä\U0001f600"]),
    }
)


@given(st.lists(rows, min_size=1, max_size=6))
@settings(max_examples=60)
def test_polars_and_python_say_the_same(events):
    frame = pl.DataFrame(events, schema=SCHEMA)
    nodes = [parse(text) for text in EXPRESSIONS]
    in_polars = frame.select(to_polars(node).alias(str(place)) for place, node in enumerate(nodes)).rows()
    assert in_polars == [tuple(to_python(node)(event) for node in nodes) for event in events]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("SUM(a)", "not every engine computes Agg"),
        ("a %", "no Polars SQL expression"),
        ("POWER(a, 2)", "not every engine computes"),
        ("n IN (1, 2)", "not every engine"),
        ("s < 'x'", "order of string values is not the same"),
        ("s LIKE 'p_i'", "not every engine"),
        ("s ILIKE 'p%'", "not every engine"),
        ("s = 'a' AND s > 3", "several types"),
        ("a + 'x'", "where a double is needed"),
        ("s = 3 OR s = 'a'", "several types"),
        ("1 + 1", "reads no column"),
        ("CAST(a + 1 AS STRING) = s", "cast of double to string"),
    ],
)
def test_what_engines_may_disagree_on_is_refused_with_the_reason(text, words):
    fault = event_expression_fault(text)
    assert fault is not None
    assert words in fault


def test_a_condition_must_be_one():
    assert event_expression_fault("flag", wanted="boolean") is None
    assert "a double stands where a boolean is needed" in str(event_expression_fault("a + 1", wanted="boolean"))


def test_an_expression_names_the_columns_it_reads_once_each():
    assert EventExpression(name="x", expression="CASE WHEN flag THEN a ELSE a / n END").inputs == ("flag", "a", "n")


def test_text_is_quoted_in_sql():
    assert "'it''s'" in to_sql(parse("s = 'it''s'"))
    assert "LIKE 'a!!b%' ESCAPE '!'" in to_sql(parse("s LIKE 'a!b%'"))
