"""``make check``: load every code location as production does, and say what is in it."""

import subprocess
import sys

from deployments.processes import ROOT, dagster_environment


def main() -> int:
    """Return 0 when all code locations load and validate."""
    command = [sys.executable, "-m", "dagster", "definitions", "validate"]
    for workspace in ("workspace.yaml", "deployments/demo/workspace.yaml"):
        ended = subprocess.run([*command, "-w", workspace], cwd=ROOT, env=dagster_environment(), check=False)
        if ended.returncode:
            return ended.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
