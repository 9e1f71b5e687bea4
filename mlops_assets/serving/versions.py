"""A version made ready to answer: in the server's own process when it is trusted, in one of its own when not yet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mlops_assets.errors import EvaluationError
from mlops_assets.ledger.canonical import Digest
from mlops_assets.serving.isolation import IsolatedModel
from mlops_assets.serving.scoring import Score, score_of
from mlops_assets.training.model import Model
from mlops_assets.training.package import load_model
from mlops_assets.training.registry import ModelRegistry

WARM_UP_ROUNDS = 10
SELF_TEST_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One version, ready. Either ``here`` scores a row in this process, or ``apart`` in its own."""

    digest: Digest
    directory: Path
    features: tuple[str, ...]
    model: Model | None = None
    here: Score | None = None
    apart: IsolatedModel | None = None

    def close(self) -> None:
        """End what it runs."""
        if self.apart is not None:
            self.apart.close()


class VersionLoader:
    """Fetches versions of a product by digest, has them answer a row of nulls, and gives them out when they can.

    ``dtypes`` are those of all columns that a model may read. Raises ``EvaluationError`` for a version that cannot
    answer, ``ServiceUnavailable`` when the registry does not.
    """

    def __init__(
        self, product: str, *, registry: ModelRegistry, folder: Path, dtypes: Mapping[str, pl.DataType]
    ) -> None:
        self._product = product
        self._registry = registry
        self._folder = folder
        self._dtypes = dtypes

    def fetch(self, digest: Digest) -> Path:
        """Return the directory of a version, its bytes verified against the digest."""
        self._folder.mkdir(parents=True, exist_ok=True)
        return self._registry.fetch(self._product, digest, self._folder)

    def load_here(self, digest: Digest) -> Version:
        """Return a version of this process, for its event loop. Blocks."""
        directory = self.fetch(digest)
        model = load_model(directory)
        self._refuse_unknown(digest, model.features)
        score, empty = score_of(model, self._dtypes), dict.fromkeys(model.features)
        for _ in range(WARM_UP_ROUNDS):
            found = score(empty)
        frame = pl.DataFrame([empty] * 2, schema={name: self._dtypes[name] for name in model.features})
        batch = np.asarray(model.predict(frame), dtype=np.float64)
        if not np.isfinite(found):
            raise EvaluationError(f"{self._product}: model {digest} answers {found} to an empty row; it is not served")
        if batch.shape != (2,) or batch[0] != found:
            raise EvaluationError(
                f"{self._product}: model {digest} answers {found} alone, and {batch} in a batch of two"
            )
        return Version(digest=digest, directory=directory, features=tuple(model.features), model=model, here=score)

    async def load_apart(self, digest: Digest, directory: Path, features: Sequence[str]) -> Version:
        """Return a version in a process of its own; ``directory`` is what ``fetch`` gave."""
        self._refuse_unknown(digest, features)
        apart = IsolatedModel(directory, {name: self._dtypes[name] for name in features})
        try:
            await apart.start()
            found = await apart.score(dict.fromkeys(features), SELF_TEST_SECONDS)
            if not np.isfinite(found):
                raise EvaluationError(
                    f"{self._product}: model {digest} answers {found} to an empty row; it is not served"
                )
        except BaseException:
            apart.close()
            raise
        return Version(digest=digest, directory=directory, features=tuple(features), apart=apart)

    def _refuse_unknown(self, digest: Digest, features: Sequence[str]) -> None:
        unknown = [name for name in features if name not in self._dtypes]
        if unknown:
            raise EvaluationError(
                f"{self._product}: model {digest} reads {unknown}, which are neither inputs nor features"
            )


def batch_of(version: Version, rows: Sequence[Mapping[str, Any]], dtypes: Mapping[str, pl.DataType]) -> list[float]:
    """Return the scores of many rows by a version of this process, in one call of its model."""
    assert version.model is not None
    schema = {name: dtypes[name] for name in version.model.features}
    frame = pl.DataFrame([{name: row[name] for name in schema} for row in rows], schema=schema)
    return [float(score) for score in np.asarray(version.model.predict(frame), dtype=np.float64)]
