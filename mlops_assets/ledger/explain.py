"""Why is this version live? The answer, from the entries alone.

Belongs here: picking the entries that led to the champion, and telling them in order. Nothing is looked up elsewhere,
so the same ledger gives the same answer anywhere.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import Any

from mlops_assets.errors import LedgerCorrupt
from mlops_assets.ledger.canonical import Digest
from mlops_assets.ledger.entry import Entry, Kind
from mlops_assets.ledger.state import ProductState, fold

_LONGEST_ACTOR = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One thing that led here: the entry that says so, when, by whom, in words, and the evidence it was decided on."""

    sequence: int
    at: str
    actor: str
    what: str
    entry_digest: Digest
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """The facts behind the live version of a product; no champion means nothing is live.

    ``traffic`` is percent by digest. ``entries`` counts what the story was read from, and ``head`` is the digest of the
    last of those.
    """

    product: str
    champion: Digest | None
    version: str | None
    facts: tuple[Fact, ...]
    traffic: Mapping[Digest, int] = field(default_factory=dict)
    entries: int = 0
    head: Digest | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the story as a JSON value."""
        return {**asdict(self), "facts": [asdict(fact) for fact in self.facts]}

    def to_text(self) -> str:
        """Return the story for people: the version, its facts in order as aligned columns, and where they stand."""
        if self.champion is None:
            return f"{self.product}: no version is live; none completed its release yet."
        lines = [f"{self.product}: version {self.version} is live", f"  model    {self.champion}"]
        shares = ", ".join(f"{_short(digest)} {percent} %" for digest, percent in self.traffic.items())
        lines += [f"  traffic  {shares}", "", *self._table(), ""]
        lines.append(f"  from {self.entries} intact entries of {self.product}; the last is {self.head}")
        return "\n".join(lines)

    def _table(self) -> Iterator[str]:
        """Yield a line per fact; an entry's number, time and actor stand beside its first."""
        actors = {fact.actor: _shortened(fact.actor) for fact in self.facts}
        width = max((len(actor) for actor in actors.values()), default=0)
        for sequence, told in groupby(self.facts, key=lambda fact: fact.sequence):
            for position, fact in enumerate(told):
                when = fact.at[:19].replace("T", " ")
                beside = f"{sequence:>6}  {when}  {actors[fact.actor]:{width}}" if position == 0 else " " * (width + 29)
                yield f"{beside}  {fact.what}"


def why_live(entries: Iterable[Entry], product: str) -> Story:
    """Return why the champion of ``product`` is live: from what it was trained on to the last that spoke for it.

    ``LedgerCorrupt`` when an entry of the product is not what was written; that none is missing is for the ledger's
    ``verify`` to say.
    """
    told = [entry for entry in entries if entry.product == product]
    changed = next((entry for entry in told if not entry.is_intact), None)
    if changed is not None:
        raise LedgerCorrupt(
            f"entry {changed.sequence} of {product} was changed after it was written; verify the ledger"
        )
    state = fold(told)
    champion = state.champion
    return Story(
        product=product,
        champion=champion.digest if champion else None,
        version=champion.version if champion else None,
        facts=tuple(_facts(told, champion.digest)) if champion else (),
        traffic=state.weights,
        entries=len(told),
        head=told[-1].digest if told else None,
    )


def _facts(entries: Sequence[Entry], champion: Digest) -> Iterator[Fact]:
    wanted = _leading_to(champion, entries)
    for entry in entries:
        if entry.sequence not in wanted:
            continue
        for what, evidence in _words(entry, champion):
            yield Fact(
                sequence=entry.sequence,
                at=entry.at.isoformat(),
                actor=entry.actor,
                what=what,
                entry_digest=entry.digest,
                evidence=evidence,
            )


def _leading_to(champion: Digest, entries: Sequence[Entry]) -> set[int]:
    """Return the sequences of the entries that tell of the champion, and of those that failed to take its place."""
    wanted: set[int] = set()
    state = ProductState()
    for entry in entries:
        before, state = state, fold([entry], state)
        running = before.running.candidate.digest if before.running else None
        is_of_it = champion in {entry.body.get("candidate"), entry.body.get("to")}
        is_its_step = entry.kind is Kind.ROLLOUT_MOVED and champion == running
        if entry.kind is Kind.CANDIDATE_REGISTERED and is_of_it:
            answered = {asked.sequence for asked in (*before.proposed, *before.retraining_requested)}
            wanted |= answered - {asked.sequence for asked in state.proposed}
        beat_another = _is_champion(champion, before) and state.rolled_back != before.rolled_back
        if is_of_it or is_its_step or beat_another:
            wanted.add(entry.sequence)
    return wanted


def _is_champion(digest: Digest, state: ProductState) -> bool:
    return state.champion is not None and state.champion.digest == digest


def _words(entry: Entry, champion: Digest) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield what an entry says, one line for people each, with its evidence."""
    body = entry.body
    match entry.kind:
        case Kind.RECIPE_PROPOSED:
            yield f"proposed recipe {_name(body['recipe'])}: {body.get('why', '')}", {}
        case Kind.RETRAINING_REQUESTED:
            yield f"asked for a training: {body.get('reason', '')}", {}
        case Kind.CANDIDATE_REGISTERED:
            yield (
                f"trained by recipe {_name(body['recipe'])} on training set {_short(body.get('training_set'))} from "
                f"snapshot {_short(body['snapshot'])}, registered as version {body['version']} "
                f"(run {str(body.get('run_id', ''))[:8]})",
                {},
            )
        case Kind.JUDGED:
            yield from _judged(body)
        case Kind.REPRODUCED:
            outcome = "the same model came out" if body["equal"] else "ANOTHER model came out"
            yield f"made again from its recorded inputs: {outcome} (run {str(body.get('run_id', ''))[:8]})", {}
        case Kind.APPROVED | Kind.REJECTED:
            yield f"{entry.kind.value} by {body['by']}: {body['why']}", {}
        case Kind.RELEASED:
            yield (
                f"released to {body['rollout']['percent']} % of traffic, on the judgement of entry {body['judged']}",
                {},
            )
        case Kind.ROLLOUT_MOVED:
            yield _moved(body), body.get("evidence") or {}
        case Kind.ROLLED_BACK:
            back = "this version" if body["to"] == champion else f"version {_short(body['to'])}"
            yield f"rolled back to {back} by {body['by']}: {body['why']}", {}
        case _:
            yield entry.kind.value, {}


def _judged(body: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    against = f"against champion {_short(body['champion'])}" if body["champion"] else "with no champion yet"
    golden = body.get("golden") or body.get("evaluation", {}).get("golden")
    on = f" on golden set {_short(golden)}" if golden else ""
    yield f"judged {body['verdict']} {against}{on}, report {_short(body['report'])}", {}
    for judgement in body["judgements"]:
        line = f"  {judgement['verdict']:12}  {judgement['gate']}: {judgement['reason']}"
        yield line, judgement.get("evidence") or {}


def _moved(body: Mapping[str, Any]) -> str:
    after = f"{body['rollout']['percent']} %, {body['rollout']['phase']}"
    return f"release {body['release']}: live {body['verdict']}, {body['reason']} → {after}"


def _name(recipe: Any) -> str:
    return str(recipe["name"]) if isinstance(recipe, dict) else str(recipe)


def _short(digest: Digest | None) -> str:
    return "none" if digest is None else digest.removeprefix("sha256:")[:12]


def _shortened(actor: str) -> str:
    return actor if len(actor) <= _LONGEST_ACTOR else f"{actor[: _LONGEST_ACTOR - 1]}…"
