"""The machine: processor, memory, GPU, operating system, room on its disks.

The rule: what only the compiler asks for is asked for only where a compiler is configured.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from hefjoin.compatibility import table
from hefjoin.doctor.finding import Finding, absent
from hefjoin.doctor.program import Answer

GIB = 1 << 30
LEAST_RAM_GIB = 2  # the emulator's quantize step takes 0.9 at most, its Prefect server and flow the rest
LEAST_FREE_GIB = 1  # a first build of a ResNet pair fills 0.7 (docs/operations.md)


def gpu_question() -> Sequence[str] | None:
    """Return the command that lists the GPUs; None without NVIDIA's driver."""
    program = shutil.which("nvidia-smi")
    fields = "--query-gpu=name,memory.total,driver_version"
    return [program, fields, "--format=csv,noheader"] if program else None


def findings(root: Path, gpu: Answer | None, has_dfc: bool, folders: Mapping[str, Path]) -> list[Finding]:
    """Examine the machine.

    Args:
        root: Where `/proc`, `/sys` and `/etc` are.
        gpu: The answer to `gpu_question`.
        has_dfc: Whether a compiler is configured.
        folders: Folders that builds write to, by what they are for.
    """
    return [
        _operating_system(root),
        _processor(root, has_dfc),
        _memory(root, has_dfc),
        _gpu(gpu, has_dfc),
        *_disks(folders),
    ]


def operating_system(root: Path) -> str:
    """Return ID and version of the distribution, such as `ubuntu 22.04`; empty where it does not say."""
    fields = dict(line.split("=", 1) for line in _text(root / "etc/os-release").splitlines() if "=" in line)
    return " ".join(fields.get(key, "").strip("\"'") for key in ("ID", "VERSION_ID")).strip()


def _operating_system(root: Path) -> Finding:
    found = operating_system(root) or "a Linux that does not name itself"
    libc = " ".join(platform.libc_ver()).strip()
    return Finding(part="machine", subject="operating system", state="ok", found=", ".join(filter(None, [found, libc])))


def _processor(root: Path, has_dfc: bool) -> Finding:
    needs = table().compiler_machine
    processor, cores = platform.machine(), len(os.sched_getaffinity(0))
    flags = next((line for line in _text(root / "proc/cpuinfo").splitlines() if line.startswith("flags")), "").split()
    has_avx = "avx" in flags
    found = f"{processor}, {cores} cores, {'AVX' if has_avx else 'no AVX'}"
    if processor == needs.processor and (has_avx or not needs.needs_avx):
        return Finding(part="machine", subject="processor", state="ok", found=found)
    return Finding(
        part="machine",
        subject="processor",
        state="problem" if has_dfc else absent(False),
        found=found,
        follows=f"the Dataflow Compiler runs on {needs.processor} with AVX only",
        next_step="compile on another machine; this one may serve a device",
    )


def _memory(root: Path, has_dfc: bool) -> Finding:
    total = _total_ram_bytes(root) / GIB
    least, who = LEAST_RAM_GIB, "the emulator"
    if has_dfc:
        needs = table().compiler_memory
        least, who = needs.least_gib, f"the Dataflow Compiler ({needs.confidence})"
    if total > 0.9 * least:  # firmware and kernel keep some of what is built in
        return Finding(part="machine", subject="memory", state="ok", found=f"{total:.1f} GiB")
    return Finding(
        part="machine",
        subject="memory",
        state="missing",
        found=f"{total:.1f} GiB" if total else "unknown",
        follows=f"{least} GiB are asked for by {who}; a step may be killed by the kernel",
        next_step="add memory, or raise the container's limit",
    )


def _total_ram_bytes(root: Path) -> int:
    """Return the machine's memory, or the container's share of it."""
    line = next((line for line in _text(root / "proc/meminfo").splitlines() if line.startswith("MemTotal:")), "")
    total = int(line.split()[1]) * 1024 if line else 0
    limit = _text(root / "sys/fs/cgroup/memory.max").strip()
    return min(total, int(limit)) if limit.isdigit() else total


def _gpu(gpu: Answer | None, has_dfc: bool) -> Finding:
    if gpu is not None and not gpu.failure and gpu.text:
        found = "; ".join(line.strip() for line in gpu.text.splitlines())
        return Finding(part="machine", subject="GPU", state="ok", found=found)
    return Finding(
        part="machine",
        subject="GPU",
        state=absent(has_dfc),
        found="none" if gpu is None or not gpu.failure else f"nvidia-smi {gpu.failure}",
        follows="without a GPU the Dataflow Compiler lowers its optimization level to 0",
        next_step="for level 1 and above, optimize on a machine with an NVIDIA GPU and its driver",
    )


def _disks(folders: Mapping[str, Path]) -> list[Finding]:
    """Examine each file system once, however many of the folders lie on it."""
    shared: dict[tuple[int, bool], list[str]] = {}
    for purpose, folder in folders.items():
        place = _nearest(folder)
        shared.setdefault((place.stat().st_dev, os.access(place, os.W_OK | os.X_OK)), []).append(purpose)
    return [
        _disk(purposes, [folders[name] for name in purposes], writable) for (_, writable), purposes in shared.items()
    ]


def _disk(purposes: Sequence[str], folders: Sequence[Path], is_writable: bool) -> Finding:
    free = shutil.disk_usage(_nearest(folders[0])).free / GIB
    subject = f"disk for {', '.join(purposes)}"
    found = f"{free:.1f} GiB free in {', '.join(str(folder) for folder in folders)}"
    if not is_writable:
        return Finding(
            part="machine",
            subject=subject,
            state="problem",
            found=f"{found}; not writable",
            follows="a build cannot write there",
            next_step="set HEFJOIN_WORK, XDG_CACHE_HOME or --store to a folder that can be written",
        )
    if free >= LEAST_FREE_GIB:
        return Finding(part="machine", subject=subject, state="ok", found=found)
    return Finding(
        part="machine",
        subject=subject,
        state="missing",
        found=found,
        follows="a build takes about five times the size of its float models",
        next_step="free space there, or set HEFJOIN_WORK and --store to a larger disk",
    )


def _nearest(folder: Path) -> Path:
    """Return the folder, or the deepest one above it that exists."""
    folder = folder.absolute()
    return next(place for place in (folder, *folder.parents) if os.access(place, os.F_OK))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
