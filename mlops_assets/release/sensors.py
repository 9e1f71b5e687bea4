"""Sensors that release what may be released, step what is rolling out, and mend what is not as it should be."""

import dagster as dg

from mlops_assets.errors import ServiceUnavailable
from mlops_assets.gates.gate import Verdict
from mlops_assets.ledger.canonical import digest_of
from mlops_assets.ledger.entry import Ledger
from mlops_assets.ledger.state import ProductState, fold
from mlops_assets.release.assets import live_verdict
from mlops_assets.release.decide import desired_plan, releasable
from mlops_assets.release.live import LiveAnalysis, LiveEvidence
from mlops_assets.release.reconcile import is_served
from mlops_assets.release.target import ServingTarget

MENDING_LIMIT = 20


def build_approval_sensor(
    product: str, *, approvals_needed: int = 0, interval_seconds: int = 30
) -> dg.SensorDefinition:
    """Return the sensor ``<product>_approval``: it releases a candidate that passed and has its approvals.

    The run key is the judgement's digest, so one judgement launches one release.
    """

    @dg.sensor(
        name=f"{product}_approval",
        job_name=f"{product}_release",
        minimum_interval_seconds=interval_seconds,
        description=f"Releases candidates of {product} that passed and have {approvals_needed} approvals.",
    )
    def approval(ledger: dg.ResourceParam[Ledger]) -> dg.RunRequest | dg.SkipReason:
        judged = releasable(fold(ledger.entries(product)), approvals_needed=approvals_needed)
        if judged is None:
            return dg.SkipReason("no candidate may be released now")
        candidate = judged.body["candidate"]
        return dg.RunRequest(
            run_key=f"release:{judged.digest}",
            run_config={"ops": {f"{product}__release": {"config": {"candidate": candidate}}}},
            tags={"mlops/cause": "judgement", "mlops/candidate": candidate[7:19]},
        )

    return approval


def build_rollout_sensor(product: str, analysis: LiveAnalysis, *, interval_seconds: int = 30) -> dg.SensorDefinition:
    """Return the sensor ``<product>_rollout``: it launches one step when live traffic has a verdict.

    Without a rollout, or while it has no verdict, it compares what is served with the state, and launches a run to
    mend it: the same difference is mended at most ``MENDING_LIMIT`` times.
    """

    @dg.sensor(
        name=f"{product}_rollout",
        job_name=f"{product}_rollout",
        minimum_interval_seconds=interval_seconds,
        description=f"Steps the rollout of {product}, and heals traffic that is not as the ledger says.",
    )
    def rollout(
        context: dg.SensorEvaluationContext,
        ledger: dg.ResourceParam[Ledger],
        predictions: dg.ResourceParam[LiveEvidence],
        serving: dg.ResourceParam[ServingTarget],
    ) -> dg.RunRequest | dg.SkipReason:
        state = fold(ledger.entries(product))
        found = live_verdict(state, product, analysis, predictions)
        if found is not None and state.running is not None and found.verdict is not Verdict.INCONCLUSIVE:
            running = state.running
            return dg.RunRequest(
                run_key=f"step:{running.step_began.digest}",
                tags={"mlops/cause": "live", "mlops/verdict": found.verdict.value, "mlops/release": running.release},
            )
        mending = _mending(context, product, state, serving)
        if mending is not None:
            return mending
        return dg.SkipReason(found.reason if found else "no rollout is under way, and traffic is as it should be")

    return rollout


def _mending(
    context: dg.SensorEvaluationContext, product: str, state: ProductState, serving: ServingTarget
) -> dg.RunRequest | dg.SkipReason | None:
    """Return the request for a run that reconciles, if what is served is not what the state asks for."""
    if not state.weights:
        return None
    try:
        if is_served(state, product=product, target=serving):
            context.update_cursor("")
            return None
    except ServiceUnavailable as error:
        return dg.SkipReason(str(error))
    wanted = digest_of(desired_plan(state).to_json())
    plan, _, times = (context.cursor or "").partition("#")
    tries = int(times) + 1 if plan == wanted else 1
    if tries > MENDING_LIMIT:
        return dg.SkipReason(f"{product}: traffic was not mended by {MENDING_LIMIT} runs; look at the last one")
    context.update_cursor(f"{wanted}#{tries}")
    if tries == 1:
        return dg.SkipReason("traffic is not as it should be; a run that is under way may mend it")
    return dg.RunRequest(
        run_key=f"mend:{state.last_sequence}:{tries}:{wanted}",
        run_config={"ops": {f"{product}__deployment": {"config": {"action": "reconcile"}}}},
        tags={"mlops/cause": "mending"},
    )
