"""Mistakes that teams make, at several strengths: what each does to training rows, golden rows, live rows, the model.

A defect gets clean frames with features and label, and returns what the team would have had. Live rows are what a
server would have computed: a leak is not there, a wrong join may be.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mlops_assets.training.lightgbm import LightGBMModel, load_lightgbm
from mlops_assets.training.model import Scores

Frames = Mapping[str, pl.DataFrame]
LABEL, PERSON = "liked", "user_id"
PROFILE = ("user_ratings", "user_mean_rating", "user_liked_share", "user_rating_std")
FILM = ("film_ratings", "film_mean_rating", "film_liked_share", "film_ratings_1y")


@dataclass(frozen=True, slots=True, kw_only=True)
class Defect:
    """A kind of mistake with the strengths to try; ``spoil`` changes the frames train, golden and live."""

    name: str
    strengths: tuple[float, ...]
    spoil: Callable[[Frames, float], Frames] = lambda frames, _: frames
    model: Callable[[LightGBMModel, float], Any] = lambda model, _: model
    params: Callable[[float], Mapping[str, Any]] = field(default=lambda _: {})


@dataclass(frozen=True, slots=True)
class Wrapped:
    """A model whose scores something is done to; ``kind`` and ``strength`` are saved beside it."""

    inner: LightGBMModel
    kind: str
    strength: float

    @property
    def features(self) -> tuple[str, ...]:
        """The inner model's."""
        return self.inner.features

    def predict(self, frame: pl.DataFrame) -> Scores:
        """Return the inner model's scores, spoilt."""
        return SPOILT[self.kind](self.inner.predict(frame), frame, self.strength)

    def save(self, directory: Path) -> None:
        """Write the inner model and what is done to it."""
        self.inner.save(directory)
        (directory / "spoilt.txt").write_text(f"{self.kind} {self.strength}")


def load_wrapped(directory: Path) -> Wrapped:
    """Read what ``Wrapped.save`` wrote."""
    kind, strength = (directory / "spoilt.txt").read_text().split()
    return Wrapped(load_lightgbm(directory), kind, float(strength))


def _slow(scores: Scores, _: pl.DataFrame, strength: float) -> Scores:
    import time

    time.sleep(strength / 1000)
    return scores


def _nan_prone(scores: Scores, frame: pl.DataFrame, strength: float) -> Scores:
    rare = frame["film_ratings"].fill_null(0).to_numpy() < strength
    return np.where(rare, np.nan, scores)


SPOILT: Mapping[str, Callable[[Scores, pl.DataFrame, float], Scores]] = {
    "calibration": lambda scores, _, strength: scores**strength,
    "slow": _slow,
    "nan": _nan_prone,
    "constant": lambda scores, _, strength: scores * 0 + strength,
}


def _each(frames: Frames, names: tuple[str, ...], change: Callable[[pl.DataFrame], pl.DataFrame]) -> Frames:
    return {name: change(frame) if name in names else frame for name, frame in frames.items()}


def _leak(frames: Frames, strength: float) -> Frames:
    """Return frames with the label, and noise, in a feature that is empty when the model serves."""
    noise = np.random.default_rng(0)

    def leak(frame: pl.DataFrame) -> pl.DataFrame:
        known = frame[LABEL].to_numpy() * strength + noise.normal(0, 1, frame.height)
        return frame.with_columns(user_rating_std=pl.Series(known))

    leaked = _each(frames, ("train", "golden"), leak)
    return {**leaked, "live": frames["live"].with_columns(user_rating_std=pl.lit(None, dtype=pl.Float64))}


def _shuffle(frame: pl.DataFrame, columns: tuple[str, ...], share: float) -> pl.DataFrame:
    """Return the frame with these columns of a share of its rows exchanged among them."""
    generator = np.random.default_rng(1)
    chosen = generator.random(frame.height) < share
    order = np.arange(frame.height)
    order[chosen] = generator.permutation(order[chosen])
    return frame.with_columns(frame.select(columns)[order])


def _stale(frame: pl.DataFrame, share: float) -> pl.DataFrame:
    """Return the frame with each person's profile as it was at the first of so large a share of their rows."""
    size = pl.len().over(PERSON)
    block = (pl.int_range(pl.len()).over(PERSON) / (size * share).clip(lower_bound=1)).floor()
    return frame.with_columns(pl.col(name).first().over(PERSON, block) for name in (*PROFILE,))


def _flip_slice(frame: pl.DataFrame, share: float) -> pl.DataFrame:
    """Return the frame with labels of a share of one genre's rows turned round."""
    turned = np.random.default_rng(2).random(frame.height) < share
    inside = (pl.col("genre_children") == 1) & pl.Series(turned)
    return frame.with_columns(pl.when(inside).then(1 - pl.col(LABEL)).otherwise(LABEL).alias(LABEL))


def _drop_positives(frame: pl.DataFrame, share: float) -> pl.DataFrame:
    kept = np.random.default_rng(3).random(frame.height) >= share
    return frame.filter((pl.col(LABEL) == 0) | pl.Series(kept))


def _rotate_genres(frame: pl.DataFrame, by: float) -> pl.DataFrame:
    names = [name for name in frame.columns if name.startswith("genre_")]
    moved = names[int(by) :] + names[: int(by)]
    return frame.with_columns(pl.col(old).alias(new) for old, new in zip(names, moved, strict=True))


def _swap_units(frame: pl.DataFrame, factor: float) -> pl.DataFrame:
    return frame.with_columns(pl.col("user_mean_rating", "film_mean_rating") * factor)


TRAIN, LIVE = ("train",), ("live",)
DEFECTS = (
    Defect(name="label leakage", strengths=(6, 2, 0.5), spoil=_leak),
    Defect(
        name="shuffled columns",
        strengths=(1, 0.5, 0.2),
        spoil=lambda f, s: _each(f, TRAIN, lambda x: _shuffle(x, (*PROFILE, *FILM), s)),
    ),
    Defect(
        name="shifted columns",
        strengths=(1, 50),
        spoil=lambda f, s: _each(f, TRAIN, lambda x: x.with_columns(pl.col(*PROFILE, *FILM).shift(int(s)))),
    ),
    Defect(name="stale features live", strengths=(1, 0.5), spoil=lambda f, s: _each(f, LIVE, lambda x: _stale(x, s))),
    Defect(
        name="swapped units live", strengths=(2, 1.2), spoil=lambda f, s: _each(f, LIVE, lambda x: _swap_units(x, s))
    ),
    Defect(
        name="wrong join live",
        strengths=(1, 0.5, 0.2),
        spoil=lambda f, s: _each(f, LIVE, lambda x: _shuffle(x, (*PROFILE, *FILM), s)),
    ),
    Defect(
        name="truncated data",
        strengths=(0.02, 0.1),
        spoil=lambda f, s: _each(f, TRAIN, lambda x: x.head(int(x.height * s))),
    ),
    Defect(
        name="class imbalance shift",
        strengths=(0.9, 0.5),
        spoil=lambda f, s: _each(f, TRAIN, lambda x: _drop_positives(x, s)),
    ),
    Defect(
        name="one slice broken", strengths=(1, 0.6), spoil=lambda f, s: _each(f, TRAIN, lambda x: _flip_slice(x, s))
    ),
    Defect(
        name="wrong categorical encoding live",
        strengths=(1, 3),
        spoil=lambda f, s: _each(f, LIVE, lambda x: _rotate_genres(x, s)),
    ),
    Defect(name="wrong model file", strengths=(0.5, 0.3), model=lambda m, s: Wrapped(m, "constant", s)),
    Defect(name="calibration broken", strengths=(4, 2, 1.3), model=lambda m, s: Wrapped(m, "calibration", s)),
    Defect(name="slow model", strengths=(100, 20), model=lambda m, s: Wrapped(m, "slow", s)),
    Defect(name="NaN-prone model", strengths=(50, 1), model=lambda m, s: Wrapped(m, "nan", s)),
)
GOOD = (
    Defect(name="good: as it is", strengths=(0,)),
    Defect(name="good: another seed", strengths=(7, 8, 9), params=lambda s: {"seed": int(s)}),
    Defect(name="good: more rounds", strengths=(200, 250), params=lambda s: {"num_boost_round": int(s)}),
)
