"""Why is this version live? The answer, from the entries alone.

Belongs here: picking the entries that led to the champion, and telling them in order. Nothing is looked up elsewhere,
so the same ledger gives the same answer anywhere.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from mlops_assets.ledger.canonical import Digest
from mlops_assets.ledger.entry import Entry, Kind
from mlops_assets.ledger.state import fold


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One thing that led here: the entry that says so, when, by whom, in words."""

    sequence: int
    at: str
    actor: str
    what: str
    entry_digest: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """The facts behind the live version of a product; no champion means nothing is live."""

    product: str
    champion: Digest | None
    version: str | None
    facts: tuple[Fact, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the story as a JSON value."""
        return asdict(self)

    def to_text(self) -> str:
        """Return the story for people, a line a fact."""
        if self.champion is None:
            return f"{self.product}: no version is live; nothing has been released yet."
        lines = [f"{self.product} serves version {self.version}", f"  {self.champion}"]
        for fact in self.facts:
            lines.append(f"  {fact.sequence:>4}  {fact.at[:19].replace('T', ' ')}  {fact.actor:20}  {fact.what}")
        lines.append(f"  the last of these facts is entry {self.facts[-1].sequence}, {self.facts[-1].entry_digest}")
        return "\n".join(lines)


def why_live(entries: Iterable[Entry], product: str) -> Story:
    """Return why the champion of ``product`` is live, from its registration to its last rollout step."""
    entries = [entry for entry in entries if entry.product == product]
    champion = fold(entries).champion
    if champion is None:
        return Story(product=product, champion=None, version=None, facts=())
    facts = tuple(
        Fact(sequence=e.sequence, at=e.at.isoformat(), actor=e.actor, what=what, entry_digest=e.digest)
        for e in _leading_to(champion.digest, entries)
        for what in _words(e)
    )
    return Story(product=product, champion=champion.digest, version=champion.version, facts=facts)


def _leading_to(champion: Digest, entries: Iterable[Entry]) -> Iterator[Entry]:
    releases: set[str] = set()
    by_sequence: dict[int, Entry] = {}
    for entry in entries:
        by_sequence[entry.sequence] = entry
        body = entry.body
        if entry.kind is Kind.RELEASED and body["candidate"] == champion:
            releases.add(body["release"])
        if champion in (body.get("candidate"), body.get("to")) or body.get("release") in releases:
            yield entry


def _words(entry: Entry) -> Iterator[str]:
    """Yield what an entry says, one line for people each; the unknown kinds of a later library say only their name."""
    body = entry.body
    match entry.kind:
        case Kind.CANDIDATE_REGISTERED:
            yield (
                f"trained by recipe {_name(body['recipe'])} from snapshot {_short(body['snapshot'])}, registered as "
                f"version {body['version']} (run {str(body.get('run_id', ''))[:8]})"
            )
        case Kind.JUDGED:
            against = f"against champion {_short(body['champion'])}" if body["champion"] else "with no champion yet"
            yield f"judged {body['verdict']} {against}, report {_short(body['report'])}"
            for judgement in body["judgements"]:
                yield f"  {judgement['verdict']:12}  {judgement['gate']}: {judgement['reason']}"
        case Kind.APPROVED | Kind.REJECTED:
            yield f"{entry.kind.value} by {body['by']}: {body['why']}"
        case Kind.RELEASED:
            yield f"released to {body['rollout']['percent']} % of traffic, on the judgement of entry {body['judged']}"
        case Kind.ROLLOUT_MOVED:
            rollout = body["rollout"]
            yield f"live {body['verdict']}: {body['reason']} → {rollout['percent']} %, {rollout['phase']}"
        case Kind.ROLLED_BACK:
            yield f"rolled back to {_short(body['to'])} by {body['by']}: {body['why']}"
        case _:
            yield entry.kind.value


def _name(recipe: Any) -> str:
    return str(recipe["name"]) if isinstance(recipe, dict) else str(recipe)


def _short(digest: Digest | None) -> str:
    return "none" if digest is None else digest.removeprefix("sha256:")[:12]
