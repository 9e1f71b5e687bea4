"""Run by ``test_locations.py`` in a process of its own: loads workspaces as a code server does, prints what is in them.

``describe_location.py <workspace.yaml> …`` prints one JSON object for each, with its assets, checks, jobs and sensors.
"""

import json
import sys
from typing import Any

import dagster as dg
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster._grpc.server import LoadedRepositories


def load(workspace: str) -> dg.RepositoryDefinition:
    """Return the only repository of the only code location of ``workspace``."""
    [origin] = WorkspaceFileTarget(paths=[workspace]).create_origins()
    target = origin.loadable_target_origin
    loaded = LoadedRepositories(target, None, [sys.executable, "-m", "dagster"], None)
    [repository] = loaded.definitions_by_name.values()
    return repository


def describe(repository: dg.RepositoryDefinition) -> dict[str, Any]:
    """Return what the UI would show, as JSON values."""
    graph = repository.asset_graph
    assets = {
        key.to_user_string(): {
            "group": node.group_name,
            "owners": list(node.owners),
            "kinds": sorted(node.kinds),
            "description": node.description,
            "stage": node.tags.get("stage"),
            "parents": sorted(parent.to_user_string() for parent in node.parent_keys),
            "metadata": {name: str(value) for name, value in node.metadata.items() if isinstance(value, str)},
        }
        for key in graph.get_all_asset_keys()
        for node in [graph.get(key)]
    }
    checks = {
        f"{key.asset_key.to_user_string()}:{key.name}": {"blocking": spec.blocking, "description": spec.description}
        for key in graph.asset_check_keys
        for spec in [graph.get_check_spec(key)]
    }
    jobs = {job.name: job.description for job in repository.get_all_jobs() if not job.name.startswith("__")}
    sensors = {sensor.name: sensor.default_status.value for sensor in repository.sensor_defs}
    return {"assets": assets, "checks": checks, "jobs": jobs, "sensors": sensors}


if __name__ == "__main__":
    print(json.dumps([describe(load(workspace)) for workspace in sys.argv[1:]]))
