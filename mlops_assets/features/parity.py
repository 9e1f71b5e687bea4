"""Whether what was served is what batch computes: values of features side by side, and what to say of them.

Belongs here: the comparison. Not here: what the server knew when it answered (``replay.py``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import polars as pl

from mlops_assets.features.view import FeatureView
from mlops_assets.ledger.canonical import Digest, digest_of

MOST_EXAMPLES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureParity:
    """One feature: of ``compared`` values, how many are others, and how many only one side has.

    ``missing`` was not served though batch has it, ``extra`` was served though batch has none. ``examples`` tell which.
    """

    name: str
    compared: int
    mismatches: int
    missing: int
    extra: int
    examples: tuple[str, ...] = ()

    @property
    def differences(self) -> int:
        """How many values differ in any way."""
        return self.mismatches + self.missing + self.extra


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityReport:
    """Served values of a view against batch: ``replayed`` requests, and those that could not be, by reason."""

    view: str
    replayed: int
    features: tuple[FeatureParity, ...]
    skipped: Mapping[str, int] = field(default_factory=dict)

    @property
    def differences(self) -> int:
        """How many values differ in any way, over all features."""
        return sum(feature.differences for feature in self.features)

    @property
    def is_evidence(self) -> bool:
        """Anything was compared; without it a gate can say nothing."""
        return self.replayed > 0

    @property
    def agrees(self) -> bool:
        """Nothing differs; so too if nothing was compared."""
        return self.differences == 0

    @property
    def summary(self) -> str:
        """The report in one sentence."""
        if not self.is_evidence:
            return f"{self.view}: nothing was served yet that can be replayed"
        values = sum(feature.compared for feature in self.features)
        if self.agrees:
            return f"{self.view}: all {values} values of {self.replayed} requests are those of batch"
        worst = max(self.features, key=lambda feature: feature.differences)
        return (
            f"{self.view}: {self.differences} of {values} values of {self.replayed} requests are not those of batch, "
            f"most of them of {worst.name!r}, such as {'; '.join(worst.examples[:1])}"
        )

    @property
    def digest(self) -> Digest:
        """The digest of ``to_json()``: what a judgement points at."""
        return digest_of(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON value; ``read_parity`` reads it back."""
        return {
            "view": self.view,
            "replayed": self.replayed,
            "skipped": dict(self.skipped),
            "features": [
                {
                    "name": feature.name,
                    "compared": feature.compared,
                    "mismatches": feature.mismatches,
                    "missing": feature.missing,
                    "extra": feature.extra,
                    "examples": list(feature.examples),
                }
                for feature in self.features
            ],
        }


def read_parity(value: Mapping[str, Any]) -> ParityReport:
    """Return the report of which ``value`` is the JSON; ``TypeError`` or ``KeyError`` on anything else."""
    features = tuple(
        FeatureParity(**{**feature, "examples": tuple(feature["examples"])}) for feature in value["features"]
    )
    return ParityReport(
        view=value["view"], replayed=value["replayed"], features=features, skipped=dict(value["skipped"])
    )


def compare(view: FeatureView, names: Sequence[str], served: pl.DataFrame, batch: pl.DataFrame) -> ParityReport:
    """Return how ``served`` values, a row per request as ``names`` call them, compare with those of ``batch``.

    Both hold the view's features, ``batch`` as an engine gives them and ``served`` as a log of JSON does (times are
    text). Values are equal to the last bit or they differ; a column that ``served`` lacks was never served.
    """
    compared = [_compare(name, names, served, batch[name]) for name in view.feature_names]
    return ParityReport(view=view.name, replayed=batch.height, features=tuple(compared))


def merged(reports: Sequence[ParityReport], view: FeatureView) -> ParityReport:
    """Return one report of several of the same view, of different requests."""
    skipped: dict[str, int] = {}
    for report in reports:
        for reason, count in report.skipped.items():
            skipped[reason] = skipped.get(reason, 0) + count
    features = []
    for name in view.feature_names:
        parts = [feature for report in reports for feature in report.features if feature.name == name]
        features.append(
            FeatureParity(
                name=name,
                compared=sum(part.compared for part in parts),
                mismatches=sum(part.mismatches for part in parts),
                missing=sum(part.missing for part in parts),
                extra=sum(part.extra for part in parts),
                examples=tuple(example for part in parts for example in part.examples)[:MOST_EXAMPLES],
            )
        )
    replayed = sum(report.replayed for report in reports)
    return ParityReport(view=view.name, replayed=replayed, features=tuple(features), skipped=skipped)


def _compare(name: str, names: Sequence[str], served: pl.DataFrame, batch: pl.Series) -> FeatureParity:
    column = served[name] if name in served.columns else pl.Series(name, [None] * len(batch), batch.dtype)
    sides = pl.DataFrame({"served": _as(column, batch.dtype), "batch": batch, "was": column.is_not_null()})
    found = sides.select(
        missing=~pl.col("was") & pl.col("batch").is_not_null(),
        extra=pl.col("was") & pl.col("batch").is_null(),
        other=pl.col("was") & pl.col("batch").is_not_null() & pl.col("served").ne_missing(pl.col("batch")),
    )
    places = found.select(pl.any_horizontal(pl.all()).arg_true()).to_series()[:MOST_EXAMPLES].to_list()
    return FeatureParity(
        name=name,
        compared=len(batch),
        mismatches=int(found["other"].sum()),
        missing=int(found["missing"].sum()),
        extra=int(found["extra"].sum()),
        examples=tuple(f"{names[at]}: served {column[at]!r}, batch {batch[at]!r}" for at in places),
    )


def _as(column: pl.Series, dtype: pl.DataType) -> pl.Series:
    """Return logged values as batch has them: numbers as they are, times read from text; null what is no such value."""
    inner = dtype.inner if isinstance(dtype, pl.List) else dtype
    if inner.is_temporal():
        return pl.Series(column.name, [_read_times(value) for value in column.to_list()], dtype, strict=False)
    if column.dtype == dtype or (column.dtype.is_numeric() and dtype.is_numeric()):
        return column
    is_list = isinstance(column.dtype, pl.List)
    if is_list != isinstance(dtype, pl.List):
        return pl.Series(column.name, [None] * len(column), dtype)
    return column.cast(dtype, strict=False)


def _read_times(value: Any) -> Any:
    """Return text in ISO 8601, also in a list, as times; what is neither is None."""
    if isinstance(value, list):
        return [_read_times(item) for item in value]
    try:
        return datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        return None
