"""A gate that a difference between what is served and what batch computes keeps shut."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mlops_assets.evaluation.report import EvaluationReport
from mlops_assets.features.parity import ParityReport, read_parity
from mlops_assets.gates.gate import NOTHING, Judgement, Known, Verdict
from mlops_assets.ledger.canonical import Digest
from mlops_assets.ledger.entry import Entry, Kind

_NAME = re.compile(r"[A-Za-z0-9_]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityHolds:
    """Pass a candidate while each view's latest parity report is clean: a model is right only on what it learned from.

    ``views`` are names of the product's views, all of them if none is named. ``FAILED`` when the latest report of a
    view tells of a difference, by view and feature. ``INCONCLUSIVE`` when a view has no report of its present
    definition, or one in which nothing was replayed; so too before the first release, unless ``passes_first``: then a
    candidate without a champion before it passes without evidence, because nothing can have been served.
    """

    name: str = "parity_holds"
    views: tuple[str, ...] = ()
    passes_first: bool = False

    @property
    def metrics(self) -> frozenset[str]:
        """None: it reads the ledger."""
        return frozenset()

    def faults(self) -> list[str]:
        """Return what is wrong with the declaration, one sentence each."""
        found = []
        if not _NAME.fullmatch(self.name):
            found.append(f"{self.name}: name must be letters, digits and underscores, because it names a check")
        views: object = self.views
        if not isinstance(views, tuple) or not all(isinstance(view, str) and view for view in views):
            found.append(f"{self.name}: views must be a tuple of names, found {views!r}")
        return found

    def judge(self, report: EvaluationReport, known: Known = NOTHING) -> Judgement:
        """Decide by the latest parity report of each view that the ledger holds."""
        names = self.views or tuple(known.views)
        found = {name: _latest(known.entries, name, known.views.get(name)) for name in names}
        evidence = {"views": {name: _evidence(measured) for name, measured in found.items()}}
        reports = {name: read_parity(measured.body["parity"]) for name, measured in found.items() if measured}
        broken = [found for found in reports.values() if not found.agrees]
        if broken:
            return Judgement(Verdict.FAILED, "; ".join(map(_differences, broken)), evidence)
        unproven = [name for name in names if name not in reports or not reports[name].is_evidence]
        if not names or unproven:
            return self._without_evidence(report, unproven, evidence)
        values = sum(feature.compared for found in reports.values() for feature in found.features)
        return Judgement(Verdict.PASSED, f"all {values} replayed values of {list(names)} are those of batch", evidence)

    def _without_evidence(self, report: EvaluationReport, views: list[str], evidence: Mapping[str, Any]) -> Judgement:
        if views and self.passes_first and report.champion is None:
            return Judgement(Verdict.PASSED, f"nothing of {views} was replayed; there is no champion yet", evidence)
        what = f"nothing that was served of {views} was replayed" if views else "no view is known"
        return Judgement(Verdict.INCONCLUSIVE, f"{what}; serve, then run {report.product}_monitor", evidence)


def _latest(entries: Iterable[Entry], view: str, definition: Digest | None) -> Entry | None:
    """Return the last measurement of the view, if it was of ``definition``: another one says nothing of this one."""
    measured = [entry for entry in entries if entry.kind is Kind.PARITY_MEASURED and entry.body["view"] == view]
    return measured[-1] if measured and measured[-1].body["definition"] == definition else None


def _evidence(measured: Entry | None) -> dict[str, Any] | None:
    if measured is None:
        return None
    found = read_parity(measured.body["parity"])
    facts = {"report": found.digest, "replayed": found.replayed, "differences": found.differences}
    return {**facts, "definition": measured.body["definition"], "ledger_entry": measured.sequence}


def _differences(found: ParityReport) -> str:
    features = ", ".join(f"{part.name!r} ({part.differences})" for part in found.features if part.differences)
    return f"{found.summary}; differing: {features}"
