"""Make aliases and traffic equal the state. Idempotent: a crash at any point heals at the next call."""

from collections.abc import Sequence
from dataclasses import dataclass

from mlops_assets.ledger.state import ProductState
from mlops_assets.release.decide import desired_aliases, desired_plan
from mlops_assets.release.target import ServingTarget
from mlops_assets.training.registry import ModelRegistry


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciled:
    """What had to be changed; nothing, when all was equal."""

    changes: Sequence[str] = ()


def is_served(state: ProductState, *, product: str, target: ServingTarget) -> bool:
    """Return whether ``target`` serves exactly what the state asks for."""
    wanted, seen = desired_plan(state), target.observe(product)
    return seen.plan == wanted and set(wanted.weights) | set(wanted.mirrors) <= seen.ready


def reconcile(state: ProductState, *, product: str, registry: ModelRegistry, target: ServingTarget) -> Reconciled:
    """Apply the traffic plan, then the aliases, where they differ. ``ServiceUnavailable`` passes through.

    Traffic goes first: it is what users feel, above all when a version is taken away.
    """
    changes = []
    if not is_served(state, product=product, target=target):
        plan = desired_plan(state)
        target.apply(product, plan)
        changes.append(f"traffic: {plan.weights}")
    aliases = desired_aliases(state)
    if dict(registry.aliases(product)) != aliases:
        registry.set_aliases(product, aliases)
        changes.append(f"aliases: {aliases}")
    return Reconciled(changes=tuple(changes))
