"""Runs Flink SQL in streaming mode; a script for the python of Flink's own environment, which lacks this library.

``flink_runner.py SPEC RESULTS`` reads ``{"jars": […], "jobs": {name: {"tables": […], "query": …}}}`` and writes, for
each job, ``{"rows": […]}``, the final state of what the query said, or ``{"error": …}``. A job with ``insert`` in place
of ``query`` writes to its own table; the script then waits for it until it is killed or the input ends.
"""

import json
import sys
from pathlib import Path

from pyflink.common import RowKind
from pyflink.table import EnvironmentSettings, TableEnvironment

SETTINGS = {
    "parallelism.default": "1",
    "rest.bind-address": "127.0.0.1",
    "rest.address": "127.0.0.1",
    "rest.bind-port": "0",
    "taskmanager.memory.network.min": "128mb",
    "taskmanager.memory.network.max": "128mb",
    "restart-strategy.type": "none",
}


def answer(job, jars):
    tables = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
    for name, value in SETTINGS.items():
        tables.get_config().set(name, value)
    if jars:
        tables.get_config().set("pipeline.jars", ";".join(Path(jar).as_uri() for jar in jars))
    for statement in job["tables"]:
        tables.execute_sql(statement)
    if "insert" in job:
        tables.execute_sql(job["insert"]).wait()
        return []
    result = tables.execute_sql(job["query"])
    names = result.get_table_schema().get_field_names()
    rows = {}
    with result.collect() as changes:
        for change in changes:
            row = dict(zip(names, change))
            if change.get_row_kind() in {RowKind.INSERT, RowKind.UPDATE_AFTER}:
                rows[row["spine_row"]] = row
            else:
                rows.pop(row["spine_row"])
    return [rows[place] for place in sorted(rows)]


def main():
    spec = json.loads(Path(sys.argv[1]).read_text())
    results = {}
    for name, job in spec["jobs"].items():
        try:
            results[name] = {"rows": answer(job, spec.get("jars", []))}
        except Exception as error:  # whatever Flink raises is the answer
            results[name] = {"error": str(error)}
    Path(sys.argv[2]).write_text(json.dumps(results))


main()
