"""What the builds of a name before this one came to on the same device.

The rule: figures are set side by side only where they were measured on one machine, one device and in one way.
"""

from __future__ import annotations

from collections.abc import Iterator

from hefjoin.builds.history import history
from hefjoin.manifest import Manifest
from hefjoin.results.measured import Earlier
from hefjoin.stores import Store

LAST_BUILDS = 20


def earlier(store: Store, manifest: Manifest) -> tuple[Earlier, ...]:
    """Return the throughput of the builds before one, at its smallest batch, the newest last.

    Args:
        store: Where they are.
        manifest: The build, which need not be there yet.

    Raises:
        StoreError: The store cannot be read, or a record of the name is damaged.
    """
    if not manifest.measured.batches:
        return ()
    entries = history(store, manifest.sdk.provider, manifest.spec.name, LAST_BUILDS)
    return tuple(_alike([entry.manifest for entry in entries if entry.manifest], manifest))


def _alike(others: list[Manifest], manifest: Manifest) -> Iterator[Earlier]:
    size = min(batch.batch_size for batch in manifest.measured.batches)
    for other in others:
        found = next((batch.fps for batch in other.measured.batches if batch.batch_size == size), None)
        if found is not None and other.build_id != manifest.build_id and _where(other) == _where(manifest):
            yield Earlier(build_id=other.build_id, created_at=other.created_at, fps=found)


def _where(manifest: Manifest) -> tuple[str, str, str, str]:
    measured = manifest.measured
    return (manifest.measured_by or manifest).machine.host, measured.source, measured.device, measured.method
