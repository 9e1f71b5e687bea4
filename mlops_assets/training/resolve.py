"""From ``package.module:function`` to the function.

Belongs here: what an import path must look like, and following it. Not here: who names which path (``recipe.py``).
"""

import importlib
import importlib.util
import re
from collections.abc import Callable
from typing import Any

_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)


def find_path_fault(path: str) -> str | None:
    """Return what is wrong with an import path, or ``None``. The module is looked for, but not imported.

    >>> find_path_fault("json.loads")
    "must be written 'package.module:function', found 'json.loads'"
    >>> find_path_fault("json:loads") is None
    True
    """
    if not isinstance(path, str) or not _PATH.fullmatch(path):
        return f"must be written 'package.module:function', found {path!r}"
    module = path.partition(":")[0]
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError) as error:
        return f"{path!r}: the module {module!r} cannot be found ({error})"
    return None if spec else f"{path!r}: there is no module {module!r} on the import path"


def resolve(path: str) -> Callable[..., Any]:
    """Return the function at ``package.module:function``; ``ImportError`` says which part is not there."""
    if not isinstance(path, str) or not _PATH.fullmatch(path):
        raise ImportError(f"an import path must be written 'package.module:function', found {path!r}")
    module_name, _, name = path.partition(":")
    function = getattr(importlib.import_module(module_name), name, None)
    if not callable(function):
        raise ImportError(f"{path!r}: the module {module_name!r} has no function {name!r}")
    return function  # type: ignore[no-any-return]
