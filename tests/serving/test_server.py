import threading
import time
from datetime import UTC, datetime, timedelta

import httpx
import polars as pl
import pytest
import shop

from mlops_assets.adapters.http_serving import HttpServing
from mlops_assets.errors import ServiceUnavailable
from mlops_assets.features.polars_engine import PolarsEngine
from mlops_assets.release.plan import TrafficPlan
from mlops_assets.serving.log import FilePredictionLog

NOW = shop.START + timedelta(days=20)


def log_of(server):
    return FilePredictionLog(server.root / "log")


def row_of(server, id):
    return log_of(server).predictions("shop").filter(pl.col("id") == id).row(0, named=True)


def test_an_answer_names_its_model_and_version_and_is_logged_with_its_features(server, models):
    answer = server.infer(3, NOW).json()
    assert (answer["model_name"], answer["model_version"]) == ("shop", models[0])
    [score] = answer["outputs"][0]["data"]
    [id] = answer["parameters"]["prediction_ids"]
    logged = row_of(server, id)
    assert logged["score"] == score
    assert logged["entity"] == "3"
    events = shop.history()
    spine = pl.DataFrame({"person": [3], "at": [NOW]}, schema_overrides={"at": pl.Datetime("us", "UTC")})
    expected = PolarsEngine().features_at(shop.TASTE, events, spine).row(0, named=True)
    assert {name: logged["features"][name] for name in expected} == expected
    assert logged["features"]["price_tens"] == 1.0


def test_an_outcome_becomes_an_event_that_later_features_see(server):
    before = server.infer(99, NOW).json()["parameters"]["prediction_ids"][0]
    assert row_of(server, before)["features"]["ratings"] == 0
    assert server.tell(before, 4.5).json() == {"new": 1}
    after = server.infer(99, NOW + timedelta(seconds=1)).json()["parameters"]["prediction_ids"][0]
    seen = row_of(server, after)["features"]
    assert (seen["ratings"], seen["mean_rating"], seen["liked_share"]) == (1.0, 4.5, 1.0)


def test_an_outcome_counts_once_and_only_for_a_known_prediction(server):
    [id] = server.infer(7, NOW).json()["parameters"]["prediction_ids"]
    assert server.tell(id, 3.0).json() == {"new": 1}
    assert server.tell(id, 3.0).json() == {"new": 0}
    assert server.tell(id, 5.0).status_code == 409
    assert server.tell("nobody", 5.0).status_code == 404


def test_mirrors_score_what_they_do_not_answer(server, models, features):
    assert server.put_plan({models[0]: 100}, mirrors=models, features=features).is_success
    [id] = server.infer(5, NOW).json()["parameters"]["prediction_ids"]
    deadline = time.monotonic() + 30
    while not (seen := log_of(server).mirrors("shop").filter(pl.col("id") == id)["version"].to_list()):
        assert time.monotonic() < deadline, "no mirror was logged"
    assert seen == [models[1]]


def test_no_request_fails_while_plans_change_under_load(server, models, features):
    failures, answered, stop = [], [], threading.Event()

    def ask(person):
        with httpx.Client(base_url=server.url, timeout=30) as client:
            while not stop.is_set():
                answer = client.post("/v2/models/shop/infer", json=shop.request(person, NOW))
                (answered if answer.is_success else failures).append(answer.json())

    askers = [threading.Thread(target=ask, args=(person,)) for person in range(1, 5)]
    for asker in askers:
        asker.start()
    for percent in (5, 25, 50, 75, 95, 50, 5) * 4:
        assert server.put_plan({models[0]: 100 - percent, models[1]: percent}, features=features).is_success
    assert server.put_plan({models[1]: 100}, features=features).is_success
    stop.set()
    for asker in askers:
        asker.join()
    assert failures == []
    assert {answer["model_version"] for answer in answered} <= set(models)
    assert server.infer(1, NOW).json()["model_version"] == models[1]


def test_a_killed_server_serves_again_what_it_served_and_has_lost_nothing(server, models, features):
    assert server.put_plan({models[1]: 100}, features=features).is_success
    ids = [server.infer(42, NOW + timedelta(minutes=n)).json()["parameters"]["prediction_ids"][0] for n in range(20)]
    for number, id in enumerate(ids[:10]):
        assert server.tell(id, 1.0 + number % 4).is_success
    later = NOW + timedelta(hours=1)
    before = row_of(server, server.infer(42, later).json()["parameters"]["prediction_ids"][0])
    server.kill()
    server.start()
    again = server.infer(42, later).json()
    assert again["model_version"] == models[1]
    after = row_of(server, again["parameters"]["prediction_ids"][0])
    assert after["features"] == before["features"]
    assert after["score"] == before["score"]
    assert set(ids) <= set(log_of(server).predictions("shop")["id"])
    assert server.tell(ids[10], 2.0).json() == {"new": 1}
    assert server.tell(ids[0], 1.0).json() == {"new": 0}


def test_a_plan_that_names_an_unknown_model_changes_nothing(server, models, features):
    assert server.put_plan({models[0]: 100}, features=features).is_success
    refused = server.put_plan({"sha256:" + "0" * 64: 100}, features=features)
    assert refused.status_code == 503
    assert server.infer(1, NOW).json()["model_version"] == models[0]


def test_reconcile_sees_and_sets_the_plan_over_http(server, models, features):
    target = HttpServing(server.url)
    plan = TrafficPlan(weights={models[0]: 75, models[1]: 25}, mirrors=tuple(models), features=features)
    target.apply("shop", plan)
    seen = target.observe("shop")
    assert seen.plan == plan
    assert seen.ready == frozenset(models)
    server.kill()
    with pytest.raises(ServiceUnavailable, match="does not answer"):
        target.observe("shop")


def test_a_request_for_an_entity_that_features_do_not_know_is_counted(server):
    def absent():
        lines = server.client.get("/metrics").text.splitlines()
        name = f'mlops_absent_features_total{{product="shop",view="{shop.TASTE.name}"}}'
        return next(float(line.split()[-1]) for line in lines if line.startswith(name))

    before = absent()
    server.infer(123_456, NOW)
    server.infer(3, NOW)
    assert absent() == before + 1


def freshness(server):
    """Return the age of the newest event of the view as /metrics says it, between the moments before and after."""
    before = datetime.now(UTC)
    lines = server.client.get("/metrics").text.splitlines()
    name = f'mlops_feature_freshness_seconds{{product="shop",view="{shop.TASTE.name}"}} '
    found = [float(line.removeprefix(name)) for line in lines if line.startswith(name)]
    return before, found, datetime.now(UTC)


def is_age_of(newest, measured):
    before, (seconds,), after = measured
    assert (before - newest).total_seconds() <= seconds <= (after - newest).total_seconds()
    return True


def test_the_age_of_the_newest_event_is_measured_when_metrics_are_asked_for(untold, models, features):
    server = untold
    assert server.put_plan({models[0]: 100}, features=features).is_success
    newest = shop.history()["at"].max()
    assert is_age_of(newest, freshness(server))
    late = server.infer(3, newest - timedelta(days=1)).json()["parameters"]["prediction_ids"][0]
    assert server.tell(late, 3.0).is_success
    assert is_age_of(newest, freshness(server))
    recent = datetime.now(UTC) - timedelta(hours=1)
    [id] = server.infer(3, recent).json()["parameters"]["prediction_ids"]
    assert is_age_of(newest, freshness(server))  # a request is no event
    assert server.tell(id, 3.0).is_success
    assert is_age_of(recent, freshness(server))
    server.kill()
    server.start()
    assert is_age_of(recent, freshness(server))


def test_an_event_of_the_future_is_no_age_below_zero(untold, models, features):
    server = untold
    assert server.put_plan({models[0]: 100}, features=features).is_success
    [id] = server.infer(4, datetime.now(UTC) + timedelta(days=3)).json()["parameters"]["prediction_ids"]
    assert server.tell(id, 3.0).is_success
    assert freshness(server)[1] == [0.0]


def test_a_view_that_holds_no_event_has_no_age(untold, models):
    assert freshness(untold)[1] == []
    assert untold.put_plan({models[0]: 100}).is_success
    assert freshness(untold)[1] == []
    [id] = untold.infer(3, NOW).json()["parameters"]["prediction_ids"]
    assert untold.tell(id, 3.0).is_success
    assert is_age_of(NOW, freshness(untold))


def test_metrics_are_there_for_prometheus(server):
    assert server.infer(1, NOW).is_success
    text = server.client.get("/metrics").text
    assert 'mlops_requests_total{code="200",product="shop"}' in text
    assert "mlops_request_duration_seconds_bucket" in text
