import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.release.plan import TrafficPlan
from mlops_assets.serving.routing import version_for

ENTITIES = [str(number) for number in range(4000)]


def plan(percent):
    return TrafficPlan(weights={"sha256:new": percent, "sha256:old": 100 - percent})


@given(low=st.integers(0, 100), high=st.integers(0, 100), entity=st.text())
def test_as_a_share_grows_entities_move_only_to_it(low, high, entity):
    low, high = sorted((low, high))
    if version_for(entity, plan(low)) == "sha256:new":
        assert version_for(entity, plan(high)) == "sha256:new"


@pytest.mark.parametrize("percent", [5, 25, 50])
def test_the_share_of_entities_is_the_weight(percent):
    chosen = sum(version_for(entity, plan(percent)) == "sha256:new" for entity in ENTITIES)
    deviation = (len(ENTITIES) * percent / 100 * (1 - percent / 100)) ** 0.5
    assert abs(chosen - len(ENTITIES) * percent / 100) < 4 * deviation


@given(entity=st.text(), weights=st.dictionaries(st.text(min_size=1), st.integers(1, 100), min_size=1, max_size=5))
def test_the_order_of_versions_does_not_matter(entity, weights):
    turned = dict(reversed(list(weights.items())))
    assert version_for(entity, TrafficPlan(weights=weights)) == version_for(entity, TrafficPlan(weights=turned))


def test_products_draw_independently():
    shared = [version_for(e, plan(50), salt="a") == version_for(e, plan(50), salt="b") for e in ENTITIES]
    assert 0.45 < sum(shared) / len(shared) < 0.55
