"""Where the files of a build are, for a person in front of a browser: a link, or the command that fetches them.

The rule: no link that a browser would not follow. A page from a server may open neither `file:` nor `s3:`, so a link
there is only below an address that whoever runs the store serves it at.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from hefjoin.report.markdown import code, escaped

if TYPE_CHECKING:
    from hefjoin.artifacts import Ref
    from hefjoin.manifest import Published


def web_address(uri: str, served: Mapping[str, str]) -> str:
    """Return where a browser finds what lies at `uri`; empty where it does not.

    Args:
        uri: `s3://bucket/prefix/…` or `file:///…`.
        served: Address on the web by address of a store.

    >>> web_address("s3://nets/store/objects/a b.html", {"s3://nets/store": "https://nets.example/store"})
    'https://nets.example/store/objects/a%20b.html'
    """
    for store in sorted(served, key=len, reverse=True):
        if uri.startswith(f"{store.rstrip('/')}/"):
            return served[store].rstrip("/") + quote(unquote(uri.removeprefix(store.rstrip("/"))))
    return ""


def links_markdown(published: Published, served: Mapping[str, str]) -> str:
    """Return links to report, HEF and manifest; empty where no browser finds them."""
    links = {name: web_address(ref.uri, served) for name, ref in _files(published).items()}
    return " · ".join(f"[{escaped(name)}](<{link}>)" for name, link in links.items()) if all(links.values()) else ""


def commands_markdown(published: Published) -> str:
    """Return the commands that fetch report, HEF and manifest."""
    lines = code("\n".join(_fetching(ref.uri, name, published.host) for name, ref in _files(published).items()))
    return f"To fetch report, HEF and manifest:\n\n{lines}"


def _files(published: Published) -> dict[str, Ref]:
    return {"report.html": published.report, published.hef_name: published.hef, "manifest.json": published.manifest}


def _fetching(uri: str, name: str, host: str) -> str:
    if uri.startswith("s3://"):
        return f"aws s3 cp {shlex.quote(uri)} {shlex.quote(name)}"
    return f"scp {shlex.quote(f'{host}:{unquote(urlsplit(uri).path)}')} {shlex.quote(name)}"
