"""A model that does what its row says: crash, hang, raise, or answer. Loaded by name, as any model is."""

import os
import time
from pathlib import Path

import numpy as np


class Obedient:
    """Reads ``price``: 1 ends its process, 2 hangs, 3 raises, 4 is no number; others are answered by ``score``."""

    features = ("price",)

    def __init__(self, score: float) -> None:
        self._score = score

    def predict(self, frame):
        for price in frame["price"].to_list():
            if price == 1:
                os.kill(os.getpid(), 9)
            if price == 2:
                time.sleep(3600)
            if price == 3:
                raise ValueError("this row is too much")
            if price == 4:
                return np.full(frame.height, np.nan)
        return np.full(frame.height, self._score)

    def save(self, directory: Path) -> None:
        (directory / "score").write_text(str(self._score))


def load(directory: Path) -> Obedient:
    return Obedient(float((directory / "score").read_text()))
