"""The prediction server on embedded defaults: all products, on 127.0.0.1. Ends on SIGTERM or Ctrl-C."""

import sys
from urllib.parse import urlsplit

from deployments.processes import HOME, SERVING_URL
from mlops_assets.build import served_product
from mlops_assets.products import PRODUCTS
from mlops_assets.serving.app import build_app
from mlops_assets.serving.server import serve
from resources.local import local_platform, prediction_log


def main() -> int:
    """Serve until told to end."""
    platform = local_platform(HOME)
    platform.registry.aliases(PRODUCTS[0].name)  # opens the registry, so that the first plan need not wait for it
    app = build_app(
        [served_product(product) for product in PRODUCTS],
        snapshots=platform.snapshots,
        registry=platform.registry,
        log=prediction_log(HOME),
        state_dir=HOME / "serving",
    )
    serve(app, port=urlsplit(SERVING_URL).port or 80)
    return 0


if __name__ == "__main__":
    sys.exit(main())
