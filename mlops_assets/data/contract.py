"""What a dataset must hold, and what happens to rows that don't.

Belongs here: the contract, validation, quarantine. A row that breaks a check is set aside with its reasons; a frame
that has not the columns and types, or has too many bad rows, stops the run.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandera.polars as pa
import polars as pl
from pandera.config import ValidationDepth, config_context
from pandera.constants import CHECK_OUTPUT_KEY
from pandera.errors import SchemaError, SchemaErrors

from mlops_assets.errors import ContractBreached

REASONS = "reasons"
_ROW = "__row__"
_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class DataContract:
    """A pandera schema for Polars, the share of bad rows it tolerates, and columns whose values name a row once.

    ``schema`` is a ``DataFrameSchema`` of ``pandera.polars``; a ``DataFrameModel`` class is turned into one. Columns it
    does not speak of are kept, unless it is strict. A row is bad if it breaks a check, has a null where none may be,
    NaN in a declared column, or the ``unique`` columns of an earlier good row. A check that has one answer for the
    whole frame stops the run if the answer is no.
    """

    schema: pa.DataFrameSchema
    tolerance: float = 0.0
    unique: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        declared: Any = self.schema
        if isinstance(declared, type) and issubclass(declared, pa.DataFrameModel):
            object.__setattr__(self, "schema", declared.to_schema())

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns it speaks of."""
        return tuple(getattr(self.schema, "columns", ()))

    def faults(self) -> list[str]:
        """Return what is wrong with the declaration, one sentence each."""
        found = []
        if not 0 <= self.tolerance <= 1:
            found.append(f"tolerance is a share of rows, 0 to 1; found {self.tolerance}")
        declared: Any = self.schema
        if not isinstance(declared, pa.DataFrameSchema):
            return [*found, f"schema must be a pandera.polars DataFrameSchema or DataFrameModel, found {declared!r}"]
        unknown = [name for name in self.unique if name not in self.columns]
        if unknown:
            found.append(f"unique names the unknown columns {unknown}; known: {list(self.columns)}")
        found += [f"unique names {name!r} {n} times" for name, n in Counter(self.unique).items() if n > 1]
        if not self.columns:
            found.append("schema declares no column")
        if REASONS in self.columns:
            found.append(f"the column {REASONS!r} is the quarantine's own; call it otherwise")
        if self.schema.drop_invalid_rows:
            found.append("drop_invalid_rows would hide bad rows; leave it off, they are quarantined")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Validated:
    """Rows that keep the contract, and those that don't with a list of ``reasons``, each in their first order.

    ``failures`` counts the rows by reason, the most frequent first.
    """

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
    message names the counts, the worst reasons and examples.
    """
    if REASONS in frame.columns or _ROW in frame.columns:
        raise ContractBreached(f"{product}: the source has a column {REASONS!r} or {_ROW!r}; call it otherwise there")
    frame = _shaped(frame, contract, product)
    reasons = _no_reasons()
    with config_context(validation_enabled=True, validation_depth=ValidationDepth.SCHEMA_AND_DATA):
        try:
            contract.schema.validate(frame, lazy=True)
        except SchemaErrors as errors:
            reasons = pl.concat([reasons, *_reasons_of(errors, frame, product)])
        except pl.exceptions.PolarsError as error:
            raise ContractBreached(f"{product}: the contract's checks have no answer by row: {error}") from error
    reasons = pl.concat([reasons, *_not_a_number(frame, contract)])
    reasons = pl.concat([reasons, _duplicates(frame, reasons, contract)]).unique()
    validated = _split(frame, reasons)
    if validated.bad_share > contract.tolerance:
        raise ContractBreached(_breach(validated, contract, product))
    return validated


def _shaped(frame: pl.DataFrame, contract: DataContract, product: str) -> pl.DataFrame:
    """Return the frame with the contract's columns and types, coerced where it says so."""
    try:
        with config_context(validation_enabled=True, validation_depth=ValidationDepth.SCHEMA_ONLY):
            shaped: pl.DataFrame = contract.schema.validate(frame, lazy=True)
            return shaped
    except SchemaErrors as errors:
        found = "; ".join(_fault(error) for error in errors.schema_errors)
    except pl.exceptions.PolarsError as error:
        found = str(error).partition("\n")[0]
    raise ContractBreached(f"{product}: the source has not the contract's columns: {found}. Found {frame.schema}")


def _reasons_of(errors: SchemaErrors, frame: pl.DataFrame, product: str) -> Iterator[pl.DataFrame]:
    """Yield (row, reason) by the checks' own answers; pandera's table of failures may be cut short or be of one row."""
    for error in errors.schema_errors:
        answers = error.check_output
        if answers is None or answers.height != frame.height:
            raise ContractBreached(f"{product}: the frame as a whole breaks the contract: {_fault(error)}")
        yield _rows(~answers[CHECK_OUTPUT_KEY].fill_null(True), f"{error.column_name or 'row'}: {_check_name(error)}")


def _not_a_number(frame: pl.DataFrame, contract: DataContract) -> Iterator[pl.DataFrame]:
    """Yield the rows with NaN, which Polars takes to be greater than any number, so that checks may let it pass."""
    for name in contract.columns:
        if name in frame.columns and frame.schema[name].is_float():
            yield _rows(frame[name].is_nan().fill_null(False), f"{name}: NaN")


def _duplicates(frame: pl.DataFrame, reasons: pl.DataFrame, contract: DataContract) -> pl.DataFrame:
    """Return (row, reason) of every otherwise good row whose key an earlier such row has; nulls equal nulls."""
    if not contract.unique:
        return _no_reasons()
    keys = frame.select(contract.unique).with_row_index(_ROW).join(reasons, on=_ROW, how="anti", maintain_order="left")
    later = keys.filter(~pl.struct(contract.unique).is_first_distinct()).select(_ROW)
    return later.with_columns(pl.lit(f"{', '.join(contract.unique)}: there already").alias("reason"))


def _split(frame: pl.DataFrame, reasons: pl.DataFrame) -> Validated:
    by_row = reasons.group_by(_ROW).agg(pl.col("reason").sort().alias(REASONS))
    marked = frame.with_row_index(_ROW).join(by_row, on=_ROW, how="left", maintain_order="left").drop(_ROW)
    counts = reasons.group_by("reason").len().sort(["len", "reason"], descending=[True, False])
    return Validated(
        good=marked.filter(pl.col(REASONS).is_null()).drop(REASONS),
        quarantined=marked.filter(pl.col(REASONS).is_not_null()),
        failures=dict(counts.iter_rows()),
    )


def _rows(is_bad: pl.Series, reason: str) -> pl.DataFrame:
    return pl.DataFrame({_ROW: is_bad.arg_true().cast(pl.UInt32)}).with_columns(pl.lit(reason).alias("reason"))


def _no_reasons() -> pl.DataFrame:
    return pl.DataFrame(schema={_ROW: pl.UInt32, "reason": pl.String})


def _check_name(error: SchemaError) -> str:
    check: Any = error.check
    return check if isinstance(check, str) else str(check.error or check.name or check)


def _fault(error: SchemaError) -> str:
    where = f"column {error.column_name!r}: " if error.column_name else ""
    found = error.failure_cases
    text = found.rows()[:_SHOWN] if isinstance(found, pl.DataFrame) else found
    return f"{where}{_check_name(error)}, found {text}"


def _breach(validated: Validated, contract: DataContract, product: str) -> str:
    bad = validated.quarantined
    worst = "; ".join(f"{reason} ({count} rows)" for reason, count in list(validated.failures.items())[:5])
    return (
        f"{product}: {bad.height} of {validated.good.height + bad.height} rows ({validated.bad_share:.2%}) break the "
        f"contract, {contract.tolerance:.2%} are tolerated. Worst: {worst}. Examples: "
        f"{bad.drop(REASONS).head(_SHOWN).to_dicts()}. Mend the source, or raise the tolerance knowingly"
    )
