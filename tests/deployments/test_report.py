import re
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from deployments.demo.pictures import VARIABLES, DriftBar, Event, LiveSequence, MetricPoint
from deployments.demo.report import STYLE, Act, DemoStory, render, short, write_report
from mlops_assets.ledger.entry import Entry, Kind

START = datetime(2026, 1, 1, tzinfo=UTC)
OLD, NEW = "sha256:" + "a" * 64, "sha256:" + "b" * 64
ACT = Act(name="First release", expected="it serves", happened="it serves", ok=True, seconds=12.4)
WHOLE = DemoStory(
    title="A story",
    acts=[ACT],
    facts={"predictions": "300"},
    traffic=pl.DataFrame(
        {"at": [START + timedelta(seconds=n) for n in range(300)], "version": [OLD] * 200 + [NEW] * 100}
    ),
    versions={OLD: "v1", NEW: "v2"},
    events=[Event(at=START + timedelta(seconds=200), label="v2 live"), Event(at=START, label="fell", bad=True)],
    metrics=[
        MetricPoint(act="1", role="candidate", metric="brier", value=0.2, low=0.19, high=0.21),
        MetricPoint(act="2", role="champion", metric="roc_auc", value=0.7, low=0.69, high=0.71),
    ],
    live=[
        LiveSequence(title="v2", units=[5], gain=[0.1], low=[0.0], high=[0.2], margin=0.02, verdict="PASSED"),
        LiveSequence(title="v3", units=[5, 9], gain=[0, -1], low=[-2, -2], high=[1, 0], margin=0.02, verdict="FAILED"),
    ],
    shap={"age": 0.2, "income": 0.1},
    drift=[DriftBar(name="age", effect=0.3, threshold=0.1, drifted=True)],
    why_live="because entry 1 says so",
    ledger=[
        Entry(
            sequence=1,
            product="p",
            kind=Kind.APPROVED,
            at=START,
            actor="<someone>",
            body={"candidate": NEW, "by": "me", "why": "a & b", "evidence": {"p": 0.00012345, OLD: [None, 1]}},
            previous=OLD,
            digest=NEW,
        )
    ],
    verified_entries=1,
    attribution="Data: theirs",
)


@pytest.fixture(scope="module")
def page():
    return render(WHOLE)


def test_the_page_needs_nothing_but_itself(page):
    assert not re.search(r"""(src|href)\s*=\s*["'](?!#)""", page)
    assert not re.search(r"@import|url\((?!#)", page)
    assert "<script" not in page
    assert set(re.findall(r'https?://[^"<\s]+', page)) <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


def test_every_colour_of_the_pictures_is_one_of_the_pages_own(page):
    assert page.count("<svg") == 5
    drawn = set(re.findall(r"#[0-9a-f]{6}", page.replace(STYLE, "")))
    assert not drawn & set(VARIABLES)
    assert drawn <= {"#000000", "#ffffff"}
    assert set(re.findall(r"var\(--([\w-]+)\)", page)) <= set(re.findall(r"--([\w-]+):", STYLE))
    assert not re.search(r'\s(fill|stroke|color)="var', page)


def test_names_within_the_pictures_are_unique_and_references_resolve(page):
    names = re.findall(r'\sid="([^"]+)"', page)
    assert len(names) == len(set(names))
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', page)) <= set(names)


def test_the_same_story_gives_the_same_page(page, tmp_path):
    assert write_report(tmp_path / "new" / "report.html", WHOLE).read_text() == page


def test_text_is_escaped_and_digests_are_shortened(page):
    assert "&lt;someone&gt;" in page
    assert "a &amp; b" in page
    assert "bbbbbbbb" in page
    assert NEW not in page
    assert short(NEW) == "bbbbbbbb"


@pytest.mark.parametrize(("oks", "told"), [([True, True], True), ([True, False], False), ([], False)])
def test_a_story_is_told_only_if_every_act_ended_as_it_must(oks, told):
    acts = [Act(name="a", expected="b", happened="c", ok=ok) for ok in oks]
    story = DemoStory(title="t", acts=acts)
    assert story.is_told is told
    assert ("not every act ended as it must" in render(story)) is not told


def test_what_a_story_lacks_is_left_out():
    page = render(DemoStory(title="t", acts=[ACT], traffic=WHOLE.traffic.clear()))
    assert "<svg" not in page
    assert "Ledger" not in page
    assert "First release" in page
