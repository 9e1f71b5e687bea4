"""The jobs that release, step, roll back, approve and judge again."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import dagster as dg

from mlops_assets.data.plot import inline_png
from mlops_assets.errors import EvaluationError, ReleaseRefused
from mlops_assets.ledger.entry import Kind, Ledger
from mlops_assets.ledger.state import fold
from mlops_assets.release.plots import plot_outcomes
from mlops_assets.release.policy import Policy
from mlops_assets.release.replay import Replayed, replay_judgements
from mlops_assets.release.simulate import Outcome, simulate, usual_scenarios, world_of


def _deployment_config(product: str, action: str) -> dict[str, object]:
    return {"ops": {f"{product}__deployment": {"config": {"action": action}}}}


def build_release_jobs(product: str) -> list[Any]:
    """Return the jobs ``<product>_release``, ``_rollout`` (one step), ``_rollback`` and ``_approve``."""
    release, deployment = dg.AssetKey([product, "release"]), dg.AssetKey([product, "deployment"])
    return [
        dg.define_asset_job(
            f"{product}_release",
            selection=dg.AssetSelection.assets(release, deployment),
            description="Ask the gates again, record the release, begin the rollout.",
        ),
        dg.define_asset_job(
            f"{product}_rollout",
            selection=dg.AssetSelection.assets(deployment),
            config=_deployment_config(product, "step"),
            description="Judge live traffic, take one step of the rollout, make traffic and aliases equal the state",
        ),
        dg.define_asset_job(
            f"{product}_rollback",
            selection=dg.AssetSelection.assets(deployment),
            config=_deployment_config(product, "rollback"),
            description="Return to the champion, or to the one before it: traffic, aliases and features together.",
        ),
        build_approve_job(product),
    ]


class ApprovalConfig(dg.Config):
    """Who says what of which candidate, and why."""

    candidate: str
    by: str
    why: str
    decision: Literal["approve", "reject"] = "approve"


def build_approve_job(product: str) -> dg.JobDefinition:
    """Return the job ``<product>_approve``, which records a person's approval or rejection of a judged candidate."""

    @dg.op(name=f"{product}_decide", description="Record the decision of a person.")
    def decide(context: dg.OpExecutionContext, config: ApprovalConfig, ledger: dg.ResourceParam[Ledger]) -> None:
        state = fold(ledger.entries(product))
        if config.candidate not in state.judged:
            known = ", ".join(state.judged) or "none"
            raise ReleaseRefused(f"{product}: {config.candidate} was never judged; judged candidates: {known}")
        kind = Kind.APPROVED if config.decision == "approve" else Kind.REJECTED
        body = {"candidate": config.candidate, "by": config.by, "why": config.why}
        entry = ledger.append(product, kind, body, actor=config.by, expected=state.last_sequence)
        context.log.info(f"{kind.value} in entry {entry.sequence}")

    @dg.job(name=f"{product}_approve", description="Approve or reject a judged candidate, with a name and a reason.")
    def approve() -> None:
        decide()

    return approve


def build_replay_job(product: str) -> dg.JobDefinition:
    """Return the job: from the ledger alone, every judgement is made again and compared with what was recorded.

    What came of it is an observation of ``[product, evaluation]``. Raises ``EvaluationError`` naming what differs, and
    ``LedgerCorrupt`` when the chain itself is broken.
    """

    @dg.op(name=f"{product}_judge_again", description="Judge again, from the ledger alone, all that was judged.")
    def judge_again(context: dg.OpExecutionContext, ledger: dg.ResourceParam[Ledger]) -> None:
        ledger.verify()
        found = replay_judgements(ledger.entries(product))
        different = [each for each in found if each.differences]
        context.log_event(
            dg.AssetObservation(
                [product, "evaluation"],
                metadata={
                    "judgements": len(found),
                    "differing": len(different),
                    "replayed": dg.MetadataValue.md(_table(found)),
                },
            )
        )
        if different:
            said = "; ".join(f"entry {each.entry.sequence}: {', '.join(each.differences)}" for each in different)
            raise EvaluationError(f"{product}: {len(different)} of {len(found)} judgements came out another: {said}")
        context.log.info(f"{product}: all {len(found)} judgements came out the same")

    @dg.job(name=f"{product}_replay", description="Judge again, from the ledger alone, all that was judged.")
    def replay() -> None:
        judge_again()

    return replay


class SimulationConfig(dg.Config):
    """How much is simulated. ``clusters`` is the size of the golden set; the ledger's last one if none is given."""

    releases: int = 500
    clusters: int | None = None
    units: int = 400


def build_simulate_policy_job(product: str, policy: Policy) -> dg.JobDefinition:
    """Return the job ``<product>_simulate_policy``: what the declared policy does to candidates of known quality.

    Spreads are those that the ledger tells of. The table and the picture are an observation of ``[product, release]``.
    """

    @dg.op(name=f"{product}_try_policy", description="Put candidates of known quality before the policy, many times.")
    def try_policy(context: dg.OpExecutionContext, config: SimulationConfig, ledger: dg.ResourceParam[Ledger]) -> None:
        world = world_of(ledger.entries(product), policy, units=config.units)
        if config.clusters is not None:
            world = replace(world, clusters=config.clusters)
        found = []
        for scenario in usual_scenarios(policy):
            outcome = simulate(policy, world, scenario, releases=config.releases)
            context.log.info(f"{outcome.scenario}: {outcome.promoted:.1%} promoted of {outcome.releases}")
            found.append(outcome)
        context.log_event(
            dg.AssetObservation(
                [product, "release"],
                metadata={
                    "policy": policy.digest,
                    "golden_clusters": world.clusters,
                    "spreads": dg.MetadataValue.json({**world.spreads, "live": world.live_spread}),
                    "simulated": dg.MetadataValue.md(_outcomes_table(found)),
                    "outcomes": dg.MetadataValue.md(inline_png(plot_outcomes(found))),
                },
            )
        )

    @dg.job(
        name=f"{product}_simulate_policy",
        description="What gates, live analysis and strategy do to candidates of known quality.",
    )
    def simulate_policy() -> None:
        try_policy()

    return simulate_policy


def _outcomes_table(found: Sequence[Outcome]) -> str:
    lines = [
        "| candidates | pass the gates | promoted | rolled back | undecided | entities to decide | requests exposed |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for o in found:
        shares = " | ".join(f"{share:.1%}" for share in (o.passed_gates, o.promoted, o.rolled_back, o.undecided))
        lines.append(f"| {o.scenario} | {shares} | {o.units_to_decide:.0f} | {o.exposed_requests:.0f} |")
    return "\n".join(lines)


def _table(found: Sequence[Replayed]) -> str:
    lines = ["| entry | what | recorded | again | differences |", "| --- | --- | --- | --- | --- |"]
    for each in found:
        body = each.entry.body
        said = "; ".join(each.differences) or "none"
        lines.append(
            f"| {each.entry.sequence} | {each.entry.kind.value} | {body['verdict']} | {each.verdict} | {said} |"
        )
    return "\n".join(lines)
