"""The regression suite: defects injected into a reference product, and where each is stopped.

Real ratings, the product's own features, recipe, gates and canary, and the measuring gates beside them; the champion is
a smaller model of the same kind. What passes the gates meets later real ratings as live traffic, entity by entity.
"""

import sys
import tempfile
from dataclasses import replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks._defects import DEFECTS, GOOD, Defect, Wrapped
from deployments.demo.ratings import between, year
from mlops_assets.errors import EvaluationError
from mlops_assets.evaluation.evaluate import NamedModel, evaluate
from mlops_assets.evaluation.report import EvaluationReport
from mlops_assets.evaluation.slice_discovery import Discovery
from mlops_assets.evaluation.slices import Slice
from mlops_assets.features.engine import feature_table
from mlops_assets.features.polars_engine import PolarsEngine
from mlops_assets.features.request import derived_features, row_expressions
from mlops_assets.gates.calibrated import Calibrated
from mlops_assets.gates.gate import MeasuringGate, Verdict
from mlops_assets.gates.latency_budget import LatencyBudget
from mlops_assets.gates.no_leakage import NoLeakage
from mlops_assets.gates.panel import judge_all
from mlops_assets.gates.slices_hold import SlicesHold
from mlops_assets.ledger.entry import Entry
from mlops_assets.products.recommendations import RECOMMENDATIONS as PRODUCT
from mlops_assets.release.simulate import entry_of, roll_out
from mlops_assets.training.lightgbm import train_classifier
from mlops_assets.training.model import Model, digest_of_directory
from mlops_assets.training.package import Package, save_package
from mlops_assets.training.training_set import assemble

RECIPE = PRODUCT.recipes[0]
GENRES = tuple(Slice(name=f"genre {n}", where=f"genre_{n}") for n in ("drama", "comedy", "action", "children"))
GATES = (
    *PRODUCT.gates,
    NoLeakage(too_good=0.9),
    Calibrated(tolerance=0.2),
    LatencyBudget(budget=timedelta(milliseconds=15), quantile=0.9, rows=100, timeout=timedelta(seconds=30)),
    SlicesHold(
        metric="brier", margin=0.05, slices=GENRES, discovery=Discovery(pairs=False, columns=tuple(PRODUCT.features))
    ),
)
POLICY = replace(PRODUCT.policy, gates=GATES)


@cache
def frames() -> dict[str, pl.DataFrame]:
    """Return train, golden and live rows with features and label; live rows come after the golden ones."""
    rows = between(None, year(2006)).with_columns(row_expressions(derived_features(PRODUCT.derived)))
    tables = {view: feature_table(view, rows, PolarsEngine()) for view in PRODUCT.views}
    keys = {"event_time": PRODUCT.event_time, "label": PRODUCT.label, "entity": PRODUCT.entity}
    later = replace(PRODUCT.split, golden=timedelta(days=5 * 365))
    parts = assemble(PRODUCT.name, rows, tables, PRODUCT.request_features, split=later, **keys)
    cut = parts.train[PRODUCT.event_time].max() - PRODUCT.split.golden
    is_golden = pl.col(PRODUCT.event_time) > cut
    return {"train": parts.train.filter(~is_golden), "golden": parts.train.filter(is_golden), "live": parts.golden}


def fit(rows: pl.DataFrame, **changes: Any) -> Any:
    """Return a model of the product's recipe, trained on ``rows``."""
    seed = changes.pop("seed", RECIPE.seed)
    params = {**RECIPE.params, **changes}
    return train_classifier(
        rows, features=PRODUCT.features, label=PRODUCT.label, params=params, seed=seed, progress=lambda *_: None
    )


@cache
def champion() -> Any:
    """Return the champion: the same recipe with few rounds."""
    return fit(frames()["train"], num_boost_round=8)


@cache
def earlier() -> Entry:
    """Return the entry of an earlier comparison, by which gates know how widely such comparisons scatter."""
    two = [(f"sha256:earlier {seed}", fit(frames()["train"], seed=seed)) for seed in (21, 22)]
    return entry_of(_report(two[0], two[1], frames()["golden"]), 1)


def try_one(defect: Defect, strength: float) -> tuple[str, float]:
    """Return where a candidate was stopped (or that it was promoted), and how many requests it answered till then."""
    spoilt = defect.spoil(frames(), strength)
    model = defect.model(fit(spoilt["train"], **defect.params(strength)), strength)
    with tempfile.TemporaryDirectory() as scratch:
        try:
            objections = _objections(model, spoilt, Path(scratch) / "model")
        except EvaluationError as error:
            objections = f"evaluation: {error}"
    if objections:
        return f"offline, by {objections.split(':')[0]}", 0.0
    rolled = roll_out(POLICY, _live_gains(model, spoilt["live"]))
    if rolled.end == "rolled back":
        return f"live, at {rolled.percent} %", rolled.exposed_requests
    return rolled.end, rolled.exposed_requests


def _objections(model: Model, spoilt: Any, directory: Path) -> str:
    loader = "benchmarks._defects:load_wrapped" if isinstance(model, Wrapped) else RECIPE.loader
    save_package(model, Package(loader=loader, features=tuple(model.features)), directory)
    report = _report(
        (digest_of_directory(directory), model),
        ("sha256:champion", champion()),
        spoilt["golden"],
        measurements=[gate for gate in GATES if isinstance(gate, MeasuringGate)],
        aids={"directory": directory, "train": lambda: spoilt["train"]},
    )
    panel = judge_all(GATES, report, POLICY.errors.known(GATES, report, entries=[earlier()]))
    return "" if panel.verdict is Verdict.PASSED else panel.objections


def _report(ours: NamedModel, theirs: NamedModel, golden: pl.DataFrame, **more: Any) -> EvaluationReport:
    return evaluate(
        PRODUCT.name,
        candidate=ours,
        champion=theirs,
        golden=golden,
        golden_digest="sha256:golden",
        label=PRODUCT.label,
        cluster=PRODUCT.entity,
        metrics=PRODUCT.metrics,
        resamples=999,
        **more,
    )


def _live_gains(model: Model, live: pl.DataFrame) -> Any:
    """Return the mean gain of each person over their first outcomes, in the order these became complete."""
    clean = frames()["live"]
    labels = clean[PRODUCT.label].to_numpy()
    ours, theirs = model.predict(live), champion().predict(clean)
    gain = np.square(theirs - labels) - np.square(ours - labels)
    counted = np.where(np.isfinite(gain), gain, -np.inf)
    rows = clean.select(PRODUCT.entity, PRODUCT.event_time).with_columns(gain=pl.Series(counted))
    first = rows.group_by(PRODUCT.entity, maintain_order=True).head(POLICY.analysis.outcomes_per_unit)
    units = first.group_by(PRODUCT.entity, maintain_order=True).agg(
        pl.len(), pl.col("gain").mean(), pl.col(PRODUCT.event_time).max()
    )
    whole = units.filter(pl.col("len") == POLICY.analysis.outcomes_per_unit).sort(PRODUCT.event_time)
    return whole["gain"].to_numpy()


def regression_suite() -> list[dict[str, Any]]:
    """Return the shares of injected defects stopped before traffic and reaching all of it, and of good ones stopped.

    The table, a line for each kind and strength, goes to stderr. Baselines: 1 for what ought to be stopped, and for the
    other two the share that a platform without gates and canary lets through, or stops: all, and none (as 0.05).
    """
    bad = [_told(defect, strength) for defect in DEFECTS for strength in defect.strengths]
    good = [_told(defect, strength) for defect in GOOD for strength in defect.strengths]
    before = np.mean([end.startswith("offline") for end, _ in bad])
    promoted = np.mean([end == "promoted" for end, _ in bad])
    stopped = np.mean([end != "promoted" for end, _ in good])
    return [
        {
            "name": "gates.defects_stopped_before_traffic",
            "value": before,
            "unit": "share",
            "baseline": 1.0,
            "ratio": before,
        },
        {
            "name": "gates.defects_reaching_full_traffic",
            "value": promoted,
            "unit": "share",
            "baseline": 1.0,
            "ratio": 1 / max(promoted, 1e-9),
        },
        {
            "name": "gates.good_candidates_stopped",
            "value": stopped,
            "unit": "share",
            "baseline": 0.05,
            "ratio": 0.05 / max(stopped, 1e-9),
        },
    ]


def _told(defect: Defect, strength: float) -> tuple[str, float]:
    end, exposed = try_one(defect, strength)
    print(f"{defect.name:34} {strength:6g}   {end:42} {exposed:6.0f} requests", file=sys.stderr, flush=True)
    return end, exposed


regression_suite.group = "gates"  # type: ignore[attr-defined]
FIGURES = [regression_suite]
