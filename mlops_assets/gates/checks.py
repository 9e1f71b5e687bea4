"""Gates as blocking asset checks on the evaluation, and their judgement in the ledger.

Every gate judges the report that its own run produced. The judgement is one entry of the ledger, written before any
check is reported, so that what the UI shows is never ahead of what the ledger decided. Before anything is trained, a
check of the training set says whether the golden set can show what the gates will ask.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg

from mlops_assets.data.assets import Consumed, consumed
from mlops_assets.data.plot import inline_png
from mlops_assets.data.snapshot import SnapshotStore
from mlops_assets.errors import EvaluationError
from mlops_assets.evaluation.report import EvaluationReport
from mlops_assets.gates.error_control import ErrorControl
from mlops_assets.gates.gate import Gate, Judgement, Verdict
from mlops_assets.gates.panel import judge_all
from mlops_assets.gates.planning import Planned, plan
from mlops_assets.gates.plots import plot_judgement
from mlops_assets.gates.record import record_judgement, record_policy
from mlops_assets.ledger.canonical import Digest
from mlops_assets.ledger.entry import Entry, Ledger

ACTOR = "gates"


def build_gate_checks(
    product: str,
    gates: Sequence[Gate],
    *,
    errors: ErrorControl | None = None,
    policy: Mapping[str, Any] | None = None,
    views: Mapping[str, Digest] | None = None,
) -> dg.AssetChecksDefinition:
    """Return one blocking check per gate on ``[product, evaluation]``; a check passes only if its gate is ``PASSED``.

    ``errors`` says what the gates' error rates may add up to, ``policy`` is the declaration of all that as JSON, and
    ``views`` are the digests of the product's feature views by name. Needs the resource ``ledger``, which gets an entry
    where the policy is another than it was, and one ``JUDGED`` entry per run, however often the step is tried.
    """
    control = errors or ErrorControl()
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
        named = None if policy is None else record_policy(ledger, product, policy)
        known = control.known(gates, report, entries=ledger.entries(product), views=views)
        panel = judge_all(gates, report, known)
        entry = record_judgement(ledger, product, report, panel, run_id=context.run.run_id, known=known, policy=named)
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


def build_power_check(
    product: str, gates: Sequence[Gate], *, cluster: str, errors: ErrorControl | None = None
) -> dg.AssetChecksDefinition:
    """Return the check ``[product, training_set]``: ``enough_golden_rows``, which speaks before anything is trained.

    It warns when a comparing gate will be in doubt whatever comes: the golden set has too few of ``cluster`` to show
    the effect it declares, or was used so often that no error rate is left. Needs ``ledger`` and ``snapshots``.
    """
    control, training_key = errors or ErrorControl(), dg.AssetKey([product, "training_set"])

    @dg.asset_check(
        asset=training_key,
        name="enough_golden_rows",
        description="The golden set can show what the comparing gates ask of it.",
    )
    def enough_golden_rows(
        context: dg.AssetCheckExecutionContext,
        ledger: dg.ResourceParam[Ledger],
        snapshots: dg.ResourceParam[SnapshotStore],
    ) -> dg.AssetCheckResult:
        found = consumed(context.op_execution_context, training_key)
        golden = str(getattr(found.metadata["golden"], "value", found.metadata["golden"]))
        clusters = snapshots.read(golden)[cluster].n_unique()
        plans = plan(gates, ledger.entries(product), golden=golden, clusters=clusters, errors=control)
        for planned in plans:
            context.log.info(f"{planned.gate}: needs {planned.needed or '?'} of {cluster}, has {planned.has}")
        return dg.AssetCheckResult(
            passed=all(planned.is_enough for planned in plans),
            severity=dg.AssetCheckSeverity.WARN,
            description=_power_said(plans),
            metadata={"clusters": clusters, "golden": golden, "plan": dg.MetadataValue.md(_power_table(plans))},
        )

    return enough_golden_rows


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


def _metadata(judgement: Judgement, report: EvaluationReport, entry: Entry) -> dict[str, Any]:
    facts: dict[str, Any] = {name: value for name, value in judgement.evidence.items() if value is not None}
    if (figure := plot_judgement(judgement)) is not None:
        facts["picture"] = dg.MetadataValue.md(inline_png(figure))
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


def _power_said(plans: Sequence[Planned]) -> str:
    short = [planned for planned in plans if not planned.is_enough]
    if not plans:
        return "there is no champion to compare with"
    if not short:
        return "large enough for every comparing gate"
    said = [
        f"{p.gate} needs {p.needed}, has {p.has}" if p.level > 0 else f"{p.gate} has no error rate left" for p in short
    ]
    return f"{'; '.join(said)}: widen or renew the golden set, or declare a larger effect"


def _power_table(plans: Sequence[Planned]) -> str:
    lines = ["| gate | effect | at level | needs | has | by |", "| --- | --- | --- | --- | --- | --- |"]
    lines += [f"| {p.gate} | {p.effect:g} | {p.level:.3g} | {p.needed or '?'} | {p.has} | {p.pilot} |" for p in plans]
    return "\n".join(lines)
