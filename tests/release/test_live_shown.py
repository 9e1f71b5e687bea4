"""What a look shows beside its verdict: where it was decided, each segment's bounds, latencies; all of it replays."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import dagster as dg
import numpy as np
import polars as pl
import pytest

from mlops_assets.gates.gate import Verdict
from mlops_assets.ledger.canonical import canonical_json
from mlops_assets.release.assets import build_deployment_asset
from mlops_assets.release.comparing import RateNotAbove
from mlops_assets.release.guardrails import LatencyAtMost, RateAtMost
from mlops_assets.release.live import LiveAnalysis
from mlops_assets.serving.log import FilePredictionLog

START = datetime(2026, 1, 1, tzinfo=UTC)
OLD, NEW, PRODUCT = "sha256:old", "sha256:new", "films"
PLAIN = LiveAnalysis(metric="squared_error", outcomes_per_unit=1, minimum_units=1)
FULL = replace(PLAIN, segments=("country = 'DE'", "country = 'FR'"), guardrails=(LatencyAtMost(seconds=0.5),))


class Log:
    """A request a second of an entity of its own, answered by turns; ``gains`` are the candidate's in squared error."""

    def __init__(self, gains, *, country="DE", seconds=0.01, names=(OLD, NEW), start=START):
        count, (old, new) = len(gains), names
        own = np.arange(count) % 2 == 0
        ids = [f"{n:05}" for n in range(count)]
        score = np.sqrt(np.maximum(0.25 - np.asarray(gains), 0.0))
        at = pl.Series([start + timedelta(seconds=n) for n in range(count)], dtype=pl.Datetime("us", "UTC"))
        self.frame = pl.DataFrame(
            {
                "id": ids,
                "at": at,
                "version": np.where(own, new, old),
                "entity": ids,
                "score": np.where(own, score, 0.5),
                "outcome": np.zeros(count),
                "outcome_at": at,
                "outcome_order": np.arange(count),
                "latency_seconds": np.broadcast_to(np.asarray(seconds, dtype=float), count),
                "inputs": [{"country": str(where)} for where in np.broadcast_to(country, count)],
            }
        )
        self.other = pl.DataFrame({"id": ids, "version": np.where(own, old, new), "score": np.where(own, 0.5, score)})

    def predictions(self, product):
        return self.frame

    def mirrors(self, product):
        return self.other


def look(log, analysis):
    both = {"candidate": NEW, "champion": OLD, "since": START, "step_began": START}
    return analysis.analyse(log, "p", **both, now=START + timedelta(days=1))


def mixed(count: int = 400, **more) -> Log:
    country = np.where(np.arange(count) % 4 == 0, "DE", "FR")
    return Log(np.where(country == "DE", -0.08, 0.05), country=country, **more)


@pytest.mark.parametrize("gain", [0.01, -0.05])
def test_the_decision_point_is_the_unit_that_proved_it(gain):
    whole = look(Log(np.full(200, gain)), PLAIN)
    assert whole.verdict is not Verdict.INCONCLUSIVE
    assert look(Log(np.full(whole.decided_at, gain)), PLAIN).verdict is whole.verdict
    before = look(Log(np.full(whole.decided_at - 1, gain)), PLAIN)
    assert (before.verdict, before.decided_at) == (Verdict.INCONCLUSIVE, None)


def test_a_segment_has_bounds_around_its_gain():
    german, french = look(mixed(), FULL).segments
    assert (german.units, french.units) == (100, 300)
    assert (german.gain, french.gain) == pytest.approx((-0.08, 0.05), abs=1e-4)
    assert german.low < german.gain < german.high < 0
    assert 0 < french.low < french.gain < french.high


def test_a_segment_without_units_has_bounds_that_say_nothing():
    french = look(Log(np.zeros(10)), FULL).segments[1]
    assert (french.units, french.gain, french.low, french.high) == (0, 0.0, -0.25, 0.25)


def test_latencies_are_bounded_for_both_versions():
    seconds = np.where(np.arange(4000) % 2 == 0, 0.2, 0.1) * np.random.default_rng(0).exponential(size=4000)
    found = look(Log(np.zeros(4000), seconds=seconds), PLAIN).latency
    assert [(s.version, s.quantile) for s in found] == [
        (version, quantile) for version in ("candidate", "champion") for quantile in (0.5, 0.99)
    ]
    for sequence, scale in zip(found, (0.2, 0.2, 0.1, 0.1), strict=True):
        answers, low, middle, high = sequence.points[-1]
        assert answers == 2000
        assert low < -scale * np.log(1 - sequence.quantile) < high
        assert low <= middle <= high


@pytest.mark.parametrize("seconds", [float("nan"), None], ids=["no_numbers", "no_column"])
def test_latencies_that_were_not_logged_are_not_shown(seconds):
    log = Log(np.zeros(10), seconds=np.nan)
    log.frame = log.frame if seconds else log.frame.drop("latency_seconds")
    assert look(log, PLAIN).latency == ()


def test_all_that_is_shown_replays_from_the_ledger():
    found = look(mixed(seconds=np.linspace(0.01, 0.1, 400)), FULL)
    evidence = json.loads(canonical_json(found.to_json()))
    assert FULL.replay(evidence) == found
    assert FULL.replay(evidence).to_json() == evidence


def test_a_step_shows_guardrails_segments_latencies_and_the_sample_ratio(world):
    champion, candidate = world.crown("one"), world.begin("two")
    at = world.state.running.released.at + timedelta(minutes=1)
    world.predictions = mixed(names=(champion, candidate), start=at)
    asset = build_deployment_asset(PRODUCT, world.strategy, replace(FULL, dry_run=True))
    result = dg.materialize(
        [asset],
        resources=world.resources(),
        instance=world.instance,
        run_config={"ops": {f"{PRODUCT}__deployment": {"config": {"action": "step"}}}},
    )
    (done,) = result.asset_materializations_for_node(f"{PRODUCT}__deployment")
    facts = {name: value.value for name, value in done.metadata.items()}
    assert "| latency_p99 | 0 | 200 | 0.01 |" in facts["guardrails"]
    assert facts["sample_ratio"] == "200 of 400, expected 20"
    assert facts["segments"].startswith("![")
    assert facts["latency"].startswith("![")


UNREAD = [
    {"segments": ("city = 'Ulm'",)},
    {"guardrails": (RateAtMost(name="heavy", breach="weight > 3", rate=0.1),)},
    {"guardrails": (RateNotAbove(name="heavy", breach="weight > 3", by=0.1),)},
]


@pytest.mark.parametrize("declared", UNREAD, ids=["segment", "guardrail", "comparison"])
def test_what_was_not_logged_is_doubt_and_hides_no_harm(declared):
    analysis = replace(PLAIN, **declared)
    found = look(Log(np.full(200, 0.01)), analysis)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "not all could be looked at" in found.reason
    assert analysis.replay(json.loads(canonical_json(found.to_json()))) == found
    assert look(Log(np.full(200, -0.1)), analysis).verdict is Verdict.FAILED


@pytest.mark.parametrize("declared", UNREAD, ids=["segment", "guardrail", "comparison"])
def test_before_the_first_answer_there_is_nothing_to_read(tmp_path, declared):
    found = look(FilePredictionLog(tmp_path), replace(PLAIN, **declared))
    assert (found.verdict, found.unreadable) == (Verdict.INCONCLUSIVE, ())


def test_a_candidate_that_is_bad_more_often_than_the_champion_fails():
    analysis = replace(PLAIN, guardrails=(RateNotAbove(name="low", breach="score < 0.4", by=0.1),))
    found = look(Log(np.where(np.arange(200) % 2, 0.1, 0.0)), analysis)
    assert found.verdict is Verdict.FAILED
    assert found.reason.startswith("low: 100 of 200 requests, allowed 0.1")
