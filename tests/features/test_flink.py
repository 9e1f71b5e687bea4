"""The generated SQL, run by Flink in streaming mode, means what the reference means; and on a Kafka broker it goes on.

All questions over files go to Flink in one process, one job each: starting it costs more than asking.
"""

import json
import os
import re
import time
from dataclasses import replace
from datetime import datetime
from fractions import Fraction
from pathlib import Path

import pytest
from feature_cases import EVERYTHING, QUARTER, SCHEMA, START, TICK, drawn, history, views
from processes import awaited, free_port, is_open, running

from mlops_assets.features.flink_sql import flink_sql
from mlops_assets.features.meaning import instant, ratio_value, read_as, value_of
from mlops_assets.features.reference import reference_features
from mlops_assets.features.view import Aggregate, FeatureView, Ratio

pytestmark = pytest.mark.services

ROOT = Path(__file__).parents[2]
PYTHON = Path(os.environ.get("MLOPS_TEST_FLINK_PYTHON", ROOT / ".venv-flink/bin/python"))
BROKER = ROOT / "deployments/ci/kafka/broker.sh"
JARS = sorted(
    path for name in ("flink-connector-kafka", "kafka-clients") for path in BROKER.parent.glob(f"jars/{name}-*")
)
TYPES = {"id": "BIGINT"}
LAST_BIT = Fraction(1, 2**52)
ASKED = [
    (user, START + quarters * QUARTER + ticks * TICK)
    for user in ("ann", "bob", "čeněk", "nobody")
    for quarters, ticks in ((0, 0), (3, 1), (5, 0), (8, -1), (11, 0), (15, 0))
]
SMALL = FeatureView(
    name="small",
    source="shop",
    entity="user",
    event_time="time",
    known_time="known",
    event_key=("id",),
    features=(
        Aggregate(name="count", function="count", column="amount", window=4 * QUARTER),
        Aggregate(name="sum", function="sum", column="stars", type="integer", where="paid"),
        Aggregate(name="last", function="last", column="shop", type="string"),
        Aggregate(name="last_k", function="last_k", column="stars", type="integer", k=3),
        Aggregate(name="since", function="time_since"),
    ),
)
TURNED = "TRANSLATE(HEX({}), '0123456789ABCDEF', 'FEDCBA9876543210')"
PLANTED = {
    "an event at the moment itself is seen": ("happened < asked_at", "happened <= asked_at"),
    "an event known at the moment itself is seen": ("known < asked_at", "known <= asked_at"),
    "the window's start is left out": ("happened >= asked_at -", "happened > asked_at -"),
    "ties are broken the other way": (r"HEX\((v\d+)\)", TURNED.format(r"\1")),
    "nulls are counted": (
        r"COUNT\(\*\) FILTER \(WHERE (happened >= [^)]*) AND v\d+ IS NOT NULL\)",
        r"COUNT(*) FILTER (WHERE \1)",
    ),
    "late events are dropped": (r"FROM given\)", "FROM given WHERE `known` <= `time`)"),
    "an event delivered again counts again": (
        r"known < asked_at\)\) WHERE place = 1",
        "known < asked_at)) WHERE place <= 9",
    ),
}


def written(path, rows):
    """Write rows as JSON lines, times in microseconds; return the options of a Flink table over them."""
    held = [{name: instant(v, name) if isinstance(v, datetime) else v for name, v in row.items()} for row in rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in held))
    return {"connector": "filesystem", "path": str(path), "format": "json"}


def spine_rows(asked):
    return [{"spine_row": place, "user": who, "time": when} for place, (who, when) in enumerate(asked)]


def python_row(view, row):
    """Return Flink's row as the reference would give it, times as datetimes."""
    return {
        feature.name: [value_of(item, feature.result_type) for item in row[feature.name]]
        if feature.is_list
        else value_of(row[feature.name], feature.result_type)
        for feature in view.features
    }


def is_rounded(feature):
    """Return whether Flink may round the feature's value: what it adds up of doubles."""
    return feature.function in {"mean", "std"} or (feature.function, feature.type) == ("sum", "double")


def bound(feature, values):
    """Return how far Flink may be off, as ``flink_sql.py`` states it; ``values`` are those of the window."""
    exact = [Fraction(value) for value in values]
    size, n = sum(map(abs, exact)), len(exact)
    if feature.function == "std":
        mean = sum(exact) / n
        variance = sum((value - mean) ** 2 for value in exact) / n
        return (n + 2) ** 2 * LAST_BIT * Fraction(float(variance) ** 0.5) * (1 + LAST_BIT)
    return n * LAST_BIT * size if feature.function == "sum" else (n + 1) * LAST_BIT * size / n


def disagreements(view, found, rows, asked):
    """Return where Flink's rows are not what the reference says, exactly or within the stated bound."""
    if len(found) != len(asked):
        return [f"{len(found)} rows, not {len(asked)}"]
    meant = reference_features(view, rows, asked)
    rounded = [feature for feature in view.aggregates if is_rounded(feature)]
    listed = [replace(f, function="last_k", type=read_as(f), k=1000, empty=None) for f in rounded]
    windows = reference_features(replace(view, features=tuple(listed)), rows, asked) if listed else [{}] * len(asked)
    wrong = []
    answers = [python_row(view, row) for row in found]
    for place, (row, right, values) in enumerate(zip(answers, meant, windows, strict=True)):
        for feature in view.features:
            value, true = row[feature.name], right[feature.name]
            if isinstance(feature, Ratio):
                true = ratio_value(feature, row)  # one division of what Flink holds
            elif values.get(feature.name):
                near = abs(Fraction(value) - exactly(feature, values[feature.name])) <= bound(
                    feature, values[feature.name]
                )
                true = value if near else true
            if type(value) is not type(true) or value != true:
                wrong.append(f"{asked[place]}, {feature}: {value!r}, not {true!r}")
    return wrong


def exactly(feature, values):
    """Return the true value; of a standard deviation the nearest double, which its bound has room for."""
    exact = [Fraction(value) for value in values]
    mean = sum(exact) / len(exact)
    if feature.function == "std":
        return Fraction(float(sum((value - mean) ** 2 for value in exact) / len(exact)) ** 0.5)
    return sum(exact) if feature.function == "sum" else mean


def planted(query, fault):
    """Return a query with a fault, which must really be in it."""
    right, wrong = PLANTED[fault]
    changed = re.sub(right, wrong, query)
    assert changed != query, f"nothing to break for {fault!r}"
    return changed


def refused_histories():
    """Return a history that Flink must refuse, and what it must say, each of one fault."""
    row = dict(zip(SCHEMA, (1, "ann", START, START, 1.0, 1, True, "a", START), strict=True))
    return {
        "NaN": ([{**row, "amount": "NaN"}], "column 'amount' takes finite numbers below 2^300, found NaN"),
        "too large": ([{**row, "amount": 1e200}], "column 'amount' takes finite numbers below 2^300, found 1.0E200"),
        "no entity": ([{**row, "user": None}], "column 'user' is missing: null"),
        "no time": ([{**row, "time": None}], "column 'time' must be microseconds since 1970 in UTC, found null"),
        "two of one key": ([row, {**row, "stars": 2}], "two different events have one key; question "),
    }


@pytest.fixture(scope="module")
def told():
    """Return the history and the drawn views that the jobs over files were asked about."""
    return history(), {f"drawn {place}": view for place, view in enumerate(drawn(views(), 10))}


@pytest.fixture(scope="module")
def found(told, tmp_path_factory):
    """Return what Flink answers over files, by job."""
    rows, chosen = told
    folder = tmp_path_factory.mktemp("flink")
    given, spine = written(folder / "events.json", rows), written(folder / "spine.json", spine_rows(ASKED))

    def job(view, events=given, query=lambda query: query):
        sql = flink_sql(view, events=events, spine=spine, features={"connector": "print"}, types=TYPES)
        return {"tables": [sql.events, sql.spine], "query": query(sql.query)}

    jobs = {name: job(view) for name, view in {**chosen, "small": SMALL, "everything": EVERYTHING}.items()}
    jobs |= {fault: job(SMALL, query=lambda query, fault=fault: planted(query, fault)) for fault in PLANTED}
    summed = replace(SMALL, features=(*SMALL.features, Aggregate(name="total", function="sum", column="amount")))
    for name, (broken, _) in refused_histories().items():
        jobs[name] = job(summed, events=written(folder / f"{name}.json", broken))
    (folder / "spec.json").write_text(json.dumps({"jobs": jobs}))
    with running_flink(folder / "spec.json", folder / "out.json", folder) as flink:
        flink.wait(timeout=500)
    return json.loads((folder / "out.json").read_text())


def running_flink(spec, results, folder):
    """Run the jobs of a file in Flink's own environment."""
    if not PYTHON.exists():
        pytest.fail(f"no {PYTHON}; deployments/ci/flink.sh makes it")
    return running([PYTHON, Path(__file__).with_name("flink_runner.py"), spec, results], folder, "flink")


def test_drawn_views_are_what_the_reference_says(found, told):
    rows, chosen = told
    for name, view in chosen.items():
        assert "error" not in found[name], found[name]["error"][:2000]
        assert disagreements(view, found[name]["rows"], rows, ASKED) == []


def test_every_function_of_every_type_is_what_the_reference_says(found, told):
    assert disagreements(EVERYTHING, found["everything"]["rows"], told[0], ASKED) == []


def test_the_view_that_faults_are_planted_in_is_right_without_them(found, told):
    assert disagreements(SMALL, found["small"]["rows"], told[0], ASKED) == []


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_found(found, told, fault):
    broken = found[fault]
    assert (
        "two different events" in broken["error"]
        if "error" in broken
        else disagreements(SMALL, broken["rows"], told[0], ASKED)
    )


@pytest.mark.parametrize("name", refused_histories())
def test_what_the_meaning_refuses_ends_the_job_with_a_sentence(found, name):
    assert refused_histories()[name][1] in found[name].get("error", "no error")


class Broker:
    """Topics of JSON on a Kafka broker of this test's own."""

    def __init__(self, address):
        self.address = address
        from confluent_kafka import Producer  # the tests that need no broker run without it

        self._producer = Producer({"bootstrap.servers": address})

    def add(self, topic, rows):
        for row in rows:
            held = {name: instant(v, name) if isinstance(v, datetime) else v for name, v in row.items()}
            self._producer.produce(topic, json.dumps(held))
        assert self._producer.flush(30) == 0

    def options(self, topic):
        return {
            "connector": "kafka",
            "topic": topic,
            "properties.bootstrap.servers": self.address,
            "scan.startup.mode": "earliest-offset",
            "value.format": "json",
        }

    def compacted(self, topic):
        return {
            "connector": "upsert-kafka",
            "topic": topic,
            "properties.bootstrap.servers": self.address,
            "key.format": "json",
            "value.format": "json",
        }

    def latest(self, topic):
        """Return the latest row of each question, in their order."""
        from confluent_kafka import Consumer

        options = {"bootstrap.servers": self.address, "group.id": str(time.monotonic_ns())}
        consumer = Consumer(options | {"auto.offset.reset": "earliest", "enable.partition.eof": True})
        consumer.subscribe([topic])
        rows = {}
        try:
            while (message := consumer.poll(30)) is not None and not message.error():
                place = json.loads(message.key())["spine_row"]
                rows[place] = message.value() and json.loads(message.value())
        finally:
            consumer.close()
        return [row for _, row in sorted(rows.items()) if row]


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    from confluent_kafka.admin import AdminClient, NewTopic

    folder, port = tmp_path_factory.mktemp("kafka"), free_port()
    with running(["/bin/bash", BROKER, "run", port, folder], folder, "broker") as process:
        awaited(lambda: is_open(port), "the broker answered", process)
        client = AdminClient({"bootstrap.servers": f"127.0.0.1:{port}"})
        topics = [NewTopic(name, num_partitions=1) for name in ("events", "questions")]
        topics.append(NewTopic("features", num_partitions=1, config={"cleanup.policy": "compact"}))
        for made in client.create_topics(topics, operation_timeout=60, request_timeout=60).values():
            made.result(timeout=60)
        yield Broker(f"127.0.0.1:{port}")


def test_a_broker_s_features_follow_late_and_repeated_events_and_outlive_a_killed_job(broker, tmp_path):
    rows = history()
    early, late = rows[::2], [*rows[1::2], *rows[:10]]
    sql = flink_sql(
        SMALL,
        events=broker.options("events"),
        spine=broker.options("questions"),
        features=broker.compacted("features"),
        types=TYPES,
    )
    spec = {"tables": [sql.events, sql.spine, sql.features], "insert": sql.insert}
    (tmp_path / "spec.json").write_text(json.dumps({"jobs": {"stream": spec}, "jars": [str(jar) for jar in JARS]}))
    job = tmp_path / "spec.json", tmp_path / "out.json", tmp_path

    def agrees(known):
        found = broker.latest("features")
        return len(found) == len(ASKED) and not disagreements(SMALL, found, known, ASKED)

    broker.add("questions", spine_rows(ASKED))
    broker.add("events", early)
    with running_flink(*job):
        awaited(lambda: agrees(early), "the features of the first events")
        broker.add("events", late)
        awaited(lambda: agrees(rows), "the features that late events correct")
    broker.add("events", [{**rows[0], "id": 5000, "time": START + QUARTER / 2, "known": START}])
    with running_flink(*job):  # the first was killed with all it knew
        grown = [*rows, {**rows[0], "id": 5000, "time": START + QUARTER / 2, "known": START}]
        awaited(lambda: agrees(grown), "the features after a kill")
