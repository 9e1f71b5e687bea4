"""``mlops-assets``: what people and CI ask from a shell.

``launch``  start a job of a running instance, wait, print the gates' verdicts; exit 1 if a gate halted it
``why``     why is this version live? the ledger's answer
``verify``  recompute the ledger's hash chain
``propose`` ask for a training with one of the product's declared recipes
"""

import argparse
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_assets.errors import MlopsError, ServiceUnavailable
from mlops_assets.ledger.entry import Kind
from mlops_assets.ledger.explain import why_live
from mlops_assets.ledger.sql import SqlLedger

if TYPE_CHECKING:
    import dagster as dg

GATE_HALTED, RUN_FAILED, NOT_FINISHED = 1, 2, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        code: int = options.run(options)
    except MlopsError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return RUN_FAILED
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mlops-assets", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="command")

    launch = commands.add_parser("launch", help="launch a job, wait, print the gates' verdicts")
    launch.add_argument("-j", "--job", required=True)
    launch.add_argument("-w", "--workspace", default="workspace.yaml")
    launch.add_argument("--config-json", help="run config, as `dagster job launch` takes it")
    launch.add_argument("--timeout", type=float, default=3600, help="seconds to wait for the run's end")
    launch.set_defaults(run=_launch)

    for name, run, text in (("why", _why, "why is this version live?"), ("propose", _propose, "propose a recipe")):
        command = commands.add_parser(name, help=text)
        command.add_argument("product")
        _add_ledger(command)
        command.set_defaults(run=run)
        if name == "propose":
            command.add_argument("--recipe", required=True)
            command.add_argument("--why", required=True)
            command.add_argument("--by", required=True)

    verify = commands.add_parser("verify", help="recompute the ledger's hash chain")
    _add_ledger(verify)
    verify.set_defaults(run=_verify)
    return parser


def _add_ledger(command: argparse.ArgumentParser) -> None:
    command.add_argument("--ledger", default="sqlite:///.mlops/ledger.db", help="SQLAlchemy URL of the ledger")


def _ledger(url: str) -> SqlLedger:
    """Return the ledger at ``url``; a file that is not there is refused, or a slip of the pen would verify as empty."""
    file = url.partition("?")[0].removeprefix("sqlite:///")
    if file and file != url and not Path(file).exists():
        raise ServiceUnavailable(f"there is no ledger at {url}; say where it is by --ledger")
    return SqlLedger(url)


def _why(options: argparse.Namespace) -> int:
    ledger = _ledger(options.ledger)
    ledger.verify()
    print(why_live(ledger.entries(options.product), options.product).to_text())
    return 0


def _verify(options: argparse.Namespace) -> int:
    print(f"{_ledger(options.ledger).verify()} entries, chain intact")
    return 0


def _propose(options: argparse.Namespace) -> int:
    body = {"recipe": options.recipe, "why": options.why}
    entry = _ledger(options.ledger).append(options.product, Kind.RECIPE_PROPOSED, body, actor=options.by)
    print(f"proposed as entry {entry.sequence}; the proposals sensor will launch its training")
    return 0


def _launch(options: argparse.Namespace) -> int:
    import dagster as dg

    run_id = str(uuid.uuid4())
    command = [sys.executable, "-m", "dagster", "job", "launch", "-w", options.workspace, "-j", options.job]
    command += ["--run-id", run_id]
    if options.config_json:
        command += ["--config-json", options.config_json]
    started = subprocess.run(command, check=False, capture_output=True, text=True)
    if started.returncode:
        print(started.stderr or started.stdout, file=sys.stderr)
        return RUN_FAILED
    with dg.DagsterInstance.get() as instance:
        status = _wait(instance, run_id, options.timeout)
        print(f"{options.job} run {run_id}: {status.value if status else 'not finished'}")
        halted = [line for line in _verdicts(instance, run_id) if not _print(line).startswith("PASSED")]
    if status is None:
        return NOT_FINISHED
    if halted:
        return GATE_HALTED
    return 0 if status is dg.DagsterRunStatus.SUCCESS else RUN_FAILED


def _wait(instance: "dg.DagsterInstance", run_id: str, timeout: float) -> "dg.DagsterRunStatus | None":
    """Return the status the run ended with, or ``None`` when it did not end in time."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        run = instance.get_run_by_id(run_id)
        if run is not None and run.is_finished:
            return run.status
        time.sleep(0.5)
    return None


def _verdicts(instance: "dg.DagsterInstance", run_id: str) -> Iterator[str]:
    """Yield one line per gate that was judged in the run: verdict, gate, reason."""
    import dagster as dg

    for record in instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION):
        evaluation = record.get_dagster_event().asset_check_evaluation_data
        facts = {name: value.value for name, value in evaluation.metadata.items()}
        verdict = facts.get("verdict", "PASSED" if evaluation.passed else "FAILED")
        yield f"{verdict:12}  {evaluation.check_name:28}  {facts.get('reason', '')}"


def _print(line: str) -> str:
    print(line)
    return line


if __name__ == "__main__":
    sys.exit(main())
