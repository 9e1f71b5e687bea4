"""Dagster's UI over a history in which one product was trained, judged and released, and a browser to look at it."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import dagster as dg
import films
import pytest

ROOT = Path(__file__).resolve().parents[2]
INSTANCE = "telemetry: {enabled: false}\nnux: {enabled: false}\n"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]


@pytest.fixture(scope="session")
def history(tmp_path_factory):
    """Return a folder below which the product was trained, judged and released, and every step recorded."""
    home = tmp_path_factory.mktemp("history")
    (home / "dagster").mkdir()
    (home / "dagster" / "dagster.yaml").write_text(INSTANCE)
    films.deliver(home)
    definitions = films.film_definitions(home)
    with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
        for job in ("films_train", "films_release"):
            assert definitions.resolve_job_def(job).execute_in_process(instance=instance).success
    return home


@pytest.fixture(scope="session")
def ui(history):
    """The address of a web server over that history; it and its children end with the tests."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "DAGSTER_HOME": str(history / "dagster"),
        "DAGSTER_DISABLE_TELEMETRY": "1",
        "FILMS_HOME": str(history),
        "PYTHONPATH": str(ROOT / "tests" / "small"),
    }
    location = ("-m", "films", "-d", str(ROOT / "tests" / "small"))
    command = [sys.executable, "-m", "dagster_webserver", *location, "-h", "127.0.0.1", "-p", str(port)]
    log = history / "webserver.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
    try:
        _wait_for(f"http://127.0.0.1:{port}/server_info", process, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_for(url, process, log, seconds=120):
    deadline = time.monotonic() + seconds
    while True:
        try:
            return urllib.request.urlopen(url, timeout=5)
        except OSError:
            assert process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < deadline, f"no answer from {url} after {seconds} s\n{log.read_text()[-3000:]}"
            time.sleep(0.2)


@pytest.fixture(scope="module")
def chromium():
    """A browser of a module's own: while Playwright is open its loop runs in this thread, and no other may."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium")
    if path is None:
        pytest.fail("no chromium; make test-services installs it")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(ui, chromium):
    """A page that reaches the web server and nothing else."""
    context = chromium.new_context(base_url=ui, viewport={"width": 1600, "height": 1000})
    context.add_init_script("localStorage.setItem('dagster-nav-collapsed', 'true')")
    context.route(lambda url: not url.startswith(ui), lambda route: route.abort())
    yield context.new_page()
    context.close()


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """The folder for screenshots: ``MLOPS_SCREENSHOTS`` if it is set."""
    named = os.environ.get("MLOPS_SCREENSHOTS")
    folder = Path(named) if named else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
