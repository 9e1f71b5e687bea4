import subprocess
import sys
from pathlib import Path

from mlops_assets.training.provenance import environment_digest, find_provenance

GIT = ("git", "-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")


def commit(folder, text):
    (folder / "code.py").write_text(text)
    subprocess.run([*GIT, "-C", str(folder), "add", "."], check=True)
    subprocess.run([*GIT, "-C", str(folder), "commit", "-q", "-m", text], check=True)


def test_the_commit_is_known_in_a_repository_and_changes_to_it_are_told(tmp_path):
    subprocess.run([*GIT, "init", "-q", str(tmp_path)], check=True)
    commit(tmp_path, "one")
    clean = find_provenance({}, code=tmp_path)
    assert len(clean.git_commit) == 40
    assert clean.commit == clean.git_commit
    (tmp_path / "code.py").write_text("two")
    assert find_provenance({}, code=tmp_path).commit == f"{clean.git_commit}+changes"


def test_there_is_no_commit_outside_of_a_repository(tmp_path):
    outside = find_provenance({}, code=tmp_path)
    assert outside.git_commit is None
    assert outside.commit == "none"
    assert not outside.dirty


def test_the_same_facts_give_the_same_json_in_another_process():
    here = find_provenance({"b": "sha256:2", "a": "sha256:1"})
    assert list(here.to_json()["inputs"]) == ["a", "b"]
    program = "from mlops_assets.training.provenance import environment_digest as e; print(e())"
    there = subprocess.run(
        [sys.executable, "-c", program], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
    )
    assert there.stdout.strip() == environment_digest() == here.environment
