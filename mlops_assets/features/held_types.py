"""Of what types a view's entities and keys are: as its first event had them, remembered where the events are.

The user 42 is not the user "42", and an event whose key became text would not be known again as the one it is. A type
that changed on the way is therefore refused, instead of counting everything a second time.
"""

import json
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import Any

from mlops_assets.errors import FeatureError
from mlops_assets.features.meaning import where
from mlops_assets.features.state import StateStore
from mlops_assets.features.tiles import ROOT, Seen
from mlops_assets.features.view import FeatureView


class HeldTypes:
    """The types of the entity and of the key's columns in ``store``, under ``key``."""

    def __init__(self, view: FeatureView, store: StateStore, key: str) -> None:
        self._view, self._store, self._key = view, store, key
        self._columns = (view.entity, *view.event_key)
        self._held: list[str] | None = None

    def refuse_others(self, values: Sequence[Any]) -> None:
        """Raise ``FeatureError`` if a value is of another type; a question has the entity, an event the key as well."""
        if self._held is None:
            ((record,),) = self._store.read([(self._key, [ROOT])])
            self._held = json.loads(record.mark) if isinstance(record, Seen) else None
        for column, held, value, found in zip(self._columns, self._held or (), values, _types(values), strict=False):
            if held != found:
                name = type(value).__name__
                raise FeatureError(f"{where(self._view, column)} holds {held}, found the {name} {value!r}")

    def remember(self, values: Sequence[Any]) -> bool:
        """Remember the types of the first event, refuse others; return whether something was written."""
        if self._held is not None:
            return False
        written = not self._store.write_new({self._key: {ROOT: Seen(json.dumps(_types(values)))}})
        self.refuse_others(values)
        return written


def _types(values: Sequence[Any]) -> list[str]:
    """Return the entity's type, and those of the key by what makes keys equal: 1 is 1.0."""
    return [type(values[0]).__name__, *map(_kind, values[1:])]


def _kind(value: Any) -> str:
    if isinstance(value, int | float | Decimal):
        return "numbers"
    return "times" if isinstance(value, date) else type(value).__name__
