"""One training as it is asked for, in JSON, so that it can be sent to wherever it runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlops_assets.ledger.canonical import Digest
from mlops_assets.training.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingJob:
    """Train ``product`` by ``recipe`` on the rows of the snapshot ``training_set``, which holds no golden row.

    ``features`` are the columns the trainer is given as features, in order; ``label`` is the column to learn. The rows
    may have more columns.
    """

    product: str
    recipe: Recipe
    features: tuple[str, ...]
    label: str
    training_set: Digest

    def to_json(self) -> dict[str, Any]:
        """Return the job as a JSON value; ``from_json`` reads it back."""
        return {
            "product": self.product,
            "recipe": self.recipe.to_json(),
            "features": list(self.features),
            "label": self.label,
            "training_set": self.training_set,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "TrainingJob":
        """Read back what ``to_json`` wrote."""
        return cls(
            product=value["product"],
            recipe=Recipe.from_json(value["recipe"]),
            features=tuple(value["features"]),
            label=value["label"],
            training_set=value["training_set"],
        )
