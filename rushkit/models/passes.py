"""Choose how many images one pass of a network may hold, from the measured memory of one image."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rushkit.models.draws import global_draws
from rushkit.models.modes import in_eval_mode
from rushkit.system import Machine, device_memory

# Images, draws included, beyond which a larger pass is no faster.
MOST = {"cpu": 512, "cuda": 8192, "mps": 1024}
# Of the memory, what a pass may take; on a machine that computes on its CPU other programs have their part.
_SHARE = {"cpu": 1 / 4, "cuda": 1 / 2, "mps": 1 / 4}
# Outputs of the size of the largest that are there at once beside what is kept for the gradient.
_TRANSIENT = 3


def pass_size(network: nn.Module, shape: tuple[int, ...], machine: Machine) -> int:
    """Return how many images, with gradients, the machine has memory for in one pass; a power of two.

    It follows from the network, the images and the machine's whole memory, not from what is free at the moment.

    Args:
        network: On the machine's device.
        shape: (C, H, W) of an image.
        machine: Whose memory and precision.
    """
    room = device_memory(machine.device) * _SHARE[machine.device.type]
    most = MOST[machine.device.type]
    fitting = int(room / memory_an_image(network, shape, machine))
    return most if fitting >= most else 1 << max(fitting, 1).bit_length() - 1


def memory_an_image(network: nn.Module, shape: tuple[int, ...], machine: Machine) -> int:
    """Measure the bytes that a pass takes for each image: what autograd keeps, and the largest outputs on the way."""
    weights = {tensor.data_ptr() for tensor in (*network.parameters(), *network.buffers())}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if tensor.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    precision = next((parameter.dtype for parameter in network.parameters()), torch.float32)
    image = torch.zeros(1, *shape, device=machine.device, dtype=precision, requires_grad=True)
    # A model that is random by itself draws here, and nobody's draws change.
    with (
        torch.enable_grad(),
        in_eval_mode(network),
        global_draws(0, "pass size", device=machine.device),
        machine.autocast(),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        network(image)
    return image.nbytes + sum(kept.values()) + _TRANSIENT * max(kept.values(), default=0)
