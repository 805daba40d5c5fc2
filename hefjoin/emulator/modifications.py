"""Reads the commands of a model script that change the network, and what the host does behind it.

The rule: a command is read into a step only if the step computes what the command means; else it is refused.

Sources: the forms that occur in the 714 public scripts of Hailo's Model Zoo; of `emulator_support`, Hailo's own
posts on NV12 inputs and the Model Zoo's `get_input_modifications`: only with True are frames packed in simulation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hefjoin.emulator import hn
from hefjoin.emulator.host import HostStep, Logits
from hefjoin.emulator.modify import FUNCTIONS, Activation, Color, Layout, Modification, Normalization, Resize
from hefjoin.emulator.nms import read_boxes
from hefjoin.emulator.reader import Reader, are_numbers, numbers
from hefjoin.formats.model_script import Command, Script, Word
from hefjoin.formats.model_script_files import named_file

CONVERSIONS: Mapping[str, tuple[str, str]] = {
    "bgr_to_rgb": ("", "bgr"),
    "yuv_to_rgb": ("", "yuv"),
    "nv12_to_rgb": ("nv12", "yuv"),
    "yuy2_to_rgb": ("yuy2", "yuv"),
    "nv12_to_hailo_yuv": ("nv12", ""),
    "yuy2_to_hailo_yuv": ("yuy2", ""),
    "tf_rgbx_to_hailo_rgb": ("rgbx", ""),
}
"""What each type of `input_conversion` does: unpack a layout, then convert a color."""
LOGITS = ("softmax", "argmax")
CPU = "cpu"
LINEAR = "linear"


class Modifications(Reader):
    """Reads modifications; `steps` and `host_steps` hold them in the order of the script."""

    def __init__(self, view: hn.Hn, merged: Mapping[str, str], files: Mapping[str, Any]) -> None:
        """Prepare for one network.

        Args:
            view: Its HN.
            merged: Input layers that a join took away.
            files: Content of the configurations that the script names, by the path it gives.
        """
        super().__init__(view, merged)
        self.files = files
        self.steps: list[Modification] = []
        self.host_steps: list[HostStep] = []
        self.warnings: list[str] = []
        self.not_emulated: list[str] = []
        self.on_merged: list[tuple[Command, Normalization]] = []
        self.feeding: list[str] = view["net_params"]["output_layers_order"]
        self.ends = list(hn.output_layers(view))

    def add_layers(self, script: Script) -> None:
        """Make the layers that the script adds known to its selectors, wherever in it they stand."""
        for command in script.commands:
            if command.name in ("normalization", "input_conversion", "resize", "logits_layer"):
                names = list(map(self.scoped, command.targets))
                self.layers += names
                if homeless := [name for name in names if name.partition("/")[0] not in self.scopes or "/" not in name]:
                    known = ", ".join(self.scopes)
                    self.refuse(command, f"makes {homeless[0]}; in a joined network a layer has a scope: {known}")

    def settle_merged_inputs(self) -> None:
        """Accept a normalization on an input that a join took away, where it repeats the survivor's."""
        for command, step in self.on_merged:
            survivor = self.merged[step.input]
            known = {i.input: (i.mean, i.std) for i in self.steps if isinstance(i, Normalization)}
            if known.get(survivor) != (step.mean, step.std):
                self.refuse(command, f"names {step.input}, which was joined into {survivor}, with other values")
            else:
                self.warnings.append(
                    f"{step.input} was joined into {survivor}; its equal normalization is passed over here. "
                    "What the DFC does with such a line is not known: name the surviving input only."
                )

    def _normalization(self, command: Command) -> None:
        if len(command.args) not in (2, 3) or not all(map(are_numbers, command.args[:2])):
            self.refuse(command, "takes [means], [standard deviations] and, optionally, an input layer")
            return
        mean, std = map(numbers, command.args[:2])
        named = self._inputs(command, 2, per_input=1)
        if named and min(std, default=0) <= 0:
            self.refuse(command, "needs standard deviations above zero")
            return
        for target, source in zip(command.targets, named, strict=False):
            step = Normalization(self.scoped(target), source, mean, std)
            if source in self.merged:
                self.on_merged.append((command, step))
            elif any(isinstance(known, Normalization) and known.input == source for known in self.steps):
                self.refuse(command, f"normalizes {source} a second time")
            else:
                self.steps.append(step)

    def _input_conversion(self, command: Command) -> None:
        kind = str(command.args[-1]) if command.args else ""
        if kind not in CONVERSIONS or len(command.args) > 2:
            self.refuse(command, f"takes an input layer and one of {', '.join(CONVERSIONS)}; has {kind or 'nothing'}")
            return
        layout, color = CONVERSIONS[kind]
        parts = [part for part in (layout, color) if part]
        support = command.get("emulator_support")
        if not layout and support is False:
            self.refuse(command, f"with {kind} is always emulated; drop emulator_support=False")
        named = self._inputs(command, 0, per_input=len(parts), surplus=1)
        if layout and named and support is not True:
            self.not_emulated.append(
                f"{command}: without emulator_support=True frames are given as they are behind the conversion"
            )
            return
        for index, source in enumerate(named):
            targets = [self.scoped(name) for name in command.targets[index * len(parts) :][: len(parts)]]
            if color:
                self.steps.append(Color(targets[-1], source, color))
            if layout:
                self.steps.append(Layout(targets[0], source, layout))

    def _resize(self, command: Command) -> None:
        sizes = command.get("resize_shapes")
        method, engine = command.get("resize_method", Word("bilinear")), command.get("engine", Word("nn_core"))
        if not (are_numbers(sizes, 2) and all(isinstance(size, int) and size > 0 for size in _items(sizes))):
            self.refuse(command, "needs resize_shapes=[height, width], whole numbers above zero")
        elif method != "bilinear" or engine != "nn_core":
            self.refuse(command, f"is emulated as bilinear on nn_core only, not {method} on {engine}")
        elif len(command.args) > 1:
            self.refuse(command, "takes one input layer at most")
        else:
            height, width = (int(size) for size in numbers(sizes))
            for target, source in zip(command.targets, self._inputs(command, 0, per_input=1), strict=False):
                self.steps.append(Resize(self.scoped(target), source, height, width))

    def _inputs(self, command: Command, at: int, per_input: int, surplus: int = 0) -> list[str]:
        """Return the input layers that a command is for: the one named in place `at`, else all.

        Args:
            command: It names `per_input` layers for each of them.
            at: Place of the input layer among the arguments.
            per_input: Layers made for each input.
            surplus: Arguments behind the layer.
        """
        has_name = len(command.args) - surplus > at
        named = [self.scoped(command.args[at])] if has_name else list(self.inputs)
        allowed = [*self.inputs, *(self.merged if command.name == "normalization" else ())]
        if unknown := [name for name in named if name not in allowed]:
            self.refuse(command, f"names {unknown[0]}; the input layers are {', '.join(self.inputs)}")
        elif len(named) * per_input != len(command.targets):
            each = "" if per_input == 1 else f", {per_input} each"
            self.refuse(command, f"makes {len(command.targets)} layers for {len(named)} inputs{each}")
        elif taken := [name for name in map(self.scoped, command.targets) if self.layers.count(name) > 1]:
            self.refuse(command, f"makes {taken[0]}, and there is a layer of that name")
        else:
            return named
        return []

    def _change_output_activation(self, command: Command) -> None:
        function = str(command.args[-1]) if command.args else ""
        if function not in (*FUNCTIONS, LINEAR) or len(command.args) > 2:
            known = ", ".join((*FUNCTIONS, LINEAR))
            self.refuse(command, f"takes an output's layer, or none for all, and one of {known}; has {function}")
            return
        outputs = list(range(len(self.feeding)))
        if len(command.args) == 2:
            items = command.args[0] if isinstance(command.args[0], tuple) else (command.args[0],)
            outputs = [index for item in items for index in self._outputs(command, item)]
        for index in outputs:
            self._activate(command, index, function)

    def _activate(self, command: Command, index: int, function: str) -> None:
        layer = self.feeding[index]
        params = self.view["layers"].get(layer, {}).get("params", {})
        has = str(params.get("activation", LINEAR))
        if any(isinstance(step, Activation) and step.output == index for step in self.steps):
            self.refuse(command, f"changes the activation of {layer} a second time")
        elif has == function:
            return
        elif has != LINEAR:
            self.refuse(command, f"cannot replace the {has} of {layer}: cut the model before it, or leave it as it is")
        else:
            self.steps.append(Activation(index, function))

    def _outputs(self, command: Command, name: object) -> list[int]:
        """Return the places of the outputs that a layer feeds, or that an output layer is."""
        wanted = self.scoped(name)
        found = [i for i, pair in enumerate(zip(self.feeding, self.ends, strict=True)) if wanted in pair]
        if not found:
            self.refuse(command, f"names {wanted}, which feeds no output; {', '.join(self.feeding)} do")
        return found

    def _logits_layer(self, command: Command) -> None:
        if len(command.args) != 4 or len(command.targets) != 1:
            self.refuse(command, "is written as `x = logits_layer(layer, softmax, -1, cpu)`")
            return
        name, function, axis, engine = command.args
        found = self._outputs(command, name)
        if str(function) not in LOGITS:
            self.refuse(command, f"takes {' or '.join(LOGITS)}, has {function}")
        elif axis not in (-1, len(self._shape(found[0])) - 1 if found else -1):
            self.refuse(command, f"works along the features (axis -1), not along axis {axis}")
        elif engine != CPU:
            self.refuse(command, f"is emulated on the host, with engine {CPU}, not {engine}")
        elif len(found) == 1:
            self._add_host_step(command, Logits(self.scoped(command.targets[0]), found[0], str(function)))

    def _nms_postprocess(self, command: Command) -> None:
        path = named_file(command)
        if path not in self.files:
            self.refuse(command, "needs a configuration: the emulator does not guess boxes from a network's shape")
            return
        try:
            boxes = read_boxes(command, self.files[path], self.outputs_by_name())
        except ValueError as error:
            self.refuse(command, str(error))
        else:
            self._add_host_step(command, boxes)

    def outputs_by_name(self) -> dict[str, tuple[int, list[int]]]:
        """Return place and shape (height, width, features) of each output, by the layer that feeds it."""
        names = {layer: index for index, layer in enumerate(self.feeding)}
        if len(self.scopes) == 1:
            names |= {layer.partition("/")[2]: index for layer, index in names.items()}
        return {name: (index, self._shape(index)[1:]) for name, index in names.items()}

    def _shape(self, output: int) -> list[int]:
        shape: list[int] = self.view["layers"][self.ends[output]]["output_shapes"][0]
        return shape

    def _add_host_step(self, command: Command, step: HostStep) -> None:
        taken = {index for known in self.host_steps for index in known.outputs}
        if taken & set(step.outputs):
            self.refuse(command, "takes an output that another command has taken")
        elif self.layers.count(step.target) > isinstance(step, Logits):
            self.refuse(command, f"makes {step.target}, and there is a layer of that name")
        else:
            self.host_steps.append(step)


def _items(value: object) -> tuple[object, ...]:
    return value if isinstance(value, tuple) else ()
