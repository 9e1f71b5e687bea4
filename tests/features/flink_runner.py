"""Runs Flink SQL in streaming mode; a script for the python of Flink's own environment, which lacks this library.

``flink_runner.py SPEC RESULTS`` reads ``{"jars": […], "jobs": {name: {"tables": […], "query": …}}}`` and writes, for
each job, ``{"rows": […]}``, the final state of what the query said, or ``{"error": …}``. With ``insert`` in place of
``query`` a job writes to its own table, until its input ends or the script is killed.
"""

import json
import sys
from pathlib import Path

SETTINGS = {
    "parallelism.default": "1",
    "rest.bind-address": "127.0.0.1",
    "rest.address": "127.0.0.1",
    "rest.bind-port": "0",
    "restart-strategy.type": "disable",
    "table.exec.mini-batch.enabled": "true",
    "table.exec.mini-batch.allow-latency": "2 s",
    "table.exec.mini-batch.size": "20000",
    "taskmanager.memory.network.min": "128mb",
    "taskmanager.memory.network.max": "128mb",
}


def answer(job, jars):
    from pyflink.table import EnvironmentSettings, TableEnvironment  # only Flink's environment has it

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
    return final_state(tables.execute_sql(job["query"]))


def final_state(result):
    from pyflink.common import RowKind  # only Flink's environment has it

    names = result.get_table_schema().get_field_names()
    rows = {}
    with result.collect() as changes:
        for change in changes:
            row = dict(zip(names, change, strict=True))
            if change.get_row_kind() in {RowKind.INSERT, RowKind.UPDATE_AFTER}:
                rows[row["spine_row"]] = row
            else:
                rows.pop(row["spine_row"])
    return [rows[place] for place in sorted(rows)]


def main(spec, results):
    given = json.loads(Path(spec).read_text())
    found = {}
    for name, job in given["jobs"].items():
        try:
            found[name] = {"rows": answer(job, given.get("jars", []))}
        except Exception as error:  # whatever Flink raises is the job's answer
            found[name] = {"error": str(error)}
    Path(results).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
