"""Training a registered model once more from its recorded training rows, to see which digest comes out."""

from collections.abc import Sequence
from typing import Any

from mlops_assets.data.snapshot import SnapshotStore
from mlops_assets.errors import NotReproduced
from mlops_assets.ledger.canonical import Digest
from mlops_assets.training.backend import TrainingBackend
from mlops_assets.training.job import TrainingJob
from mlops_assets.training.recipe import Recipe
from mlops_assets.training.registry import ModelRegistry
from mlops_assets.training.reproduce import find_recipe


def train_again(  # noqa: PLR0913 - a training is made of that many things
    context: Any,
    product: str,
    candidate: Digest,
    *,
    recipes: Sequence[Recipe],
    features: Sequence[str],
    label: str,
    registry: ModelRegistry,
    snapshots: SnapshotStore,
    training: TrainingBackend,
) -> Digest:
    """Return the digest of the model that the recorded recipe makes of the recorded rows, here and now.

    Nothing is registered. Raises ``NotReproduced`` when the registry does not say how it was trained, or the recipe is
    another now, and ``TrainingFailed`` when no model comes back.
    """
    registered = registry.find(product, candidate)
    if registered is None or "train" not in registered.facts:
        raise NotReproduced(f"{product}: the registry cannot say how {candidate} was trained")
    facts = registered.facts
    recipe = find_recipe(recipes, product, facts["recipe"], facts)
    job = TrainingJob(
        product=product, recipe=recipe, features=tuple(features), label=label, training_set=facts["train"]
    )
    with training.train(context, job, snapshots) as trained:
        return trained.digest
