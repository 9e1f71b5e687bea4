"""``make demo``: one true story on real data, told under the real Dagster daemon.

Every run is launched by a sensor; this file only delivers data, proposes recipes, plays traffic and watches. Each act
says what must happen, waits for it, and says what did. The exit code is 0 only if every act ended as it must.
"""

import importlib
import shutil
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import polars as pl

from deployments.demo import ratings
from deployments.demo.replay import Replay
from deployments.demo.report import Act, write_report
from deployments.processes import (
    HOME,
    SERVING_URL,
    Processes,
    await_daemon,
    await_serving,
    start_daemon,
    start_serving,
    wait_for,
)
from mlops_assets.errors import MlopsError
from mlops_assets.ledger.entry import Entry, Kind, Ledger
from mlops_assets.ledger.explain import why_live
from mlops_assets.ledger.state import ProductState, fold
from resources.stores import local_ledger

NAME = "recommendations"
SOURCE = HOME / "source" / "ratings"
PATIENCE_SECONDS = 240
FIRST_PORTION, NEXT_PORTION = 3500, 700  # requests asked quickly before each step of a rollout
LARGER_PORTION = 5000  # a retrained model gains less than a new one, so its first step needs more people
MOST_PER_USER = 80
FINAL = ("COMPLETED", "ROLLED_BACK")


@dataclass(slots=True)
class Stage:
    """What the acts share: the ledger, the processes, the clock, and what was told so far."""

    ledger: Ledger
    processes: Processes
    started: float = field(default_factory=time.monotonic)
    acts: list[Act] = field(default_factory=list)

    def say(self, text: str) -> None:
        """Print one line of progress with the seconds since the start."""
        print(f"[{time.monotonic() - self.started:5.0f} s]   {text}", flush=True)

    def open(self, title: str) -> int:
        """Announce an act and return the ledger's length at its beginning."""
        print(f"\n[{time.monotonic() - self.started:5.0f} s] {title}", flush=True)
        return self.state.last_sequence

    def close(self, title: str, expected: str, happened: str, ok: bool) -> None:
        """Record how an act ended."""
        self.acts.append(Act(name=title, expected=expected, happened=happened, ok=ok))
        self.say(f"{'as it must' if ok else 'NOT AS IT MUST'}: {happened}")

    @property
    def state(self) -> ProductState:
        """The product's state as the ledger has it now."""
        return fold(self.ledger.entries(NAME))

    def since(self, sequence: int, *kinds: Kind) -> list[Entry]:
        """Return the entries of these kinds after ``sequence``."""
        return [entry for entry in self.ledger.entries(NAME, after=sequence) if entry.kind in kinds]

    def wait(self, sequence: int, what: str, *kinds: Kind, where: Callable[[Entry], bool] = lambda _: True) -> Entry:
        """Wait for an entry of these kinds after ``sequence`` and return it, telling progress meanwhile."""
        self.say(f"waiting for {what} …")
        found: list[Entry] = []

        def is_there() -> bool:
            found.extend(entry for entry in self.since(sequence, *kinds) if where(entry))
            return bool(found)

        wait_for(is_there, what, PATIENCE_SECONDS, alive=self.processes.check)
        return found[0]

    def judged(self, sequence: int) -> Entry:
        """Wait for a judgement after ``sequence``, tell each gate's verdict, and return it."""
        entry = self.wait(sequence, "training, evaluation and gates", Kind.JUDGED)
        for judgement in entry.body["judgements"]:
            self.say(f"  {judgement['verdict']:12} {judgement['gate']:24} {judgement['reason']}")
        return entry

    def rollout_end(self, sequence: int, frame: pl.DataFrame, *, portion: int = FIRST_PORTION) -> tuple[Entry, Replay]:
        """Play ``frame`` as traffic until the rollout that was released after ``sequence`` ends."""
        replay = Replay(
            url=SERVING_URL, product=NAME, frame=frame, portion=portion, most_per_user=MOST_PER_USER
        ).start()
        told = sequence
        try:
            while True:
                step = self.wait(told, "the next step of the rollout", Kind.ROLLOUT_MOVED)
                rollout = step.body["rollout"]
                self.say(
                    f"  {step.body['verdict']}: {step.body['reason']} → {rollout['percent']} %, {rollout['phase']}"
                )
                told = step.sequence
                if rollout["phase"] in FINAL:
                    return step, replay
                replay.ask_more(NEXT_PORTION)
        finally:
            replay.stop()
            self.say(f"  {replay.sent} requests answered with their outcomes, {len(replay.failed)} failed")


def first_release(stage: Stage) -> None:
    """Act 1."""
    title = "1. First release"
    begin = stage.open(title)
    ratings.deliver(SOURCE, "until-2000", ratings.between(None, ratings.year(2001)))
    await_serving(stage.processes)
    judged = stage.judged(begin)
    stage.wait(begin, "the release", Kind.RELEASED)
    replay = Replay(
        url=SERVING_URL, product=NAME, frame=ratings.between(ratings.year(2001), ratings.year(2002)).head(200)
    )
    wait_for(lambda: _serves(stage), "the server to serve the champion", PATIENCE_SECONDS, alive=stage.processes.check)
    replay.start().join()
    ok = judged.body["verdict"] == "PASSED" and judged.body["champion"] is None and replay.sent == 200
    stage.close(title, "passes its absolute gates and serves", f"version 1 live, {replay.sent} requests answered", ok)


def new_data(stage: Stage) -> None:
    """Act 2."""
    title = "2. New data version"
    begin = stage.open(title)
    before = stage.state.champion
    ratings.deliver(SOURCE, "until-2005", ratings.between(ratings.year(2001), ratings.year(2006)))
    judged = stage.judged(begin)
    released = stage.wait(begin, "the release", Kind.RELEASED)
    end, replay = stage.rollout_end(released.sequence, ratings.between(ratings.year(2006), ratings.year(2009)))
    champion = stage.state.champion
    promoted = champion is not None and champion.digest == judged.body["candidate"] and champion != before
    percents = [entry.body["rollout"]["percent"] for entry in stage.since(begin, Kind.RELEASED, Kind.ROLLOUT_MOVED)]
    ok = promoted and end.body["rollout"]["phase"] == "COMPLETED" and percents == [5, 25, 50, 100] and not replay.failed
    stage.close(title, "beats the champion, canary 5 → 25 → 50 → 100 %", f"canary {percents}, champion: {promoted}", ok)


def bad_candidate(stage: Stage) -> None:
    """Act 3."""
    title = "3. A bad candidate"
    begin = stage.open(title)
    before = stage.state.champion
    _propose(stage, "shifted_features", "profiles joined by position are quicker to build")
    judged = stage.judged(begin)
    failed = [j["gate"] for j in judged.body["judgements"] if j["verdict"] == "FAILED"]
    untouched = stage.state.champion == before and not stage.since(begin, Kind.RELEASED)
    ok = judged.body["verdict"] != "PASSED" and bool(failed) and untouched
    stage.close(title, "stopped by a gate before any traffic", f"stopped by {', '.join(failed) or 'no gate'}", ok)


def sneaky_candidate(stage: Stage) -> None:
    """Act 4."""
    title = "4. A sneaky candidate"
    begin = stage.open(title)
    before = stage.state.champion
    _propose(stage, "batch_profiles", "one profile look-up per batch saves nine in ten reads")
    judged = stage.judged(begin)
    released = stage.wait(begin, "the release", Kind.RELEASED)
    end, replay = stage.rollout_end(released.sequence, ratings.between(ratings.year(2009), ratings.year(2012)))
    saw = end.body["evidence"]["exposed_requests"]
    stopped = end.body["rollout"]["phase"] == "ROLLED_BACK" and end.body["verdict"] == "FAILED"
    first = len(stage.since(begin, Kind.ROLLOUT_MOVED)) == 1
    ok = judged.body["verdict"] == "PASSED" and stopped and first and stage.state.champion == before
    happened = f"passed offline, rolled back by itself at its first step: it saw {replay.sent} requests, answered {saw}"
    stage.close(title, "passes offline, rolled back at its first canary step", happened, ok)


def drift(stage: Stage) -> None:
    """Act 5."""
    title = "5. Drift"
    begin = stage.open(title)
    before = stage.state.champion
    ratings.deliver(SOURCE, "until-2008", ratings.between(ratings.year(2006), ratings.year(2009)))
    stage.say("a campaign for family films begins: live inputs shift")
    is_family = pl.col("genres").str.contains("Children|Animation|Fantasy")
    people = ratings.between(ratings.year(2012), None)  # nobody has been asked about these ratings yet
    campaign, later = people.filter(is_family), people.filter(~is_family)
    crowd = 24  # a campaign brings many people at once, and drift is told from people, not from requests
    replay = Replay(url=SERVING_URL, product=NAME, frame=campaign, concurrency=crowd).start()
    threading.Thread(target=_import_what_the_report_needs, daemon=True).start()
    found = stage.wait(begin, "drift to be found", Kind.DRIFT_FOUND, where=_names_the_campaign)
    replay.stop()
    stage.say(f"  drift in {', '.join(found.body['columns'])}")
    asked = stage.wait(begin, "retraining to be requested", Kind.RETRAINING_REQUESTED)  # by an earlier window, perhaps
    (cause,) = (entry for entry in stage.ledger.entries(NAME) if entry.sequence == asked.body["cause"])
    judged = stage.judged(asked.sequence)
    released = stage.wait(begin, "the release", Kind.RELEASED)
    stage.rollout_end(released.sequence, later, portion=LARGER_PORTION)
    champion = stage.state.champion
    promoted = champion is not None and champion != before and champion.digest == judged.body["candidate"]
    ok = cause.kind is Kind.DRIFT_FOUND and promoted
    happened = f"{len(found.body['columns'])} columns named; retrained model {'' if promoted else 'not '}live"
    stage.close(title, "names the columns, retrains, promotes", happened, ok)


def _names_the_campaign(found: Entry) -> bool:
    """Return whether a finding is of the campaign: the years that the rollout before it replayed differ as well."""
    return "genre_children" in found.body["columns"]


def why(stage: Stage) -> None:
    """Act 6."""
    title = "6. Why is this version live?"
    stage.open(title)
    length = stage.ledger.verify()
    text = why_live(stage.ledger.entries(NAME), NAME).to_text()
    print(text)
    champion = stage.state.champion
    ok = champion is not None and champion.digest in text
    stage.close(title, "answered from the ledger, chain intact", f"{length} entries, hash chain verified", ok)


def main() -> int:
    """Tell the story from a clean start and return 0 if every act ended as it must."""
    shutil.rmtree(HOME, ignore_errors=True)
    print(__doc__.split("\n\n")[0], "\n", ratings.ATTRIBUTION, sep="", flush=True)
    with Processes(HOME / "logs") as processes:
        stage = Stage(ledger=local_ledger(HOME), processes=processes)
        try:
            _set_the_stage(stage)
            for act in (first_release, new_data, bad_candidate, sneaky_candidate, drift, why):
                act(stage)
        except MlopsError as error:
            stage.close("the story", "goes on to its end", f"{type(error).__name__}: {error}", ok=False)
        from deployments.demo.gather import gather

        report = write_report(HOME / "report.html", gather(stage.ledger, stage.acts, HOME))
    for told in stage.acts:
        print(f"{'ok    ' if told.ok else 'FAILED'}  {told.name:32} {told.happened}")
    print(f"\nReport: {report}\nThe same history in Dagster's UI: make dev")
    return 0 if len(stage.acts) == 6 and all(told.ok for told in stage.acts) else 1


def _set_the_stage(stage: Stage) -> None:
    stage.say("starting the prediction server and the Dagster daemon")
    SOURCE.mkdir(parents=True, exist_ok=True)
    start_daemon(stage.processes, "deployments.demo.location", "deployments/demo/warm.yaml")
    ratings.ratings()  # read while the others start
    await_daemon(stage.processes)
    start_serving(stage.processes)


def _import_what_the_report_needs() -> None:
    """Spend the waiting time on what takes seconds to import."""
    for module in ("deployments.demo.gather", "lightgbm", "mlflow"):
        importlib.import_module(module)


def _propose(stage: Stage, recipe: str, reason: str) -> None:
    stage.say(f'somebody proposes the recipe {recipe}: "{reason}"')
    stage.ledger.append(NAME, Kind.RECIPE_PROPOSED, {"recipe": recipe, "why": reason}, actor="a data scientist")


def _serves(stage: Stage) -> bool:
    state = stage.state
    if state.champion is None:
        return False
    import httpx

    plan = httpx.get(f"{SERVING_URL}/v2/models/{NAME}/plan", timeout=10)
    return plan.is_success and plan.json()["weights"] == {state.champion.digest: 100}


if __name__ == "__main__":
    sys.exit(main())
