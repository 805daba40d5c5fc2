"""Compile: print what the allocator prints, run the external compiler, decide whether the network fits."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hailo_sdk_client.sdk_backend.sdk_backend_exceptions import BackendAllocatorException

from fake_dfc import log
from fake_dfc.network import Network
from fake_dfc.script import Command
from fake_dfc.switches import Switches

COMPILER = Path(__file__).resolve().parent.parent / "hailo_tools" / "build" / "compiler"
CLUSTERS = {"hailo8": range(8), "hailo8r": range(8), "hailo8l": (0, 1, 4, 5)}
LCUS_PER_CLUSTER = 16
NO_ROOM = (
    "Context switch is disabled, but model could not fit in single context.{gap}Detailed error is: Failed to save "
    "enough resources for the network: SCs: 326/384, 16bit SCs: 0/384, APUs: 149/120, IAs: 149/192, "
    "L3 weights: 138/768, L3 ios: 200/768, LCUs: {lcus}/96"
)
MOST_LAYERS = 96
"""Layer controllers that one context may take by default: 75 % of the chip's."""


def allocate(network: Network, hw_arch: str, script: Sequence[Command], switches: Switches) -> int:
    """Map a network to the chip; returns the number of contexts.

    Raises:
        BackendAllocatorException: It does not fit, or the external compiler failed.
    """
    start = time.monotonic()
    log.info("Loading network parameters")
    log.info("Starting Hailo allocation and compilation flow")
    log.info("Building optimization options for network layers...")
    log.info(f"Successfully built optimization options - {log.words(start)}")
    contexts = _contexts(network, script, switches, start)
    log.info(f"Using {'Single' if contexts == 1 else 'Multi'}-context flow")
    limit = "75%" if contexts == 1 else "60%"
    names = ("control", "compute", "compute_16bit", "memory", "input_aligner", "apu")
    log.info("Resources optimization params: " + ", ".join(f"max_{name}_utilization={limit}" for name in names))
    if contexts > 1:
        _partition(contexts, start)
    _run_compiler(network, script, switches)
    for index in range(contexts):
        _utilization(network, f"{network.hn['name']}_context_{index}", hw_arch, switches)
    log.info(f"Successful Mapping (allocation time: {log.words(start)})")
    for index in range(contexts):
        log.info(f"Compiling kernels of {network.hn['name']}_context_{index}...")
    log.info("Bandwidth of model inputs: 0.01 Mbps, outputs: 0.001 Mbps (for a single frame)")
    log.info("Bandwidth of DDR buffers: 0.0 Mbps (for a single frame)")
    log.info(f"Bandwidth of inter context tensors: {0.0 if contexts == 1 else 1.5} Mbps (for a single frame)")
    log.info("Building HEF...")
    log.info(f"Successful Compilation (compilation time: {log.words(start)})")
    return contexts


def decisions(network: Network, script: Sequence[Command], contexts: int) -> str:
    """Return what the compiler decided as a script (`.auto.alls`); it holds the place of every layer."""
    lines = [_text(command) for command in script if command.stage == "compilation" and command.name != "place"]
    layers = network.computing
    share = -(-len(layers) // contexts)
    for index in range(contexts):
        inside = layers[index * share : (index + 1) * share]
        if inside:
            lines.append(f"context_{index}.place(0, [{', '.join(inside)}])")
    return "\n".join(lines) + "\n"


def _text(command: Command) -> str:
    def word(value: Any) -> str:
        return f"[{', '.join(map(word, value))}]" if isinstance(value, list) else str(value)

    left = f"{', '.join(command.targets)} = " if command.targets else ""
    owner = f"{command.owner}." if command.owner else ""
    arguments = [*map(word, command.args), *(f"{key}={word(value)}" for key, value in command.kwargs.items())]
    return f"{left}{owner}{command.name}({', '.join(arguments)})"


def _contexts(network: Network, script: Sequence[Command], switches: Switches, start: float) -> int:
    placed = [command for command in script if command.name == "place"]
    if {layer for command in placed for layer in command.args[1]} >= set(network.computing):
        return len({command.owner for command in placed})  # recorded decisions: nothing is searched
    said = {(command.name, key): value for command in script for key, value in command.kwargs.items()}
    log.info("Validating layers feasibility")
    for name in network.computing:
        log.info(f"{name}: Pass")
    log.info("Layers feasibility validated successfully")
    mode = said.get(("context_switch_param", "mode"), "allowed")
    if mode != "enabled":
        log.info("Trying to compile the network in a single context")
        if len(network.computing) <= MOST_LAYERS and fits(said, switches.fits_when):
            return 1
    if mode == "disabled":
        _run_compiler(network, script, switches)
        failed = f"Mapping Failed (allocation time: {log.words(start)})"
        lcus = max(len(network.computing), 149)
        told = f"\n{NO_ROOM.format(gap=chr(10), lcus=lcus)}" if switches.reason_in_log_only else ""
        log.error(f"{failed}{told}")
        log.error("Failed to produce compiled graph")
        if switches.reason_in_log_only:
            raise BackendAllocatorException("Compilation failed")
        raise BackendAllocatorException(f"{failed}\n{NO_ROOM.format(gap=' ', lcus=lcus)}")
    log.info("Single context flow failed: Recoverable single context error")
    return switches.contexts


def fits(said: Mapping[tuple[str, str], Any], needed: Mapping[str, Any]) -> bool:
    """Return whether a script says all that a network is made to need."""
    limits = [
        value
        for (command, key), value in said.items()
        if command == "resources_param" and key.endswith("_utilization") and isinstance(value, int | float)
    ]
    fps = said.get(("performance_param", "fps"))
    met: dict[str, Callable[[Any], bool]] = {
        "fps": lambda most: isinstance(fps, int | float) and fps <= most,
        "max_utilization": lambda least: max(limits, default=0) >= least,
        "seed": lambda seed: said.get(("allocator_param", "seed")) == seed,
        "compiler_optimization_level": lambda level: (
            said.get(("performance_param", "compiler_optimization_level")) == level
        ),
    }
    return all(met[key](value) for key, value in needed.items())


def _partition(contexts: int, start: float) -> None:
    log.info("Finding the best partition to contexts...")
    log.info(f"Iteration #1 - {contexts} contexts,")
    log.info(f"Found valid partition to {contexts} contexts, Performance improved by 12.5%")
    log.info("Searching for a better partition...")
    log.info("Partition to contexts finished successfully")
    log.info(f"Partitioner finished after 2 iterations, Time it took: {log.words(start)}")
    log.info(f"Applying selected partition to {contexts} contexts...")


def _utilization(network: Network, context: str, hw_arch: str, switches: Switches) -> None:
    clusters = CLUSTERS[hw_arch]
    layers = len(network.computing)
    percent = 100 * min(layers / (LCUS_PER_CLUSTER * len(clusters)), 1)
    row = [percent, percent / 2, percent / 4]
    frame = "+" + "+".join("-" * width for width in (11, 21, 21, 20)) + "+"
    log.info(f"{context} utilization:")
    log.info(frame)
    log.info("| Cluster   | Control Utilization | Compute Utilization | Memory Utilization |")
    log.info(frame)
    for name in [*(f"cluster_{index}" for index in clusters), "Total"]:
        if name == "Total":
            log.info(frame)
        cells = [_percent(value, switches.decimal_comma) for value in row]
        log.info(f"| {name:<9} | {cells[0]:<19} | {cells[1]:<19} | {cells[2]:<18} |")
    log.info(frame)


def _percent(value: float, decimal_comma: bool) -> str:
    text = f"{value:.1f}".removesuffix(".0")
    return f"{text.replace('.', ',') if decimal_comma else text}%"


def _run_compiler(network: Network, script: Sequence[Command], switches: Switches) -> None:
    log.info("Running resources allocation (mapping) flow, time per context: 59m 59s")
    log.info("Context:0/0 Iteration 4: Trying parallel mapping...")
    seeds = [command.kwargs["seed"] for command in script if "seed" in command.kwargs]
    end = "crash" if switches.crashes_until_seed not in (None, *seeds[-1:]) else "return"
    arguments = [sys.executable, str(COMPILER), str(switches.compiler_seconds), network.hn["name"], end]
    if subprocess.run(arguments, check=False).returncode != 0:
        log.error("Failed to produce compiled graph")
        raise BackendAllocatorException("Compilation failed with unexpected crash")
