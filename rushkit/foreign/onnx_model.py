"""Run an ONNX file of somebody's through onnxruntime: a model that answers, and has no gradient.

Of the file only operators of ONNX run. Weights beside it are read from its own folder alone.
"""

from __future__ import annotations

import hashlib
import importlib
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rushkit.errors import CheckpointError, UsageError, first_few, shorten
from rushkit.paths import open_file, read_file, reason

# A file of ONNX is one message of protobuf, which ends at 2 GiB.
_MOST_BYTES = (1 << 31) - 1
# What the weights beside it may have in all.
_MOST_BESIDE = 1 << 34
# The operators of ONNX, and those that onnxruntime brings itself.
_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
_KINDS = {"tensor(float)": torch.float32, "tensor(float16)": torch.float16, "tensor(double)": torch.float64}
# Graphs in graphs, by operators such as If and Loop.
_DEEPEST = 16


class OnnxModel(nn.Module):
    """A session of onnxruntime as a torch module.

    Args:
        session: An open session with one input of images.
        name: What messages call it.
        weights_sha256: Hash of the weights beside its file; "" if there are none.
    """

    def __init__(self, session: Any, name: str, weights_sha256: str = "") -> None:
        super().__init__()
        self.weights_sha256 = weights_sha256
        self._session = session
        self._name = name
        inputs = session.get_inputs()
        if len(inputs) != 1:
            names = first_few([shorten(each.name, 40) for each in inputs], 5)
            raise UsageError(f"{name} takes {len(inputs)} inputs ({names}), and images are one", "export it with one")
        (self._input,) = inputs
        if self._input.type not in _KINDS or len(self._input.shape) != 4:
            raise UsageError(
                f"{name} takes {self._input.type} of shape {_dims(self._input.shape)}, not floating-point (N, C, H, W)",
                "export it so that pixels in [0, 1] go in as real numbers",
            )
        self._outputs = [output.name for output in session.get_outputs()]
        self.training = False

    def forward(self, x: Tensor) -> dict[str, Tensor] | Tensor:
        """Return the outputs by name for images (N, C, H, W), or the only one.

        Raises:
            UsageError: the file takes images of another size, or with other channels.
        """
        channels_last = self._channels_last(tuple(x.shape))
        pixels = x.detach().to("cpu", _KINDS[self._input.type])
        images = (pixels.permute(0, 2, 3, 1) if channels_last else pixels).contiguous().numpy()
        fixed = self._input.shape[0]
        size = fixed if isinstance(fixed, int) and fixed > 0 else len(images)
        answers = [self._batch(images[start : start + size], size) for start in range(0, len(images), size)]
        parts = {
            name: torch.from_numpy(np.concatenate(rows)).to(x.device)
            for name, rows in zip(self._outputs, zip(*answers, strict=True), strict=True)
        }
        return parts if len(parts) > 1 else next(iter(parts.values()))

    def _batch(self, images: Any, size: int) -> list[Any]:
        """Return the outputs for at most ``size`` images; a fixed batch is filled up with the last image."""
        lacking = size - len(images)
        padded = np.concatenate([images, np.repeat(images[-1:], lacking, axis=0)]) if lacking else images
        outputs = self._session.run(None, {self._input.name: padded})
        for name, output in zip(self._outputs, outputs, strict=True):
            if not isinstance(output, np.ndarray) or output.dtype.kind not in "biuf" or output.shape[:1] != (size,):
                shape = getattr(output, "shape", type(output).__name__)
                raise UsageError(
                    f"the output {shorten(name, 40)} of {self._name} is {shape} for {size} images",
                    "each output has one row an image",
                )
        return [output[: len(images)] for output in outputs]

    def _channels_last(self, shape: tuple[int, ...]) -> bool:
        """Return whether the file takes (N, H, W, C). Raises UsageError if it takes images of another shape."""
        first, last = shape[1:], (*shape[2:], shape[1])
        for dims, is_last in ((first, False), (last, True)):
            if all(
                not isinstance(own, int) or own == ours for own, ours in zip(self._input.shape[1:], dims, strict=True)
            ):
                return is_last
        raise UsageError(
            f"{self._name} takes images of shape {_dims(self._input.shape[1:])}, and gets {_dims(first)}",
            "--input-size N resizes the images to N x N; channels are those of the data",
        )


def open_onnx(path: str | Path) -> OnnxModel:
    """Open an ONNX file after a look at everything in it.

    Raises:
        UsageError: onnxruntime is missing, or the file takes no images.
        CheckpointError: the file is damaged, too large, has operators that are not ONNX's, or names files elsewhere.
    """
    onnx, onnxruntime = _packages()
    path = Path(path)
    try:
        data = read_file(path, _MOST_BYTES + 1)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {reason(error)}", "check the path") from error
    if len(data) > _MOST_BYTES:
        raise CheckpointError(f"{path} is larger than 2 GiB", "an ONNX file is not: keep its weights beside it")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except Exception as error:
        raise CheckpointError(f"{path} is no whole ONNX file: {reason(error)}", "export it again") from error
    if not model.graph.node:
        raise CheckpointError(f"{path} is no ONNX file, or one without a graph", "export it again")
    beside = _check_graph(model, path)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    try:
        # From the bytes that were looked at, unless there are weights beside them.
        source: Any = str(path) if beside else data
        session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise CheckpointError(f"onnxruntime cannot run {path}: {reason(error)}", "export it again") from error
    return OnnxModel(session, path.name, _hash(beside))


def _hash(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with open_file(file) as opened:
            while block := opened.read(1 << 24):
                digest.update(block)
    return digest.hexdigest() if files else ""


def _packages() -> tuple[Any, Any]:
    try:
        return importlib.import_module("onnx"), importlib.import_module("onnxruntime")
    except ImportError as error:
        raise UsageError(f"an ONNX file needs more packages: {error}", "pip install 'rushkit[onnx]'") from error


def _check_graph(model: Any, path: Path) -> list[Path]:
    """Check operators and tensors of all graphs of a file, and return the files of weights beside it.

    Raises:
        CheckpointError: an operator that is not ONNX's, a file outside of its folder, or more weights than are read.
    """
    known = {*_DOMAINS, *(function.domain for function in model.functions)}
    beside: set[Path] = set()
    for part in _parts(model.graph, model.functions):
        for node in part.node:
            if node.domain not in known:
                raise CheckpointError(
                    f"{path} has the operator {shorten(node.op_type, 40)} of {shorten(node.domain, 40)}, which is code "
                    "that the file does not hold",
                    "export it with the operators of ONNX alone",
                )
        beside |= {_beside(tensor, path) for tensor in _tensors(part) if tensor.external_data}
    size = sum(file.stat().st_size for file in beside)
    if size > _MOST_BESIDE:
        raise CheckpointError(f"the weights beside {path} have {size} bytes", f"read are {_MOST_BESIDE} at most")
    return sorted(beside)


def _beside(tensor: Any, path: Path) -> Path:
    """Return the file that has a tensor's numbers. Raises CheckpointError unless it lies in the folder of the model."""
    where = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
    folder = Path(os.path.realpath(path.parent))
    file = Path(os.path.realpath(folder / where))
    pure = PurePosixPath(where.replace("\\", "/"))
    if not where or pure.is_absolute() or ".." in pure.parts or not file.is_relative_to(folder):
        raise CheckpointError(
            f"{path} has weights in {shorten(where) or 'no file'}, outside of its folder",
            "weights lie beside their file",
        )
    if not file.is_file():
        raise CheckpointError(f"{path} has weights in {shorten(where)}, which is not there", "copy the file beside it")
    return file


def _parts(graph: Any, functions: Any) -> Iterator[Any]:
    """Yield a graph, those inside it, and the file's own functions with theirs."""
    parts = [(graph, 0), *((function, 0) for function in functions)]
    while parts:
        part, depth = parts.pop()
        if depth > _DEEPEST:
            raise CheckpointError(f"the ONNX file has more than {_DEEPEST} graphs in one another", "export it again")
        yield part
        for node in part.node:
            for attribute in node.attribute:
                inside = (attribute.g, *attribute.graphs)
                parts += [(inner, depth + 1) for inner in inside if inner.node or inner.initializer]


def _tensors(part: Any) -> Iterator[Any]:
    """Yield the tensors of a graph or a function, but for those of graphs inside it."""
    yield from getattr(part, "initializer", ())
    sparse = [*getattr(part, "sparse_initializer", ())]
    for node in part.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            sparse += [attribute.sparse_tensor, *attribute.sparse_tensors]
    for tensor in sparse:
        yield from (tensor.values, tensor.indices)


def _dims(shape: Any) -> str:
    return f"({', '.join(shorten(str(part), 12) for part in shape)})"
