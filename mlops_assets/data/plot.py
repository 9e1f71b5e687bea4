"""Pictures for Dagster's metadata, where people would rather look than read."""

import base64
import io
from typing import Any


def inline_png(figure: Any) -> str:
    """Return a matplotlib ``Figure`` as a Markdown image that carries its own bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80, bbox_inches="tight")
    return f"![plot](data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()})"
