import itertools
import os
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from mlops_assets.ledger.canonical import canonical_json, digest_of
from mlops_assets.ledger.entry import GENESIS, Entry, Kind

START = datetime(2026, 1, 1, tzinfo=UTC)


def chained(*decisions: tuple[Kind, Mapping[str, Any]], product: str = "p") -> list[Entry]:
    """Return the entries of one product, an hour apart, chained as a ledger would."""
    entries: list[Entry] = []
    for sequence, (kind, body) in enumerate(decisions, start=1):
        fields = {
            "sequence": sequence,
            "product": product,
            "kind": kind.value,
            "at": (START + timedelta(hours=sequence)).isoformat(timespec="microseconds"),
            "actor": "test",
            "body": canonical_json(dict(body)).decode(),
            "previous": entries[-1].digest if entries else GENESIS,
        }
        typed = {"kind": kind, "at": START + timedelta(hours=sequence), "body": dict(body)}
        entries.append(Entry(**{**fields, **typed, "digest": digest_of(fields)}))
    return entries


def rollout(percent: int, phase: str = "RUNNING", step: int = 0) -> dict[str, Any]:
    return {"percent": percent, "step": step, "phase": phase}


def registered(name: str, *, recipe: str = "plain") -> tuple[Kind, dict[str, Any]]:
    body = {
        "candidate": name,
        "version": name.upper(),
        "snapshot": f"snapshot-{name}",
        "training_set": f"training-set-{name}",
        "recipe": recipe,
        "features": f"events-{name}",
        "run_id": f"run-{name}",
    }
    return Kind.CANDIDATE_REGISTERED, body


def released(
    name: str, percent: int, phase: str = "RUNNING", champion: str | None = None
) -> tuple[Kind, dict[str, Any]]:
    body = {
        "release": f"release-{name}",
        "candidate": name,
        "version": name.upper(),
        "features": f"events-{name}",
        "champion": champion,
        "judged": 1,
        "rollout": rollout(percent, phase),
    }
    return Kind.RELEASED, body


def moved(name: str, percent: int, phase: str = "RUNNING", verdict: str = "PASSED") -> tuple[Kind, dict[str, Any]]:
    body = {
        "release": f"release-{name}",
        "verdict": verdict,
        "reason": "as measured",
        "evidence": {"gain": 0.5},
        "rollout": rollout(percent, phase, step=1),
    }
    return Kind.ROLLOUT_MOVED, body


def rolled_back(to: str, release: str | None = None) -> tuple[Kind, dict[str, Any]]:
    return Kind.ROLLED_BACK, {"release": release, "to": to, "by": "ada", "why": "users complain"}


class Words:
    """The decisions of a story, by name."""

    chained = staticmethod(chained)
    registered = staticmethod(registered)
    released = staticmethod(released)
    moved = staticmethod(moved)
    rolled_back = staticmethod(rolled_back)


@pytest.fixture(scope="session")
def say() -> type[Words]:
    return Words


@pytest.fixture
def sqlite_url(tmp_path) -> str:
    return f"sqlite:///{tmp_path / 'kept' / 'ledger.db'}"


_SCHEMAS = itertools.count()


@pytest.fixture
def postgres_url() -> Iterator[str]:
    """A fresh schema on the PostgreSQL server at MLOPS_TEST_POSTGRES_URL, gone afterwards."""
    base = os.environ.get("MLOPS_TEST_POSTGRES_URL")
    if not base:
        pytest.skip("MLOPS_TEST_POSTGRES_URL is not set; make test-services starts a server")
    schema = f"ledger_{uuid.uuid4().hex[:12]}_{next(_SCHEMAS)}"
    engine = sa.create_engine(base, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE SCHEMA {schema}"))
    try:
        url = sa.make_url(base).update_query_dict({"options": f"-csearch_path={schema}", "application_name": schema})
        yield url.render_as_string(hide_password=False)
    finally:
        with engine.connect() as connection:
            connection.execute(sa.text(f"DROP SCHEMA {schema} CASCADE"))
        engine.dispose()


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgres", marks=pytest.mark.services)])
def url(request) -> str:
    """The URL of an empty ledger, one for each database that a ledger may be kept in."""
    if request.param == "memory":
        return "sqlite://"
    return request.getfixturevalue(f"{request.param}_url")


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.services)])
def shared_url(request) -> str:
    """The URL of an empty ledger that other processes reach too."""
    return request.getfixturevalue(f"{request.param}_url")
