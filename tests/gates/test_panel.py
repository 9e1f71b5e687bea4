import itertools

import pytest

from mlops_assets.gates.at_least import AtLeast
from mlops_assets.gates.gate import Verdict
from mlops_assets.gates.panel import combine, judge_all
from mlops_assets.gates.superior import Superior
from mlops_assets.ledger.canonical import canonical_json


@pytest.mark.parametrize("verdicts", list(itertools.product(Verdict, repeat=3)), ids="-".join)
def test_the_worst_of_three_verdicts_is_the_verdict_and_only_three_passes_pass(verdicts):
    worst_first = [Verdict.FAILED, Verdict.ERROR, Verdict.INCONCLUSIVE, Verdict.PASSED]
    assert combine(verdicts) is min(verdicts, key=worst_first.index)


def test_no_gate_at_all_is_doubt(with_report):
    assert judge_all([], with_report()).verdict is Verdict.INCONCLUSIVE


def test_every_gate_is_judged_and_recorded_as_json(with_report):
    panel = judge_all(
        [AtLeast(metric="brier", floor=0.1), Superior(metric="brier", minimum_effect=0.01)], with_report()
    )
    assert panel.verdict is Verdict.PASSED
    assert [said["gate"] for said in panel.to_json()] == ["at_least_brier", "superior_brier"]
    canonical_json(panel.to_json())


class Broken:
    name = "broken"

    def judge(self, report, known):
        raise ZeroDivisionError("of nothing")


def test_a_gate_that_raises_is_an_error_that_blocks_and_no_failure_of_the_model(with_report):
    panel = judge_all([AtLeast(metric="brier", floor=0.1), Broken()], with_report())
    assert panel.verdict is Verdict.ERROR
    assert panel.judgements["broken"].evidence == {"error": "ZeroDivisionError: of nothing"}
    assert panel.judgements["at_least_brier"].verdict is Verdict.PASSED
    failing = judge_all([AtLeast(metric="brier", floor=0.9), Broken()], with_report())
    assert failing.verdict is Verdict.FAILED
