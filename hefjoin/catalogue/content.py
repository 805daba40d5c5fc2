"""What the sources of specs hold now, without building: files by digest, objects by what the cache of sources knows.

The rule: whatever many specs name is looked at once. An object is downloaded only where its version is not known.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hefjoin.artifacts import Ref, file_sha256
from hefjoin.calibration import images_sha256
from hefjoin.calibration_sources import is_image
from hefjoin.catalogue.seen import Once, Seen
from hefjoin.errors import Problem, SpecError
from hefjoin.results.sources import Fetched, FrameSource
from hefjoin.sources import held
from hefjoin.sources.bucket import Server, Version
from hefjoin.sources.cache import Cache
from hefjoin.sources.find import Found, beside, find
from hefjoin.spec import BuildSpec
from hefjoin.stages.fetch import WEIGHTS, Located, locate
from hefjoin.stores import os_errors


class Known(NamedTuple):
    """A source by content."""

    uri: str
    sha256: str
    size_bytes: int
    """Of a set in a folder: 0."""


class Content:
    """Looks at sources; safe for threads."""

    def __init__(self, seen: Seen, cache: Cache) -> None:
        """Use what is known of files on this machine, and of objects in S3."""
        self._seen = seen
        self._cache = cache
        self._once = Once()

    def locate(self, spec: BuildSpec) -> Located:
        """Return where the sources of a spec lie; raises as `hefjoin.stages.fetch.locate` does."""
        return locate(spec, ask=self._find)

    def identity(self, located: Located) -> dict[str, Any]:
        """Return what tells sources from others without downloading any: digests of files, versions of objects.

        Raises:
            StoreError: A file cannot be read.
        """
        files = {where: self._seen.sha256(path) for where, path in located.paths.items()}
        endpoint = located.server.endpoint if located.server else ""
        return files | {
            where: [endpoint, *sorted([name, *version] for name, version in found.files.items())]
            for where, found in located.found.items()
        }

    def fetched(self, spec: BuildSpec, located: Located, earlier: Fetched) -> Fetched:
        """Return what fetching the sources would give, were nothing about them wrong.

        Args:
            spec: The spec.
            located: Where its sources lie.
            earlier: What an earlier build fetched. It knows the files beside a model that is the same; those of another
                are taken over from it, because only the model itself says which they are.

        Raises:
            SpecError: Files beside a model are not there.
            StoreError: Something cannot be read.
        """
        problems: list[Problem] = []
        models: dict[str, Ref] = {}
        weights: dict[str, dict[str, Ref]] = {}
        for index, model in enumerate(spec.models):
            where = f"models[{index}].source"
            models[model.name] = _ref(self._known(where, located), Path(model.source).suffix.lower().lstrip("."))
            if files := earlier.weights.get(model.name):
                is_same = models[model.name].sha256 == earlier.models[model.name].sha256
                weights[model.name] = self._weights(where, located, list(files), problems) if is_same else files
        if problems:
            raise SpecError(problems, where=f"the spec of {spec.name}")
        calibration = self._frames("calibration.source", located, spec.calibration.count)
        if spec.evaluation.source:
            evaluation = self._frames("evaluation.source", located, spec.evaluation.count)
        else:
            evaluation = calibration.model_copy(update={"count": spec.evaluation.count})
        return Fetched(models=models, weights=weights, calibration=calibration, evaluation=evaluation)

    def _frames(self, where: str, located: Located, count: int) -> FrameSource:
        known = self._known(where, located)
        return FrameSource(uri=known.uri, sha256=known.sha256, count=count)

    def _known(self, where: str, located: Located) -> Known:
        if where in located.paths:
            return self._file(located.paths[where])
        found = located.found[where]
        assert located.server is not None
        digests = self._digests(found.files, found.source, located.server)
        if found.is_folder:
            images = {name: sha256 for name, sha256 in digests.items() if is_image(name)}
            return Known(found.source, images_sha256(images), 0)
        (name,) = digests
        return Known(found.source, digests[name], found.files[name].size_bytes)

    def _file(self, path: Path) -> Known:
        with os_errors(f"read {path}", str(path)):
            size_bytes = 0 if path.is_dir() else path.stat().st_size
        return Known(str(path), self._seen.sha256(path), size_bytes)

    def _weights(self, where: str, located: Located, files: list[str], problems: list[Problem]) -> dict[str, Ref]:
        """Return the files beside a model, by their paths below its folder."""
        if where in located.paths:
            there = {file: located.paths[where].parent / file for file in files}
            absent = [path for path in there.values() if not path.is_file()]
            problems += [Problem(where, f"{path} does not exist; the model has weights in it") for path in absent]
            return {file: _ref(self._file(path), WEIGHTS) for file, path in there.items() if path not in absent}
        source, server = located.found[where].source, located.server
        assert server is not None
        versions = beside(source, files, server, lambda _, text: problems.append(Problem(where, text)))
        digests = self._digests(versions, source, server)
        return {
            file: _ref(Known(version.uri, digests[file], version.size_bytes), WEIGHTS)
            for file, version in versions.items()
        }

    def _digests(self, files: Mapping[str, Version], source: str, server: Server) -> dict[str, str]:
        """Return the digest of each object; those whose version is not known come through the cache."""
        made: dict[str, str] = self._once.get(
            ("digests", frozenset(files.items())), lambda: self._look_up(files, source, server)
        )
        return made

    def _look_up(self, files: Mapping[str, Version], source: str, server: Server) -> dict[str, str]:
        digests = {name: self._cache.sha256(server.endpoint, version) for name, version in files.items()}
        known = {name: sha256 for name, sha256 in digests.items() if sha256 is not None}
        absent = {name: version for name, version in files.items() if name not in known}
        if absent:
            folder = self._cache.own_folder()
            try:
                self._cache.take(absent, folder, server, source)
                known |= {name: file_sha256(folder / name) for name in absent}
            finally:
                held.release(folder)
        return known

    def _find(
        self, where: str, source: str, server: Server, problems: list[Problem], *, with_entries: bool = True
    ) -> Found | None:
        """Do as `hefjoin.sources.find.find`, asking the server once for each source."""

        def ask() -> tuple[Found | None, str, list[Problem]]:
            wrong: list[Problem] = []
            return find(where, source, server, wrong, with_entries=with_entries), where, wrong

        found, asked_for, wrong = self._once.get(("found", where.startswith("models"), source), ask)
        problems += [Problem(where + problem.path.removeprefix(asked_for), problem.message) for problem in wrong]
        answer: Found | None = found
        return answer


def _ref(known: Known, media: str) -> Ref:
    return Ref(uri=known.uri, sha256=known.sha256, size_bytes=known.size_bytes, media=media)
