"""Why a spec has to be built anew, or that it need not be.

It need not where a build of its name came from the same spec, sources of the same content, the same compiler and stages
of hefjoin that would do the same work, and all that the build left is there. Whether its gates passed makes no
difference: building the same again would give the same. So does a build that was rolled back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from hefjoin.artifacts import Record, Ref, canonical_json, named_refs
from hefjoin.builds.changes import input_changes, spec_changes
from hefjoin.builds.find import LOST, besides_latest, read_manifest
from hefjoin.builds.rows import latest, read
from hefjoin.catalogue.again import other_work
from hefjoin.catalogue.content import Content
from hefjoin.errors import InputError, StoreError
from hefjoin.manifest import Manifest, Published
from hefjoin.results.sources import Provider
from hefjoin.sdk.toolchain import Toolchain
from hefjoin.spec import BuildSpec
from hefjoin.stages.fetch import Located
from hefjoin.stores import Store

THREADS = 8


class Due(Record):
    """What is to be done about a spec."""

    reasons: tuple[str, ...]
    """Why it has to be built, in words; none: it need not be."""
    since: str = ""
    """The build that it was compared with; empty where there is none."""
    unknown: tuple[str, ...] = ()
    """What could not be told on this machine."""
    key: str = ""
    """Digest of what made it due: the same for whoever finds the same."""


def due(spec: BuildSpec, toolchain: Toolchain | None, store: Store, content: Content) -> Due:
    """Say why a spec has to be built.

    Args:
        spec: The spec.
        toolchain: The compiler that would build it; None for a DFC of which nothing is known on this machine.
        store: Where its builds are.
        content: Looks at its sources.

    Raises:
        InputError: Its sources are not there; all are listed.
        StoreError: A source or the store cannot be read.
    """
    provider = toolchain.sdk.provider if toolchain else "dfc"
    located = content.locate(spec)
    builds, lost = _comparable(store, provider, spec.name)
    found = [_compared(spec, located, build, toolchain, store, content) for build in builds]
    nothing = Due(reasons=tuple(lost) or (f"no build of {spec.name} by the {provider} yet",))
    chosen = next((each for each in found if not each.reasons), found[0] if found else nothing)
    made_by = {
        "spec": spec.model_dump(mode="json"),
        "sources": content.identity(located),
        "sdk": toolchain and toolchain.sdk.model_dump(mode="json"),
        "store": store.uri,
        "reasons": chosen.reasons,
        "since": chosen.since,
    }
    return chosen.model_copy(update={"key": hashlib.sha256(canonical_json(made_by).encode()).hexdigest()})


def _comparable(store: Store, provider: Provider, name: str) -> tuple[list[Manifest], list[str]]:
    """Return the builds that a new one may repeat, the one made last first; and why others cannot be read."""
    builds: dict[str, Manifest] = {}
    lost: list[str] = []

    def add(published: Published | None) -> None:
        if published is not None and published.build_id not in builds:
            builds[published.build_id] = read_manifest(store, published)

    newest: Published | None = None
    with _noting(lost):
        newest = latest(store, provider, name)
        add(newest)
    for key in besides_latest(store, provider, name, newest):
        with _noting(lost):
            add(read(store, key))
    return sorted(builds.values(), key=lambda build: build.created_at, reverse=True), list(dict.fromkeys(lost))


@contextmanager
def _noting(lost: list[str]) -> Iterator[None]:
    """Note what is lost of a build, or of another version of hefjoin; what keeps the store from being read goes on."""
    try:
        yield
    except InputError as error:
        lost.append(error.message)
    except StoreError as error:
        if error.reason not in LOST:
            raise
        lost.append(error.message)


def _compared(
    spec: BuildSpec, located: Located, build: Manifest, toolchain: Toolchain | None, store: Store, content: Content
) -> Due:
    """Return why a build is not what building the spec would give."""
    fetched = content.fetched(spec, located, build.fetched)
    reasons = [change.text for change in (*input_changes(build.fetched, fetched), *spec_changes(build.spec, spec))]
    unknown: list[str] = []
    if toolchain is None:
        toolchain = Toolchain(sdk=build.sdk, python="")
        unknown.append(f"whether the compiler is still DFC {build.sdk.version}: none is configured on this machine")
    then, now = build.sdk, toolchain.sdk
    if then != now:
        reasons.append(f"compiler {then.provider} {then.version} → {now.provider} {now.version}")
    if not reasons:
        reasons, others = other_work(spec, build, fetched, toolchain, store)
        unknown += others
    if not reasons:
        reasons = [f"{use} of build {build.build_id} is missing in {store.uri}" for use in _missing(store, build)]
    return Due(reasons=tuple(reasons), since=build.build_id, unknown=tuple(unknown))


def _missing(store: Store, build: Manifest) -> list[str]:
    """Return what a build left and the store has no more, by its path in the manifest; no bytes are read."""
    uses: dict[Ref, str] = {}
    for use, ref in named_refs(build):
        uses.setdefault(ref.model_copy(update={"uri": ""}), use)
    with ThreadPoolExecutor(THREADS) as threads:
        return [use for use, is_there in zip(uses.values(), threads.map(store.has, uses), strict=True) if not is_there]
