"""The code locations, loaded from their workspace files as a code server loads them, in a process of its own."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mlops_assets.build import build_definitions
from mlops_assets.errors import InvalidDefinition
from mlops_assets.products import PRODUCTS, RECOMMENDATIONS
from resources.local import local_platform

ROOT = Path(__file__).resolve().parents[2]
WORKSPACES = ("workspace.yaml", "deployments/demo/workspace.yaml")
STAGES = {
    "raw": "data",
    "dataset": "data",
    "quarantine": "data",
    "training_set": "training",
    "candidate": "training",
    "evaluation": "evaluation",
    "model_card": "evaluation",
    "release": "release",
    "deployment": "release",
    "predictions": "monitoring",
    "drift": "monitoring",
    "performance": "monitoring",
}
OF_THE_PLATFORM = {"delivery"}
"""Assets over all products, which nobody of a product's team owns."""


@pytest.fixture(scope="module")
def locations(tmp_path_factory):
    """Return what is in each code location; loaded from elsewhere, so that only the files say where the code is."""
    command = [sys.executable, str(Path(__file__).with_name("describe_location.py"))]
    command += [str(ROOT / workspace) for workspace in WORKSPACES]
    elsewhere = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "DAGSTER_HOME")}
    ended = subprocess.run(
        command,
        cwd=tmp_path_factory.mktemp("elsewhere"),
        env={**elsewhere, "DAGSTER_DISABLE_TELEMETRY": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    return dict(zip(WORKSPACES, json.loads(ended.stdout.splitlines()[-1]), strict=True))


@pytest.fixture(params=WORKSPACES)
def location(request, locations):
    return locations[request.param]


def of_products(location):
    """Yield name, and what is declared, of the assets that belong to one product."""
    return {key: node for key, node in location["assets"].items() if key.split("/")[0] in named(PRODUCTS)}


def named(products):
    return {product.name for product in products}


def test_every_product_has_all_its_stages_as_one_group(location):
    for name in named(PRODUCTS):
        found = {key.removeprefix(f"{name}/"): node for key, node in location["assets"].items() if key.startswith(name)}
        assert {stage: node["stage"] for stage, node in found.items()} == STAGES
        assert {node["group"] for node in found.values()} == {name}


def test_feature_views_and_what_is_over_all_products_have_groups_of_their_own(location):
    others = {key: node["group"] for key, node in location["assets"].items() if key not in of_products(location)}
    views = {f"features/{view.name}": "features" for product in PRODUCTS for view in product.views}
    assert others == {"delivery": "delivery", **views}


def test_every_asset_says_what_it_is_of_which_kind_and_whose(location):
    for key, node in location["assets"].items():
        assert node["description"], key
        assert node["kinds"], key
        assert node["owners"] or node["metadata"].get("owners") or key in OF_THE_PLATFORM, key


def test_the_assets_of_a_product_hang_together_from_source_to_monitoring(location):
    assets = location["assets"]
    for name in named(PRODUCTS):
        seen, waiting = set(), [f"{name}/performance", f"{name}/drift", f"{name}/quarantine"]
        while waiting:
            key = waiting.pop()
            if key not in seen:
                seen.add(key)
                waiting += assets[key]["parents"]
        assert {f"{name}/{stage}" for stage in STAGES} <= seen


def test_each_gate_is_a_blocking_check_of_the_evaluation(location):
    declared = {f"{product.name}/evaluation:{gate.name}" for product in PRODUCTS for gate in product.gates}
    gates = {name: check for name, check in location["checks"].items() if "/evaluation:" in name}
    assert set(gates) == declared
    assert all(check["blocking"] and check["description"] for check in gates.values())


def test_each_training_set_is_checked_for_what_the_gates_will_ask(location):
    found = {name for name in location["checks"] if name.endswith(":enough_golden_rows")}
    assert found == {f"{product.name}/training_set:enough_golden_rows" for product in PRODUCTS}


def test_each_feature_view_is_checked_for_parity_and_freshness(location):
    views = {view.name for product in PRODUCTS for view in product.views}
    declared = {f"features/{view}:{check}" for view in views for check in ("parity", "freshness")}
    assert {name for name in location["checks"] if name.startswith("features/")} == declared


def test_jobs_have_the_names_people_launch_them_with(location):
    ways = (
        "train",
        "monitor",
        "release",
        "replay",
        "rollout",
        "rollback",
        "approve",
        "reproduce",
        "backtest",
        "simulate_policy",
    )
    assert set(location["jobs"]) == {f"{name}_{way}" for name in named(PRODUCTS) for way in ways}
    assert all(location["jobs"].values())


def test_all_sensors_are_on(location):
    ways = ("new_data", "proposals", "performance", "drift", "approval", "rollout")
    assert location["sensors"] == {f"{name}_{way}": "RUNNING" for name in named(PRODUCTS) for way in ways}


def test_the_demo_differs_by_its_recipes_only(locations):
    served, demo = (locations[workspace] for workspace in WORKSPACES)
    assert {key: node["parents"] for key, node in served["assets"].items()} == {
        key: node["parents"] for key, node in demo["assets"].items()
    }
    assert served["checks"] == demo["checks"]


def test_an_unknown_source_and_faults_between_products_are_named_at_once(tmp_path):
    """As one who adds a product to the location would see it: everything wrong, before anything is built."""
    other_view = replace(
        RECOMMENDATIONS.views[0], description="another", features=RECOMMENDATIONS.views[0].features[:1]
    )
    second = replace(RECOMMENDATIONS, name="second", source="clicks", views=(other_view,))
    with pytest.raises(InvalidDefinition) as wrong:
        build_definitions([RECOMMENDATIONS, RECOMMENDATIONS, second], local_platform(tmp_path))
    assert wrong.value.faults == (
        "product 'recommendations' is declared 2 times",
        "product 'second': views: 'user_taste' is declared differently elsewhere",
        "product 'second': source: the platform binds no 'clicks'; it binds ['ratings']",
    )
    assert list(tmp_path.iterdir()) == []
