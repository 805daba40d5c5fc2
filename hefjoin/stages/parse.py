"""Parse: one model file becomes one HAR; a HAR is taken as it is."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from hefjoin.artifacts import Ref
from hefjoin.errors import InputError, Problem, SpecError
from hefjoin.formats import onnx_file
from hefjoin.manifest import Network, Sdk
from hefjoin.sdk.process import run_step
from hefjoin.spec import HwArch
from hefjoin.stages.contract import Stage, Workplace
from hefjoin.stages.network import describe


class Parse(Stage[Network]):
    """Translate a model.

    Requires: a whole ONNX model or HAR, with one input. Ensures: a HAR in state hailo_model with one scope, one
    input, and at least one output.
    """

    stage: ClassVar[str] = "parse"
    version: ClassVar[int] = 1
    result: ClassVar[type[Network]] = Network

    name: str
    source: Ref
    hw_arch: HwArch
    input_shape: tuple[int, ...]
    start_nodes: tuple[str, ...]
    end_nodes: tuple[str, ...]
    sdk: Sdk

    @property
    def subject(self) -> str:
        """The model's name."""
        return self.name

    def run(self, work: Path, place: Workplace) -> Network:
        """Start the SDK on an ONNX file; read a HAR."""
        model = place.store.get(self.source, work / f"{self.name}.{self.source.media}")
        if self.source.media == "har":
            return describe(model, self.source)
        har = work / "parsed.har"
        arguments = {
            "model": str(model),
            "name": self.name,
            "har": str(har),
            "hw_arch": self.hw_arch,
            "start_nodes": list(self.start_nodes),
            "end_nodes": list(self.end_nodes),
            "input_shapes": self._input_shapes(model),
        }
        run_step(place.toolchain, "parse", arguments, work, model=self.name, on_progress=place.on_progress)
        return describe(har, place.store.put(har, "har"))

    def ensures(self, result: Network) -> None:
        """Check that the network can take part in a join."""
        if result.hw_arch != self.hw_arch:
            raise InputError(
                f"{self.name}: the HAR was parsed for {result.hw_arch}, the spec is for {self.hw_arch}; parse it again"
            )
        if result.sdk_version.endswith("-emulator") != (self.sdk.provider == "emulator"):
            raise InputError(
                f"{self.name}: the HAR was made by SDK {result.sdk_version}, this build uses the {self.sdk.provider}; "
                "give the ONNX file, or build with the SDK that made the HAR"
            )
        if result.state != "hailo_model":
            raise InputError(
                f"{self.name}: the HAR is in state {result.state}; a join with one shared input starts from parsed "
                "models (hailo_model), because it is quantized afterwards as one"
            )
        if len(result.scopes) != 1:
            raise InputError(
                f"{self.name}: the HAR holds {len(result.scopes)} networks ({', '.join(result.scopes)}); give one each"
            )
        if len(result.inputs) != 1 or not result.outputs:
            names = ", ".join(tensor.original_name for tensor in result.inputs)
            raise InputError(
                f"{self.name}: {len(result.inputs)} inputs ({names}) and {len(result.outputs)} outputs; a network that "
                "shares an image has one input. Choose start_nodes behind the other inputs"
            )

    def _input_shapes(self, model: Path) -> dict[str, list[int]]:
        inputs = onnx_file.read(model).inputs
        if not self.input_shape:
            return {}
        if len(inputs) != 1:
            raise SpecError(
                [Problem("input_shape", f"one shape for the {len(inputs)} inputs of {self.name}; leave it out")]
            )
        return {inputs[0].name: list(self.input_shape)}
