"""Parse: one model file becomes one HAR; a HAR is taken as it is."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field

from hefjoin.artifacts import Ref
from hefjoin.errors import InputError, Problem, SpecError
from hefjoin.formats import onnx_file
from hefjoin.formats.onnx_head import read_head
from hefjoin.formats.preprocessing import Preprocessing, prepare, split
from hefjoin.results.networks import Network
from hefjoin.results.sources import Sdk
from hefjoin.sdk.process import run_step
from hefjoin.spec import BuildSpec, HwArch, ModelSpec
from hefjoin.stages.contract import Stage, Workplace
from hefjoin.stages.network import describe

AXES = ("N", "C", "H", "W")
"""Of an image in an ONNX file."""


class Parse(Stage[Network]):
    """Translate a model.

    Requires: a whole ONNX model or HAR, with one input; a HAR only where nothing has to be put in front of it. Ensures:
    a HAR in state hailo_model with one scope, one input, and at least one output; what it wants to see of a frame that
    the other models do not is in its own graph.
    """

    stage: ClassVar[str] = "parse"
    version: ClassVar[int] = 3
    result: ClassVar[type[Network]] = Network

    name: str
    source: Ref
    weights: dict[str, Ref] = Field(default_factory=dict)
    """Files beside the model that hold its weights, by path below its folder."""
    hw_arch: HwArch
    input_shape: tuple[int, ...]
    start_nodes: tuple[str, ...]
    end_nodes: tuple[str, ...]
    preprocessing: Preprocessing | None = None
    """What this model alone wants; None where all models of the build want the same."""
    sdk: Sdk

    @classmethod
    def of(
        cls, spec: BuildSpec, model: ModelSpec, source: Ref, sdk: Sdk, weights: Mapping[str, Ref] | None = None
    ) -> Self:
        """Return the stage for one model of a build."""
        return cls(
            name=model.name,
            source=source,
            weights=dict(weights or {}),
            hw_arch=spec.hw_arch,
            input_shape=tuple(model.input_shape),
            start_nodes=tuple(model.start_nodes),
            end_nodes=tuple(model.end_nodes),
            preprocessing=split(spec.models).own[spec.models.index(model)],
            sdk=sdk,
        )

    @property
    def subject(self) -> str:
        """The model's name."""
        return self.name

    def requires(self) -> None:
        """Refuse a HAR that would have to be changed."""
        if self.source.media == "har" and self.preprocessing is not None:
            problem = Problem(
                "source",
                "is a HAR, whose graph cannot be changed, and its mean, std or color differ from another model's; give "
                "the ONNX file that it was made from",
            )
            raise SpecError([problem], where=f"the model {self.name} in the spec")

    def run(self, work: Path, place: Workplace) -> Network:
        """Start the SDK on an ONNX file; read a HAR."""
        model = place.store.get(self.source, work / "model" / f"{self.name}.{self.source.media}")
        for file, ref in self.weights.items():
            place.store.get(ref, model.parent / file)
        if self.source.media == "har":
            return describe(model, self.source)
        if problems := [*self._misspelt(model), *self._open_shape(model)]:
            raise SpecError(problems, where=f"the model {self.name} in the spec")
        input_shapes, head = self._input_shapes(model), read_head(model)
        model, start_nodes = self._prepared(model)
        har = work / "parsed.har"
        arguments = {
            "model": str(model),
            "name": self.name,
            "har": str(har),
            "hw_arch": self.hw_arch,
            "start_nodes": start_nodes,
            "end_nodes": list(self.end_nodes),
            "input_shapes": input_shapes,
        }
        run_step(place.toolchain, "parse", arguments, work, model=self.name, on_progress=place.on_progress)
        return describe(har, place.put(har, "har")).model_copy(update={"head": head})

    def ensures(self, result: Network) -> None:
        """List what keeps the network from taking part in a join."""
        if problems := list(self._problems(result)):
            raise InputError("\n".join(f"{self.name}: {problem}" for problem in problems))

    def _problems(self, result: Network) -> Iterator[str]:
        if result.hw_arch != self.hw_arch:
            yield f"the HAR was parsed for {result.hw_arch}, the spec is for {self.hw_arch}; parse it again"
        if result.sdk_version.endswith("-emulator") != (self.sdk.provider == "emulator"):
            yield (
                f"the HAR was made by SDK {result.sdk_version}, this build uses the {self.sdk.provider}; give the ONNX "
                "file, or build with the SDK that made the HAR"
            )
        if result.state != "hailo_model":
            yield (
                f"the HAR is in state {result.state}; a join with one shared input starts from parsed models "
                "(hailo_model), because it is quantized afterwards as one"
            )
        if len(result.scopes) != 1:
            yield f"the HAR holds {len(result.scopes)} networks ({', '.join(result.scopes)}); give one each"
        if len(result.inputs) != 1 or not result.outputs:
            names = ", ".join(tensor.original_name for tensor in result.inputs)
            yield (
                f"{len(result.inputs)} inputs ({names}) and {len(result.outputs)} outputs; a network that shares an "
                "image has one input. Choose start_nodes behind the other inputs"
            )

    def _prepared(self, model: Path) -> tuple[Path, list[str]]:
        """Return the file to parse and the nodes to start from: with the model's own preprocessing in front."""
        if self.preprocessing is None:
            return model, list(self.start_nodes)
        target = model.with_name(f"{self.name}.prepared.onnx")
        return target, prepare(model, target, self.preprocessing, self.start_nodes, self.input_shape)

    def _misspelt(self, model: Path) -> Iterator[Problem]:
        """Yield the start and end nodes that the file does not have; the SDK is not started for these."""
        if not (self.start_nodes or self.end_nodes):
            return
        graph = onnx_file.load(model).graph
        nodes = [node.name for node in graph.node]
        if not all(nodes) or not nodes:
            return  # only the SDK knows what it calls them
        node_of = {output: node.name for node in graph.node for output in node.output}
        for field, names in (("start_nodes", self.start_nodes), ("end_nodes", self.end_nodes)):
            for index, name in enumerate(names):
                if name not in nodes:
                    near = [node_of[name]] if name in node_of else difflib.get_close_matches(name, nodes, 1)
                    hint = f"did you mean {near[0]!r}?" if near else f"the last of its {len(nodes)} is {nodes[-1]!r}"
                    yield Problem(f"{field}[{index}]", f"{name!r} is no node of the ONNX file; {hint}")

    def _open_shape(self, model: Path) -> Iterator[Problem]:
        """Yield where the file leaves the size of its image open and the spec does not say it."""
        inputs = onnx_file.read(model).inputs
        if self.input_shape and len(inputs) != 1:
            yield Problem("input_shape", f"one shape for the {len(inputs)} inputs of {self.name}; leave it out")
        if self.input_shape or self.start_nodes or len(inputs) != 1:
            return
        shape = inputs[0].shape or AXES
        is_known = [isinstance(size, int) and size > 0 for size in shape]
        if len(shape) == len(AXES) and not all(is_known[1:]):
            sizes = [size if known else axis for size, known, axis in zip(shape, is_known, AXES, strict=True)]
            wanted = ", ".join(map(str, [1, *sizes[1:]]))
            left = ", ".join(map(str, shape))
            message = f"the file leaves {inputs[0].name} ({left}) open; say it: input_shape: [{wanted}]"
            yield Problem("input_shape", message)

    def _input_shapes(self, model: Path) -> dict[str, list[int]]:
        if not self.input_shape:
            return {}
        return {onnx_file.read(model).inputs[0].name: list(self.input_shape)}
