"""The page on which people look for features."""

from datetime import timedelta
from pathlib import Path

from mlops_assets.features.catalogue import catalogue, catalogue_of
from mlops_assets.features.event_expression import EventExpression
from mlops_assets.features.view import Aggregate, FeatureView, Ratio
from mlops_assets.products import PRODUCTS

PAGE = Path(__file__).parents[2] / "docs" / "feature_catalogue.md"
VIEW = FeatureView(
    name="cards",
    source="fraud",
    entity="card",
    event_time="paid_at",
    known_time="booked_at",
    event_key=("payment",),
    columns=(EventExpression(name="net", expression="amount - fee"),),
    features=(
        Aggregate(name="spent", function="sum", column="net", window=timedelta(hours=1), where="shop LIKE 'a%'"),
        Aggregate(name="shops", function="last_k", column="shop", type="string", k=3, description="Where | lately."),
        Ratio(name="share", numerator="spent", denominator="spent", empty=0.5),
    ),
    time_to_live=timedelta(days=30),
    absent="refuse",
    owner="team:fraud",
    tags=("cards", "money"),
)


def test_the_committed_page_is_that_of_the_declared_views():
    found = PAGE.read_text()
    assert found == catalogue_of(PRODUCTS), (
        "write it again: python -m mlops_assets.features.catalogue mlops_assets.products > docs/feature_catalogue.md"
    )


def test_the_page_says_all_that_a_view_declares_and_who_uses_it():
    page = catalogue([VIEW], {"cards": ["fraud", "limits"]})
    for line in (
        "| [cards](#cards) | `card` | 3 | fraud, limits |",
        "- owner: team:fraud",
        "- used by: fraud, limits",
        "- tags: cards, money",
        "- known: from `booked_at` on",
        "- one event is: `payment`",
        "- time to live: 30 days",
        "- when absent: the request is refused",
        "- column `net`: `amount - fee`",
        "| `spent` | double | sum of net over 1:00:00, where shop LIKE 'a%' | `0` |  |",
        "| `shops` | list of string | last 3 of shop over all time | empty list | Where \\| lately. |",
        "| `share` | double | spent / spent | `0.5` |  |",
    ):
        assert line in page.splitlines(), line


def test_the_page_is_the_same_in_whatever_order_views_are_declared():
    others = [VIEW, FeatureView(name="a", source="s", entity="e", event_time="t", features=VIEW.features[:1])]
    assert catalogue(others, {}) == catalogue(others[::-1], {})
    assert "| [a](#a) | `e` | 1 | nobody |" in catalogue(others, {})
