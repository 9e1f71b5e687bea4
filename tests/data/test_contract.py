"""Rows are split by the contract, each with its reasons; a frame that is wrong as a whole stops the run."""

import math

import pandera.polars as pa
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from mlops_assets.data.contract import DataContract, validate
from mlops_assets.errors import ContractBreached

SCHEMA = pa.DataFrameSchema(
    {
        "user": pa.Column(pl.Int64, pa.Check.gt(0)),
        "rating": pa.Column(pl.Float64, [pa.Check.ge(0.5), pa.Check.le(5)], nullable=True),
    }
)


def contract(schema=SCHEMA, **changes):
    return DataContract(**{"schema": schema, "tolerance": 1.0} | changes)


def test_bad_rows_are_set_aside_with_all_columns_and_all_their_reasons():
    frame = pl.DataFrame({"user": [1, -1, 2, None], "rating": [5.0, 9.0, None, 1.0], "note": ["a", "b", "c", "d"]})
    found = validate(frame, contract(), product="shop")
    assert_frame_equal(found.good, frame[[0, 2]])
    assert_frame_equal(found.quarantined.drop("reasons"), frame[[1, 3]])
    assert found.quarantined["reasons"].to_list() == [
        ["rating: less_than_or_equal_to(5)", "user: greater_than(0)"],
        ["user: not_nullable"],
    ]
    assert found.bad_share == 0.5
    assert sum(found.failures.values()) == 3


VALUES = st.one_of(st.none(), st.just(math.nan), st.sampled_from([0.4999, 0.5, 5.0, 5.0001]), st.floats(-1, 7))


@settings(max_examples=60)
@given(st.lists(st.tuples(st.one_of(st.none(), st.integers(-1, 3)), VALUES), max_size=20))
def test_each_row_goes_where_a_plain_reading_of_the_contract_sends_it(rows):
    frame = pl.DataFrame(rows, schema={"user": pl.Int64, "rating": pl.Float64}, orient="row")
    good, seen = [], set()
    for position, (user, rating) in enumerate(rows):
        keeps = user is not None and user > 0 and (rating is None or 0.5 <= rating <= 5)
        if keeps and user not in seen:
            seen.add(user)
            good.append(position)
    found = validate(frame, contract(unique=("user",)), product="shop")
    assert_frame_equal(found.good, frame[good])
    bad = [position for position in range(len(rows)) if position not in good]
    assert_frame_equal(found.quarantined.drop("reasons"), frame[bad])
    assert all(len(reasons) for reasons in found.quarantined["reasons"])


def test_nan_is_bad_even_where_null_is_allowed_and_no_check_sees_it():
    schema = pa.DataFrameSchema({"x": pa.Column(pl.Float64, pa.Check.gt(0), nullable=True)})
    found = validate(pl.DataFrame({"x": [1.0, math.nan, None]}), contract(schema), product="shop")
    assert found.quarantined["reasons"].to_list() == [["x: NaN"]]
    assert found.good["x"].to_list() == [1.0, None]


def test_a_repeated_key_is_bad_only_after_a_good_row_that_has_it():
    frame = pl.DataFrame({"user": [7, 7, 7, 8], "rating": [9.0, 1.0, 2.0, 3.0]})
    found = validate(frame, contract(unique=("user",)), product="shop")
    assert found.good["rating"].to_list() == [1.0, 3.0]
    assert found.quarantined["reasons"].to_list() == [["rating: less_than_or_equal_to(5)"], ["user: there already"]]


@pytest.mark.parametrize(("bad", "stops"), [(1, False), (2, True)])
def test_the_tolerance_is_the_last_share_that_passes(bad, stops):
    frame = pl.DataFrame({"user": [-1] * bad + [1] * (10 - bad), "rating": [1.0] * 10})
    if not stops:
        assert validate(frame, contract(tolerance=0.1), product="shop").bad_share == 0.1
        return
    with pytest.raises(ContractBreached) as raised:
        validate(frame, contract(tolerance=0.1), product="shop")
    message = str(raised.value)
    assert message.startswith("shop: 2 of 10 rows (20.00%) break the contract, 10.00% are tolerated.")
    assert "user: greater_than(0) (2 rows)" in message
    assert "{'user': -1, 'rating': 1.0}" in message


WHOLE = {
    "a missing column": (SCHEMA, {"rating": [1.0]}, "column_in_dataframe.*'?user"),
    "another type": (SCHEMA, {"user": ["1"], "rating": [1.0]}, "'user'.*Int64.*String"),
    "a column too many for a strict schema": (
        pa.DataFrameSchema({"user": pa.Column(pl.Int64)}, strict=True),
        {"user": [1], "extra": [1]},
        "extra",
    ),
    "text that cannot be coerced": (
        pa.DataFrameSchema({"user": pa.Column(pl.Int64, coerce=True)}),
        {"user": ["1", "x"]},
        "'user'",
    ),
    "one answer for the frame": (
        pa.DataFrameSchema(
            {"user": pa.Column(pl.Int64, pa.Check(lambda d: d.lazyframe.select(pl.col("user").sum() > 9)))}
        ),
        {"user": [1, 2]},
        "as a whole",
    ),
    "a check that crashes": (
        pa.DataFrameSchema({"user": pa.Column(pl.Int64, pa.Check(lambda d: 1 / 0))}),
        {"user": [1, 2]},
        "ZeroDivisionError",
    ),
    "a check that answers with a plain no, beside another": (
        pa.DataFrameSchema({"user": pa.Column(pl.Int64, [pa.Check(lambda d: False), pa.Check.lt(2)])}),
        {"user": [1, 2]},
        "no answer by row|as a whole",
    ),
    "the quarantine's own column": (SCHEMA, {"user": [1], "rating": [1.0], "reasons": [1]}, "'reasons'"),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_frame_that_is_wrong_as_a_whole_stops_the_run_whatever_the_tolerance(name):
    schema, columns, message = WHOLE[name]
    with pytest.raises(ContractBreached, match=f"(?s)^shop: .*{message}"):
        validate(pl.DataFrame(columns), contract(schema), product="shop")


def test_a_check_that_shows_few_failures_still_sets_all_of_them_aside():
    schema = pa.DataFrameSchema({"user": pa.Column(pl.Int64, pa.Check.gt(0, n_failure_cases=1))})
    assert validate(pl.DataFrame({"user": [-1, -2, 3]}), contract(schema), product="shop").good["user"].to_list() == [3]


def test_validation_cannot_be_switched_off_from_outside(monkeypatch):
    from pandera.config import CONFIG

    monkeypatch.setattr(CONFIG, "validation_enabled", False)
    assert validate(pl.DataFrame({"user": [-1], "rating": [1.0]}), contract(), product="shop").bad_share == 1


def test_a_model_class_is_a_contract_and_its_coercion_is_kept():
    class Ratings(pa.DataFrameModel):
        user: int = pa.Field(gt=0, coerce=True)

    declared = contract(Ratings)
    assert declared.columns == ("user",)
    found = validate(pl.DataFrame({"user": ["1", "-2"]}), declared, product="shop")
    assert (found.good["user"].to_list(), found.quarantined["user"].to_list()) == ([1], [-2])


@pytest.mark.parametrize("tolerance", [-0.01, 1.01, math.nan])
def test_a_tolerance_that_is_no_share_is_a_fault(tolerance):
    assert "tolerance" in contract(tolerance=tolerance).faults()[0]


def test_all_faults_are_named_at_once():
    schema = pa.DataFrameSchema({"user": pa.Column(pl.Int64), "reasons": pa.Column(pl.String)}, drop_invalid_rows=True)
    faults = contract(schema, tolerance=2.0, unique=("user", "user", "nobody")).faults()
    assert [word for word in ("tolerance", "nobody", "2 times", "quarantine", "drop_invalid_rows")
            if not any(word in fault for fault in faults)] == []  # fmt: skip
    assert contract().faults() == []
    assert "schema must be" in contract({"user": int}).faults()[0]
    assert contract(pa.DataFrameSchema({})).faults() == ["schema declares no column"]
