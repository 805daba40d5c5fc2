"""What `verify` finds: the artifacts, records and laid-out files of a build, one spoiled at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from hefjoin.artifacts import Ref, named_refs
from hefjoin.builds.find import read_manifest
from hefjoin.builds.rows import build_key
from hefjoin.builds.verify import stage_of, verify, verify_folder
from hefjoin.manifest import Published
from hefjoin.stores import Store, open_store
from tests.kept import keep, object_path
from tests.memory_store import MemoryStore


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


@pytest.fixture
def published(store: Store, tmp_path: Path) -> Published:
    return keep(store, tmp_path, "b1")


def flip(path: Path) -> None:
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)


def test_a_whole_build_has_no_findings_and_all_of_it_was_hashed(tmp_path: Path) -> None:
    store = MemoryStore()
    published = keep(store, tmp_path, "b1")
    seen: list[tuple[int, int]] = []
    found = verify(store, published, lambda done, total: seen.append((done, total)))
    assert found.findings == ()
    assert found.artifacts == len(list(store.objects()))
    assert found.size_bytes == sum(stored.size_bytes for stored in store.objects())
    assert seen[-1] == (found.size_bytes, found.size_bytes)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_one_bit_in_any_artifact_is_named(store: Store, published: Published) -> None:
    named = dict(named_refs(read_manifest(store, published)))
    assert named
    for ref in {**named, "report": published.report}.values():
        path = object_path(store, ref)
        good = path.read_bytes()
        flip(path)
        (finding,) = verify(store, published).findings
        paths = {use for use, each in named.items() if each == ref} or {"report"}
        assert paths <= set(finding.uses)
        assert (finding.problem, finding.expected) == ("damaged", ref.sha256)
        assert len(finding.found) == 64
        assert finding.found != ref.sha256
        path.write_bytes(good)
    assert verify(store, published).findings == ()


def test_what_is_gone_is_missing_and_says_which_stages_make_it(store: Store, published: Published) -> None:
    manifest = read_manifest(store, published)
    object_path(store, manifest.models["resnet_b"].har).unlink()
    object_path(store, published.hef).unlink()
    found = {finding.uses: finding for finding in verify(store, published).findings}
    assert found["models.resnet_b.har",].stages == ("parse resnet_b",)
    assert found["hef", "compiled.hef"].stages == ("compile",)
    assert {(finding.problem, finding.found) for finding in found.values()} == {("missing", "")}


def test_a_lost_manifest_leaves_the_rest_unchecked(store: Store, published: Published) -> None:
    flip(object_path(store, published.manifest))
    found = verify(store, published)
    assert [finding.uses for finding in found.findings] == [("manifest",)]
    assert "the manifest is lost" in found.unchecked[0]


def test_damaged_records_are_found(store: Store, published: Published, tmp_path: Path) -> None:
    run = read_manifest(store, published).stages[0]
    reuse = f"reuse/{run.stage}/{run.key}"
    store.create_record(reuse, {"stage": run.stage})
    keep(store, tmp_path, "b2")  # its records are none of b1's
    for key in (build_key(published), published.record, reuse):
        path = Path(store.uri.removeprefix("file://")) / f"{key}.json"
        good = path.read_bytes()
        path.chmod(0o644)
        path.write_bytes(good[:-5])
        (finding,) = verify(store, published).findings
        assert (finding.kind, finding.uses, finding.problem) == ("record", (key,), "damaged")
        path.write_bytes(good)


class TestFolder:
    @pytest.fixture
    def folder(self, store: Store, published: Published, tmp_path: Path) -> Path:
        folder = tmp_path / "out"
        for ref, name in (
            (published.hef, published.hef_name),
            (published.report, "report.html"),
            (published.manifest, "manifest.json"),
        ):
            self.copy(store, ref, folder / name)
        return folder

    @staticmethod
    def copy(store: Store, ref: Ref, path: Path) -> None:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(object_path(store, ref).read_bytes())

    def test_files_as_they_were_laid_out(self, folder: Path, store: Store, published: Published) -> None:
        found = verify_folder(folder, read_manifest(store, published), published)
        assert (found.artifacts, found.findings, found.unchecked) == (3, (), ())

    def test_a_changed_hef_and_a_removed_report(self, folder: Path, store: Store, published: Published) -> None:
        flip(folder / published.hef_name)
        (folder / "report.html").unlink()
        found = verify_folder(folder, read_manifest(store, published), published).findings
        assert [(finding.uses, finding.problem) for finding in found] == [
            (("hef",), "damaged"), (("report",), "missing")
        ]  # fmt: skip

    def test_without_a_record_the_hef_is_held_against_the_manifest(
        self, folder: Path, store: Store, published: Published
    ) -> None:
        found = verify_folder(folder, read_manifest(store, published), None)
        assert (found.artifacts, found.findings) == (1, ())
        assert "report.html and manifest.json" in found.unchecked[0]


@pytest.mark.parametrize(
    ("path", "stage"),
    [
        ("models.left.har", "parse left"),
        ("models.left.v2.har", "parse left.v2"),
        ("check.labels.npz", "check"),
        ("joined.network.har", "join"),
        ("quantized.outputs", "quantize"),
        ("compiled.attempts[0].log", "compile"),
        ("measured.outputs", "benchmark"),
        ("fetched.models.left", "fetch"),
        ("report", "publish"),
    ],
)
def test_the_stage_that_makes_an_artifact(path: str, stage: str) -> None:
    assert stage_of(path) == stage
