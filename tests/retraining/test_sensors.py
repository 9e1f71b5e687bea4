from datetime import UTC, datetime, timedelta

import dagster as dg
import polars as pl
import pytest

from mlops_assets.errors import LedgerConflict
from mlops_assets.ledger.entry import Kind
from mlops_assets.ledger.sql import SqlLedger
from mlops_assets.retraining.policy import RetrainingPolicy
from mlops_assets.retraining.sensors import build_drift_sensor, build_performance_sensor, build_proposals_sensor


class CountedLog:
    def __init__(self, count):
        self.rows = count

    def count(self, product):
        return self.rows

    def predictions(self, product):
        return pl.DataFrame({"id": range(self.rows)})


@pytest.fixture
def ledger():
    return SqlLedger("sqlite://")


def tick(sensor, cursor=None, **resources):
    """Evaluate once as the daemon would and return the run requests, the new cursor and the reason to skip."""
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_sensor_context(instance, cursor=cursor, resources=resources)
        found = sensor(context)
    if isinstance(found, dg.SkipReason):
        return [], cursor, found.skip_message
    reason = found.skip_reason.skip_message if found.skip_reason else None
    return list(found.run_requests or []), found.cursor, reason


def keys(runs):
    return [run.run_key for run in runs]


def find_drift(ledger, window="p:1", product="p"):
    body = {"window": window, "columns": ["age"], "report": "sha256:r"}
    return ledger.append(product, Kind.DRIFT_FOUND, body, actor="monitoring")


class At:
    """A clock that is set; it starts now, since the ledger stamps entries by the real one."""

    def __init__(self):
        self.now = datetime.now(UTC)

    def __call__(self):
        return self.now


class TestPerformance:
    sensor = staticmethod(build_performance_sensor("p", window_size=100, limit=3))

    def test_it_is_named_and_launches_the_monitor(self):
        assert (self.sensor.name, self.sensor.job_name) == ("p_performance", "p_monitor")

    @pytest.mark.parametrize(
        ("count", "windows"), [(0, []), (99, []), (100, ["p:1"]), (199, ["p:1"]), (200, ["p:1", "p:2"])]
    )
    def test_it_launches_each_full_window(self, count, windows):
        runs, _, _ = tick(self.sensor, predictions=CountedLog(count))
        assert keys(runs) == windows
        assert [run.run_config for run in runs] == [
            {"ops": {"p__predictions": {"config": {"window": window}}}} for window in windows
        ]

    def test_of_a_backlog_only_the_newest_windows_are_looked_at(self):
        runs, cursor, _ = tick(self.sensor, predictions=CountedLog(750))
        assert keys(runs) == ["p:5", "p:6", "p:7"]
        assert tick(self.sensor, cursor, predictions=CountedLog(750))[0] == []
        assert keys(tick(self.sensor, cursor, predictions=CountedLog(800))[0]) == ["p:8"]

    def test_a_replayed_tick_gives_the_same_run_keys(self):
        first, again = (tick(self.sensor, "1", predictions=CountedLog(300)) for _ in range(2))
        assert keys(first[0]) == keys(again[0]) == ["p:2", "p:3"]

    def test_it_says_how_full_the_window_is(self):
        assert tick(self.sensor, "2", predictions=CountedLog(230))[2] == "window 3 has 30 of 100"


class TestDrift:
    def sensor(self, clock=None, **policy):
        return build_drift_sensor("p", RetrainingPolicy(**policy), clock=clock or At())

    def test_it_is_named_and_launches_training(self):
        assert (self.sensor().name, self.sensor().job_name) == ("p_drift", "p_train")

    def test_drift_is_recorded_as_a_request_and_launched(self, ledger):
        cause = find_drift(ledger)
        (run,), _, _ = tick(self.sensor(), ledger=ledger)
        request = ledger.entries("p")[-1]
        assert request.kind is Kind.RETRAINING_REQUESTED
        assert request.body == {"reason": "drift in age (window p:1)", "cause": cause.sequence}
        assert run.run_key == f"retrain:{cause.sequence}"
        assert run.tags == {"retrain/reason": "drift in age (window p:1)", "mlops/cause": "drift"}

    def test_lost_performance_retrains_too(self, ledger):
        ledger.append("p", Kind.PERFORMANCE_FELL, {"window": "p:1", "metric": "auc", "report": "r"}, actor="m")
        (run,), _, _ = tick(self.sensor(), ledger=ledger)
        assert run.tags["retrain/reason"] == "auc fell (window p:1)"

    def test_nothing_new_is_skipped(self, ledger):
        assert tick(self.sensor(), ledger=ledger)[2] == "nothing in the ledger of p after entry 0"
        find_drift(ledger)
        sensor = self.sensor()
        _, cursor, _ = tick(sensor, ledger=ledger)
        assert tick(sensor, cursor, ledger=ledger) == ([], cursor, "nothing in the ledger of p after entry 2")

    def test_a_replayed_tick_requests_once_and_gives_the_same_run_key(self, ledger):
        find_drift(ledger)
        first, again = (tick(self.sensor(), None, ledger=ledger) for _ in range(2))
        assert keys(first[0]) == keys(again[0]) == ["retrain:1"]
        assert len(ledger.entries("p")) == 2

    def test_a_crash_between_the_record_and_the_launch_launches_at_the_next_tick(self, ledger):
        cause = find_drift(ledger)
        ledger.append("p", Kind.RETRAINING_REQUESTED, {"reason": "r", "cause": cause.sequence}, actor="retraining")
        runs, _, _ = tick(self.sensor(), None, ledger=ledger)
        assert keys(runs) == ["retrain:1"]

    def test_causes_found_together_make_one_request_for_the_newest(self, ledger):
        for number in range(1, 4):
            find_drift(ledger, f"p:{number}")
        runs, _, _ = tick(self.sensor(), ledger=ledger)
        assert keys(runs) == ["retrain:3"]

    def test_a_cause_within_the_cooldown_waits_for_its_end_and_the_reason_says_when_that_is(self, ledger):
        clock = At()
        sensor = self.sensor(clock, cooldown=timedelta(hours=1))
        find_drift(ledger)
        _, cursor, _ = tick(sensor, ledger=ledger)
        requested = ledger.entries("p")[-1].at
        find_drift(ledger, "p:2")
        for minutes in (1, 59):
            clock.now = requested + timedelta(minutes=minutes)
            runs, cursor, reason = tick(sensor, cursor, ledger=ledger)
            assert runs == []
            assert (requested + timedelta(hours=1)).isoformat(timespec="seconds") in reason
        clock.now = requested + timedelta(hours=1)
        runs, cursor, _ = tick(sensor, cursor, ledger=ledger)
        assert keys(runs) == ["retrain:3"]
        assert tick(sensor, cursor, ledger=ledger)[0] == []

    def test_a_cause_that_is_switched_off_neither_retrains_nor_waits(self, ledger):
        find_drift(ledger)
        sensor = self.sensor(on_drift=False)
        runs, cursor, _ = tick(sensor, ledger=ledger)
        assert runs == []
        assert tick(sensor, cursor, ledger=ledger)[2] == "nothing in the ledger of p after entry 1"
        assert len(ledger.entries("p")) == 1

    def test_a_cause_that_is_switched_off_does_not_hide_one_that_is_on(self, ledger):
        ledger.append("p", Kind.PERFORMANCE_FELL, {"window": "p:1", "metric": "auc", "report": "r"}, actor="m")
        find_drift(ledger)
        runs, _, _ = tick(self.sensor(on_drift=False), ledger=ledger)
        assert keys(runs) == ["retrain:1"]

    def test_a_decision_that_came_first_is_looked_at_anew(self, ledger):
        find_drift(ledger)

        class Overtaken(SqlLedger):
            def entries(self, product=None, *, after=0):
                return ledger.entries(product, after=after)

            def append(self, *args, **kwargs):
                raise LedgerConflict("p has a newer entry")

        sensor = self.sensor()
        runs, cursor, reason = tick(sensor, ledger=Overtaken("sqlite://"))
        assert runs == []
        assert "another decision came first" in reason
        assert keys(tick(sensor, cursor, ledger=ledger)[0]) == ["retrain:1"]

    def test_other_products_are_not_its_concern(self, ledger):
        find_drift(ledger, "q:1", product="q")
        assert tick(self.sensor(), ledger=ledger)[0] == []

    def test_a_request_by_hand_starts_a_cooldown_but_launches_nothing(self, ledger):
        ledger.append("p", Kind.RETRAINING_REQUESTED, {"reason": "by hand", "cause": None}, actor="someone")
        find_drift(ledger)
        runs, _, reason = tick(self.sensor(), ledger=ledger)
        assert runs == []
        assert "cooling down" in reason


class TestProposals:
    sensor = staticmethod(build_proposals_sensor("p", limit=2))

    def propose(self, ledger, recipe="ranker", product="p"):
        return ledger.append(product, Kind.RECIPE_PROPOSED, {"recipe": recipe, "why": "w"}, actor="someone")

    def test_it_is_named_and_launches_training(self):
        assert (self.sensor.name, self.sensor.job_name) == ("p_proposals", "p_train")

    def test_a_proposed_recipe_is_trained(self, ledger):
        entry = self.propose(ledger, "deeper")
        (run,), _, _ = tick(self.sensor, ledger=ledger)
        assert run.run_key == entry.digest
        assert run.run_config == {"ops": {"p__candidate": {"config": {"recipe": "deeper"}}}}
        assert run.tags == {"mlops/cause": "proposal"}

    def test_proposals_are_launched_in_order_and_bounded_a_tick(self, ledger):
        entries = [self.propose(ledger) for _ in range(5)]
        find_drift(ledger)
        cursor, launched = None, []
        for size in (2, 2, 1, 0):
            runs, cursor, _ = tick(self.sensor, cursor, ledger=ledger)
            assert len(runs) == size
            launched += keys(runs)
        assert launched == [entry.digest for entry in entries]

    def test_a_replayed_tick_gives_the_same_run_keys(self, ledger):
        self.propose(ledger)
        first, again = (tick(self.sensor, None, ledger=ledger) for _ in range(2))
        assert keys(first[0]) == keys(again[0])
        assert len(keys(first[0])) == 1

    def test_entries_that_propose_nothing_move_the_cursor(self, ledger):
        find_drift(ledger)
        runs, cursor, reason = tick(self.sensor, None, ledger=ledger)
        assert (runs, cursor, reason) == ([], "1", "no recipe of p is proposed")
        assert tick(self.sensor, cursor, ledger=ledger)[2] == "nothing in the ledger of p after entry 1"
