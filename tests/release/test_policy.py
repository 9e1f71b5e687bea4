"""Policies: recorded, compared, made again, refused when they contradict themselves."""

from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from mlops_assets.evaluation.metrics import brier, roc_auc
from mlops_assets.evaluation.slices import Slice
from mlops_assets.gates.at_least import AtLeast, AtMost
from mlops_assets.gates.calibrated import Calibrated
from mlops_assets.gates.contradictions import contradictions
from mlops_assets.gates.equivalent import Equivalent
from mlops_assets.gates.error_control import ErrorControl
from mlops_assets.gates.fair import Fair
from mlops_assets.gates.latency_budget import LatencyBudget
from mlops_assets.gates.no_leakage import NoLeakage
from mlops_assets.gates.non_inferior import NonInferior
from mlops_assets.gates.parity_holds import ParityHolds
from mlops_assets.gates.slices_hold import SlicesHold
from mlops_assets.gates.stable_predictions import StablePredictions
from mlops_assets.gates.superior import Superior
from mlops_assets.ledger.canonical import canonical_json
from mlops_assets.ledger.declared import changes, declared_json, from_declared
from mlops_assets.release.blue_green import BlueGreen
from mlops_assets.release.canary import Canary
from mlops_assets.release.live import LiveAnalysis
from mlops_assets.release.policy import Policy

GATES = (
    AtLeast(metric="roc_auc", floor=0.6),
    Superior(metric="brier", minimum_effect=0.01),
    NonInferior(metric="roc_auc", margin=0.02),
    Equivalent(metric="log_loss", margin=0.1),
    SlicesHold(metric="brier", margin=0.02, slices=(Slice(name="old", where="age > 60"),)),
    Calibrated(tolerance=0.1),
    Fair(group="town", what="selection_rate", tolerance=0.1),
    LatencyBudget(budget=timedelta(milliseconds=5)),
    NoLeakage(unavailable=("chargeback",)),
    ParityHolds(views=("taste",)),
    StablePredictions(tolerance=0.2),
)
POLICY = Policy(
    gates=GATES, analysis=LiveAnalysis(), strategy=Canary(), approvals=1, errors=ErrorControl(claims="each")
)


def test_a_policy_is_made_again_from_what_the_ledger_keeps():
    written = POLICY.to_json()
    canonical_json(written)
    assert Policy.from_json(written) == POLICY
    assert Policy.from_json(written).digest == POLICY.digest


def test_the_digest_follows_every_change():
    others = [replace(POLICY, approvals=2), replace(POLICY, gates=GATES[1:]), replace(POLICY, strategy=BlueGreen())]
    assert len({policy.digest for policy in [POLICY, *others]}) == 4


def test_a_change_is_told_where_it_was_made_and_an_added_gate_is_no_change_of_the_others():
    stricter = Superior(metric="brier", minimum_effect=0.01, alpha=0.01)
    now = replace(POLICY, gates=(AtMost(metric="brier", ceiling=0.25), GATES[0], stricter, *GATES[2:]), approvals=2)
    found = now.changes_since(POLICY.to_json())
    assert "approvals: 1 → 2" in found
    assert "gates[Superior brier].alpha: 0.05 → 0.01" in found
    assert "gates[AtMost brier].ceiling: nothing → 0.25" in found
    assert not [line for line in found if "AtLeast" in line or "NonInferior" in line]
    assert not POLICY.changes_since(POLICY.to_json())


@dataclass(frozen=True)
class Own:
    """A gate of a team's own, which holds something that is no declaration."""

    calls: object
    scratch: object = field(default=None, metadata={"recorded": False})


def test_what_cannot_be_recorded_is_named_with_its_place_and_may_be_left_out():
    with pytest.raises(TypeError, match="Own.calls: .*lambda.* is no declaration"):
        declared_json(Own(calls=lambda: 1))
    made = from_declared(declared_json(Own(calls=("a", 1.5, None), scratch=print)))
    assert made == Own(calls=("a", 1.5, None), scratch=None)


def test_mappings_and_repeated_parts_are_told_apart():
    before = declared_json(Own(calls=({"a": 1}, Slice(name="x", where="a"), Slice(name="x", where="b"))))
    after = declared_json(Own(calls=({"a": 2}, Slice(name="x", where="a"), Slice(name="x", where="c"))))
    assert changes(before, after) == ["calls[value][a]: 1 → 2", "calls[Slice x #2].where: b → c"]


@pytest.mark.parametrize(
    ("gates", "said"),
    [
        ((AtLeast(metric="brier", floor=0.3), AtMost(metric="brier", ceiling=0.2)), "no value does"),
        ((AtLeast(metric="roc_auc", floor=1.2),), "never above 1"),
        ((AtMost(metric="brier", ceiling=-0.1),), "never below 0"),
        ((Superior(metric="brier", minimum_effect=2.0),), "more than brier can ever change"),
        (
            (Superior(metric="brier", minimum_effect=0.02), Equivalent(metric="brier", margin=0.01)),
            "which equivalent_brier forbids",
        ),
    ],
)
def test_gates_that_no_candidate_could_pass_together_are_found(gates, said):
    (fault,) = contradictions(gates, (brier(), roc_auc()))
    assert said in fault


def test_gates_that_fit_have_no_contradiction():
    fitting = (AtLeast(metric="brier", floor=0.1), AtMost(metric="brier", ceiling=0.2), *GATES)
    assert contradictions(fitting, (brier(), roc_auc())) == []
