"""The one declaration: a model product is a policy plus parts, never a fork of the pipeline.

Belongs here: ``ModelProduct``, the ``Profile`` that holds its policy, presets by risk, and everything that can be found
wrong before anything runs. Not here: turning it into assets (``build.py``).
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import polars as pl

from mlops_assets.data.contract import DataContract
from mlops_assets.errors import InvalidDefinition
from mlops_assets.evaluation.metrics import Metric
from mlops_assets.features.materialization import Materialization
from mlops_assets.features.request import derived_features, schema_faults
from mlops_assets.features.view import FeatureView, RequestFeature
from mlops_assets.gates.contradictions import contradictions
from mlops_assets.gates.error_control import ErrorControl
from mlops_assets.gates.gate import Gate
from mlops_assets.gates.golden_budget import GoldenBudget
from mlops_assets.gates.parity_holds import ParityHolds
from mlops_assets.ledger.canonical import Digest
from mlops_assets.monitoring.drift import DriftDetector, UnivariateDrift
from mlops_assets.monitoring.performance import LivePerformance
from mlops_assets.release.blue_green import BlueGreen
from mlops_assets.release.canary import Canary
from mlops_assets.release.live import LiveAnalysis
from mlops_assets.release.policy import Policy
from mlops_assets.release.rollout import RolloutStrategy
from mlops_assets.retraining.policy import RetrainingPolicy
from mlops_assets.serving.served import ServedProduct
from mlops_assets.serving.tensors import DATATYPES
from mlops_assets.training.recipe import Recipe, TimeSplit

_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How much a product does by itself, by the risk it carries.

    ``approvals`` people must approve a judged candidate before it is released (0: it is released by itself),
    ``strategy`` moves its traffic, ``retraining`` says when it trains again, ``errors`` what the gates' error rates may
    add up to.
    """

    name: str
    strategy: RolloutStrategy
    approvals: int = 0
    retraining: RetrainingPolicy = field(default_factory=RetrainingPolicy)
    errors: ErrorControl = field(default_factory=ErrorControl)

    def faults(self) -> list[str]:
        """Return what is wrong with the declaration, one sentence each."""
        found = [f"strategy: {fault}" for fault in self.strategy.faults()]
        found += [f"retraining: {fault}" for fault in self.retraining.faults()]
        found += [f"errors: {fault}" for fault in self.errors.faults()]
        if self.approvals < 0:
            found.append(f"approvals must be 0 or more, found {self.approvals}")
        return found


def velocity(**changes: Any) -> Profile:
    """Return the profile of products where a wrong answer is cheap: all automatic, canary in four steps."""
    return replace(Profile(name="velocity", strategy=Canary(percents=(5, 25, 50, 100))), **changes)


def governed(**changes: Any) -> Profile:
    """Return the profile of products where people answer for each version, and read what is claimed of it.

    One approval, then all traffic at once; every claim that is shown as passed holds together with all others, and a
    golden set serves five times.
    """
    policy = RetrainingPolicy(on_new_data=True, on_drift=False, on_performance=False)
    errors = ErrorControl(claims="each", golden=GoldenBudget(uses=5))
    profile = Profile(name="governed", strategy=BlueGreen(), approvals=1, retraining=policy, errors=errors)
    return replace(profile, **changes)


def low_latency(**changes: Any) -> Profile:
    """Return the profile of products that must adapt and answer in milliseconds: all automatic, blue-green swap."""
    return replace(Profile(name="low_latency", strategy=BlueGreen()), **changes)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelProduct:
    """All that a team says of a model product. ``InvalidDefinition`` names every fault found, at load.

    ``source`` is the name under which the platform binds a data source. ``derived`` are columns that the dataset gains
    after validation, by Polars SQL expressions of one row; ``label`` is one of them, or a column of the source.
    ``inputs`` are the columns a prediction request carries, with their Open Inference Protocol types, and ``outcome``
    the column that becomes known later. ``event_key`` are the columns that together name one event.
    ``materialization`` says how the tables of the product's own views are kept, and how fresh they must be.
    """

    name: str
    owner: str
    description: str
    profile: Profile
    source: str
    contract: DataContract
    entity: str
    event_time: str
    event_key: tuple[str, ...]
    label: str
    outcome: str
    inputs: Mapping[str, str]
    views: tuple[FeatureView, ...]
    recipes: tuple[Recipe, ...]
    split: TimeSplit
    metrics: tuple[Metric, ...]
    gates: tuple[Gate, ...]
    analysis: LiveAnalysis
    performance: LivePerformance
    request_features: tuple[RequestFeature, ...] = ()
    derived: Mapping[str, str] = field(default_factory=dict)
    materialization: Materialization = field(default_factory=Materialization)
    detector: DriftDetector = field(default_factory=UnivariateDrift)
    monitoring_window: int = 2000
    sensor_interval: timedelta = timedelta(seconds=30)

    def __post_init__(self) -> None:
        faults = list(self._faults())
        if faults:
            raise InvalidDefinition([f"product {self.name!r}: {fault}" for fault in faults])

    @property
    def features(self) -> tuple[str, ...]:
        """Names of all features a model may read: those of the views, then those of the request."""
        return (
            *(name for view in self.views for name in view.feature_names),
            *(feature.name for feature in self.request_features),
        )

    @property
    def policy(self) -> Policy:
        """All that decides whether a candidate goes live."""
        return Policy(
            gates=self.gates,
            analysis=self.analysis,
            strategy=self.profile.strategy,
            approvals=self.profile.approvals,
            errors=self.profile.errors,
        )

    @property
    def view_digests(self) -> dict[str, Digest]:
        """The digests of the views that the product serves, by name."""
        return {view.name: view.digest for view in self.views}

    @property
    def metric_names(self) -> frozenset[str]:
        """Names of the metrics an evaluation computes."""
        return frozenset(metric.name for metric in self.metrics)

    @property
    def served(self) -> ServedProduct:
        """What the prediction server must know of the product."""
        return ServedProduct(
            name=self.name,
            entity=self.entity,
            event_time=self.event_time,
            event_key=self.event_key,
            outcome=self.outcome,
            inputs=self.inputs,
            schema={name: column.dtype.type for name, column in self.contract.schema.columns.items()},
            views=self.views,
            request_features=self.request_features,
            derived=self.derived,
        )

    def _faults(self) -> Iterator[str]:
        if not _NAME.fullmatch(self.name):
            yield "name: must be lower-case letters, digits and underscores, and begin with a letter"
        yield from self._part_faults()
        yield from self._name_faults()
        yield from self._column_faults()
        yield from self._row_faults()
        yield from self._gate_faults()
        if self.monitoring_window < 1:
            yield f"monitoring_window: counts predictions and must be at least 1, found {self.monitoring_window}"

    def _part_faults(self) -> Iterator[str]:
        """Yield what each part says of itself."""
        parts: list[tuple[str, Any]] = [("profile", self.profile), ("contract", self.contract)]
        parts += [
            ("analysis", self.analysis),
            ("performance", self.performance),
            ("detector", self.detector),
            ("split", self.split),
            ("materialization", self.materialization),
        ]
        parts += [("views", view) for view in self.views]
        parts += [("recipes", recipe) for recipe in self.recipes]
        parts += [("gates", gate) for gate in self.gates]
        parts += [("metrics", metric) for metric in self.metrics]
        for name, part in parts:
            yield from (f"{name}: {fault}" for fault in part.faults())

    def _name_faults(self) -> Iterator[str]:
        named: dict[str, Iterable[str]] = {
            "views": (view.name for view in self.views),
            "features": self.features,
            "recipes": (recipe.name for recipe in self.recipes),
            "metrics": (metric.name for metric in self.metrics),
            "gates": (gate.name for gate in self.gates),
        }
        for part, names in named.items():
            counts = Counter(names)
            yield from (f"{part}: the name {name!r} is used {n} times" for name, n in counts.items() if n > 1)
            if not counts and part != "views":
                yield f"{part}: at least one is needed"

    def _column_faults(self) -> Iterator[str]:
        """Yield columns that nobody provides, by the contract, the derived columns and the request's inputs."""
        columns = set(self.contract.columns) | set(self.derived)
        known = sorted(columns)
        wanted = [("entity", self.entity), ("event_time", self.event_time), ("label", self.label)]
        wanted += [("outcome", self.outcome)]
        wanted += [("event_key", name) for name in self.event_key]
        wanted += [("inputs", name) for name in self.inputs]
        for view in self.views:
            wanted += [(f"views: {part}", name) for part, name in _columns_of_view(view)]
        for name, expression in [(f.name, f.expression) for f in self.request_features] + list(self.derived.items()):
            wanted += [(f"expression of {name}", column) for column in _columns_of(expression)]
        yield from (f"{part}: unknown column {name!r}; known: {known}" for part, name in wanted if name not in columns)
        for name, datatype in self.inputs.items():
            if datatype not in DATATYPES:
                yield f"inputs: {name!r} has the unknown datatype {datatype!r}; known: {sorted(DATATYPES)}"
        for part, name in (("entity", self.entity), *((f"views: {v.name}", v.entity) for v in self.views)):
            if name in columns and name not in self.inputs:
                yield f"{part}: {name!r} is not among the inputs, so no request could be answered"

    def _row_faults(self) -> Iterator[str]:
        """Yield what is wrong with expressions over one row, by themselves or with columns of the contract."""
        schema = self.served.schema
        for feature in self.request_features:
            yield from (f"request_features: {fault}" for fault in feature.faults() or schema_faults([feature], schema))
        for column in derived_features(self.derived):
            found = column.faults() or schema_faults([column], schema)
            yield from (f"derived: {fault.replace('request feature', 'column', 1)}" for fault in found)

    def _gate_faults(self) -> Iterator[str]:
        yield from (f"gates: {fault}" for fault in contradictions(self.gates, self.metrics))
        try:
            self.policy.to_json()
        except TypeError as error:
            yield f"gates and analysis: the ledger cannot record them: {error}"
        for gate in self.gates:
            for metric in sorted(gate.metrics - self.metric_names):
                computed = sorted(self.metric_names)
                yield f"gates: {gate.name} reads the metric {metric!r}, which nobody computes; computed: {computed}"
            if isinstance(gate, ParityHolds):
                known = sorted(view.name for view in self.views)
                unknown = sorted({*gate.views} - {*known})
                yield from (f"gates: {gate.name} asks for the view {name!r}; the views are {known}" for name in unknown)
                if not known:
                    yield f"gates: {gate.name} has nothing to hold: the product has no views"


def _columns_of_view(view: FeatureView) -> list[tuple[str, str]]:
    """Return what a view reads of an event, with the part of it that reads it first; nothing of a faulty view."""
    if view.faults():
        return []  # the view reports them
    readers = {f.column: f"{view.name}.{f.name}" for f in reversed(view.aggregates) if f.column}
    return [(readers.get(name, view.name), name) for name in view.inputs]


def _columns_of(expression: str) -> list[str]:
    try:
        return pl.sql_expr(expression).meta.root_names()
    except pl.exceptions.PolarsError:
        return []  # the part that holds the expression reports it


def find_shared_faults(products: Iterable[ModelProduct]) -> list[str]:
    """Return what is wrong between products: names used twice, views that differ under one name, unknown sources."""
    products = list(products)
    names = {product.name for product in products}
    found = [f"product {n!r} is declared {k} times" for n, k in Counter(p.name for p in products).items() if k > 1]
    views: dict[str, FeatureView] = {}
    for product in products:
        for view in product.views:
            if views.setdefault(view.name, view) != view:
                found.append(f"product {product.name!r}: views: {view.name!r} is declared differently elsewhere")
            if view.source not in names:
                found.append(
                    f"product {product.name!r}: views: {view.name!r} reads the unknown product {view.source!r}"
                )
    return found
