"""An MLOps platform as a library of Dagster assets: declared once, gated by statistics, released through a ledger."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlops_assets.build import Platform, build_definitions
    from mlops_assets.data.contract import DataContract
    from mlops_assets.data.source import FileSource
    from mlops_assets.errors import InvalidDefinition, MlopsError
    from mlops_assets.features.view import Aggregate, FeatureView, RequestFeature
    from mlops_assets.gates.at_least import AtLeast, AtMost
    from mlops_assets.gates.gate import Judgement, Verdict
    from mlops_assets.gates.non_inferior import NonInferior
    from mlops_assets.gates.superior import Superior
    from mlops_assets.monitoring.drift import UnivariateDrift
    from mlops_assets.monitoring.performance import LivePerformance
    from mlops_assets.product import ModelProduct, Profile, governed, low_latency, velocity
    from mlops_assets.release.blue_green import BlueGreen
    from mlops_assets.release.canary import Canary
    from mlops_assets.release.live import LiveAnalysis
    from mlops_assets.retraining.policy import RetrainingPolicy
    from mlops_assets.training.recipe import Recipe, TimeSplit

# Names are imported when first used: the training process and the server need no Dagster, and start without it.
_WHERE = {
    "Aggregate": "features.view",
    "AtLeast": "gates.at_least",
    "AtMost": "gates.at_least",
    "BlueGreen": "release.blue_green",
    "Canary": "release.canary",
    "DataContract": "data.contract",
    "FeatureView": "features.view",
    "FileSource": "data.source",
    "InvalidDefinition": "errors",
    "Judgement": "gates.gate",
    "LiveAnalysis": "release.live",
    "LivePerformance": "monitoring.performance",
    "MlopsError": "errors",
    "ModelProduct": "product",
    "NonInferior": "gates.non_inferior",
    "Platform": "build",
    "Profile": "product",
    "Recipe": "training.recipe",
    "RequestFeature": "features.view",
    "RetrainingPolicy": "retraining.policy",
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
    "Canary",
    "DataContract",
    "FeatureView",
    "FileSource",
    "InvalidDefinition",
    "Judgement",
    "LiveAnalysis",
    "LivePerformance",
    "MlopsError",
    "ModelProduct",
    "NonInferior",
    "Platform",
    "Profile",
    "Recipe",
    "RequestFeature",
    "RetrainingPolicy",
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
