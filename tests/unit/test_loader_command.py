"""`hefjoin loader` as a command: how it finds a build, where it writes, what it answers else."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from flows.cli import main
from hefjoin.loader import render
from hefjoin.manifest import Manifest, Published
from hefjoin.spec import validate_spec
from hefjoin.stores import open_store
from tests.builds import device_manifest, make_manifest
from tests.tiny import pair

DEVICE_BUILD = device_manifest()


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def write_manifest(manifest: Manifest, path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(manifest.model_dump_json(), encoding="utf-8")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder whose store has the name `pair`, built with both compilers, and `solo`, emulated."""
    monkeypatch.chdir(tmp_path)
    store = open_store("artifacts")
    for name, manifest in (("pair", make_manifest()), ("pair", DEVICE_BUILD), ("solo", make_manifest())):
        build = f"{name}-{manifest.sdk.provider}"
        spec = validate_spec(pair(name=name))
        write_manifest(manifest.model_copy(update={"build_id": build, "spec": spec}), tmp_path / "manifest.json")
        published = Published(
            build_id=build,
            provider=manifest.sdk.provider,
            name=name,
            created_at=manifest.created_at,
            host="builder-1",
            manifest=store.put(tmp_path / "manifest.json", "json"),
            report=manifest.compiled.hef,
            hef=manifest.compiled.hef,
            hef_name="x.hef",
            record=f"names/{manifest.sdk.provider}/{name}/000001",
        )
        for key in (f"builds/{manifest.sdk.provider}/{name}/{build}", published.record):
            store.create_record(key, published.model_dump(mode="json"))
    (tmp_path / "manifest.json").unlink()


@pytest.mark.parametrize(
    ("build", "wanted"),
    [("pair", "pair-dfc"), ("pair-emulator", "pair-emulator"), ("pair-dfc", "pair-dfc"), ("solo", "solo-emulator")],
)
def test_a_build_is_found_by_its_id_and_by_its_name_a_real_one_first(build: str, wanted: str) -> None:
    done = run("loader", build)
    name = wanted.partition("-")[0]
    assert (done.exit_code, done.output) == (0, f"{name}_loader.py\n")
    assert f'BUILD = "{wanted}"' in Path(f"{name}_loader.py").read_text(encoding="utf-8")


def test_a_manifest_and_the_folder_it_lies_in_are_builds_whatever_the_store_has() -> None:
    write_manifest(DEVICE_BUILD, Path("pair/manifest.json"))
    for build in ("pair", "pair/manifest.json"):
        done = run("loader", build, "--store", "elsewhere", "--out", "net.py")
        assert (done.exit_code, done.output) == (0, "net.py\n")
        assert Path("net.py").read_text(encoding="utf-8") == render(DEVICE_BUILD)
        Path("net.py").write_text("an older one", encoding="utf-8")


@pytest.mark.parametrize("build", ["nowhere", "artifacts", "../pair", "no where", ""])
def test_what_is_no_build_is_answered_with_the_names_there_are(build: str) -> None:
    done = run("loader", build)
    assert done.exit_code == 2
    assert f"{build!r} is no manifest" in done.output
    assert "the names pair, solo" in done.output
    assert "which has no names" in run("loader", "pair", "--store", "elsewhere").output


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "the file: Invalid JSON"),
        ("[]", "the file: Input should be an object"),
        ("{}", "build_id: Field required, and"),
    ],
)
def test_what_this_version_does_not_read_is_told_with_the_first_field(content: str, problem: str) -> None:
    Path("manifest.json").write_text(content, encoding="utf-8")
    done = run("loader", ".")
    assert done.exit_code == 2
    assert f"manifest.json is no manifest that this version of hefjoin reads: {problem}" in done.output


def test_where_it_cannot_be_written_nothing_is_left() -> None:
    Path("taken").mkdir()
    for out, reason in (("taken", "Is a directory"), ("absent/net.py", "No such file or directory")):
        done = run("loader", "pair", "--out", out)
        assert done.exit_code == 5
        assert f"cannot write {out}: " in done.output
        assert reason in done.output
    assert {path.name for path in Path().iterdir()} == {"artifacts", "taken"}
