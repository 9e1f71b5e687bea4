import dagster as dg
import pytest

from mlops_assets.delivery.assets import build_delivery_asset
from mlops_assets.ledger.entry import Kind
from mlops_assets.ledger.sql import SqlLedger


@pytest.fixture
def ledger() -> SqlLedger:
    ledger = SqlLedger("sqlite://")
    for product in ("a", "b"):
        rollout = {"percent": 100, "step": 0, "phase": "COMPLETED"}
        body = {"release": "r", "candidate": "c", "version": "1", "features": None, "judged": 1, "rollout": rollout}
        ledger.append(product, Kind.RELEASED, body, actor="release-policy")
    return ledger


def materialize(ledger: SqlLedger, *products: str):
    result = dg.materialize([build_delivery_asset(products)], resources={"ledger": ledger})
    (found,) = result.asset_materializations_for_node("delivery")
    return found


def test_the_asset_stands_downstream_of_every_deployment():
    (spec,) = build_delivery_asset(["a", "b"]).specs
    assert spec.key == dg.AssetKey(["delivery"])
    assert {dep.asset_key for dep in spec.deps} == {dg.AssetKey(["a", "deployment"]), dg.AssetKey(["b", "deployment"])}
    assert (spec.group_name, spec.tags["stage"]) == ("delivery", "delivery")


def test_the_asset_has_a_row_and_numbers_per_product(ledger):
    found = materialize(ledger, "a", "b", "new")
    table = found.metadata["metrics"].value.splitlines()
    assert [row.split(" | ")[0] for row in table[2:]] == ["| a", "| b", "| new"]
    assert found.metadata["a/deployments_per_day"].value == 1.0
    assert "new/deployments_per_day" not in found.metadata
    assert found.metadata["inputs"].data == {
        "ledger/a": ledger.entries("a")[-1].digest,
        "ledger/b": ledger.entries("b")[-1].digest,
        "ledger/new": None,
    }


def test_the_same_ledger_gives_the_same_digest_and_a_new_entry_another(ledger):
    first, second = (materialize(ledger, "a", "b").metadata["digest"].value for _ in range(2))
    assert first == second
    ledger.append("a", Kind.DRIFT_FOUND, {"window": "a:1", "columns": [], "report": "r"}, actor="monitoring")
    assert materialize(ledger, "a", "b").metadata["digest"].value != first


def test_a_ledger_that_is_empty_is_measured_too():
    found = materialize(SqlLedger("sqlite://"), "a")
    assert found.metadata["a/releases"].value == 0
