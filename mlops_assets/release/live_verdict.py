"""What live analysis found, and how the ledger keeps it: all that is needed to come to the same verdict again."""

from dataclasses import asdict, dataclass
from typing import Any

from mlops_assets.gates.gate import Verdict
from mlops_assets.ledger.canonical import Digest
from mlops_assets.release.guardrails import Breach
from mlops_assets.release.latency import LatencySequence
from mlops_assets.release.sample_ratio import SampleRatio


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """What was seen in one segment: units, mean gain, and the log capital of the bet that it loses less there.

    ``low`` and ``high`` bound the mean gain at all looks and in all segments at once.
    """

    where: str
    units: int
    gain: float
    low: float
    high: float
    log_e: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveVerdict:
    """What the analysis found. Gains are in units of the loss, positive is better; ``series`` has a point a unit.

    ``gains`` are the units' clipped gains, in order: all that the two main bets saw. ``gave_up`` says that the declared
    time has passed without a verdict, ``would_be`` what a dry run would have decided. ``decided_at`` is the number of
    units that decided the verdict, where units did. ``unreadable`` says which claims could not be looked at, and why.
    """

    verdict: Verdict
    reason: str
    units: int
    exposed_requests: int
    gain: float
    low: float
    high: float
    log_e_harm: float
    log_e_safe: float
    values: Digest
    series: tuple[tuple[float, ...], ...] = ()
    gains: tuple[float, ...] = ()
    fresh: int = 0
    breaches: tuple[Breach, ...] = ()
    segments: tuple[Segment, ...] = ()
    ratio: SampleRatio | None = None
    gave_up: bool = False
    would_be: str | None = None
    decided_at: int | None = None
    latency: tuple[LatencySequence, ...] = ()
    unreadable: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the evidence as a JSON value; the series as (units, gain, low, high)."""
        names = ("units", "exposed_requests", "gain", "low", "high", "log_e_harm", "log_e_safe", "values", "fresh")
        return {name: getattr(self, name) for name in (*names, "gave_up", "decided_at")} | {
            "series": [list(point) for point in self.series],
            "gains": list(self.gains),
            "guardrails": [breach.to_json() for breach in self.breaches],
            "segments": [asdict(part) for part in self.segments],
            "unreadable": list(self.unreadable),
            "latency": [sequence.to_json() for sequence in self.latency],
            "sample_ratio": self.ratio.to_json() if self.ratio else None,
        }
