"""The assets ``release`` (the decision, bound to digests) and ``deployment`` (traffic as it is now).

The deployment is where a rollout step and a rollback happen too: its config says which. Every action is recorded in the
ledger first, on the state it was decided on, and then reconciled.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

import dagster as dg

from mlops_assets.data.plot import inline_png
from mlops_assets.errors import LedgerConflict, ReleaseRefused
from mlops_assets.evaluation.report import EvaluationReport
from mlops_assets.gates.gate import Gate, Verdict
from mlops_assets.gates.panel import judge_all
from mlops_assets.ledger.canonical import Digest, digest_of
from mlops_assets.ledger.entry import Entry, Kind, Ledger
from mlops_assets.ledger.state import ProductState, fold
from mlops_assets.release.decide import decide_release, decide_step, desired_plan, release_body, rollback_body
from mlops_assets.release.live import LiveAnalysis, LiveEvidence, LiveVerdict
from mlops_assets.release.reconcile import reconcile
from mlops_assets.release.rollout import RolloutStrategy
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
    owners: Sequence[str] = (),
) -> dg.AssetsDefinition:
    """Return the asset ``[product, release]``: asks the gates again, decides, and records the release.

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
                context, lambda: _release(ledger, product, config.candidate, gates, strategy, approvals_needed)
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
    gates: Sequence[Gate],
    strategy: RolloutStrategy,
    approvals_needed: int,
) -> Entry:
    state = fold(ledger.entries(product))
    judged = max(state.judged.values(), key=lambda entry: entry.sequence, default=None)
    chosen = candidate or (judged.body["candidate"] if judged else None)
    if chosen is None or chosen not in state.judged:
        raise ReleaseRefused(f"{product}: no candidate {chosen or ''} was judged; run {product}_train first")
    report = EvaluationReport.from_json(state.judged[chosen].body["evaluation"])
    if report.candidate != chosen:
        raise ReleaseRefused(f"{product}: asked for {chosen}, but its evaluation is of {report.candidate}")
    verdict = judge_all(gates, report).verdict
    decision = decide_release(state, chosen, verdict_now=verdict, approvals_needed=approvals_needed)
    if not decision.release:
        raise ReleaseRefused(f"{product}: {chosen} is not released: {decision.reason}")
    body = release_body(state, chosen, strategy)
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
    state = fold(ledger.entries(product))
    found = live_verdict(state, product, analysis, evidence)
    if found is None or state.running is None:
        context.log.info(f"{product}: no rollout is under way")
        return {}
    context.log.info(f"{product}: {found.verdict.value}, {found.reason}")
    moved = decide_step(state.running, strategy, found.verdict)
    if found.verdict is not Verdict.INCONCLUSIVE:
        body = {
            "release": state.running.release,
            "verdict": found.verdict.value,
            "reason": found.reason,
            "evidence": found.to_json(),
            "rollout": moved.to_json(),
        }
        ledger.append(product, Kind.ROLLOUT_MOVED, body, actor="live-analysis", expected=state.last_sequence)
    return {
        "live_verdict": found.verdict.value,
        "live_reason": found.reason,
        "live_gain": found.gain,
        "confidence_sequence": dg.MetadataValue.md(inline_png(_sequence_plot(found, analysis))),
    }


def live_verdict(
    state: ProductState, product: str, analysis: LiveAnalysis, evidence: LiveEvidence
) -> LiveVerdict | None:
    """Return the verdict on the rollout under way, ``None`` when there is none or nothing to compare it with."""
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
        "traffic_over_time": dg.MetadataValue.md(inline_png(_traffic_plot(entries))),
    }


def _traffic_plot(entries: Sequence[Entry]) -> Any:
    """Draw the percent of each version after every entry."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.figure import Figure

    states: list[ProductState] = []
    for entry in entries:
        states.append(fold([entry], states[-1] if states else None))
    times: Any = [entry.at for entry in entries]
    figure = Figure(figsize=(6, 2.2))
    axes = figure.add_subplot()
    for digest in dict.fromkeys(digest for state in states for digest in state.weights):
        axes.step(times, [state.weights.get(digest, 0) for state in states], where="post", label=digest[7:15])
    axes.set_ylabel("% of traffic")
    axes.spines[["top", "right"]].set_visible(False)
    if states and states[-1].weights:
        axes.legend(fontsize=7, frameon=False)
    if times:
        locator: Any = AutoDateLocator()  # type: ignore[no-untyped-call]
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    return figure


def _sequence_plot(found: LiveVerdict, analysis: LiveAnalysis) -> Any:
    """Draw the confidence sequence of the mean gain over the units."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 2.5))
    axes = figure.add_subplot()
    if found.series:
        units, gain, low, high = zip(*found.series, strict=True)
        axes.fill_between(units, low, high, color="#4f46e5", alpha=0.15, linewidth=0)
        axes.plot(units, gain, color="#4f46e5")
    axes.axhline(0, color="#888", linewidth=0.8)
    axes.axhline(-analysis.margin, color="#dc2626", linewidth=0.8, linestyle="--")
    axes.set_xlabel("entities")
    axes.set_ylabel(f"gain in {analysis.metric}")
    axes.spines[["top", "right"]].set_visible(False)
    return figure
