"""The pre-activation ResNets and ResNet-110: counts in closed form, and a forward pass written out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from thread_ranks import run_ranks
from torch import distributed, nn
from torch.nn import functional as F

from rushkit.errors import UsageError
from rushkit.exchange.foreign_names import fit_names
from rushkit.exchange.rules import Rules
from rushkit.models.batch_norm import synchronise_batch_norm
from rushkit.models.fold import fold_batch_norm
from rushkit.models.network import build_backbone, macs, num_parameters
from rushkit.models.passes import memory_an_image
from rushkit.models.preact import PreActResNet, Same3x3
from rushkit.models.recompute import recompute_blocks
from rushkit.recipe.load import load_recipe
from rushkit.registries import backbones
from rushkit.setup.start import machine_of
from rushkit.system import generator

PAGE = (Path(__file__).parents[2] / "docs" / "backbones.md").read_text(encoding="utf-8")
# Channels, blocks a stage, weights of a shortcut per pair of channels, whether stages begin with a BatchNorm of their
# input (or have one in the stem and in shortcuts).
SHAPES = {
    "resnet20": ((16, 16, 32, 64), 3, 1, False),
    "resnet32": ((16, 16, 32, 64), 5, 1, False),
    "resnet44": ((16, 16, 32, 64), 7, 1, False),
    "resnet56": ((16, 16, 32, 64), 9, 1, False),
    "resnet110": ((16, 16, 32, 64), 18, 1, False),
    "preact-resnet18": ((64, 64, 128, 256, 512), 2, 1, True),
    "wrn-28-10": ((16, 160, 320, 640), 4, 1, True),
    "wrn-32-10": ((16, 160, 320, 640), 5, 0, True),
    "wrn-34-10": ((16, 160, 320, 640), 5, 1, True),
    "wrn-70-16": ((16, 256, 512, 1024), 11, 1, True),
}


def counted(name, shortcut=None):
    """Parameters and MAC at 3x32x32: 9ab + 9b² a block, and what BatchNorm and shortcuts add."""
    (stem, *stages), blocks, narrow, preact = SHAPES[name]
    around = narrow if shortcut is None else shortcut
    weights, norms, products = 27 * stem, 2 * (stages[-1] if preact else stem), 27 * stem * 32**2
    a = stem
    for stage, b in enumerate(stages):
        convolutions = 9 * a * b + (2 * blocks - 1) * 9 * b * b + around * a * b * (a != b)
        weights += convolutions
        products += convolutions * (32 >> stage) ** 2
        norms += 2 * (2 * blocks * b + (a - b if preact else b * (a != b)))
        a = b
    return weights + norms, products


def bare(name, **options):
    with torch.device("meta"):
        return backbones.create(name, in_channels=3, image_size=32, **options)


# With the head of ten classes that public code counts in.
@pytest.mark.parametrize(
    ("name", "public"),
    [
        ("resnet20", 272_474),
        ("resnet32", 466_906),
        ("resnet44", 661_338),
        ("resnet56", 855_770),
        ("resnet110", 1_730_714),
        ("preact-resnet18", 11_172_170),
        ("wrn-28-10", 36_479_194),
        ("wrn-32-10", 45_901_914),
        ("wrn-34-10", 46_160_474),
        ("wrn-70-16", 266_796_506),
    ],
)
def test_parameters_and_products_are_those_of_the_closed_form(name, public):
    encoder = bare(name)
    parameters, products = counted(name)
    assert (num_parameters(encoder), macs(encoder, 32)) == (parameters, products)
    assert parameters + 10 * (encoder.num_features + 1) == public
    assert f"| `{name}` | {encoder.num_features} | {parameters} | {products / 1e6:.1f} |" in PAGE


def test_deepminds_preact_resnet_has_wide_shortcuts():
    encoder = bare("preact-resnet18", variant="deepmind")
    parameters, products = counted("preact-resnet18", shortcut=9)
    assert (num_parameters(encoder), macs(encoder, 32)) == (parameters, products)
    assert f"({parameters} parameters, {products / 1e6:.1f} MMAC)" in PAGE
    wide = bare("wrn-28-10", variant="deepmind")
    assert (num_parameters(wide), macs(wide, 32)) == counted("wrn-28-10")


@pytest.mark.parametrize(("blocks", "public"), [(3, 269_722), (5, 464_154), (9, 853_018), (18, 1_727_962)])
def test_padded_shortcuts_have_no_weights(blocks, public):
    encoder = bare(f"resnet{6 * blocks + 2}", shortcut="padded")
    assert num_parameters(encoder) + 10 * (encoder.num_features + 1) == public


def test_wrn_is_a_wide_resnet_of_any_depth_and_width():
    for name, depth, width in (("wrn-28-10", 28, 10), ("wrn-34-10", 34, 10), ("wrn-70-16", 70, 16)):
        ours, theirs = bare("wrn", depth=depth, width=width), bare(name)
        assert {key: tensor.shape for key, tensor in ours.state_dict().items()} == {
            key: tensor.shape for key, tensor in theirs.state_dict().items()
        }


ACTIVATIONS = {"relu": F.relu, "silu": F.silu, "leaky-relu": lambda x: torch.where(x > 0, x, 0.1 * x)}
KINDS = [("narrow", "relu", False), ("narrow", "silu", True), ("wide", "silu", True), ("pooled", "leaky-relu", True)]


def trained(encoder):
    """In eval mode and float64, with BatchNorm layers that do something."""
    draws = generator(0, "preact")
    with torch.no_grad():
        for layer in encoder.modules():
            if isinstance(layer, nn.BatchNorm2d):
                for tensor in (layer.weight, layer.running_var):
                    tensor.uniform_(0.5, 2, generator=draws)
                for tensor in (layer.bias, layer.running_mean):
                    tensor.normal_(generator=draws)
    return encoder.double().eval().requires_grad_(False)


def tiny(shortcut="narrow", activation="relu", same=False, blocks=2):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return trained(PreActResNet(3, (4, 6, 8), blocks, activation, shortcut, same))


def written_out(tensors, x, shortcut, activation, same, blocks=2):
    """The forward pass from the tensors alone."""
    act = ACTIVATIONS[activation]

    def norm(x, name):
        mean, var, weight, bias = (
            tensors[f"{name}.{part}"].view(1, -1, 1, 1) for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * weight + bias

    def convolved(x, name, stride):
        padding = (0, 1, 0, 1) if same and stride == 2 else (1, 1, 1, 1)
        return F.conv2d(F.pad(x, padding), tensors[f"{name}.weight"], stride=stride)

    x = convolved(x, "conv1", 1)
    for stage in (1, 2):
        for block in range(blocks):
            place, stride = f"layer{stage}.{block}", 2 if (stage, block) == (2, 0) else 1
            a = act(norm(x, f"{place}.bn1"))
            change = convolved(act(norm(convolved(a, f"{place}.conv1", stride), f"{place}.bn2")), f"{place}.conv2", 1)
            if block:
                x = x + change
            elif shortcut == "narrow":
                x = F.conv2d(a, tensors[f"{place}.shortcut.weight"], stride=stride) + change
            elif shortcut == "wide":
                x = convolved(x, f"{place}.shortcut", stride) + change
            else:
                around = (
                    a if stage == 1 else x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]
                )
                change[:, 1:-1] += around / stride**2
                x = change
    return act(norm(x, "bn")).mean(dim=(2, 3))


@pytest.mark.parametrize("kind", KINDS)
def test_the_forward_pass_is_the_one_written_out(kind):
    encoder = tiny(*kind)
    x = torch.rand(3, 3, 8, 8, generator=generator(1, "x"), dtype=torch.float64)
    torch.testing.assert_close(encoder(x), written_out(encoder.state_dict(), x, *kind), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("side", [7, 8, 9, 12])
def test_tensorflows_padding_is_half_of_what_is_lacking_before_and_the_rest_behind(side):
    convolution = Same3x3(1, 1, 2)
    out = -(-side // 2)
    lacking = max((out - 1) * 2 + 3 - side, 0)
    before, behind = lacking // 2, lacking - lacking // 2
    x = torch.rand(1, 1, side, side, generator=generator(2, "x"))
    expected = F.conv2d(F.pad(x, (before, behind, before, behind)), convolution.weight, stride=2)
    torch.testing.assert_close(convolution(x), expected)


@pytest.mark.parametrize("name", SHAPES)
def test_a_backbone_maps_images_of_any_size_and_channels_to_its_features(name):
    with torch.device("meta"):
        encoder = backbones.create(name, in_channels=1, image_size=9).eval()
        assert encoder(torch.zeros(2, 1, 9, 9)).shape == (2, encoder.num_features)


@pytest.mark.parametrize("kind", KINDS)
def test_channels_last_survives_the_encoder(kind):
    encoder = tiny(*kind).to(memory_format=torch.channels_last)
    x = torch.rand(2, 3, 8, 8, dtype=torch.float64).to(memory_format=torch.channels_last)
    assert encoder.forward_features(x).is_contiguous(memory_format=torch.channels_last)


def norms(module):
    return sum(isinstance(layer, nn.BatchNorm2d) for layer in module.modules())


# Each of four blocks keeps the norm of its input, and the network its last; but the first block's norm follows the stem
# where nothing goes around it.
@pytest.mark.parametrize(("kind", "left"), [*zip(KINDS, (4, 4, 5, 4), strict=True)])
def test_half_of_the_norms_are_folded(kind, left):
    encoder = tiny(*kind)
    x = torch.rand(4, 3, 8, 8, generator=generator(1, "x"), dtype=torch.float64)
    folded = fold_batch_norm(encoder, x)
    assert (norms(encoder), norms(folded)) == (9, left)
    torch.testing.assert_close(folded(x), encoder(x))


def test_all_norms_of_resnet110_are_folded():
    encoder = build_backbone("resnet110", {}, 3, 8, 0).eval()
    x = torch.rand(2, 3, 8, 8, generator=generator(1, "x"))
    with torch.no_grad():
        folded = fold_batch_norm(encoder, x)
        assert (norms(encoder), norms(folded)) == (111, 0)
        torch.testing.assert_close(folded(x), encoder(x), rtol=1e-4, atol=1e-4)


def test_an_unknown_activation_is_refused():
    with pytest.raises(UsageError, match="activation"):
        build_backbone("preact-resnet18", {"activation": "tanh"}, 3, 32, 0)


def test_the_memory_of_a_pass_grows_with_what_is_kept():
    machine = machine_of(load_recipe("digits", ["system.device=cpu"]))
    small, large = (
        memory_an_image(tiny(blocks=blocks).float().requires_grad_(True), (3, 8, 8), machine) for blocks in (1, 3)
    )
    assert 8 * 8 * 4 * 4 < small < large


def test_two_ranks_with_joined_norms_are_one():
    alone = tiny().requires_grad_(True).train()
    x = torch.rand(5, 3, 8, 8, generator=generator(1, "x"), dtype=torch.float64)

    def rank():
        joined = synchronise_batch_norm(tiny().requires_grad_(True).train())
        assert norms(joined) == 0
        rows = x[:3] if distributed.get_rank() == 0 else x[3:]
        joined(rows).square().sum().backward()
        return joined

    ranks = run_ranks(rank, 2)
    alone(x).square().sum().backward()
    for index, parameter in enumerate(alone.parameters()):
        parts = [list(joined.parameters())[index].grad for joined in ranks]
        torch.testing.assert_close(sum(parts), parameter.grad)
    for joined in ranks:
        for name, buffer in alone.named_buffers():
            torch.testing.assert_close(joined.get_buffer(name), buffer, msg=name)


def test_blocks_recompute_their_activations():
    plain, sparing = (tiny().requires_grad_(True).train() for _ in range(2))
    assert recompute_blocks(sparing) == 4
    x = torch.rand(5, 3, 8, 8, generator=generator(1, "x"), dtype=torch.float64)
    for encoder in (plain, sparing):
        encoder(x).square().sum().backward()
    for ours, theirs in zip(sparing.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)
    assert all(map(torch.equal, sparing.buffers(), plain.buffers()))


# What public code calls our tensors: what an import knows goes the other way.
PUBLIC = {
    "PreActResNet-18 as in pytorch-cifar": {r"\.shortcut\.": ".shortcut.0."},
    "wide ResNets of TRADES": {
        r"^bn\.": "bn1.",
        r"^layer(\d)\.": r"block\1.layer.",
        r"\.shortcut\.": ".convShortcut.",
    },
    "DeepMind's wide ResNets": {
        r"^conv1\.": "init_conv.",
        r"^bn\.": "batchnorm.",
        r"^layer(\d)\.": lambda match: f"layer.{int(match[1]) - 1}.block.",
        r"\.(bn|conv)(\d)\.": lambda match: f".{match[1].replace('bn', 'batchnorm')}_{int(match[2]) - 1}.",
    },
    "DeepMind's PreActResNet-18": {
        r"^conv1\.": "conv_2d.",
        r"^bn\.": "batchnorm.",
        r"^layer(\d)\.": lambda match: f"layer_{int(match[1]) - 1}.",
        r"\.bn(\d)\.": lambda match: f".batchnorm_{int(match[1]) - 1}.",
        r"\.conv(\d)\.": r".conv_2d_\1.",
    },
}


@pytest.mark.parametrize("code", PUBLIC)
def test_every_tensor_of_public_code_has_its_place(code):
    stages = 3 if "wide" in code else 4
    ours = PreActResNet(3, (2, *range(3, 3 + stages)), 2, "relu", "narrow", same=False).state_dict()
    theirs = {}
    for name, tensor in ours.items():
        other = name
        for pattern, replacement in PUBLIC[code].items():
            other = re.sub(pattern, replacement, other)
        theirs[other] = tensor
    features = 2 + stages
    theirs |= {"last.weight": torch.ones(10, features), "last.bias": torch.zeros(10)}
    if "TRADES" in code:
        theirs |= {
            name.replace("block1.", "sub_block1."): tensor for name, tensor in theirs.items() if "block1." in name
        }
    else:
        theirs |= {part: torch.full((3, 1, 1), 0.5) for part in ("mean", "std")}
    fitted = fit_names(theirs, ours, features, Rules(), encoder_only=False)
    assert all(fitted.encoder[name] is ours[name] for name in ours)
    said = "PreActResNets of pytorch-cifar" if "pytorch-cifar" in code else code
    assert any(said in note for note in fitted.notes)
    assert fitted.mean == (() if "TRADES" in code else (0.5, 0.5, 0.5))
    assert fitted.head["weight"].shape == (10, features)
