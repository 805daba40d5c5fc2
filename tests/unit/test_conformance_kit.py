"""The conformance kit: what it records of the emulator, what it says of a difference, what it refuses to read."""

from __future__ import annotations

import gzip
import io
import json
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hefjoin.conformance import archive
from hefjoin.conformance.cases import all_cases
from hefjoin.conformance.compare import Comparison, GroupVerdict, compare, message_shape
from hefjoin.conformance.numbers import snr_db
from hefjoin.conformance.private import scrubber
from hefjoin.conformance.record import record
from hefjoin.conformance.recording import Observed, Recording
from hefjoin.errors import InputError
from hefjoin.sdk.toolchain import Toolchain, resolve

pytestmark = pytest.mark.long

CHOSEN = ("surface", "single_left", "single_right", "pair", "vanished_input", "join_unlike_shapes")


def recorded(*names: str, toolchain: Toolchain | None = None, deadline_s: float = 60.0) -> Recording:
    cases = [case for case in all_cases("emulator") if case.name in names]
    return record(toolchain or resolve("emulator"), cases=cases, deadline_s=deadline_s)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEFJOIN_WORK", str(tmp_path_factory.mktemp("work")))
        return recorded(*CHOSEN)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEFJOIN_WORK", str(tmp_path / "work"))
    return tmp_path


def changed(recording: Recording, case: str, **changes: Any) -> Recording:
    """Return the recording with one case's observations changed."""
    one = recording.cases[case]
    observed = Observed.model_validate({**one.observed.model_dump(), **changes})
    return recording._replace(cases={**recording.cases, case: one._replace(observed=observed)})


def group(comparison: Comparison, name: str) -> GroupVerdict:
    return next(each for each in comparison.groups if each.group == name)


def test_every_case_ends_and_every_question_has_an_answer(recording: Recording) -> None:
    assert {name: case.observed.ended for name, case in recording.cases.items()} == dict.fromkeys(CHOSEN, "finished")
    assert [answer.number for answer in recording.answers] == list(range(1, 10))
    survivor, _, refusals, _, names, *_, speed = (answer.answer for answer in recording.answers)
    assert survivor.startswith("inputs after the join: left/input_layer1; ")
    assert "unlike shapes: InvalidArgumentsException: inputs differ" in refusals
    assert names == "group joined_left_right, networks joined_left_right/left_right"
    assert speed.startswith("no device")


def test_a_call_is_written_down_with_arguments_states_and_what_came_of_it(recording: Recording) -> None:
    join = recording.cases["pair"].observed.first("join")
    assert join is not None
    assert join.arguments == "right, scope1_name={'left': 'left'}, scope2_name={'right': 'right'}, " + (
        "join_action=JoinAction.AUTO_JOIN_INPUTS"
    )
    assert (join.state_before, join.state_after, join.returned) == ("HAILO_MODEL", "HAILO_MODEL", "NoneType")
    refused = recording.cases["join_unlike_shapes"].observed.first("join")
    assert refused is not None
    assert refused.raised is not None
    assert (refused.raised.type, refused.raised.module) == ("InvalidArgumentsException", "hefjoin.emulator.exceptions")


def test_the_joined_network_computes_what_each_computes_alone(recording: Recording) -> None:
    joined = recording.cases["pair"].numbers
    for index, name in enumerate(("left", "right")):
        alone = recording.cases[f"single_{name}"].numbers["SDK_NATIVE.0"]
        assert np.array_equal(joined[f"SDK_NATIVE.{index}"], alone)
    quantized, device = joined["SDK_QUANTIZED.0"], joined["device.left/fc1"]
    assert snr_db(quantized, device.reshape(quantized.shape)) > 60


def test_stages_hars_and_hef_are_listed(recording: Recording) -> None:
    observed = recording.cases["pair"].observed
    assert [stage.stage for stage in observed.stages] == ["parsed", "fp_optimized", "quantized", "compiled"]
    assert set(observed.hars.values()) == {"read"}
    metadata = json.loads(observed.stages[-1].har.metadata)
    assert metadata["state"] == "compiled_model"
    hef = observed.hefs["compiled.hef"]
    assert not isinstance(hef, str)
    assert [stream.name for stream in hef.groups[0].inputs] == ["left/input_layer1"]


def test_what_is_written_is_what_is_read_and_names_no_place_of_this_machine(recording: Recording, work: Path) -> None:
    path = work / "a.tar.gz"
    archive.write(path, recording)
    assert compare(recording, archive.read(path)).is_equal
    content = gzip.decompress(path.read_bytes())
    for private in (str(Path.home()), str(Path.cwd()), str(work), "/tmp/"):
        assert private.encode() not in content


def test_two_recordings_of_one_sdk_are_equal(recording: Recording, work: Path) -> None:
    again = recorded("pair", "join_unlike_shapes")
    alike = recording._replace(cases={name: recording.cases[name] for name in again.cases}, answers=again.answers)
    comparison = compare(alike, again)
    assert comparison.is_equal, comparison.groups
    assert set(comparison.snr_db.values()) == {"equal"}


@pytest.mark.alone
def test_a_crash_and_a_hang_are_written_down_and_the_rest_goes_on(work: Path) -> None:
    python = work / "python"
    python.write_text(
        "#!/bin/sh\ncase $2 in\n"
        "  */single_left/*) kill -SEGV $$ ;;\n"
        "  */single_right/*) exec sleep 60 ;;\n"
        f'  *) exec {sys.executable} "$@" ;;\nesac\n',
        encoding="utf-8",
    )
    python.chmod(0o755)
    toolchain = resolve("emulator").model_copy(update={"python": str(python)})
    found = recorded("surface", "single_left", "single_right", toolchain=toolchain, deadline_s=1.5)
    ended = {name: case.observed.ended for name, case in found.cases.items()}
    assert ended["surface"] == "finished"
    assert "SIGSEGV" in ended["single_left"]
    assert "stopped after" in ended["single_right"]
    assert len(found.answers) == 9


def test_each_kind_of_difference_is_said_in_its_group(recording: Recording) -> None:
    pair = recording.cases["pair"].observed.model_dump()
    calls = [{**call, "state_after": "COMPILED_MODEL"} if call["method"] == "join" else call for call in pair["calls"]]
    stages = json.loads(json.dumps(pair["stages"]))
    stages[0]["model_name"] = "joined"
    stages[0]["hn"]["layers"]["left/conv1"]["input_shapes"] = [[-1, 8, 8, 3]]
    hef = recording.cases["pair"].observed.hefs["compiled.hef"]
    other = changed(recording, "pair", calls=calls, stages=stages, hefs={"compiled.hef": hef})
    one = other.cases["pair"]
    numbers = {**one.numbers, "SDK_NATIVE.0": one.numbers["SDK_NATIVE.0"] * np.float32(1.01)}
    other.cases["pair"] = one._replace(numbers=numbers, log=(*one.log, "[info] Something new took 3s"))
    comparison = compare(recording, other)
    assert not comparison.is_equal
    assert [each.group for each in comparison.groups if each.is_equal] == ["answers"]
    assert group(comparison, "calls").differences[0].places == ("pair/left.join #1",)
    assert group(comparison, "names").differences[0].second == "joined"
    assert group(comparison, "HN").differences[0].what == "input_shapes"
    assert comparison.snr_db["pair/SDK_NATIVE.0"] == pytest.approx(40, abs=0.1)
    said = [each.what for each in group(comparison, "logs").differences]
    assert "a line that hefjoin does not read: [info] Something new took #s" in said


def test_scales_and_missing_cases_count_as_differences(recording: Recording) -> None:
    observed = recording.cases["pair"].observed.model_dump()
    for stream in observed["hefs"]["compiled.hef"]["groups"][0]["vstreams"]:
        stream["scale"] *= 2
    other = changed(recording, "pair", hefs=observed["hefs"])
    assert {each.what for each in group(compare(recording, other), "numbers").differences} == {"quantization"}
    fewer = recording._replace(cases={name: case for name, case in recording.cases.items() if name != "pair"})
    (difference,) = group(compare(recording, fewer), "calls").differences
    assert (difference.what, difference.second) == ("the case pair", "–")


def test_messages_are_compared_without_what_varies() -> None:
    assert message_shape("shape (1, 2) of 'a/b' in /tmp/x.har, 3.5s") == message_shape(
        "shape (7, 8) of 'c' in /q/y, 1s"
    )
    assert message_shape("cannot join") != message_shape("cannot parse")


def test_private_names_and_places_are_taken_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.node", lambda: "ada-laptop.example.org")
    monkeypatch.setenv("LOGNAME", "adalovelace")
    scrub = scrubber(tmp_path, "/opt/dfc/bin/python")
    said = {"at": [f"{tmp_path}/x.har", "/home/someone/models", "/opt/dfc/lib", "by adalovelace on ada-laptop"], "n": 3}
    found = {"at": ["<work>/x.har", "<home>/models", "<sdk>/lib", "by <user> on <host>"], "n": 3}
    assert scrub(said) == found


def _tar(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as stream:
        for entry, content in members:
            entry.size = len(content)
            stream.addfile(entry, io.BytesIO(content))
    return path


def _link() -> tarfile.TarInfo:
    entry = tarfile.TarInfo("environment.json")
    entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return entry


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([(_link(), b"")], "no plain file"),
        ([(tarfile.TarInfo("environment.json"), b"[]")], "Environment"),
        ([(tarfile.TarInfo("environment.json"), b"[" * 100_000)], "Environment"),
        ([(tarfile.TarInfo("answers.json"), b"[]")], "no member 'environment.json'"),
        ([(tarfile.TarInfo(f"{index}"), b"") for index in range(501)], "501 members"),
        ([(tarfile.TarInfo("big"), bytes(17 << 20))], "bytes"),
    ],
    ids=["link", "other record", "deep", "empty", "many", "large"],
)
def test_archives_that_a_recording_does_not_make_are_refused(
    tmp_path: Path, members: list[tuple[tarfile.TarInfo, bytes]], said: str
) -> None:
    path = _tar(tmp_path / "a.tar.gz", *members)
    with pytest.raises(InputError, match=said):
        archive.read(path)


def test_an_array_larger_than_its_bytes_is_refused(recording: Recording, tmp_path: Path) -> None:
    whole = tmp_path / "whole.tar.gz"
    archive.write(whole, recording)
    stream = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": (1 << 40,)}
    np.lib.format.write_array_header_1_0(stream, header)
    npz = io.BytesIO()
    with zipfile.ZipFile(npz, "w") as members:
        members.writestr("SDK_NATIVE.0.npy", stream.getvalue())
    with tarfile.open(whole) as source:
        entries = [
            (tarfile.TarInfo(entry.name), npz.getvalue() if entry.name.endswith(".npz") else content.read())
            for entry in source
            if (content := source.extractfile(entry)) is not None
        ]
    with pytest.raises(InputError, match="arrays that cannot be read"):
        archive.read(_tar(tmp_path / "bomb.tar.gz", *entries))


@settings(max_examples=60, deadline=None)
@given(
    damage=st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), min_size=1, max_size=8),
    cut=st.floats(0, 1),
)
def test_any_damage_ends_in_a_recording_or_in_an_error_of_ours(
    recording: Recording, tmp_path_factory: pytest.TempPathFactory, damage: list[tuple[int, int]], cut: float
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "a.tar.gz"
    archive.write(path, recording._replace(cases={"surface": recording.cases["surface"]}))
    content = bytearray(gzip.decompress(path.read_bytes()))
    for place, value in damage:
        content[place % len(content)] = value
    path.write_bytes(bytes(content[: round(cut * len(content)) or 1]))
    try:
        archive.read(path)
    except InputError:
        return
