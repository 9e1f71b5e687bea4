"""The four key metrics, from a history told entry by entry."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from mlops_assets.delivery.assets import delivery_table
from mlops_assets.delivery.metrics import deployments, measure_delivery
from mlops_assets.ledger.entry import GENESIS, Entry, Kind

START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def history(*decisions: tuple[float, Kind, Mapping[str, Any]], product: str = "p") -> list[Entry]:
    """Return entries, each at its hour."""
    return [
        Entry(
            sequence=sequence,
            product=product,
            kind=kind,
            at=START + hour * HOUR,
            actor="test",
            body=body,
            previous=GENESIS,
            digest=f"sha256:{sequence}",
        )
        for sequence, (hour, kind, body) in enumerate(decisions, start=1)
    ]


def registered(hour, name, recipe="plain"):
    return hour, Kind.CANDIDATE_REGISTERED, {"candidate": name, "version": name, "snapshot": "s", "recipe": recipe}


def released(hour, name, percent=100, phase="COMPLETED"):
    rollout = {"percent": percent, "step": 0, "phase": phase}
    body = {
        "release": f"r-{name}",
        "candidate": name,
        "version": name,
        "features": None,
        "judged": 1,
        "rollout": rollout,
    }
    return hour, Kind.RELEASED, body


def moved(hour, name, percent, phase):
    return (
        hour,
        Kind.ROLLOUT_MOVED,
        {"release": f"r-{name}", "rollout": {"percent": percent, "step": 1, "phase": phase}},
    )


def rolled_back(hour, to, release=None):
    return hour, Kind.ROLLED_BACK, {"release": release, "to": to, "by": "ada", "why": ""}


def test_a_product_without_a_release_has_nothing_to_measure():
    for entries in ([], history(registered(0, "a"))):
        found = measure_delivery("p", entries)
        assert (found.releases, found.completed, found.failed) == (0, 0, 0)
        assert found.deployments_per_day is None
        assert found.median_lead_time is None
        assert found.change_failure_rate is None
        assert found.median_time_to_restore is None


def test_the_four_metrics_of_a_history_with_each_kind_of_end():
    found = measure_delivery(
        "p",
        history(
            registered(0, "a"),
            released(2, "a"),  # 2 hours from candidate to champion
            registered(10, "b"),
            released(11, "b", 5, "RUNNING"),
            moved(16, "b", 100, "COMPLETED"),  # 6 hours
            registered(20, "c"),
            released(21, "c", 5, "RUNNING"),
            moved(22, "c", 0, "ROLLED_BACK"),  # taken away by itself after 1 hour
            registered(30, "d"),
            released(34, "d"),  # 4 hours
            rolled_back(37, "b"),  # taken away by hand after 3 hours
            registered(49, "e"),
            released(50, "e", 5, "RUNNING"),  # 48 hours after the first; still under way
        ),
    )
    assert (found.releases, found.completed, found.failed) == (5, 3, 2)
    assert found.deployments_per_day == 1.5
    assert found.median_lead_time == 4 * HOUR
    assert found.change_failure_rate == 2 / 4
    assert found.median_time_to_restore == 2 * HOUR


def test_lead_time_begins_when_the_change_was_asked_for():
    proposed = (1, Kind.RECIPE_PROPOSED, {"recipe": "deep", "why": ""})
    other = (0, Kind.RECIPE_PROPOSED, {"recipe": "wide", "why": ""})
    requested = (3, Kind.RETRAINING_REQUESTED, {"reason": "drift", "cause": None})
    asked = history(other, proposed, requested, registered(5, "a", "deep"), released(7, "a"))
    assert measure_delivery("p", asked).median_lead_time == 6 * HOUR
    assert measure_delivery("p", history(requested, registered(5, "a"), released(7, "a"))).median_lead_time == 4 * HOUR
    again = history(requested, registered(5, "a"), registered(9, "a"), released(10, "a"))
    assert measure_delivery("p", again).median_lead_time == 7 * HOUR


def test_rollbacks_one_after_the_other_count_once_each():
    story = [registered(0, name) for name in "abc"] + [released(n, name) for n, name in enumerate("abc", start=1)]
    found = deployments(history(*story, rolled_back(5, "b"), rolled_back(6, "a"), rolled_back(7, "a")))
    assert [one.rolled_back and (one.rolled_back - START) / HOUR for one in found] == [None, 6, 5]


def test_a_release_the_state_ignores_is_no_deployment():
    entries = history(registered(0, "a"), released(1, "a"), released(2, "b", 5, "RUNNING"), released(3, "c"))
    assert [one.candidate for one in deployments(entries)] == ["a", "b"]


def test_a_release_of_a_candidate_that_was_never_registered_is_measured_from_itself():
    assert measure_delivery("p", history(released(3, "a"))).median_lead_time == timedelta(0)


def test_a_rollback_that_ends_a_running_rollout_is_a_failure_of_that_release():
    story = [released(0, "a"), released(2, "b", 50, "RUNNING"), rolled_back(4, "a", "r-b")]
    found = measure_delivery("p", history(*story))
    assert (found.failed, found.median_time_to_restore, found.completed) == (1, 2 * HOUR, 1)


def test_a_burst_within_a_day_is_not_told_as_more_than_it_is():
    assert measure_delivery("p", history(released(0, "a"), released(0.1, "b"))).deployments_per_day == 2.0


def test_other_products_do_not_count():
    entries = [*history(released(0, "z"), product="other"), *history(released(0, "a"))]
    assert measure_delivery("p", entries).releases == 1


def test_the_table_has_a_dash_where_nothing_is_known():
    table = delivery_table([measure_delivery("p", []), measure_delivery("p", history(released(0, "a")))]).splitlines()
    assert table[2] == "| p | 0 | 0 | 0 | — | — | — | — |"
    assert table[3] == "| p | 1 | 1 | 0 | 1.00 | 0:00:00 | 0% | — |"
