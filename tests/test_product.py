"""A product's declaration: everything wrong with it is said at load, all at once, naming product and field."""

from dataclasses import replace
from datetime import timedelta

import pytest

from mlops_assets import (
    Aggregate,
    AtLeast,
    BlueGreen,
    Canary,
    FeatureView,
    InvalidDefinition,
    ParityHolds,
    Platform,
    RequestFeature,
    RetrainingPolicy,
    build_definitions,
    governed,
    low_latency,
    velocity,
)
from mlops_assets.products import RECOMMENDATIONS
from mlops_assets.products.recommendations import USER_TASTE


def faults(**changes):
    with pytest.raises(InvalidDefinition) as wrong:
        replace(RECOMMENDATIONS, **changes)
    return wrong.value.faults


@pytest.mark.parametrize(
    ("changes", "field", "found"),
    [
        ({"name": "Film Club"}, "name", "lower-case"),
        ({"label": "enjoyed"}, "label", "'enjoyed'"),
        ({"event_time": "when"}, "event_time", "'when'"),
        ({"outcome": "stars"}, "outcome", "'stars'"),
        ({"gates": (AtLeast(metric="map", floor=0.5),)}, "gates", "'map', which nobody computes"),
        ({"gates": ()}, "gates", "at least one"),
        ({"gates": (ParityHolds(views=("taste",)),)}, "gates", "asks for the view 'taste'"),
        ({"gates": (ParityHolds(),), "views": ()}, "gates", "the product has no views"),
        ({"gates": (ParityHolds(name="is it"),)}, "gates", "letters, digits"),
        ({"recipes": RECOMMENDATIONS.recipes * 2}, "recipes", "used 2 times"),
        ({"metrics": RECOMMENDATIONS.metrics * 2}, "metrics", "used 2 times"),
        ({"views": (USER_TASTE, USER_TASTE)}, "views", "used 2 times"),
        ({"profile": velocity(strategy=Canary(percents=(5, 50, 25)))}, "profile", "must rise"),
        ({"profile": velocity(strategy=Canary(percents=(5, 50)))}, "profile", "end with 100"),
        ({"profile": velocity(approvals=-1)}, "profile", "approvals"),
        ({"profile": velocity(retraining=RetrainingPolicy(max_per_day=0))}, "profile", "max_per_day"),
        ({"monitoring_window": 0}, "monitoring_window", "at least 1"),
        ({"inputs": {"film_id": "INT64"}}, "entity", "not among the inputs"),
        ({"inputs": {**RECOMMENDATIONS.inputs, "genres": "TEXT"}}, "inputs", "'TEXT'"),
        (
            {"request_features": (RequestFeature(name="x", expression="colour || 'x'"),)},
            "expression of x",
            "'colour'",
        ),
        (
            {"request_features": (RequestFeature(name="x", expression="genres LIKE '%War%'", type="string"),)},
            "request_features",
            "'x' (string): ",
        ),
        ({"derived": {"liked": "CAST(AVG(rating) AS DOUBLE)"}}, "derived", "column 'liked' (double): "),
        ({"derived": {"liked": "genres LIKE rating"}}, "derived", "column 'liked'"),
        (
            {"request_features": (RequestFeature(name="x", expression="rated_at", type="integer"),)},
            "request_features",
            "column 'rated_at' must hold integers",
        ),
    ],
)
def test_each_fault_names_the_product_its_field_and_what_was_found(changes, field, found):
    said = faults(**changes)
    product = changes.get("name", "recommendations")
    assert any(f"product {product!r}: {field}" in fault and found in fault for fault in said), said


def test_a_window_without_unit_is_a_fault():
    windowless = replace(USER_TASTE.features[0], window=3600)
    said = faults(views=(replace(USER_TASTE, features=(windowless,)),))
    assert any("views" in fault and "without unit" in fault for fault in said)


def test_all_faults_are_said_at_once():
    said = faults(label="enjoyed", monitoring_window=0, profile=velocity(strategy=Canary(percents=(5, 50, 25))))
    assert len(said) == 4
    assert {"label", "monitoring_window", "profile"} == {fault.split(": ")[1] for fault in said}


def test_presets_differ_in_what_happens_by_itself():
    assert velocity().approvals == 0
    assert governed().approvals == 1
    assert governed().retraining.on_drift is False
    assert isinstance(low_latency().strategy, BlueGreen)


def test_faults_between_products_are_found_before_anything_is_built():
    other = replace(USER_TASTE, features=(Aggregate(name="user_ratings", function="count", column="rating"),))
    foreign = FeatureView(
        name="stock", source="warehouse", entity="film_id", event_time="rated_at",
        features=(Aggregate(name="n", function="count", column="rating", window=timedelta(days=1)),),
    )  # fmt: skip
    second = replace(RECOMMENDATIONS, name="second", source="nowhere", views=(other, foreign))
    platform = Platform(
        sources={"ratings": None},
        ledger=None,
        snapshots=None,
        registry=None,
        training=None,
        serving=None,
        predictions=None,
    )
    with pytest.raises(InvalidDefinition) as wrong:
        build_definitions([RECOMMENDATIONS, RECOMMENDATIONS, second], platform)
    text = str(wrong.value)
    assert "'recommendations' is declared 2 times" in text
    assert "'user_taste' is declared differently" in text
    assert "unknown product 'warehouse'" in text
    assert "binds no 'nowhere'" in text
