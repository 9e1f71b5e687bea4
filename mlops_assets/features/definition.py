"""A view's declaration in words, for people who look for features: in the catalogue and in Dagster's UI."""

from mlops_assets.features.view import Aggregate, Feature, FeatureView, Ratio, spoken


def type_of(feature: Feature) -> str:
    """Return the type of a feature's values in words."""
    return f"list of {feature.result_type}" if feature.is_list else feature.result_type


def definition_of(feature: Feature) -> str:
    """Return how a feature is computed, in one phrase.

    >>> definition_of(Aggregate(name="n", function="count"))
    'count of events over all time'
    """
    if isinstance(feature, Ratio):
        return f"{feature.numerator} / {feature.denominator}"
    function = f"last {feature.k}" if feature.function == "last_k" else feature.function.replace("_", " ")
    window = f"over {spoken(feature.window)}" if feature.window else "over all time"
    condition = f", where {feature.where}" if feature.where else ""
    return f"{function} of {feature.column or 'events'} {window}{condition}"


def describe_feature(feature: Feature) -> str:
    """Return what a feature says of itself, else how it is computed."""
    return feature.description or definition_of(feature)


def introduction_of(view: FeatureView) -> str:
    """Return what a view says of itself, else what every view is."""
    return view.description or f"Features of `{view.entity}` at each `{view.event_time}`, strictly before it."


def feature_table_in_words(view: FeatureView) -> list[str]:
    """Return a Markdown table of the features, line by line."""
    lines = ["| feature | type | definition | when empty | description |", "| --- | --- | --- | --- | --- |"]
    return lines + [
        f"| `{feature.name}` | {type_of(feature)} | {_cell(definition_of(feature))} | {_empty(feature)} "
        f"| {_cell(feature.description)} |"
        for feature in view.features
    ]


def facts_of(view: FeatureView) -> dict[str, str]:
    """Return the rest of the declaration, by what it is called."""
    facts = {
        "entity": f"`{view.entity}`",
        "events": f"`{view.source}/dataset`, at `{view.event_time}`",
        "known": f"from `{view.known_time}` on" if view.known_time else "as soon as it happens",
        "one event is": ", ".join(f"`{name}`" for name in view.event_key) or "one row",
        "time to live": spoken(view.time_to_live) if view.time_to_live else "for ever",
        "when absent": "the request is refused" if view.absent == "refuse" else "the empty values",
    }
    facts |= {f"column `{column.name}`": f"`{_cell(column.expression)}`" for column in view.columns}
    return facts


def _empty(feature: Feature) -> str:
    if feature.is_list:
        return "empty list"
    if feature.empty is not None:
        return f"`{feature.empty}`"
    counts = isinstance(feature, Aggregate) and feature.function in {"count", "distinct_count", "sum"}
    return "`0`" if counts else "null"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
