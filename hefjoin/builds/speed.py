"""Is a build slower than one before it? From the figures that both left, where they can be compared at all.

The rule: figures of two machines, devices or ways of measuring are not compared, nor is a figure with itself.
"""

from __future__ import annotations

from collections.abc import Iterable

from hefjoin.builds.find import LOST, read_manifest
from hefjoin.builds.rollback import standing
from hefjoin.builds.rows import read_row
from hefjoin.errors import InputError, StoreError
from hefjoin.manifest import Manifest
from hefjoin.results.measured import Measured
from hefjoin.results.sources import Provider
from hefjoin.results.timed import SpeedChange
from hefjoin.stores import Store


def host_of(build: Manifest) -> str:
    """Return the machine that measured a build."""
    return (build.measured_by.machine if build.measured_by else build.machine).host


def speed_change(earlier: Manifest, measured: Measured, host: str) -> SpeedChange | None:
    """Return how a build compares with an earlier one, at the batch size where it lost most.

    Args:
        earlier: The earlier build.
        measured: What was measured of the later.
        host: On which machine.

    Returns:
        None where they cannot be compared: one was not measured, on another machine or device, in another way, at no
        common batch size; or it is the same measurement, taken over.
    """
    if host_of(earlier) != host or _way(earlier.measured) != _way(measured) or earlier.measured == measured:
        return None
    before = {batch.batch_size: batch for batch in earlier.measured.batches}
    changes = [
        SpeedChange(
            earlier=earlier.build_id,
            batch_size=batch.batch_size,
            fps=batch.fps,
            earlier_fps=before[batch.batch_size].fps,
            percent=100 * (batch.fps / before[batch.batch_size].fps - 1),
            source=measured.source,
            is_shown=batch.fps_high < before[batch.batch_size].fps_low
            or batch.fps_low > before[batch.batch_size].fps_high,
        )
        for batch in measured.batches
        if batch.batch_size in before
    ]
    return min(changes, key=lambda change: (not change.is_regression, change.percent), default=None)


def last_change(earlier: Iterable[Manifest], measured: Measured, host: str) -> SpeedChange | None:
    """Return how a build compares with the first of these that it can be compared with."""
    changes = (speed_change(build, measured, host) for build in earlier)
    return next((change for change in changes if change is not None), None)


def change_since_promoted(
    store: Store, provider: Provider, name: str, measured: Measured, host: str
) -> SpeedChange | None:
    """Return how a build compares with the last promoted one of its name that was measured alike.

    One that failed a gate is no measure, or a loss would pass the second time. What is lost or another version's is
    passed over.

    Raises:
        StoreError: The store cannot be read, or a record of the name is damaged.
    """
    row = read_row(store, provider, name)
    published = {record.build_id: record for record in row}

    def builds() -> Iterable[Manifest]:
        for build_id in reversed(standing(row)):
            try:
                yield read_manifest(store, published[build_id])
            except InputError:
                continue
            except StoreError as error:
                if error.reason not in LOST:
                    raise

    return last_change(builds(), measured, host)


def _way(measured: Measured) -> tuple[str, str, str]:
    """Return what must be the same: who measured, on what, and the method without its numbers."""
    return measured.source, measured.device, measured.method.partition(",")[0]
