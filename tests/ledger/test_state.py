"""What the entries of a product add up to."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.errors import LedgerCorrupt
from mlops_assets.ledger.entry import Entry, Kind
from mlops_assets.ledger.state import ProductState, fold

NAMES = st.sampled_from("abcd")
PHASES = st.sampled_from(["RUNNING", "COMPLETED", "ROLLED_BACK", "PAUSED"])
PERCENTS = st.sampled_from([0, 5, 50, 99, 100, -1, 101, 5.5, True])
ABOUT = st.fixed_dictionaries({"candidate": NAMES, "by": st.sampled_from(["ada", "bob"]), "why": st.just("because")})
ROLLOUTS = st.fixed_dictionaries({"percent": PERCENTS, "step": st.integers(0, 3), "phase": PHASES})
RELEASES = st.sampled_from([f"release-{name}" for name in "abcd"])
UNKNOWN = st.dictionaries(st.just("a field to come"), st.integers(), max_size=1)


def _decision(kind: Kind, **fields):
    body = st.fixed_dictionaries(fields)
    return st.tuples(st.just(kind), st.tuples(body, UNKNOWN).map(lambda both: {**both[0], **both[1]}))


RELEASED = _decision(
    Kind.RELEASED,
    candidate=NAMES,
    version=NAMES,
    features=NAMES,
    champion=st.none(),
    judged=st.just(1),
    rollout=ROLLOUTS,
).map(lambda said: (said[0], {**said[1], "release": f"release-{said[1]['candidate']}"}))
REGISTERED = _decision(Kind.CANDIDATE_REGISTERED, candidate=NAMES, version=NAMES, snapshot=NAMES, recipe=NAMES)
DECISIONS = st.one_of(
    RELEASED,
    RELEASED,
    _decision(Kind.ROLLOUT_MOVED, release=RELEASES, verdict=st.just("PASSED"), reason=st.just(""), rollout=ROLLOUTS),
    _decision(Kind.ROLLOUT_MOVED, release=RELEASES, verdict=st.just("PASSED"), reason=st.just(""), rollout=ROLLOUTS),
    _decision(Kind.ROLLED_BACK, release=st.one_of(st.none(), RELEASES), to=NAMES, by=NAMES, why=NAMES),
    REGISTERED,
    _decision(Kind.JUDGED, candidate=NAMES, champion=st.none(), report=NAMES, verdict=st.just("PASSED")),
    st.tuples(st.just(Kind.APPROVED), ABOUT),
    st.tuples(st.just(Kind.REJECTED), ABOUT),
    _decision(Kind.RECIPE_PROPOSED, recipe=NAMES, why=NAMES),
    _decision(Kind.RETRAINING_REQUESTED, reason=NAMES, cause=st.none()),
    _decision(Kind.DRIFT_FOUND, window=NAMES, columns=st.just([])),
)
STORIES = st.lists(DECISIONS, max_size=14)
LAWS = settings(max_examples=200)


def states(entries: list[Entry]) -> list[ProductState]:
    found = [ProductState()]
    for entry in entries:
        found.append(fold([entry], found[-1]))
    return found


@LAWS
@given(STORIES)
def test_traffic_sums_to_100_or_is_empty_and_only_positive_shares_are_named(say, decisions):
    for state in states(say.chained(*decisions)):
        assert sum(state.weights.values()) in {0, 100}
        assert all(0 < share <= 100 for share in state.weights.values())
        assert set(state.weights) <= {model.digest for model in (state.champion, _candidate(state)) if model}
        if state.champion is not None:
            assert state.weights


def _candidate(state: ProductState):
    return state.running.candidate if state.running else None


@LAWS
@given(STORIES)
def test_a_version_that_was_rolled_back_never_gets_traffic_again(say, decisions):
    for state in states(say.chained(*decisions)):
        assert not state.rolled_back & set(state.weights)
        assert not state.rolled_back & set(state.mirrors)
        assert not state.rolled_back & {model.digest for model in state.earlier_champions}


@LAWS
@given(STORIES)
def test_at_most_one_rollout_runs_until_it_ends(say, decisions):
    for entry, (before, after) in _steps(say.chained(*decisions)):
        if before.running and after.running:
            assert after.running.release == before.running.release
            assert after.running.released == before.running.released
        if before.running and not after.running:
            assert entry.kind in {Kind.ROLLOUT_MOVED, Kind.ROLLED_BACK}


def _steps(entries: list[Entry]):
    found = states(entries)
    return zip(entries, zip(found, found[1:], strict=False), strict=True)


@LAWS
@given(STORIES)
def test_rolling_back_always_works_when_there_is_something_to_return_to(say, decisions):
    entries = say.chained(*decisions)
    state = fold(entries)
    if state.champion is None or not (state.running or state.earlier_champions):
        return
    was_running = state.running
    to = state.champion if was_running else state.earlier_champions[-1]
    after = fold(say.chained(*decisions, say.rolled_back(to.digest, was_running.release if was_running else None)))
    assert after.champion == to
    assert after.weights == {to.digest: 100}
    assert after.features == to.features
    assert after.running is None
    assert (was_running.candidate if was_running else state.champion).digest in after.rolled_back


@LAWS
@given(STORIES, st.data())
def test_folding_in_two_parts_is_folding_at_once(say, decisions, data):
    entries = say.chained(*decisions)
    cut = data.draw(st.integers(0, len(entries)))
    assert fold(entries[cut:], fold(entries[:cut])) == fold(entries)


@LAWS
@given(STORIES)
def test_the_champion_changes_only_by_a_completed_rollout_or_a_rollback(say, decisions):
    for entry, (before, after) in _steps(say.chained(*decisions)):
        if after.champion != before.champion:
            assert entry.kind in {Kind.RELEASED, Kind.ROLLOUT_MOVED, Kind.ROLLED_BACK}
            assert after.weights == {after.champion.digest: 100}
            assert after.champion not in after.earlier_champions
        if entry.kind is not Kind.ROLLED_BACK:
            assert after.champion is not None or before.champion is None


@LAWS
@given(STORIES)
def test_what_waits_for_a_training_is_answered_by_the_next_registration(say, decisions):
    for entry, (before, after) in _steps(say.chained(*decisions)):
        assert after.last_sequence == entry.sequence
        if entry.kind is Kind.CANDIDATE_REGISTERED:
            assert after.retraining_requested == ()
            assert all(asked.body["recipe"] != entry.body["recipe"] for asked in after.proposed)
            assert after.last_registered_at == entry.at
        else:
            assert set(_sequences(before.proposed)) <= set(_sequences(after.proposed))


def _sequences(entries):
    return [entry.sequence for entry in entries]


def test_nothing_is_live_before_the_first_release(say):
    state = fold(say.chained(say.registered("a")))
    assert (state.champion, state.weights, state.mirrors, state.features) == (None, {}, (), None)
    assert set(state.registered) == {"a"}


@pytest.mark.parametrize(("percent", "weights"), [(0, {"a": 100}), (5, {"b": 5, "a": 95}), (100, {"b": 100})])
def test_a_rollout_shares_traffic_mirrors_both_sides_and_serves_the_candidates_features(say, percent, weights):
    state = fold(say.chained(say.released("a", 100, "COMPLETED"), say.released("b", percent, champion="a")))
    assert state.weights == weights
    assert state.mirrors == ("a", "b")
    assert state.features == "events-b"
    assert state.champion.digest == "a"
    assert (state.running.release, state.running.candidate.version, state.running.champion) == ("release-b", "B", "a")


def test_a_completed_rollout_moves_traffic_champion_and_features_together(say):
    state = fold(
        say.chained(say.released("a", 100, "COMPLETED"), say.released("b", 5), say.moved("b", 100, "COMPLETED"))
    )
    assert (state.champion.digest, state.champion.version, state.features) == ("b", "B", "events-b")
    assert (state.weights, state.mirrors, state.running) == ({"b": 100}, (), None)
    assert [model.digest for model in state.earlier_champions] == ["a"]


def test_a_rollback_of_a_running_rollout_leaves_all_to_the_champion(say):
    began = say.chained(say.released("a", 100, "COMPLETED"), say.released("b", 50), say.rolled_back("a", "release-b"))
    state = fold(began)
    assert (state.weights, state.mirrors, state.features) == ({"a": 100}, (), "events-a")
    assert state.rolled_back == {"b"}
    assert (state.rollout.phase, state.rollout.percent) == ("ROLLED_BACK", 0)


def test_a_rollback_that_names_another_release_does_not_end_the_running_one(say):
    state = fold(
        say.chained(say.released("a", 100, "COMPLETED"), say.released("b", 50), say.rolled_back("a", "release-z"))
    )
    assert state.weights == {"b": 50, "a": 50}


def test_rollbacks_after_completion_go_back_one_champion_after_the_other(say):
    story = [say.released(name, 100, "COMPLETED") for name in "abc"]
    once = fold(say.chained(*story, say.rolled_back("b")))
    assert (once.champion.digest, once.features, once.weights) == ("b", "events-b", {"b": 100})
    twice = fold(say.chained(*story, say.rolled_back("b"), say.rolled_back("a")))
    assert (twice.champion.digest, twice.earlier_champions, twice.rolled_back) == ("a", (), {"b", "c"})
    thrice = fold(say.chained(*story, say.rolled_back("b"), say.rolled_back("a"), say.rolled_back("c")))
    assert thrice.champion == twice.champion


def test_a_champion_that_came_back_by_a_release_is_not_one_to_return_to(say):
    story = [say.released(name, 100, "COMPLETED") for name in "aba"]
    assert [model.digest for model in fold(say.chained(*story)).earlier_champions] == ["b"]
    back = fold(say.chained(*story, say.rolled_back("b")))
    assert (back.champion.digest, back.earlier_champions, back.rolled_back) == ("b", (), {"a"})


@pytest.mark.parametrize(
    "nonsense",
    [
        (Kind.ROLLOUT_MOVED, {"release": "release-z", "rollout": {"percent": 5, "step": 1, "phase": "RUNNING"}}),
        (Kind.ROLLED_BACK, {"release": None, "to": "z", "by": "ada", "why": ""}),
        (Kind.DRIFT_FOUND, {}),
    ],
)
def test_an_entry_that_makes_no_sense_here_changes_nothing_but_the_sequence(say, nonsense):
    before = fold(say.chained(say.released("a", 100, "COMPLETED")))
    after = fold(say.chained(say.released("a", 100, "COMPLETED"), nonsense))
    assert after.last_sequence == 2
    assert (after.champion, after.rollout, after.weights) == (before.champion, before.rollout, before.weights)


def test_a_second_release_beside_a_running_one_changes_nothing(say):
    first = [say.released("a", 100, "COMPLETED"), say.released("b", 5)]
    assert fold(say.chained(*first, say.released("c", 5))).weights == fold(say.chained(*first)).weights


def test_an_entry_without_the_fields_of_its_kind_is_refused_by_name(say):
    with pytest.raises(LedgerCorrupt, match=r"entry 2 of p is no released: KeyError\('candidate'\)"):
        fold(say.chained(say.registered("a"), (Kind.RELEASED, {"release": "r"})))


def test_the_last_approval_of_each_person_counts_once(say):
    def approve(by, why):
        return Kind.APPROVED, {"candidate": "a", "by": by, "why": why}

    said = fold(say.chained(approve("ada", "1"), approve("bob", "2"), approve("ada", "3"))).approvals["a"]
    assert [(entry.body["by"], entry.body["why"]) for entry in said] == [("bob", "2"), ("ada", "3")]


def test_only_the_recipe_that_was_trained_is_no_longer_proposed(say):
    proposals = [(Kind.RECIPE_PROPOSED, {"recipe": recipe, "why": ""}) for recipe in ("plain", "deep")]
    request = (Kind.RETRAINING_REQUESTED, {"reason": "drift", "cause": None})
    waiting = fold(say.chained(*proposals, request))
    assert (_sequences(waiting.proposed), _sequences(waiting.retraining_requested)) == ([1, 2], [3])
    trained = fold(say.chained(*proposals, request, say.registered("a", recipe="plain")))
    assert (_sequences(trained.proposed), trained.retraining_requested) == ([2], ())
