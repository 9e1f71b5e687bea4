"""A schema fuzzer asks a running server by the server's own description: it keeps to that, and nothing is a 5xx."""

from datetime import timedelta

import pytest
import shop
from conftest import Server
from hypothesis import HealthCheck, Phase, given, settings

NOW = shop.START + timedelta(days=20)
pytestmark = pytest.mark.services  # it asks thousands of times

ROUNDS = settings(
    max_examples=60,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def asked(root, models, features):
    server = Server(root).start()
    assert server.put_plan({models[0]: 80, models[1]: 20}, mirrors=models, features=features).is_success
    yield server
    server.kill()
    server.client.close()


@pytest.mark.parametrize("drawn", ["positive", "negative"])
def test_whatever_is_asked_the_answer_is_as_described_and_no_fault_of_the_server(asked, drawn):
    import schemathesis  # installed for the services' tests only

    description = schemathesis.openapi.from_url(f"{asked.url}/openapi.json")
    described = [found.ok() for found in description.get_all_operations()]
    assert {"POST /v2/models/shop/infer", "PUT /v2/models/shop/plan"} <= {operation.label for operation in described}
    tried = {operation.label: try_it(operation, drawn) for operation in described if can_be_drawn(operation, drawn)}
    assert tried["POST /v2/models/shop/infer"] >= 50
    assert asked.infer(1, NOW).is_success


def can_be_drawn(operation, drawn):
    """A request without body and parameters cannot be another than described."""
    return drawn == "positive" or operation.method in {"post", "put"}


def try_it(operation, drawn):
    """Ask what is drawn, check each answer, and return how often."""
    from schemathesis.checks import not_a_server_error
    from schemathesis.generation import GenerationMode
    from schemathesis.specs.openapi import checks as by

    checks = [
        by.status_code_conformance, by.content_type_conformance, by.response_schema_conformance,
        by.negative_data_rejection,
    ]  # fmt: skip
    if operation.method != "put":  # a plan may name what no registry has: 503
        checks.append(not_a_server_error)
    asked = []

    @ROUNDS
    @given(case=operation.as_strategy(generation_mode=GenerationMode(drawn)))
    def ask(case):
        response = case.call(timeout=30)
        case.validate_response(response, checks=checks)
        asked.append(response.status_code)

    ask()
    return len(asked)
