"""Run by ``test_faults.py`` as a process of its own, from which it forks others that end by kill -9 or race each other.

Reads ``{"kill": [root, …], "races": [[root, candidate, …], …]}`` as JSON.

In each of ``kill`` it takes a rollout step; the
n-th of these processes is killed after its n-th call to the ledger, the registry or the target. In each of ``races`` it
releases all candidates at the same moment. Prints the exit statuses in the same shape: -9 for a killed process.
"""

import importlib.util
import json
import os
import signal
import sys
from pathlib import Path

spec = importlib.util.spec_from_file_location("release_conftest", Path(__file__).with_name("conftest.py"))
assert spec is not None
assert spec.loader is not None
conftest = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = conftest
spec.loader.exec_module(conftest)


class Deadly:
    def __init__(self, inner, counter, at):
        self.inner, self.counter, self.at = inner, counter, at

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)

        def call(*arguments, **named):
            found = getattr(self.inner, name)(*arguments, **named)
            self.counter[0] += 1
            if self.counter[0] == self.at:
                os.kill(os.getpid(), signal.SIGKILL)
            return found

        return call


def take_step(root: str, at: int) -> int:
    world = conftest.World(Path(root))
    world.load_predictions()
    counter = [0]
    for name in ("ledger", "registry", "serving"):
        setattr(world, name, Deadly(getattr(world, name), counter, at))
    return 0 if world.run("rollout").success else 1


def release(root: str, candidate: str, start: int) -> int:
    world = conftest.World(Path(root))
    definition = world.definitions().resolve_job_def("films_release")
    run_config = {"ops": {"films__release": {"config": {"candidate": candidate}}}}
    instance = world.instance
    os.read(start, 1)  # returns for all at once, when the parent closes its end
    done = definition.execute_in_process(instance=instance, run_config=run_config, raise_on_error=False)
    return 0 if done.success else 1


def forked(work, *arguments) -> int:
    pid = os.fork()
    if pid:
        return pid
    os.dup2(2, 1)
    code = 2
    try:
        code = work(*arguments)
    finally:
        os._exit(code)


def status(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def warm_up() -> None:
    """Import what a run imports late, once for all forks; starts no threads of polars: no fork survives them."""
    import dagster as dg
    import matplotlib.backends.backend_agg
    import matplotlib.figure
    import sqlalchemy.dialects.sqlite

    @dg.asset
    def nothing() -> dg.MaterializeResult:
        return dg.MaterializeResult(metadata={"a": matplotlib.backends.backend_agg.__name__})

    assert sqlalchemy.dialects.sqlite
    assert dg.materialize([nothing], instance=dg.DagsterInstance.ephemeral()).success


def race(root: str, *candidates: str) -> list[int]:
    reading, writing = os.pipe()

    def racer(candidate: str) -> int:
        os.close(writing)
        return release(root, candidate, reading)

    pids = [forked(racer, candidate) for candidate in candidates]
    os.close(writing)
    return [status(pid) for pid in pids]


def main(kill: list[str], races: list[list[str]]) -> None:
    warm_up()
    killed = [status(forked(take_step, root, number)) for number, root in enumerate(kill, start=1)]
    print(json.dumps({"kill": killed, "races": [race(*entrants) for entrants in races]}))


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
