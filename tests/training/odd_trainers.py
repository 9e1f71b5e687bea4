"""Trainers that misbehave; the training process imports them by name."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from mlops_assets.training.package import read_package


class Constant:
    def __init__(self, value, features):
        self.value = value
        self.features = tuple(features)

    def predict(self, frame):
        return np.full(frame.height, self.value)

    def save(self, directory):
        (directory / "value.txt").write_text(str(self.value))


def train_constant(frame, *, features, label, params, seed, progress):
    progress(1, {"train_mean": float(frame[label].mean())})
    return Constant(float(frame[label].mean()) + seed, features)


def load_constant(directory):
    return Constant(float((directory / "value.txt").read_text()), read_package(directory).features)


def load_with_other_features(directory):
    return Constant(float((directory / "value.txt").read_text()), ("b", "a"))


def train_by_chance(frame, *, features, **_):
    return Constant(random.random(), features)


def raise_error(frame, **_):
    print("I was about to begin")
    raise ValueError("the moon is in the wrong phase")


def kill_itself(frame, **_):
    os.kill(os.getpid(), signal.SIGKILL)


def never_end(frame, *, params, progress, **_):
    """Start a child, say the pids, and wait for ever."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    written = Path(params["pids"] + ".partial")
    written.write_text(f"{os.getpid()} {child.pid}")
    written.rename(params["pids"])
    time.sleep(600)


def return_nothing(frame, **_):
    return None


class HalfSaved(Constant):
    def save(self, directory):
        super().save(directory)
        raise OSError(28, "No space left on device")


def train_half_saved(frame, *, features, **_):
    return HalfSaved(0.5, features)
