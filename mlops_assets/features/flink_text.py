"""Flink SQL for one value, as text: names, literals, values read as the meaning reads them, and ranks.

A refused value makes the job fail: text that says what is wrong is cast to a number, which Flink cannot do, so the
sentence stands in its error.

A *rank* orders events by (time, value) and holds the value: ASCII text made of the time, the value's order and, after a
blank, the value. Flink compares texts by bytes or by UTF-16 units, whichever it has at hand; on ASCII they agree, so of
a string the order is its bytes in hexadecimal, and what follows the blank never decides.

Belongs here: expressions over one row. Not here: anything that joins or aggregates.
"""

from collections.abc import Mapping
from typing import Any

from mlops_assets.features.meaning import LARGEST, SMALLEST, instant
from mlops_assets.features.view import ValueType

SQL_TYPES: Mapping[str, str] = {
    "double": "DOUBLE",
    "integer": "BIGINT",
    "boolean": "BOOLEAN",
    "string": "STRING",
    "time": "BIGINT",
}
"""What holds each type of value; times are microseconds since 1970 in UTC."""

_FIRST, _LAST = -62_135_596_800_000_000, 253_402_300_799_999_999  # the years 1 to 9999
_UPSIDE_DOWN = "'0123456789', '9876543210'"


def quoted(name: str) -> str:
    """Return an identifier as SQL reads it.

    >>> quoted("time")
    '`time`'
    """
    return "`" + name.replace("`", "``") + "`"


def text(value: str) -> str:
    """Return a literal of text.

    >>> text("it's")
    "'it''s'"
    """
    return "'" + value.replace("'", "''") + "'"


def literal(value: Any, type: ValueType) -> str:
    """Return a literal of a type; ``None`` is its null, a time its microseconds."""
    if value is None:
        return f"CAST(NULL AS {SQL_TYPES[type]})"
    if type == "string":
        return text(value)
    if type == "boolean":
        return str(value).upper()
    held = instant(value, "an empty value") if type == "time" else value
    return f"CAST('{held!r}' AS {SQL_TYPES[type]})"


def required(sql: str, held: str, what: str) -> str:
    """Return ``sql``, refused where it is null; ``held`` is its SQL type."""
    return f"CASE WHEN {sql} IS NOT NULL THEN {sql} ELSE {refusal(what + ' is missing: ', sql, held)} END"


def instant_of(sql: str, what: str, nullable: bool = False) -> str:
    """Return a time in microseconds, refused outside the years 1 to 9999 and, unless ``nullable``, where it is null."""
    missing = f"WHEN {sql} IS NULL THEN {literal(None, 'time')} " if nullable else ""
    refused = refusal(f"{what} must be microseconds since 1970 in UTC, found ", sql, "BIGINT")
    return f"CASE {missing}WHEN {sql} BETWEEN {_FIRST} AND {_LAST} THEN {sql} ELSE {refused} END"


def number_of(sql: str, held: str, what: str) -> str:
    """Return a double that is null, 0 or of a magnitude from 2^-300 to below 2^300; all else is refused."""
    if held == "BOOLEAN":
        return f"CASE WHEN {sql} THEN 1E0 WHEN NOT {sql} THEN 0E0 END"
    if held == "BIGINT":
        return f"CAST({sql} AS DOUBLE)"
    within = f"CASE WHEN ABS({sql}) >= {literal(SMALLEST, 'double')} THEN {sql} ELSE 0E0 END"
    refused = refusal(f"{what} takes finite numbers below 2^300, found ", sql, "DOUBLE")
    return (
        f"CASE WHEN {sql} IS NULL THEN {literal(None, 'double')}"
        f" WHEN ABS({sql}) < {literal(LARGEST, 'double')} THEN {within} ELSE {refused} END"
    )


def refusal(sentence: str, found: str, held: str) -> str:
    """Return SQL that fails with the sentence and what was found; ``held`` is the type it stands for."""
    failing = f"CAST({text(sentence)} || COALESCE(CAST({found} AS STRING), 'null') AS BIGINT)"
    return failing if held == "BIGINT" else f"CAST({failing} AS {held})"


def rank(value: str, type: ValueType, happened: str) -> str:
    """Return the rank of an event: null where the value is, else greater for a later or greater one."""
    instant = f"LPAD(CAST({happened} + 1000000000000000000 AS STRING), 19, '0')"
    return f"({instant} || {_order(value, type)} || ' ' || CAST({value} AS STRING))"


def rank_order(rank: str) -> str:
    """Return what precedes the blank in a rank."""
    return f"SPLIT_INDEX({rank}, ' ', 0)"


def rank_text(rank: str) -> str:
    """Return the value that a rank holds, as text."""
    return f"SUBSTRING({rank} FROM POSITION(' ' IN {rank}) + 1)"


def _order(value: str, type: ValueType) -> str:
    if type == "string":
        return f"HEX({value})"
    if type == "boolean":
        return f"CASE WHEN {value} THEN '1' ELSE '0' END"
    if type == "double":
        return _double_order(value)
    return f"LPAD(CAST(CAST({value} AS DECIMAL(38, 0)) + CAST('{2**63}' AS DECIMAL(38, 0)) AS STRING), 20, '0')"


def _double_order(value: str) -> str:
    """Return text ordered as doubles are: sign, class of magnitude, decimal exponent, digits; negatives upside down.

    Java writes a magnitude from 10^-3 to 10^7 as it is and others with an exponent, no two doubles alike.
    """
    held = f"CAST(ABS({value}) AS STRING)"
    small = f"LPAD(CAST(999 - CAST(SPLIT_INDEX({held}, 'E-', 1) AS INT) AS STRING), 3, '0')"
    magnitude = (
        f"CASE WHEN {value} = 0E0 THEN '0'"
        f" WHEN {held} LIKE '%E-%' THEN '1' || {small} || SPLIT_INDEX({held}, 'E-', 0)"
        f" WHEN {held} LIKE '%E%' THEN '3' || LPAD(SPLIT_INDEX({held}, 'E', 1), 3, '0') || SPLIT_INDEX({held}, 'E', 0)"
        f" ELSE '2' || LPAD({held}, CHAR_LENGTH({held}) + 8 - POSITION('.' IN {held}), '0') END"
    )
    return (
        f"CASE WHEN {value} < 0E0 THEN '0' || TRANSLATE({magnitude}, {_UPSIDE_DOWN}) || '~' ELSE '1' || {magnitude} END"
    )
