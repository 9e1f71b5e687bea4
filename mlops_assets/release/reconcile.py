"""Make aliases and traffic equal the state. Idempotent: a crash at any point heals at the next call."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mlops_assets.errors import ServiceUnavailable
from mlops_assets.ledger.state import ProductState
from mlops_assets.release.decide import desired_aliases, desired_plan
from mlops_assets.release.target import ServingTarget
from mlops_assets.training.registry import ModelRegistry

ALIASES = ("champion", "challenger")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciled:
    """What had to be changed; nothing, when all was equal."""

    changes: Sequence[str] = ()


def is_served(state: ProductState, *, product: str, target: ServingTarget) -> bool:
    """Return whether ``target`` serves exactly what the state asks for."""
    wanted, seen = desired_plan(state), target.observe(product)
    return seen.plan == wanted and set(wanted.weights) | set(wanted.mirrors) <= seen.ready


def reconcile(state: ProductState, *, product: str, registry: ModelRegistry, target: ServingTarget) -> Reconciled:
    """Apply the traffic plan, then the aliases, where they differ.

    Traffic goes first: it is what users feel, above all when a version is taken away. One of both that does not answer
    does not hold up the other: ``ServiceUnavailable`` comes after both were tried, also if a target took the plan but
    does not follow it.
    """
    changes: list[str] = []
    silent: list[ServiceUnavailable] = []
    projections: tuple[Callable[[], list[str]], ...] = (
        lambda: _project_traffic(state, product, target),
        lambda: _project_aliases(state, product, registry),
    )
    for project in projections:
        try:
            changes += project()
        except ServiceUnavailable as error:
            silent.append(error)
    if silent:
        raise ServiceUnavailable("; ".join(str(error) for error in silent)) from silent[0]
    return Reconciled(changes=tuple(changes))


def _project_traffic(state: ProductState, product: str, target: ServingTarget) -> list[str]:
    if is_served(state, product=product, target=target):
        return []
    plan = desired_plan(state)
    target.apply(product, plan)
    if not is_served(state, product=product, target=target):
        raise ServiceUnavailable(f"{product}: the target took the plan {plan.to_json()} but serves another; look at it")
    shares = ", ".join(f"{_short(digest)} {percent} %" for digest, percent in plan.weights.items())
    return [f"traffic: {shares or 'nobody answers'}"]


def _project_aliases(state: ProductState, product: str, registry: ModelRegistry) -> list[str]:
    wanted = desired_aliases(state)
    found = registry.aliases(product)
    if {name: found[name] for name in ALIASES if name in found} == wanted:
        return []
    registry.set_aliases(product, wanted)
    names = ", ".join(f"{alias} = {_short(digest)}" for alias, digest in wanted.items())
    return [f"aliases: {names or 'none'}"]


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12]
