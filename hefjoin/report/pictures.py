"""The pictures of a build's summary: images within the markdown, because Prefect's UI shows no SVG element.

The rule: a picture stands on white, so that it is read in a dark page too, and takes less than `MOST_BYTES`.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hefjoin.report import graph, plots

if TYPE_CHECKING:
    from markupsafe import Markup

    from hefjoin.manifest import Manifest

MOST_BYTES = 100_000
HEAD = (
    ' xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
    'font-family="DejaVu Sans, Verdana, Helvetica, sans-serif"'
)
GROUND = '<rect width="100%" height="100%" fill="#ffffff"/>'


def graph_image(manifest: Manifest) -> str:
    """Return the joined network, as markdown."""
    return _image(graph.draw_graph(manifest.joined, plots.colors_of(manifest)), "The joined network")


def snr_image(manifest: Manifest) -> str:
    """Return the SNR of every output, as markdown; nothing where no output was judged."""
    if not manifest.quantized.accuracy:
        return ""
    return _image(plots.plot_snr(manifest, plots.colors_of(manifest)), "SNR of the outputs")


def history_image(points: Sequence[tuple[str, float, str]], what: str) -> str:
    """Return the throughput of the last builds, as markdown, of two at least; see `plots.plot_history`."""
    return _image(plots.plot_history(points, what), f"{what} of the last builds") if len(points) > 1 else ""


def _image(svg: Markup, text: str) -> str:
    """Return an SVG element as an image in markdown; nothing where it would be too large."""
    bare = re.sub(r"<title>.*?</title>", "", svg, flags=re.DOTALL)  # an image has no hover
    document = re.sub(r"<svg([^>]*)>", rf"<svg{HEAD}\1>{GROUND}", bare, count=1)
    address = f"data:image/svg+xml;base64,{base64.b64encode(document.encode()).decode()}"
    return f"![{text}]({address})" if len(address) <= MOST_BYTES else ""
