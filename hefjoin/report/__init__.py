"""What a build shows of itself: one offline HTML page, markdown for the Prefect UI, rows for the command line.

The rule: no figure without its unit and its source, and the same words for it wherever it appears.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hefjoin.report.remeasured import measured_markdown
from hefjoin.report.summary import ModelRow, figure_rows, score_rows, summary_markdown, summary_rows

if TYPE_CHECKING:
    from hefjoin.manifest import Manifest

__all__ = ["ModelRow", "figure_rows", "measured_markdown", "render", "score_rows", "summary_markdown", "summary_rows"]


def render(manifest: Manifest, outputs: Path, frames: Path) -> str:
    """Return the report of a build as one HTML page that needs nothing from elsewhere.

    Equal input gives equal text.

    Args:
        manifest: The build.
        outputs: The .npz behind `manifest.quantized.outputs`: `float_<i>` and `quantized_<i>`, float32,
            (frames, …), in the order of `manifest.joined.model_of_output`.
        frames: The evaluation frames, a .npy of (frames, height, width, channels), 0–255.
    """
    from hefjoin.report.page import render_page

    return render_page(manifest, outputs, frames)
