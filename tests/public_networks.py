"""The networks of published pre-training code, by the names and shapes that its state dicts have.

Weights are drawn here. The forward pass is written out over the tensors, in float64 and in evaluation mode, and knows
nothing of modules.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch.nn import functional as F

from rushkit.system import generator

WIDTHS = (64, 128, 256, 512)
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
DEACL = ((0.4914, 0.4822, 0.4465), (0.247, 0.243, 0.261))


@dataclass(frozen=True)
class Naming:
    """How the code of a paper calls the parts of a ResNet-18.

    Attributes:
        sets: How many BatchNorm sets a layer has; 0: one, without a list.
        shortcut: The convolution and the BatchNorm layer around a block.
        normalised: Mean and std of a layer in front; None: there is none.
        padding: Of the 3x3 stem.
    """

    sets: int = 0
    shortcut: tuple[str, str] = ("downsample.0", "downsample.1")
    normalised: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    padding: int = 1


MULTI = ("downsample.conv", "downsample.bn")
ACL = Naming(2, MULTI, IMAGENET)
ADVCL = Naming(3, MULTI)
ROCL = Naming(0, ("shortcut.0", "shortcut.1"))
DEACL_NAMING = Naming(0, normalised=DEACL, padding=2)
SOLO = Naming(0, padding=2)


def drawn(*shape, seed, scale=1.0, least=0.0):
    return least + scale * torch.rand(shape, generator=generator(seed, "public", sum(shape)))


def norm(channels, seed):
    """A BatchNorm layer that no other seed has."""
    return {
        "weight": drawn(channels, seed=seed, least=0.5),
        "bias": drawn(channels, seed=seed + 1, scale=0.2, least=-0.1),
        "running_mean": drawn(channels, seed=seed + 2, scale=0.2, least=-0.1),
        "running_var": drawn(channels, seed=seed + 3, least=0.5),
        "num_batches_tracked": torch.tensor(seed),
    }


def linear(inputs, outputs, seed, bias=True):
    weight = drawn(outputs, inputs, seed=seed, scale=0.1, least=-0.05)
    return {"weight": weight} | ({"bias": drawn(outputs, seed=seed + 1)} if bias else {})


def under(prefix, tensors):
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def several(layer, channels, sets, seed):
    """A layer of BatchNorm with its sets."""
    if not sets:
        return under(layer, norm(channels, seed))
    return {
        name: tensor
        for number in range(sets)
        for name, tensor in under(f"{layer}.bn_list.{number}", norm(channels, seed + 1000 * (number + 1))).items()
    }


def resnet18(naming, seed=0, blocks=2):
    """The state dict of a ResNet-18 (with two blocks a stage) without a head."""
    return dict(_resnet18(naming, seed, blocks))


@cache
def _resnet18(naming, seed, blocks):
    state = {}
    if naming.normalised:
        state |= under("normalize", dict(zip(("mean", "std"), map(torch.tensor, naming.normalised), strict=True)))

    def convolution(name, outputs, inputs, side):
        spread = (inputs * side * side) ** -0.5
        state[f"{name}.weight"] = (
            drawn(outputs, inputs, side, side, seed=seed + len(state), scale=3 * spread) - 1.5 * spread
        )

    convolution("conv1", 64, 3, 3)
    state |= several("bn1", 64, naming.sets, seed + 10)
    before = 64
    for stage, width in enumerate(WIDTHS, 1):
        for block in range(blocks):
            at = f"layer{stage}.{block}"
            convolution(f"{at}.conv1", width, before, 3)
            state |= several(f"{at}.bn1", width, naming.sets, seed + 20 * stage + block)
            convolution(f"{at}.conv2", width, width, 3)
            state |= several(f"{at}.bn2", width, naming.sets, seed + 20 * stage + block + 7)
            if before != width:
                convolution(f"{at}.{naming.shortcut[0]}", width, before, 1)
                state |= several(f"{at}.{naming.shortcut[1]}", width, naming.sets, seed + 20 * stage + 14)
            before = width
    return state


def features(state, naming, images, number=0):
    """The features (N, 512) of images (N, 3, S, S), by the BatchNorm set of a number."""
    tensors = {name: tensor.double() for name, tensor in state.items()}

    def normalised(x, layer):
        name = f"{layer}.bn_list.{number}" if naming.sets else layer
        weight, bias, mean, var = (
            tensors[f"{name}.{part}"].view(1, -1, 1, 1) for part in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / (var + 1e-5).sqrt() * weight + bias

    x = images.double()
    if naming.normalised:
        mean, std = (tensors[f"normalize.{part}"].view(1, 3, 1, 1) for part in ("mean", "std"))
        x = (x - mean) / std
    x = normalised(F.conv2d(x, tensors["conv1.weight"], padding=naming.padding), "bn1").relu()
    for stage in range(1, 5):
        for block in range(2):
            at, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            out = F.conv2d(x, tensors[f"{at}.conv1.weight"], stride=stride, padding=1)
            out = normalised(out, f"{at}.bn1").relu()
            out = normalised(F.conv2d(out, tensors[f"{at}.conv2.weight"], padding=1), f"{at}.bn2")
            if stride == 2:
                x = F.conv2d(x, tensors[f"{at}.{naming.shortcut[0]}.weight"], stride=2)
                x = normalised(x, f"{at}.{naming.shortcut[1]}")
            x = (out + x).relu()
    return x.mean(dim=(2, 3))


def acl_projector(sets, seed):
    """ACL's projector, which stands in the place of the network's last layer."""
    state = under("fc.fc1", linear(512, 512, seed))
    for number in (1, 2, 3):
        state |= several(f"fc.bn{number}", 512, sets, seed + number)
        state |= under(f"fc.fc{number}", linear(512, 512, seed + 50 + number, bias=False)) if number > 1 else {}
    return state


def acl(seed=0, sets=2):
    """ACL's network (VITA-Group/Adversarial-Contrastive-Learning:models/resnet_multi_bn.py)."""
    naming = Naming(sets, MULTI, IMAGENET)
    return resnet18(naming, seed) | acl_projector(sets, seed + 300)


def dynacl():
    """DynACL's two encoders (PKU-ML/DYNACL:models/resnet_multi_bn.py)."""
    return under("encoder_q", acl(1)) | under("encoder_k", acl(2))


def advcl():
    """AdvCL's network, behind DataParallel (LijieFan/AdvCL:models/resnet_cifar_multibn_ensembleFC.py)."""
    state = resnet18(ADVCL, 3)
    for classes in (2, 10, 50, 100, 500):
        state |= under(f"fc_{classes:03}", linear(512, classes, classes))
    for head, inputs, outputs in (("head_ce", 512, 1000), ("head_proj", 512, 128), ("head_pred", 128, 128)):
        state |= under(f"{head}.0", linear(inputs, inputs, 5)) | under(f"{head}.1", norm(inputs, 6))
        state |= under(f"{head}.3", linear(inputs, outputs, 7))
    return under("module", state)


def tuned_advcl():
    """What AdvCL's fine-tuning saves: a network with a layer that nothing trains, and the head beside it."""
    state = resnet18(ROCL, 4) | under("linear", linear(512, 10, 8))
    for head, inputs in (("head_proj", 512), ("head_pred", 128)):
        state |= under(f"{head}.0", linear(inputs, inputs, 9)) | under(f"{head}.2", linear(inputs, 128, 10))
    return {"model": under("module", state), "classifier": under("fc", linear(512, 10, 11)), "epoch": 25}


def rocl():
    """What RoCL saves (Kim-Minseon/RoCL:src/utils.py, src/models/resnet.py)."""
    rng = torch.zeros(16, dtype=torch.uint8)
    return {
        "epoch": 999,
        "acc": 1.5,
        "model": under("module", resnet18(ROCL, 5)),
        "optimizer_state": {"state": {}, "param_groups": [{"lr": 0.1}]},
        "rng_state": rng,
    }


def solo():
    """What Lightning saves of a method of solo-learn (solo/methods/base.py, mocov2plus.py)."""
    state = under("backbone", resnet18(SOLO, 6)) | under("classifier", linear(512, 10, 12))
    state |= under("projector.0", linear(512, 64, 13)) | under("projector.2", linear(64, 32, 14))
    state |= under("momentum_backbone", resnet18(SOLO, 7)) | under("momentum_projector.0", linear(512, 64, 15))
    state |= {"queue": torch.zeros(2, 32, 64), "queue_ptr": torch.zeros(1, dtype=torch.int64)}
    return {"epoch": 999, "global_step": 1, "pytorch-lightning_version": "1.6.4", "state_dict": state}


def deacl():
    """What Lightning saves of DeACL (pantheon5100/DeACL:solo/methods/base_for_adversarial_training.py)."""
    state = under("backbone", resnet18(DEACL_NAMING, 8)) | under("classifier", linear(512, 10, 16))
    state |= under("classifier_adv", linear(512, 10, 17)) | under("momentum_backbone", resnet18(DEACL_NAMING, 9))
    return {"epoch": 99, "global_step": 1, "pytorch-lightning_version": "1.6.4", "state_dict": state}
