"""The registries. A new built-in component is one new file and one line here; importing this imports none of them."""

from __future__ import annotations

from rushkit.registry import Registry

backbones = Registry(
    "backbone",
    "rushkit.backbones",
    {
        "preact-resnet18": "rushkit.models.preact:preact_resnet18",
        "resnet10-small": "rushkit.models.backbones:resnet10_small",
        "resnet110": "rushkit.models.cifar_resnets:resnet110",
        "resnet18": "rushkit.models.backbones:resnet18",
        "resnet20": "rushkit.models.cifar_resnets:resnet20",
        "resnet32": "rushkit.models.cifar_resnets:resnet32",
        "resnet44": "rushkit.models.cifar_resnets:resnet44",
        "resnet56": "rushkit.models.cifar_resnets:resnet56",
        "timm/*": "rushkit.models.backbones:timm_backbone",
        "torchvision/*": "rushkit.models.torchvision_backbones:torchvision_backbone",
        "wrn": "rushkit.models.preact:wrn",
        "wrn-28-10": "rushkit.models.preact:wrn_28_10",
        "wrn-32-10": "rushkit.models.preact:wrn_32_10",
        "wrn-34-10": "rushkit.models.preact:wrn_34_10",
        "wrn-70-16": "rushkit.models.preact:wrn_70_16",
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
        "npz": "rushkit.data.npz_set:npz",
        "parquet": "rushkit.data.parquet:parquet",
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
        "autoattack": "rushkit.attacks.autoattack:AutoAttack",
        "cascade": "rushkit.attacks.cascade.attack:Cascade",
        "fab": "rushkit.attacks.fab:FAB",
        "hopskipjump": "rushkit.attacks.hopskipjump:HopSkipJump",
        "pgd": "rushkit.attacks.pgd:PGD",
        "square": "rushkit.attacks.square:Square",
        "torchattacks/*": "rushkit.attacks.torchattacks_adapter:family",
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
    members={"torchattacks/*": "rushkit.attacks.torchattacks_kinds:KINDS"},
    offers=("__call__",),
)

objectives = Registry(
    "objective",
    "rushkit.objectives",
    {
        "acl": "rushkit.objectives.acl:Acl",
        "advcl": "rushkit.objectives.advcl:AdvCL",
        "byol": "rushkit.objectives.byol:Byol",
        "byorl": "rushkit.objectives.byorl:Byorl",
        "consistency": "rushkit.objectives.consistency:Consistency",
        "cross-entropy": "rushkit.objectives.cross_entropy:CrossEntropy",
        "deacl": "rushkit.objectives.deacl:DeACL",
        "dynacl": "rushkit.objectives.dynacl:DynAcl",
        "free": "rushkit.objectives.free:Free",
        "macer": "rushkit.objectives.macer:Macer",
        "pgd-at": "rushkit.objectives.pgd_at:PgdAt",
        "rocl": "rushkit.objectives.rocl:RoCL",
        "rush": "rushkit.objectives.nt_xent:Rush",
        "simclr": "rushkit.objectives.nt_xent:SimCLR",
        "smoothadv": "rushkit.objectives.smoothadv:SmoothAdv",
        "smoothmix": "rushkit.objectives.smoothmix:SmoothMix",
        "stability": "rushkit.objectives.stability:Stability",
        "trades": "rushkit.objectives.trades:Trades",
    },
    offers=("stage", "head", "losses"),
)

engines = Registry(
    "engine",
    "rushkit.engines",
    {
        "local": "rushkit.study.engines.local:Local",
        "ray": "rushkit.study.engines.ray:Ray",
        "slurm": "rushkit.study.engines.slurm:Slurm",
    },
    offers=("orders", "slots", "submit", "standings", "cancel", "close"),
)

trackers = Registry(
    "tracker",
    "rushkit.trackers",
    {
        "tensorboard": "rushkit.trackers.tensorboard:TensorBoard",
        "wandb": "rushkit.trackers.wandb:WeightsAndBiases",
    },
    offers=("begin", "add", "flush", "close"),
)

recipes = Registry("recipe", "rushkit.recipes")

ALL = (backbones, noises, datasets, attacks, objectives, engines, trackers, recipes)
