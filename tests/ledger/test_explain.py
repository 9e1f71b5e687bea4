"""Why is this version live?"""

import json

from mlops_assets.ledger.entry import Kind
from mlops_assets.ledger.explain import why_live


def judged(name, champion=None):
    judgements = [
        {"gate": "superior_auc", "verdict": "PASSED", "reason": "gained +0.03", "evidence": {"gain": 0.03}},
        {"gate": "at_least_auc", "verdict": "PASSED", "reason": "0.8 of 0.7", "evidence": {}},
    ]
    body = {
        "candidate": name,
        "champion": champion,
        "report": f"report-{name}",
        "evaluation": {"golden": "golden-set"},
        "verdict": "PASSED",
        "judgements": judgements,
    }
    return Kind.JUDGED, body


def story_of_b(say):
    """a is live; b was proposed, judged, approved, rolled out; c came after it and failed."""
    return say.chained(
        say.registered("a"),
        judged("a"),
        say.released("a", 100, "COMPLETED"),
        (Kind.RECIPE_PROPOSED, {"recipe": "deep", "why": "more layers"}),
        (Kind.RECIPE_PROPOSED, {"recipe": "wide", "why": "more units"}),
        (Kind.RETRAINING_REQUESTED, {"reason": "drift in age", "cause": None}),
        say.registered("b", recipe="deep"),
        judged("b", champion="a"),
        (Kind.APPROVED, {"candidate": "b", "by": "ada", "why": "looks right"}),
        say.released("b", 5, champion="a"),
        say.moved("b", 50),
        say.moved("b", 100, "COMPLETED"),
        say.registered("c"),
        say.released("c", 5, champion="b"),
        say.moved("c", 0, "ROLLED_BACK", verdict="FAILED"),
        say.registered("d"),
    )


def test_the_story_has_every_entry_that_led_to_the_champion_in_order_and_no_other(say):
    story = why_live(story_of_b(say), "p")
    assert (story.champion, story.version, story.traffic) == ("b", "B", {"b": 100})
    assert list(dict.fromkeys(fact.sequence for fact in story.facts)) == [4, 6, 7, 8, 9, 10, 11, 12, 15]


def test_the_story_says_from_what_by_what_against_what_and_on_which_evidence(say):
    entries = story_of_b(say)
    told = {fact.sequence: fact for fact in reversed(why_live(entries, "p").facts)}
    assert told[4].what == "proposed recipe deep: more layers"
    assert told[6].what == "asked for a training: drift in age"
    for word in ("recipe deep", "training set training-set", "snapshot snapshot-b", "version B", "run run-b"):
        assert word in told[7].what
    assert told[8].what == "judged PASSED against champion a on golden set golden-set, report report-b"
    assert told[9].what == "approved by ada: looks right"
    assert told[10].what == "released to 5 % of traffic, on the judgement of entry 1"
    assert told[11].what == "release release-b: live PASSED, as measured → 50 %, RUNNING"
    assert told[11].evidence == {"gain": 0.5}
    assert told[15].what == "release release-c: live FAILED, as measured → 0 %, ROLLED_BACK"
    assert all(told[entry.sequence].entry_digest == entry.digest for entry in entries if entry.sequence in told)


def test_each_gate_is_a_fact_with_its_reason_and_evidence(say):
    gates = [fact for fact in why_live(story_of_b(say), "p").facts if fact.sequence == 8][1:]
    assert [fact.what.split() for fact in gates] == [
        ["PASSED", "superior_auc:", "gained", "+0.03"],
        ["PASSED", "at_least_auc:", "0.8", "of", "0.7"],
    ]
    assert gates[0].evidence == {"gain": 0.03}


def test_the_text_is_aligned_and_ends_with_the_head_it_was_read_from(say):
    entries = story_of_b(say)
    lines = why_live(entries, "p").to_text().splitlines()
    assert lines[:3] == ["p: version B is live", "  model    b", "  traffic  b 100 %"]
    assert lines[-1] == f"  from 16 intact entries of p; the last is {entries[-1].digest}"
    table = [line for line in lines[3:-1] if line]
    column = table[0].index("proposed")
    assert all(line[column - 1] == " " and line[column:].strip() for line in table)
    assert [line.split()[0] for line in table if line[:6].strip()] == ["4", "6", "7", "8", "9", "10", "11", "12", "15"]


def test_the_text_shows_how_traffic_is_shared_while_another_is_rolled_out(say):
    entries = say.chained(say.released("a", 100, "COMPLETED"), say.released("b", 5, champion="a"))
    assert "traffic  b 5 %, a 95 %" in why_live(entries, "p").to_text()


def test_a_rollback_is_why_the_version_before_is_live_again(say):
    story = [say.registered("a"), say.released("a", 100, "COMPLETED"), say.released("b", 100, "COMPLETED")]
    told = why_live(say.chained(*story, say.rolled_back("a")), "p")
    assert told.version == "A"
    assert told.facts[-1].what == "rolled back to this version by ada: users complain"


def test_nothing_live_is_said_plainly(say):
    for entries in ([], say.chained(say.registered("a"), judged("a"))):
        story = why_live(entries, "p")
        assert story.champion is None
        assert story.to_text() == "p: no version is live; none completed its release yet."


def test_entries_of_other_products_are_not_part_of_the_story(say):
    others = say.chained(say.released("z", 100, "COMPLETED"), product="other")
    assert why_live([*others, *story_of_b(say)], "p") == why_live(story_of_b(say), "p")
    assert why_live(others, "p").champion is None


def test_the_story_is_json(say):
    story = why_live(story_of_b(say), "p")
    value = json.loads(json.dumps(story.to_json(), allow_nan=False))
    assert (value["champion"], value["entries"], value["traffic"]) == ("b", 16, {"b": 100})
    assert [fact["sequence"] for fact in value["facts"]] == [fact.sequence for fact in story.facts]
