"""What a golden set may still err by: each use of it against a champion spends from a budget.

A golden set that is asked again and again will sooner or later let somebody through by luck. So the error rate of a
gate is what *all* uses of one golden set against one champion may err by together, and each use spends a part of it
ahead of its result: the power family of spending functions (Kim and DeMets, "Design and Analysis of Group Sequential
Tests Based on the Type I Error Spending Rate Function", Biometrika 74, 1987), at k of the ``uses`` declared. The parts
add up to the whole, so by the union bound the promise holds for any candidates, as long as what is learned from a
refusal is that it was one (Blum and Hardt, "The Ladder", ICML 2015, on what more than that costs).

Belongs here: the rule, and counting uses in the ledger. A golden set that is renewed keeps the uses of the one before
it in the proportion of rows that it kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from mlops_assets.evaluation.report import EvaluationReport
from mlops_assets.ledger.canonical import Digest
from mlops_assets.ledger.entry import Entry, Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenBudget:
    """How often a golden set may be used against one champion, and how the error rate is spent on that.

    After k uses, ``(k / uses) ** rho`` of it is spent: with 1 each use gets as much, below 1 the first gets most.
    """

    uses: int = 20
    rho: float = 0.5

    def faults(self) -> list[str]:
        """Return what is wrong with the declaration, one sentence each."""
        found = [] if self.uses >= 1 else [f"uses is {self.uses}, must be at least 1"]
        return found if 0 < self.rho <= 2 else [*found, f"rho is {self.rho}, must be above 0 and at most 2"]

    def share(self, use: int) -> float:
        """Return the share of the error rate for the ``use``-th use, counted from 1; 0 once all is spent.

        >>> GoldenBudget(uses=4, rho=1).share(3)
        0.25
        """
        if use > self.uses:
            return 0.0
        return float((use / self.uses) ** self.rho - ((use - 1) / self.uses) ** self.rho)


def use_of(entries: Sequence[Entry], report: EvaluationReport) -> int:
    """Return which use of its golden set against its champion ``report`` is, from 1; 0 without a champion.

    Judging a candidate again is no new use; what was judged after it does not count, so the answer stays what it was.
    """
    if report.champion is None:
        return 0
    found = _candidates(entries, report.champion, report.golden)
    if report.candidate not in found:
        return next_use(entries, report.champion, report.golden)
    return _inherited(entries, report.champion, report.golden) + found.index(report.candidate) + 1


def next_use(entries: Sequence[Entry], champion: Digest, golden: Digest) -> int:
    """Return which use of ``golden`` against ``champion`` the next candidate's would be, from 1."""
    return _inherited(entries, champion, golden) + len(_candidates(entries, champion, golden)) + 1


def _candidates(entries: Sequence[Entry], champion: Digest, golden: Digest) -> list[Digest]:
    """Return the candidates that were judged on a golden set against a champion, each once, in order."""
    judged = (entry.body for entry in entries if entry.kind is Kind.JUDGED)
    used = (b for b in judged if (b["champion"], b["evaluation"]["golden"]) == (champion, golden))
    return list(dict.fromkeys(body["candidate"] for body in used))


def _inherited(entries: Sequence[Entry], champion: Digest, golden: Digest) -> int:
    """Return the uses that a golden set takes over from the one it replaced."""
    pinned = next(
        (e.body for e in reversed(entries) if e.kind is Kind.GOLDEN_PINNED and e.body["golden"] == golden), None
    )
    if pinned is None or pinned["previous"] in {None, golden} or not pinned["kept_share"]:
        return 0
    earlier = [entry for entry in entries if not _pins(entry, golden)]
    before = len(_candidates(entries, champion, pinned["previous"])) + _inherited(earlier, champion, pinned["previous"])
    return ceil(round(before * float(pinned["kept_share"]), 6))


def _pins(entry: Entry, golden: Digest) -> bool:
    return entry.kind is Kind.GOLDEN_PINNED and entry.body["golden"] == golden
