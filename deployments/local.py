"""The code location on embedded defaults: files, SQLite, a local process. Loaded by workspace.yaml."""

from pathlib import Path

from mlops_assets.build import build_definitions
from mlops_assets.products import PRODUCTS
from resources.local import local_platform

defs = build_definitions(PRODUCTS, local_platform(Path(__file__).resolve().parents[1] / ".mlops"))
