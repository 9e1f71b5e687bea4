"""How fast and how safely a product is delivered: the four key metrics, from the ledger alone.

Forsgren, Humble and Kim (2018), "Accelerate", and DORA's "Software delivery performance metrics" (dora.dev): deployment
frequency, lead time for changes, change failure rate, and failed deployment recovery time, once called time to restore.
A change is a candidate, a deployment is a rollout; which of them took place is for the ledger's fold to say, so a
release that the state ignores does not count here either.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from statistics import median

from mlops_assets.ledger.canonical import Digest
from mlops_assets.ledger.entry import Entry
from mlops_assets.ledger.state import ProductState, fold


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """One release of a candidate: when it was asked for, begun, completed, taken away; ``None`` for what was not.

    ``asked`` is when its recipe was proposed, or its retraining requested, or else when it was registered.
    """

    release: str
    candidate: Digest
    asked: datetime
    released: datetime
    completed: datetime | None = None
    rolled_back: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """The four metrics of one product; ``None`` where nothing has happened that could be measured.

    ``releases`` counts all, ``completed`` those that took all traffic, ``failed`` those rolled back, then or later.
    """

    product: str
    releases: int
    completed: int
    failed: int
    deployments_per_day: float | None
    median_lead_time: timedelta | None
    change_failure_rate: float | None
    median_time_to_restore: timedelta | None


def measure_delivery(product: str, entries: Iterable[Entry]) -> Delivery:
    """Return the metrics of ``product``, over all its ``entries``.

    Deployment frequency is completed releases per day, from the first release to the last entry, a day at least. Lead
    time runs from when a change was asked for to the end of its rollout. The failure rate is of the releases that
    ended, so one that is still under way counts for neither. Restoring runs from the release of a version to the entry
    that took it away. Times are medians.
    """
    entries = [entry for entry in entries if entry.product == product]
    found = deployments(entries)
    lead_times = [one.completed - one.asked for one in found if one.completed]
    restored = [one.rolled_back - one.released for one in found if one.rolled_back]
    ended = sum(1 for one in found if one.completed or one.rolled_back)
    return Delivery(
        product=product,
        releases=len(found),
        completed=len(lead_times),
        failed=len(restored),
        deployments_per_day=len(lead_times) / _days(found[0].released, entries[-1].at) if found else None,
        median_lead_time=_median(lead_times),
        change_failure_rate=len(restored) / ended if ended else None,
        median_time_to_restore=_median(restored),
    )


def deployments(entries: Iterable[Entry]) -> tuple[Deployment, ...]:
    """Return every release of one product in order, with what became of it."""
    found: list[Deployment] = []
    asked: dict[Digest, datetime] = {}
    state = ProductState()
    for entry in entries:
        before, state = state, fold([entry], state)
        for candidate in state.registered.keys() - asked.keys():
            asked[candidate] = _first_asked(before, state, entry)
        if state.rollout is not None and (before.rollout is None or state.rollout.released != before.rollout.released):
            found.append(_begun(entry, asked))
        for candidate in state.rolled_back - before.rolled_back:
            at = _last_of(candidate, found)
            found[at] = replace(found[at], rolled_back=entry.at)
        if state.champion != before.champion and state.rollout != before.rollout and state.champion:
            at = _last_of(state.champion.digest, found)
            found[at] = replace(found[at], completed=entry.at)
    return tuple(found)


def _begun(entry: Entry, asked: dict[Digest, datetime]) -> Deployment:
    candidate, release = entry.body["candidate"], entry.body["release"]
    return Deployment(release=release, candidate=candidate, asked=asked.get(candidate, entry.at), released=entry.at)


def _first_asked(before: ProductState, state: ProductState, registered: Entry) -> datetime:
    """Return when the oldest open proposal or request that this registration answers was made, else its own time."""
    proposed = [asked.at for asked in before.proposed if asked not in state.proposed]
    return min([*proposed, *(asked.at for asked in before.retraining_requested), registered.at])


def _last_of(candidate: Digest, found: Sequence[Deployment]) -> int:
    """Return the position of the candidate's last release: whatever was live or taken away had one."""
    return max(position for position, one in enumerate(found) if one.candidate == candidate)


def _median(durations: Sequence[timedelta]) -> timedelta | None:
    return timedelta(seconds=median(d.total_seconds() for d in durations)) if durations else None


def _days(first: datetime, last: datetime) -> float:
    return max((last - first) / timedelta(days=1), 1.0)
