"""Pure decisions over a product's state: may this candidate be released, what is the next step, what is undone.

Belongs here: what to decide. Not here: recording it (``assets.py``) or acting on it (``reconcile.py``).
"""

from dataclasses import dataclass
from typing import Any

from mlops_assets.errors import ReleaseRefused
from mlops_assets.gates.gate import Verdict
from mlops_assets.ledger.canonical import Digest, digest_of
from mlops_assets.ledger.entry import Entry
from mlops_assets.ledger.state import LiveRollout, ProductState
from mlops_assets.release.plan import TrafficPlan
from mlops_assets.release.rollout import Phase, Rollout, RolloutStrategy, stopped


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseDecision:
    """Whether a candidate may be released, and why or why not."""

    release: bool
    reason: str


def decide_release(
    state: ProductState, candidate: Digest, *, verdict_now: Verdict, approvals_needed: int
) -> ReleaseDecision:
    """Decide on ``candidate``: judged for itself, against the present champion, passing when asked again.

    Approvals count only if they were given after that judgement: who approved had its evidence to look at.
    """
    refusal = _refusal(state, candidate, verdict_now, approvals_needed)
    return ReleaseDecision(release=refusal is None, reason=refusal or "judged PASSED, approved, nothing else under way")


def _refusal(state: ProductState, candidate: Digest, verdict_now: Verdict, approvals_needed: int) -> str | None:
    """Return the first reason against the release, or ``None``."""
    champion = state.champion.digest if state.champion else None
    judged = state.judged.get(candidate)
    if judged is None or candidate not in state.registered:
        return "it was never registered and judged; train it first"
    approvals = sum(said.sequence > judged.sequence for said in state.approvals.get(candidate, ()))
    reasons = [
        (candidate == champion, "it is the champion already"),
        (
            state.running is not None,
            f"the rollout {state.running.release if state.running else ''} is under way; end it first",
        ),
        (candidate in state.rolled_back, "it was rolled back before; train a new one"),
        (candidate in state.rejected, "somebody rejected it"),
        (
            judged.body["verdict"] != Verdict.PASSED,
            f"the gates said {judged.body['verdict']} (entry {judged.sequence})",
        ),
        (judged.body["champion"] != champion, "it was judged against another champion; evaluate it again"),
        (approvals < approvals_needed, f"it has {approvals} of {approvals_needed} approvals since"),
        (verdict_now is not Verdict.PASSED, f"asked again, the gates say {verdict_now.value}"),
    ]
    return next((reason for holds, reason in reasons if holds), None)


def release_body(state: ProductState, candidate: Digest, strategy: RolloutStrategy) -> dict[str, Any]:
    """Return the body of the ``RELEASED`` entry."""
    registered, judged = state.registered[candidate], state.judged[candidate]
    champion = state.champion.digest if state.champion else None
    return {
        "release": digest_of({"candidate": candidate, "judged": judged.digest})[7:19],
        "candidate": candidate,
        "version": registered.body["version"],
        "features": registered.body["features"],
        "champion": champion,
        "judged": judged.sequence,
        "strategy": strategy.name,
        "rollout": strategy.start(has_champion=champion is not None).to_json(),
    }


def decide_step(rollout: LiveRollout, strategy: RolloutStrategy, verdict: Verdict, *, gave_up: bool = False) -> Rollout:
    """Return where the rollout goes with ``verdict``; the same place means that there is nothing to record.

    An analysis that ``gave_up`` ends it: what was not shown in time is not promoted.
    """
    now = Rollout(percent=rollout.percent, step=rollout.step, phase=Phase(rollout.phase))
    return stopped(now) if gave_up and verdict is Verdict.INCONCLUSIVE else strategy.advance(now, verdict)


def rollback_body(state: ProductState, *, by: str, why: str) -> dict[str, Any]:
    """Return the body of the ``ROLLED_BACK`` entry.

    A running rollout returns to its champion; otherwise the champion gives way to the one before. ``ReleaseRefused``
    when there is nothing to return to, or nobody says who wants it and why.
    """
    if not by.strip() or not why.strip():
        raise ReleaseRefused("a rollback is recorded with who wants it and why; set by and why")
    if state.running is not None:
        if state.champion is None:
            raise ReleaseRefused("there is no champion to return to")
        return {"release": state.running.release, "to": state.champion.digest, "by": by, "why": why}
    if not state.earlier_champions:
        raise ReleaseRefused("there is no earlier champion to return to")
    return {"release": None, "to": state.earlier_champions[-1].digest, "by": by, "why": why}


def desired_plan(state: ProductState) -> TrafficPlan:
    """Return the traffic plan that the state asks for."""
    champion = state.champion.digest if state.champion else None
    return TrafficPlan(weights=state.weights, mirrors=state.mirrors, features=state.features, champion=champion)


def desired_aliases(state: ProductState) -> dict[str, Digest]:
    """Return the aliases that the state asks for."""
    aliases = {"champion": state.champion.digest} if state.champion else {}
    return aliases | ({"challenger": state.running.candidate.digest} if state.running else {})


def releasable(state: ProductState, *, approvals_needed: int) -> Entry | None:
    """Return the newest judgement whose candidate could be released now, if any."""
    for judged in sorted(state.judged.values(), key=lambda entry: -entry.sequence):
        verdict = Verdict(judged.body["verdict"])
        if decide_release(
            state, judged.body["candidate"], verdict_now=verdict, approvals_needed=approvals_needed
        ).release:
            return judged
    return None
