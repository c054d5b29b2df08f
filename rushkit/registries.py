"""The registries. A new built-in component is one new file and one line here; importing this imports none of them."""

from __future__ import annotations

from rushkit.registry import Registry

backbones = Registry(
    "backbone",
    "rushkit.backbones",
    {
        "resnet10-small": "rushkit.models.backbones:resnet10_small",
        "resnet18": "rushkit.models.backbones:resnet18",
        "timm/*": "rushkit.models.backbones:timm_backbone",
    },
)

noises = Registry(
    "noise",
    "rushkit.noises",
    {
        "gaussian": "rushkit.noises.gaussian:Gaussian",
        "laplace": "rushkit.noises.laplace:Laplace",
        "uniform": "rushkit.noises.uniform:Uniform",
    },
)

datasets = Registry(
    "data set",
    "rushkit.datasets",
    {
        "cifar10": "rushkit.data.cifar:cifar10",
        "cifar100": "rushkit.data.cifar:cifar100",
        "digits": "rushkit.data.digits:digits",
        "folder": "rushkit.data.folder:folder",
        "stl10": "rushkit.data.stl10:stl10",
    },
)

attacks = Registry(
    "attack",
    "rushkit.attacks",
    {
        "pgd": "rushkit.attacks.pgd:PGD",
    },
)

objectives = Registry(
    "objective",
    "rushkit.objectives",
    {
        "cross-entropy": "rushkit.objectives.cross_entropy:CrossEntropy",
        "rush": "rushkit.objectives.nt_xent:Rush",
        "simclr": "rushkit.objectives.nt_xent:SimCLR",
    },
)

recipes = Registry("recipe", "rushkit.recipes")

ALL = (backbones, noises, datasets, attacks, objectives, recipes)
