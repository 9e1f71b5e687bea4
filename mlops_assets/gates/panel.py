"""All gates of a product, judged together.

A candidate is promoted only if every gate passes. That is an intersection-union test (Berger 1982, "Multiparameter
hypothesis testing and acceptance sampling", Technometrics 24): the chance to promote a candidate that deserves to be
stopped by some gate is at most that gate's own alpha, so no correction for the number of gates is needed. The price is
power: each gate adds a way for a good candidate to be held up.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlops_assets.evaluation.report import EvaluationReport
from mlops_assets.gates.gate import NOTHING, Gate, Judgement, Known, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """The verdict over all gates, and each gate's judgement by its name."""

    verdict: Verdict
    judgements: Mapping[str, Judgement]

    @property
    def objections(self) -> str:
        """What the gates that did not pass say, in one line."""
        against = {name: said for name, said in self.judgements.items() if said.verdict is not Verdict.PASSED}
        return "; ".join(f"{name}: {said.reason}" for name, said in against.items())

    def to_json(self) -> list[dict[str, Any]]:
        """Return the judgements as the ledger records them."""
        return [
            {"gate": name, "verdict": said.verdict.value, "reason": said.reason, "evidence": dict(said.evidence)}
            for name, said in self.judgements.items()
        ]


def judge_all(gates: Sequence[Gate], report: EvaluationReport, known: Known = NOTHING) -> Panel:
    """Judge the report by every gate: ``PASSED`` only if all pass, ``FAILED`` if any fails, else what is in doubt.

    No gate at all is ``INCONCLUSIVE``. What a gate raises is the verdict ``ERROR``: it blocks, says so, and is no
    failure of the model.
    """
    judgements = {gate.name: _judgement(gate, report, known) for gate in gates}
    return Panel(verdict=combine([said.verdict for said in judgements.values()]), judgements=judgements)


def _judgement(gate: Gate, report: EvaluationReport, known: Known) -> Judgement:
    try:
        return gate.judge(report, known)
    except Exception as error:  # a team's own gate may raise anything
        said = f"{type(error).__name__}: {error}"
        return Judgement(Verdict.ERROR, f"the gate itself broke: {said}", {"error": said})


def combine(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the verdict of several: the worst of them, and doubt where there are none."""
    for worst in (Verdict.FAILED, Verdict.ERROR):
        if worst in verdicts:
            return worst
    if not verdicts or Verdict.INCONCLUSIVE in verdicts:
        return Verdict.INCONCLUSIVE
    return Verdict.PASSED
