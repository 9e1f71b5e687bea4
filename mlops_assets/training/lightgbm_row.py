"""LightGBM's fast call for one row: it keeps its settings and buffers between calls, and starts no thread.

The C function ``LGBM_BoosterPredictForMatSingleRowFast`` of LightGBM's documented C API. It is safe for one caller at a
time: each thread makes its own.
"""

import ctypes
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mlops_assets.errors import EvaluationError

if TYPE_CHECKING:
    import lightgbm

_FLOAT64, _NORMAL = 1, 0


def row_scorer(booster: "lightgbm.Booster", features: int) -> Callable[[Sequence[float]], float]:
    """Return a function from one row (``features`` numbers, NaN where missing) to its score, as ``predict`` gives it.

    Raises ``EvaluationError`` for a model with more than one score a row, and when LightGBM refuses.
    """
    from lightgbm import basic

    if booster.num_model_per_iteration() != 1:
        raise EvaluationError("the model gives several scores a row; it cannot be served as one")
    library: ctypes.CDLL = vars(basic)["_LIB"]
    handle = ctypes.c_void_p()
    _check(
        library,
        library.LGBM_BoosterPredictForMatSingleRowFastInit(
            booster._handle,
            ctypes.c_int(_NORMAL),
            ctypes.c_int(0),
            ctypes.c_int(-1),
            ctypes.c_int(_FLOAT64),
            ctypes.c_int32(features),
            ctypes.c_char_p(b"num_threads=1"),
            ctypes.byref(handle),
        ),
    )
    return _Row(booster, library, handle, features)


class _Row:
    """Holds the buffers and, as long as it lives, the booster whose memory the handle points into."""

    def __init__(self, booster: "lightgbm.Booster", library: ctypes.CDLL, handle: ctypes.c_void_p, features: int):
        self._booster = booster
        self._library = library
        self._handle = handle
        self._values = np.empty(features, dtype=np.float64)
        self._score = np.empty(1, dtype=np.float64)
        self._arguments = (
            handle,
            ctypes.c_void_p(self._values.ctypes.data),
            ctypes.byref(ctypes.c_int64(0)),
            ctypes.c_void_p(self._score.ctypes.data),
        )

    def __call__(self, row: Sequence[float]) -> float:
        self._values[:] = row
        _check(self._library, self._library.LGBM_BoosterPredictForMatSingleRowFast(*self._arguments))
        return float(self._score[0])

    def __del__(self) -> None:
        self._library.LGBM_FastConfigFree(self._handle)


def _check(library: ctypes.CDLL, status: int) -> None:
    if status:
        library.LGBM_GetLastError.restype = ctypes.c_char_p
        raise EvaluationError(f"LightGBM refused: {library.LGBM_GetLastError().decode()}")
