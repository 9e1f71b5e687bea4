"""``python -m benchmarks [group]``: measure, and print one JSON line per figure.

A group is the part of a figure's name before the dot. Each figure is measured beside its baseline in the same run; what
yields several figures returns them in a list.
"""

import importlib
import json
import pkgutil
import sys
from collections.abc import Callable, Iterator
from typing import Any

import benchmarks

Line = dict[str, Any]
Figure = Callable[[], Line | list[Line]]


def figures() -> Iterator[Figure]:
    """Yield the figures of every module beside this one that has ``FIGURES``."""
    for module in sorted(pkgutil.iter_modules(benchmarks.__path__), key=lambda m: m.name):
        if not module.name.startswith("_"):
            yield from getattr(importlib.import_module(f"benchmarks.{module.name}"), "FIGURES", ())


def main(arguments: list[str]) -> int:
    """Measure the figures of one group, or all; return 1 if one of them could not be measured."""
    group = arguments[0] if arguments else ""
    failures = 0
    for figure in figures():
        if group and getattr(figure, "group", "spine") != group:
            continue
        try:
            found = figure()
            for line in found if isinstance(found, list) else [found]:
                print(json.dumps(line), flush=True)
        except Exception as error:  # one figure that fails must not hide the others
            failures += 1
            print(f"{figure.__name__}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
