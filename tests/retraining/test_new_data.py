"""The sensor that watches a source: each version trains once, however often a tick is replayed."""

import dagster as dg
import films
import pytest

from mlops_assets.data.assets import SOURCE_VERSION_TAG

RATINGS = films.film_ratings()


@pytest.fixture
def tick(tmp_path):
    """Return a function that evaluates the product's own sensor as it stands, with the cursor it is given."""
    sensor = films.film_definitions(tmp_path).resolve_sensor_def("films_new_data")

    def ticking(cursor=None):
        with dg.DagsterInstance.ephemeral() as instance, dg.build_sensor_context(instance, cursor=cursor) as context:
            return sensor.evaluate_tick(context)

    return ticking


def test_a_new_version_is_trained_once_and_then_waited_with(tick, tmp_path):
    films.deliver(tmp_path, RATINGS.head(300))
    first = tick()
    [request] = first.run_requests
    version = films.film_platform(tmp_path).sources["ratings"].version()
    assert (request.run_key, request.tags[SOURCE_VERSION_TAG]) == (version, version)
    again = tick(first.cursor)
    assert again.run_requests == []
    assert "still at version" in again.skip_message
    films.deliver(tmp_path, RATINGS)
    [other] = tick(first.cursor).run_requests
    assert other.run_key != request.run_key


def test_a_replayed_tick_asks_for_the_same_run(tick, tmp_path):
    films.deliver(tmp_path)
    keys = {request.run_key for _ in range(3) for request in tick().run_requests}
    assert len(keys) == 1


def test_a_source_that_is_missing_is_a_reason_to_skip_and_not_an_error(tick):
    found = tick()
    assert found.run_requests == []
    assert "deliver" in found.skip_message


def test_a_source_that_goes_back_asks_for_the_run_it_had(tick, tmp_path):
    films.deliver(tmp_path, RATINGS.head(300))
    first = tick()
    films.deliver(tmp_path, RATINGS)
    second = tick(first.cursor)
    films.deliver(tmp_path, RATINGS.head(300))
    assert tick(second.cursor).run_requests[0].run_key == first.run_requests[0].run_key
