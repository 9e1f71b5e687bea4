"""The rehearsal of a candidate: real requests in a serving process, before any traffic."""

import multiprocessing
import signal
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import batch_model
import numpy as np
import pytest
import shop

from mlops_assets.evaluation.report import EvaluationReport
from mlops_assets.evaluation.workbench import ScoredModel, Workbench, take_measurements
from mlops_assets.gates.gate import Verdict
from mlops_assets.serving.serves import Serves
from mlops_assets.training.model import digest_of_directory
from mlops_assets.training.package import Package, load_model, save_package

GATE = Serves(requests=20)

serving = pytest.mark.services  # starts a process that serves


def judged(package: Path, gate=GATE, served=shop.SHOP):
    rows = shop.history()
    model = load_model(package)
    bench = Workbench(
        product="shop",
        candidate=ScoredModel(digest=digest_of_directory(package), model=model, scores=np.zeros(50), directory=package),
        champion=None,
        golden=rows[-50:],
        label="liked",
        cluster="person",
        labels=rows[-50:]["liked"].to_numpy(),
        clusters=rows[-50:]["person"].to_numpy().astype(float),
        metrics={},
        served=served,
        train=lambda: rows[:-50],
    )
    measured = take_measurements(bench, [gate])
    facts = {"product": "shop", "candidate": bench.candidate.digest, "golden": "sha256:cc", "rows": 50, "clusters": 9}
    judgement = gate.judge(EvaluationReport(**facts, measured=measured))
    assert not multiprocessing.active_children()
    return judgement


@pytest.fixture
def odd(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=":")

    def save(kind):
        package = Package(loader="batch_model:load_odd", features=batch_model.Odd.features)
        save_package(batch_model.Odd(kind), package, tmp_path / kind)
        return tmp_path / kind

    return save


@serving
def test_a_real_model_answers_real_requests_as_in_a_batch(tmp_path):
    shop.register_model(tmp_path, 1)
    [package] = (tmp_path / "made").iterdir()
    found = judged(package)
    assert found.verdict is Verdict.PASSED, found.reason
    assert found.evidence["answered"] == 20


@serving
@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("peeks", "20 answers are not what the model says of the same features in a batch"),
        ("breaks", "requests were refused"),
        ("nan", "cannot be made ready"),
        ("dies", "its process ended with -9"),
    ],
)
def test_a_model_that_is_right_only_in_a_batch_or_breaks_is_stopped(odd, kind, said):
    found = judged(odd(kind))
    assert found.verdict is Verdict.FAILED
    assert said in found.reason


@serving
def test_a_package_that_hangs_is_ended(odd):
    found = judged(odd("plain"), replace(GATE, timeout=timedelta(milliseconds=50)))
    assert found.verdict is Verdict.FAILED
    assert "did not answer 20 requests in 0.05 s" in found.reason


class Interrupted(BaseException):
    """What Dagster does to a run that is ended: it raises where the run happens to be."""


@serving
def test_whoever_interrupts_it_leaves_no_process_behind(odd, tmp_path):
    def interrupt(*_):
        if (tmp_path / "hangs").exists():  # a request is being answered
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise Interrupted

    package = odd("hung")
    (package / "kind").write_text(f"hangs\n{tmp_path}")
    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
    try:
        with pytest.raises(Interrupted):
            judged(package, replace(GATE, timeout=timedelta(seconds=60)))
        assert not multiprocessing.active_children()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def told(gate=GATE, **found):
    facts = {"requests": 20, "answered": 20, "statuses": {}, "said": "", "not_finite": 0, "differing": 0} | found
    report = {"product": "shop", "candidate": "sha256:aa", "golden": "sha256:cc", "rows": 50, "clusters": 9}
    return gate.judge(EvaluationReport(**report, measured={"serves": facts}))


@pytest.mark.parametrize(
    ("found", "verdict", "said"),
    [
        ({}, Verdict.PASSED, "all 20 requests"),
        ({"requests": 0, "answered": 0}, Verdict.INCONCLUSIVE, "all 0 requests were answered, needs 20"),
        ({"requests": 19, "answered": 19}, Verdict.INCONCLUSIVE, "all 19 requests were answered, needs 20"),
        ({"requests": 3, "answered": 2, "said": "no"}, Verdict.FAILED, "1 requests were refused: no"),
        ({"not_finite": 1}, Verdict.FAILED, "1 scores are no numbers"),
        ({"differing": 2}, Verdict.FAILED, "2 answers are not what the model says"),
    ],
)
def test_it_is_decided_by_what_was_answered_and_fewer_requests_than_asked_for_are_doubt(found, verdict, said):
    judgement = told(**found)
    assert judgement.verdict is verdict
    assert said in judgement.reason


def test_what_cannot_be_asked_is_an_error_of_the_gate(odd):
    assert judged(odd("plain"), served=None).verdict is Verdict.ERROR
    more = replace(shop.SHOP, inputs={**shop.SHOP.inputs, "colour": "BYTES"})
    found = judged(odd("other"), served=more)
    assert (found.verdict, "lacks ['colour']" in found.reason) == (Verdict.ERROR, True)


def test_every_fault_of_the_declaration_is_named():
    assert len(Serves(requests=0, timeout=timedelta(0), name="a b").faults()) == 3
