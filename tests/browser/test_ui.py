"""What an operator sees in Dagster's UI after a product was trained, judged and released."""

import time

import films
import pytest
from playwright.sync_api import expect

from mlops_assets.ledger.entry import Kind

pytestmark = pytest.mark.browser
PATIENCE = 30_000
"""Milliseconds; the UI fills its pages bit by bit."""
ENTRIES = {Kind.JUDGED: 4, Kind.RELEASED: 5}


@pytest.fixture(scope="session")
def candidate(history):
    """The digest of the released candidate."""
    entries = films.film_platform(history).ledger.entries("films")
    assert {entry.kind: entry.sequence for entry in entries}.items() >= ENTRIES.items()
    return entries[-1].body["candidate"]


@pytest.fixture
def see(page):
    """Return a function that waits until a text, whole or part, is visible."""

    def seeing(text, *, exact=False):
        expect(page.get_by_text(text, exact=exact).first).to_be_visible(timeout=PATIENCE)

    return seeing


def row_of(page, name):
    """The metadata row of that key."""
    return page.get_by_role("row").filter(has=page.get_by_text(name, exact=True)).first


def test_the_graph_of_a_products_group_shows_every_stage_and_what_became_of_it(page, see, pictures):
    page.set_viewport_size({"width": 3900, "height": 900})  # so wide that the boxes show their details
    page.goto("/locations/films/asset-groups/films/lineage")
    for stage in ("raw", "dataset", "quarantine", "training_set", "candidate", "evaluation", "model_card"):
        see(stage, exact=True)
    for stage in ("release", "deployment", "predictions", "drift", "performance"):
        see(stage, exact=True)
    see("2 / 2 Passed")
    expect(page.get_by_text("Materialized", exact=True)).to_have_count(8, timeout=PATIENCE)
    expect(page.get_by_text("Never materialized", exact=True)).to_have_count(3)
    for kind in ("Polars", "Parquet", "NumPy", "ledger"):
        see(kind, exact=True)
    page.screenshot(path=pictures / "asset_graph_details.png")


GREEN_BOXES = """() => [...document.querySelectorAll("foreignObject")].filter(box =>
    [...box.querySelectorAll("div")].some(part => {
        const [red, green] = getComputedStyle(part).borderTopColor.match(/[0-9]+/g).map(Number);
        return green > red + 50;
    })).length"""


def test_the_graph_fits_a_screen_and_shows_by_colour_what_was_made(page, see, pictures):
    page.set_viewport_size({"width": 2000, "height": 620})
    page.goto("/locations/films/asset-groups/films/lineage")
    for stage in ("raw", "training_set", "evaluation", "release", "performance"):
        see(stage, exact=True)
    deadline = time.monotonic() + PATIENCE / 1000
    while (green := page.evaluate(GREEN_BOXES)) != 8:
        assert time.monotonic() < deadline, f"{green} boxes are green"
        page.wait_for_timeout(100)
    page.screenshot(path=pictures / "asset_graph.png")


def test_nothing_is_out_of_date_right_after_it_was_made(page, see):
    page.goto("/assets")
    see("What is at ")
    expect(page.get_by_text("Materialized", exact=True)).to_have_count(9, timeout=PATIENCE)
    page.wait_for_load_state("networkidle")
    expect(page.get_by_text("Upstream data")).to_have_count(0)


def test_the_page_of_the_release_says_what_was_decided_on_what(page, see, pictures, candidate):
    page.goto("/assets/films/release")
    see("The decision to release a candidate by canary")
    expect(row_of(page, "candidate")).to_contain_text(candidate, timeout=PATIENCE)
    expect(row_of(page, "ledger_entry")).to_contain_text(str(ENTRIES[Kind.RELEASED]))
    expect(row_of(page, "inputs")).to_contain_text(f'"judgement": {ENTRIES[Kind.JUDGED]}')
    expect(row_of(page, "strategy")).to_contain_text("canary(5 → 25 → 50 → 100 %)")
    for named in ("films_release", "films_approval", "stage: release"):
        see(named)
    page.screenshot(path=pictures / "release.png")


def test_each_check_of_the_evaluation_shows_its_verdict_and_its_evidence(page, see, pictures, candidate):
    page.goto("/assets/films/evaluation?view=checks&checkDetail=at_least_roc_auc")
    see("This is a blocking asset check.")
    see("must be at least 0.6")
    for fact in ("verdict", "reason", "candidate", "clusters", "confidence", "limit", "low", "high", "report"):
        see(fact, exact=True)
    see("PASSED", exact=True)
    see(candidate, exact=True)
    page.screenshot(path=pictures / "checks.png", full_page=True)
    page.goto("/assets/films/evaluation?view=checks&checkDetail=superior_brier")
    see("there is no champion to compare with")


@pytest.mark.parametrize(
    ("asset", "picture"),
    [("films/evaluation", "intervals"), ("films/model_card", "what_it_looks_at"), ("features/taste", "distributions"),
     ("films/deployment", "traffic_over_time"), ("films/dataset", "rows_over_time")],
)  # fmt: skip
def test_the_pictures_in_the_metadata_are_drawn(page, pictures, asset, picture):
    page.goto(f"/assets/{asset}")
    row = row_of(page, picture)
    row.get_by_text("Show Markdown").click(timeout=PATIENCE)
    drawn = page.get_by_role("dialog").locator("img").first
    expect(drawn).to_be_visible(timeout=PATIENCE)
    assert drawn.evaluate("image => image.complete && image.naturalWidth") > 300
    page.screenshot(path=pictures / f"{picture}.png")
