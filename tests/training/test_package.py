import pytest
from odd_trainers import Constant, HalfSaved

from mlops_assets.errors import EvaluationError
from mlops_assets.training.model import digest_of_directory
from mlops_assets.training.package import Package, load_model, save_package

PACKAGE = Package(loader="odd_trainers:load_constant", features=("a", "b"), origin={"recipe": "r"})


@pytest.fixture
def saved(tmp_path):
    save_package(Constant(0.5, ("a", "b")), PACKAGE, tmp_path / "model")
    return tmp_path / "model"


def test_a_package_is_read_by_its_own_loader(saved, rows):
    assert load_model(saved).predict(rows)[0] == 0.5


def test_equal_packages_have_equal_digests(saved, tmp_path):
    save_package(Constant(0.5, ("a", "b")), PACKAGE, tmp_path / "again")
    assert digest_of_directory(saved) == digest_of_directory(tmp_path / "again")


def test_a_package_is_never_written_over_another(saved):
    with pytest.raises(FileExistsError):
        save_package(Constant(0.7, ("a", "b")), PACKAGE, saved)


def test_a_save_that_fails_half_way_leaves_nothing(tmp_path):
    with pytest.raises(OSError, match="No space"):
        save_package(HalfSaved(0.5, ("a", "b")), PACKAGE, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "holds no package.json"),
        (b"", "cannot be read"),
        (b'{"loader": "odd_tra', "cannot be read"),
        (b"[]", "cannot be read"),
        (b'{"features": [], "origin": {}}', "cannot be read"),
        (b'{"loader": 3, "features": ["a"], "origin": {}}', "names no loader"),
        (b'{"loader": "gone:load", "features": ["a"], "origin": {}}', "could not read the model"),
        (b'{"loader": "odd_trainers:raise_error", "features": ["a"], "origin": {}}', "wrong phase"),
        (b'{"loader": "odd_trainers:load_with_other_features", "features": ["a"], "origin": {}}', "its package says"),
    ],
)
def test_an_odd_package_is_refused_by_name(saved, content, words):
    path = saved / "package.json"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(EvaluationError, match=words) as refused:
        load_model(saved)
    assert str(saved) in str(refused.value)
