"""What a dataset must hold, and what happens to rows that don't.

Belongs here: the contract, validation, quarantine. A row that breaks a check is set aside with its reasons; a frame
that has not the columns and types, or has too many bad rows, stops the run.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pandera.polars as pa
import polars as pl
from pandera.config import ValidationDepth, config_context
from pandera.errors import SchemaErrors

from mlops_assets.errors import ContractBreached

_ROW = "__row__"


@dataclass(frozen=True, slots=True, kw_only=True)
class DataContract:
    """A pandera schema for Polars, the share of bad rows it tolerates, and columns whose values name a row once."""

    schema: pa.DataFrameSchema
    tolerance: float = 0.0
    unique: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns it speaks of."""
        return tuple(self.schema.columns)

    def faults(self) -> list[str]:
        """Return what is wrong with the declaration, one sentence each."""
        found = []
        if not 0 <= self.tolerance < 1:
            found.append(f"tolerance is a share of rows, at least 0 and below 1; found {self.tolerance}")
        unknown = [name for name in self.unique if name not in self.columns]
        if unknown:
            found.append(f"unique names the unknown columns {unknown}; known: {list(self.columns)}")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Validated:
    """Rows that keep the contract, and those that don't with a list of ``reasons``, each in their first order."""

    good: pl.DataFrame
    quarantined: pl.DataFrame
    failures: Mapping[str, int] = field(default_factory=dict)

    @property
    def bad_share(self) -> float:
        """Share of rows that were quarantined."""
        return self.quarantined.height / max(1, self.good.height + self.quarantined.height)


def validate(frame: pl.DataFrame, contract: DataContract, *, product: str) -> Validated:
    """Return ``frame`` split by the contract.

    ``ContractBreached`` when a column is missing or of another type, and when more rows are bad than it tolerates; the
    message names the counts and the worst reasons.
    """
    frame = _with_declared_columns(frame, contract, product)
    reasons = pl.concat([_check_reasons(frame, contract, product), _duplicate_reasons(frame, contract)])
    by_row = reasons.group_by(_ROW).agg(pl.col("reason").sort().alias("reasons"))
    marked = frame.with_row_index(_ROW).join(by_row, on=_ROW, how="left", maintain_order="left").drop(_ROW)
    validated = Validated(
        good=marked.filter(pl.col("reasons").is_null()).drop("reasons"),
        quarantined=marked.filter(pl.col("reasons").is_not_null()),
        failures=dict(reasons.group_by("reason").len().sort("len", "reason", descending=True).iter_rows()),
    )
    if validated.bad_share > contract.tolerance:
        raise ContractBreached(_breach(validated, contract, product))
    return validated


def _with_declared_columns(frame: pl.DataFrame, contract: DataContract, product: str) -> pl.DataFrame:
    missing = [name for name in contract.columns if name not in frame.columns]
    if missing:
        raise ContractBreached(f"{product}: the source lacks the columns {missing}; it has {frame.columns}")
    wrong = {
        name: (frame.schema[name], column.dtype.type)
        for name, column in contract.schema.columns.items()
        if column.dtype is not None and frame.schema[name] != column.dtype.type
    }
    if wrong:
        found = "; ".join(f"{name!r} is {has}, must be {must}" for name, (has, must) in wrong.items())
        raise ContractBreached(f"{product}: columns of another type: {found}; mend the source or the contract")
    return frame.select(contract.columns)


def _check_reasons(frame: pl.DataFrame, contract: DataContract, product: str) -> pl.DataFrame:
    """Return (row, reason) of every check that a row breaks, NaN in a column that must have values included."""
    found = [_no_reasons()]
    with config_context(validation_depth=ValidationDepth.SCHEMA_AND_DATA):
        try:
            contract.schema.validate(frame, lazy=True)
        except SchemaErrors as errors:
            found.append(_reasons_of(errors, product))
    for name in (name for name in frame.columns if frame.schema[name].is_float()):
        rows = frame.with_row_index(_ROW).filter(pl.col(name).is_nan()).select(pl.col(_ROW).cast(pl.UInt32))
        found.append(rows.with_columns(pl.lit(f"{name}: NaN").alias("reason")))
    return pl.concat(found).unique()


def _reasons_of(errors: SchemaErrors, product: str) -> pl.DataFrame:
    cases: pl.DataFrame = errors.failure_cases
    whole = cases.filter(pl.col("index").is_null())
    if whole.height:
        first = whole.row(0, named=True)
        raise ContractBreached(
            f"{product}: column {first['column']!r} breaks {first['check']}: {first['failure_case']}"
        )
    return cases.select(
        pl.col("index").cast(pl.UInt32).alias(_ROW),
        pl.format("{}: {}", pl.col("column").fill_null("row"), pl.col("check")).alias("reason"),
    )


def _duplicate_reasons(frame: pl.DataFrame, contract: DataContract) -> pl.DataFrame:
    """Return (row, reason) of every row whose key an earlier row has."""
    if not contract.unique:
        return _no_reasons()
    later = pl.int_range(pl.len()).over(contract.unique) > 0
    rows = frame.with_row_index(_ROW).filter(later).select(pl.col(_ROW).cast(pl.UInt32))
    return rows.with_columns(pl.lit(f"{', '.join(contract.unique)}: there already").alias("reason"))


def _no_reasons() -> pl.DataFrame:
    return pl.DataFrame(schema={_ROW: pl.UInt32, "reason": pl.String})


def _breach(validated: Validated, contract: DataContract, product: str) -> str:
    rows = validated.good.height + validated.quarantined.height
    worst = "; ".join(f"{reason} ({count} rows)" for reason, count in list(validated.failures.items())[:5])
    return (
        f"{product}: {validated.quarantined.height} of {rows} rows ({validated.bad_share:.2%}) break the contract, "
        f"{contract.tolerance:.2%} are tolerated. Worst: {worst}. Mend the source, or raise the tolerance knowingly."
    )
