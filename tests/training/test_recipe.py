from datetime import timedelta

import pytest

from mlops_assets.training.recipe import Recipe, TimeSplit
from mlops_assets.training.resolve import resolve

GOOD = {"name": "trees", "trainer": "json:loads", "loader": "json:loads"}


def test_a_good_recipe_has_no_faults(recipe):
    assert recipe.faults() == []
    assert Recipe(**GOOD).faults() == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": ""}, "name is empty"),
        ({"trainer": "json.loads"}, "trainer must be written 'package.module:function', found 'json.loads'"),
        ({"loader": "json:loads:x"}, "loader must be written"),
        ({"trainer": "no_such_package.x:f"}, "cannot be found"),
        ({"trainer": "no_such_module:f"}, "there is no module 'no_such_module'"),
        ({"timeout": timedelta(0)}, "timeout must be positive"),
        ({"timeout": 60}, "without unit"),
        ({"params": {"rate": float("nan")}}, "params must be JSON values"),
        ({"params": {"when": timedelta(1)}}, "params must be JSON values"),
    ],
)
def test_a_fault_is_named_with_the_recipe(change, words):
    (fault,) = Recipe(**GOOD | change).faults()
    assert words in fault
    assert fault.startswith(f"recipe {change.get('name', 'trees')!r}: ")


def test_all_faults_are_named_at_once():
    assert len(Recipe(name="", trainer="x", loader="y", timeout=timedelta(seconds=-1)).faults()) == 4


def test_only_what_decides_the_outcome_is_in_the_digest(recipe):
    patient = Recipe.from_json(recipe.to_json() | {"timeout_seconds": 1.0, "name": "other"})
    assert patient.digest == recipe.digest
    assert Recipe.from_json(recipe.to_json() | {"seed": 4}).digest != recipe.digest


def test_a_recipe_survives_json(recipe):
    assert Recipe.from_json(recipe.to_json()) == recipe


@pytest.mark.parametrize("golden", [timedelta(0), timedelta(days=-1), 30])
def test_a_golden_set_without_length_is_a_fault(golden):
    assert TimeSplit(golden=golden).faults()
    assert TimeSplit(golden=timedelta(days=30)).faults() == []


def test_an_import_path_to_nothing_says_which_part_is_missing():
    with pytest.raises(ImportError, match="no function 'nothing'"):
        resolve("json:nothing")
    with pytest.raises(ImportError, match=r"package\.module:function"):
        resolve("json")
