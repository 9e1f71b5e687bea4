"""A gate against what makes a model look good offline and be useless live: features that know the answer."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any

import numpy as np
import polars as pl

from mlops_assets.evaluation.comparison import estimate
from mlops_assets.evaluation.metrics import Floats, require_binary, roc_auc
from mlops_assets.evaluation.report import EvaluationReport
from mlops_assets.evaluation.workbench import Workbench
from mlops_assets.gates.gate import NOTHING, Judgement, Known, Verdict, measurement

BY_LEVEL = (pl.String, pl.Categorical, pl.Enum)
"""Types whose values have no order that means anything: each level counts as the label's mean in training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoLeakage:
    """Pass a candidate whose features could be known in time, none of which knows the answer.

    ``FAILED`` when the model reads the label or a column that is ``unavailable`` at prediction time; when a feature is
    the label or its negation in every row; when a single feature separates the classes of the golden set with an area
    under the ROC curve above ``too_good``, shown at ``alpha`` over all features (target leakage: Kaufman et al.,
    "Leakage in Data Mining", ACM TKDD 6, 2012); or when rows of the golden set were trained on: rows that agree in
    ``key``, by default in all columns that both have. ``INCONCLUSIVE`` when the rows are too few to say that every
    feature stays below ``too_good``, when there is nothing to compare with, or when a feature is of a type that cannot
    be looked at. The area sees what rises or falls with the label; a feature that turns back goes unseen.
    """

    unavailable: tuple[str, ...] = ()
    key: tuple[str, ...] = ()
    too_good: float = 0.98
    alpha: float = 0.05
    name: str = "no_leakage"

    @property
    def metrics(self) -> frozenset[str]:
        """None: it looks at the features."""
        return frozenset()

    def faults(self) -> list[str]:
        """Return what is wrong with the declaration, one sentence each."""
        found = [] if self.name.isidentifier() else [f"{self.name!r}: name must be letters, digits and underscores"]
        if not 0.5 < self.too_good < 1:
            found.append(f"{self.name}: too_good is {self.too_good}, must be above 0.5 and below 1")
        if not 0 < self.alpha <= 0.5:
            found.append(f"{self.name}: alpha is {self.alpha}, must be above 0 and at most 0.5")
        return found

    def measure(self, bench: Workbench) -> Mapping[str, Any]:
        """Return what single features reach, which cannot be looked at, and how many rows both parts share."""
        require_binary(bench.labels)
        train = bench.train()
        names = [name for name in bench.candidate.model.features if name in bench.golden.columns]
        alpha = self.alpha / max(1, len(names))
        scores = {name: _as_scores(bench.golden[name], train, bench.label) for name in names}
        alone = {name: _alone(bench, values, alpha) for name, values in scores.items() if values is not None}
        model = _alone(bench, bench.candidate.scores, self.alpha)
        return {
            "features": list(bench.candidate.model.features),
            "label": bench.label,
            "alone": {name: facts for name, facts in alone.items() if facts is not None},
            "undefined": [name for name, facts in alone.items() if facts is None],
            "unreadable": {name: str(bench.golden.schema[name]) for name in names if scores[name] is None},
            "copies": [name for name in names if _is_copy(name, bench.label, train, bench.golden)],
            "model": model,
            "shared_rows": _shared_rows(train, bench.golden, self.key) if train.height else 0,
            "train_rows": train.height,
            "golden_rows": bench.golden.height,
        }

    def judge(self, report: EvaluationReport, known: Known = NOTHING) -> Judgement:
        """Decide by the features' names, by what each reaches alone, and by the rows that were trained on."""
        found = measurement(report, self.name)
        if isinstance(found, Judgement):
            return found
        alone = found["alone"]
        needed = {name: _needed(facts, self.too_good, report.clusters) for name, facts in alone.items()}
        evidence = {"too_good": self.too_good, "alpha": self.alpha, "shared_rows": found["shared_rows"]}
        evidence |= {"alone": alone, "as_good_as_the_model": _as_good_as_the_model(alone, found["model"])}
        evidence |= {"clusters": report.clusters, "clusters_needed": {name: n for name, n in needed.items() if n}}
        if said := self._breaches(found):
            return Judgement(Verdict.FAILED, "; ".join(said), evidence)
        if doubts := self._doubts(found, needed, report.clusters):
            return Judgement(Verdict.INCONCLUSIVE, "; ".join(doubts), evidence)
        best = max(alone, key=lambda name: alone[name]["value"], default=None)
        strongest = f"; the strongest alone is {best!r}, AUC {alone[best]['value']:.3f}" if best else ""
        return Judgement(Verdict.PASSED, f"no feature knows the answer and no row was seen{strongest}", evidence)

    def _breaches(self, found: Mapping[str, Any]) -> list[str]:
        forbidden = {*self.unavailable, found["label"]}
        said = [f"the model reads {name!r}" for name in found["features"] if name in forbidden]
        rows = found["train_rows"] + found["golden_rows"]
        said += [f"{name!r} is the label or its negation in all {rows} rows" for name in found["copies"]]
        said += [
            f"{name!r} alone separates the classes (AUC {facts['value']:.3f}, at least {facts['low']:.3f})"
            for name, facts in found["alone"].items()
            if facts["low"] > self.too_good
        ]
        if found["shared_rows"]:
            said.append(f"{found['shared_rows']} of {found['golden_rows']} golden rows were trained on")
        return said

    def _doubts(self, found: Mapping[str, Any], needed: Mapping[str, int | None], clusters: int) -> list[str]:
        said = [
            f"{name!r} alone could separate the classes (AUC {facts['value']:.3f}, up to {facts['high']:.3f}) on"
            f" {clusters} entities" + (f", about {needed[name]} are needed" if needed[name] else "")
            for name, facts in found["alone"].items()
            if facts["high"] > self.too_good
        ]
        if found["undefined"]:
            names = ", ".join(found["undefined"])
            said.append(f"nothing is known of {names}: needs two entities and both classes, found {clusters} entities")
        said += [f"{name!r} cannot be looked at: it is {dtype}" for name, dtype in found["unreadable"].items()]
        return said if found["train_rows"] else [*said, "there are no training rows to compare with"]


def _alone(bench: Workbench, values: Floats, alpha: float) -> dict[str, float] | None:
    """Return how well values separate the classes, whichever way they point; ``None`` where that is undefined."""
    found = estimate(values, bench.labels, bench.clusters, roc_auc(), confidence=1 - 2 * alpha, resamples=1999)
    if found is None:
        return None
    if found.value < 0.5:
        return {"value": 1 - found.value, "low": 1 - found.high, "high": 1 - found.low}
    return asdict(found)


def _as_scores(column: pl.Series, train: pl.DataFrame, label: str) -> Floats | None:
    """Return a column as numbers: levels by the label's mean in training, nulls and NaN below all; ``None`` if not."""
    if column.dtype in BY_LEVEL:
        if column.name not in train.columns:
            return None
        name = pl.col(column.name).cast(pl.String)
        means = train.group_by(name).agg(pl.col(label).cast(pl.Float64).mean().alias("mean"))
        column = (
            column.cast(pl.String).to_frame().join(means, on=column.name, how="left", maintain_order="left")["mean"]
        )
    elif column.dtype.is_temporal():
        column = column.to_physical()
    elif not (column.dtype.is_numeric() or column.dtype in (pl.Boolean, pl.Null)):
        return None
    values = column.cast(pl.Float64).fill_nan(None).to_numpy()
    known = np.isfinite(values)
    lowest = values[known].min() if known.any() else 0.0
    return np.asarray(np.where(known, values, lowest - 1 - abs(lowest)))


def _is_copy(name: str, label: str, train: pl.DataFrame, golden: pl.DataFrame) -> bool:
    """Return whether a feature is the label, or one less it, in every row of both parts, which have both classes."""
    parts = [part for part in (train, golden) if name in part.columns]
    if name == label or not all(part.schema[name].is_numeric() or part.schema[name] == pl.Boolean for part in parts):
        return False
    pairs = pl.concat([part.select(pl.col(name, label).cast(pl.Float64)) for part in parts])
    if pairs[label].n_unique() < 2 or pairs[name].null_count():
        return False
    return bool((pairs[name] == pairs[label]).all() or (pairs[name] == 1 - pairs[label]).all())


def _needed(facts: Mapping[str, float], too_good: float, clusters: int) -> int | None:
    """Return about how many entities would decide, as bounds narrow with their square root; ``None`` if no number."""
    distance = abs(facts["value"] - too_good)
    width = max(facts["high"] - facts["value"], facts["value"] - facts["low"])
    return ceil(clusters * (width / distance) ** 2) if distance and width else None


def _as_good_as_the_model(alone: Mapping[str, Any], model: Mapping[str, float] | None) -> list[str]:
    """Return the features that alone reach the model's own area within noise, unless all of them do."""
    if model is None:
        return []
    found = [name for name, facts in alone.items() if facts["high"] >= model["value"]]
    return found if len(found) < len(alone) else []


def _shared_rows(train: pl.DataFrame, golden: pl.DataFrame, key: tuple[str, ...]) -> int:
    columns = list(key) or [
        name for name in golden.columns if name in train.columns and not golden.schema[name].is_nested()
    ]
    seen = train.select(columns).unique()
    return golden.select(columns).join(seen, on=columns, how="semi", nulls_equal=True).height
