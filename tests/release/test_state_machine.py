"""Everything that can happen to a product, in any order: what must hold in every state that is reached.

Rollout controllers get stuck in corners that nobody thought of; so hypothesis thinks of them.
"""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mlops_assets.errors import ReleaseRefused, ServiceUnavailable
from mlops_assets.gates.gate import Verdict
from mlops_assets.ledger.entry import Kind
from mlops_assets.ledger.sql import SqlLedger
from mlops_assets.ledger.state import LiveModel, fold
from mlops_assets.release.blue_green import BlueGreen
from mlops_assets.release.canary import Canary
from mlops_assets.release.decide import (
    decide_release,
    decide_step,
    desired_aliases,
    desired_plan,
    release_body,
    rollback_body,
)
from mlops_assets.release.reconcile import is_served, reconcile
from mlops_assets.release.target import FakeServing

PRODUCT = "p"
CANDIDATES = st.sampled_from([f"sha256:{name}" for name in "abcdef"])


class Aliases:
    """As much of a registry as reconcile asks for."""

    def __init__(self):
        self.kept = {"staging": "sha256:of-somebody-else"}

    def aliases(self, product):
        return dict(self.kept)

    def set_aliases(self, product, aliases):
        others = {name: digest for name, digest in self.kept.items() if name not in ("champion", "challenger")}
        self.kept = others | dict(aliases)


class Life(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.ledger = SqlLedger("sqlite://")
        self.registry, self.target = Aliases(), FakeServing()
        self.approvals_needed = 0
        self.percent = 0

    @initialize(
        approvals=st.integers(0, 2), strategy=st.sampled_from([Canary(), Canary(percents=(1, 100)), BlueGreen()])
    )
    def declare(self, approvals, strategy):
        self.approvals_needed, self.strategy = approvals, strategy

    @property
    def state(self):
        return fold(self.ledger.entries(PRODUCT))

    def say(self, kind, body, by="somebody"):
        self.ledger.append(PRODUCT, kind, body, actor=by, expected=self.state.last_sequence)

    @rule(candidate=CANDIDATES, verdict=st.sampled_from(["PASSED", "PASSED", "FAILED", "INCONCLUSIVE"]))
    def judge(self, candidate, verdict):
        champion = self.state.champion
        features = f"features of {candidate}"
        self.say(Kind.CANDIDATE_REGISTERED, {"candidate": candidate, "version": "1", "features": features})
        judged = {"candidate": candidate, "champion": champion.digest if champion else None, "verdict": verdict}
        self.say(Kind.JUDGED, judged)

    @rule(
        candidate=CANDIDATES,
        by=st.sampled_from(["ada", "ben"]),
        kind=st.sampled_from([Kind.APPROVED] * 4 + [Kind.REJECTED]),
    )
    def answer(self, candidate, by, kind):
        self.say(kind, {"candidate": candidate, "by": by, "why": "because"}, by)

    @rule(candidate=CANDIDATES, now=st.sampled_from([Verdict.PASSED, Verdict.PASSED, Verdict.FAILED]))
    def release(self, candidate, now):
        state = self.state
        decision = decide_release(state, candidate, verdict_now=now, approvals_needed=self.approvals_needed)
        if not decision.release:
            return
        assert now is Verdict.PASSED
        assert state.judged[candidate].body["verdict"] == "PASSED"
        assert state.judged[candidate].body["champion"] == (state.champion.digest if state.champion else None)
        assert candidate not in state.rejected | state.rolled_back
        self.say(Kind.RELEASED, release_body(state, candidate, self.strategy))
        self.percent = 0

    @precondition(lambda self: self.state.running)
    @rule(verdict=st.sampled_from(Verdict))
    def step(self, verdict):
        running = self.state.running
        moved = decide_step(running, self.strategy, verdict)
        if verdict is Verdict.INCONCLUSIVE:
            assert (moved.percent, moved.step) == (running.percent, running.step)
            return
        assert (moved.percent > running.percent) == (verdict is Verdict.PASSED)
        body = {"release": running.release, "verdict": verdict.value, "reason": "", "evidence": {}}
        self.say(Kind.ROLLOUT_MOVED, body | {"rollout": moved.to_json()})

    @precondition(lambda self: self.state.champion)
    @rule(stale=st.booleans())
    def step_of_a_release_that_is_over(self, stale):
        before = desired_plan(self.state)
        body = {"release": "long ago", "verdict": "PASSED", "reason": "", "evidence": {}}
        self.say(Kind.ROLLOUT_MOVED, body | {"rollout": {"percent": 100, "step": 9, "phase": "COMPLETED"}})
        assert desired_plan(self.state) == before

    @rule()
    def roll_back(self):
        state = self.state
        try:
            body = rollback_body(state, by="ada", why="alarms")
        except ReleaseRefused:
            assert state.running is None
            assert not state.earlier_champions
            return
        taken = state.running.candidate if state.running else state.champion
        self.say(Kind.ROLLED_BACK, body, "ada")
        assert taken.digest not in desired_plan(self.state).weights
        assert desired_plan(self.state).weights == {body["to"]: 100}

    @rule()
    def lose_the_server(self):
        self.target = FakeServing()

    @rule(call=st.integers(1, 4))
    def reconcile_on_a_server_that_fails(self, call):
        self.target.calls, self.target.fail_at = 0, call
        try:
            reconcile(self.state, product=PRODUCT, registry=self.registry, target=self.target)
        except ServiceUnavailable:
            assert self.registry.aliases(PRODUCT).get("champion") == desired_aliases(self.state).get("champion")
        self.target.fail_at = None

    @rule()
    def heal(self):
        reconcile(self.state, product=PRODUCT, registry=self.registry, target=self.target)
        assert is_served(self.state, product=PRODUCT, target=self.target)
        assert desired_aliases(self.state).items() <= self.registry.aliases(PRODUCT).items()
        assert "staging" in self.registry.aliases(PRODUCT)
        assert reconcile(self.state, product=PRODUCT, registry=self.registry, target=self.target).changes == ()

    @invariant()
    def all_traffic_is_answered_by_versions_that_may_answer(self):
        state = self.state
        weights = desired_plan(state).weights
        assert sum(weights.values()) in (0, 100)
        assert (not weights) == (state.champion is None)
        assert all(share > 0 for share in weights.values())
        assert not set(weights) & state.rolled_back
        assert not set(desired_plan(state).mirrors) - {model.digest for model in _live(state)}

    @invariant()
    def features_belong_to_a_version_that_is_live(self):
        state = self.state
        assert desired_plan(state).features in ({model.features for model in _live(state)} or {None})

    def teardown(self):
        """From wherever it is, a rollout can be brought to its end: nothing is stuck."""
        for _ in range(5):
            if self.state.running:
                self.step(Verdict.PASSED)
        assert self.state.running is None
        self.heal()
        assert self.ledger.verify() == len(self.ledger.entries())


def _live(state) -> list[LiveModel]:
    return [model for model in (state.champion, state.running.candidate if state.running else None) if model]


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=25, stateful_step_count=25, suppress_health_check=[HealthCheck.too_slow])
