"""What the report shows, gathered from where the platform keeps it: ledger, prediction log, registry, snapshots."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from deployments.demo import ratings
from deployments.demo.pictures import DriftBar, Event, LiveSequence, MetricPoint
from deployments.demo.report import Act, DemoStory
from mlops_assets.evaluation.report import EvaluationReport
from mlops_assets.ledger.entry import Entry, Kind, Ledger
from mlops_assets.ledger.explain import why_live
from mlops_assets.ledger.state import fold
from mlops_assets.products.recommendations import RECOMMENDATIONS as PRODUCT
from mlops_assets.training.lightgbm import LightGBMModel
from mlops_assets.training.package import load_model
from resources.stores import local_registry, local_snapshots, prediction_log

NAME = PRODUCT.name
METRICS = ("brier", "roc_auc")
SHAP_ROWS = 2000


def gather(ledger: Ledger, acts: Sequence[Act], home: Path) -> DemoStory:
    """Return the story as plain data; parts that never happened are left empty."""
    entries = list(ledger.entries(NAME))
    log = prediction_log(home).predictions(NAME)
    drift = _last(entries, Kind.DRIFT_FOUND)
    return DemoStory(
        title="One true story of a recommender",
        summary="Trained, judged, released by canary; a bad one stopped, a sneaky one rolled back, drift answered.",
        acts=acts,
        facts=_facts(entries, log),
        traffic=log.select("at", "version") if log.height else None,
        versions=_names(entries),
        events=_events(entries),
        metrics=_metric_points(entries),
        live=_live_sequences(entries),
        shap=_shap(entries, home),
        drift=_drift_bars(drift),
        drift_window=str(drift.body["window"]) if drift else "",
        why_live=why_live(entries, NAME).to_text(),
        ledger=entries,
        verified_entries=ledger.verify(),
        attribution=ratings.ATTRIBUTION,
    )


def _facts(entries: Sequence[Entry], log: pl.DataFrame) -> dict[str, str]:
    state = fold(entries)
    return {
        "requests answered": f"{log.height:,}",
        "outcomes known": f"{log['outcome'].count():,}",
        "candidates judged": str(len(state.judged)),
        "released": str(len(state.released)),
        "rolled back": str(len(state.rolled_back)),
        "median milliseconds to answer": f"{_median_milliseconds(log):.2f}",
    }


def _median_milliseconds(log: pl.DataFrame) -> float:
    middle = log["latency_seconds"].median()
    return 1000 * middle if isinstance(middle, float) else float("nan")


def _names(entries: Sequence[Entry]) -> dict[str, str]:
    registered = [entry.body for entry in entries if entry.kind is Kind.CANDIDATE_REGISTERED]
    return {body["candidate"]: f"version {body['version']} ({body['recipe']})" for body in registered}


def _events(entries: Sequence[Entry]) -> list[Event]:
    found = []
    for entry in entries:
        if entry.kind in {Kind.RELEASED, Kind.ROLLOUT_MOVED}:
            rollout = entry.body["rollout"]
            bad = rollout["phase"] == "ROLLED_BACK"
            found.append(Event(at=entry.at, label="rolled back" if bad else f"{rollout['percent']} %", bad=bad))
        elif entry.kind is Kind.DRIFT_FOUND:
            found.append(Event(at=entry.at, label="drift"))
    return found


def _metric_points(entries: Sequence[Entry]) -> list[MetricPoint]:
    names = _names(entries)
    points = []
    for entry in entries:
        if entry.kind is not Kind.JUDGED:
            continue
        report = EvaluationReport.from_json(entry.body["evaluation"])
        for role, metrics in (("candidate", report.candidate_metrics), ("champion", report.champion_metrics)):
            for metric in METRICS:
                if metric in metrics:
                    found = metrics[metric]
                    points.append(
                        MetricPoint(
                            act=names.get(report.candidate, report.candidate[7:15]),
                            role=role,
                            metric=metric,
                            value=found.value,
                            low=found.low,
                            high=found.high,
                        )
                    )
    return points


def _live_sequences(entries: Sequence[Entry]) -> list[LiveSequence]:
    """Return the analysis at the end of each rollout that was compared with a champion."""
    names = _names(entries)
    released = {entry.body["release"]: entry.body["candidate"] for entry in entries if entry.kind is Kind.RELEASED}
    last = {entry.body["release"]: entry for entry in entries if entry.kind is Kind.ROLLOUT_MOVED}
    found = []
    for release, entry in last.items():
        series = entry.body["evidence"]["series"]
        if series:
            units, gain, low, high = (list(column) for column in zip(*series, strict=True))
            title = names.get(released[release], release)
            found.append(
                LiveSequence(
                    title=title,
                    units=units,
                    gain=gain,
                    low=low,
                    high=high,
                    margin=PRODUCT.analysis.margin,
                    verdict=entry.body["verdict"],
                )
            )
    return found


def _shap(entries: Sequence[Entry], home: Path) -> dict[str, float]:
    """Return the mean absolute SHAP value by feature of the live model, over some golden rows of its evaluation."""
    champion = fold(entries).champion
    if champion is None:
        return {}
    model = load_model(local_registry(home).fetch(NAME, champion.digest, home / "report"))
    if not isinstance(model, LightGBMModel):
        return {}
    judged = fold(entries).judged[champion.digest]
    golden = local_snapshots(home).read(judged.body["evaluation"]["golden"])
    rows = golden.sample(min(SHAP_ROWS, golden.height), seed=0)
    values = np.abs(model.contributions(rows)[:, :-1]).mean(axis=0)
    return dict(zip(model.features, map(float, values), strict=True))


def _drift_bars(drift: Entry | None) -> list[DriftBar]:
    if drift is None:
        return []
    return [
        DriftBar(name=column["name"], effect=column["effect"], threshold=column["threshold"], drifted=column["drifted"])
        for column in drift.body.get("measured", [])
        if column["effect"] is not None
    ]


def _last(entries: Sequence[Entry], kind: Kind) -> Entry | None:
    return next((entry for entry in reversed(entries) if entry.kind is kind), None)
