"""The prediction server on embedded defaults: all products, on 127.0.0.1. Ends on SIGTERM or Ctrl-C."""

import sys
from urllib.parse import urlsplit

from deployments.processes import HOME, SERVING_URL
from mlops_assets.products import PRODUCTS
from mlops_assets.serving.app import build_app
from mlops_assets.serving.server import serve
from resources.stores import local_registry, local_snapshots, prediction_log


def main() -> int:
    """Serve until told to end."""
    import lightgbm  # noqa: F401 - imported, like the registry opened, so that the first plan need not wait for it

    registry = local_registry(HOME)
    registry.aliases(PRODUCTS[0].name)
    app = build_app(
        [product.served for product in PRODUCTS],
        snapshots=local_snapshots(HOME),
        registry=registry,
        log=prediction_log(HOME),
        state_dir=HOME / "serving",
    )
    serve(app, port=urlsplit(SERVING_URL).port or 80)
    return 0


if __name__ == "__main__":
    sys.exit(main())
