"""What live analysis watches beside its main bets: maturity, guardrails, segments, sharing of traffic, time."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from mlops_assets.gates.gate import Verdict
from mlops_assets.ledger.canonical import canonical_json
from mlops_assets.release.failing import FAILURE_ALPHA, failures
from mlops_assets.release.guardrails import LatencyAtMost, RateAtMost
from mlops_assets.release.live import LiveAnalysis
from mlops_assets.release.sample_ratio import sample_ratio, shares_of

START = datetime(2026, 1, 1, tzinfo=UTC)
OLD, NEW = "sha256:old", "sha256:new"
DAY = timedelta(days=1)
ANALYSIS = LiveAnalysis(metric="squared_error", margin=0.02, bound=0.25, outcomes_per_unit=1, minimum_units=3)


class Log:
    """Requests one second apart, one entity each; the champion's and the candidate's scores of each are given."""

    def __init__(self, old, new, outcome, *, told=None, arm=None, latency=None, country=None, order=None) -> None:
        count = len(outcome)
        seconds = np.arange(count)
        told = seconds + 1 if told is None else np.asarray(told)
        arm = np.array([NEW if n % 2 else OLD for n in range(count)]) if arm is None else np.asarray(arm)
        known = [at if at >= 0 else None for at in told]
        times = [None if at is None else START + timedelta(seconds=float(at)) for at in known]
        self.rows = pl.DataFrame(
            {
                "id": [f"{n:06}" for n in range(count)],
                "at": [START + timedelta(seconds=int(n)) for n in seconds],
                "version": arm,
                "entity": [f"e{n}" for n in range(count)],
                "score": np.where(arm == NEW, new, old).astype(float),
                "outcome": [float(y) if at is not None else None for y, at in zip(outcome, known, strict=True)],
                "outcome_at": times,
                "outcome_order": np.argsort(np.argsort(told)) if order is None else order,
                "latency_seconds": np.full(count, 0.001) if latency is None else np.asarray(latency, float),
                "features": [{"country": c} for c in (["DE"] * count if country is None else country)],
                "inputs": [{"country": "asked", "price": float(n)} for n in range(count)],
            },
            schema_overrides={"at": pl.Datetime("us", "UTC"), "outcome_at": pl.Datetime("us", "UTC")},
        )
        other = np.where(arm == NEW, OLD, NEW)
        scores = np.where(arm == NEW, old, new).astype(float)
        self.mirrored = pl.DataFrame({"id": self.rows["id"], "version": other, "score": scores})

    def predictions(self, product):
        return self.rows

    def mirrors(self, product):
        return self.mirrored


def analyse(log, analysis=ANALYSIS, *, now=None, **more):
    now = now or START + timedelta(seconds=log.rows.height + 10)
    both = {"candidate": NEW, "champion": OLD, "since": START, "step_began": START}
    return analysis.analyse(log, "p", **both, now=now, **more)


def log_of(count=200, gain=0.0, *, seed=0, **more):
    """Requests on which the candidate's squared error is smaller by ``gain`` on average."""
    noise = np.random.default_rng(seed).normal(0, 0.02, (2, count))
    old, new = np.sqrt(0.2 + noise[0]), np.sqrt(0.2 - gain + noise[1])
    return Log(old, new, np.zeros(count), **more)


def test_a_clock_that_jumps_back_changes_nothing_that_was_counted():
    told = np.arange(1.0, 201)
    jumped = np.where(told > 120, told - 90, told)  # the machine's clock was set back a minute and a half
    steady = analyse(log_of(told=told))
    moved = analyse(log_of(told=jumped, order=np.arange(200)))
    assert moved.gains == steady.gains
    early = log_of(told=jumped, order=np.arange(200))
    early.rows = early.rows.with_columns(
        outcome=pl.when(pl.col("outcome_order") < 150).then("outcome"),
        outcome_at=pl.when(pl.col("outcome_order") < 150).then("outcome_at"),
    )
    assert analyse(early).gains == steady.gains[:150]


def test_only_what_is_old_enough_counts_and_silence_is_an_answer_if_so_declared():
    told = np.where(np.arange(200) % 4 == 0, np.arange(200) + 5, -1)  # three of four never tell
    log = log_of(told=told)
    ripe = replace(ANALYSIS, matured_after=timedelta(seconds=30))
    assert analyse(log, ripe, now=START + timedelta(seconds=99)).units == 18  # asked in 0 … 69, a fourth of them told
    silent = replace(ripe, silent_outcome=0.0)
    assert analyse(log, silent, now=START + timedelta(seconds=99)).units == 70
    assert analyse(log, silent, now=START + timedelta(seconds=10)).units == 0


def test_an_outcome_that_comes_too_late_or_another_time_changes_nothing_counted():
    analysis = replace(ANALYSIS, matured_after=timedelta(seconds=30), silent_outcome=0.0)
    never = log_of(told=np.full(200, -1.0))
    late = log_of(told=np.where(np.arange(200) == 7, 100.0, -1.0))
    late.rows = late.rows.with_columns(outcome=pl.when(pl.col("outcome").is_not_null()).then(1.0))
    now = START + timedelta(seconds=150)
    assert analyse(late, analysis, now=now).gains == analyse(never, analysis, now=now).gains


def test_a_slow_candidate_breaks_its_latency_and_a_quick_one_with_rare_outliers_does_not():
    analysis = replace(ANALYSIS, guardrails=(LatencyAtMost(seconds=0.05, quantile=0.95),))
    slow = np.where(np.arange(400) % 4 == 1, 0.2, 0.001)  # every second answer of the candidate
    found = analyse(log_of(400, 0.05, latency=slow), analysis)
    assert found.verdict is Verdict.FAILED
    assert "latency_p95: 100 of 200 requests, allowed 0.05" in found.reason
    rare = np.where(np.arange(400) % 100 == 1, 0.2, 0.001)
    assert analyse(log_of(400, 0.05, latency=rare), analysis).verdict is Verdict.PASSED


def test_a_guardrail_reads_what_was_logged_and_takes_the_unknown_for_a_breach():
    odd = RateAtMost(name="odd_scores", breach="score < 0.3", rate=0.05)
    assert not odd.faults()
    log = log_of(300)
    assert odd.watch(log.rows).breaches == 0
    broken = log.rows.with_columns(score=pl.when(pl.int_range(pl.len()) % 3 == 0).then(float("nan")).otherwise("score"))
    assert odd.watch(broken).breaches == 100
    unknown = log.rows.with_columns(score=pl.lit(None, dtype=pl.Float64))
    assert odd.watch(unknown).breaches == 300
    assert RateAtMost(name="abroad", breach="country <> 'DE' AND price > 0", rate=0.5).watch(log.rows).breaches == 0


def test_a_segment_that_loses_is_named_though_the_whole_gains():
    country = ["FR" if n % 5 == 0 else "DE" for n in range(600)]
    gain = np.where(np.array(country) == "FR", -0.1, 0.06)
    log = log_of(600, gain, country=country)
    analysis = replace(ANALYSIS, segments=("country = 'FR'", "price > 300"))
    assert analyse(log).verdict is Verdict.PASSED
    found = analyse(log, analysis)
    assert found.verdict is Verdict.FAILED
    assert "where country = 'FR'" in found.reason
    assert [part.units for part in found.segments] == [120, 299]


def shares(*steps):
    return [(START + timedelta(seconds=second), percent / 100) for second, percent in steps]


def arms(share, count=4000, seed=0):
    return np.where(np.random.default_rng(seed).random(count) < share, NEW, OLD)


@pytest.mark.parametrize(("share", "is_mismatch"), [(0.5, False), (0.42, True), (1.0, True)])
def test_traffic_that_is_not_shared_as_planned_is_found(share, is_mismatch):
    log = log_of(4000, arm=arms(share))
    found = sample_ratio(log.rows, shares((0, 50)), candidate=NEW, champion=OLD, settle=timedelta(0))
    assert found.is_mismatch(0.001) is is_mismatch
    verdict = analyse(replace_gain(log), shares=shares((0, 50)))
    assert ("not shared as planned" in verdict.reason) is is_mismatch
    assert (verdict.verdict is Verdict.INCONCLUSIVE) is is_mismatch


def replace_gain(log):
    return log_of(log.rows.height, 0.05, arm=log.rows["version"].to_numpy())


def test_harm_is_told_even_where_traffic_is_not_shared_as_planned():
    bad = log_of(4000, -0.1, arm=arms(0.4))
    assert analyse(bad, shares=shares((0, 50))).verdict is Verdict.FAILED


def test_an_entity_counts_once_under_the_share_of_its_first_answer_and_not_while_the_router_follows():
    arm = np.concatenate([arms(0.05, 1000), arms(0.05, 20, seed=1), arms(0.5, 980, seed=2)])
    log = log_of(2000, arm=arm)
    log.rows = log.rows.with_columns(entity=pl.concat_str(pl.lit("e"), (pl.int_range(pl.len()) % 1500).cast(pl.String)))
    plan = shares((0, 5), (1000, 50))
    found = sample_ratio(log.rows, plan, candidate=NEW, champion=OLD, settle=timedelta(seconds=20))
    assert found.entities == 980 + 480  # 20 settling each time; the last 500 had been seen
    assert not found.is_mismatch(0.001)
    hurried = sample_ratio(log.rows, plan, candidate=NEW, champion=OLD, settle=timedelta(0))
    assert hurried.entities == 1500


def test_a_plan_that_is_followed_is_seldom_called_broken_at_any_look():
    generator, alarms, streams = np.random.default_rng(5), 0, 300
    from mlops_assets.release.sample_ratio import log_mixture

    for share in (0.05, 0.5):
        for _ in range(streams):
            ours = np.cumsum(generator.random(1000) < share)
            capital = log_mixture(ours, np.arange(1, 1001), share)[::25].max()
            alarms += capital >= np.log(1 / 0.05)
    assert alarms / (2 * streams) <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / (2 * streams))


def test_it_gives_up_after_the_declared_time_and_not_when_there_is_a_verdict():
    patient = replace(ANALYSIS, give_up_after=DAY, minimum_units=1000)
    early, late = (analyse(log_of(60), patient, now=START + time) for time in (DAY / 2, DAY))
    assert (early.gave_up, late.gave_up) == (False, True)
    assert late.verdict is Verdict.INCONCLUSIVE
    assert "gave up after 1 day" in late.reason
    assert not analyse(log_of(200, -0.1), patient, now=START + DAY).gave_up


def test_a_dry_run_says_what_it_would_do_and_decides_nothing():
    for gain, would in ((0.05, "PASSED"), (-0.1, "FAILED")):
        found = analyse(log_of(400, gain), replace(ANALYSIS, dry_run=True, give_up_after=timedelta(1)))
        assert (found.verdict, found.would_be, found.gave_up) == (Verdict.INCONCLUSIVE, would, False)
        assert f"dry run, would be {would}" in found.reason


def test_what_must_be_better_does_not_pass_for_being_as_good():
    better = replace(ANALYSIS, promise="better")
    assert analyse(log_of(400), ANALYSIS).verdict is Verdict.PASSED
    assert analyse(log_of(400), better).verdict is Verdict.INCONCLUSIVE
    assert analyse(log_of(400, 0.05), better).verdict is Verdict.PASSED


def test_the_evidence_in_the_ledger_gives_the_same_verdict_again():
    import json

    analysis = replace(
        ANALYSIS,
        guardrails=(LatencyAtMost(seconds=0.05), RateAtMost(name="low", breach="score < 0.1", rate=0.01)),
        segments=("price > 100",),
        give_up_after=timedelta(days=2),
    )
    for gain in (-0.1, 0.0, 0.05):
        for days in (1, 3):
            found = analyse(log_of(500, gain), analysis, now=START + days * DAY, shares=shares((0, 50)))
            kept = json.loads(canonical_json(found.to_json()))
            assert analysis.replay(kept) == found
            changed = kept | {"gains": [value + 0.01 for value in kept["gains"]]}
            assert analysis.replay(changed).values != found.values


def test_bets_that_fail_a_candidate_share_alpha():
    many = replace(
        ANALYSIS, guardrails=(LatencyAtMost(seconds=1), LatencyAtMost(seconds=1, quantile=0.5)), segments=("a",)
    )
    assert many.harm_alpha == pytest.approx(0.05 / 4)
    assert ANALYSIS.harm_alpha == ANALYSIS.alpha


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"silent_outcome": 0.0}, "needs matured_after"),
        ({"give_up_after": timedelta(0)}, "give_up_after must be positive"),
        ({"matured_after": timedelta(-1)}, "matured_after must be positive"),
        ({"segments": ("country =",)}, "no Polars SQL expression"),
        ({"guardrails": (LatencyAtMost(seconds=0),)}, "must be above 0"),
        ({"guardrails": (LatencyAtMost(seconds=1), LatencyAtMost(seconds=2))}, "declared twice"),
        ({"guardrails": (RateAtMost(name="x", breach="score <", rate=0.1),)}, "no Polars SQL expression"),
        ({"promise": "best"}, "must be 'not_worse' or 'better'"),
    ],
)
def test_every_fault_of_a_declaration_is_named(changes, said):
    (fault,) = replace(ANALYSIS, **changes).faults()
    assert said in fault


def test_the_ledger_says_which_share_the_candidate_had_since_when():
    from types import SimpleNamespace

    from mlops_assets.ledger.entry import Kind

    entries = [
        SimpleNamespace(kind=Kind.RELEASED, at=START, body={"release": "r", "rollout": {"percent": 5}}),
        SimpleNamespace(kind=Kind.JUDGED, at=START, body={}),
        SimpleNamespace(kind=Kind.ROLLOUT_MOVED, at=START + DAY, body={"release": "r", "rollout": {"percent": 25}}),
        SimpleNamespace(kind=Kind.RELEASED, at=START, body={"release": "other", "rollout": {"percent": 50}}),
    ]
    assert shares_of(entries, "r") == [(START, 0.05), (START + DAY, 0.25)]


def unequal_delays(seed):
    """Two models equally good on the whole; the candidate is worse on ones, which tell at once, and better on zeros."""
    generator = np.random.default_rng(seed)
    count = 240
    outcome = (generator.random(count) < 0.5).astype(float)
    loss = 0.2 + generator.normal(0, 0.02, count)
    candidate = loss + np.where(outcome == 1, 0.05, -0.05)
    old, new = (np.abs(outcome - np.sqrt(np.clip(each, 0, 1))) for each in (loss, candidate))
    asked = np.arange(count)
    return Log(old, new, outcome, told=np.where(outcome == 1, asked + 1, asked + 120))


@pytest.mark.parametrize(("after", "keeps"), [(timedelta(seconds=120), True), (None, False)])
def test_outcomes_that_come_sooner_when_they_are_bad_mislead_unless_they_must_mature(after, keeps):
    streams, alarms = 40, 0
    analysis = replace(ANALYSIS, matured_after=after)
    for seed in range(streams):
        log = unequal_delays(seed)
        for second in (60, 120, 180, 240, 360):
            now = START + timedelta(seconds=second)
            seen = Log.__new__(Log)
            hidden = pl.when(pl.col("outcome_at") <= now)
            columns = {name: hidden.then(name) for name in ("outcome", "outcome_at", "outcome_order")}
            seen.rows, seen.mirrored = log.rows.filter(pl.col("at") <= now).with_columns(**columns), log.mirrored
            if analyse(seen, analysis, now=now).verdict is Verdict.FAILED:
                alarms += 1
                break
    assert bool(alarms / streams <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / streams)) is keeps


def with_arms(log, *, failed=(), asked=()):
    """Say of a log that the candidate ``failed`` to answer some requests, and that clients ``asked`` for others."""
    numbers = pl.int_range(pl.len())
    log.rows = log.rows.with_columns(
        arm=pl.when(numbers.is_in(list(asked))).then(pl.lit("asked")).otherwise(pl.lit("routed")),
        failed_version=pl.when(numbers.is_in(list(failed))).then(pl.lit(NEW)),
        version=pl.when(numbers.is_in(list(failed))).then(pl.lit(OLD)).otherwise("version"),
    )
    ids = [f"{n:06}" for n in failed]
    log.mirrored = log.mirrored.filter(~pl.col("id").is_in(ids))  # the candidate was not asked a second time
    return log


def test_a_candidate_that_fails_to_answer_is_stopped_before_any_outcome():
    log = with_arms(log_of(told=np.full(200, -1.0)), failed=range(1, 20, 2))
    found = analyse(log)
    assert found.verdict is Verdict.FAILED
    assert "failures: 10 of 100 requests, allowed 0.01" in found.reason
    assert found.exposed_requests == 100
    again = ANALYSIS.replay(found.to_json())
    assert (again.verdict, again.reason) == (found.verdict, found.reason)


def test_one_failure_stops_nobody_and_counts_as_the_greatest_loss():
    found = analyse(with_arms(log_of(), failed=[1]))
    assert found.verdict is not Verdict.FAILED
    assert found.gains[1] == -1.0  # in units of the bound
    assert [breach.breaches for breach in found.breaches] == [1]


def test_a_candidate_that_fails_as_seldom_as_allowed_is_stopped_at_most_at_a_thousandth():
    rng = np.random.default_rng(7)
    stopped = 0
    for _ in range(2000):
        own = pl.DataFrame({"failed_version": [NEW if x else None for x in rng.random(300) < 0.01]})
        answers = own.with_columns(version=pl.lit(NEW))
        stopped += failures(answers, NEW, 0.01).log_e >= np.log(1 / FAILURE_ALPHA)
    assert stopped <= 6  # 2 expected at most; more than 6 have a chance of 0.5 %


def test_requests_that_asked_for_a_version_say_nothing_of_it():
    plain, asked = analyse(log_of(100)), with_arms(log_of(100), asked=range(50, 100))
    assert plain.units == 100
    assert analyse(asked).units == 50
    ratio = sample_ratio(asked.rows, [(START, 0.5)], candidate=NEW, champion=OLD, settle=timedelta(0))
    assert ratio.entities == 100
    assert analyse(asked, shares=[(START, 0.5)], analysis=replace(ANALYSIS, settle=timedelta(0))).ratio.entities == 50
