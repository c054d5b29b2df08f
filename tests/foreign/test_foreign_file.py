"""Reading other people's files: tensors only, and one clear error for everything else."""

from __future__ import annotations

import hashlib
import os
import shlex

import pytest
import safetensors.torch
import torch
from torch import nn

from rushkit.errors import CheckpointError, NumericsError
from rushkit.foreign.file import as_float32, read_foreign

TENSORS = {"fc.weight": torch.arange(6.0).view(2, 3), "fc.bias": torch.tensor([1.0, -1.0])}


class Opened:
    """An object that leaves a folder behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def saved(folder, content, name="weights.pt"):
    torch.save(content, folder / name)
    return folder / name


def test_a_plain_state_dict_of_either_kind_whatever_its_name(tmp_path):
    path = saved(tmp_path, TENSORS, "weights.ckpt")
    other = tmp_path / "weights.bin"
    safetensors.torch.save_file(TENSORS, other)
    for each in (path, other):
        found = read_foreign(each)
        assert found.origin.notes == []
        assert (found.origin.file, found.origin.sha256) == (str(each), hashlib.sha256(each.read_bytes()).hexdigest())
        assert found.tensors.keys() == TENSORS.keys()
        assert all(torch.equal(found.tensors[name], TENSORS[name]) for name in TENSORS)


@pytest.mark.parametrize("container", ["state_dict", "model_state_dict", "model", "net"])
def test_containers_are_seen_through_and_said(tmp_path, container):
    path = saved(tmp_path, {"epoch": 3, container: TENSORS, "optimizer": {"lr": 0.1}})
    found = read_foreign(path)
    assert found.tensors.keys() == TENSORS.keys()
    assert found.origin.notes == [f"the weights are taken from its {container!r}; not looked at: epoch, optimizer"]


def test_a_container_in_a_container(tmp_path):
    found = read_foreign(saved(tmp_path, {"model": {"state_dict": TENSORS}}))
    assert len(found.origin.notes) == 2


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32_and_counters_stay(tmp_path, kind):
    tensors = {name: tensor.to(kind) for name, tensor in TENSORS.items()} | {"count": torch.tensor(5)}
    found = read_foreign(saved(tmp_path, tensors))
    assert {name: tensor.dtype for name, tensor in found.tensors.items()} == {
        "fc.weight": torch.float32,
        "fc.bias": torch.float32,
        "count": torch.int64,
    }
    assert found.origin.notes == [f"2 tensors of {str(kind).removeprefix('torch.')} are converted to float32"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(tmp_path, value):
    path = saved(tmp_path, TENSORS | {"fc.bias": torch.tensor([value, 0.0])})
    with pytest.raises(NumericsError, match=r"fc\.bias"):
        read_foreign(path)


def test_a_pickled_object_is_not_run_and_its_conversion_works(tmp_path, monkeypatch):
    path = saved(tmp_path, {"state_dict": TENSORS, "note": Opened(tmp_path / "harm")})
    path = path.rename(tmp_path / 'it\'s "mine" $HOME.pt')
    with pytest.raises(CheckpointError, match="pickled objects") as caught:
        read_foreign(path)
    assert not (tmp_path / "harm").exists()
    line = caught.value.hint.splitlines()[-1]
    *command, code = shlex.split(line)
    assert command == ["python", "-c"]
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert (tmp_path / "harm").exists()
    assert read_foreign(tmp_path / f"{path.stem}-converted.pt").tensors.keys() == TENSORS.keys()


def test_a_whole_module_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"pickled objects beside tensors \(torch\.nn\.modules\.linear\.Linear\)"):
        read_foreign(saved(tmp_path, nn.Linear(2, 2)))


def test_a_plain_pickle_is_one_too(tmp_path):
    path = tmp_path / "weights.pkl"
    path.write_bytes(b"\x80\x04}.")
    with pytest.raises(CheckpointError, match=r"a pickle that torch\.save did not write"):
        read_foreign(path)


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
def test_torchscript(tmp_path):
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "script.pt")
    with pytest.raises(CheckpointError, match="TorchScript") as caught:
        read_foreign(tmp_path / "script.pt")
    assert "state_dict()" in caught.value.hint


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"  <!DOCTYPE html><html>", "web page"),
        (b"<html><body>404", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "Git LFS"),
        (b"\x00\x01" * 400, "neither a whole safetensors file nor a whole file of torch.save"),
        (b"a text\n" * 40, "neither a whole"),
        (b"P", "neither a whole"),
        (b"\x80\x02", "neither a whole|pickled objects"),
        (b"\x20\x00\x00\x00\x00\x00\x00\x00{" + b" " * 40, "not a whole safetensors file"),
    ],
)
def test_files_that_are_no_weights(tmp_path, content, says):
    path = tmp_path / "weights.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=says) as caught:
        read_foreign(path)
    assert str(path) in caught.value.message
    assert caught.value.hint


def test_what_state_dicts_have_beside_plain_tensors(tmp_path):
    """Tied and expanded tensors, views, tensors with attributes, and optimizer state beside them."""
    base = torch.arange(64.0)
    marked = torch.nn.Parameter(torch.ones(2))
    marked.tag = "a note"
    content = {
        "model": {"tied": base, "again": base, "view": base[8:16].view(2, 4), "wide": base[:1].expand(8), "p": marked},
        "optimizer": {"betas": (0.9, 0.999), "sizes": torch.Size([2, 3]), "kind": torch.float16, 3: {"x": None}},
    }
    read = read_foreign(saved(tmp_path, content))
    assert torch.equal(read.tensors["wide"], base[:1].expand(8))
    assert torch.equal(read.tensors["view"], base[8:16].view(2, 4))
    assert torch.equal(read.tensors["p"], torch.ones(2))


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
def test_files_that_are_cut_short(tmp_path, name):
    whole = tmp_path / name
    many = TENSORS | {"more": torch.zeros(5000)}
    safetensors.torch.save_file(many, whole) if name.endswith("s") else torch.save(many, whole)
    data = whole.read_bytes()
    for length in (5, 20, len(data) // 2, len(data) - 5):
        whole.write_bytes(data[:length])
        with pytest.raises(CheckpointError):
            read_foreign(whole)


@pytest.mark.parametrize("content", [{}, [TENSORS], {"epoch": 3}, torch.zeros(3), {"a": torch.zeros(2), "b": 1.0}])
def test_what_holds_no_state_dict(tmp_path, content):
    with pytest.raises(CheckpointError, match="no state dict"):
        read_foreign(saved(tmp_path, content))


@pytest.mark.parametrize(
    "odd", [torch.eye(2).to_sparse(), torch.ones(2, dtype=torch.complex64)], ids=["sparse", "complex"]
)
def test_a_tensor_that_is_no_dense_real_numbers(odd):
    with pytest.raises(CheckpointError, match=r"'odd' of weights\.pt .*not dense real numbers"):
        as_float32(TENSORS | {"odd": odd}, "weights.pt")


def test_a_file_from_before_torch_wrote_archives(tmp_path):
    torch.save(TENSORS, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    found = read_foreign(tmp_path / "old.pth")
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in TENSORS.items())


def test_no_file_and_a_folder(tmp_path):
    for path in (tmp_path / "nowhere.pt", tmp_path):
        with pytest.raises(CheckpointError, match="cannot be read"):
            read_foreign(path)
