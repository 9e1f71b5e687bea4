"""Sensors that close the loop: full windows to monitoring, found drift to training, proposed recipes to training.

They transport; ``policy.py`` decides. Every run key is a window, an entry's digest or the sequence of a cause, so a
tick that is replayed launches nothing twice.
"""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import dagster as dg

from mlops_assets.errors import LedgerConflict
from mlops_assets.ledger.entry import Entry, Kind, Ledger
from mlops_assets.monitoring.windows import Window, answered, full_windows
from mlops_assets.retraining.policy import CAUSES, RetrainingDecision, RetrainingPolicy, reason_of, unanswered
from mlops_assets.serving.prediction import PredictionLog

ACTOR = "retraining-policy"
Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


def build_performance_sensor(
    product: str, *, window_size: int, limit: int = 4, interval_seconds: int = 30, job_name: str | None = None
) -> dg.SensorDefinition:
    """Return the sensor ``<product>_performance``: it launches ``<product>_monitor`` for each full window.

    The cursor is the number of the last window launched. One tick launches at most the newest ``limit``; when more have
    filled since, the older ones are passed over, because what matters is how it is now.
    """

    @dg.sensor(
        name=f"{product}_performance",
        job_name=job_name or f"{product}_monitor",
        minimum_interval_seconds=interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Looks at each {window_size} predictions of {product} for drift and performance.",
    )
    def performance(
        context: dg.SensorEvaluationContext, predictions: dg.ResourceParam[PredictionLog]
    ) -> dg.SensorResult | dg.SkipReason:
        launched = int(context.cursor or 0)
        count = answered(predictions, product)
        newest = full_windows(count, window_size)
        if newest <= launched:
            return dg.SkipReason(f"window {launched + 1} has {max(0, count - launched * window_size)} of {window_size}")
        numbers = range(max(launched, newest - limit) + 1, newest + 1)
        windows = [Window(product=product, number=number, size=window_size) for number in numbers]
        return dg.SensorResult(run_requests=[_look(window) for window in windows], cursor=str(numbers[-1]))

    return performance


def build_drift_sensor(
    product: str,
    policy: RetrainingPolicy,
    *,
    interval_seconds: int = 30,
    job_name: str | None = None,
    clock: Clock = utc_now,
) -> dg.SensorDefinition:
    """Return the sensor ``<product>_drift``: it asks the policy about drift and lost performance, and retrains.

    The request is recorded first and launched from the record, so a crash between the two launches at the next tick.
    Causes found together make one request. A cause that meets a cooldown waits for its end.
    """

    @dg.sensor(
        name=f"{product}_drift",
        job_name=job_name or f"{product}_train",
        minimum_interval_seconds=interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Retrains {product} when drift or lost performance was recorded and the policy agrees.",
    )
    def drift(context: dg.SensorEvaluationContext, ledger: dg.ResourceParam[Ledger]) -> dg.SensorResult | dg.SkipReason:
        decided, launched = _read_cursor(context.cursor)
        new = list(ledger.entries(product, after=min(decided, launched)))
        if not new:
            return dg.SkipReason(f"nothing in the ledger of {product} after entry {launched}")
        pending = [cause for cause in unanswered(new) if policy.allows(CAUSES[cause.kind])]
        refused: RetrainingDecision | None = None
        if pending:
            outcome = _request(ledger, policy, pending[-1], new[-1].sequence, clock())
            if isinstance(outcome, Entry):
                new.append(outcome)
            else:
                refused = outcome
        return _answer(new, pending, refused, launched)

    return drift


def build_proposals_sensor(
    product: str, *, limit: int = 4, interval_seconds: int = 30, job_name: str | None = None
) -> dg.SensorDefinition:
    """Return the sensor ``<product>_proposals``: it trains each recipe that was proposed in the ledger.

    The cursor is the sequence of the last entry looked at; one tick launches at most ``limit``.
    """

    @dg.sensor(
        name=f"{product}_proposals",
        job_name=job_name or f"{product}_train",
        minimum_interval_seconds=interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Trains a candidate of {product} from each proposed recipe.",
    )
    def proposals(
        context: dg.SensorEvaluationContext, ledger: dg.ResourceParam[Ledger]
    ) -> dg.SensorResult | dg.SkipReason:
        seen = int(context.cursor or 0)
        new = ledger.entries(product, after=seen)
        if not new:
            return dg.SkipReason(f"nothing in the ledger of {product} after entry {seen}")
        proposed = [entry for entry in new if entry.kind is Kind.RECIPE_PROPOSED]
        taken = proposed[:limit]
        cursor = taken[-1].sequence if len(proposed) > limit else new[-1].sequence
        if not taken:
            return dg.SensorResult(cursor=str(cursor), skip_reason=f"no recipe of {product} is proposed")
        return dg.SensorResult(run_requests=[_train_proposed(entry) for entry in taken], cursor=str(cursor))

    return proposals


def _look(window: Window) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=window.id,
        run_config={"ops": {f"{window.product}__predictions": {"config": {"window": window.id}}}},
        tags={"mlops/cause": "window", "mlops/window": window.id},
    )


def _train_proposed(entry: Entry) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=entry.digest,
        run_config={"ops": {f"{entry.product}__candidate": {"config": {"recipe": entry.body["recipe"]}}}},
        tags={"mlops/cause": "proposal"},
    )


def _retrain(entry: Entry) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=f"retrain:{entry.body['cause']}",
        tags={"retrain/reason": str(entry.body["reason"]), "mlops/cause": "drift"},
    )


def _request(
    ledger: Ledger, policy: RetrainingPolicy, cause: Entry, seen: int, now: datetime
) -> Entry | RetrainingDecision:
    """Record the request if the policy agrees; otherwise return why not."""
    history = ledger.entries(cause.product)
    requested = [entry.at for entry in history if entry.kind is Kind.RETRAINING_REQUESTED]
    decision = policy.decide(CAUSES[cause.kind], requested, now)
    if not decision.retrain:
        return decision
    body = {"reason": reason_of(cause), "cause": cause.sequence}
    try:
        return ledger.append(cause.product, Kind.RETRAINING_REQUESTED, body, actor=ACTOR, expected=seen)
    except LedgerConflict:
        return RetrainingDecision(retrain=False, reason="another decision came first; deciding anew at the next tick")


def _answer(
    new: Sequence[Entry], pending: Sequence[Entry], refused: RetrainingDecision | None, launched: int
) -> dg.SensorResult:
    """Launch the newest recorded request past ``launched``, and keep the cursor before a cause that waits.

    An older request that was never launched is covered by the newest: both would train on the same data.
    """
    last = new[-1].sequence
    decided = last if refused is None else pending[0].sequence - 1
    cursor = json.dumps({"decided": decided, "launched": last})
    caused = [entry for entry in new if entry.kind is Kind.RETRAINING_REQUESTED and entry.body.get("cause") is not None]
    runs = [_retrain(entry) for entry in caused[-1:] if entry.sequence > launched]
    if runs:
        return dg.SensorResult(run_requests=runs, cursor=cursor)
    return dg.SensorResult(cursor=cursor, skip_reason=refused.reason if refused else "nothing to retrain for")


def _read_cursor(cursor: str | None) -> tuple[int, int]:
    """Return the sequence up to which causes are decided, and up to which requests are launched."""
    if not cursor:
        return 0, 0
    value = json.loads(cursor)
    return int(value["decided"]), int(value["launched"])
