"""What each objective that rushkit brings must reduce to: one row for each, filled in by who adds it."""

from __future__ import annotations

from dataclasses import dataclass

NO_NOISE = ("noise.name=none",)
GAUSSIAN = ("noise.name=gaussian", "noise.std=0.25")


@dataclass(frozen=True)
class Reduction:
    """With these options an objective has the losses and gradients of its base.

    Attributes:
        options: Of the objective: no attack, or a weight of 0.
        base: The objective that is left; ``""`` for one that stands by itself.
        base_options: Options of the base.
        noise: The noise of both.
        trains: Options of the objective in the tests that train with it, beside its defaults.
        also: More such options, each for a training of its own.
        trains_under: The noise of these tests.
    """

    options: tuple[str, ...] = ()
    base: str = ""
    base_options: tuple[str, ...] = ()
    noise: tuple[str, ...] = NO_NOISE
    trains: tuple[str, ...] = ()
    also: tuple[tuple[str, ...], ...] = ()
    trains_under: tuple[str, ...] = NO_NOISE


# Few steps and draws: these tests are about ranks and stops, not about the strength of an attack.
FEW = ("steps=2",)

REDUCTIONS = {
    "acl": Reduction(
        ("eps=0", "stream=adversarial"), "simclr", trains=FEW, also=((*FEW, "stream=single", "norm=l2", "eps=0.5"),)
    ),
    # Losses are logged in float32, and those of the default scale are too large for the precision of the tests.
    "advcl": Reduction(
        trains=(*FEW, "scale=1", "padding=1", "radius=2"),
        also=((*FEW, "scale=1", "padding=1", "radius=2", "attack_bn=batch", "norm=l2", "eps=0.5"),),
    ),
    "byol": Reduction(trains=("tau=0.6",), also=(("joint_forward=true",),)),
    "byorl": Reduction(
        ("eps=0",), "byol", trains=(*FEW, "tau=0.6"), also=((*FEW, "attacked_views=first", "attack_bn=batch"),)
    ),
    "consistency": Reduction(("draws=1", "eta=0"), "cross-entropy", noise=GAUSSIAN, trains_under=GAUSSIAN),
    "cross-entropy": Reduction(trains_under=GAUSSIAN),
    # Without a ball and with a student that is its teacher it has a fixed point: test_deacl.py.
    "deacl": Reduction(trains=FEW, also=((*FEW, "student_start=random", "attack_bn=batch"),)),
    "dynacl": Reduction(
        ("momentum_view=false", "rise=0", *FEW), "acl", FEW, trains=FEW, also=((*FEW, "momentum_view=false"),)
    ),
    "free": Reduction(("replays=1", "eps=0"), "cross-entropy", trains=("replays=3",)),
    "macer": Reduction(
        ("draws=1", "lam=0"), "cross-entropy", noise=GAUSSIAN, trains=("draws=3",), trains_under=GAUSSIAN
    ),
    "pgd-at": Reduction(("eps=0",), "cross-entropy", trains=FEW, also=((*FEW, "awp=0.05", "cutmix=true"),)),
    "rocl": Reduction(
        trains=FEW,
        also=((*FEW, "regulariser=separate", "detach_keys=true", "attack_to=original", "regularise_to=original"),),
    ),
    "rush": Reduction(("noise_on=none",), "simclr", noise=GAUSSIAN, trains_under=GAUSSIAN),
    "simclr": Reduction(),
    "smoothadv": Reduction(
        ("eps=0",),
        "cross-entropy",
        noise=GAUSSIAN,
        trains=(*FEW, "draws=2"),
        trains_under=GAUSSIAN,
    ),
    "smoothmix": Reduction(("draws=1", "eta=0"), "cross-entropy", noise=GAUSSIAN, trains=FEW, trains_under=GAUSSIAN),
    "stability": Reduction(("lam=0",), "cross-entropy", trains_under=GAUSSIAN),
    "trades": Reduction(
        ("eps=0",), "cross-entropy", trains=FEW, also=((*FEW, "moves_bn=adversarial", "attack_bn=batch", "awp=0.05"),)
    ),
}
