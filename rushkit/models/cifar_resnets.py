"""The ResNets for CIFAR of He et al. 2016, 20 to 110 layers: basic blocks in stages of 16, 32 and 64 channels."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from rushkit.models.backbones import thin_resnet

Shortcut = Literal["projection", "padded"]

_CHANNELS = (16, 32, 64)


def resnet20(in_channels: int = 3, image_size: int = 32, shortcut: Shortcut = "projection") -> nn.Module:
    """ResNet-20 for CIFAR with 64 features (He et al. 2016): 0.27 M parameters, 40.8 MMAC at 3x32x32.

    Args:
        in_channels: Channels of the images.
        image_size: Side of the images; any size works, the features are averaged over it.
        shortcut: ``"projection"``, a 1x1 convolution with BatchNorm where the channels change, or ``"padded"``, every
            other pixel between channels of zeros, without weights (option A of the paper).
    """
    return _cifar_resnet(3, in_channels, shortcut)


def resnet32(in_channels: int = 3, image_size: int = 32, shortcut: Shortcut = "projection") -> nn.Module:
    """ResNet-32 for CIFAR with 64 features (He et al. 2016): 0.47 M parameters, 69.1 MMAC at 3x32x32.

    Args:
        in_channels: Channels of the images.
        image_size: Side of the images.
        shortcut: See ``resnet20``.
    """
    return _cifar_resnet(5, in_channels, shortcut)


def resnet44(in_channels: int = 3, image_size: int = 32, shortcut: Shortcut = "projection") -> nn.Module:
    """ResNet-44 for CIFAR with 64 features (He et al. 2016): 0.66 M parameters, 97.4 MMAC at 3x32x32.

    Args:
        in_channels: Channels of the images.
        image_size: Side of the images.
        shortcut: See ``resnet20``.
    """
    return _cifar_resnet(7, in_channels, shortcut)


def resnet56(in_channels: int = 3, image_size: int = 32, shortcut: Shortcut = "projection") -> nn.Module:
    """ResNet-56 for CIFAR with 64 features (He et al. 2016): 0.86 M parameters, 125.7 MMAC at 3x32x32.

    Args:
        in_channels: Channels of the images.
        image_size: Side of the images.
        shortcut: See ``resnet20``.
    """
    return _cifar_resnet(9, in_channels, shortcut)


def resnet110(in_channels: int = 3, image_size: int = 32, shortcut: Shortcut = "projection") -> nn.Module:
    """ResNet-110 for CIFAR with 64 features (He et al. 2016), as in Cohen et al. 2019 and the certified training since.

    54 basic blocks: 1.73 M parameters and 253.1 MMAC at 3x32x32.

    Args:
        in_channels: Channels of the images.
        image_size: Side of the images.
        shortcut: See ``resnet20``; certified training has ``"projection"``.
    """
    return _cifar_resnet(18, in_channels, shortcut)


def _cifar_resnet(blocks: int, in_channels: int, shortcut: Shortcut) -> nn.Module:
    model = thin_resnet((blocks,) * 3, _CHANNELS, in_channels)
    # timm's forward pass asks for four stages.
    model.layer4 = nn.Identity()
    if shortcut == "padded":
        for stage, channels in (("layer2", 32), ("layer3", 64)):
            model.get_submodule(f"{stage}.0").downsample = Padded(channels // 4)
    return model


class Padded(nn.Module):
    """Every other pixel of each row and column, between channels of zeros: a shortcut without weights.

    Args:
        zeros: Channels of zeros before, and as many after.
    """

    def __init__(self, zeros: int) -> None:
        super().__init__()
        self.zeros = zeros

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, zeros + C + zeros, ⌈H/2⌉, ⌈W/2⌉) of (N, C, H, W)."""
        return F.pad(x[..., ::2, ::2], (0, 0, 0, 0, self.zeros, self.zeros))
