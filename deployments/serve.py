"""The prediction server on embedded defaults: all products, on 127.0.0.1. Ends on SIGTERM or Ctrl-C.

``SERVING_WORKERS`` says how many processes answer (1), ``SERVING_DURABILITY`` whether a prediction outlives the
``process`` or a loss of ``power`` as well.
"""

import os
import sys
from urllib.parse import urlsplit

from deployments.processes import HOME, SERVING_URL
from mlops_assets.products import PRODUCTS
from mlops_assets.serving.app import Application, build_app
from mlops_assets.serving.log import Durability
from mlops_assets.serving.server import serve
from resources.stores import local_registry, local_snapshots, online_stores, prediction_log


def application() -> Application:
    """Return the application of one worker."""
    import lightgbm  # noqa: F401 - imported, like the registry opened, so that the first plan need not wait for it

    registry = local_registry(HOME)
    registry.aliases(PRODUCTS[0].name)
    return build_app(
        [product.served for product in PRODUCTS],
        snapshots=local_snapshots(HOME),
        registry=registry,
        log=prediction_log(HOME, durability=Durability(os.environ.get("SERVING_DURABILITY", "process"))),
        state_dir=HOME / "serving",
        online=online_stores(),
    )


def main() -> int:
    """Serve until told to end."""
    workers = int(os.environ.get("SERVING_WORKERS", "1"))
    serve("deployments.serve:application", port=urlsplit(SERVING_URL).port or 80, workers=workers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
