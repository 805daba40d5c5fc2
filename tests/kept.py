"""Builds that lie in a store: made-up manifests whose every artifact is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hefjoin.artifacts import Ref, to_json
from hefjoin.builds.rows import add_build, add_to_row
from hefjoin.manifest import Gate, Manifest, Published
from hefjoin.stores import Store, object_name
from tests.builds import make_manifest

FAILED = Gate(name="SNR of resnet_a", wanted="≥ 40 dB", found="31.2 dB", verdict="failed", missed="8.8 dB below 40")


def keep(store: Store, folder: Path, build_id: str, like: Manifest | None = None, **changes: Any) -> Published:
    """Store a build, named unless a gate failed, as a build does; one small object for each artifact it names."""
    build = (like or make_manifest()).model_copy(update={"build_id": build_id, **changes})
    build = Manifest.model_validate(_stored(build.model_dump(mode="json"), store, folder))
    published = Published(
        build_id=build_id,
        provider=build.sdk.provider,
        name=build.spec.name,
        created_at=build.created_at,
        host=build.machine.host,
        manifest=put(store, folder, to_json(build.model_dump(mode="json")), "json"),
        report=put(store, folder, f"report of {build_id}", "html"),
        hef=build.compiled.hef,
        hef_name=f"{build.spec.name}.{build.compiled.hef.media}",
        record="",
    )
    add_build(store, published)
    return add_to_row(store, published) if build.is_promotable else published


def put(store: Store, folder: Path, text: str, media: str) -> Ref:
    """Store a text."""
    path = folder / "object"
    path.write_text(text, encoding="utf-8")
    return store.put(path, media)


def object_path(store: Store, ref: Ref) -> Path:
    """Return where an artifact of a local store lies, made writable for the test to spoil."""
    path = Path(store.uri.removeprefix("file://")) / object_name(ref.sha256, ref.media)
    path.chmod(0o644)
    return path


def _stored(value: Any, store: Store, folder: Path) -> Any:
    if isinstance(value, dict):
        if value.keys() == Ref.model_fields.keys():
            return put(store, folder, value["uri"], value["media"]).model_dump(mode="json")
        return {name: _stored(item, store, folder) for name, item in value.items()}
    return [_stored(item, store, folder) for item in value] if isinstance(value, list) else value
