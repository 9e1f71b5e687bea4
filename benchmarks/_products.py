"""The code location of the products, over the folder that the environment names."""

import os
from pathlib import Path

from mlops_assets.build import build_definitions
from mlops_assets.products import PRODUCTS
from resources.local import local_platform

defs = build_definitions(PRODUCTS, local_platform(Path(os.environ["BENCHMARK_HOME"])))
