"""``python -m benchmarks._server HOME PORT``: the prediction server over the platform below ``HOME``."""

import sys
from pathlib import Path

from mlops_assets.build import served_product
from mlops_assets.products.recommendations import RECOMMENDATIONS
from mlops_assets.serving.app import build_app
from mlops_assets.serving.server import serve
from resources.local import local_platform, prediction_log


def main(home: Path, port: int) -> None:
    """Serve until told to end."""
    platform = local_platform(home)
    app = build_app(
        [served_product(RECOMMENDATIONS)],
        snapshots=platform.snapshots,
        registry=platform.registry,
        log=prediction_log(home),
        state_dir=home / "serving",
    )
    serve(app, port=port)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
