"""What the entries of a product add up to: champion, running rollout, traffic, approvals.

Belongs here: the state and the fold. The fold is total: an entry that makes no sense in the state it meets (a step of a
rollout that is not running, a second release beside one) changes nothing, so two writers that raced cannot break it.
Not here: what to do next (``release/decide.py``).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce

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


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductState:
    """The fold of a product's entries. ``last_sequence`` is what a decider hands to ``append`` as ``expected``."""

    champion: LiveModel | None = None
    earlier_champions: tuple[LiveModel, ...] = ()
    rollout: LiveRollout | None = None
    registered: Mapping[Digest, Entry] = field(default_factory=dict)
    judged: Mapping[Digest, Entry] = field(default_factory=dict)
    approvals: Mapping[Digest, tuple[Entry, ...]] = field(default_factory=dict)
    rejected: frozenset[Digest] = frozenset()
    released: frozenset[Digest] = frozenset()
    rolled_back: frozenset[Digest] = frozenset()
    last_sequence: int = 0

    @property
    def running(self) -> LiveRollout | None:
        """The rollout under way, if any."""
        return self.rollout if self.rollout is not None and self.rollout.is_running else None

    @property
    def weights(self) -> dict[Digest, int]:
        """Percent of traffic by digest: sums to 100, or empty when nothing is live."""
        if self.running is None:
            return {self.champion.digest: 100} if self.champion else {}
        shares = {self.running.candidate.digest: self.running.percent}
        if self.champion is not None:
            shares[self.champion.digest] = 100 - self.running.percent
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
    changed = step(state, entry) if step else state
    return replace(changed, last_sequence=entry.sequence)


def _registered(state: ProductState, entry: Entry) -> ProductState:
    return replace(state, registered={**state.registered, entry.body["candidate"]: entry})


def _judged(state: ProductState, entry: Entry) -> ProductState:
    return replace(state, judged={**state.judged, entry.body["candidate"]: entry})


def _approved(state: ProductState, entry: Entry) -> ProductState:
    candidate = entry.body["candidate"]
    by_others = [said for said in state.approvals.get(candidate, ()) if said.body["by"] != entry.body["by"]]
    return replace(state, approvals={**state.approvals, candidate: (*by_others, entry)})


def _rejected(state: ProductState, entry: Entry) -> ProductState:
    return replace(state, rejected=state.rejected | {entry.body["candidate"]})


def _released(state: ProductState, entry: Entry) -> ProductState:
    body = entry.body
    if state.running is not None:
        return state
    candidate = LiveModel(digest=body["candidate"], version=body["version"], features=body.get("features"))
    rollout = LiveRollout(
        release=body["release"],
        candidate=candidate,
        percent=body["rollout"]["percent"],
        step=body["rollout"]["step"],
        phase=body["rollout"]["phase"],
        released=entry,
        step_began=entry,
    )
    started = replace(state, rollout=rollout, released=state.released | {candidate.digest})
    return _settled(started)


def _moved(state: ProductState, entry: Entry) -> ProductState:
    running = state.running
    if running is None or entry.body["release"] != running.release:
        return state
    rollout = entry.body["rollout"]
    moved = replace(running, percent=rollout["percent"], step=rollout["step"], phase=rollout["phase"], step_began=entry)
    return _settled(replace(state, rollout=moved))


def _settled(state: ProductState) -> ProductState:
    """Return the state after a rollout may have ended: completed, the candidate is champion; else nothing moved."""
    rollout = state.rollout
    if rollout is None or rollout.is_running:
        return state
    if rollout.phase != "COMPLETED":
        return replace(state, rolled_back=state.rolled_back | {rollout.candidate.digest})
    earlier = (*state.earlier_champions, state.champion) if state.champion else state.earlier_champions
    return replace(state, champion=rollout.candidate, earlier_champions=earlier)


def _rolled_back(state: ProductState, entry: Entry) -> ProductState:
    running = state.running
    if running is not None:
        stopped = replace(running, percent=0, phase="ROLLED_BACK", step_began=entry)
        return _settled(replace(state, rollout=stopped))
    digests = [model.digest for model in state.earlier_champions]
    if state.champion is None or entry.body["to"] not in digests:
        return state
    position = len(digests) - 1 - digests[::-1].index(entry.body["to"])
    return replace(
        state,
        champion=state.earlier_champions[position],
        earlier_champions=state.earlier_champions[:position],
        rolled_back=state.rolled_back | {state.champion.digest},
    )


_STEPS = {
    Kind.CANDIDATE_REGISTERED: _registered,
    Kind.JUDGED: _judged,
    Kind.APPROVED: _approved,
    Kind.REJECTED: _rejected,
    Kind.RELEASED: _released,
    Kind.ROLLOUT_MOVED: _moved,
    Kind.ROLLED_BACK: _rolled_back,
}
