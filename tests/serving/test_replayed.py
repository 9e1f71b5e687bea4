"""What a server answered, with outcomes told in between, a restart and a new snapshot, is what batch computes."""

from dataclasses import replace
from datetime import timedelta

import dagster as dg
import polars as pl
import pytest
import shop

from mlops_assets.data.local import LocalSnapshots
from mlops_assets.features.parity import read_parity
from mlops_assets.features.polars_engine import PolarsEngine
from mlops_assets.features.view import Aggregate
from mlops_assets.ledger.entry import Kind
from mlops_assets.ledger.sql import SqlLedger
from mlops_assets.monitoring.checks import build_parity_check
from mlops_assets.monitoring.replayed import replay_predictions, told_events
from mlops_assets.release.plan import TrafficPlan
from mlops_assets.serving.log import FilePredictionLog


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return root, shop.register_model(root, 0)


class Served:
    """A shop that serves in this process, and what it left."""

    here = None

    def __init__(self, root, model, **options):
        self.root, (self.models, self.model), self.options = root, model, options
        self.snapshots = LocalSnapshots(root / "snapshots")
        self.start()

    def start(self):
        self.stop()
        self.here = shop.Here(self.root, models=self.models, **self.options)

    def stop(self):
        if self.here is not None:
            self.here.stop()

    def plan(self, dataset):
        self.plan_at(self.snapshots.write(dataset).digest)

    def plan_at(self, digest):
        self.here.apply(TrafficPlan(weights={self.model: 100}, features=digest))

    def tell(self, id, value):
        return self.here.tell(id, value)

    def ask(self, person, minutes):
        at = shop.START + timedelta(minutes=minutes)
        (answer,) = self.here.answer([{"person": person, "at": at, "price": 3.0}])
        return answer.id

    def log(self):
        return FilePredictionLog(self.root / "log").predictions("shop")

    def report(self, view=shop.TASTE, served=shop.SHOP, **options):
        return replay_predictions(view, served, self.log(), self.snapshots, PolarsEngine(), **options)


@pytest.fixture
def served(tmp_path, model):
    """Return a shop of twelve answers: eight outcomes told late and in another order, a restart, a second snapshot."""
    served = Served(tmp_path, model)
    served.plan(shop.history(40))
    asked = [served.ask(person, 20_000 + minute) for minute, person in enumerate([1, 1, 2, 99])]
    for id in (asked[1], asked[0], asked[3]):
        served.tell(id, 5.0)
        asked.append(served.ask(1, 20_100 + len(asked)))
    served.start()
    served.plan(shop.history(60, seed=1))
    served.tell(asked[2], 1.5)
    for person in (1, 2, 99):
        asked.append(served.ask(person, 20_300 + len(asked)))
    served.tell(asked[-1], 2.0)
    served.ask(99, 20_400)
    served.ask(99, 20_300)  # before the event that was told
    yield served
    served.stop()


def test_all_that_was_served_agrees_with_batch(served):
    report = served.report()
    assert (report.agrees, report.replayed, dict(report.skipped)) == (True, 12, {})
    assert [feature.compared for feature in report.features] == [12, 12, 12]


def test_the_events_are_those_that_the_server_was_told_in_their_order(served):
    told = told_events(shop.SHOP, served.log())
    assert told["person"].to_list() == [1, 1, 99, 2, 99]
    assert told["rating"].to_list() == [5.0, 5.0, 5.0, 1.5, 2.0]
    assert told["liked"].to_list() == [1.0, 1.0, 1.0, 0.0, 0.0]
    assert told.schema["at"] == pl.Datetime("us", "UTC")


@pytest.mark.parametrize("forgets", ["told", "snapshot"])
def test_a_replay_that_forgets_what_the_server_knew_would_not_agree(served, forgets):
    log = served.log()
    lies = {"told": pl.lit(5, pl.Int64), "snapshot": pl.lit(log["snapshot"][0])}
    wrong = log.with_columns(lies[forgets].alias(forgets))
    assert not replay_predictions(shop.TASTE, shop.SHOP, wrong, served.snapshots, PolarsEngine()).agrees


def rewritten(served, change):
    shop.rewrite_log(served.root, change)


def test_one_value_that_was_served_otherwise_fails_the_check_and_is_shown(served):
    def off_by_a_bit(record):
        if record["inputs"]["person"] == 2:
            record["features"]["mean_rating"] += 2**-50

    rewritten(served, off_by_a_bit)
    evaluation = checked(served)
    assert not evaluation.passed
    assert (
        "2 of 36 values of 12 requests are not those of batch, most of them of 'mean_rating'" in evaluation.description
    )
    assert "| `mean_rating` | 12 | 2 | 0 | 0 |" in evaluation.metadata["values"].value
    assert "| `ratings` | 12 | 0 | 0 | 0 |" in evaluation.metadata["values"].value


def test_a_feature_that_was_not_served_and_one_that_has_no_value_are_told_apart(served):
    rewritten(served, lambda record: record["features"].pop("ratings"))
    counts = {feature.name: (feature.missing, feature.extra) for feature in served.report().features}
    assert counts["ratings"] == (12, 0)
    rewritten(served, lambda record: record["features"].update(ratings=1, liked_share=0.0))
    assert served.report().features[2].extra > 0


def test_the_check_passes_with_its_evidence(served):
    evaluation = checked(served)
    assert evaluation.passed
    assert evaluation.description == "taste: all 36 values of 12 requests are those of batch"
    assert evaluation.metadata["by_product"].value == {"shop": 12}


def test_where_nothing_was_served_the_check_says_so_and_does_not_fail(tmp_path, model):
    evaluation = checked(Served(tmp_path, model))
    assert evaluation.passed
    assert "nothing was served yet" in evaluation.description
    assert evaluation.metadata["replayed"].value == 0


@pytest.mark.parametrize(
    ("change", "reason", "left"),
    [
        (lambda record: record.pop("definitions"), "answered by other definitions", 0),
        (lambda record: record.pop("told"), "the log does not show what the server had been told", 0),
        (lambda record: record.update(told=record["told"] + 100), "the log does not show what the server", 0),
        (lambda record: record.update(snapshot=None), "answered without a snapshot", 0),
        (lambda record: record.update(snapshot="sha256:" + "0" * 64), "its snapshot is gone", 0),
    ],
)
def test_what_cannot_be_replayed_is_counted_with_the_reason(served, change, reason, left):
    rewritten(served, change)
    report = served.report()
    assert (report.replayed, report.agrees) == (left, True)
    ((found, count),) = report.skipped.items()
    assert found.startswith(reason)
    assert count == 12


def test_predictions_of_a_view_that_was_declared_otherwise_are_left_out(served):
    view = replace(shop.TASTE, features=(*shop.TASTE.features, Aggregate(name="events", function="count")))
    report = served.report(view, replace(shop.SHOP, views=(view,)))
    assert (report.replayed, dict(report.skipped)) == (0, {"answered by other definitions": 12})


def test_only_the_newest_predictions_are_replayed(served):
    assert served.report(most=5).replayed == 5


def ledger_of(served):
    return SqlLedger(f"sqlite:///{served.root}/ledger.db")


def test_the_ledger_keeps_each_report_once_under_its_digest(served):
    digests = [checked(served).metadata["digests"].value["shop"] for _ in range(2)]
    served.ask(1, 20_500)
    digests.append(checked(served).metadata["digests"].value["shop"])
    entries = ledger_of(served).entries("shop")
    assert [entry.kind for entry in entries] == [Kind.PARITY_MEASURED] * 2
    assert [entry.body["report"] for entry in entries] == list(dict.fromkeys(digests))
    assert {entry.body["definition"] for entry in entries} == {shop.TASTE.digest}
    assert read_parity(entries[0].body["parity"]).digest == digests[0]
    assert read_parity(entries[1].body["parity"]) == served.report()


def checked(served):
    """Return the evaluation of the check as a run makes it."""

    @dg.asset(key=["features", "taste"])
    def taste():
        """Made elsewhere."""

    resources = {"predictions": FilePredictionLog(served.root / "log"), "snapshots": served.snapshots}
    resources["ledger"] = ledger_of(served)
    defs = dg.Definitions(
        assets=[taste, build_parity_check(shop.TASTE, [shop.SHOP])],
        jobs=[dg.define_asset_job("check", selection=dg.AssetSelection.checks_for_assets(["features", "taste"]))],
        resources=resources,
    )
    with dg.DagsterInstance.ephemeral() as instance:
        result = defs.resolve_job_def("check").execute_in_process(instance=instance)
    (evaluation,) = result.get_asset_check_evaluations()
    return evaluation
