"""Networks of public code for CIFAR, written out here under its names: their weights import, and give their logits."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from rushkit.errors import CheckpointError, UsageError
from rushkit.exchange.plan import import_recipe, plan_import
from rushkit.exchange.rules import Rules
from rushkit.foreign.file import read_foreign
from rushkit.models.network import build_backbone
from rushkit.setup import components, networks
from rushkit.system import generator

SIZE = 16


def convolution(inputs, outputs, side=3, stride=1, padding=None):
    return nn.Conv2d(inputs, outputs, side, stride, side // 2 if padding is None else padding, bias=False)


class Basic(nn.Module):
    """A block of a CIFAR ResNet: without weights around it where it is ``bare``, else a projection of a name."""

    def __init__(self, inputs, outputs, stride, bare, around):
        super().__init__()
        self.conv1, self.bn1 = convolution(inputs, outputs, 3, stride), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = convolution(outputs, outputs), nn.BatchNorm2d(outputs)
        self.stride, self.zeros, self.around = stride, outputs // 4, around
        if stride > 1 and not bare:
            projection = nn.Sequential(convolution(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))
            self.add_module(around, projection)

    def forward(self, x):
        change = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.around in dict(self.named_children()):
            x = self.get_submodule(self.around)(x)
        elif self.stride > 1:
            x = x[:, :, ::2, ::2]
            zeros = torch.zeros(len(x), self.zeros, *x.shape[2:])
            x = torch.cat([zeros, x, zeros], dim=1)
        return F.relu(x + change)


class CifarResNet(nn.Module):
    def __init__(self, blocks, bare, around="shortcut", head="linear"):
        super().__init__()
        self.conv1, self.bn1, self.head = convolution(3, 16), nn.BatchNorm2d(16), head
        before = 16
        for number, width in enumerate((16, 32, 64), 1):
            stage = [Basic(before, width, 1 if number == 1 else 2, bare, around)]
            stage += [Basic(width, width, 1, bare, around) for _ in range(blocks - 1)]
            self.add_module(f"layer{number}", nn.Sequential(*stage))
            before = width
        self.add_module(head, nn.Linear(64, 10))

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.get_submodule(self.head)(x.mean(dim=(2, 3)))


class PreActBlock(nn.Module):
    def __init__(self, inputs, outputs, stride, plain):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), convolution(inputs, outputs, 3, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(outputs), convolution(outputs, outputs)
        self.plain, self.changes = plain, stride > 1 or inputs != outputs
        if self.changes:
            self.shortcut = nn.Sequential(convolution(inputs, outputs, 1, stride))

    def forward(self, x):
        activated = F.relu(self.bn1(x))
        around = self.shortcut(x if self.plain else activated) if self.changes else x
        return self.conv2(F.relu(self.bn2(self.conv1(activated)))) + around


class PreActResNet18(nn.Module):
    def __init__(self, plain=False, last_norm=False):
        super().__init__()
        self.conv1, before = convolution(3, 64), 64
        for number, width in enumerate((64, 128, 256, 512), 1):
            first = PreActBlock(before, width, 1 if number == 1 else 2, plain)
            self.add_module(f"layer{number}", nn.Sequential(first, PreActBlock(width, width, 1, plain)))
            before = width
        if last_norm:
            self.bn = nn.BatchNorm2d(512)
        self.last_norm, self.linear = last_norm, nn.Linear(512, 10)

    def forward(self, x):
        x = self.conv1(x)
        for number in range(1, 5):
            x = self.get_submodule(f"layer{number}")(x)
        x = F.relu(self.bn(x)) if self.last_norm else x
        return self.linear(x.mean(dim=(2, 3)))


class WideBlock(nn.Module):
    """A block of TRADES: the activated input goes around it where the channels change."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), convolution(inputs, outputs, 3, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(outputs), convolution(outputs, outputs)
        self.convShortcut = None if inputs == outputs else convolution(inputs, outputs, 1, stride)

    def forward(self, x):
        activated = F.relu(self.bn1(x))
        change = self.conv2(F.relu(self.bn2(self.conv1(activated))))
        return change + (x if self.convShortcut is None else self.convShortcut(activated))


class WideStage(nn.Module):
    def __init__(self, inputs, outputs, stride, blocks):
        super().__init__()
        others = (WideBlock(outputs, outputs, 1) for _ in range(blocks - 1))
        self.layer = nn.Sequential(WideBlock(inputs, outputs, stride), *others)

    def forward(self, x):
        return self.layer(x)


class WideResNet(nn.Module):
    def __init__(self, blocks, width, unused=False):
        super().__init__()
        self.conv1 = convolution(3, 16)
        self.block1 = WideStage(16, 16 * width, 1, blocks)
        if unused:
            self.sub_block1 = WideStage(16, 16 * width, 1, blocks)
        self.block2, self.block3 = (WideStage(n * width, 2 * n * width, 2, blocks) for n in (16, 32))
        self.bn1, self.fc = nn.BatchNorm2d(64 * width), nn.Linear(64 * width, 10)

    def forward(self, x):
        x = F.relu(self.bn1(self.block3(self.block2(self.block1(self.conv1(x))))))
        return self.fc(x.mean(dim=(2, 3)))


def with_statistics(model):
    """In eval mode, with norms that do something."""
    draws = generator(0, "known")
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.normal_(0, 0.1, generator=draws)
                layer.running_var.uniform_(0.5, 1.5, generator=draws)
                layer.weight.uniform_(0.5, 1.5, generator=draws)
                layer.bias.normal_(0, 0.1, generator=draws)
    return model.eval()


@pytest.fixture
def made(tmp_path, monkeypatch):
    """``made(model, "resnet20")``: the plan of an import of its weights."""
    monkeypatch.chdir(tmp_path)

    def planned(state, backbone, *changes):
        torch.save({"net": state, "epoch": 1}, tmp_path / "weights.pt")
        recipe = import_recipe("theirs", "digits", backbone, [f"data.image_size={SIZE}", "system.device=cpu", *changes])
        return plan_import(recipe, read_foreign(tmp_path / "weights.pt"), Rules())

    return planned


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@torch.no_grad()
def assert_same_logits(plan, model):
    objective = components.build_objective(plan.recipe, plan.recipe.finetune)
    network = networks.build_network(plan.recipe, objective, (3, SIZE), 10).eval()
    network.load_state_dict(plan.tensors)
    x = torch.rand(3, 3, SIZE, SIZE, generator=generator(1, "images"))
    torch.testing.assert_close(network(x), model(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "blocks"), [("resnet20", 3), ("resnet32", 5), ("resnet56", 9)])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_cifar_resnet_without_weights_around_its_blocks(made, name, blocks, prefix):
    model = with_statistics(CifarResNet(blocks, bare=True))
    plan = made({f"{prefix}{key}": tensor for key, tensor in model.state_dict().items()}, name)
    assert plan.recipe.backbone.options == {"shortcut": "padded"}
    assert "the file has no weights of shortcuts: backbone.shortcut is padded" in plan.origin.notes
    assert_same_logits(plan, model)


@pytest.mark.parametrize(("around", "head"), [("shortcut", "linear"), ("downsample", "fc")])
def test_a_cifar_resnet_with_projections(made, around, head):
    model = with_statistics(CifarResNet(7, bare=False, around=around, head=head))
    plan = made(model.state_dict(), "resnet44")
    assert plan.recipe.backbone.options == {}
    assert_same_logits(plan, model)


def test_the_preact_resnet_of_pytorch_cifar_has_no_norm_behind_its_blocks(made):
    model = with_statistics(PreActResNet18())
    plan = made(model.state_dict(), "preact-resnet18")
    assert plan.recipe.backbone.options == {"last_norm": False}
    assert_same_logits(plan, model)


@pytest.mark.parametrize("plain", [True, False])
def test_a_preact_resnet_of_robustbench(made, plain):
    model = with_statistics(PreActResNet18(plain, last_norm=True))
    changes = ("backbone.shortcut_input=plain",) if plain else ()
    plan = made(model.state_dict(), "preact-resnet18", *changes)
    assert "the names are those of the PreActResNets of pytorch-cifar" in plan.origin.notes
    assert_same_logits(plan, model)


@pytest.mark.parametrize("unused", [True, False])
def test_a_wide_resnet_of_trades_and_robustbench(made, unused):
    model = with_statistics(WideResNet(2, 2, unused))
    plan = made(model.state_dict(), "wrn", "backbone.depth=16", "backbone.width=2")
    (note,) = (note for note in plan.origin.notes if "TRADES" in note)
    assert ("sub_block1.* is left out" in note) == unused
    assert_same_logits(plan, model)


def deepminds(state):
    """Our tensors of a wide ResNet under DeepMind's names."""
    rules = {
        r"^conv1\.": "init_conv.",
        r"^bn\.": "batchnorm.",
        r"^layer(\d)\.": lambda match: f"layer.{int(match[1]) - 1}.block.",
        r"\.(bn|conv)(\d)\.": lambda match: f".{match[1].replace('bn', 'batchnorm')}_{int(match[2]) - 1}.",
    }
    named = {}
    for name, tensor in state.items():
        for pattern, replacement in rules.items():
            name = re.sub(pattern, replacement, name)
        named[name] = tensor
    return named | {"logits.weight": torch.ones(10, 64), "logits.bias": torch.zeros(10)}


def test_deepminds_wide_resnet_has_its_padding_and_asks_for_the_activation(made):
    size = {"depth": 10, "width": 1}
    options = size | {"activation": "silu", "variant": "deepmind"}
    encoder = with_statistics(build_backbone("wrn", options, 3, SIZE, 0))
    state = deepminds(encoder.state_dict())
    changes = [f"backbone.{key}={value}" for key, value in size.items()]
    with pytest.raises(UsageError, match="do not show the activation") as caught:
        made(state, "wrn", *changes)
    assert "backbone.activation=silu" in caught.value.hint
    plan = made(state, "wrn", *changes, "backbone.activation=silu")
    assert plan.recipe.backbone.options == options
    assert all(torch.equal(plan.tensors[f"encoder.{name}"], tensor) for name, tensor in encoder.state_dict().items())


class TestAnotherNetwork:
    @pytest.mark.parametrize(
        ("model", "flags"),
        [
            (lambda: CifarResNet(9, bare=True), "--backbone resnet56"),
            (lambda: CifarResNet(18, bare=False), "--backbone resnet110"),
            (lambda: PreActResNet18(), "--backbone preact-resnet18"),
            (lambda: WideResNet(1, 3), "--backbone wrn --set backbone.depth=10 --set backbone.width=3"),
        ],
    )
    def test_the_network_that_they_fit_is_named(self, made, model, flags):
        with pytest.raises(CheckpointError) as caught:
            made(model().state_dict(), "resnet18")
        assert caught.value.hint == f"they fit another backbone: {flags}"

    def test_no_rename_is_offered_where_no_shapes_fit(self, made):
        layers = [nn.Conv2d(3, 24, 5), nn.BatchNorm2d(24), nn.Conv2d(24, 48, 5), nn.BatchNorm2d(48)]
        model = nn.ModuleDict({"layer1": nn.Sequential(*layers), "fc": nn.Linear(48, 10)})
        with pytest.raises(CheckpointError) as caught:
            made(model.state_dict(), "resnet18")
        assert "--rename" not in caught.value.hint
        assert caught.value.hint.startswith("these are weights of another network")
        assert "--model FILE.py:NAME --weights FILE" in caught.value.hint

    def test_blocks_of_a_deeper_network_are_not_renamed_onto_wider_ones(self, made):
        with pytest.raises(CheckpointError) as caught:
            made(CifarResNet(4, bare=False).state_dict(), "resnet20")
        assert "--rename" not in caught.value.hint


@pytest.mark.parametrize("options", [{"depth": 12}, {"depth": 4}, {"width": 0}])
def test_a_wide_resnet_that_there_is_not(options):
    with pytest.raises(UsageError, match="there is no WRN"):
        build_backbone("wrn", options, 3, SIZE, 0)
