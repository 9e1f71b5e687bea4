"""The catalogue of features: one page, generated from the declared views, for people who look for a feature.

``python -m mlops_assets.features.catalogue mlops_assets.products > docs/feature_catalogue.md`` writes it of the
products in a module's ``PRODUCTS``.
"""

import importlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mlops_assets.features.definition import facts_of, feature_table_in_words, introduction_of
from mlops_assets.features.view import FeatureView


def catalogue(views: Iterable[FeatureView], used_by: Mapping[str, Sequence[str]]) -> str:
    """Return the page in Markdown: every view with what it is, who owns and uses it, and its features.

    ``used_by`` gives the products that use a view, by its name.
    """
    ordered = sorted(views, key=lambda view: view.name)
    features = sum(len(view.features) for view in ordered)
    lines = ["# Feature catalogue", ""]
    lines += [f"Generated from the declarations: {features} features in {len(ordered)} views.", ""]
    lines += ["| view | entity | features | used by |", "| --- | --- | --- | --- |"]
    lines += [
        f"| [{view.name}](#{view.name}) | `{view.entity}` | {len(view.features)} | {_users(view, used_by)} |"
        for view in ordered
    ]
    for view in ordered:
        lines += ["", *_section(view, used_by)]
    return "\n".join(lines) + "\n"


def users_of(products: Iterable[Any]) -> dict[str, list[str]]:
    """Return the names of the products that use a view, by its name; a product has a ``name`` and ``views``."""
    found: dict[str, list[str]] = {}
    for product in products:
        for view in product.views:
            found.setdefault(view.name, []).append(product.name)
    return found


def catalogue_of(products: Sequence[Any]) -> str:
    """Return the page of all views of some products."""
    return catalogue({view.name: view for product in products for view in product.views}.values(), users_of(products))


def _section(view: FeatureView, used_by: Mapping[str, Sequence[str]]) -> list[str]:
    facts = {"owner": view.owner or "nobody", "used by": _users(view, used_by), "tags": ", ".join(view.tags) or "none"}
    return [
        f"## {view.name}",
        "",
        introduction_of(view),
        "",
        *(f"- {name}: {value}" for name, value in {**facts, **facts_of(view)}.items()),
        "",
        *feature_table_in_words(view),
    ]


def _users(view: FeatureView, used_by: Mapping[str, Sequence[str]]) -> str:
    return ", ".join(used_by.get(view.name, ())) or "nobody"


if __name__ == "__main__":
    sys.stdout.write(catalogue_of(importlib.import_module(sys.argv[1]).PRODUCTS))
