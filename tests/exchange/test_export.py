"""What is exported computes the same, loaded by the very lines that were printed, and by onnxruntime."""

from __future__ import annotations

import json
import sys

import pytest
import safetensors
import torch
from tiny_runs import QUIET, checkpoint_of
from torch import nn

from rushkit.errors import CheckpointError, NumericsError, UsageError
from rushkit.exchange.export_onnx import export_onnx
from rushkit.exchange.export_timm import export_timm
from rushkit.exchange.exported import METADATA
from rushkit.exchange.part import check_target, compared, load_part
from rushkit.recipe import toml
from rushkit.recipe.load import load_recipe
from rushkit.setup import components, networks
from rushkit.setup.start import start_run
from rushkit.system import generator

MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.3, 0.1]
NORMALISED = (f"backbone.mean={MEAN}", f"backbone.std={STD}")


@pytest.fixture
def made(tmp_path):
    """``made("backbone.name=resnet18")``: a checkpoint of random weights, as fine-tuning writes it."""

    def make(*changes, stage="finetune"):
        recipe = load_recipe("digits", [f"system.runs_dir={tmp_path / 'runs'}", "data.image_size=16", *changes], {})
        objective = components.build_objective(recipe, recipe.finetune)
        network = networks.build_network(recipe, objective, (3, 16), 10)
        draws = generator(0, "statistics")
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.normal_(0, 0.1, generator=draws)
                layer.running_var.uniform_(0.5, 1.5, generator=draws)
        meta = {
            "stage": stage,
            "recipe": toml.dumps(recipe.resolved()),
            "image_size": 16,
            "classes": [f"class {index}" for index in range(10)],
        }
        with start_run("finetune", recipe, QUIET) as run:
            run.save_checkpoint(1, network.tensors(), meta)
        return checkpoint_of(run)

    return make


def images(count=3):
    return torch.rand(count, 3, 16, 16, generator=generator(1, "images"))


@pytest.mark.parametrize("part", ["classifier", "encoder"])
@pytest.mark.parametrize(
    "changes",
    [
        ("backbone.name=resnet18", *NORMALISED),
        ("backbone.name=resnet18", "backbone.stem=standard"),
        ("backbone.name=resnet18", "backbone.stem=padded"),
        ("backbone.name=resnet10-small",),
        ("backbone.name=resnet110",),
        ("backbone.name=timm/resnet10t", *NORMALISED),
        ("backbone.name=timm/vit_tiny_patch16_224", "backbone.depth=1"),
        ("backbone.name=torchvision/mobilenet_v3_small", *NORMALISED),
    ],
    ids=lambda changes: changes[0].partition("=")[2] + "+" * (len(changes) - 1),
)
@torch.no_grad()
def test_the_printed_lines_build_the_model(made, tmp_path, monkeypatch, changes, part):
    monkeypatch.chdir(tmp_path)
    exported = load_part(made(*changes), part)
    before = torch.get_rng_state()
    found = export_timm(exported, tmp_path / "model.safetensors")
    assert torch.equal(torch.get_rng_state(), before)
    namespace = {}
    with torch.random.fork_rng():
        exec("\n".join(found.load), namespace)
    x = images()
    seen = x
    if found.mean:
        seen = (x - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    torch.testing.assert_close(namespace["model"].eval()(seen), exported.module(x), rtol=1e-5, atol=1e-5)
    assert found.difference <= 1e-5
    with safetensors.safe_open(tmp_path / "model.safetensors", "pt") as file:
        stored = json.loads(file.metadata()[METADATA])
    assert stored["load"] == found.load
    assert (stored["mean"], stored["noise"]) == (found.mean, {"name": "uniform", "scale": 0.3})
    assert stored["classes"] == ([f"class {index}" for index in range(10)] if part == "classifier" else [])


def test_the_small_resnet_takes_three_lines_after_its_imports(made, tmp_path):
    lines = export_timm(load_part(made("backbone.name=resnet18")), tmp_path / "model.safetensors").load
    assert len([line for line in lines if not line.startswith("import")]) == 3


def test_a_model_of_timm_takes_one(made, tmp_path):
    path = tmp_path / "model.safetensors"
    lines = export_timm(load_part(made("backbone.name=timm/resnet10t")), path).load
    assert lines[1:] == [f"model = timm.create_model('resnet10t', num_classes=10, checkpoint_path={str(path)!r})"]


@pytest.mark.parametrize("part", ["classifier", "encoder"])
@torch.no_grad()
def test_onnxruntime_has_the_same_outputs_for_any_number_of_images(made, tmp_path, part):
    import onnxruntime

    exported = load_part(made("backbone.name=resnet10-small", *NORMALISED), part)
    found = export_onnx(exported, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (into,), (out,) = session.get_inputs(), session.get_outputs()
    assert (into.name, into.type, into.shape[1:]) == ("images", "tensor(float)", [3, 16, 16])
    assert out.name == ("logits" if part == "classifier" else "features")
    for count in (1, 2, 7):
        (theirs,) = session.run(None, {"images": images(count).numpy()})
        torch.testing.assert_close(torch.from_numpy(theirs), exported.module(images(count)), rtol=1e-4, atol=1e-5)
    stored = json.loads(session.get_modelmeta().custom_metadata_map[METADATA])
    assert (stored["part"], stored["mean"], stored["hash"]) == (part, MEAN, exported.checkpoint.hash)
    assert found.bytes == (tmp_path / "model.onnx").stat().st_size


def test_outputs_that_differ_leave_no_file(tmp_path):
    path = tmp_path / "model.onnx"
    ours = torch.tensor([[1.0, 2.0]])
    equal = torch.ones(2, 2)
    # The last one is equal wherever it is spread over the other.
    pairs = ((ours, ours + 1e-3), (ours, ours * float("nan")), (ours, ours[:, :1]), (equal, equal[:, :1]))
    for one, other in pairs:
        path.write_text("")
        with pytest.raises(NumericsError, match="gives other outputs"):
            compared(one, other, path)
        assert not path.exists()
    assert compared(ours, ours + 1e-5, path).difference == pytest.approx(1e-5, rel=0.1)


def test_a_backbone_of_a_plugin_has_no_lines_but_a_graph(made, tmp_path):
    part = load_part(made("backbone.name=toy"))
    with pytest.raises(UsageError, match="'toy' comes from") as caught:
        export_timm(part, tmp_path / "model.safetensors")
    assert "--format onnx" in caught.value.hint
    assert export_onnx(part, tmp_path / "model.onnx").difference < 1e-5


def test_a_backbone_that_neither_package_has_has_no_lines(made, tmp_path):
    part = load_part(made("backbone.name=preact-resnet18"))
    with pytest.raises(UsageError, match="neither timm nor torchvision can build backbone 'preact-resnet18'") as caught:
        export_timm(part, tmp_path / "model.safetensors")
    assert "--format onnx" in caught.value.hint


def test_without_a_classifier_the_encoder_is_exported(made):
    checkpoint = made("backbone.name=toy", stage="pretrain")
    assert load_part(checkpoint).name == "encoder"
    with pytest.raises(CheckpointError, match="has no classifier"):
        load_part(checkpoint, "classifier")


def test_a_missing_package_is_an_error_that_says_what_to_install(made, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UsageError) as caught:
        export_onnx(load_part(made("backbone.name=toy")), tmp_path / "model.onnx")
    assert caught.value.hint == "pip install 'rushkit[onnx]'"
    assert not (tmp_path / "model.onnx").exists()


def test_a_file_of_another_suffix_or_that_is_there(tmp_path):
    with pytest.raises(UsageError, match=r"does not end in \.onnx"):
        check_target(tmp_path / "model.pt", ".onnx", False)
    (tmp_path / "model.onnx").write_text("")
    with pytest.raises(UsageError, match="exists already"):
        check_target(tmp_path / "model.onnx", ".onnx", False)
    check_target(tmp_path / "model.onnx", ".onnx", True)
