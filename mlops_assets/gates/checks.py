"""Gates as blocking asset checks on the evaluation, and their judgement in the ledger.

Every gate judges the report that its own run produced. The judgement is one entry of the ledger, written before any
check is reported, so that what the UI shows is never ahead of what the ledger decided.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg

from mlops_assets.data.assets import Consumed, consumed
from mlops_assets.errors import EvaluationError
from mlops_assets.evaluation.report import EvaluationReport
from mlops_assets.gates.gate import Gate, Judgement, Verdict
from mlops_assets.gates.panel import Panel, judge_all
from mlops_assets.ledger.entry import Entry, Kind, Ledger

ACTOR = "gates"


def build_gate_checks(product: str, gates: Sequence[Gate]) -> dg.AssetChecksDefinition:
    """Return one blocking check per gate on ``[product, evaluation]``; a check passes only if its gate is ``PASSED``.

    Needs the resource ``ledger``, which gets one ``JUDGED`` entry per run, however often the step is tried. A gate that
    raises fails the step, and with it the run.
    """
    evaluation = dg.AssetKey([product, "evaluation"])
    specs = [
        dg.AssetCheckSpec(
            name=gate.name, asset=evaluation, blocking=True, description=_first_line(gate), metadata=_declared(gate)
        )
        for gate in gates
    ]

    @dg.multi_asset_check(name=f"{product}_gates", specs=specs)
    def gate_checks(
        context: dg.AssetCheckExecutionContext, ledger: dg.ResourceParam[Ledger]
    ) -> Iterator[dg.AssetCheckResult]:
        found = consumed(context.op_execution_context, evaluation)
        report = report_of(product, found)
        panel = judge_all(gates, report)
        entry = record_judgement(ledger, product, report, panel, run_id=context.run.run_id)
        context.log.info(f"{product}: {panel.verdict.value} in entry {entry.sequence}")
        for name, judgement in panel.judgements.items():
            yield dg.AssetCheckResult(
                check_name=name,
                asset_key=evaluation,
                passed=judgement.verdict is Verdict.PASSED,
                severity=dg.AssetCheckSeverity.ERROR,
                description=judgement.reason,
                metadata=_metadata(judgement, report, entry),
            )

    return gate_checks


def report_of(product: str, found: Consumed) -> EvaluationReport:
    """Return the report that the evaluation asset left in its metadata; ``EvaluationError`` if digests disagree."""
    value = found.metadata["report"]
    report = EvaluationReport.from_json(getattr(value, "value", value))
    if report.digest != found.digest or report.product != product:
        raise EvaluationError(
            f"{product}: the report in the evaluation of run {found.run_id} has the digest {report.digest} and is of "
            f"{report.product}, but {found.digest} was announced: evaluate again"
        )
    return report


def record_judgement(ledger: Ledger, product: str, report: EvaluationReport, panel: Panel, *, run_id: str) -> Entry:
    """Append the panel's judgement and return its entry, or the entry this run already left for the same report."""
    for entry in reversed(ledger.entries(product)):
        if entry.kind is Kind.JUDGED and (entry.body["report"], entry.body.get("run_id")) == (report.digest, run_id):
            return entry
    body = {
        "candidate": report.candidate,
        "champion": report.champion,
        "report": report.digest,
        "verdict": panel.verdict.value,
        "judgements": panel.to_json(),
        "evaluation": report.to_json(),
        "run_id": run_id,
    }
    return ledger.append(product, Kind.JUDGED, body, actor=ACTOR)


def _metadata(judgement: Judgement, report: EvaluationReport, entry: Entry) -> dict[str, Any]:
    facts: dict[str, Any] = {name: value for name, value in judgement.evidence.items() if value is not None}
    return {
        **facts,
        "verdict": judgement.verdict.value,
        "reason": judgement.reason,
        "candidate": report.candidate,
        "report": report.digest,
        "ledger_entry": entry.sequence,
    }


def _declared(gate: Gate) -> dict[str, Any]:
    return {"metrics": sorted(gate.metrics), "gate": type(gate).__name__, "declaration": repr(gate)}


def _first_line(gate: Gate) -> str:
    return (type(gate).__doc__ or gate.name).strip().splitlines()[0]
