"""The model card: what a person or an auditor wants to know of one model version, as data and as a page.

The data is a CycloneDX 1.6 bill of materials whose one component is the model, with its ``modelCard``; the page is
rendered from that data alone. The same inputs give the same bytes: there is no clock in it.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from mlops_assets.evaluation.report import Estimate, EvaluationReport
from mlops_assets.ledger.canonical import Digest, digest_of


@dataclass(frozen=True, slots=True, kw_only=True)
class CardFacts:
    """What the card says beyond the report.

    ``task`` is such as ``binary classification``; ``data`` maps a name (dataset, training set, golden set) to a digest;
    ``provenance`` holds what else led to the model (recipe, version, run, commit, environment).
    """

    owner: str = ""
    description: str = ""
    intended_use: Sequence[str] = ()
    limitations: Sequence[str] = ()
    task: str = ""
    features: Sequence[str] = ()
    data: Mapping[str, Digest] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)


def model_card(
    report: EvaluationReport,
    facts: CardFacts,
    *,
    judgements: Sequence[Mapping[str, Any]] = (),
    explanation: Mapping[str, Any] | None = None,
    pictures: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the card as a CycloneDX 1.6 JSON value.

    ``judgements`` are as the ledger records them (gate, verdict, reason, evidence), ``explanation`` as
    ``Explanation.to_json`` writes it, ``pictures`` maps a title to a PNG in base64.
    """
    component = {
        "type": "machine-learning-model",
        "bom-ref": f"model:{report.candidate}",
        "name": report.product,
        "version": report.candidate,
        "description": facts.description,
        "hashes": [{"alg": "SHA-256", "content": report.candidate.removeprefix("sha256:")}],
        "modelCard": {
            "modelParameters": _parameters(facts),
            "quantitativeAnalysis": {
                "performanceMetrics": list(_performance(report)),
                "graphics": {"collection": [_graphic(name, png) for name, png in (pictures or {}).items()]},
            },
            "considerations": _considerations(facts),
            "properties": _properties(report, facts, judgements, explanation),
        },
    }
    if facts.owner:
        component["publisher"] = facts.owner
    card = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "components": [component],
    }
    return {**card, "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, digest_of(card))}"}


def _parameters(facts: CardFacts) -> dict[str, Any]:
    datasets = [
        {"type": "dataset", "name": name, "contents": {"properties": [{"name": "digest", "value": digest}]}}
        for name, digest in facts.data.items()
    ]
    found = {
        "approach": {"type": "supervised"},
        "datasets": datasets,
        "inputs": [{"format": name} for name in facts.features],
        "outputs": [{"format": "FP64 score"}],
    }
    return {**found, "task": facts.task} if facts.task else found


def _performance(report: EvaluationReport) -> list[dict[str, Any]]:
    found = []
    for role, metrics in (("candidate", report.candidate_metrics), ("champion", report.champion_metrics)):
        found += [_measured(name, f"golden set, {role}", estimate) for name, estimate in sorted(metrics.items())]
    for name, gain in sorted(report.comparisons.items()):
        interval = Estimate(value=gain.gain, low=gain.low, high=gain.high)
        found.append(_measured(f"{name} gain", "golden set, candidate against champion", interval))
    return found


def _measured(name: str, rows: str, found: Estimate) -> dict[str, Any]:
    interval = {"lowerBound": f"{found.low:.6g}", "upperBound": f"{found.high:.6g}"}
    return {"type": name, "slice": rows, "value": f"{found.value:.6g}", "confidenceInterval": interval}


def _graphic(name: str, png: str) -> dict[str, Any]:
    return {"name": name, "image": {"contentType": "image/png", "encoding": "base64", "content": png}}


def _considerations(facts: CardFacts) -> dict[str, Any]:
    return {"useCases": list(facts.intended_use), "technicalLimitations": list(facts.limitations)}


def _properties(
    report: EvaluationReport,
    facts: CardFacts,
    judgements: Sequence[Mapping[str, Any]],
    explanation: Mapping[str, Any] | None,
) -> list[dict[str, str]]:
    found = [
        ("report", report.digest),
        ("champion", report.champion or "none"),
        ("golden rows", str(report.rows)),
        ("golden clusters", str(report.clusters)),
        ("confidence", f"{report.confidence:g}"),
    ]
    found += [(f"provenance: {name}", str(value)) for name, value in sorted(facts.provenance.items())]
    found += [(f"gate: {said['gate']}", f"{said['verdict']}: {said['reason']}") for said in judgements]
    if explanation is not None:
        how = f"importance ({explanation['method']})"
        found += [(f"{how}: {name}", f"{value:.6g}") for name, value in explanation["importance"].items()]
    return [{"name": name, "value": value} for name, value in found]


def render_card(card: Mapping[str, Any]) -> str:
    """Return the card as one self-contained HTML page, without scripts or links to anywhere."""
    component = card["components"][0]
    found = component["modelCard"]
    analysis = found["quantitativeAnalysis"]
    metrics = [
        (
            row["type"],
            row["slice"],
            row["value"],
            f"{row['confidenceInterval']['lowerBound']} … {row['confidenceInterval']['upperBound']}",
        )
        for row in analysis["performanceMetrics"]
    ]
    data = [(each["name"], each["contents"]["properties"][0]["value"]) for each in found["modelParameters"]["datasets"]]
    properties = [(each["name"], each["value"]) for each in found["properties"]]
    title = f"Model card: {component['name']}"
    parts = [
        f"<h1>{escape(title)}</h1><p><code>{escape(component['version'])}</code></p>",
        f"<p>{escape(component.get('description', ''))}</p>",
        _list("Intended use", found["considerations"]["useCases"]),
        _list("Limits", found["considerations"]["technicalLimitations"]),
        _table("Metrics", ("metric", "on", "value", "interval"), metrics),
        _table("Gates", ("gate", "judgement"), _with_prefix(properties, "gate: ")),
        *(_image(each) for each in analysis["graphics"]["collection"]),
        _table("Data", ("data", "digest"), data),
        _list("Inputs", [each["format"] for each in found["modelParameters"]["inputs"]]),
        _table("Provenance", ("fact", "value"), _with_prefix(properties, "provenance: ")),
        _table("Report", ("fact", "value"), [row for row in properties if ": " not in row[0]]),
    ]
    return _PAGE.format(title=escape(title), body="\n".join(part for part in parts if part))


def _with_prefix(properties: Sequence[tuple[str, str]], prefix: str) -> list[tuple[str, str]]:
    return [(name.removeprefix(prefix), value) for name, value in properties if name.startswith(prefix)]


def _list(title: str, items: Sequence[str]) -> str:
    if not items:
        return ""
    return f"<h2>{escape(title)}</h2><ul>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>"


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    lines = ["".join(f"<td>{escape(str(cell))}</td>" for cell in row) for row in rows]
    header = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<h2>{escape(title)}</h2><table><tr>{header}</tr>{body}</table>"


def _image(graphic: Mapping[str, Any]) -> str:
    name, image = escape(graphic["name"]), graphic["image"]
    source = f"data:{escape(image['contentType'])};base64,{escape(image['content'])}"
    return f'<h2>{name}</h2><img alt="{name}" src="{source}">'


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #2b2d42 }}
table {{ border-collapse: collapse }} td, th {{ border-bottom: 1px solid #ddd; padding: .3rem .8rem; text-align: left }}
td, code {{ overflow-wrap: anywhere }} img {{ max-width: 100% }}
</style></head><body>
{body}
</body></html>
"""
