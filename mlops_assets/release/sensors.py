"""Sensors that release what may be released, step what is rolling out, and mend what is not as it should be."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import takewhile

import dagster as dg

from mlops_assets.errors import ServiceUnavailable
from mlops_assets.gates.gate import Verdict
from mlops_assets.ledger.canonical import digest_of
from mlops_assets.ledger.entry import Ledger
from mlops_assets.ledger.state import ProductState, fold
from mlops_assets.release.assets import live_verdict
from mlops_assets.release.decide import desired_plan, releasable
from mlops_assets.release.live import LiveAnalysis, LiveEvidence
from mlops_assets.release.live_verdict import LiveVerdict
from mlops_assets.release.reconcile import is_served
from mlops_assets.release.target import ServingTarget

OCCASION_TAG = "mlops/occasion"
LONGEST_PAUSE = timedelta(hours=1)
LONGEST_RUN = timedelta(minutes=10)
"""An unfinished run older than this is taken for dead: a killed run never says that it ended."""

_FINISHED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
_UNFINISHED = [status for status in dg.DagsterRunStatus if status not in _FINISHED]

Clock = Callable[[], datetime]
Answer = dg.RunRequest | dg.SkipReason


def utc_now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


def build_approval_sensor(
    product: str, *, approvals_needed: int = 0, interval_seconds: int = 30, clock: Clock = utc_now
) -> dg.SensorDefinition:
    """Return the sensor ``<product>_approval``: it releases a candidate that passed and has its approvals.

    One judgement launches one release, and another only after the one before failed.
    """

    @dg.sensor(
        name=f"{product}_approval",
        job_name=f"{product}_release",
        minimum_interval_seconds=interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Releases candidates of {product} that passed and have {approvals_needed} approvals.",
    )
    def approval(context: dg.SensorEvaluationContext, ledger: dg.ResourceParam[Ledger]) -> Answer:
        try:
            judged = releasable(fold(ledger.entries(product)), approvals_needed=approvals_needed)
        except ServiceUnavailable as error:
            return dg.SkipReason(str(error))
        if judged is None:
            return dg.SkipReason("no candidate may be released now")
        candidate = judged.body["candidate"]
        request = dg.RunRequest(
            run_key=f"release:{candidate}:{judged.sequence}",
            run_config={"ops": {f"{product}__release": {"config": {"candidate": candidate}}}},
            tags={"mlops/cause": "judgement", "mlops/candidate": candidate[7:19]},
        )
        return _once(context, request, [f"{product}_release"], clock())

    return approval


def build_rollout_sensor(
    product: str, analysis: LiveAnalysis, *, interval_seconds: int = 30, clock: Clock = utc_now
) -> dg.SensorDefinition:
    """Return the sensor ``<product>_rollout``: it launches one step when live traffic has a verdict.

    Without a rollout, or while it has no verdict, it compares what is served with the state, and launches a run to
    mend it. A run that failed is tried again after a pause that doubles, up to an hour.
    """

    @dg.sensor(
        name=f"{product}_rollout",
        job_name=f"{product}_rollout",
        minimum_interval_seconds=interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Steps the rollout of {product}, and heals traffic that is not as the ledger says.",
    )
    def rollout(
        context: dg.SensorEvaluationContext,
        ledger: dg.ResourceParam[Ledger],
        predictions: dg.ResourceParam[LiveEvidence],
        serving: dg.ResourceParam[ServingTarget],
    ) -> Answer:
        try:
            entries = ledger.entries(product)
            state = fold(entries)
            found = live_verdict(state, product, analysis, predictions, entries=entries)
            request = _step(state, found) if found else None
            request = request or _mending(product, state, serving)
        except ServiceUnavailable as error:
            return dg.SkipReason(str(error))
        if request is None:
            return dg.SkipReason(found.reason if found else "no rollout is under way, and traffic is as it should be")
        return _once(context, request, [f"{product}_{job}" for job in ("rollout", "release", "rollback")], clock())

    return rollout


def _step(state: ProductState, found: LiveVerdict) -> dg.RunRequest | None:
    running = state.running
    if running is None or (found.verdict is Verdict.INCONCLUSIVE and not found.gave_up):
        return None
    return dg.RunRequest(
        run_key=f"{running.release}:{running.step}:{found.verdict.value}",
        tags={"mlops/cause": "live", "mlops/verdict": found.verdict.value, "mlops/release": running.release},
    )


def _mending(product: str, state: ProductState, serving: ServingTarget) -> dg.RunRequest | None:
    """Return the request for a run that reconciles, if what is served is not what the state asks for."""
    if not state.weights or is_served(state, product=product, target=serving):
        return None
    wanted = digest_of(desired_plan(state).to_json())
    return dg.RunRequest(
        run_key=f"mend:{state.last_sequence}:{wanted[7:19]}",
        run_config={"ops": {f"{product}__deployment": {"config": {"action": "reconcile"}}}},
        tags={"mlops/cause": "mending"},
    )


def _once(context: dg.SensorEvaluationContext, request: dg.RunRequest, jobs: Sequence[str], now: datetime) -> Answer:
    """Return ``request``, numbered among the runs for the same occasion, or why it has to wait.

    It waits for unfinished runs of ``jobs``, and after runs that failed for it. A tick that is replayed before its run
    is known gives the same key again, which Dagster launches once.
    """
    occasion = str(request.run_key)
    for job in jobs:
        unfinished = context.instance.get_run_records(dg.RunsFilter(job_name=job, statuses=_UNFINISHED))
        alive = [record for record in unfinished if now - record.create_timestamp < LONGEST_RUN]
        if alive:
            return dg.SkipReason(f"waiting for run {alive[0].dagster_run.run_id} of {job}")
    filters = dg.RunsFilter(job_name=jobs[0], tags={OCCASION_TAG: occasion})
    records = context.instance.get_run_records(filters)
    failures = len(list(takewhile(_failed, records)))
    pause = min(timedelta(seconds=15 * 2 ** min(failures, 10)), LONGEST_PAUSE)
    if failures and now - _ended(records[0]) < pause:
        run_id = records[0].dagster_run.run_id
        return dg.SkipReason(f"{occasion}: run {run_id} failed, {failures} in a row; the next comes {pause} after it")
    key = occasion if not records else f"{occasion}#{len(records)}"
    return dg.RunRequest(
        run_key=key, run_config=dict(request.run_config), tags={**request.tags, OCCASION_TAG: occasion}
    )


def _failed(record: dg.RunRecord) -> bool:
    return record.dagster_run.status is not dg.DagsterRunStatus.SUCCESS


def _ended(record: dg.RunRecord) -> datetime:
    return datetime.fromtimestamp(record.end_time, UTC) if record.end_time else record.create_timestamp
