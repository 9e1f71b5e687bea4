"""The asset ``delivery``: the four key metrics over all products."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import dagster as dg

from mlops_assets.delivery.metrics import Delivery, measure_delivery
from mlops_assets.ledger.canonical import digest_of
from mlops_assets.ledger.entry import Entry, Ledger

_NOTHING = "—"
_COLUMNS = ("product", "releases", "completed", "failed", "per day", "lead time", "failure rate", "time to restore")


def build_delivery_asset(products: Sequence[str]) -> dg.AssetsDefinition:
    """Return the asset ``delivery``: frequency, lead time, failure rate and recovery time of each product.

    Its digest is of the last entry of each product: the same ledger gives the same metrics.
    """

    @dg.asset(
        key="delivery",
        group_name="delivery",
        deps=[dg.AssetKey([product, "deployment"]) for product in products],
        description="Deployment frequency, lead time, change failure rate and time to restore, from the ledger.",
        tags={"stage": "delivery"},
        kinds={"ledger"},
    )
    def delivery(ledger: dg.ResourceParam[Ledger]) -> dg.MaterializeResult[Any]:
        entries = {product: ledger.entries(product) for product in products}
        measured = [measure_delivery(product, told) for product, told in entries.items()]
        heads = {product: told[-1].digest if told else None for product, told in entries.items()}
        return dg.MaterializeResult(
            data_version=dg.DataVersion(digest_of(heads)),
            metadata={
                "digest": digest_of(heads),
                "inputs": dg.MetadataValue.json({f"ledger/{product}": head for product, head in heads.items()}),
                "metrics": dg.MetadataValue.md(delivery_table(measured)),
                "ledger_entry": max((_last(told) for told in entries.values()), default=0),
                **_series(measured),
            },
        )

    return delivery


def delivery_table(measured: Sequence[Delivery]) -> str:
    """Return the metrics as a Markdown table, a dash where there is nothing to measure."""
    lines = ["| " + " | ".join(_COLUMNS) + " |", "| --- " * len(_COLUMNS) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(_cells(found)) + " |" for found in measured)])


def _cells(found: Delivery) -> tuple[str, ...]:
    per_day, failure_rate = found.deployments_per_day, found.change_failure_rate
    return (
        found.product,
        str(found.releases),
        str(found.completed),
        str(found.failed),
        _NOTHING if per_day is None else f"{per_day:.2f}",
        _spoken(found.median_lead_time),
        _NOTHING if failure_rate is None else f"{failure_rate:.0%}",
        _spoken(found.median_time_to_restore),
    )


def _spoken(duration: timedelta | None) -> str:
    """Return a duration to the second, such as ``1 day, 2:03:04``."""
    return _NOTHING if duration is None else str(timedelta(seconds=round(duration.total_seconds())))


def _series(measured: Sequence[Delivery]) -> Mapping[str, float]:
    """Return each number that there is, for Dagster to plot over time."""
    found: dict[str, float | None] = {}
    for one in measured:
        found[f"{one.product}/releases"] = one.releases
        found[f"{one.product}/deployments_per_day"] = one.deployments_per_day
        found[f"{one.product}/lead_time_seconds"] = _seconds(one.median_lead_time)
        found[f"{one.product}/change_failure_rate"] = one.change_failure_rate
        found[f"{one.product}/time_to_restore_seconds"] = _seconds(one.median_time_to_restore)
    return {name: float(value) for name, value in found.items() if value is not None}


def _seconds(duration: timedelta | None) -> float | None:
    return None if duration is None else duration.total_seconds()


def _last(entries: Sequence[Entry]) -> int:
    return entries[-1].sequence if entries else 0
