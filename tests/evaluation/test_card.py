import base64
from html.parser import HTMLParser

import pytest

from mlops_assets.evaluation.card import CardFacts, model_card, render_card
from mlops_assets.evaluation.report import Comparison, Estimate, EvaluationReport
from mlops_assets.ledger.canonical import canonical_json

CANDIDATE = "sha256:" + "a" * 64


@pytest.fixture
def card():
    estimate = Estimate(value=0.2, low=0.19, high=0.21)
    report = EvaluationReport(
        product="films",
        candidate=CANDIDATE,
        golden="sha256:" + "c" * 64,
        rows=900,
        clusters=90,
        champion="sha256:" + "b" * 64,
        candidate_metrics={"brier": estimate},
        champion_metrics={"brier": estimate},
        comparisons={"brier": Comparison(gain=0.01, low=0.0, high=0.02, p_value=0.02, standard_error=0.005)},
    )
    facts = CardFacts(
        owner="team:films",
        description="Ranks <films> & series.",
        intended_use=["Ranking films for adults"],
        limitations=["Knows nobody who has not rated"],
        task="binary classification",
        features=["age", "mean_rating"],
        data={"golden set": report.golden},
        provenance={"recipe": "ranker"},
    )
    judgements = [{"gate": "superior_brier", "verdict": "PASSED", "reason": "p = 0.02", "evidence": {}}]
    return model_card(
        report,
        facts,
        judgements=judgements,
        explanation={"method": "shap", "metric": None, "importance": {"age": 0.5}},
        pictures={"SHAP": base64.b64encode(b"png").decode()},
    )


def test_the_card_is_a_cyclonedx_document_of_one_model(card):
    (component,) = card["components"]
    assert (card["bomFormat"], card["specVersion"]) == ("CycloneDX", "1.6")
    assert component["type"] == "machine-learning-model"
    assert component["hashes"] == [{"alg": "SHA-256", "content": "a" * 64}]
    metrics = component["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    assert metrics[0] == {
        "type": "brier",
        "slice": "golden set, candidate",
        "value": "0.2",
        "confidenceInterval": {"lowerBound": "0.19", "upperBound": "0.21"},
    }
    assert [metric["type"] for metric in metrics] == ["brier", "brier", "brier gain"]


def test_the_page_shows_what_the_card_holds_and_escapes_it(card):
    page = render_card(card)
    for words in (
        "Ranking films for adults",
        "Knows nobody",
        "superior_brier",
        "PASSED: p = 0.02",
        "ranker",
        CANDIDATE,
    ):
        assert words in page
    assert "Ranks &lt;films&gt; &amp; series." in page
    assert "data:image/png;base64," in page


def test_the_page_reaches_out_to_nothing_and_runs_nothing(card):
    class Seen(HTMLParser):
        tags: list[tuple[str, dict]]

        def handle_starttag(self, tag, attrs):
            self.tags.append((tag, dict(attrs)))

    seen = Seen()
    seen.tags = []
    seen.feed(render_card(card))
    assert not {"script", "link", "a", "iframe"} & {tag for tag, _ in seen.tags}
    assert all(attributes["src"].startswith("data:") for _, attributes in seen.tags if "src" in attributes)


def test_the_same_facts_give_the_same_bytes_and_other_facts_another_serial_number(card):
    report = EvaluationReport(product="films", candidate=CANDIDATE, golden="sha256:cc", rows=1, clusters=1)
    one, same = (model_card(report, CardFacts(owner="a")) for _ in range(2))
    assert canonical_json(one) == canonical_json(same)
    assert one["serialNumber"] != model_card(report, CardFacts(owner="b"))["serialNumber"]


def test_a_card_with_nothing_but_a_report_still_renders():
    report = EvaluationReport(product="films", candidate=CANDIDATE, golden="sha256:cc", rows=1, clusters=1)
    assert "Model card: films" in render_card(model_card(report, CardFacts()))
