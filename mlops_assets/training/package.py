"""A model's directory: the files its trainer saved, and ``package.json``, which says how to read them.

Belongs here: writing a package whole or not at all, and ``load_model``, which reads any package. The package holds
deterministic facts only (no time, no host, no path), so the same training gives the same bytes and the same digest.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlops_assets.errors import EvaluationError
from mlops_assets.ledger.canonical import canonical_json
from mlops_assets.training.model import Model
from mlops_assets.training.resolve import resolve

PACKAGE = "package.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """What ``package.json`` says: the import path of the loader, the columns the model reads, where it came from."""

    loader: str
    features: tuple[str, ...]
    origin: Mapping[str, Any] = field(default_factory=dict)


def save_package(model: Model, package: Package, directory: Path) -> None:
    """Write ``model`` and its package to ``directory``, which appears whole or not at all.

    Raises ``FileExistsError`` if the directory is there already, and whatever the model's ``save`` raises.
    """
    if directory.exists():
        raise FileExistsError(f"{directory} exists already; a model is never written over another")
    partial = directory.with_name(f".{directory.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        model.save(partial)
        content = {"loader": package.loader, "features": list(package.features), "origin": dict(package.origin)}
        (partial / PACKAGE).write_bytes(canonical_json(content))
        _flush(partial)
        partial.rename(directory)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def read_package(directory: Path) -> Package:
    """Return what ``package.json`` says; ``EvaluationError`` if it is missing or not what ``save_package`` writes."""
    path = directory / PACKAGE
    try:
        content = json.loads(path.read_bytes())
        package = Package(loader=content["loader"], features=tuple(content["features"]), origin=content["origin"])
    except FileNotFoundError:
        raise EvaluationError(f"{directory} holds no {PACKAGE}: it is no model of a training process") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EvaluationError(f"{path} cannot be read ({error!r}); fetch the model again") from error
    if not isinstance(package.loader, str) or not all(isinstance(name, str) for name in package.features):
        raise EvaluationError(f"{path} names no loader and features; fetch the model again")
    return package


def load_model(directory: Path) -> Model:
    """Return the model in ``directory``, read by the loader that its recipe named when it was saved.

    A loader is code: load only directories whose digest you know. Raises ``EvaluationError`` when the package is
    missing or odd, when its loader cannot be imported, and when the loader cannot read the files.
    """
    package = read_package(directory)
    try:
        model: Model = resolve(package.loader)(directory)
        features = tuple(model.features)
    except Exception as error:
        raise EvaluationError(f"{directory}: the loader {package.loader} could not read the model: {error}") from error
    if features != package.features:
        raise EvaluationError(
            f"{directory}: the model reads {list(features)}, but its package says {list(package.features)}"
        )
    return model


def _flush(directory: Path) -> None:
    """Have the bytes on disk before the rename makes them visible."""
    for path in directory.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
