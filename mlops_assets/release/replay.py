"""Judging again what was judged, offline and live, from the ledger alone: the same evidence, the same verdicts.

The report, the policy as it was declared then, and the entries that came before are all in the ledger; nothing else is
read. A difference means that a gate's code changed its mind, or that somebody changed the ledger.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mlops_assets.evaluation.report import EvaluationReport
from mlops_assets.gates.panel import judge_all
from mlops_assets.ledger.canonical import digest_of
from mlops_assets.ledger.declared import from_declared
from mlops_assets.ledger.entry import Entry, Kind

Again = Callable[[Entry, Sequence[Entry]], "Replayed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What came of judging an entry again: ``differences``, one sentence each, empty when it came out the same."""

    entry: Entry
    verdict: str
    differences: tuple[str, ...]


def replay_judgements(entries: Sequence[Entry]) -> list[Replayed]:
    """Judge again every judgement and every step of a rollout among a product's ``entries``: all of them, in order."""
    kinds = {Kind.JUDGED: _judged_again, Kind.ROLLOUT_MOVED: _looked_again}
    return [
        _replayed(entry, entries[:place], kinds[entry.kind])
        for place, entry in enumerate(entries)
        if entry.kind in kinds
    ]


def _replayed(entry: Entry, before: Sequence[Entry], again: Again) -> Replayed:
    try:
        return again(entry, before)
    except Exception as error:  # a gate that is gone, or takes other fields now
        said = f"it cannot be judged again: {type(error).__name__}: {error}"
        return Replayed(entry=entry, verdict="ERROR", differences=(said,))


def _looked_again(entry: Entry, _: Sequence[Entry]) -> Replayed:
    """Judge again the live evidence of a step, by the analysis as it was declared then."""
    body = entry.body
    if "analysis" not in body:
        return Replayed(entry=entry, verdict="ERROR", differences=("no analysis was recorded for it",))
    found = from_declared(body["analysis"]).replay(body["evidence"])
    facts = found.to_json()
    different = [
        f"{part} was {body[part]}, is {value}"
        for part, value in {"verdict": found.verdict.value, "reason": found.reason}.items()
        if body[part] != value
    ]
    different += [f"evidence: {part} is another" for part in facts if body["evidence"][part] != facts[part]]
    return Replayed(entry=entry, verdict=found.verdict.value, differences=tuple(different))


def _judged_again(entry: Entry, before: Sequence[Entry]) -> Replayed:
    body = entry.body
    report = EvaluationReport.from_json(body["evaluation"])
    declared = {e.body["digest"]: e.body["policy"] for e in before if e.kind is Kind.POLICY_CHANGED}
    if body.get("policy") not in declared:
        return Replayed(entry=entry, verdict="ERROR", differences=("no policy was recorded for it",))
    policy = from_declared(declared[body["policy"]])
    known = policy.errors.known(policy.gates, report, entries=before, views=body["views"])
    panel = judge_all(policy.gates, report, known)
    found = {"report": report.digest, "policy": digest_of(declared[body["policy"]]), "verdict": panel.verdict.value}
    different = [f"{name} was {body[name]}, is {value}" for name, value in found.items() if body[name] != value]
    for was, now in zip(body["judgements"], panel.to_json(), strict=True):
        different += [
            f"{was['gate']}: {part} was {was[part]!r}, is {now[part]!r}" for part in now if was[part] != now[part]
        ]
    return Replayed(entry=entry, verdict=panel.verdict.value, differences=tuple(different))
