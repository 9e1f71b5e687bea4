"""Steps of a Flink SQL query that know nothing of a view: the first of several rows, lists of ranks, deviations.

Belongs here: named queries over ``seen``, the pairs of a question and an event. Not here: what a feature means.
"""

from collections.abc import Iterable, Mapping, Sequence

from mlops_assets.features.flink_text import rank_order, rank_text

ROW = "spine_row"
"""The column that names a question: a whole number of its own."""


def first_of_each(key: Sequence[str], query: str, *more: str) -> str:
    """Return the query that keeps, of the rows of ``query`` with one key, the first to arrive; it takes none back."""
    place = f"ROW_NUMBER() OVER (PARTITION BY {', '.join(key)} ORDER BY arrived) AS place"
    return f"SELECT {', '.join([*key, *more])} FROM (SELECT *, {place} FROM ({query})) WHERE place = 1"


def listing_steps(ranks: Mapping[str, str], most: int) -> str:
    """Return the steps up to ``listing``: per question the ``most`` greatest of each of ``ranks``, greatest first.

    ``ranks`` maps SQL over ``seen`` to the name of its list; an element is JSON text, ``[order, value]``, so that
    sorting elements sorts ranks, and several lists share one ranking.
    """
    element = f"JSON_ARRAY({rank_order('ranked')}, {rank_text('ranked')})"
    lists = [
        f"ARRAY_SORT(ARRAY_AGG({element}) FILTER (WHERE part = {part}), FALSE) AS {name}"
        for part, name in enumerate(ranks.values())
    ]
    place = f"ROW_NUMBER() OVER (PARTITION BY {ROW}, part ORDER BY ranked DESC) AS place"
    return lines(
        (
            f"ranking AS ({_parts(ranks, 'ranked')})",
            f"best AS (SELECT * FROM (SELECT *, {place} FROM ranking) WHERE place <= {most})",
            f"listing AS (SELECT {lines([ROW, *lists])} FROM best GROUP BY {ROW})",
        )
    )


def spread_steps(values: Mapping[str, str]) -> str:
    """Return the steps up to ``spread``: per question the population's standard deviation of each of ``values``.

    ``values`` maps SQL over ``seen`` to the name of its deviation. Differences to the anchor, the first value to
    arrive, are added up: the square of its distance from the mean is at most n times the variance, which bounds what
    cancels.
    """
    variance = "(GREATEST(squares - total * total / n, 0E0) / n)"
    deviations = [
        f"MAX(SQRT({variance})) FILTER (WHERE part = {part}) AS {s}" for part, s in enumerate(values.values())
    ]
    same = f"spreading.{ROW} = anchor.{ROW} AND spreading.part = anchor.part"
    moved = f"spreading.{ROW}, spreading.part, v - fixed AS away"
    sums = "COUNT(*) AS n, SUM(away) AS total, SUM(away * away) AS squares"
    return lines(
        (
            f"spreading AS ({_parts(values, 'v', ', PROCTIME() AS arrived')})",
            f"anchor AS ({first_of_each((ROW, 'part'), 'SELECT * FROM spreading', 'v AS fixed')})",
            f"moved AS (SELECT {moved} FROM spreading JOIN anchor ON {same})",
            f"summed AS (SELECT {ROW}, part, {sums} FROM moved GROUP BY {ROW}, part)",
            f"spread AS (SELECT {lines([ROW, *deviations])} FROM summed GROUP BY {ROW})",
        )
    )


def _parts(chosen: Iterable[str], value: str, more: str = "") -> str:
    """Return the query of one row per event and part that reads it: the question, the part's place, the value."""
    rows = lines(f"ROW({part}, {sql})" for part, sql in enumerate(chosen))
    unnested = f"CROSS JOIN UNNEST(ARRAY[\n  {rows}]) AS u (part, {value})"
    return f"SELECT {ROW}, part, {value}{more} FROM seen {unnested} WHERE {value} IS NOT NULL"


def lines(parts: Iterable[str]) -> str:
    """Return parts of a list, one a line."""
    return ",\n  ".join(parts)
