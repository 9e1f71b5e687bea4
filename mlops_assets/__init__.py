"""An MLOps platform as a library of Dagster assets: declared once, gated by statistics, released through a ledger."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlops_assets.build import Platform, build_definitions
    from mlops_assets.data.contract import DataContract
    from mlops_assets.data.source import FileSource
    from mlops_assets.errors import InvalidDefinition, MlopsError
    from mlops_assets.evaluation.slices import Slice
    from mlops_assets.features.view import Aggregate, FeatureView, RequestFeature
    from mlops_assets.gates.at_least import AtLeast, AtMost
    from mlops_assets.gates.calibrated import Calibrated
    from mlops_assets.gates.equivalent import Equivalent
    from mlops_assets.gates.error_control import ErrorControl
    from mlops_assets.gates.fair import Fair
    from mlops_assets.gates.gate import Judgement, Verdict
    from mlops_assets.gates.golden_budget import GoldenBudget
    from mlops_assets.gates.latency_budget import LatencyBudget
    from mlops_assets.gates.no_leakage import NoLeakage
    from mlops_assets.gates.non_inferior import NonInferior
    from mlops_assets.gates.parity_holds import ParityHolds
    from mlops_assets.gates.reproducible import Reproducible
    from mlops_assets.gates.slices_hold import SlicesHold
    from mlops_assets.gates.stable_predictions import StablePredictions
    from mlops_assets.gates.superior import Superior
    from mlops_assets.monitoring.drift import UnivariateDrift
    from mlops_assets.monitoring.performance import LivePerformance
    from mlops_assets.product import ModelProduct, Profile, governed, low_latency, velocity
    from mlops_assets.release.blue_green import BlueGreen
    from mlops_assets.release.canary import Canary
    from mlops_assets.release.comparing import RateNotAbove
    from mlops_assets.release.guardrails import LatencyAtMost, RateAtMost
    from mlops_assets.release.live import LiveAnalysis
    from mlops_assets.retraining.policy import RetrainingPolicy
    from mlops_assets.serving.serves import Serves
    from mlops_assets.training.recipe import Recipe, TimeSplit

# Names are imported when first used: the training process and the server need no Dagster, and start without it.
_WHERE = {
    "Aggregate": "features.view",
    "AtLeast": "gates.at_least",
    "AtMost": "gates.at_least",
    "BlueGreen": "release.blue_green",
    "Calibrated": "gates.calibrated",
    "Canary": "release.canary",
    "DataContract": "data.contract",
    "Equivalent": "gates.equivalent",
    "ErrorControl": "gates.error_control",
    "Fair": "gates.fair",
    "FeatureView": "features.view",
    "FileSource": "data.source",
    "GoldenBudget": "gates.golden_budget",
    "InvalidDefinition": "errors",
    "Judgement": "gates.gate",
    "LatencyAtMost": "release.guardrails",
    "LatencyBudget": "gates.latency_budget",
    "LiveAnalysis": "release.live",
    "LivePerformance": "monitoring.performance",
    "MlopsError": "errors",
    "ModelProduct": "product",
    "NoLeakage": "gates.no_leakage",
    "NonInferior": "gates.non_inferior",
    "ParityHolds": "gates.parity_holds",
    "Platform": "build",
    "Profile": "product",
    "RateAtMost": "release.guardrails",
    "RateNotAbove": "release.comparing",
    "Recipe": "training.recipe",
    "Reproducible": "gates.reproducible",
    "RequestFeature": "features.view",
    "RetrainingPolicy": "retraining.policy",
    "Serves": "serving.serves",
    "Slice": "evaluation.slices",
    "SlicesHold": "gates.slices_hold",
    "StablePredictions": "gates.stable_predictions",
    "Superior": "gates.superior",
    "TimeSplit": "training.recipe",
    "UnivariateDrift": "monitoring.drift",
    "Verdict": "gates.gate",
    "build_definitions": "build",
    "governed": "product",
    "low_latency": "product",
    "velocity": "product",
}

__all__ = [
    "Aggregate",
    "AtLeast",
    "AtMost",
    "BlueGreen",
    "Calibrated",
    "Canary",
    "DataContract",
    "Equivalent",
    "ErrorControl",
    "Fair",
    "FeatureView",
    "FileSource",
    "GoldenBudget",
    "InvalidDefinition",
    "Judgement",
    "LatencyAtMost",
    "LatencyBudget",
    "LiveAnalysis",
    "LivePerformance",
    "MlopsError",
    "ModelProduct",
    "NoLeakage",
    "NonInferior",
    "ParityHolds",
    "Platform",
    "Profile",
    "RateAtMost",
    "RateNotAbove",
    "Recipe",
    "Reproducible",
    "RequestFeature",
    "RetrainingPolicy",
    "Serves",
    "Slice",
    "SlicesHold",
    "StablePredictions",
    "Superior",
    "TimeSplit",
    "UnivariateDrift",
    "Verdict",
    "build_definitions",
    "governed",
    "low_latency",
    "velocity",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'mlops_assets' has no attribute {name!r}")
    return getattr(import_module(f"mlops_assets.{_WHERE[name]}"), name)
