"""What a view's table holds: figures and small pictures of each feature, whatever its type."""

from collections.abc import Callable
from typing import Any

import polars as pl

from mlops_assets.data.plot import inline_png
from mlops_assets.features.view import FeatureView

_MOST_PLOTS = 12
_TOP = 3


def statistics(view: FeatureView, table: pl.DataFrame) -> str:
    """Return a Markdown table: nulls of each feature, and what its type lets one say of its values."""
    lines = ["| feature | type | nulls | values |", "| --- | --- | --- | --- |"]
    for name in view.feature_names:
        column = table[name]
        lines.append(f"| `{name}` | {column.dtype} | {column.null_count()} | {_values(column.drop_nulls())} |")
    return "\n".join(lines)


def distributions(view: FeatureView, table: pl.DataFrame) -> str:
    """Return one picture of the first features' values as a Markdown image."""
    from matplotlib.figure import Figure

    names = view.feature_names[:_MOST_PLOTS]
    rows = -(-len(names) // 4)
    figure = Figure(figsize=(10, 2.2 * rows))
    figure.subplots_adjust(wspace=0.3, hspace=0.5)
    for place, name in enumerate(names):
        axes = figure.add_subplot(rows, min(len(names), 4), place + 1)
        _draw(axes, table[name].drop_nulls())
        axes.set_title(name, fontsize=8)
        axes.tick_params(labelsize=6)
    return inline_png(figure)


def _values(column: pl.Series) -> str:
    """Return what there is to say of values, none of them null."""
    if not len(column):
        return "-"
    if isinstance(column.dtype, pl.List):
        lengths = column.list.len()
        return f"lengths {lengths.min()!s} to {lengths.max()!s}, mean {_mean(lengths):.6g}"
    if column.dtype == pl.String:
        top = ", ".join(f"{_shown(value)} ({count})" for value, count in _top(column).iter_rows())
        return f"{column.n_unique()} distinct: {top}"
    if column.dtype == pl.Boolean:
        return f"true: {_mean(column):.4g}"
    if column.dtype.is_temporal():
        return f"{column.min()!s} to {column.max()!s}"
    figures = (column.quantile(share) for share in (0.05, 0.5, 0.95))
    return f"mean {_mean(column):.6g}; 5 %, median, 95 %: " + ", ".join(f"{figure:.6g}" for figure in figures)


def _draw(axes: Any, column: pl.Series) -> None:
    if column.dtype in {pl.String, pl.Boolean}:
        top = _top(column.cast(pl.String), 8)
        axes.barh([_shown(value)[:20] for value in top[column.name]][::-1], top["count"].to_list()[::-1])
    elif len(column):
        numbers = column.list.len() if isinstance(column.dtype, pl.List) else column
        axes.hist(numbers.to_numpy(), bins=40, color="#4f43dd")


def _top(column: pl.Series, most: int = _TOP) -> pl.DataFrame:
    return column.value_counts(name="count").sort(["count", column.name], descending=[True, False]).head(most)


def _shown(value: str) -> str:
    return repr(value).replace("|", "\\|").replace("$", "\\$")  # matplotlib reads $ as mathematics


def _mean(column: pl.Series) -> float:
    mean: Callable[[], Any] = column.mean
    return float(mean())
