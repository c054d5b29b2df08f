"""Views per second: rushkit's batch views beside torchvision's image by image, and kornia's and lightly's if installed.

    OMP_NUM_THREADS=1 python benchmarks/views.py --batch 512 --threads 1
    RUSHKIT_DATA=... python benchmarks/views.py --images cifar10

For the two optional peers: ``pip install kornia lightly``.

Every row makes the same SimCLR view (crop, flip, colour jitter, grayscale, no blur) of the same uint8 images, ready
as float32. The contestants take turns and each one's best round counts, so that a busy machine slows all alike.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

import torch
from ranges import show
from torch import Tensor
from torchvision import transforms

from rushkit.system import generator
from rushkit.views import CropFlip, Views, ViewSettings, apply_views, sample_parameters

Contestant = Callable[[], object]


def load_images(source: str, n: int, size: int) -> Tensor:
    """(n, 3, size, size) uint8: smooth random images, or CIFAR-10's first ones (32 x 32) from $RUSHKIT_DATA."""
    if source == "cifar10":
        path = Path(os.environ["RUSHKIT_DATA"]) / "cifar-10-batches-bin" / "data_batch_1.bin"
        records = torch.frombuffer(bytearray(path.read_bytes()[: 3073 * n]), dtype=torch.uint8)
        return records.view(n, 3073)[:, 1:].reshape(n, 3, 32, 32)
    coarse = torch.rand(n, 3, 8, 8, generator=generator(0, "images"))
    return torch.nn.functional.interpolate(coarse, size, mode="bicubic").clamp(0, 1).mul(255).to(torch.uint8)


def rushkit_views(images: Tensor, size: int, compiled: bool) -> dict[str, Contestant]:
    """The whole pipeline, its parts, and crop-flip."""
    draws = generator(0, "views", device=images.device)
    height, width = images.shape[2:]
    full, geometry = ViewSettings(), ViewSettings(jitter_p=0, grayscale=0)
    rows: dict[str, Contestant] = {
        "rushkit": lambda: Views(size, full)(images, draws),
        "rushkit, crop and flip alone": lambda: Views(size, geometry)(images, draws),
        "rushkit, CropFlip": lambda: CropFlip()(images, draws),
    }
    if compiled:
        render = torch.compile(apply_views, dynamic=False)

        def compiled_views() -> Tensor:
            parameters = sample_parameters(len(images), height, width, full, draws, images.device)
            return render(images, parameters, size)

        rows["rushkit, torch.compile"] = compiled_views
    return rows


def torchvision_views(images: Tensor, size: int) -> Contestant:
    """The paper's appendix A, image by image, through PIL."""
    pipeline = transforms.Compose(
        [
            transforms.ToPILImage(),
            transforms.RandomResizedCrop(size),
            transforms.RandomHorizontalFlip(),
            transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
            transforms.RandomGrayscale(0.2),
            transforms.ToTensor(),
        ]
    )
    images = images.cpu()
    return lambda: torch.stack([pipeline(image) for image in images])


def kornia_views(images: Tensor, size: int) -> Contestant | None:
    """kornia's batch augmentations, or None where it is not installed."""
    try:
        from kornia import augmentation as K
    except ImportError:
        return None
    pipeline = torch.nn.Sequential(
        K.RandomResizedCrop((size, size), scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3)),
        K.RandomHorizontalFlip(p=0.5),
        K.ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8),
        K.RandomGrayscale(p=0.2),
    )
    return lambda: pipeline(images.float().div_(255))


def lightly_views(images: Tensor, size: int) -> Contestant | None:
    """One of lightly's two SimCLR views, image by image through PIL, or None where it is not installed."""
    try:
        from lightly.transforms.simclr_transform import SimCLRViewTransform
    except ImportError:
        return None
    view = SimCLRViewTransform(input_size=size, cj_strength=0.5, gaussian_blur=0.0, normalize=None)
    to_pil = transforms.ToPILImage()
    images = images.cpu()
    return lambda: torch.stack([view(to_pil(image)) for image in images])


def best_seconds(contestants: dict[str, Contestant], rounds: int, device: torch.device) -> dict[str, float]:
    """Each contestant's fastest round, after one that does not count."""
    best = dict.fromkeys(contestants, float("inf"))
    for round_number in range(rounds + 1):
        for name, contestant in contestants.items():
            start = time.perf_counter()
            contestant()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if round_number:
                best[name] = min(best[name], time.perf_counter() - start)
    return best


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--images", choices=("random", "cifar10"), default="random")
    parser.add_argument("--image-size", type=int, default=32, help="of random images")
    parser.add_argument("--size", type=int, default=32, help="of the views")
    parser.add_argument("--device", default="cpu", help="where rushkit and kornia compute; the others use the CPU")
    parser.add_argument("--compile", action="store_true", help="also measure rushkit under torch.compile")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)  # the peers draw from the global generators
    device = torch.device(arguments.device)
    images = load_images(arguments.images, arguments.batch, arguments.image_size).to(device)

    reference = "torchvision, PIL"
    contestants = rushkit_views(images, arguments.size, arguments.compile)
    contestants[reference] = torchvision_views(images, arguments.size)
    for name, optional in (("kornia", kornia_views), ("lightly", lightly_views)):
        contestant = optional(images, arguments.size)
        if contestant is not None:
            contestants[f"{name}, {'batch' if name == 'kornia' else 'PIL'}"] = contestant

    seconds = best_seconds(contestants, arguments.rounds, device)
    shape = "x".join(map(str, images.shape))
    show(
        f"views, {shape} uint8 to {arguments.size}x{arguments.size}, {device}, {arguments.threads} threads",
        {
            name: {"views/s": len(images) / value, "x torchvision's": seconds[reference] / value}
            for name, value in sorted(seconds.items(), key=lambda item: item[1])
        },
    )


if __name__ == "__main__":
    main()
