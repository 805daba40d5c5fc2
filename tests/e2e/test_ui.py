"""A build by hand: the form filled in, the run followed, its page read, all in a browser."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT
from tests.e2e.service import AUTH, Service, pair_in
from tests.tiny import CLASSES, pair, write_model, write_pair

pytest.importorskip("selenium")
if not (shutil.which("chromium") and shutil.which("chromedriver")):
    pytest.skip("no chromium and chromedriver here", allow_module_level=True)

from tests.e2e.browser import Browser, browser

SCREENSHOTS = ROOT / "build" / "screenshots"


@pytest.fixture(scope="module")
def worker(service: Service) -> None:
    service.worker("builders", limit=1)


@pytest.fixture(scope="module")
def window(service: Service, worker: None) -> Iterator[Browser]:
    """A window in which somebody is logged in."""
    with browser(service.url.removesuffix("/api") + "/v2", SCREENSHOTS) as found:
        found.open("/deployments", AUTH)
        found.see("join-and-compile")
        yield found
    print(f"screenshots are in {SCREENSHOTS}")


def open_form(window: Browser, service: Service, deployment: str) -> None:
    window.open(f"/deployments/deployment/{service.deployment(deployment)['id']}/run")
    window.see("Enforce Parameter Schema")


def fill_in(window: Browser, folder: Path, name: str) -> None:
    """Fill in the spec of the tiny pair, with its means only."""
    spec = pair_in(folder, name=name)
    window.write("Name", name)
    for index, model in enumerate(spec["models"]):
        window.add("Models")
        window.write("Name", model["name"], 1 + index)
        window.write("Source", model["source"], index)
        for place, value in enumerate(model["mean"]):
            part = window.add("Mean", index)
            part.find_elements("css selector", "input")[place].send_keys(str(value))
    window.write("Source", spec["calibration"]["source"], len(spec["models"]))
    window.write("store", str(folder / "store"))
    window.choose("device", "inline")


def follow(window: Browser, name: str, state: str) -> None:
    """In the list of runs that a form leads to open the only one, and wait for its end."""
    window.click("a[href*='/runs/flow-run/']")
    window.see(name, state)


def open_artifact(window: Browser, key: str) -> None:
    """From the page of a run open its artifact, by way of the list of all that have its key."""
    window.click("[role=tab]", "Artifacts")
    window.click("a[href*='/artifacts/key/']", key)
    window.click("a[href*='/artifacts/artifact/']")
    window.see("Show Raw Data")


def test_a_form_that_is_not_filled_in_says_which_fields_and_starts_nothing(window: Browser, service: Service) -> None:
    open_form(window, service, "join-and-compile/builders")
    window.click("button", "Submit")
    window.see("'name' is a required property", "'models' is a required property", "'source' is a required property")
    window.keep("form-refused")
    assert service.runs("join-and-compile/builders") == []


def test_a_spec_in_the_form_is_built_and_its_page_has_tables_and_pictures(window: Browser, service: Service) -> None:
    open_form(window, service, "join-and-compile/builders")
    window.keep("form")
    fill_in(window, service.folder / "by-form", "by-form")
    window.keep("form-filled-in")
    window.submit()
    follow(window, "build by-form", "Completed")
    window.see("parse left: built, because it is new")
    window.keep("run")
    window.click("[role=tab]", "Task Runs")
    window.see("parse left", "publish by-form")
    open_artifact(window, "build-by-form")
    window.see("Promoted: no gate stood in the way", "(emulator)", "To fetch report, HEF and manifest")
    pictures = window.wait("pictures", lambda: window.all("img[src^='data:image/svg']"))
    window.wait("drawn pictures", lambda: all(int(each.get_property("naturalWidth")) > 300 for each in pictures))
    assert [each.get_attribute("alt") for each in pictures] == ["SNR of the outputs", "The joined network"]
    window.keep("artifact")
    (run,) = service.runs("join-and-compile/builders")
    assert [model["mean"] for model in run["parameters"]["spec"]["models"]] == [[120, 115, 105]] * 2


def test_a_spec_file_is_built_and_what_is_logged_is_worth_a_line(window: Browser, service: Service) -> None:
    path = write_pair(service.folder / "by-file", pair(name="by-file"))
    open_form(window, service, "join-and-compile/from-file")
    window.write("spec_file", str(path))
    window.write("store", str(service.folder / "by-form" / "store"))
    window.choose("device", "inline")
    window.keep("form-file")
    window.submit()
    follow(window, "build by-file", "Completed")
    open_artifact(window, "build-by-file")
    window.see("parse left", "reused: same inputs as on")
    (run,) = service.runs("join-and-compile/from-file")
    noise = re.compile(r"Traceback|frame \d|Finished in state Completed\(\)|\d+%")
    assert [line for line in service.logs(run["id"]).splitlines() if noise.search(line)] == []


def test_a_build_that_fails_says_why_in_a_table(window: Browser, service: Service) -> None:
    folder = service.folder / "unlike"
    path = write_pair(folder, pair(name="unlike"))
    write_model(folder / "right.onnx", seed=1, classes=CLASSES["right"], size=24)
    run = service.wait(service.post_run("join-and-compile/builders", {"spec_file": str(path), "store": str(folder)}))
    assert run["state"]["message"].startswith("the models may not share one input:\n")
    assert "Traceback" not in service.logs(run["id"])
    window.open(f"/runs/flow-run/{run['id']}")
    window.see("build unlike", "Failed")
    window.keep("run-failed")
    open_artifact(window, "build-unlike")
    window.see("build unlike failed", "24 × 24 × 3", "export the models for one size")
    window.keep("artifact-failed")


def test_a_spec_that_is_wrong_in_itself_fails_at_once_with_all_its_problems(service: Service, worker: None) -> None:
    spec = pair_in(service.folder / "wrong", name="wrong")
    spec["models"][1] |= {"name": "LEFT", "std": [1.0]}
    run = service.wait(service.post_run("join-and-compile/builders", {"spec": spec}))
    assert run["state"]["type"] == "FAILED"
    for path in ("models[1].name", "models[1].std"):
        assert f"  {path}: " in run["state"]["message"]
    assert run["total_run_time"] < 30
