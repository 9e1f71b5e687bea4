"""The demo's code location: the recommendations product, with two defective recipes that someone may propose."""

from dataclasses import replace
from pathlib import Path

from deployments.demo.defects import defective
from mlops_assets.build import build_definitions
from mlops_assets.products.recommendations import RECIPE, RECOMMENDATIONS
from resources.local import local_platform

PRODUCT = replace(RECOMMENDATIONS, recipes=(RECIPE, *defective(RECIPE)))

defs = build_definitions([PRODUCT], local_platform(Path(__file__).resolve().parents[2] / ".mlops"))
