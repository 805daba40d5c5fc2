"""The doctor on machines with nothing, with everything and with parts that do not fit; programs are real scripts."""

from __future__ import annotations

import json
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from packaging.requirements import Requirement
from packaging.version import Version

from flows.cli import main
from hefjoin.compatibility import table
from hefjoin.doctor import Finding, examine
from hefjoin.doctor.own import packages
from hefjoin.doctor.program import ANSWER_SECONDS, Answer, ask
from hefjoin.sdk.toolchain import DFC_PYTHON
from tests.fakes import dfc_environment

MOST_SECONDS = 3.0
WELL = {"ok", "not needed for the emulator"}
IDENTIFIED = """Executing on device: {device}
Identifying board
Control Protocol Version: 2
Firmware Version: {firmware} (release,app,extended context switch buffer)
Logger Version: 0
Board Name: Hailo-8
Device Architecture: {architecture}
Serial Number: HLLWM2A213700000
"""
DRIVER_REFUSED = """[HailoRT] [error] CHECK failed - Driver version (4.20.0) is different from library version (4.23.0)
[HailoRT] [error] Driver version mismatch, status HAILO_INVALID_DRIVER_VERSION(76)"""


class Machine:
    """A machine made of files: a file system root, and a folder of programs that is the whole PATH."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = folder / "root"
        self.programs = folder / "bin"
        self.packages = folder / "packages"
        self.monkeypatch = monkeypatch
        for made in (self.root, self.programs, self.packages):
            made.mkdir()
        for name in ("HEFJOIN_DFC_PYTHON", "HEFJOIN_WORK", "PREFECT_API_URL"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("PATH", str(self.programs))
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        monkeypatch.syspath_prepend(self.packages)
        monkeypatch.chdir(folder)
        self.has("proc/cpuinfo", "flags\t\t: fpu sse2 avx avx2\n")
        self.has("proc/meminfo", "MemTotal:       65536000 kB\nMemAvailable:   60000000 kB\n")
        self.has("etc/os-release", 'ID=ubuntu\nVERSION_ID="22.04"\n')

    def has(self, path: str, content: str = "") -> None:
        """Write a file below the root."""
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(content, encoding="utf-8")

    def has_program(self, name: str, python: str) -> Path:
        """Put a program on the PATH, written in Python."""
        path = self.programs / name
        path.write_text(f"#!{sys.executable} -IS\nimport os, sys, time\n{python}\n", encoding="utf-8")
        path.chmod(0o755)
        return path

    def has_hailortcli(self, number: str, identify: str = "", code: int = 0) -> None:
        """Install a `hailortcli` of a version, which prints a text when asked to identify."""
        self.has_program(
            "hailortcli",
            f"if sys.argv[1:] == ['--version']:\n    print('HailoRT-CLI version {number}')\n"
            f"elif sys.argv[1:] == ['fw-control', 'identify']:\n    print({identify!r}, end='')\n    sys.exit({code})\n"
            "else:\n    sys.exit('Run with --help for more information.')",
        )

    def has_driver(self, number: str) -> None:
        """Load a driver that serves one device."""
        self.has("sys/module/hailo_pci/version", f"{number}\n")
        self.has("dev/hailo0")

    def has_hailort_package(self, number: str, extension: str = "_pyhailort.py") -> None:
        """Install HailoRT's Python package."""
        information = self.packages / f"hailort-{number}.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: hailort\nVersion: {number}\n")
        code = self.packages / "hailo_platform" / "pyhailort"
        code.mkdir(parents=True)
        (self.packages / "hailo_platform" / "__init__.py").write_text("raise RuntimeError('imported')\n")
        (code / extension).touch()

    def has_dfc(self, dfc: str, python: str = "3.10.12", **installed: str) -> None:
        """Configure an interpreter in which a DFC is installed."""
        found = {"python": python, "packages": {"hailo-dataflow-compiler": dfc, **installed}}
        path = self.has_program("dfc-python", f"print('a banner of the site')\nprint({json.dumps(found)!r})")
        self.monkeypatch.setenv(DFC_PYTHON, str(path))

    def examine(self) -> dict[str, Finding]:
        """Return the findings by subject."""
        return {finding.subject: finding for finding in examine(self.root)}


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def broken(found: dict[str, Finding]) -> set[str]:
    """Return the subjects with a problem."""
    return {finding.subject for finding in found.values() if finding.state == "problem"}


def is_running(pid: int) -> bool:
    """Return whether a process lives; one that is dead and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def doctor(*arguments: str) -> Result:
    """Run the command."""
    return CliRunner().invoke(main, ["doctor", *arguments], catch_exceptions=False)


class TestNothing:
    def test_a_machine_with_nothing_is_well(self, machine: Machine) -> None:
        found = machine.examine()
        vendor = ("Dataflow Compiler", "HailoRT for Python", "hailortcli", "driver", "device", "GPU")
        assert {found[subject].state for subject in vendor} == {"not needed for the emulator"}
        assert all(found[subject].follows and found[subject].next_step for subject in vendor)
        assert {finding.state for finding in found.values()} - {"untested"} <= WELL

    def test_even_without_files_that_say_what_it_is(self, machine: Machine, tmp_path: Path) -> None:
        found = {finding.subject: finding for finding in examine(tmp_path / "nowhere")}
        assert broken(found) == set()
        assert found["memory"].found == "unknown"
        assert found["processor"].state == "not needed for the emulator"

    def test_it_is_told_where_the_compiler_comes_from_and_what_goes_with_it(self, machine: Machine) -> None:
        step = machine.examine()["Dataflow Compiler"].next_step
        assert "developer zone" in step
        assert DFC_PYTHON in step
        assert "DFC 3.33 goes with ubuntu 22.04 or ubuntu 24.04" in step
        assert "HailoRT 4.23" in step

    def test_nothing_is_written(self, machine: Machine, tmp_path: Path) -> None:
        before = sorted(tmp_path.rglob("*"))
        machine.examine()
        assert sorted(tmp_path.rglob("*")) == before


class TestCompiler:
    def test_one_that_fits(self, machine: Machine) -> None:
        machine.has_dfc("3.33.1", numpy="1.26.4", protobuf="3.20.3", tensorflow="2.18.0", setuptools="75.0.0")
        found = machine.examine()
        assert found["Dataflow Compiler"].state == "ok"
        assert found["Dataflow Compiler"].versions == {"hailo-dataflow-compiler": "3.33.1"}
        assert "HailoRT 4.23" in found["Dataflow Compiler"].follows
        assert found["its environment"].state == "ok"
        assert found["its environment"].versions["tensorflow"] == "2.18.0"
        assert found["GPU"].state == "missing"
        assert "optimization level to 0" in found["GPU"].follows

    def test_a_real_interpreter_answers_for_its_own_environment(self, machine: Machine, tmp_path: Path) -> None:
        ours = tmp_path / "ours" / "hailo_dataflow_compiler-3.99.0.dist-info"
        ours.mkdir(parents=True)
        (ours / "METADATA").write_text("Metadata-Version: 2.1\nName: hailo-dataflow-compiler\nVersion: 3.99.0\n")
        machine.monkeypatch.setenv("PYTHONPATH", str(ours.parent))
        machine.monkeypatch.setenv(DFC_PYTHON, str(dfc_environment.interpreter(tmp_path / "dfc", "3.30.0")))
        found = machine.examine()
        assert found["Dataflow Compiler"].versions == {"hailo-dataflow-compiler": "3.30.0"}
        assert found["its environment"].versions["numpy"] == "1.26.4"

    @pytest.mark.parametrize(
        ("python", "dfc", "installed", "reason"),
        [
            ("3.9.2", "3.33.0", {}, "Python 3.10, 3.11, 3.12"),
            ("3.10.1", "3.33.0", {"numpy": "2.1.0"}, "numpy<2"),
            ("3.10.1", "3.33.0", {"protobuf": "4.25.0"}, "protobuf==3.20.*"),
            ("3.10.1", "3.33.0", {"setuptools": "82.0.1"}, "setuptools<82"),
        ],
    )
    def test_an_environment_nobody_tried(
        self, machine: Machine, python: str, dfc: str, installed: dict[str, str], reason: str
    ) -> None:
        machine.has_dfc(dfc, python, **installed)
        finding = machine.examine()["its environment"]
        assert finding.state == "untested"
        assert reason in finding.follows

    def test_an_operating_system_nobody_tried(self, machine: Machine) -> None:
        machine.has("etc/os-release", "ID=debian\nVERSION_ID='12'\n")
        machine.has_dfc("3.33.0")
        assert "this is debian 12" in machine.examine()["its environment"].follows

    @pytest.mark.parametrize(
        ("dfc", "state"), [("3.28.0", "untested"), ("3.34.0", "ok"), ("3.99.0", "untested"), ("5.1.0", "problem")]
    )
    def test_lines_of_versions(self, machine: Machine, dfc: str, state: str) -> None:
        machine.has_dfc(dfc)
        assert machine.examine()["Dataflow Compiler"].state == state

    @pytest.mark.parametrize(
        ("program", "reason"),
        [
            ("sys.exit('libpython is missing')", "exit code 1: libpython is missing"),
            ("print('Python?')", "no Python that answers"),
            ("print('[1]')", "no Python that answers"),
            ("""print('{"python": "3.10.1", "packages": {"numpy": "1.26.4"}}')""", "no hailo-dataflow-compiler"),
        ],
    )
    def test_one_that_does_not_work_is_a_problem(self, machine: Machine, program: str, reason: str) -> None:
        machine.monkeypatch.setenv(DFC_PYTHON, str(machine.has_program("dfc-python", program)))
        finding = machine.examine()["Dataflow Compiler"]
        assert finding.state == "problem"
        assert reason in finding.found
        assert f"unset {DFC_PYTHON}" in finding.next_step

    def test_one_that_is_not_there_is_a_problem(self, machine: Machine) -> None:
        machine.monkeypatch.setenv(DFC_PYTHON, "/nowhere/bin/python")
        assert "does not start: No such file" in machine.examine()["Dataflow Compiler"].found

    def test_it_needs_avx_and_memory(self, machine: Machine) -> None:
        machine.has("proc/cpuinfo", "flags\t\t: fpu sse2\n")
        machine.has("proc/meminfo", "MemTotal: 8000000 kB\n")
        machine.has_dfc("3.33.0")
        found = machine.examine()
        assert found["processor"].state == "problem"
        assert found["memory"].state == "missing"
        assert "unconfirmed" in found["memory"].follows


class TestMachine:
    def test_a_gpu_is_listed(self, machine: Machine) -> None:
        machine.has_program("nvidia-smi", "print('NVIDIA A100, 40960 MiB, 550.54.15')")
        machine.has_dfc("3.33.0")
        gpu = machine.examine()["GPU"]
        assert (gpu.state, gpu.found) == ("ok", "NVIDIA A100, 40960 MiB, 550.54.15")

    def test_a_gpu_without_its_driver_is_none(self, machine: Machine) -> None:
        machine.has_program("nvidia-smi", "print('NVIDIA-SMI has failed'); sys.exit(9)")
        gpu = machine.examine()["GPU"]
        assert gpu.state == "not needed for the emulator"
        assert "exit code 9: NVIDIA-SMI has failed" in gpu.found

    def test_a_container_has_its_share_of_the_memory(self, machine: Machine) -> None:
        machine.has("sys/fs/cgroup/memory.max", f"{1 << 30}\n")
        memory = machine.examine()["memory"]
        assert (memory.state, memory.found) == ("missing", "1.0 GiB")

    def test_folders_on_one_disk_are_one_line(self, machine: Machine) -> None:
        assert machine.examine()["disk for work, cache, store"].state == "ok"

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    def test_a_folder_that_cannot_be_written_is_a_problem(self, machine: Machine, tmp_path: Path) -> None:
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o500)
        machine.monkeypatch.setenv("HEFJOIN_WORK", str(closed / "work"))
        assert "not writable" in machine.examine()["disk for work"].found

    def test_a_file_system_without_room_is_not_passed_over(self, machine: Machine) -> None:
        machine.monkeypatch.setenv("HEFJOIN_WORK", "/proc/work")
        found = machine.examine()
        assert any(subject.startswith("disk for work") and finding.state != "ok" for subject, finding in found.items())


class TestRuntime:
    def test_one_that_fits(self, machine: Machine) -> None:
        identified = IDENTIFIED.format(device="0000:01:00.0", firmware="4.23.0", architecture="HAILO8")
        machine.has_hailortcli("4.23.0", identified)
        machine.has_driver("4.23.0")
        machine.has_hailort_package("4.23.0")
        machine.has_dfc("3.33.0")
        found = machine.examine()
        runtime = ("HailoRT for Python", "hailortcli", "driver", "device", "HailoRT's versions", "compiler and HailoRT")
        assert {found[subject].state for subject in runtime} == {"ok"}
        assert found["device"].found == "0000:01:00.0: Hailo-8, HAILO8, firmware 4.23.0"
        assert found["HailoRT's versions"].versions == {"package": "4.23.0", "program": "4.23.0", "driver": "4.23.0"}
        assert "up to 3.33" in found["HailoRT's versions"].follows
        assert "hailo_platform" not in sys.modules

    def test_two_devices_are_two_lines(self, machine: Machine) -> None:
        text = "".join(
            IDENTIFIED.format(device=device, firmware="4.23.0", architecture=architecture)
            for device, architecture in (("0000:01:00.0", "HAILO8"), ("0000:02:00.0", "HAILO8L"))
        )
        machine.has_hailortcli("4.23.0", text)
        devices = [finding.found for finding in examine(machine.root) if finding.subject == "device"]
        assert [found.split(",")[:2] for found in devices] == [
            ["0000:01:00.0: Hailo-8", " HAILO8"],
            ["0000:02:00.0: Hailo-8", " HAILO8L"],
        ]

    def test_no_device_is_missing_though_the_program_ends_with_0(self, machine: Machine) -> None:
        machine.has_hailortcli("4.23.0")
        found = machine.examine()
        assert {found[subject].state for subject in ("device", "driver", "HailoRT for Python")} == {"missing"}
        assert broken(found) == set()

    def test_a_device_node_that_the_program_does_not_see_is_a_problem(self, machine: Machine) -> None:
        machine.has_hailortcli("4.23.0")
        machine.has_driver("4.23.0")
        assert broken(machine.examine()) == {"device"}

    def test_a_driver_of_another_version(self, machine: Machine) -> None:
        machine.has_hailortcli("4.23.0", DRIVER_REFUSED, 76)
        machine.has_driver("4.20.0")
        found = machine.examine()
        assert broken(found) == {"device", "HailoRT's versions"}
        assert "exit code 76" in found["device"].found
        assert found["device"].next_step == "install driver and HailoRT of one version, and restart"
        assert found["HailoRT's versions"].found == "program 4.23.0, driver 4.20.0"

    def test_a_python_package_of_another_version(self, machine: Machine) -> None:
        machine.has_hailort_package("4.20.0")
        machine.has_hailortcli("4.23.0")
        assert broken(machine.examine()) == {"HailoRT's versions"}

    def test_a_python_package_for_another_python(self, machine: Machine) -> None:
        machine.has_hailort_package("4.23.0", "_pyhailort.cpython-27-x86_64-linux-gnu.so")
        finding = machine.examine()["HailoRT for Python"]
        assert finding.state == "problem"
        assert "for this version of Python" in finding.next_step

    def test_firmware_of_another_line(self, machine: Machine) -> None:
        machine.has_hailortcli(
            "4.23.0", IDENTIFIED.format(device="0000:01:00.0", firmware="4.19.0", architecture="HAILO8")
        )
        device = machine.examine()["device"]
        assert device.state == "untested"
        assert "control operations" in device.follows

    def test_another_chip(self, machine: Machine) -> None:
        machine.has_hailortcli(
            "4.23.0", IDENTIFIED.format(device="0000:01:00.0", firmware="4.23.0", architecture="HAILO15H")
        )
        assert machine.examine()["device"].state == "untested"

    def test_hailort_5_and_its_driver_serve_other_chips(self, machine: Machine) -> None:
        machine.has_hailortcli("5.2.0")
        machine.has("sys/module/hailo1x_pci/version", "5.2.0\n")
        found = machine.examine()
        assert broken(found) == set()
        assert found["HailoRT's versions"].state == "missing"
        assert "hailo1x_pci does not serve a Hailo-8" in found["driver"].follows

    @pytest.mark.parametrize(
        ("dfc", "hailort", "state"),
        [
            ("3.33.0", "4.20.0", "untested"),
            ("3.30.0", "4.23.0", "ok"),
            ("3.34.0", "4.23.0", "untested"),
            ("3.99.0", "4.23.0", "untested"),
        ],
    )
    def test_pairs(self, machine: Machine, dfc: str, hailort: str, state: str) -> None:
        machine.has_dfc(dfc)
        machine.has_hailortcli(hailort)
        assert machine.examine()["compiler and HailoRT"].state == state

    def test_a_library_that_is_gone(self, machine: Machine) -> None:
        machine.has_program("hailortcli", "sys.exit('libhailort.so.4.23.0: cannot open shared object file')")
        found = machine.examine()
        assert broken(found) == {"hailortcli", "device"}
        assert "libhailort.so" in found["hailortcli"].found


class TestOwn:
    def test_all_requirements_are_met_here(self, machine: Machine) -> None:
        finding = machine.examine()["packages"]
        assert finding.state in ("ok", "untested")
        assert finding.versions["numpy"] == version("numpy")
        assert "pytest" not in finding.versions

    def test_what_is_required_and_what_was_tested_are_told_apart(self) -> None:
        here = version("click")
        wanted = [Requirement("click>=8"), Requirement("hefjoin-never-made"), Requirement("mypy; extra == 'dev'")]
        assert packages(wanted[:1], {"click": here}).state == "ok"
        other = packages(wanted[:1], {"click": "8.0.0"})
        assert (other.state, other.follows) == ("untested", f"click {here} (tested: 8.0.0)")
        wrong = packages([Requirement("click<8"), *wanted[1:]], {})
        assert wrong.state == "problem"
        assert wrong.follows == f"click is {here}, required <8; hefjoin-never-made is absent, required in any version"

    def test_a_prefect_server_that_does_not_answer_is_a_problem(self, machine: Machine) -> None:
        machine.monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
        finding = machine.examine()["server"]
        assert finding.state == "problem"
        assert "unset PREFECT_API_URL" in finding.next_step

    def test_homes_of_embedded_servers_are_counted(self, machine: Machine, tmp_path: Path) -> None:
        for index in range(2):
            (tmp_path / "cache" / "hefjoin" / f"prefect-{index}").mkdir(parents=True)
        assert "2 homes" in machine.examine()["server"].follows


class TestProgram:
    @pytest.mark.alone
    def test_what_a_hanging_program_started_ends_with_it(self, machine: Machine, tmp_path: Path) -> None:
        sign = tmp_path / "sign"
        program = machine.has_program(
            "hangs",
            "import subprocess\nchild = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
            f"open({str(sign)!r}, 'w').write(str(child.pid))\nchild.wait()",
        )
        begin = time.monotonic()
        answers = ask({"hangs": [str(program)], "none": None})
        assert time.monotonic() - begin < ANSWER_SECONDS + 0.5
        assert answers == {"hangs": Answer("", "did not answer within 2 s", None), "none": None}
        end = time.monotonic() + 1  # a kill takes effect in the kernel's own time
        while is_running(int(sign.read_text())) and time.monotonic() < end:
            time.sleep(0.01)
        assert not is_running(int(sign.read_text()))

    def test_a_question_on_standard_input_is_not_waited_for(self, machine: Machine) -> None:
        program = machine.has_program("asks", "print(repr(input('Continue? [Y/n] ')))")
        answer = ask({"asks": [str(program)]})["asks"]
        assert answer is not None
        assert "EOFError" in answer.text


class TestCommand:
    @pytest.mark.alone
    def test_everything_that_hangs_takes_three_seconds_at_most(self, machine: Machine) -> None:
        for name in ("hailortcli", "nvidia-smi", "dfc-python"):
            machine.has_program(name, "time.sleep(60)")
        machine.monkeypatch.setenv(DFC_PYTHON, str(machine.programs / "dfc-python"))
        begin = time.monotonic()
        done = doctor("--json")
        assert time.monotonic() - begin < MOST_SECONDS
        assert done.exit_code == 6
        found = {each["subject"]: each for each in json.loads(done.stdout)["findings"]}
        hanging = ("GPU", "Dataflow Compiler", "hailortcli", "device")
        assert all("did not answer within 2 s" in found[subject]["found"] for subject in hanging)

    def test_json_has_findings_and_the_table(self, machine: Machine) -> None:
        done = doctor("--json")
        shown = json.loads(done.stdout)
        assert set(shown) == {"findings", "compatibility"}
        findings = [Finding.model_validate(each) for each in shown["findings"]]
        assert {finding.part for finding in findings} == {"hefjoin", "machine", "compiler", "device", "Prefect"}
        assert all(set(each) == set(Finding.model_fields) for each in shown["findings"])
        assert {"3.30", "3.34"} <= {release["dfc"] for release in shown["compatibility"]["releases"]}
        assert done.exit_code == 0

    def test_the_table_says_state_finding_and_next_step(self, machine: Machine) -> None:
        machine.monkeypatch.setenv(DFC_PYTHON, "/nowhere/[python]")
        done = doctor()
        assert done.exit_code == 6
        assert "problem" in done.stdout
        assert "/nowhere/[python]" in done.stdout
        assert "What fits together" in done.stdout


class TestTable:
    def test_each_line_of_the_compiler_is_listed_once_in_order(self) -> None:
        lines = [Version(release.dfc) for release in table().releases]
        assert lines == sorted(set(lines))
        assert str(lines[-1]) == "3.34"

    @pytest.mark.parametrize(("hailort", "dfc"), [("4.23.0", "3.33"), ("4.21.0", "3.31"), ("4.99.0", "3.33")])
    def test_the_newest_pair_for_a_runtime(self, hailort: str, dfc: str) -> None:
        pair = table().newest_pair(hailort)
        assert pair is not None
        assert pair.dfc == dfc

    def test_a_runtime_older_than_the_table_has_no_pair(self) -> None:
        assert table().newest_pair("4.10.0") is None
