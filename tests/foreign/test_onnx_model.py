"""ONNX files of somebody's: what they answer, and what of them is refused before anything runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from rushkit.errors import CheckpointError, UsageError
from rushkit.foreign.onnx_model import open_onnx

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402 - after the skip

X = torch.rand(5, 3, 2, 2, generator=torch.Generator().manual_seed(0))
WEIGHTS = np.arange(48, dtype=np.float32).reshape(12, 4) / 48
EXPECTED = X.flatten(1) @ torch.from_numpy(WEIGHTS)


def linear(
    path: str, shape=("n", 3, 2, 2), kind=TensorProto.FLOAT, domain="", weights=None, outputs=("logits",)
) -> Path:
    """A file whose model is linear; with several outputs they are the same."""
    nodes = [helper.make_node("Flatten", ["images"], ["flat"])]
    nodes += [helper.make_node("MatMul", ["flat", "w"], [name], domain=domain) for name in outputs]
    tensor = weights or numpy_helper.from_array(WEIGHTS.astype(helper.tensor_dtype_to_np_dtype(kind)), "w")
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("images", kind, shape)],
        [helper.make_tensor_value_info(name, kind, None) for name in outputs],
        [tensor],
    )
    sets = [helper.make_opsetid("", 17), *([helper.make_opsetid(domain, 1)] if domain else [])]
    Path(path).write_bytes(helper.make_model(graph, opset_imports=sets, ir_version=9).SerializeToString())
    return Path(path)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    place = tmp_path / "models"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


def beside(location: str):
    """The weights as a tensor whose numbers lie in another file."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[12, 4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    return tensor


@pytest.mark.parametrize("first", ["n", 1, 2, 5, 7])
def test_any_batch_goes_through_a_file_of_any_batch(first):
    torch.testing.assert_close(open_onnx(linear("net.onnx", (first, 3, 2, 2)))(X), EXPECTED)


@pytest.mark.parametrize("kind, slack", [(TensorProto.DOUBLE, 1e-6), (TensorProto.FLOAT16, 1e-2)])
def test_images_go_in_in_the_files_own_precision(kind, slack):
    logits = open_onnx(linear("net.onnx", kind=kind))(X)
    torch.testing.assert_close(logits.float(), EXPECTED, atol=slack, rtol=0)


def test_a_file_that_takes_channels_last_gets_them_so():
    logits = open_onnx(linear("net.onnx", ("n", 2, 2, 3)))(X)
    torch.testing.assert_close(logits, X.permute(0, 2, 3, 1).flatten(1) @ torch.from_numpy(WEIGHTS))


def test_several_outputs_keep_their_names():
    answers = open_onnx(linear("net.onnx", outputs=("features", "logits")))(X)
    assert list(answers) == ["features", "logits"]
    torch.testing.assert_close(answers["logits"], EXPECTED)


def test_weights_beside_the_file_are_read_and_are_part_of_its_hash():
    Path("w.bin").write_bytes(WEIGHTS.tobytes())
    first = open_onnx(linear("net.onnx", weights=beside("w.bin")))
    torch.testing.assert_close(first(X), EXPECTED)
    Path("w.bin").write_bytes((WEIGHTS + 1).tobytes())
    assert open_onnx("net.onnx").weights_sha256 != first.weights_sha256


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/hostname", "link.bin", "..\\secret.bin", ""])
def test_weights_elsewhere_are_not_read(location, folder):
    (folder.parent / "secret.bin").write_bytes(WEIGHTS.tobytes())
    (folder / "link.bin").symlink_to(folder.parent / "secret.bin")
    with pytest.raises(CheckpointError, match="outside of its folder"):
        open_onnx(linear("net.onnx", weights=beside(location)))


def test_weights_that_are_not_there_are_named():
    with pytest.raises(CheckpointError, match=r"gone\.bin, which is not there"):
        open_onnx(linear("net.onnx", weights=beside("gone.bin")))


def test_an_operator_that_is_not_onnxs_is_refused():
    with pytest.raises(CheckpointError, match=r"the operator MatMul of my\.ops"):
        open_onnx(linear("net.onnx", domain="my.ops"))


@pytest.mark.parametrize(
    "shape, kind, says",
    [
        (("n", 12), TensorProto.FLOAT, "not floating-point"),
        (("n", 3, 2, 2), TensorProto.INT64, "not floating-point"),
        (("n", 1, 12, 1), TensorProto.FLOAT, "takes images of shape"),
    ],
)
def test_a_file_that_takes_no_such_images_is_refused(shape, kind, says):
    with pytest.raises(UsageError, match=says):
        open_onnx(linear("net.onnx", shape, kind))(X)


@pytest.mark.parametrize("data", [b"", b"no onnx", b"\x08\x09", linear.__name__.encode() * 100])
def test_a_file_of_another_kind_is_said_to_be_one(data):
    Path("net.onnx").write_bytes(data)
    with pytest.raises(CheckpointError, match=r"net\.onnx is no"):
        open_onnx("net.onnx")


def test_a_torn_file_is_said_to_be_one():
    whole = linear("net.onnx").read_bytes()
    Path("net.onnx").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError):
        open_onnx("net.onnx")
