"""Models that look at the other rows of their batch, break on some, answer no number, hang or die."""

import time
from pathlib import Path

import numpy as np


class Odd:
    features = ("ratings", "mean_rating", "liked_share", "price_tens")

    def __init__(self, kind: str, directory=None) -> None:
        self.kind, self.directory = kind, directory

    def predict(self, frame):
        if self.kind == "breaks" and (frame["price_tens"] > 5).any():
            raise ValueError("too dear")
        if self.kind == "dies":
            import os

            os.kill(os.getpid(), 9)
        if self.kind == "hangs":
            (self.directory / "hangs").touch()
            time.sleep(600)
        price = np.nan_to_num(frame["price_tens"].to_numpy().astype(float)) / 10  # an empty row has no price
        if self.kind == "nan":
            return np.full(frame.height, np.nan)
        return np.clip(price / 2 + (price.mean() / 2 if self.kind == "peeks" else 0), 0, 1)

    def save(self, directory) -> None:
        (directory / "kind").write_text(f"{self.kind}\n{directory.parent}")


def load_odd(directory) -> Odd:
    kind, told = (directory / "kind").read_text().split("\n")
    return Odd(kind, Path(told))
