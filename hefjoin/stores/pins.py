"""What a running build needs of a store, so that nothing that is removed meanwhile is missed by it.

The rules:

1. A build claims `running/<id>` as long as it runs, and pins each artifact before it looks whether that is there:
   a record `pins/<id>/<artifact>`.
2. Whoever removes things claims `removing` first and looks for pins then; whoever has pinned waits until nobody
   removes. One of the two sees the other, whatever the order.
3. Pins of a build that has died mean nothing; they are removed with the rest. So is what it handed over to another
   machine, `handover/<id>/…`, which names the build.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from uuid import uuid4

from hefjoin.artifacts import Ref
from hefjoin.errors import StoreError
from hefjoin.stores import Store
from hefjoin.stores.claims import Owner, claimed, wait_until_free

REMOVING = "removing"
RUNNING = "running"
HANDED_OVER = "handover"


@contextmanager
def running(store: Store, what: str) -> Iterator[str]:
    """Be known as a running build for as long as the block runs; gives the id to pin with."""
    build = uuid4().hex
    with claimed(store, f"{RUNNING}/{build}", what):
        try:
            yield build
        finally:
            with suppress(StoreError):  # they mean nothing from now on
                for key in store.list_records(f"pins/{build}"):
                    store.remove_record(key)


def pin(store: Store, build: str, refs: Iterable[Ref], on_wait: Callable[[Owner], None] | None = None) -> None:
    """Keep artifacts from being removed while the build runs; what is there afterwards stays.

    Raises:
        StoreError: The store cannot be written.
    """
    for ref in refs:
        store.replace_record(f"pins/{build}/{ref.sha256}.{ref.media}", {})
    wait_until_free(store, REMOVING, on_wait)


def pinned(store: Store, builds: Iterable[str]) -> set[tuple[str, str]]:
    """Return digest and media of every artifact that one of these builds has pinned."""
    keys = [key for build in builds for key in store.list_records(f"pins/{build}")]
    names = [key.rpartition("/")[2].partition(".") for key in keys]
    return {(sha256, media) for sha256, _, media in names}
