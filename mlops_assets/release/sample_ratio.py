"""Is traffic shared as the plan says? If not, the arms differ by more than the model, and nothing can be concluded.

Every entity counts once, at its first answer in the rollout, under the share of that moment: routing is sticky, so its
later answers say nothing new. The counts of each share are compared with it by a Beta-binomial mixture (Lindon and
Malek, "Anytime-Valid Inference for Multinomial Count Data", NeurIPS 2022), whose capital exceeds 1/alpha with
probability alpha at most, however often one looks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import log, log1p
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.special import betaln

from mlops_assets.ledger.canonical import Digest
from mlops_assets.ledger.entry import Entry, Kind
from mlops_assets.release.betting import Floats

CONCENTRATION = 100.0
"""How near to the planned share the alternatives lie: as if a hundred entities had been seen."""

Counts = npt.NDArray[np.int_]
Share = tuple[datetime, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRatio:
    """How many entities were first answered by the candidate, how many should have been, and the bet against that."""

    entities: int
    candidate: int
    expected: float
    log_e: float

    def is_mismatch(self, alpha: float) -> bool:
        """Return whether the plan is disproved at ``alpha``."""
        return self.log_e >= log(1 / alpha)

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON value."""
        return {name: getattr(self, name) for name in ("entities", "candidate", "expected", "log_e")}


def shares_of(entries: Sequence[Entry], release: str) -> list[Share]:
    """Return since when which share of traffic was the candidate's, from the ledger's entries of one release."""
    kinds = {Kind.RELEASED, Kind.ROLLOUT_MOVED}
    moved = [entry for entry in entries if entry.kind in kinds and entry.body["release"] == release]
    return [(entry.at, entry.body["rollout"]["percent"] / 100) for entry in moved]


def sample_ratio(
    answers: pl.DataFrame, shares: Sequence[Share], *, candidate: Digest, champion: Digest, settle: timedelta
) -> SampleRatio:
    """Return how the entities of ``answers`` (at, version, entity) were shared, against ``shares`` in force.

    ``answers`` are in the order of the log; ``log_e`` is the highest after any of them, so that a mismatch that was
    found stays found. Answers within ``settle`` after a change are left out: the router follows the ledger a moment
    later.
    """
    first = answers.filter(pl.col("version").is_in([candidate, champion])).unique(
        "entity", keep="first", maintain_order=True
    )
    entities, ours, expected, before, highest = 0, 0, 0.0, 0.0, 0.0
    ends = [at for at, _ in shares[1:]]
    for (begin, share), end in zip(shares, [*ends, None], strict=True):
        during = first.filter(pl.col("at") >= begin + settle)
        during = during if end is None else during.filter(pl.col("at") < end)
        if not 0 < share < 1 or not during.height:
            continue
        hits = (during["version"] == candidate).cum_sum().to_numpy()
        evidence = before + log_mixture(hits, np.arange(1, len(hits) + 1), share)
        before, highest = float(evidence[-1]), max(highest, float(evidence.max()))
        entities, ours, expected = entities + len(hits), ours + int(hits[-1]), expected + share * len(hits)
    return SampleRatio(entities=entities, candidate=ours, expected=round(expected, 6), log_e=round(highest, 6))


def log_mixture(ours: Counts, total: Counts, share: float, strength: float = CONCENTRATION) -> Floats:
    """Return the log capital of betting that ``ours`` of ``total`` do not come from ``share``.

    ``strength`` is how many entities the alternatives weigh.
    """
    a, b = strength * share, strength * (1 - share)
    likelihood = ours * log(share) + (total - ours) * log1p(-share)
    return np.asarray(betaln(a + ours, b + total - ours) - betaln(a, b) - likelihood)
