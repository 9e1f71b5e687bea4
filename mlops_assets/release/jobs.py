"""The jobs that release, step, roll back and approve."""

from typing import Any, Literal

import dagster as dg

from mlops_assets.errors import ReleaseRefused
from mlops_assets.ledger.entry import Kind, Ledger
from mlops_assets.ledger.state import fold


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
