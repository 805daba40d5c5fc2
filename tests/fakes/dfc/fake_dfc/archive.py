"""Read and write a HAR as a DFC 3.33 does, with members of our own for what the vendor's code rebuilds from weights.

Members are `<model name><suffix>`. Ours are `.fake.json` and `.fake.<form>.onnx`, the graphs that run here.
"""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from fake_dfc.network import Network
from fake_dfc.optimization import Encoding

OWN = ".fake.json"


@dataclass
class Content:
    """What a runner keeps in a HAR."""

    hw_arch: str
    state: str
    native: Network
    fp: Network | None
    quantized: Network | None
    codes: dict[str, Encoding]
    statistics: dict[str, dict[str, list[float]]]
    hef: bytes | None
    script: list[str]
    configs: dict[str, Any]
    auto_script: str


def save(path: str | Path, content: Content, weights: dict[str, Any], sdk_version: str) -> None:
    """Write a HAR."""
    name = content.native.hn["name"]
    forms = {"native": content.native, "fp": content.fp, "quantized": content.quantized}
    present = {form: network for form, network in forms.items() if network is not None}
    own = {
        **{"codes": content.codes, "statistics": content.statistics, "script": content.script},
        "configs": content.configs,
        "hn": {form: network.hn for form, network in present.items()},
    }
    current = list(present.values())[-1]
    members = {
        ".hn": json.dumps(current.hn).encode(),
        ".npz": _npz(weights),
        ".original_model_meta.json": json.dumps(_origin(content.native)).encode(),
        OWN: json.dumps(own).encode(),
        **{f".fake.{form}.onnx": network.model.SerializeToString() for form, network in present.items()},
    }
    if content.script:
        members[".alls"] = "\n".join(content.script).encode()
    if content.fp is not None:
        members |= {".native.hn": json.dumps(content.native.hn).encode(), ".fpo.npz": _npz(weights)}
    if content.quantized is not None:
        members |= {".fp.hn": json.dumps(content.fp.hn if content.fp else {}).encode(), ".q.npz": _npz(weights)}
    if content.hef is not None:
        members |= {".hef": content.hef, ".auto.alls": content.auto_script.encode()}
    metadata = {
        **{"state": content.state, "force_weightless_model": False, "model_name": name, "sdk_version": sdk_version},
        **{"hw_arch": content.hw_arch, "hn": f"{name}.hn", "params": f"{name}.npz"},
        "original_model_meta": f"{name}.original_model_meta.json",
    }
    with tarfile.open(path, "w") as archive:
        for suffix, body in {**members, ".metadata.json": json.dumps(metadata).encode()}.items():
            entry = tarfile.TarInfo(f"{name}{suffix}")
            entry.size = len(body)
            archive.addfile(entry, io.BytesIO(body))


def load(path: str | Path) -> Content:
    """Read a HAR.

    Raises:
        ValueError: It was written by something else, so there is nothing that runs here.
    """
    with tarfile.open(path, "r:*") as archive:
        streams = {item.name: archive.extractfile(item) for item in archive if item.isfile()}
        data = {name: stream.read() for name, stream in streams.items() if stream is not None}
    name = next((item.removesuffix(".metadata.json") for item in data if item.endswith(".metadata.json")), None)
    if name is None or f"{name}{OWN}" not in data:
        raise ValueError(f"{path} was not written by this stand-in for the DFC, which runs no other HAR")
    metadata, own = json.loads(data[f"{name}.metadata.json"]), json.loads(data[f"{name}{OWN}"])
    forms = {
        form: Network(onnx.load_from_string(data[f"{name}.fake.{form}.onnx"]), hn) for form, hn in own["hn"].items()
    }
    return Content(
        hw_arch=metadata["hw_arch"],
        state=metadata["state"],
        native=forms["native"],
        fp=forms.get("fp"),
        quantized=forms.get("quantized"),
        codes=own["codes"],
        statistics=own["statistics"],
        hef=data.get(f"{name}.hef"),
        script=own["script"],
        configs=own["configs"],
        auto_script=data.get(f"{name}.auto.alls", b"").decode(),
    )


def _npz(arrays: dict[str, Any]) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def _origin(network: Network) -> dict[str, Any]:
    """Return what is kept of the original model: which of its tensors became which input and output."""
    inputs = [layer["original_names"][0] for layer in network.layers("input_layer").values()]
    outputs = [layer["original_names"][0] for layer in network.layers("output_layer").values()]
    return {
        "preprocess_io_map": {name: f"input{index}" for index, name in enumerate(inputs)},
        "inverse_postprocess_io_map": {name: f"output{index}" for index, name in enumerate(outputs)},
        "is_supported_model": True,
        "framework": "ONNX",
    }
