"""Frames too large for memory: read in blocks of rows, written block by block to one Parquet file."""

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from mlops_assets.features.event_table import Frame


def row_blocks(frame: Frame, rows: int) -> Iterator[pl.DataFrame]:
    """Yield the rows of ``frame`` in order, at most ``rows`` at a time, at least one block; a LazyFrame is streamed."""
    if isinstance(frame, pl.DataFrame):
        yield from (frame.slice(place, rows) for place in range(0, max(frame.height, 1), rows))
        return
    held, is_empty = frame.collect_schema().to_frame(), True
    for batch in frame.collect_batches(chunk_size=rows, maintain_order=True, engine="streaming"):
        held = pl.concat([held, batch]) if held.height else batch
        while held.height >= rows:
            is_empty = False
            yield held.head(rows)
            held = held.slice(rows)
    if held.height or is_empty:
        yield held


def write_blocks(blocks: Iterator[pl.DataFrame], path: str | Path) -> int:
    """Write the blocks, of one schema, as row groups of the Parquet file ``path``; return how many rows it has.

    The file appears when it is whole: a run that dies leaves what was there before, and a ``.partial`` file.
    """
    import pyarrow.parquet as pq

    path, rows = Path(path), 0
    partial = path.with_name(f"{path.name}.partial")
    writer: pq.ParquetWriter | None = None
    try:
        for block in blocks:
            table = block.to_arrow()
            writer = writer or pq.ParquetWriter(partial, table.schema, compression="zstd")
            writer.write_table(table)
            rows += block.height
    finally:
        if writer is not None:
            writer.close()
    partial.replace(path)
    return rows
