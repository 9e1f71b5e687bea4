"""Two recipes with real defects, for the demo to have something to stop.

Both are mistakes that teams make. Neither touches the platform: they are trainers like any other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from mlops_assets.training.lightgbm import LightGBMModel, Progress, load_lightgbm, train_classifier
from mlops_assets.training.model import Scores
from mlops_assets.training.recipe import Recipe

PROFILES = {
    "user_id": ("user_ratings", "user_mean_rating", "user_liked_share", "user_rating_std"),
    "film_id": ("film_ratings", "film_mean_rating", "film_liked_share"),
}


def train_on_shifted_features(
    frame: pl.DataFrame,
    *,
    features: Sequence[str],
    label: str,
    params: Mapping[str, Any],
    seed: int,
    progress: Progress,
) -> LightGBMModel:
    """Train on profiles that belong to the row before: a join by position after the rows had been sorted anew."""
    profiles = [name for names in PROFILES.values() for name in names]
    wrong = frame.with_columns(pl.col(profiles).shift(1))
    return train_classifier(wrong, features=features, label=label, params=params, seed=seed, progress=progress)


@dataclass(frozen=True, slots=True)
class BatchProfileModel:
    """Looks profiles up once per batch: the newest of each user and film that has at least two rows in it.

    Offline, on thousands of rows, the newest profile of a user already knows the outcomes of that user's earlier
    rows: the score looks splendid. Live, a batch is one request, no profile has two rows, and the model is blind.
    """

    inner: LightGBMModel

    @property
    def features(self) -> tuple[str, ...]:
        """The inner model's columns, and the keys that profiles are looked up by."""
        return (*self.inner.features, *PROFILES)

    def predict(self, frame: pl.DataFrame) -> Scores:
        """Return one probability per row."""
        return self.inner.predict(with_batch_profiles(frame))

    def save(self, directory: Path) -> None:
        """Write the inner model."""
        self.inner.save(directory)


def with_batch_profiles(frame: pl.DataFrame) -> pl.DataFrame:
    """Return ``frame`` with each profile replaced by the newest in the batch, or null when it is the only one."""
    newest = [
        pl.when(pl.len().over(key) >= 2).then(pl.col(name).last().over(key)).alias(name)
        for key, names in PROFILES.items()
        for name in names
    ]
    return frame.with_columns(newest)


def train_on_batch_profiles(
    frame: pl.DataFrame,
    *,
    features: Sequence[str],
    label: str,
    params: Mapping[str, Any],
    seed: int,
    progress: Progress,
) -> BatchProfileModel:
    """Train the model that looks profiles up once per batch."""
    profiled = with_batch_profiles(frame)
    inner = train_classifier(profiled, features=features, label=label, params=params, seed=seed, progress=progress)
    return BatchProfileModel(inner)


def load_batch_profiles(directory: Path) -> BatchProfileModel:
    """Read what ``BatchProfileModel.save`` wrote."""
    return BatchProfileModel(load_lightgbm(directory))


def defective(recipe: Recipe) -> tuple[Recipe, Recipe]:
    """Return the two defective variants of ``recipe``: one that gates stop, one that only traffic can stop."""
    here = "deployments.demo.defects"
    shifted = Recipe(
        name="shifted_features",
        trainer=f"{here}:train_on_shifted_features",
        loader=recipe.loader,
        params=recipe.params,
        seed=recipe.seed,
    )
    batch = Recipe(
        name="batch_profiles",
        trainer=f"{here}:train_on_batch_profiles",
        loader=f"{here}:load_batch_profiles",
        params=recipe.params,
        seed=recipe.seed,
    )
    return shifted, batch
