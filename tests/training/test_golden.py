"""The golden set: pinned, versioned, renewed by a person, never trained on."""

from dataclasses import replace

import chain
import dagster as dg
import polars as pl
import pytest
from test_reproduce import reproduce

from mlops_assets.errors import TrainingFailed
from mlops_assets.ledger.entry import Kind
from mlops_assets.training.golden import refuse_overlap
from mlops_assets.training.jobs import build_renew_golden_job
from mlops_assets.training.training_set import TrainingSet

BY_HAND = replace(chain.SPLIT, renewal="by_hand")


def train(home, rows, split=chain.SPLIT, *, candidate=False):
    """Make the training set of ``rows``, train if asked to, and return the training set's metadata."""
    config = {"ops": {"shop__candidate": {"config": {"recipe": "constant"}}}}
    made = chain.assets(rows, split)
    result = dg.materialize(
        made if candidate else made[:3], resources=chain.resources(home), run_config=config if candidate else {}
    )
    (made,) = result.asset_materializations_for_node("shop__training_set")
    return {name: value.value for name, value in made.metadata.items()}


def pinned(home):
    entries = chain.resources(home)["ledger"].entries("shop")
    return [entry.body for entry in entries if entry.kind is Kind.GOLDEN_PINNED]


def renew(home, by="ada", why="it is two years old"):
    return build_renew_golden_job("shop").execute_in_process(
        resources=chain.resources(home), run_config={"ops": {"shop_unpin": {"config": {"by": by, "why": why}}}}
    )


def test_each_new_golden_set_is_a_version_in_the_ledger_with_the_share_of_rows_it_kept(tmp_path):
    rows = chain.dataset_rows(rows=480)
    first = train(tmp_path, rows[:400])
    train(tmp_path, rows[:400])
    second = train(tmp_path, rows[:440])
    found = pinned(tmp_path)
    assert [(body["version"], body["golden"], body["why"]) for body in found] == [
        (1, first["golden"], "first"),
        (2, second["golden"], "new data"),
    ]
    assert (found[0]["previous"], found[0]["kept_share"]) == (None, 0.0)
    assert found[1]["previous"] == first["golden"]
    assert found[1]["kept_share"] == 0.5  # ten days of eight rows, five of them new
    assert found[1]["rows"] == second["golden_rows"] == 80


def test_a_golden_set_pinned_by_hand_stays_and_newer_rows_wait(tmp_path):
    rows = chain.dataset_rows(rows=480)
    first = train(tmp_path, rows[:400], BY_HAND)
    second = train(tmp_path, rows, BY_HAND)
    assert second["golden"] == first["golden"]
    assert second["train_rows"] == first["train_rows"]
    assert len(pinned(tmp_path)) == 1


def test_a_renewal_by_name_cuts_a_new_one_and_pins_that(tmp_path):
    rows = chain.dataset_rows(rows=480)
    first = train(tmp_path, rows[:400], BY_HAND)
    assert renew(tmp_path).success
    second = train(tmp_path, rows, BY_HAND)
    assert second["golden"] != first["golden"]
    assert second["train_rows"] == 400
    assert train(tmp_path, rows, BY_HAND)["golden"] == second["golden"]
    assert [(body["version"], body["why"]) for body in pinned(tmp_path)] == [(1, "first"), (2, "it is two years old")]


def test_a_renewal_on_the_same_data_pins_the_same_rows_as_a_new_version_that_kept_all(tmp_path):
    rows = chain.dataset_rows()
    first = train(tmp_path, rows, BY_HAND)
    renew(tmp_path)
    assert train(tmp_path, rows, BY_HAND)["golden"] == first["golden"]
    assert [(body["version"], body["kept_share"]) for body in pinned(tmp_path)] == [(1, 0.0), (2, 1.0)]


def test_a_renewal_needs_a_name_a_reason_and_something_to_renew(tmp_path):
    with pytest.raises(TrainingFailed, match="no golden set is pinned"):
        renew(tmp_path)
    train(tmp_path, chain.dataset_rows(), BY_HAND)
    with pytest.raises(TrainingFailed, match="who wants it and why"):
        renew(tmp_path, why=" ")
    assert renew(tmp_path).success
    with pytest.raises(TrainingFailed, match="no golden set is pinned"):
        renew(tmp_path)


def test_a_model_trained_beside_a_pinned_golden_set_is_reproduced_after_that_was_renewed(tmp_path):
    rows = chain.dataset_rows(rows=480)
    train(tmp_path, rows[:400], BY_HAND, candidate=True)
    train(tmp_path, rows, BY_HAND, candidate=True)
    candidate = chain.resources(tmp_path)["ledger"].entries("shop")[-1].body["candidate"]
    renew(tmp_path)
    assert reproduce(tmp_path, candidate, split=BY_HAND).success


def test_a_pinned_golden_set_without_a_feature_that_is_declared_now_asks_to_be_renewed(tmp_path):
    train(tmp_path, chain.dataset_rows(), BY_HAND)
    with pytest.raises(TrainingFailed, match=r"lacks \['colour'\].*shop_renew_golden"):
        train(tmp_path, chain.dataset_rows().with_columns(colour=pl.lit("red")), BY_HAND)


def test_an_event_in_both_parts_is_refused_and_named():
    rows = chain.dataset_rows(rows=20)
    again = rows[3:5].with_columns(at=pl.col("at").dt.offset_by("30d"))
    refuse_overlap("shop", TrainingSet(train=rows[:10], golden=rows[10:]), ("user", "price"))
    with pytest.raises(TrainingFailed, match="2 events are in both"):
        refuse_overlap("shop", TrainingSet(train=rows[:10], golden=pl.concat([rows[10:], again])), ("user", "price"))


def test_an_event_that_was_delivered_twice_at_two_times_never_trains_what_it_judges(tmp_path):
    rows = chain.dataset_rows(rows=400)
    late = rows[:1].with_columns(at=pl.lit(rows["at"].max()).cast(rows.schema["at"]).dt.offset_by("1h"))
    moved = pl.concat([rows, late])
    built = chain.assets(moved)
    from mlops_assets.training.assets import build_training_set_asset

    built[2] = build_training_set_asset(
        "shop",
        views=(chain.VIEW,),
        request_features=chain.REQUEST,
        label="liked",
        entity="user",
        event_time="at",
        event_key=("user", "price"),
        split=chain.SPLIT,
    )
    with pytest.raises(TrainingFailed, match="1 events are in both"):
        dg.materialize(built[:3], resources=chain.resources(tmp_path))
    assert not pinned(tmp_path)
