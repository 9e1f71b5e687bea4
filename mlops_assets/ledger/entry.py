"""What one decision looks like in the ledger, and what a ledger must do.

Belongs here: the entry, the kinds of entry with the fields each carries, its digest, the protocol. Not here: how
entries are stored (``sql.py``) or what they add up to (``state.py``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from mlops_assets.ledger.canonical import Digest, canonical_json, digest_of

GENESIS: Digest = "sha256:" + "0" * 64
"""What the first entry has for ``previous``."""


class Kind(StrEnum):
    """Kinds of entry; the comment lists the fields of the body, which may carry more.

    ``rollout`` is ``{percent, step, phase}``, the phase one of ``RUNNING``, ``COMPLETED``, ``ROLLED_BACK``.
    """

    RECIPE_PROPOSED = "recipe_proposed"  # recipe (a declared recipe's name), why
    # candidate, version, snapshot, training_set, recipe, features (snapshot that serving features come from), run_id
    CANDIDATE_REGISTERED = "candidate_registered"
    # candidate, equal, stages: [{stage, recorded, found}], environment: {recorded, found}, run_id
    REPRODUCED = "reproduced"
    # golden (digest), version, rows, since, until (event times), previous (digest, or null), kept_share (the share of
    # its rows that were in the previous one), why, run_id
    GOLDEN_PINNED = "golden_pinned"
    GOLDEN_RENEWED = "golden_renewed"  # golden (the digest that may be replaced, or null), by, why
    POLICY_CHANGED = "policy_changed"  # policy (the declaration as JSON), digest, previous (digest, or null), changes
    # candidate, champion (or null), report (digest), verdict, judgements: [{gate, verdict, reason, evidence}],
    # evaluation (the report itself, with the golden set's digest), policy (digest, or null), views (digests by name),
    # use (how often the golden set was used against this champion by now), run_id
    JUDGED = "judged"
    APPROVED = "approved"  # candidate, by, why
    REJECTED = "rejected"  # candidate, by, why
    # release, candidate, version, features, champion (or null), judged (sequence), strategy, rollout
    RELEASED = "released"
    # release, verdict, reason, evidence (all that the analysis saw), analysis (its declaration as JSON), rollout
    ROLLOUT_MOVED = "rollout_moved"
    ROLLED_BACK = "rolled_back"  # release (null once it is completed), to (a digest), by, why
    DRIFT_FOUND = "drift_found"  # window, columns, report
    PERFORMANCE_FELL = "performance_fell"  # window, metric, report
    PARITY_MEASURED = (
        "parity_measured"  # view, definition (the view's digest), report (digest), parity (the report), run_id
    )
    RETRAINING_REQUESTED = "retraining_requested"  # reason, cause (sequence of the entry that caused it, or null)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One decision: who decided what of which product, on which evidence, chained to the entry before it.

    ``at`` is in UTC, to the microsecond. ``digest`` is over all other fields, ``previous`` among them.
    """

    sequence: int
    product: str
    kind: Kind
    at: datetime
    actor: str
    body: Mapping[str, Any]
    previous: Digest
    digest: Digest

    @property
    def is_intact(self) -> bool:
        """The entry still has the content its digest was computed from."""
        fields = {
            "sequence": self.sequence,
            "product": self.product,
            "kind": self.kind.value,
            "at": self.at.isoformat(timespec="microseconds"),
            "actor": self.actor,
            "body": canonical_json(dict(self.body)).decode(),
            "previous": self.previous,
        }
        return self.digest == digest_of(fields)


class Ledger(Protocol):
    """An append-only, hash-chained record, safe under concurrent writers."""

    def append(
        self, product: str, kind: Kind, body: Mapping[str, Any], *, actor: str, expected: int | None = None
    ) -> Entry:
        """Record a decision and return its entry.

        With ``expected``, the sequence of the product's last entry that the decider saw (0 for none), raises
        ``LedgerConflict`` when the product has a newer one: two deciders cannot both act on the same state.
        """

    def entries(self, product: str | None = None, *, after: int = 0) -> Sequence[Entry]:
        """Return entries in order, of one product or of all, with a sequence greater than ``after``."""

    def verify(self) -> int:
        """Recompute the whole chain and return how many entries it has; ``LedgerCorrupt`` names the first bad one."""
