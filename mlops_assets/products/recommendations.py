"""Film recommendations: will this person like this film? The e-commerce case, driven by iteration speed.

Batch features of users and films, a LightGBM ranker trained pointwise on "liked" (a rating of 4 or more), a golden set
of the last three years, and an automatic canary. What the data can show, and why the metric is what it is, stands in
docs/decisions.
"""

from datetime import timedelta

import pandera.polars as pa
import polars as pl

from mlops_assets.data.contract import DataContract
from mlops_assets.evaluation.metrics import brier, ndcg_at, roc_auc
from mlops_assets.features.view import Aggregate, FeatureView, RequestFeature
from mlops_assets.gates.at_least import AtLeast, AtMost
from mlops_assets.gates.non_inferior import NonInferior
from mlops_assets.gates.superior import Superior
from mlops_assets.monitoring.performance import LivePerformance
from mlops_assets.product import ModelProduct, velocity
from mlops_assets.release.canary import Canary
from mlops_assets.release.live import LiveAnalysis
from mlops_assets.retraining.policy import RetrainingPolicy
from mlops_assets.training.recipe import Recipe, TimeSplit

RATINGS = pa.DataFrameSchema(
    {
        "user_id": pa.Column(pl.Int64, pa.Check.gt(0)),
        "film_id": pa.Column(pl.Int64, pa.Check.gt(0)),
        "rating": pa.Column(pl.Float64, pa.Check.in_range(0.5, 5.0)),
        "rated_at": pa.Column(pl.Datetime("us", "UTC")),
        "title": pa.Column(pl.String, nullable=True),
        "release_year": pa.Column(pl.Float64, pa.Check.in_range(1880, 2100), nullable=True),
        "genres": pa.Column(pl.String),
    }
)

USER_TASTE = FeatureView(
    name="user_taste",
    source="recommendations",
    entity="user_id",
    event_time="rated_at",
    description="What a person's ratings so far say about their taste.",
    owner="team:recommendations",
    features=(
        Aggregate(name="user_ratings", function="count", column="rating"),
        Aggregate(name="user_mean_rating", function="mean", column="rating"),
        Aggregate(name="user_liked_share", function="mean", column="liked"),
        Aggregate(name="user_rating_std", function="std", column="rating"),
    ),
)

FILM_POPULARITY = FeatureView(
    name="film_popularity",
    source="recommendations",
    entity="film_id",
    event_time="rated_at",
    description="How a film has been rated so far, by everybody and lately.",
    owner="team:recommendations",
    features=(
        Aggregate(name="film_ratings", function="count", column="rating"),
        Aggregate(name="film_mean_rating", function="mean", column="rating"),
        Aggregate(name="film_liked_share", function="mean", column="liked"),
        Aggregate(name="film_ratings_1y", function="count", column="rating", window=timedelta(days=365)),
    ),
)

GENRES = ("Drama", "Comedy", "Action", "Thriller", "Sci-Fi", "Horror", "Children", "Romance")

RECIPE = Recipe(
    name="ranker",
    trainer="mlops_assets.training.lightgbm:train_classifier",
    loader="mlops_assets.training.lightgbm:load_lightgbm",
    params={
        "objective": "binary",
        "num_boost_round": 150,
        "learning_rate": 0.05,
        "num_leaves": 15,
        "min_data_in_leaf": 40,
        "lambda_l2": 5.0,
        "num_threads": 2,
    },
    seed=1,
)

RECOMMENDATIONS = ModelProduct(
    name="recommendations",
    owner="team:recommendations",
    description="Ranks films for a person by the probability of a rating of 4 or more.",
    source="ratings",
    contract=DataContract(schema=RATINGS, tolerance=0.01, unique=("user_id", "film_id", "rated_at")),
    entity="user_id",
    event_time="rated_at",
    event_key=("user_id", "film_id", "rated_at"),
    outcome="rating",
    derived={"liked": "CAST(rating >= 4 AS DOUBLE)"},
    label="liked",
    inputs={
        "user_id": "INT64",
        "film_id": "INT64",
        "rated_at": "BYTES",
        "release_year": "FP64",
        "genres": "BYTES",
    },
    views=(USER_TASTE, FILM_POPULARITY),
    request_features=(
        RequestFeature(name="film_age_years", expression="EXTRACT(YEAR FROM rated_at) - release_year"),
        *(
            RequestFeature(name=f"genre_{g.lower().replace('-', '_')}", expression=f"genres LIKE '%{g}%'")
            for g in GENRES
        ),
    ),
    recipes=(RECIPE,),
    split=TimeSplit(golden=timedelta(days=3 * 365)),
    metrics=(brier(), roc_auc(), ndcg_at(10)),
    gates=(
        AtMost(metric="brier", ceiling=0.24),
        AtLeast(metric="roc_auc", floor=0.65),
        NonInferior(metric="ndcg_at_10", margin=0.06),
        Superior(metric="brier", minimum_effect=0.01),
    ),
    analysis=LiveAnalysis(
        metric="brier", label="outcome >= 4", margin=0.02, bound=0.25, alpha=0.05, outcomes_per_unit=20, minimum_units=5
    ),
    performance=LivePerformance(metric=brier(), label="outcome >= 4", tolerance=0.02),
    profile=velocity(strategy=Canary(percents=(5, 25, 50, 100)), retraining=RetrainingPolicy(minimum_growth=0.5)),
    monitoring_window=1000,
    sensor_interval=timedelta(seconds=4),  # the daemon looks every 5 s, and skips a sensor that is not yet due
)
