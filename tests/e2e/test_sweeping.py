"""`hefjoin gc` again and again while a build runs: nothing that it needs goes."""

from __future__ import annotations

from hefjoin.builds.find import latest_build
from hefjoin.builds.gc import Keep, remove, waste
from hefjoin.builds.verify import verify
from hefjoin.stores import open_store
from tests.e2e.conftest import Desk
from tests.tiny import CLASSES, write_model

BUILD = ("build", "tiny.yaml", "--sdk", "emulator")


def test_a_build_ends_well_while_the_store_is_swept(desk: Desk) -> None:
    for seed in (1, 2):
        write_model(desk.folder / "right.onnx", seed=seed, classes=CLASSES["right"])
        done = desk.run(*BUILD)
        assert done.returncode == 0, done.stderr
    write_model(desk.folder / "right.onnx", seed=1, classes=CLASSES["right"])
    store, keep = open_store(str(desk.store)), Keep(builds=1)
    running, sweeps, gone = desk.start(*BUILD, "--force"), 0, 0
    while running.poll() is None:
        removed = remove(store, waste(store, keep), keep)
        sweeps, gone = sweeps + 1, gone + len(removed.objects)
    assert running.returncode == 0, desk.stderr(running)
    assert sweeps > 5
    assert gone > 0
    build = latest_build(store, "emulator", "tiny")
    assert build is not None
    assert verify(store, build.published).findings == ()
    swept = desk.run("gc", "--keep", "1", "--yes")
    assert swept.returncode == 0, swept.stderr
    assert verify(store, build.published).findings == ()
    assert [each.name for each in store.leftovers()] == []
