"""Clocks that differ, and one that goes back: an event counts from when it happened and was known, on every server."""

from dataclasses import replace
from datetime import timedelta

import pytest
from feature_cases import QUARTER, START, TICK, Case, cases, differences, moments
from hypothesis import given, settings
from hypothesis import strategies as st
from test_online import COUNT, EVENT, HOUR, PLAIN, faults, numbered, told

from mlops_assets.features import tiles
from mlops_assets.features.freshness import Freshness
from mlops_assets.features.online import OnlineFeatures
from mlops_assets.features.reference import reference_features
from mlops_assets.features.state import FileStore, MemoryStore
from mlops_assets.features.view import Aggregate

SKEWS = st.sampled_from([timedelta(0), TICK, -TICK, QUARTER, -3 * QUARTER, timedelta(days=400)])


class Server:
    """A server of a store that several share, with a clock of its own, and what it and the others were told."""

    def __init__(self, view, store, events, now):
        self.online, self.events, self.now = OnlineFeatures([view], store=store), events, now

    def tell(self, event):
        self.online.add(event)
        self.events.append(event)

    def faults(self, view, users):
        """Ask for users now, and return where the answers differ from the reference of what was told so far."""
        now = self.now()
        found = self.online.features_of([{"user": user} for user in users], now)
        return differences(found, reference_features(view, self.events, [(user, now) for user in users]))


@given(cases(), st.data(), st.sampled_from([1, 128]))
@settings(max_examples=50)
def test_servers_whose_clocks_differ_and_jump_answer_as_the_reference_at_each_moment(case, data, leaf):
    case = numbered(case)
    view = replace(case.view, event_key=("id",))
    store, events = MemoryStore(), []
    skews = [data.draw(SKEWS) for _ in range(2)]
    servers = [Server(view, store, events, lambda skew=skew: data.draw(moments) + skew) for skew in skews]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "LEAF", leaf)
        for event in case.events:
            data.draw(st.sampled_from(servers)).tell(event)
            assert not data.draw(st.sampled_from(servers)).faults(view, ["ann", "bob", "nobody"])


@pytest.fixture(params=["memory", "file"])
def store(request, tmp_path):
    return MemoryStore() if request.param == "memory" else FileStore(tmp_path / "features.sqlite")


@pytest.mark.parametrize("leaf", [1, 128])
def test_a_clock_that_goes_back_between_two_requests_forgets_what_is_in_its_future_again(store, monkeypatch, leaf):
    monkeypatch.setattr(tiles, "LEAF", leaf)
    rows = [{**EVENT, "id": n, "time": START + n * QUARTER, "amount": n / 10} for n in range(12)]
    case = Case(PLAIN, rows, [("ann", START + n * QUARTER) for n in (12, 3, 2, 11, 0, -1, 12)])
    assert not faults(told(case, rows, 6, store), case)


@pytest.mark.parametrize("leaf", [1, 128])
def test_an_event_from_the_future_is_kept_and_seen_when_its_time_has_come(store, monkeypatch, leaf):
    monkeypatch.setattr(tiles, "LEAF", leaf)
    ahead = timedelta(days=400)
    since = Aggregate(name="since", function="time_since")
    view = replace(COUNT, features=(*COUNT.features, since), time_to_live=2 * HOUR)
    online = OnlineFeatures([view], store=store)
    for number in range(3):
        online.add({**EVENT, "id": number, "time": START + ahead})
    online.add({**EVENT, "id": 9})
    asked = [START, START + TICK, START + HOUR, START + ahead, START + ahead + TICK, START + HOUR]
    found = [online.features({"user": "ann"}, when) for when in asked]
    assert [row["visits"] for row in found] == [0, 1, 1, 0, 3, 1]
    assert [row["since"] for row in found] == [None, 1e-6, 3600.0, None, 1e-6, 3600.0]
    assert online.absent({"user": "ann"}, START + ahead) == ("visits",)


@pytest.mark.parametrize("leaf", [1, 128])
def test_what_was_known_before_it_happened_counts_only_after_it_happened(store, monkeypatch, leaf):
    monkeypatch.setattr(tiles, "LEAF", leaf)
    view = replace(COUNT, known_time="known")
    online = OnlineFeatures([view], store=store)
    for number in range(3):
        online.add({**EVENT, "id": number, "known": START - HOUR})
    online.add({**EVENT, "id": 3, "known": START + QUARTER})
    asked = [START + QUARTER + TICK, START, START - HOUR / 2, START + TICK, START + QUARTER]
    assert [online.features({"user": "ann"}, when)["visits"] for when in asked] == [4, 0, 0, 3, 3]
    assert not online.add({**EVENT, "id": 3, "known": START - HOUR})  # another clock says that it was known before
    assert [online.features({"user": "ann"}, when)["visits"] for when in asked] == [4, 0, 0, 4, 4]


def test_an_event_from_the_future_is_not_of_a_negative_age():
    ahead = Freshness(newest_event=START + HOUR, newest_in_dataset=START + HOUR, now=START)
    assert (ahead.age, ahead.fault(QUARTER)) == (timedelta(0), None)
