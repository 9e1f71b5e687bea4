"""Where versions run: what reconcile may ask of a serving target."""

from dataclasses import dataclass
from typing import Protocol

from mlops_assets.errors import ServiceUnavailable
from mlops_assets.ledger.canonical import Digest
from mlops_assets.release.plan import TrafficPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What a target says of itself: the versions it has ready, and the plan it applies."""

    ready: frozenset[Digest]
    plan: TrafficPlan


class ServingTarget(Protocol):
    """A place that serves versions of a product. Raises ``ServiceUnavailable`` when it does not answer."""

    def observe(self, product: str) -> Observed:
        """Return what is served now; a product it does not know has no versions and an empty plan."""

    def apply(self, product: str, plan: TrafficPlan) -> None:
        """Make ready every version the plan names, then switch to it at once; versions it does not name go away.

        Applying the same plan again changes nothing. No request fails while it is applied.
        """


class FakeServing:
    """A target in memory, for tests: does as it is told, and notes every plan it was given.

    ``fail_at`` numbers the call (from 1) that raises ``ServiceUnavailable`` instead.
    """

    def __init__(self, *, fail_at: int | None = None) -> None:
        self.applied: dict[str, TrafficPlan] = {}
        self.history: list[tuple[str, TrafficPlan]] = []
        self.calls = 0
        self.fail_at = fail_at

    def observe(self, product: str) -> Observed:
        """Return the plan that was last applied, all its versions ready."""
        self._count()
        plan = self.applied.get(product, TrafficPlan(weights={}))
        return Observed(ready=frozenset(plan.weights) | frozenset(plan.mirrors), plan=plan)

    def apply(self, product: str, plan: TrafficPlan) -> None:
        """Note the plan and apply it."""
        self._count()
        self.history.append((product, plan))
        self.applied[product] = plan

    def _count(self) -> None:
        self.calls += 1
        if self.calls == self.fail_at:
            raise ServiceUnavailable(f"call {self.calls} of the fake was told to fail")
