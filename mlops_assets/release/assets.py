"""The assets ``release`` (the decision, bound to digests) and ``deployment`` (traffic as it is now).

The deployment is where a rollout step and a rollback happen too: its config says which. Every action is recorded in the
ledger first, on the state it was decided on, and then reconciled.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar

import dagster as dg

from mlops_assets.data.plot import inline_png
from mlops_assets.errors import LedgerConflict, ReleaseRefused
from mlops_assets.evaluation.report import EvaluationReport
from mlops_assets.gates.approved import Approved
from mlops_assets.gates.error_control import ErrorControl
from mlops_assets.gates.gate import Gate, Verdict
from mlops_assets.gates.panel import judge_all
from mlops_assets.ledger.canonical import Digest, digest_of
from mlops_assets.ledger.declared import declared_json
from mlops_assets.ledger.entry import Entry, Kind, Ledger
from mlops_assets.ledger.state import ProductState, fold
from mlops_assets.release.decide import decide_release, decide_step, desired_plan, release_body, rollback_body
from mlops_assets.release.live import LiveAnalysis, LiveEvidence
from mlops_assets.release.live_verdict import LiveVerdict
from mlops_assets.release.plots import plot_latency, plot_segments, plot_sequence, plot_traffic
from mlops_assets.release.reconcile import reconcile
from mlops_assets.release.rollout import RolloutStrategy
from mlops_assets.release.sample_ratio import shares_of
from mlops_assets.release.target import ServingTarget
from mlops_assets.training.registry import ModelRegistry

ACTOR = "release-policy"
T = TypeVar("T")


class ReleaseConfig(dg.Config):
    """Which candidate to release; by default the one that was judged last."""

    candidate: str | None = None


class DeploymentConfig(dg.Config):
    """What to do before traffic is made equal to the state. A rollback needs ``by`` and ``why``, for the ledger."""

    action: Literal["reconcile", "step", "rollback"] = "reconcile"
    by: str = ""
    why: str = ""


def build_release_asset(
    product: str,
    gates: Sequence[Gate],
    strategy: RolloutStrategy,
    *,
    approvals_needed: int = 0,
    errors: ErrorControl | None = None,
    views: Mapping[str, Digest] | None = None,
    owners: Sequence[str] = (),
) -> dg.AssetsDefinition:
    """Return the asset ``[product, release]``: asks the gates again, decides, and records the release.

    The gates see what became known since they judged; ``views`` are the product's, digests by name. Where people must
    approve, that is one more gate.
    ``ReleaseRefused`` says why not. Two releases at once: one is recorded, the other decides anew and is refused.
    """

    @dg.asset(
        key=[product, "release"],
        group_name=product,
        deps=[dg.AssetKey([product, "model_card"])],
        description=f"The decision to release a candidate by {strategy.name}, bound to its digest.",
        tags={"stage": "release"},
        kinds={"ledger"},
        owners=list(owners),
    )
    def release(
        context: dg.AssetExecutionContext, config: ReleaseConfig, ledger: dg.ResourceParam[Ledger]
    ) -> dg.MaterializeResult[Any]:
        try:
            entry = _decided_anew(
                context,
                lambda: _release(
                    ledger,
                    product,
                    config.candidate,
                    gates=[*gates, *([Approved(people=approvals_needed)] if approvals_needed else [])],
                    strategy=strategy,
                    approvals_needed=approvals_needed,
                    errors=errors or ErrorControl(),
                    views=views or {},
                ),
            )
        except LedgerConflict as conflict:
            raise ReleaseRefused(f"{product}: not released, other decisions came first twice: {conflict}") from conflict
        body = entry.body
        return dg.MaterializeResult(
            data_version=dg.DataVersion(entry.digest),
            metadata={
                "digest": entry.digest,
                "inputs": dg.MetadataValue.json({"candidate": body["candidate"], "judgement": body["judged"]}),
                "candidate": body["candidate"],
                "version": body["version"],
                "strategy": strategy.name,
                "ledger_entry": entry.sequence,
            },
        )

    return release


def _release(
    ledger: Ledger,
    product: str,
    candidate: Digest | None,
    *,
    gates: Sequence[Gate],
    strategy: RolloutStrategy,
    approvals_needed: int,
    errors: ErrorControl,
    views: Mapping[str, Digest],
) -> Entry:
    entries = ledger.entries(product)
    state = fold(entries)
    judged = max(state.judged.values(), key=lambda entry: entry.sequence, default=None)
    chosen = candidate or (judged.body["candidate"] if judged else None)
    if chosen is None or chosen not in state.judged:
        raise ReleaseRefused(f"{product}: no candidate {chosen or ''} was judged; run {product}_train first")
    report = EvaluationReport.from_json(state.judged[chosen].body["evaluation"])
    if report.candidate != chosen:
        raise ReleaseRefused(f"{product}: asked for {chosen}, but its evaluation is of {report.candidate}")
    panel = judge_all(gates, report, errors.known(gates, report, entries=entries, views=views))
    decision = decide_release(state, chosen, verdict_now=panel.verdict, approvals_needed=approvals_needed)
    if not decision.release:
        said = f" ({panel.objections})" if panel.objections else ""
        raise ReleaseRefused(f"{product}: {chosen} is not released: {decision.reason}{said}")
    body = release_body(state, chosen, strategy) | {"judgements": panel.to_json()}
    return ledger.append(product, Kind.RELEASED, body, actor=ACTOR, expected=state.last_sequence)


def build_deployment_asset(
    product: str, strategy: RolloutStrategy, analysis: LiveAnalysis, *, owners: Sequence[str] = ()
) -> dg.AssetsDefinition:
    """Return the asset ``[product, deployment]``: takes a step or rolls back if told to, then reconciles."""

    @dg.asset(
        key=[product, "deployment"],
        group_name=product,
        deps=[dg.AssetKey([product, "release"])],
        description="Traffic as it is now: percent by version, aliases, and the events behind serving features.",
        tags={"stage": "release"},
        kinds={"ledger", "mlflow"},
        owners=list(owners),
    )
    def deployment(
        context: dg.AssetExecutionContext,
        config: DeploymentConfig,
        ledger: dg.ResourceParam[Ledger],
        registry: dg.ResourceParam[ModelRegistry],
        serving: dg.ResourceParam[ServingTarget],
        predictions: dg.ResourceParam[LiveEvidence],
    ) -> dg.MaterializeResult[Any]:
        facts: dict[str, Any] = {}
        if config.action == "step":
            facts = _decided_anew(context, lambda: _step(context, ledger, product, strategy, analysis, predictions))
        elif config.action == "rollback":
            _decided_anew(context, lambda: _roll_back(ledger, product, by=config.by, why=config.why))
        elif config.by or config.why:
            raise ReleaseRefused(f"{product}: by and why are of a rollback; set action: rollback, not {config.action}")
        entries = ledger.entries(product)
        state = fold(entries)
        changes = reconcile(state, product=product, registry=registry, target=serving).changes
        for change in changes:
            context.log.info(change)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(digest_of(desired_plan(state).to_json())),
            metadata={**_deployment_facts(state, changes, entries), **facts},
        )

    return deployment


def _decided_anew(context: dg.AssetExecutionContext, decide: Callable[[], T]) -> T:
    """Return what ``decide`` does; when another decision came first, it reads the state again, once."""
    try:
        return decide()
    except LedgerConflict as conflict:
        context.log.warning(f"{conflict}; deciding anew")
        return decide()


def _roll_back(ledger: Ledger, product: str, *, by: str, why: str) -> Entry:
    state = fold(ledger.entries(product))
    body = rollback_body(state, by=by, why=why)
    return ledger.append(product, Kind.ROLLED_BACK, body, actor=by, expected=state.last_sequence)


def _step(
    context: dg.AssetExecutionContext,
    ledger: Ledger,
    product: str,
    strategy: RolloutStrategy,
    analysis: LiveAnalysis,
    evidence: LiveEvidence,
) -> dict[str, Any]:
    """Judge the running rollout and record its next step; nothing is recorded when it stays where it is."""
    entries = ledger.entries(product)
    state = fold(entries)
    found = live_verdict(state, product, analysis, evidence, entries=entries)
    if found is None or state.running is None:
        context.log.info(f"{product}: no rollout is under way")
        return {}
    context.log.info(f"{product}: {found.verdict.value}, {found.reason}")
    moved = decide_step(state.running, strategy, found.verdict, gave_up=found.gave_up)
    if found.verdict is not Verdict.INCONCLUSIVE or found.gave_up:
        body = {
            "release": state.running.release,
            "verdict": found.verdict.value,
            "reason": found.reason,
            "evidence": found.to_json(),
            "analysis": declared_json(analysis),
            "rollout": moved.to_json(),
        }
        ledger.append(product, Kind.ROLLOUT_MOVED, body, actor="live-analysis", expected=state.last_sequence)
    return _live_facts(found, analysis)


def _live_facts(found: LiveVerdict, analysis: LiveAnalysis) -> dict[str, Any]:
    """Return what a look found, as metadata; what was not declared, or not served yet, is left out."""
    facts: dict[str, Any] = {
        "live_verdict": found.verdict.value,
        "live_reason": found.reason,
        "live_gain": found.gain,
        "confidence_sequence": dg.MetadataValue.md(inline_png(plot_sequence(found, analysis))),
    }
    if found.breaches:
        head = "| guardrail | breaches | requests | allowed | log evidence |\n| --- | --- | --- | --- | --- |\n"
        rows = (f"| {b.name} | {b.breaches} | {b.requests} | {b.allowed:.3g} | {b.log_e:.2f} |" for b in found.breaches)
        facts["guardrails"] = dg.MetadataValue.md(head + "\n".join(rows))
    if found.segments:
        facts["segments"] = dg.MetadataValue.md(inline_png(plot_segments(found, analysis)))
    if found.latency:
        facts["latency"] = dg.MetadataValue.md(inline_png(plot_latency(found)))
    if found.ratio:
        facts["sample_ratio"] = f"{found.ratio.candidate} of {found.ratio.entities}, expected {found.ratio.expected:g}"
    return facts


def live_verdict(
    state: ProductState, product: str, analysis: LiveAnalysis, evidence: LiveEvidence, *, entries: Sequence[Entry]
) -> LiveVerdict | None:
    """Return the verdict on the rollout under way, ``None`` when there is none or nothing to compare it with.

    ``entries`` are the product's: they say since when the candidate has had which share of traffic.
    """
    running = state.running
    if running is None or state.champion is None:
        return None
    return analysis.analyse(
        evidence,
        product,
        candidate=running.candidate.digest,
        champion=state.champion.digest,
        since=running.released.at,
        step_began=running.step_began.at,
        shares=shares_of(entries, running.release),
    )


def _deployment_facts(state: ProductState, changes: Sequence[str], entries: Sequence[Entry]) -> dict[str, Any]:
    plan = desired_plan(state)
    rows = "\n".join(f"| {digest[7:19]} | {percent} % |" for digest, percent in plan.weights.items())
    return {
        "digest": digest_of(plan.to_json()),
        "inputs": dg.MetadataValue.json({"ledger": entries[-1].digest if entries else None}),
        "weights": dg.MetadataValue.md(f"| version | traffic |\n| --- | --- |\n{rows}"),
        "phase": state.rollout.phase if state.rollout else "nothing released",
        "champion": state.champion.digest if state.champion else "none",
        "changes": dg.MetadataValue.md("\n".join(f"- {change}" for change in changes) or "none"),
        "traffic_over_time": dg.MetadataValue.md(inline_png(plot_traffic(entries))),
    }
