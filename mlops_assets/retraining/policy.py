"""When a product is trained again.

Belongs here: the declaration and the pure decision. Not here: who asks (``sensors.py``) or what training does.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from mlops_assets.ledger.entry import Entry, Kind

DAY = timedelta(days=1)


class Cause(StrEnum):
    """Why a retraining is asked for."""

    NEW_DATA = "new_data"
    DRIFT = "drift"
    PERFORMANCE = "performance"


CAUSES = {Kind.DRIFT_FOUND: Cause.DRIFT, Kind.PERFORMANCE_FELL: Cause.PERFORMANCE}
"""The kinds of entry that are a reason to retrain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainingDecision:
    """Whether to retrain, and why or why not. ``until`` is when a refusal ends by itself, if it does."""

    retrain: bool
    reason: str
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainingPolicy:
    """Retrain on the causes that are switched on, not within ``cooldown`` of the last request.

    In any 24 hours at most ``max_per_day`` retrainings are requested. New data are worth a training when
    the source grew by at least ``minimum_growth`` (a share) since the last training for new data; 0 is any new version.
    """

    on_new_data: bool = True
    on_drift: bool = True
    on_performance: bool = True
    cooldown: timedelta = timedelta(hours=1)
    max_per_day: int = 6
    minimum_growth: float = 0.0

    def faults(self) -> list[str]:
        """Return what is wrong with the declaration, one sentence each."""
        found = []
        if self.cooldown < timedelta(0):
            found.append(f"retraining: cooldown is {self.cooldown}, must not be negative")
        if self.max_per_day < 1:
            found.append(f"retraining: max_per_day is {self.max_per_day}, must be at least 1")
        if not 0 <= self.minimum_growth < float("inf"):
            found.append(f"retraining: minimum_growth is {self.minimum_growth}, must be 0 or more (0.25 is a quarter)")
        return found

    def allows(self, cause: Cause) -> bool:
        """Return whether ``cause`` is switched on."""
        return {
            Cause.NEW_DATA: self.on_new_data,
            Cause.DRIFT: self.on_drift,
            Cause.PERFORMANCE: self.on_performance,
        }[cause]

    def decide(self, cause: Cause, requested: Iterable[datetime], now: datetime) -> RetrainingDecision:
        """Return whether ``cause`` is to retrain ``now``, given when retraining was ``requested`` before.

        A cooldown ends exactly ``cooldown`` after the last request; the day's limit frees a place exactly 24 hours
        after the oldest request that counts.
        """
        if not self.allows(cause):
            return RetrainingDecision(retrain=False, reason=f"{cause.value}: the policy does not retrain on this")
        times = sorted(requested)
        waits: list[tuple[datetime, str]] = []
        if times:
            waits.append((times[-1] + self.cooldown, "cooling down"))
        if len(times) >= self.max_per_day:
            waits.append((times[-self.max_per_day] + DAY, f"{self.max_per_day} retrainings in 24 hours is the limit"))
        until, why = max(waits, default=(now, ""))
        if now < until:
            reason = f"{cause.value}: {why} until {until.isoformat(timespec='seconds')}"
            return RetrainingDecision(retrain=False, reason=reason, until=until)
        return RetrainingDecision(retrain=True, reason=cause.value)


def reason_of(entry: Entry) -> str:
    """Return what a drift or performance entry found, in a line for people."""
    if entry.kind is Kind.DRIFT_FOUND:
        return f"drift in {', '.join(entry.body['columns'])} (window {entry.body['window']})"
    return f"{entry.body['metric']} fell (window {entry.body['window']})"


def unanswered(entries: Iterable[Entry]) -> list[Entry]:
    """Return the causes that no later request covers, oldest first; a request covers its cause and all before it."""
    pending: list[Entry] = []
    for entry in entries:
        if entry.kind in CAUSES:
            pending.append(entry)
        elif entry.kind is Kind.RETRAINING_REQUESTED and entry.body.get("cause") is not None:
            pending = [cause for cause in pending if cause.sequence > entry.body["cause"]]
    return pending
