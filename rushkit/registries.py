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
        "torchvision/*": "rushkit.models.torchvision_backbones:torchvision_backbone",
    },
    offers=("num_features",),
)

noises = Registry(
    "noise",
    "rushkit.noises",
    {
        "discrete-gaussian": "rushkit.noises.discrete_gaussian:DiscreteGaussian",
        "gaussian": "rushkit.noises.gaussian:Gaussian",
        "laplace": "rushkit.noises.laplace:Laplace",
        "none": "rushkit.noises.none:NoNoise",
        "split": "rushkit.noises.split:Split",
        "uniform": "rushkit.noises.uniform:Uniform",
    },
    known_plugins={"ball": "rushkit-ball"},
    offers=("sample", "std", "certified_radius"),
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
    known_plugins={
        "bloodmnist": "rushkit-medmnist",
        "breastmnist": "rushkit-medmnist",
        "dermamnist": "rushkit-medmnist",
        "octmnist": "rushkit-medmnist",
        "organamnist": "rushkit-medmnist",
        "organcmnist": "rushkit-medmnist",
        "organsmnist": "rushkit-medmnist",
        "pathmnist": "rushkit-medmnist",
        "pneumoniamnist": "rushkit-medmnist",
        "tissuemnist": "rushkit-medmnist",
    },
    offers=("name", "classes", "image_size", "splits", "split"),
)

attacks = Registry(
    "attack",
    "rushkit.attacks",
    {
        "apgd": "rushkit.attacks.apgd:APGD",
        "apgdt": "rushkit.attacks.torchattacks_adapter:apgdt",
        "autoattack": "rushkit.attacks.autoattack:AutoAttack",
        "bim": "rushkit.attacks.torchattacks_adapter:bim",
        "cw": "rushkit.attacks.torchattacks_adapter:cw",
        "deepfool": "rushkit.attacks.torchattacks_adapter:deepfool",
        "difgsm": "rushkit.attacks.torchattacks_adapter:difgsm",
        "eaden": "rushkit.attacks.torchattacks_adapter:eaden",
        "eadl1": "rushkit.attacks.torchattacks_adapter:eadl1",
        "eotpgd": "rushkit.attacks.torchattacks_adapter:eotpgd",
        "fab": "rushkit.attacks.fab:fab",
        "ffgsm": "rushkit.attacks.torchattacks_adapter:ffgsm",
        "fgsm": "rushkit.attacks.torchattacks_adapter:fgsm",
        "gn": "rushkit.attacks.torchattacks_adapter:gn",
        "jitter": "rushkit.attacks.torchattacks_adapter:jitter",
        "jsma": "rushkit.attacks.torchattacks_adapter:jsma",
        "mifgsm": "rushkit.attacks.torchattacks_adapter:mifgsm",
        "nifgsm": "rushkit.attacks.torchattacks_adapter:nifgsm",
        "onepixel": "rushkit.attacks.torchattacks_adapter:onepixel",
        "pgd": "rushkit.attacks.pgd:PGD",
        "pgdl2": "rushkit.attacks.torchattacks_adapter:pgdl2",
        "pgdrs": "rushkit.attacks.torchattacks_adapter:pgdrs",
        "pgdrsl2": "rushkit.attacks.torchattacks_adapter:pgdrsl2",
        "pifgsm": "rushkit.attacks.torchattacks_adapter:pifgsm",
        "pifgsmpp": "rushkit.attacks.torchattacks_adapter:pifgsmpp",
        "pixle": "rushkit.attacks.torchattacks_adapter:pixle",
        "rfgsm": "rushkit.attacks.torchattacks_adapter:rfgsm",
        "sinifgsm": "rushkit.attacks.torchattacks_adapter:sinifgsm",
        "sparsefool": "rushkit.attacks.torchattacks_adapter:sparsefool",
        "spsa": "rushkit.attacks.torchattacks_adapter:spsa",
        "square": "rushkit.attacks.square:square",
        "tifgsm": "rushkit.attacks.torchattacks_adapter:tifgsm",
        "torchattacks/*": "rushkit.attacks.torchattacks_adapter:adapted",
        "tpgd": "rushkit.attacks.torchattacks_adapter:tpgd",
        "upgd": "rushkit.attacks.torchattacks_adapter:upgd",
        "vanila": "rushkit.attacks.torchattacks_adapter:vanila",
        "vmifgsm": "rushkit.attacks.torchattacks_adapter:vmifgsm",
        "vnifgsm": "rushkit.attacks.torchattacks_adapter:vnifgsm",
    },
    known_plugins={
        "foolbox-boundary": "rushkit-foolbox",
        "foolbox-cw": "rushkit-foolbox",
        "foolbox-ddn": "rushkit-foolbox",
        "foolbox-deepfool": "rushkit-foolbox",
        "foolbox-ead": "rushkit-foolbox",
        "foolbox-fmn": "rushkit-foolbox",
        "foolbox-hopskipjump": "rushkit-foolbox",
    },
    offers=("__call__",),
)

objectives = Registry(
    "objective",
    "rushkit.objectives",
    {
        "cross-entropy": "rushkit.objectives.cross_entropy:CrossEntropy",
        "rush": "rushkit.objectives.nt_xent:Rush",
        "simclr": "rushkit.objectives.nt_xent:SimCLR",
    },
    offers=("stage", "module", "inputs", "loss"),
)

recipes = Registry("recipe", "rushkit.recipes")

ALL = (backbones, noises, datasets, attacks, objectives, recipes)
