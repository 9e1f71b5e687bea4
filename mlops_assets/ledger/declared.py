"""Declarations as JSON, so that the ledger can keep them, compare them and make them again.

A declaration is a frozen dataclass of plain values, sequences, mappings, durations and other declarations. Each is
written with its type, ``module:Class``, and read back by importing it: read only what a verified ledger holds.
"""

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from datetime import timedelta
from enum import Enum
from typing import Any

_DURATION = "datetime:timedelta"


def declared_json(value: Any) -> Any:
    """Return ``value`` as JSON. ``TypeError`` names what cannot be recorded, and where it stands.

    A field with the metadata ``recorded=False`` is left out, and is ``None`` when the declaration is made again.
    """
    if value is None or (isinstance(value, bool | int | float | str) and not isinstance(value, Enum)):
        return value
    if isinstance(value, timedelta):
        return {"type": _DURATION, "seconds": value.total_seconds()}
    if isinstance(value, Enum):
        return {"type": _path(type(value)), "value": value.value}
    if isinstance(value, tuple | list):
        return [declared_json(item) for item in value]
    if isinstance(value, Mapping):
        return {"mapping": {str(key): declared_json(item) for key, item in value.items()}}
    if is_dataclass(value) and not isinstance(value, type):
        kept = [part for part in fields(value) if part.metadata.get("recorded", True)]
        return {"type": _path(type(value))} | {part.name: _field(value, part.name) for part in kept}
    raise TypeError(f"{value!r} is no declaration: it must be a frozen dataclass of plain values")


def from_declared(value: Any) -> Any:
    """Make again what ``declared_json`` wrote; sequences come back as tuples.

    Raises ``ImportError``, ``AttributeError`` or ``TypeError`` where a declaration no longer has that form.
    """
    if isinstance(value, list):
        return tuple(from_declared(item) for item in value)
    if not isinstance(value, dict):
        return value
    if "mapping" in value:
        return {key: from_declared(item) for key, item in value["mapping"].items()}
    if value["type"] == _DURATION:
        return timedelta(seconds=value["seconds"])
    return _made(value)


def _made(value: Mapping[str, Any]) -> Any:
    module, _, name = value["type"].partition(":")
    kind: Any = getattr(importlib.import_module(module), name)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(value["value"])
    if not (isinstance(kind, type) and is_dataclass(kind)):
        raise TypeError(f"{value['type']} is no dataclass, and no declaration")
    left_out = {part.name: None for part in fields(kind) if not part.metadata.get("recorded", True)}
    given = {name: from_declared(item) for name, item in value.items() if name != "type"}
    return kind(**left_out | given)


def changes(before: Any, after: Any) -> list[str]:
    """Return what differs between two declarations as JSON, one line each: where, what it was, what it is."""
    was, now = dict(_leaves(before, "")), dict(_leaves(after, ""))
    places = [*was, *(place for place in now if place not in was)]
    return [
        f"{place}: {was.get(place, 'nothing')} → {now.get(place, 'nothing')}"
        for place in places
        if was.get(place, _leaves) != now.get(place, _leaves)
    ]


def _leaves(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Yield every plain value with its place; a declaration in a list goes by its type and name, not by its number."""
    if isinstance(value, dict) and "mapping" not in value:
        yield f"{place}", value["type"].partition(":")[2] if "type" in value else "…"
        for name, item in value.items():
            if name != "type":
                yield from _leaves(item, f"{place}.{name}".lstrip("."))
    elif isinstance(value, dict):
        for name, item in value["mapping"].items():
            yield from _leaves(item, f"{place}[{name}]")
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        counts: dict[str, int] = {}
        for item in value:
            name = _label(item)
            counts[name] = counts.get(name, 0) + 1
            yield from _leaves(item, f"{place}[{name}{'' if counts[name] == 1 else f' #{counts[name]}'}]")
    else:
        yield place, value


def _label(item: Any) -> str:
    kind = item["type"].partition(":")[2] if isinstance(item, dict) and "type" in item else "value"
    named = item.get("name") or item.get("metric") if isinstance(item, dict) else None
    return f"{kind} {named}" if named else kind


def _path(kind: type) -> str:
    if "<" in kind.__qualname__:
        raise TypeError(f"{kind.__qualname__} is declared inside a function: it cannot be found again")
    return f"{kind.__module__}:{kind.__qualname__}"


def _field(value: Any, name: str) -> Any:
    try:
        return declared_json(getattr(value, name))
    except TypeError as error:
        raise TypeError(f"{type(value).__name__}.{name}: {error}") from error
