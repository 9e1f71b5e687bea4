"""A virtual environment of its own for Feast, whose dependencies do not go together with ours."""

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[1] / ".venv-feast"
VERSION = "0.67.0"


def feast_python() -> Path:
    """Return the interpreter that has Feast, installed on first use."""
    python = FOLDER / "bin" / "python"
    if not (FOLDER / VERSION).exists():
        uv = Path(sys.executable).with_name("uv")
        subprocess.run([uv, "venv", "-q", "--clear", "--python", sys.executable, FOLDER], check=True)
        subprocess.run([uv, "pip", "install", "-q", "--python", python, f"feast[redis]=={VERSION}"], check=True)
        (FOLDER / VERSION).touch()
    return python
