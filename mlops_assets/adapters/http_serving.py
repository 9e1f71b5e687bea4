"""A serving target over HTTP: our own prediction server."""

from typing import Any

from mlops_assets.errors import ServiceUnavailable
from mlops_assets.release.plan import TrafficPlan
from mlops_assets.release.target import Observed


class HttpServing:
    """The prediction server at ``url``. Applying a plan waits up to ``timeout_seconds`` for models to be loaded."""

    def __init__(self, url: str, *, timeout_seconds: float = 60) -> None:
        self._url = url
        self._timeout = timeout_seconds

    def observe(self, product: str) -> Observed:
        """Return what the server answers with now."""
        found = self._ask("GET", product)
        return Observed(ready=frozenset(found["ready"]), plan=TrafficPlan.from_json(found))

    def apply(self, product: str, plan: TrafficPlan) -> None:
        """Have the server load what the plan names and switch to it."""
        self._ask("PUT", product, plan.to_json())

    def _ask(self, method: str, product: str, body: Any = None) -> Any:
        import httpx

        url = f"{self._url}/v2/models/{product}/plan"
        try:
            answer = httpx.request(method, url, json=body, timeout=self._timeout)
        except httpx.HTTPError as error:
            raise ServiceUnavailable(f"the prediction server at {self._url} does not answer: {error!r}") from error
        if not answer.is_success:
            raise ServiceUnavailable(
                f"the prediction server refused {method} {url}: {answer.status_code} {answer.text}"
            )
        return answer.json()
