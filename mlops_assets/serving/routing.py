"""Which version answers which entity.

Weighted rendezvous hashing (Thaler and Ravishankar 1998, "Using name-based mappings to increase hit rates", IEEE/ACM
ToN 6(1); weights after Schindelhauer and Schomaker 2005, "Weighted distributed hash tables", SPAA): each version draws
a number from the entity's name, the smallest exponential per weight wins. It needs no memory and no order of versions,
and when one version's share grows, entities move only to that version.
"""

import hashlib
import math
from collections.abc import Mapping
from typing import Any

from mlops_assets.ledger.canonical import Digest
from mlops_assets.release.plan import ROUTED, RULE, TrafficPlan


def version_for(entity: str, plan: TrafficPlan, *, salt: str = "") -> Digest:
    """Return the digest that answers ``entity``; ``ValueError`` if the plan has no weight at all."""
    shares = [(digest, weight) for digest, weight in plan.weights.items() if weight > 0]
    if len(shares) == 1:
        return shares[0][0]
    return min(shares, key=lambda share: _draw(entity, share[0], salt) / share[1])[0]


def route(row: Mapping[str, Any], entity: str, plan: TrafficPlan, *, salt: str) -> tuple[Digest, str]:
    """Return who answers a row, and why: the first rule that fits it, or the weights."""
    for rule in plan.rules:
        if row.get(rule.input) in rule.values:
            return rule.version, RULE
    return version_for(entity, plan, salt=salt), ROUTED


def _draw(entity: str, digest: Digest, salt: str) -> float:
    """Return an exponentially distributed number that depends on nothing but its arguments."""
    hashed = hashlib.blake2b(f"{salt}\0{digest}\0{entity}".encode(), digest_size=8).digest()
    uniform = (int.from_bytes(hashed, "big") + 0.5) / 2**64
    return -math.log(uniform)
