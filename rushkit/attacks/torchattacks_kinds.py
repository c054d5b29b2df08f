"""The attacks of torchattacks by lower-case name, with the norms of each. Imports neither torchattacks nor torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rushkit.attacks import Norm

ALL_NORMS: tuple[Norm, ...] = ("linf", "l2", "l1")


@dataclass(frozen=True)
class Kind:
    """How to create an attack of torchattacks.

    Attributes:
        class_name: Name of its class.
        norms: The norms that it supports.
        eps: Its name for eps; None if it has no such option.
        classes: The smallest number of classes that it supports.
        channels: The number of channels that it is made for; 0: any.
        windows: Whether it fills windows of the image, which small images have no room for.
        least: The smallest value of some of its options.
    """

    class_name: str
    norms: tuple[Norm, ...] = ("linf",)
    eps: str | None = "eps"
    classes: int = 2
    channels: int = 0
    windows: bool = False
    least: Mapping[str, int] = field(default_factory=dict)


KINDS: dict[str, Kind] = {
    **{
        name.lower(): Kind(name)
        for name in (
            *("FGSM", "BIM", "RFGSM", "PGD", "EOTPGD", "FFGSM", "TPGD", "MIFGSM", "UPGD", "DIFGSM"),
            *("Jitter", "NIFGSM", "PGDRS", "SINIFGSM", "VMIFGSM", "VNIFGSM", "SPSA"),
        )
    },
    # Their kernels are stacked for the three channels of a colour image.
    "tifgsm": Kind("TIFGSM", channels=3),
    **{name.lower(): Kind(name, eps="max_epsilon", channels=3) for name in ("PIFGSM", "PIFGSMPP")},
    **{name.lower(): Kind(name, ("linf", "l2")) for name in ("APGD", "FAB")},
    "square": Kind("Square", ("linf", "l2"), windows=True),
    # The targeted DLR loss compares four classes.
    "apgdt": Kind("APGDT", ("linf", "l2"), classes=4),
    "autoattack": Kind("AutoAttack", ("linf", "l2"), classes=4, windows=True),
    **{name.lower(): Kind(name, ("l2",)) for name in ("PGDL2", "PGDRSL2")},
    # These minimise the distance instead of staying within a ball, so their images are projected onto the ball.
    **{name.lower(): Kind(name, ("l2",), eps=None) for name in ("CW", "DeepFool")},
    # They look at their loss every tenth of the iterations.
    **{name.lower(): Kind(name, ("l1",), eps=None, least={"max_iterations": 10}) for name in ("EADEN", "EADL1")},
    # These change a few pixels by any amount; projected onto an l-inf or l2 ball their images would fool no model.
    **{name.lower(): Kind(name, ("l1",), eps=None) for name in ("SparseFool", "OnePixel", "Pixle", "JSMA")},
    **{name.lower(): Kind(name, ALL_NORMS, eps=None) for name in ("VANILA", "GN")},
}
