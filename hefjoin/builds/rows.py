"""The records of builds: by build, and in the row of a name."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from pydantic import ValidationError

from hefjoin.errors import InputError, StoreError
from hefjoin.manifest import Published
from hefjoin.results.sources import Provider
from hefjoin.stores import Store

PROVIDERS: tuple[Provider, ...] = ("dfc", "emulator")
"""In the order in which a name is looked up: a real build before an emulated one."""
ATTEMPTS = 100
THREADS = 8
"""Of small files over a network; one takes as long as eight."""


def add_build(store: Store, published: Published) -> None:
    """Leave the record of a build, beside those of the same name; a damaged one is written anew."""
    key, record = build_key(published), published.model_dump(mode="json")
    if not store.create_record(key, record) and _is_damaged(store, key):
        store.replace_record(key, record)


def build_key(published: Published) -> str:
    """Return the key of a build's own record."""
    return f"{builds_key(published.provider, published.name)}/{published.build_id}"


def builds_of(store: Store, provider: Provider, name: str) -> list[str]:
    """Return the keys of all builds of a name, promoted or not, the newest last."""
    return store.list_records(builds_key(provider, name))


def add_to_row(store: Store, published: Published) -> Published:
    """Make a build the latest of its name; return it with the key of its new record, or of the last if damaged.

    Raises:
        StoreError: Others were faster each time, or the store cannot be written.
    """
    folder = row_key(published.provider, published.name)
    for _ in range(ATTEMPTS):
        keys = store.list_records(folder)
        if keys and _is_damaged(store, keys[-1]):
            named = published.model_copy(update={"record": keys[-1]})
            store.replace_record(keys[-1], named.model_dump(mode="json"))
            return named
        number = int(keys[-1].rpartition("/")[2]) + 1 if keys else 1
        named = published.model_copy(update={"record": f"{folder}/{number:06d}"})
        if store.create_record(named.record, named.model_dump(mode="json")):
            return named
    raise StoreError(
        f"{folder}: {ATTEMPTS} attempts to add a record, and another build was faster each time; try again",
        reason="unavailable",
        uri=store.uri,
    )


def _is_damaged(store: Store, key: str) -> bool:
    try:
        store.read_record(key)
    except StoreError as error:
        if error.reason != "damaged":
            raise
        return True
    return False


def row_of(store: Store, provider: Provider, name: str) -> list[str]:
    """Return the keys of a name's records; the last is that of its latest."""
    return store.list_records(row_key(provider, name))


def read_row(store: Store, provider: Provider, name: str) -> list[Published]:
    """Return a name's records in order, without those that another version of hefjoin wrote.

    Raises:
        StoreError: One is damaged.
    """
    with ThreadPoolExecutor(THREADS) as threads:
        found = threads.map(lambda key: _known(store, key), row_of(store, provider, name))
        return [record for record in found if record is not None]


def mended_row(store: Store, provider: Provider, name: str) -> tuple[list[Published], list[str]]:
    """Return what `read_row` does, and the keys of damaged records, which are removed.

    A damaged last one stays: the next is written over it.
    """
    keys = row_of(store, provider, name)

    def look_at(key: str) -> tuple[Published | None, bool]:
        try:
            return _known(store, key), False
        except StoreError as error:
            if error.reason != "damaged":
                raise
            return None, True

    with ThreadPoolExecutor(THREADS) as threads:
        looked_at = list(threads.map(look_at, keys))
    damaged = [key for key, (_, is_damaged) in zip(keys[:-1], looked_at, strict=False) if is_damaged]
    for key in damaged:
        store.remove_record(key)
    return [record for record, _ in looked_at if record is not None], damaged


def _known(store: Store, key: str) -> Published | None:
    """Return a record; None where it is gone, or of another version of hefjoin."""
    with suppress(InputError):
        return read(store, key)
    return None


def latest(store: Store, provider: Provider, name: str) -> Published | None:
    """Return the newest named build, or None."""
    keys = row_of(store, provider, name)
    return read(store, keys[-1]) if keys else None


def read(store: Store, key: str) -> Published | None:
    """Return what a record says, or None where there is none.

    Raises:
        InputError: It was written by another version of hefjoin.
        StoreError: It is damaged.
    """
    record = store.read_record(key)
    try:
        return None if record is None else Published.model_validate(record)
    except ValidationError as error:
        raise InputError(
            f"{store.uri}/{key}.json was written by another version of hefjoin, which this one does not read; build it "
            "again"
        ) from error


def builds_key(provider: Provider, name: str) -> str:
    """Return the folder of the records of a name's builds."""
    return f"builds/{provider}/{name}"


def row_key(provider: Provider, name: str) -> str:
    """Return the folder of a name's records."""
    return f"names/{provider}/{name}"
