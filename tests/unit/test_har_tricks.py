"""HARs made to harm: paths that lead out, members of no honest size, bombs. None of them is unpacked."""

from __future__ import annotations

import gzip
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from hefjoin.errors import InputError
from hefjoin.formats import har
from hefjoin.formats.har_guard import HEADER_LIMIT_BYTES

METADATA = {"state": "hailo_model"}
HN: dict[str, Any] = {"layers": {"net/conv1": {"type": "conv"}}}
TEN_GB = 10 << 30


def member(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, target: str = "") -> bytes:
    """One entry of a tar: header, content, padding."""
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname, entry.size = kind, target, len(content)
    return entry.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % tarfile.BLOCKSIZE)


def whole(*extra: bytes, hn: Any = HN) -> bytes:
    """A HAR with more entries in front."""
    texts = (member("net.metadata.json", json.dumps(METADATA).encode()), member("net.hn", json.dumps(hn).encode()))
    return b"".join((*extra, *texts, bytes(2 * tarfile.BLOCKSIZE)))


def refusal(content: bytes, path: Path) -> str:
    """What is said of a file, in all that reads it."""
    path.write_bytes(content)
    with pytest.raises(InputError) as member_caught:
        har.read_member(path, ".hn")
    with pytest.raises(InputError) as caught:
        har.read(path)
    assert str(caught.value) == str(member_caught.value)
    return str(caught.value)


def test_the_shell_of_these_tests_is_a_har(tmp_path: Path) -> None:
    path = tmp_path / "net.har"
    path.write_bytes(whole(member("net.alls", b"n()")))
    assert har.read(path).layer_counts == {"conv": 1}


@pytest.mark.parametrize("compress", [False, True], ids=["tar", "tar.gz"])
@pytest.mark.parametrize(
    "trick",
    [
        member("/etc/cron.d/job", b"x"),
        member("//net.hn", b"x"),
        member("../net.hn", b"x"),
        member("a/../../net.hn", b"x"),
        member("net.npz", kind=tarfile.SYMTYPE, target="/etc/passwd"),
        member("net.npz", kind=tarfile.SYMTYPE, target="net.hn"),
        member("net.npz", kind=tarfile.LNKTYPE, target="../../secret"),
        member("net.npz", kind=tarfile.FIFOTYPE),
        member("net.npz", kind=tarfile.BLKTYPE),
        member("net", kind=tarfile.DIRTYPE),
    ],
)
def test_what_is_no_plain_file_inside_is_refused(trick: bytes, compress: bool, tmp_path: Path) -> None:
    content = whole(trick)
    said = refusal(gzip.compress(content) if compress else content, tmp_path / "net.har")
    assert "is no plain file inside the archive" in said
    assert list(tmp_path.iterdir()) == [tmp_path / "net.har"]


def test_a_name_in_an_extended_header_is_looked_at_too(tmp_path: Path) -> None:
    record = b"20 path=/etc/passwd\n"
    said = refusal(whole(member("x", record, tarfile.XHDTYPE), member("net.npz", b"x")), tmp_path / "net.har")
    assert "'/etc/passwd' is no plain file" in said


def test_a_member_of_10_gb_is_refused_without_being_read(tmp_path: Path) -> None:
    entry = tarfile.TarInfo("net.npz")
    entry.size = TEN_GB
    path = tmp_path / "net.har"
    with path.open("wb") as stream:
        stream.write(whole()[: -2 * tarfile.BLOCKSIZE] + entry.tobuf(tarfile.GNU_FORMAT))
        stream.truncate(stream.tell() + TEN_GB)
    with pytest.raises(InputError, match=r"'net\.npz' takes 10,737,418,240 bytes"):
        har.read(path)


def test_weights_of_10_gb_are_left_where_they_lie(tmp_path: Path) -> None:
    entry = tarfile.TarInfo("net.weights")
    entry.size = TEN_GB
    path = tmp_path / "net.har"
    head = whole()[: -2 * tarfile.BLOCKSIZE] + entry.tobuf(tarfile.GNU_FORMAT)
    with path.open("wb") as stream:
        stream.write(head)
        stream.truncate(len(head) + TEN_GB + 2 * tarfile.BLOCKSIZE)
    assert har.member_place(path, ".weights") == (len(head), TEN_GB)
    with pytest.raises(InputError, match=r"'net\.weights' takes 10,737,418,240 bytes, at most 67,108,864 are read"):
        har.read_member(path, ".weights")


@pytest.mark.parametrize("size", [TEN_GB, 3 << 30])
def test_a_member_larger_than_the_file_is_refused(size: int, tmp_path: Path) -> None:
    entry = tarfile.TarInfo("net.npz")
    entry.size = size
    refusal(entry.tobuf(tarfile.GNU_FORMAT) + whole(), tmp_path / "net.har")


def test_a_sparse_member_is_refused(tmp_path: Path) -> None:
    sparse = bytearray(member("net.npz", kind=tarfile.GNUTYPE_SPARSE))
    sparse[483:495] = b"%011o\0" % (1 << 32)  # the size that it would unfold to
    sparse[148:156] = b" " * 8
    sparse[148:156] = b"%06o\0 " % sum(sparse[: tarfile.BLOCKSIZE])
    assert "is no plain file" in refusal(whole(bytes(sparse)), tmp_path / "net.har")


def test_a_compressed_bomb_is_not_unpacked(tmp_path: Path) -> None:
    content = gzip.compress(whole(member("net.npz", bytes(64 << 20))), compresslevel=1)
    said = refusal(content, tmp_path / "net.har")
    assert f"the archive at {100 * len(content):,} or before" in said


def test_a_compressed_archive_of_honest_growth_is_read(tmp_path: Path) -> None:
    path = tmp_path / "net.har"
    layers = {f"net/conv{number}": {"type": "conv"} for number in range(5000)}
    path.write_bytes(gzip.compress(whole(hn={"layers": layers}), compresslevel=9))
    assert har.read(path).layer_counts == {"conv": 5000}


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_long_extended_header_is_refused(kind: bytes, tmp_path: Path) -> None:
    """Old versions of tarfile take minutes for 1 MiB of digits there."""
    said = refusal(whole(member("x", b"1" * (1 << 20), kind)), tmp_path / "net.har")
    assert "a header of 1,048,576 bytes" in said


def test_many_extended_headers_are_refused(tmp_path: Path) -> None:
    header = member("x", bytes(HEADER_LIMIT_BYTES), tarfile.GNUTYPE_LONGNAME) + member("y")
    said = refusal(whole(*[header] * 250), tmp_path / "net.har")
    assert "in all so far" in said


def test_more_layers_than_a_network_has_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.har"
    path.write_bytes(whole(hn={"layers": {str(number): {"type": "conv"} for number in range(har.LAYERS_LIMIT + 1)}}))
    with pytest.raises(InputError, match="20,001 layers, at most 20,000"):
        har.read(path)


@pytest.mark.parametrize("key", ["input_shapes", "output_shapes", "input", "original_names"])
def test_of_many_wrong_items_one_is_reported(key: str, tmp_path: Path) -> None:
    """Each error of pydantic takes about 1 KiB, each wrong item three bytes."""
    path = tmp_path / "net.har"
    path.write_bytes(whole(hn={"layers": {"a": {"type": "conv", key: [{}] * 1000}}}))
    with pytest.raises(InputError, match=rf"layers\.0\.{key}\.0: ") as caught:
        har.read(path)
    assert " more;" not in str(caught.value)


@pytest.mark.parametrize("kernel", [[10**4000] * 2, [2] * 5000, [-3, 3], []])
def test_a_kernel_of_no_possible_size_has_no_weights(kernel: list[int], tmp_path: Path) -> None:
    path = tmp_path / "net.har"
    path.write_bytes(whole(hn={"layers": {"a": {"type": "conv", "params": {"kernel_shape": kernel}}}}))
    assert har.read(path).parameters == 0
