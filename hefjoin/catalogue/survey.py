"""Look through all specs of a catalogue: which are due, which are not, and which nothing can be said of.

The rule: whatever is wrong with one spec is told of that one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from hefjoin.artifacts import Record
from hefjoin.catalogue.content import Content
from hefjoin.catalogue.due import Due, due
from hefjoin.catalogue.listing import is_used
from hefjoin.catalogue.seen import Once, Seen
from hefjoin.errors import HefJoinError
from hefjoin.folders import seen_folder, sources_folder
from hefjoin.sdk.toolchain import DFC_PYTHON, Choice, Toolchain, resolve
from hefjoin.sources.cache import Cache
from hefjoin.spec import BuildSpec
from hefjoin.spec_file import read_spec
from hefjoin.stages.confine import require_allowed
from hefjoin.stores import Store

THREADS = 8


class Entry(Record):
    """A spec of a catalogue."""

    uri: str
    spec: BuildSpec | None = None
    due: Due | None = None
    problem: str = ""
    """Why it cannot be built, or why nothing can be said of it."""

    @property
    def name(self) -> str:
        """The build's, where the spec can be read; else where the spec lies."""
        return self.spec.name if self.spec else self.uri

    @property
    def is_due(self) -> bool:
        """It has to be built."""
        return self.due is not None and bool(self.due.reasons)


def read_all(uris: Sequence[str]) -> list[Entry]:
    """Read specs; of two that have one name, the second has a problem: they would take turns at being its latest."""
    with ThreadPoolExecutor(THREADS) as threads:
        entries = list(threads.map(_read, uris))
    first: dict[str, str] = {}
    for index, entry in enumerate(entries):
        if entry.spec is None:
            continue
        if (other := first.setdefault(entry.spec.name, entry.uri)) != entry.uri:
            problem = f"{entry.uri} has the name of {other}, {entry.spec.name}; specs that are built together need two"
            entries[index] = Entry(uri=entry.uri, problem=problem)
    return entries


def survey(entries: Sequence[Entry], store: Store, choice: Choice = "auto", uses: str = "") -> list[Entry]:
    """Say of each spec whether it is due; those that do not use a source that is named are left out.

    Args:
        entries: What `read_all` gave; of those with a problem nothing more is said.
        store: Where builds are.
        choice: The compiler that would build them.
        uses: A path or address. Empty: all specs.
    """
    content, toolchains = Content(Seen(seen_folder()), Cache(sources_folder())), Once()

    def toolchain(python: str) -> Toolchain | None:
        found: Toolchain | None = toolchains.get(python, lambda: _toolchain(choice, python))
        return found

    wanted = [each for each in entries if each.spec is None or not uses or is_used(each.spec, uses)]
    with ThreadPoolExecutor(THREADS) as threads:
        return list(threads.map(lambda entry: _looked_at(entry, store, content, toolchain), wanted))


def _read(uri: str) -> Entry:
    try:
        return Entry(uri=uri, spec=read_spec(uri))
    except HefJoinError as error:
        return Entry(uri=uri, problem=error.message)


def _looked_at(entry: Entry, store: Store, content: Content, toolchain: Callable[[str], Toolchain | None]) -> Entry:
    if entry.spec is None:
        return entry
    try:
        require_allowed(entry.spec, store.uri)
        return entry.model_copy(update={"due": due(entry.spec, toolchain(entry.spec.dfc_python), store, content)})
    except HefJoinError as error:
        return entry.model_copy(update={"problem": error.message})


def _toolchain(choice: Choice, python: str) -> Toolchain | None:
    """Return the compiler; None for the DFC where none is named here, because the machines that build have it."""
    if choice == "dfc" and not (python or os.environ.get(DFC_PYTHON)):
        return None
    return resolve(choice, python)
