"""``make dev``: the Dagster UI with sensors on, and the prediction server, over the history below .mlops."""

import sys

from deployments.processes import HOME, Processes, await_serving, dagster_environment, start_serving

UI_PORT = 3000


def main() -> int:
    """Run both until Ctrl-C."""
    with Processes(HOME / "logs") as processes:
        start_serving(processes)
        await_serving(processes)
        processes.start(
            "dagster",
            *(sys.executable, "-m", "dagster", "dev", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(UI_PORT)),
            environment=dagster_environment(),
        )
        print(f"Dagster UI: http://127.0.0.1:{UI_PORT}   (logs in {HOME / 'logs'}; Ctrl-C ends it)", flush=True)
        try:
            processes.running["dagster"].wait()
        except KeyboardInterrupt:
            print("ending …")
    return 0


if __name__ == "__main__":
    sys.exit(main())
