"""How many golden clusters each comparing gate needs, said before anything is trained."""

from collections.abc import Sequence
from dataclasses import dataclass

from mlops_assets.gates.comparing import ComparingGate
from mlops_assets.gates.error_control import ErrorControl
from mlops_assets.gates.gate import Gate
from mlops_assets.gates.golden_budget import next_use
from mlops_assets.gates.pilot import find_pilot
from mlops_assets.ledger.canonical import Digest
from mlops_assets.ledger.entry import Entry
from mlops_assets.ledger.state import fold


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What a gate needs to show its ``effect``, by which pilot; ``needed`` is ``None`` before the first comparison.

    ``level`` is the error rate that the next use of the golden set gets.
    """

    gate: str
    effect: float
    level: float
    has: int
    needed: int | None
    pilot: str

    @property
    def is_enough(self) -> bool:
        """Nothing says that the golden set is too small, or spent."""
        return self.level > 0 and (self.needed is None or self.has >= self.needed)


def plan(
    gates: Sequence[Gate], entries: Sequence[Entry], *, golden: Digest, clusters: int, errors: ErrorControl
) -> list[Planned]:
    """Return what each comparing gate needs for the next candidate, and what ``golden`` has; none without champion."""
    champion = fold(entries).champion
    if champion is None:
        return []
    share = errors.golden.share(next_use(entries, champion.digest, golden))
    return [
        _planned(gate, entries, level=gate.alpha * share, has=clusters)
        for gate in gates
        if isinstance(gate, ComparingGate)
    ]


def _planned(gate: ComparingGate, entries: Sequence[Entry], *, level: float, has: int) -> Planned:
    pilot, needed = find_pilot(entries, gate.metric), None
    if pilot is not None:
        needed = gate.needed(standard_error=pilot.standard_error, clusters=pilot.clusters, alpha=level)
    source = pilot.source if pilot else "none yet: the first comparison is its own"
    return Planned(gate=gate.name, effect=gate.effect, level=level, has=has, needed=needed, pilot=source)
