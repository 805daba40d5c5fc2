"""Publish: leave manifest and report, and name the build if it passed its gates.

The rule: of builds that come to the same, whoever does them and whenever, there is one.
"""

from __future__ import annotations

import logging
from pathlib import Path

from hefjoin.artifacts import to_json
from hefjoin.builds.changes import changes
from hefjoin.builds.earlier import earlier
from hefjoin.builds.find import Build, latest_build, repeated_build
from hefjoin.builds.rows import add_build, add_to_row, mended_row
from hefjoin.manifest import Manifest, Published
from hefjoin.stages.contract import Workplace, own_directory
from hefjoin.stores.claims import claimed

logger = logging.getLogger("hefjoin.stages")


def publish(manifest: Manifest, place: Workplace) -> Build:
    """Leave manifest and report in the store and name the build; return it, or the one that it repeats.

    Ensures: a new record under the name only if no gate failed, and none for a build that repeats another, unless it
    was forced.
    """
    provider, name = manifest.sdk.provider, manifest.spec.name
    with claimed(place.store, f"publish/{provider}/{name}", f"publish {name}"):
        before = latest_build(place.store, provider, name)
        repeated = None if place.force else repeated_build(place.store, before, manifest)
        row, damaged = mended_row(place.store, provider, name)
        for key in damaged:
            logger.info("%s was damaged and is removed: which build it named is not known any more", key)
        if repeated is not None:
            logger.info("%s", _nothing_changed(repeated, before))
            add_build(place.store, _own(repeated))
            published = _named(repeated.manifest, repeated.published, row if before else None, place)
            return Build(manifest=repeated.manifest, published=published)
        if before is not None:
            changed = tuple(change.text for change in changes(before.manifest, manifest))
            past = {"parent": before.manifest.build_id, "changed": changed, "earlier": earlier(place.store, manifest)}
            manifest = manifest.model_copy(update=past)
        with own_directory(place, f"publish {manifest.build_id}") as work:
            published = _store(manifest, work, place)
        add_build(place.store, published)
        return Build(manifest=manifest, published=_named(manifest, published, row if before else None, place))


def _own(build: Build) -> Published:
    """Return the record of a build itself, from one that made it the latest."""
    made = {"created_at": build.manifest.created_at, "host": build.manifest.machine.host}
    return build.published.model_copy(update={**made, "record": "", "took_back": ()})


def _named(manifest: Manifest, published: Published, row: list[Published] | None, place: Workplace) -> Published:
    """Make a build that passed its gates the latest, unless it was that at any time; a kill may have come between.

    Where the row has no latest, because that is lost, it becomes that whatever it was.
    """
    if not manifest.is_promotable:
        return published
    was = [record for record in row or () if record.build_id == published.build_id]
    return was[-1] if was else add_to_row(place.store, published)


def _nothing_changed(repeated: Build, latest: Build | None) -> str:
    text = f"nothing changed since build {repeated.manifest.build_id}"
    if latest is not None and repeated.manifest.build_id in latest.published.took_back:
        return f"{text}, which was rolled back; {latest.manifest.build_id} stays the latest"
    return text


def _store(manifest: Manifest, work: Path, place: Workplace) -> Published:
    from hefjoin.report import render

    (work / "manifest.json").write_text(to_json(manifest.model_dump(mode="json")), encoding="utf-8")
    outputs = place.store.get(manifest.quantized.outputs, work / "outputs.npz")
    frames = place.store.get(manifest.check.evaluation.npy, work / "frames.npy")
    (work / "report.html").write_text(render(manifest, outputs, frames), encoding="utf-8")
    return Published(
        build_id=manifest.build_id,
        provider=manifest.sdk.provider,
        name=manifest.spec.name,
        created_at=manifest.created_at,
        host=manifest.machine.host,
        manifest=place.put(work / "manifest.json", "json"),
        report=place.put(work / "report.html", "html"),
        hef=manifest.compiled.hef,
        hef_name=f"{manifest.spec.name}.{manifest.compiled.hef.media}",
        record="",
    )
