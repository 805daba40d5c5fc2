"""What S3 costs: a large file up and down beside plain boto3, the memory for it, and a build in which nothing changed.

All on one real server on this machine, which shares its cores: the ratios are of two clients of that one server.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks.flow import EXAMPLE, build_id, build_once, own_surroundings
from tests.benchmarks.material import Material
from tests.benchmarks.measure import BrokenMeasurement, Ended, Row, call, interleaved, run, spread
from tests.benchmarks.prefect_server import running_server
from tests.benchmarks.startup import HEFJOIN
from tests.s3_server import BUCKET, S3Server, without_aws

MIB = 1 << 20
SIZE_BYTES = 1 << 30
TRANSFER_ROUNDS, BUILD_ROUNDS = 3, 4


class Transfer(NamedTuple):
    """One way up and down."""

    up_s: float
    down_s: float
    above_rest_bytes: int
    """Peak resident size during both, less that of the process before it began."""


def measure(material: Material) -> list[Row]:
    """Return the rows of transfers and of the rebuild."""
    with own_surroundings(material.scratch / "store") as folder, _server(folder / "s3"):
        transfers = _transfers(folder)
        rebuilds = _rebuilds(folder)
    return [*transfers, rebuilds]


@contextmanager
def _server(folder: Path) -> Iterator[None]:
    """Run a server to which the environment points."""
    try:
        with S3Server(folder) as server:
            kept = without_aws(os.environ)
            os.environ.clear()
            os.environ.update({**kept, **server.environment()})
            yield
    except RuntimeError as error:
        raise BrokenMeasurement(str(error)) from error


def _transfers(folder: Path) -> list[Row]:
    """Send up and down, once before it counts: the server's first uploads make its volumes."""
    round_number = iter(range(2 * (TRANSFER_ROUNDS + 1)))

    def side(function: object) -> Transfer:
        source = folder / f"source-{next(round_number)}"
        _write_random(source)
        copy = folder / "copy"
        os.sync()  # what the other side left to write is not this one's
        called = call(function, folder, source=source, copy=copy)  # type: ignore[arg-type]
        source.unlink()
        copy.unlink()
        return Transfer(*called.value)

    everything = interleaved(TRANSFER_ROUNDS + 1, lambda: side(by_store), lambda: side(by_boto3))
    ours, plain = (found[1:] for found in everything)
    rows = []
    for what, figure in (("upload", "up_s"), ("download", "down_s")):
        mine, theirs = ([getattr(transfer, figure) for transfer in found] for found in (ours, plain))
        ratios = [own / other for own, other in zip(mine, theirs, strict=True)]
        rows.append(
            Row(f"{what} of 1 GiB ÷ plain boto3", sum(mine) / sum(theirs), "×", "≤", 1.15,
                f"digests included; {spread(mine)} s ÷ {spread(theirs)} s; {TRANSFER_ROUNDS} rounds, {spread(ratios)}")
        )  # fmt: skip
    peaks = [[transfer.above_rest_bytes / MIB for transfer in found] for found in (ours, plain)]
    rows.append(
        Row("peak memory of both, above the process at rest", max(peaks[0]), "MiB", "≤", 96.0,
            f"the largest of {TRANSFER_ROUNDS} rounds (VmHWM); plain boto3 {spread(peaks[1], '.0f')} MiB")
    )  # fmt: skip
    return rows


def by_store(source: str, copy: str) -> Transfer:
    """Put and get a file that the store does not have."""
    from hefjoin.stores import open_store

    store = open_store(f"s3://{BUCKET}/bench")
    store.create_record("warm", {})
    rest = _peak_bytes()
    start = time.monotonic()
    ref = store.put(Path(source), "har")
    middle = time.monotonic()
    store.get(ref, Path(copy))
    end = time.monotonic()
    above = _peak_bytes() - rest
    store.remove_object(next(stored for stored in store.objects() if stored.sha256 == ref.sha256))
    return Transfer(middle - start, end - middle, above)


def by_boto3(source: str, copy: str) -> Transfer:
    """Upload and download a file as boto3's documentation does."""
    import boto3

    client = boto3.client("s3")
    client.put_object(Bucket=BUCKET, Key="warm", Body=b"{}")
    rest = _peak_bytes()
    start = time.monotonic()
    client.upload_file(source, BUCKET, "plain")
    middle = time.monotonic()
    client.download_file(BUCKET, "plain", copy)
    end = time.monotonic()
    above = _peak_bytes() - rest
    client.delete_object(Bucket=BUCKET, Key="plain")
    return Transfer(middle - start, end - middle, above)


def _rebuilds(folder: Path) -> Row:
    """Build twice and more on a running Prefect server."""
    run([HEFJOIN, "example", EXAMPLE, "."], folder)
    with running_server(folder / "server") as url:

        def build() -> Ended:
            return build_once(folder, {"PREFECT_API_URL": url}, store=f"s3://{BUCKET}/builds")

        first = build_id(build())
        found = [build() for _ in range(BUILD_ROUNDS + 1)][1:]
        if {build_id(ended) for ended in found} != {first}:
            raise BrokenMeasurement("a build in which nothing changed executed a stage, or was published anew")
    walls = sorted(ended.wall_s for ended in found)
    middle = (walls[(len(walls) - 1) // 2] + walls[len(walls) // 2]) / 2
    return Row("rebuild, nothing changed, S3, running servers", middle, "s", "≤", 6.0,
               f"`hefjoin build`, {EXAMPLE}, the whole process, no stage executed; {spread(walls)} s wall")  # fmt: skip


def _write_random(path: Path) -> None:
    with path.open("wb") as stream:
        for _ in range(SIZE_BYTES // (16 * MIB)):
            stream.write(os.urandom(16 * MIB))


def _peak_bytes() -> int:
    """Return the largest resident size of this process so far."""
    with Path("/proc/self/status").open() as stream:
        return next(int(line.split()[1]) * 1024 for line in stream if line.startswith("VmHWM"))
