"""What the entries of a product add up to: champion, running rollout, traffic, approvals, what is to be trained.

Belongs here: the state and the fold. The fold is total: an entry that makes no sense in the state it meets (a step of a
rollout that is not running, a second release beside one, a release of what was rolled back) changes nothing, so two
writers that raced cannot break it. Only an entry without the fields of its kind is refused, as ``LedgerCorrupt``.
Not here: what to do next (``release/decide.py``).

What holds after any sequence of entries: traffic sums to 100 or is empty; at most one rollout is running; a version
that was rolled back gets no traffic, and is no champion to return to.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import reduce
from typing import Any

from mlops_assets.errors import LedgerCorrupt
from mlops_assets.ledger.canonical import Digest
from mlops_assets.ledger.entry import Entry, Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveModel:
    """A model that answers: its digest, the registry's version, and the events its serving features come from."""

    digest: Digest
    version: str
    features: Digest | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRollout:
    """The newest release: what is rolled out, how far it is, and where its steps began.

    ``step_began`` is the sequence of the entry that began the present step.
    """

    release: str
    candidate: LiveModel
    percent: int
    step: int
    phase: str
    released: Entry
    step_began: Entry

    @property
    def is_running(self) -> bool:
        """Traffic is still moving."""
        return self.phase == "RUNNING"

    @property
    def champion(self) -> Digest | None:
        """The champion it was released against, if there was one."""
        against: Digest | None = self.released.body.get("champion")
        return against


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductState:
    """The fold of a product's entries. ``last_sequence`` is what a decider hands to ``append`` as ``expected``.

    ``earlier_champions`` can be returned to, the last first. ``judged`` and ``registered`` have the last such entry of
    each candidate, ``approvals`` the last of each person. ``proposed`` and ``retraining_requested`` are the entries
    that no candidate registered since has answered; ``last_registered_at`` is when the last training came to its end.
    """

    champion: LiveModel | None = None
    earlier_champions: tuple[LiveModel, ...] = ()
    rollout: LiveRollout | None = None
    registered: Mapping[Digest, Entry] = field(default_factory=dict)
    judged: Mapping[Digest, Entry] = field(default_factory=dict)
    approvals: Mapping[Digest, tuple[Entry, ...]] = field(default_factory=dict)
    rejected: frozenset[Digest] = frozenset()
    released: frozenset[Digest] = frozenset()
    rolled_back: frozenset[Digest] = frozenset()
    proposed: tuple[Entry, ...] = ()
    retraining_requested: tuple[Entry, ...] = ()
    last_registered_at: datetime | None = None
    last_sequence: int = 0

    @property
    def running(self) -> LiveRollout | None:
        """The rollout under way, if any."""
        return self.rollout if self.rollout is not None and self.rollout.is_running else None

    @property
    def weights(self) -> dict[Digest, int]:
        """Percent of traffic by digest: sums to 100, or empty when nothing is live.

        A candidate that has any traffic has all of it while there is no champion to share it with.
        """
        if self.running is None:
            return {self.champion.digest: 100} if self.champion else {}
        candidate, percent = self.running.candidate.digest, self.running.percent
        if self.champion is None:
            return {candidate: 100} if percent else {}
        shares = {candidate: percent, self.champion.digest: 100 - percent}
        return {digest: share for digest, share in shares.items() if share}

    @property
    def mirrors(self) -> tuple[Digest, ...]:
        """Digests that score every request as well: both sides of a rollout, so that they can be compared in pairs."""
        if self.running is None or self.champion is None:
            return ()
        return (self.champion.digest, self.running.candidate.digest)

    @property
    def features(self) -> Digest | None:
        """The snapshot that serving features come from: the candidate's while it is rolled out, then the champion's."""
        live = self.running.candidate if self.running else self.champion
        return live.features if live else None


def fold(entries: Iterable[Entry], state: ProductState | None = None) -> ProductState:
    """Return the state after ``entries`` of one product, in order; ``state`` is that before them, empty by default.

    ``fold(a + b) == fold(b, fold(a))``.
    """
    return reduce(_after, entries, state or ProductState())


def _after(state: ProductState, entry: Entry) -> ProductState:
    step = _STEPS.get(entry.kind)
    try:
        changed = step(state, entry) if step else state
    except (KeyError, TypeError) as error:
        what = f"entry {entry.sequence} of {entry.product} is no {entry.kind.value}"
        raise LedgerCorrupt(f"{what}: {error!r} in its body {dict(entry.body)}; find out who wrote it") from error
    return replace(changed, last_sequence=entry.sequence)


def _proposed(state: ProductState, entry: Entry) -> ProductState:
    return replace(state, proposed=(*state.proposed, entry))


def _requested(state: ProductState, entry: Entry) -> ProductState:
    return replace(state, retraining_requested=(*state.retraining_requested, entry))


def _registered(state: ProductState, entry: Entry) -> ProductState:
    return replace(
        state,
        registered={**state.registered, entry.body["candidate"]: entry},
        proposed=tuple(asked for asked in state.proposed if asked.body.get("recipe") != entry.body.get("recipe")),
        retraining_requested=(),
        last_registered_at=entry.at,
    )


def _judged(state: ProductState, entry: Entry) -> ProductState:
    return replace(state, judged={**state.judged, entry.body["candidate"]: entry})


def _approved(state: ProductState, entry: Entry) -> ProductState:
    candidate = entry.body["candidate"]
    by_others = [said for said in state.approvals.get(candidate, ()) if said.body["by"] != entry.body["by"]]
    return replace(state, approvals={**state.approvals, candidate: (*by_others, entry)})


def _rejected(state: ProductState, entry: Entry) -> ProductState:
    return replace(state, rejected=state.rejected | {entry.body["candidate"]})


def _released(state: ProductState, entry: Entry) -> ProductState:
    """Return the state with a rollout begun, unless one is running or the candidate is live or was rolled back."""
    body = entry.body
    candidate = LiveModel(digest=body["candidate"], version=body["version"], features=body.get("features"))
    is_live = state.champion is not None and candidate.digest == state.champion.digest
    if state.running is not None or is_live or candidate.digest in state.rolled_back or not _is_sane(body["rollout"]):
        return state
    rollout = LiveRollout(
        release=body["release"],
        candidate=candidate,
        percent=body["rollout"]["percent"],
        step=body["rollout"]["step"],
        phase=body["rollout"]["phase"],
        released=entry,
        step_began=entry,
    )
    return _settled(replace(state, rollout=rollout, released=state.released | {candidate.digest}))


def _moved(state: ProductState, entry: Entry) -> ProductState:
    running, rollout = state.running, entry.body["rollout"]
    if running is None or entry.body["release"] != running.release or not _is_sane(rollout):
        return state
    moved = replace(running, percent=rollout["percent"], step=rollout["step"], phase=rollout["phase"], step_began=entry)
    return _settled(replace(state, rollout=moved))


def _is_sane(rollout: Mapping[str, Any]) -> bool:
    percent = rollout["percent"]
    return rollout["phase"] in _PHASES and type(percent) is int and 0 <= percent <= 100


def _settled(state: ProductState) -> ProductState:
    """Return the state after a rollout may have ended: completed, the candidate is champion; else nothing moved."""
    rollout = state.rollout
    if rollout is None or rollout.is_running:
        return state
    # The candidate may have been champion before: it is not one to return to from itself, nor once it was taken away.
    earlier = _without(rollout.candidate.digest, state.earlier_champions)
    if rollout.phase != "COMPLETED":
        rolled_back = state.rolled_back | {rollout.candidate.digest}
        return replace(state, rolled_back=rolled_back, earlier_champions=earlier)
    if state.champion is not None:
        earlier = (*earlier, state.champion)
    return replace(state, champion=rollout.candidate, earlier_champions=earlier)


def _rolled_back(state: ProductState, entry: Entry) -> ProductState:
    """Return the state with the running rollout ended, or with the earlier champion ``to`` back in its place.

    While a rollout is running, a rollback that names another release is not about it, and changes nothing.
    """
    release, to, running = entry.body.get("release"), entry.body["to"], state.running
    if running is not None:
        if release not in {None, running.release}:
            return state
        return _settled(replace(state, rollout=replace(running, percent=0, phase="ROLLED_BACK", step_began=entry)))
    digests = [model.digest for model in state.earlier_champions]
    if state.champion is None or to not in digests:
        return state
    position = digests.index(to)
    return replace(
        state,
        champion=state.earlier_champions[position],
        earlier_champions=state.earlier_champions[:position],
        rolled_back=state.rolled_back | {state.champion.digest},
    )


def _without(digest: Digest, models: tuple[LiveModel, ...]) -> tuple[LiveModel, ...]:
    return tuple(model for model in models if model.digest != digest)


_PHASES = frozenset({"RUNNING", "COMPLETED", "ROLLED_BACK"})
_STEPS = {
    Kind.RECIPE_PROPOSED: _proposed,
    Kind.RETRAINING_REQUESTED: _requested,
    Kind.CANDIDATE_REGISTERED: _registered,
    Kind.JUDGED: _judged,
    Kind.APPROVED: _approved,
    Kind.REJECTED: _rejected,
    Kind.RELEASED: _released,
    Kind.ROLLOUT_MOVED: _moved,
    Kind.ROLLED_BACK: _rolled_back,
}
