"""Feature views as assets: computed from a product's dataset, kept as snapshots, named by digest.

Belongs here: reading the dataset that was consumed, calling the engine, writing and describing the table.
"""

from typing import Any

import dagster as dg
import polars as pl

from mlops_assets.data.assets import consumed
from mlops_assets.data.plot import inline_png
from mlops_assets.data.snapshot import SnapshotStore
from mlops_assets.features.engine import FeatureEngine, feature_table
from mlops_assets.features.polars_engine import PolarsEngine
from mlops_assets.features.view import FeatureView, spoken

_MOST_PLOTS = 12


def build_feature_asset(view: FeatureView, engine: FeatureEngine | None = None) -> dg.AssetsDefinition:
    """Return the asset ``features/<view.name>``, computed from ``<view.source>/dataset`` by ``engine`` (Polars).

    It writes a snapshot of one row per (entity, event_time) of the dataset, sorted, with the features that the entity
    had at that moment. Needs the resource ``snapshots``. Raises ``FeatureError`` when the dataset does not fit.
    """
    dataset = dg.AssetKey([view.source, "dataset"])
    computing = engine or PolarsEngine()

    @dg.asset(
        key=dg.AssetKey(["features", view.name]),
        deps=[dataset],
        group_name="features",
        kinds={"polars"},
        tags={"stage": "features"},
        owners=[view.owner] if view.owner else None,
        description=_description(view),
        code_version=view.digest,
    )
    def feature_view(
        context: dg.AssetExecutionContext, snapshots: dg.ResourceParam[SnapshotStore]
    ) -> dg.MaterializeResult[Any]:
        read = consumed(context, dataset)
        table = feature_table(view, snapshots.read(read.digest), computing)
        written = snapshots.write(table)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(written.digest),
            metadata={
                "digest": written.digest,
                "inputs": dg.MetadataValue.json({dataset.to_user_string(): read.digest}),
                "definition": view.digest,
                "dagster/row_count": written.rows,
                "dagster/column_schema": _table_schema(view, table),
                "statistics": dg.MetadataValue.md(_statistics(view, table)),
                "distributions": dg.MetadataValue.md(_distributions(view, table)),
            },
        )

    return feature_view


def _description(view: FeatureView) -> str:
    rows = [
        f"| `{f.name}` | {f.function} | `{f.column}` | {spoken(f.window) if f.window else 'all time'} |"
        for f in view.features
    ]
    introduction = view.description or f"Features of `{view.entity}` at each `{view.event_time}`, strictly before it."
    return "\n".join([introduction, "", "| feature | function | column | window |", "| --- | --- | --- | --- |", *rows])


def _table_schema(view: FeatureView, table: pl.DataFrame) -> dg.TableSchema:
    descriptions = {f.name: f"{f.function} of {f.column}" for f in view.features}
    return dg.TableSchema(
        columns=[
            dg.TableColumn(name=name, type=str(dtype), description=descriptions.get(name))
            for name, dtype in table.schema.items()
        ]
    )


def _statistics(view: FeatureView, table: pl.DataFrame) -> str:
    lines = ["| feature | nulls | mean | 5 % | median | 95 % |", "| --- | --- | --- | --- | --- | --- |"]
    for name in view.feature_names:
        column = table[name]
        figures = (column.mean(), *(column.quantile(share) for share in (0.05, 0.5, 0.95)))
        cells = " | ".join(f"{figure:.6g}" if isinstance(figure, float) else "-" for figure in figures)
        lines.append(f"| `{name}` | {column.null_count()} | {cells} |")
    return "\n".join(lines)


def _distributions(view: FeatureView, table: pl.DataFrame) -> str:
    from matplotlib.figure import Figure

    names = view.feature_names[:_MOST_PLOTS]
    rows = -(-len(names) // 4)
    figure = Figure(figsize=(10, 2.2 * rows), layout="constrained")
    for place, name in enumerate(names):
        axes = figure.add_subplot(rows, min(len(names), 4), place + 1)
        axes.hist(table[name].drop_nulls().to_numpy(), bins=40, color="#4f43dd")
        axes.set_title(name, fontsize=8)
        axes.tick_params(labelsize=6)
    return inline_png(figure)
