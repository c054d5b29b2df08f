"""What people save beside weights, what they claim of them, and files that are of another kind altogether."""

from __future__ import annotations

import argparse
import io
import shlex
import tarfile
import types
import zipfile
from pathlib import PurePosixPath

import numpy as np
import pytest
import torch
from scipy.stats import binom
from torch import nn

from rushkit.errors import CheckpointError
from rushkit.foreign.bystanders import NumberType, numpy_number
from rushkit.foreign.claims import LEAST_PROBABILITY, chance_of_claim, claim_of
from rushkit.foreign.file import read_foreign
from rushkit.results.imported import Claim

TENSORS = {"fc.weight": torch.arange(6.0).view(2, 3), "fc.bias": torch.tensor([1.0, -1.0])}


class Meter:
    """A class of somebody's training script."""

    def __init__(self):
        self.mean = 3.0


def saved(folder, content, **options):
    path = folder / "weights.pt"
    torch.save(content, path, **options)
    return path


def assert_same_tensors(read):
    assert read.tensors.keys() == TENSORS.keys()
    assert all(torch.equal(read.tensors[name], tensor) for name, tensor in TENSORS.items())


@pytest.mark.parametrize("archive", [True, False])
@pytest.mark.parametrize(
    "beside",
    [
        argparse.Namespace(lr=0.1, arch="resnet18", deep=argparse.Namespace(x=[1, (2, 3)])),
        types.SimpleNamespace(lr=0.1),
        PurePosixPath("/a/b"),
        np.float64(0.25),
        np.int64(3),
        {1: {2: argparse.Namespace()}},
    ],
    ids=lambda value: type(value).__name__,
)
def test_settings_paths_and_numbers_beside_the_weights_are_passed_over(tmp_path, beside, archive):
    path = saved(tmp_path, {"net": TENSORS, "args": beside}, _use_new_zipfile_serialization=archive)
    assert_same_tensors(read_foreign(path))


def test_what_stands_in_for_an_object_keeps_nothing_of_it(tmp_path):
    harm = argparse.Namespace()
    vars(harm).update({"__class__": 1, "__setstate__": 2, "__reduce__": 3, 4: 5})
    assert_same_tensors(read_foreign(saved(tmp_path, {"net": TENSORS, "args": harm})))


@pytest.mark.parametrize(
    ("kind", "data", "number"),
    [
        ("f8", np.float64(1.5).tobytes(), 1.5),
        ("f4", np.float32(-2.5).tobytes(), -2.5),
        ("i8", np.int64(7).tobytes(), 7),
        ("f8", b"123", None),
        ("U99", b"12345678", None),
        ("O", b"12345678", None),
        (3, b"12345678", None),
        ("f8", "12345678", None),
    ],
)
def test_a_number_of_numpy_is_its_bytes(kind, data, number):
    assert numpy_number(NumberType(kind, False, True), data) == number


CONVERTED = [
    {"net": TENSORS, "args": Meter(), "acc": 91.5},
    {"state_dict": TENSORS, "meter": Meter()},
    {"model": {"state_dict": TENSORS}, "meter": Meter()},
    {"epoch": 3, "net": TENSORS, "optimizer": {"state": {0: {"step": Meter()}}}},
    {"network": nn.ModuleDict({"fc": nn.Linear(3, 2)})},
    nn.ModuleDict({"fc": nn.Linear(3, 2)}),
]


@pytest.mark.parametrize("content", CONVERTED, ids=range(len(CONVERTED)))
def test_the_line_that_converts_a_file_makes_one_that_is_read(tmp_path, monkeypatch, content):
    path = saved(tmp_path, content)
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match="pickled objects") as caught:
        read_foreign(path)
    monkeypatch.chdir(tmp_path)
    *command, code = shlex.split(caught.value.hint.splitlines()[-1])
    assert command == ["python", "-c"]
    exec(code, {})
    assert path.read_bytes() == before
    read = read_foreign(tmp_path / "weights-converted.pt")
    assert read.tensors.keys() == TENSORS.keys()
    if isinstance(content, dict) and "acc" in content:
        assert read.origin.claim == Claim(key="acc", accuracy=0.915)


def zipped(*names):
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        for name in names:
            archive.writestr(name, b"x" * 40)
    return whole.getvalue()


def tarred():
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("weights.pt"))
    return whole.getvalue()


def arrays():
    whole = io.BytesIO()
    np.savez(whole, **{name: tensor.numpy() for name, tensor in TENSORS.items()})
    return whole.getvalue()


def onnx_graph():
    onnx = pytest.importorskip("onnx")
    graph = onnx.helper.make_graph([], "empty", [], [])
    return onnx.helper.make_model(graph).SerializeToString()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (onnx_graph, "is an ONNX graph"),
        (lambda: b"\x08\x01\x12\x03abc\x12\x02de", "is a TensorFlow SavedModel"),
        (lambda: b"\x89HDF\r\n\x1a\n" + b"\0" * 80, "is an HDF5 file, as Keras writes"),
        (lambda: zipped("config.json", "model.weights.h5"), "is a Keras model"),
        (arrays, "is a file of numpy arrays"),
        (lambda: b"\x93NUMPY\x01\x00" + b" " * 60, "is one numpy array"),
        (lambda: b"\x1c\0\0\0TFL3" + b"\0" * 60, "is a TensorFlow Lite graph"),
        (lambda: zipped("readme.txt", "weights.pt"), "is a zip archive that torch.save did not write"),
        (lambda: b"\x1f\x8b\x08" + b"\0" * 60, "is a packed archive"),
        (tarred, "is a packed archive"),
    ],
)
def test_a_file_of_another_kind_is_called_what_it_is(tmp_path, content, says):
    path = tmp_path / "weights.pt"
    path.write_bytes(content())
    with pytest.raises(CheckpointError, match=says) as caught:
        read_foreign(path)
    assert caught.value.hint


@pytest.mark.parametrize(
    "data", [b"\x08", b"\x08\x08", b"\x08\x01" * 40, b"\x08\xff" + b"\xff" * 40, b"\x08\x01\x3a\x7f"]
)
def test_bytes_that_begin_as_a_graph_does_are_not_called_one(tmp_path, data):
    path = tmp_path / "weights.pt"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="neither a whole"):
        read_foreign(path)


def test_the_line_for_numpy_arrays_makes_a_file_that_is_read(tmp_path, monkeypatch):
    (tmp_path / "weights.npz").write_bytes(arrays())
    with pytest.raises(CheckpointError) as caught:
        read_foreign(tmp_path / "weights.npz")
    monkeypatch.chdir(tmp_path)
    exec(shlex.split(caught.value.hint.splitlines()[-1])[-1], {})
    assert_same_tensors(read_foreign(tmp_path / "weights-converted.pt"))


@pytest.mark.parametrize(
    ("beside", "claim"),
    [
        ({"best_prec1": 91.78}, ("best_prec1", 0.9178)),
        ({"acc": 0.5}, ("acc", 0.5)),
        ({"best_acc": torch.tensor(80.0), "epoch": 3}, ("best_acc", 0.8)),
        ({"best_acc": 95.0, "acc": 93.0}, ("acc", 0.93)),
        ({"Top1": 1}, ("Top1", 1.0)),
        ({"acc": 0.0, "best_acc1": 64}, ("best_acc1", 0.64)),
        ({"acc": 120.0}, None),
        ({"acc": float("nan")}, None),
        ({"acc": -1.0}, None),
        ({"acc": True}, None),
        ({"acc": "91.78"}, None),
        ({"acc": torch.ones(3)}, None),
        ({"robust_acc": 50.0, "loss": 0.3}, None),
    ],
)
def test_a_claim_is_a_share_or_per_cent_under_a_known_name(beside, claim):
    found = claim_of(beside)
    assert (found and (found.key, pytest.approx(found.accuracy))) == claim


def test_a_claim_of_numpys_is_read_from_the_file(tmp_path):
    read = read_foreign(saved(tmp_path, {"state_dict": TENSORS, "best_acc1": np.float64(91.78)}))
    assert read.origin.claim.accuracy == pytest.approx(0.9178)


def test_the_chance_of_a_claim_is_the_binomial_tail():
    for accuracy, correct, images in ((0.9178, 211, 500), (0.9178, 440, 500), (0.5, 10, 20), (0.1, 0, 3)):
        chance = chance_of_claim(Claim(key="acc", accuracy=accuracy), correct, images)
        assert chance == pytest.approx(binom.cdf(correct, images, accuracy), rel=1e-9, abs=1e-300)


def test_a_claim_of_all_right_is_not_refuted_by_one_wrong_answer():
    claim = Claim(key="acc", accuracy=1.0)
    assert chance_of_claim(claim, 499, 500) > 0.5
    assert chance_of_claim(claim, 480, 500) < LEAST_PROBABILITY
