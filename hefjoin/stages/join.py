"""Join: the parsed networks become one that shares one input, and it is proved that this changed nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Self

import numpy as np

from hefjoin.artifacts import Ref
from hefjoin.errors import CompileError, InputError, JoinError
from hefjoin.results.checked import JoinCheck
from hefjoin.results.networks import Equality, Joined, Network
from hefjoin.results.sources import Sdk
from hefjoin.sdk.process import run_step
from hefjoin.spec import BuildSpec
from hefjoin.stages.contract import Stage, Workplace
from hefjoin.stages.network import describe

PROOF_FRAMES = 8
OUTPUTS = "outputs.npz"
"""What the joined network gave for the frames of the proof, in the stage's own directory: an array for each output."""
TOLERANCE = 1e-4
"""Largest difference, relative to the output's own size, that another engine's float arithmetic may show."""


class Join(Stage[Joined]):
    """Join the networks with AUTO_JOIN_INPUTS.

    Requires: networks that passed `check`. Ensures: one input layer; outputs of every model; float outputs on real
    calibration frames equal to each model's alone: bit for bit with the emulator, within `TOLERANCE` else.
    """

    stage: ClassVar[str] = "join"
    version: ClassVar[int] = 3
    result: ClassVar[type[Joined]] = Joined

    networks: tuple[tuple[str, Network], ...]
    """(model, its network), in the order in which they are joined."""
    frames: Ref
    mean: tuple[float, ...]
    std: tuple[float, ...]
    sdk: Sdk

    @classmethod
    def of(cls, spec: BuildSpec, networks: Mapping[str, Network], checked: JoinCheck, sdk: Sdk) -> Self:
        """Return the stage for a build."""
        return cls(
            networks=tuple((model.name, networks[model.name]) for model in spec.models),
            frames=checked.calibration.npy,
            mean=checked.mean,
            std=checked.std,
            sdk=sdk,
        )

    def run(self, work: Path, place: Workplace) -> Joined:
        """Start the SDK on the HARs; the scope of each becomes its model's name."""
        hars = [place.store.get(net.har, work / f"{name}.har") for name, net in self.networks]
        frames = np.load(place.store.get(self.frames, work / "frames.npy"), mmap_mode="r")
        np.save(work / "proof.npy", frames[:PROOF_FRAMES])
        joined = work / "joined.har"
        arguments = {
            "hars": [str(path) for path in hars],
            "scopes": [{net.scopes[0]: name} for name, net in self.networks],
            "har": str(joined),
            "frames": str(work / "proof.npy"),
            "mean": list(self.mean),
            "std": list(self.std),
            "outputs_file": str(work / OUTPUTS),
        }
        label = "+".join(name for name, _ in self.networks)
        found = run_step(place.toolchain, "join", arguments, work, model=label, on_progress=place.on_progress)
        network = describe(joined, place.put(joined, "har"))
        return Joined(
            name=found.result["name"],
            network=network,
            input_layer=network.inputs[0].layer if network.inputs else "",
            output_layers=tuple(found.result["outputs"]),
            equality=tuple(Equality(model=row["layer"].split("/")[0], **row) for row in found.result["equality"]),
        )

    def ensures(self, result: Joined) -> None:
        """Check what the SDK made."""
        inputs = [tensor.layer for tensor in result.network.inputs]
        if len(inputs) != 1:
            raise JoinError(
                [],
                message=f"{result.name}: the join left {len(inputs)} inputs ({', '.join(inputs)}) where one was to be "
                "shared; the SDK did not take the inputs for equal",
            )
        asked, found = {name for name, _ in self.networks}, set(result.model_of_output.values())
        if asked != found:
            left, wanted = (", ".join(sorted(names)) or "none" for names in (found, asked))
            raise JoinError(
                [],
                message=f"{result.name}: the join left outputs of {left}, those of {wanted} were joined; the SDK did "
                "not keep the scopes it was given",
            )
        broken = [row for row in result.equality if not np.isfinite(row.largest_value)]
        if broken:
            raise InputError(
                f"{broken[0].model}: its output {broken[0].layer} is not finite on {broken[0].frames} frames, before "
                "any joining; look for NaN or infinity in its weights, and export it again"
            )
        unproved = set(result.output_layers) - {row.layer for row in result.equality}
        if unproved:
            raise CompileError(f"{result.name}: nothing was compared for {', '.join(sorted(unproved))}", log_tail="")
        exact = self.sdk.provider == "emulator"
        wrong = [
            row
            for row in result.equality
            if not (row.is_bit_equal if exact else row.max_abs_difference <= TOLERANCE * row.largest_value)
        ]
        if wrong:
            rows = "; ".join(f"{row.layer} by {row.max_abs_difference:.3g}" for row in wrong)
            raise CompileError(
                f"{result.name}: the join changed float outputs on {wrong[0].frames} calibration frames: {rows}. "
                "Nothing built on it would be right; keep the HARs and report this",
                log_tail="",
            )
