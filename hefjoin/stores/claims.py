"""Who works on what in a store: a claim that one can have at a time, and that ends with its owner.

The rules:

1. A claim is a row of records, `claims/<key>/<number>`; the highest says whose it is. Each is created by a put that
   fails where it exists, so of all who want it exactly one gets it, and releasing it removes the row.
2. A living owner goes on replacing its heartbeat, `beats/<owner>`. Whoever waits and sees none for `LEASE_SECONDS`, or
   finds on its own machine that the owner's process is gone, takes the claim over by creating the next number.
3. No clock is compared with another: how long a heartbeat stands still is seen by the one who waits.
4. An owner may be taken for dead and come back, after its network or its machine stood still. What it was doing may
   then be done twice, so a claim saves work; what must never happen twice rests on `Store.create_record`.
"""

from __future__ import annotations

import itertools
import os
import platform
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple
from uuid import uuid4

from pydantic import ValidationError

from hefjoin.artifacts import Record
from hefjoin.errors import StoreError
from hefjoin.stores import Store, store_error

BEAT_SECONDS = 10.0
LEASE_SECONDS = 60.0
"""Six beats: one that is late, or lost with a short fault of the network, ends nothing."""
FIRST_POLL_SECONDS, LAST_POLL_SECONDS = 0.1, 2.0

_told_to_end = threading.Event()


def stop_waiting() -> None:
    """Let whoever waits for a claim in this process, in whichever thread, wait no longer, now and from now on."""
    _told_to_end.set()


class Owner(Record):
    """Whose claim it is."""

    id: str
    """Of this claim alone."""
    what: str
    """What it is for, in words: `parse resnet_a`."""
    host: str
    machine: str
    """Boot and process namespace: where it is equal, `pid` means the same. Empty where the system does not tell."""
    pid: int
    started: str
    """When the process was started, in the kernel's count: a later process may have its number."""
    since: str
    """UTC, for people."""

    def __str__(self) -> str:
        """Say who it is."""
        return f"process {self.pid} on {self.host} since {self.since}"


UNREADABLE = Owner(id="", what="", host="", machine="", pid=0, started="", since="")
"""In place of one whose record is damaged: nobody can tell that it lives."""


@contextmanager
def claimed(
    store: Store, key: str, what: str, on_wait: Callable[[Owner], None] | None = None, lease_s: float = LEASE_SECONDS
) -> Iterator[Owner]:
    """Hold a claim for as long as the block runs; wait as long as another has it.

    Args:
        store: Where it is known.
        key: What is claimed, as a record's key.
        what: The same for people.
        on_wait: Called once with each owner that is waited for.
        lease_s: How long a heartbeat may stand still, in seconds.

    Raises:
        StoreError: The store cannot be reached, or not be written; or `stop_waiting` was called.
    """
    owner, row = _this_process(what), f"claims/{key}"
    with _beating(store, owner):
        lapsed, own = _take(store, row, owner, on_wait, lease_s)
        try:
            yield owner
        finally:
            with suppress(StoreError):  # the heart stops, and the claim lapses
                for record in (*lapsed, own):
                    store.remove_record(record)


def wait_until_free(
    store: Store, key: str, on_wait: Callable[[Owner], None] | None = None, lease_s: float = LEASE_SECONDS
) -> None:
    """Return once nobody who lives has the claim.

    Raises:
        StoreError: The store cannot be reached; or `stop_waiting` was called.
    """
    _wait(store, f"claims/{key}", on_wait, lease_s)


def holder(store: Store, key: str) -> Owner | None:
    """Return whose a claim is, dead or alive; None where nobody has it.

    Raises:
        StoreError: The store cannot be reached.
    """
    keys = store.list_records(f"claims/{key}")
    return _owner(store, keys[-1]) if keys else None


class Owners(NamedTuple):
    """Who has claims in a store."""

    living: dict[str, Owner]
    """By the claim's key."""
    lapsed: tuple[str, ...]
    """The records of claims whose owner is gone."""


def owners(store: Store, lease_s: float = LEASE_SECONDS) -> Owners:
    """Return who has claims.

    One on another machine is watched until its heart beats, or does not for `lease_s` seconds.
    """
    newest = {key.rpartition("/")[0]: key for key in store.list_records("claims")}
    watches = {key: Watch(store, lease_s) for key in newest.values()}
    found: dict[str, Owner] = {}
    lapsed: list[str] = []
    while watches:
        for key, watch in list(watches.items()):
            owner = _owner(store, key)
            state = "gone" if owner is None or owner == UNREADABLE else watch.state(owner)
            if owner and state == "alive":
                found[key.removeprefix("claims/").rpartition("/")[0]] = owner
            if state == "gone":
                lapsed.append(key)
            if state != "unknown":
                del watches[key]
        if watches:
            time.sleep(FIRST_POLL_SECONDS)
    return Owners(found, tuple(lapsed))


class Watch:
    """Looks at the owner of a claim time and again."""

    def __init__(self, store: Store, lease_s: float) -> None:
        """Take an owner for gone whose heartbeat stands still for `lease_s` seconds."""
        self._store, self._lease_s = store, lease_s
        self._id, self._since = "", 0.0
        self._beat: object = None

    def state(self, owner: Owner) -> Literal["alive", "gone", "unknown"]:
        """Return what is known by now of an owner; `unknown` is one who may yet turn out to be gone."""
        is_here = bool(owner.machine) and owner.machine == _machine()
        if is_here and _started(owner.pid) != owner.started:
            return "gone"
        beat, now = _count(self._store, owner), time.monotonic()
        if owner.id != self._id:
            self._id, self._beat, self._since = owner.id, beat, now
        elif beat != self._beat:
            self._beat, self._since = beat, now
            return "alive"
        if now - self._since > self._lease_s:
            return "gone"
        return "alive" if is_here else "unknown"


def _take(
    store: Store, row: str, owner: Owner, on_wait: Callable[[Owner], None] | None, lease_s: float
) -> tuple[list[str], str]:
    """Create the next record of a row that nobody who lives has; return those before it, and it.

    Between looking and creating, others may have had the claim and removed the row, and one may have begun a new row:
    so it counts only where the row is still what was looked at.
    """
    while True:
        lapsed, last = _wait(store, row, on_wait, lease_s)
        own = f"{row}/{_number(lapsed[-1]) + 1 if lapsed else 1:06d}"
        if store.create_record(own, owner.model_dump(mode="json")):
            is_same = store.list_records(row) == [*lapsed, own] and (not lapsed or _owner(store, lapsed[-1]) == last)
            if is_same:
                return lapsed, own
            store.remove_record(own)


def _wait(
    store: Store, row: str, on_wait: Callable[[Owner], None] | None, lease_s: float
) -> tuple[list[str], Owner | None]:
    """Wait until nobody who lives has the claim; return the records of those who had it and left it, and the last."""
    watch, pause, told = Watch(store, lease_s), FIRST_POLL_SECONDS, set()
    while keys := store.list_records(row):
        owner = _owner(store, keys[-1])
        if owner == UNREADABLE or (owner and watch.state(owner) == "gone"):
            return keys, owner
        if owner and owner.id not in told:
            told.add(owner.id)
            if on_wait:
                on_wait(owner)
        if _told_to_end.wait(pause):
            raise store_error(f"{row} is no longer waited for: this process was told to end", "refused", store.uri)
        pause = min(1.5 * pause, LAST_POLL_SECONDS)
    return [], None


def _owner(store: Store, key: str) -> Owner | None:
    """Return whose a record is; None where it was just removed."""
    try:
        record = store.read_record(key)
        return None if record is None else Owner.model_validate(record)
    except ValidationError:
        return UNREADABLE
    except StoreError as error:
        if error.attributes.get("reason") != "damaged":
            raise
        return UNREADABLE


def _count(store: Store, owner: Owner) -> Any:
    """Return how often a heart has beaten; None where that is gone or damaged, until it beats again."""
    record = store.find_record(f"beats/{owner.id}")
    return record and record.get("count")


def _number(key: str) -> int:
    return int(key.rpartition("/")[2])


@contextmanager
def _beating(store: Store, owner: Owner) -> Iterator[None]:
    """Let an owner be seen alive; the first beat is there before the block begins."""
    key, stopped = f"beats/{owner.id}", threading.Event()

    def beat() -> None:
        for count in itertools.count(1):
            if stopped.wait(BEAT_SECONDS):
                return
            with suppress(StoreError):  # the next one may pass
                store.replace_record(key, {"count": count})

    store.replace_record(key, {"count": 0})
    thread = threading.Thread(target=beat, name=f"heartbeat of {owner.what}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
        with suppress(StoreError):
            store.remove_record(key)


def _this_process(what: str) -> Owner:
    return Owner(
        id=uuid4().hex,
        what=what,
        host=platform.node(),
        machine=_machine(),
        pid=os.getpid(),
        started=_started(os.getpid()),
        since=time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime()),
    )


def _machine() -> str:
    """Return what two processes have in common that see each other under their process numbers."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    return ""


def _started(pid: int) -> str:
    """Return when a process was started, in clock ticks since boot; empty where it is gone.

    Source: proc(5), the 22nd field of `stat`.
    """
    with suppress(OSError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return "" if fields[0] in ("Z", "X") else fields[19]
    return ""
