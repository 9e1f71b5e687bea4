"""``python -m benchmarks._server HOME PORT``: the prediction server over the platform below ``HOME``."""

import sys
from pathlib import Path

from mlops_assets.products.recommendations import RECOMMENDATIONS
from mlops_assets.serving.app import build_app
from mlops_assets.serving.server import serve
from resources.stores import local_registry, local_snapshots, prediction_log


def main(home: Path, port: int) -> None:
    """Serve until told to end."""
    app = build_app(
        [RECOMMENDATIONS.served],
        snapshots=local_snapshots(home),
        registry=local_registry(home),
        log=prediction_log(home),
        state_dir=home / "serving",
    )
    serve(app, port=port)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
