"""A server whose clock jumps: its answers are those of batch, whatever time it believes it is."""

from datetime import timedelta
from itertools import pairwise

import pytest
import shop
from test_online_asset import Sharing

from mlops_assets.features.online_stores import FileStores, MemoryStores
from mlops_assets.features.reference import reference_features

MINUTES = [20_000, 19_000, 30_000, -500_000, 20_001, 20_000]
"""What the clock says at each pair of requests, counted from the shop's first day."""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return root, shop.register_model(root, 0)


@pytest.mark.parametrize("shared", [False, True])
def test_requests_and_outcomes_of_a_clock_that_goes_back_agree_with_batch(tmp_path, model, shared):
    clock = [shop.START]
    stores = FileStores(tmp_path / "online") if shared else MemoryStores()
    server = Sharing(tmp_path, model, stores, now=lambda: clock[0])
    server.plan(shop.history())
    for minutes in MINUTES:
        clock[0] = shop.START + timedelta(minutes=minutes)
        for person in (1, 99):
            server.tell(server.ask(person, minutes), 4.0)
    report = server.report()
    assert (report.agrees, report.replayed, dict(report.skipped)) == (True, 12, {})
    answered = server.log()
    assert any(later < earlier for earlier, later in pairwise(answered["at"]))
    events = list(shop.history().rows(named=True))
    for row in answered.iter_rows(named=True):
        asked = [(row["inputs"]["person"], row["at"])]
        (meant,) = reference_features(shop.TASTE, events, asked)
        assert {name: row["features"][name] for name in meant} == meant
        told = {"person": asked[0][0], "at": asked[0][1], "rating": 4.0, "liked": 1.0}
        if all((event["person"], event["at"]) != asked[0] for event in events):
            events.append(told)
