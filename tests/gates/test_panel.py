import itertools

import pytest

from mlops_assets.gates.at_least import AtLeast
from mlops_assets.gates.gate import Verdict
from mlops_assets.gates.panel import combine, judge_all
from mlops_assets.gates.superior import Superior
from mlops_assets.ledger.canonical import canonical_json


@pytest.mark.parametrize("verdicts", list(itertools.product(Verdict, repeat=3)), ids="-".join)
def test_only_three_passes_pass_and_any_failure_fails(verdicts):
    expected = Verdict.PASSED if set(verdicts) == {Verdict.PASSED} else Verdict.INCONCLUSIVE
    assert combine(verdicts) is (Verdict.FAILED if Verdict.FAILED in verdicts else expected)


def test_no_gate_at_all_is_doubt(with_report):
    assert judge_all([], with_report()).verdict is Verdict.INCONCLUSIVE


def test_every_gate_is_judged_and_recorded_as_json(with_report):
    panel = judge_all([AtLeast(metric="brier", floor=0.1), Superior(metric="brier")], with_report())
    assert panel.verdict is Verdict.PASSED
    assert [said["gate"] for said in panel.to_json()] == ["at_least_brier", "superior_brier"]
    canonical_json(panel.to_json())


def test_a_gate_that_raises_is_an_error_and_no_verdict(with_report):
    class Broken:
        name = "broken"

        def judge(self, report):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        judge_all([AtLeast(metric="brier", floor=0.1), Broken()], with_report())
