"""Pre-activation ResNets for small images: PreActResNet-18 and the wide ResNets of adversarial training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from rushkit.errors import UsageError

Activation = Literal["relu", "silu", "leaky-relu"]
Variant = Literal["standard", "deepmind"]
Shortcut = Literal["narrow", "plain", "wide", "pooled"]

# In place: what BatchNorm's backward pass needs is its input, and theirs the output.
_ACTIVATIONS: Mapping[Activation, Callable[[], nn.Module]] = {
    "relu": partial(nn.ReLU, inplace=True),
    "silu": nn.SiLU,
    "leaky-relu": partial(nn.LeakyReLU, 0.1, inplace=True),
}
_CHANNELS_18 = (64, 64, 128, 256, 512)


def preact_resnet18(
    in_channels: int = 3,
    image_size: int = 32,
    activation: Activation = "relu",
    variant: Variant = "standard",
    last_norm: bool = True,
    shortcut_input: Literal["activated", "plain"] = "activated",
) -> nn.Module:
    """PreActResNet-18 with 512 features (He et al. 2016, Identity Mappings), small stem.

    11.17 M parameters and 555.4 MMAC at 3x32x32; 12.54 M and 605.7 MMAC in the variant ``"deepmind"``, the network of
    the row Data AUG¹ of RUSH's Table 1.

    Args:
        in_channels: Channels of the images.
        image_size: Side of the images; any size works, the features are averaged over it.
        activation: ``"relu"``, ``"silu"`` (swish) or ``"leaky-relu"`` with slope 0.1.
        variant: ``"standard"``, or ``"deepmind"`` as in Rebuffi et al. 2021: shortcuts are 3x3 convolutions of the
            input itself, and convolutions with a stride pad right and bottom alone, as TensorFlow does.
        last_norm: Whether BatchNorm and activation follow the last block; without them as in pytorch-cifar.
        shortcut_input: What the 1x1 convolutions of shortcuts take: the input of the block after its first BatchNorm
            and activation, or the ``"plain"`` input, as the PreActBlock of RobustBench.
    """
    shortcut: Shortcut = "wide" if variant == "deepmind" else "plain" if shortcut_input == "plain" else "narrow"
    same = variant == "deepmind"
    return PreActResNet(in_channels, _CHANNELS_18, 2, activation, shortcut, same, last_norm)


def wrn_28_10(
    in_channels: int = 3, image_size: int = 32, activation: Activation = "relu", variant: Variant = "standard"
) -> nn.Module:
    """WRN-28-10 with 640 features (Zagoruyko & Komodakis 2016): 36.47 M parameters, 5243 MMAC at 3x32x32.

    Args:
        in_channels: Channels of the images.
        image_size: Side of the images; any size works, the features are averaged over it.
        activation: ``"relu"``, ``"silu"`` (swish) or ``"leaky-relu"`` with slope 0.1.
        variant: ``"standard"``, or ``"deepmind"`` as in Gowal et al. 2020, where convolutions with a stride pad right
            and bottom alone, as TensorFlow does.
    """
    return _wide(in_channels, 4, 10, activation, "narrow", same=variant == "deepmind")


def wrn_34_10(
    in_channels: int = 3, image_size: int = 32, activation: Activation = "relu", variant: Variant = "standard"
) -> nn.Module:
    """WRN-34-10 with 640 features, as in TRADES and AWP: 46.15 M parameters, 6659 MMAC at 3x32x32.

    Args:
        in_channels: Channels of the images.
        image_size: Side of the images; any size works, the features are averaged over it.
        activation: ``"relu"``, ``"silu"`` (swish) or ``"leaky-relu"`` with slope 0.1.
        variant: ``"standard"`` or ``"deepmind"``; see ``wrn_28_10``.
    """
    return _wide(in_channels, 5, 10, activation, "narrow", same=variant == "deepmind")


def wrn(
    in_channels: int = 3,
    image_size: int = 32,
    depth: int = 28,
    width: int = 10,
    activation: Activation = "relu",
    variant: Variant = "standard",
) -> nn.Module:
    """WRN-D-K, a wide ResNet of any depth and width, with 64 K features (Zagoruyko & Komodakis 2016).

    Args:
        in_channels: Channels of the images.
        image_size: Side of the images; any size works, the features are averaged over it.
        depth: D, the layers: 10, 16, 22, 28, 34, ...
        width: K, how many times 16, 32 and 64 channels the stages have.
        activation: ``"relu"``, ``"silu"`` (swish) or ``"leaky-relu"`` with slope 0.1.
        variant: ``"standard"`` or ``"deepmind"``; see ``wrn_28_10``.

    Raises:
        UsageError: a depth that is not 4 more than a multiple of 6, or a width below 1.
    """
    blocks, rest = divmod(depth - 4, 6)
    if blocks < 1 or rest or width < 1:
        raise UsageError(
            f"there is no WRN-{depth}-{width}: the depth is 10, 16, 22, 28, 34, ..., the width at least 1",
            "for example --set backbone.depth=34 --set backbone.width=10",
        )
    return _wide(in_channels, blocks, width, activation, "narrow", same=variant == "deepmind")


def wrn_70_16(
    in_channels: int = 3, image_size: int = 32, activation: Activation = "relu", variant: Variant = "standard"
) -> nn.Module:
    """WRN-70-16 with 1024 features (Gowal et al. 2020): 266.79 M parameters, 38764 MMAC at 3x32x32.

    Args:
        in_channels: Channels of the images.
        image_size: Side of the images; any size works, the features are averaged over it.
        activation: ``"relu"``, ``"silu"`` (swish) or ``"leaky-relu"`` with slope 0.1.
        variant: ``"standard"`` or ``"deepmind"``; see ``wrn_28_10``.
    """
    return _wide(in_channels, 11, 16, activation, "narrow", same=variant == "deepmind")


def wrn_32_10(in_channels: int = 3, image_size: int = 32, activation: Activation = "leaky-relu") -> nn.Module:
    """WRN-32-10 with 640 features, as in Madry et al. 2018 and Shafahi et al. 2019: 45.90 M parameters, 6630 MMAC.

    Five blocks a stage, as in the WRN-34-10 of others, whose number counts the convolutions of its shortcuts: here
    shortcuts have no weights.

    Args:
        in_channels: Channels of the images.
        image_size: Side of the images; any size works, the features are averaged over it.
        activation: ``"leaky-relu"`` with slope 0.1, ``"relu"`` or ``"silu"`` (swish).
    """
    return _wide(in_channels, 5, 10, activation, "pooled", same=True)


def _wide(
    in_channels: int, blocks: int, width: int, activation: Activation, shortcut: Shortcut, same: bool
) -> PreActResNet:
    channels = (16, 16 * width, 32 * width, 64 * width)
    return PreActResNet(in_channels, channels, blocks, activation, shortcut, same)


class PreActResNet(nn.Module):
    """A small stem, stages of pre-activation blocks, BatchNorm and the mean over all places: features (N, F).

    Args:
        in_channels: Channels of the images.
        channels: Of the stem and of each stage. The first stage keeps the resolution, each later one halves it.
        blocks: Blocks a stage.
        activation: Name of the activation.
        shortcut: See ``Block``.
        same: See ``Block``.
        last_norm: Whether BatchNorm and activation follow the last block.
    """

    def __init__(
        self,
        in_channels: int,
        channels: Sequence[int],
        blocks: int,
        activation: Activation,
        shortcut: Shortcut,
        same: bool,
        last_norm: bool = True,
    ) -> None:
        super().__init__()
        stem, *stages = channels
        self.num_features = stages[-1]
        self.conv1 = Conv3x3(in_channels, stem)
        self._stages = tuple(f"layer{number}" for number in range(1, len(stages) + 1))
        before = stem
        for index, (name, width) in enumerate(zip(self._stages, stages, strict=True)):
            # Public code shares the first activation with the shortcut, but for these.
            activated = shortcut == "narrow" or (shortcut == "pooled" and not index)
            first = Block(before, width, 2 if index else 1, activation, shortcut, activated, same)
            others = (Block(width, width, 1, activation, shortcut, activated, same) for _ in range(blocks - 1))
            self.add_module(name, nn.Sequential(first, *others))
            before = width
        self.bn = nn.BatchNorm2d(before) if last_norm else nn.Identity()
        self.act = _ACTIVATIONS[activation]() if last_norm else nn.Identity()
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the maps (N, F, h, w) of images (N, C, H, W), activated if a norm follows the last block."""
        x = self.conv1(x)
        for name in self._stages:
            x = self.get_submodule(name)(x)
        maps: Tensor = self.act(self.bn(x))
        return maps

    def forward(self, x: Tensor) -> Tensor:
        """Return the features (N, F) of images (N, C, H, W)."""
        return self.forward_features(x).mean(dim=(2, 3))


class Block(nn.Module):
    """Twice BatchNorm, activation and 3x3 convolution, plus the input (He et al. 2016, Identity Mappings, fig. 4e).

    Args:
        inputs: Channels of the input.
        outputs: Channels of the output.
        stride: Of the first convolution.
        activation: Name of the activation.
        shortcut: What is added for the input where the channels change: its 1x1 convolution (``"narrow"``, and
            ``"plain"`` of the input itself), its 3x3 convolution (``"wide"``), or its mean over the strides between
            channels of zeros (``"pooled"``).
        activated: Whether the shortcut takes the input after the first activation.
        same: Convolutions with a stride pad as TensorFlow's "SAME": right and bottom alone for images of even size.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int,
        activation: Activation,
        shortcut: Shortcut,
        activated: bool,
        same: bool,
    ) -> None:
        super().__init__()
        strided = partial(Same3x3 if same and stride > 1 else Conv3x3, stride=stride)
        # In this order, for what folds BatchNorm: bn2 follows conv1, and no BatchNorm follows conv2.
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = strided(inputs, outputs)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = Conv3x3(outputs, outputs)
        self.act = _ACTIVATIONS[activation]()
        self.activated = activated
        self.shortcut: nn.Module | None = None
        if inputs != outputs:
            kinds: dict[Shortcut, Callable[[], nn.Module]] = {
                "narrow": lambda: nn.Conv2d(inputs, outputs, kernel_size=1, stride=stride, bias=False),
                "plain": lambda: nn.Conv2d(inputs, outputs, kernel_size=1, stride=stride, bias=False),
                "wide": lambda: strided(inputs, outputs),
                "pooled": lambda: Pooled(stride, (outputs - inputs) // 2),
            }
            self.shortcut = kinds[shortcut]()

    def forward(self, x: Tensor) -> Tensor:
        """Return maps (N, outputs, H / stride, W / stride) of maps (N, inputs, H, W)."""
        activated = self.act(self.bn1(x))
        if self.shortcut is not None:
            x = self.shortcut(activated if self.activated else x)
        change: Tensor = self.conv2(self.act(self.bn2(self.conv1(activated))))
        return x + change


class Conv3x3(nn.Conv2d):
    """A 3x3 convolution without a bias."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, padding: int = 1) -> None:
        super().__init__(inputs, outputs, kernel_size=3, stride=stride, padding=padding, bias=False)


class Same3x3(Conv3x3):
    """A 3x3 convolution with stride 2 that pads as TensorFlow's "SAME"."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__(inputs, outputs, stride, padding=0)

    def forward(self, input: Tensor) -> Tensor:
        """Return (N, outputs, ⌈H/2⌉, ⌈W/2⌉) of (N, inputs, H, W)."""
        height, width = input.shape[2:]
        # An even side needs one more row, an odd one two.
        return super().forward(F.pad(input, (width % 2, 1, height % 2, 1)))


class Pooled(nn.Module):
    """The mean over squares of stride x stride, with channels of zeros before and after: a shortcut without weights."""

    def __init__(self, stride: int, zeros: int) -> None:
        super().__init__()
        self.stride, self.zeros = stride, zeros

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, zeros + C + zeros, ⌈H/stride⌉, ⌈W/stride⌉)."""
        pooled = F.avg_pool2d(x, self.stride, ceil_mode=True)
        return F.pad(pooled, (0, 0, 0, 0, self.zeros, self.zeros))
