"""The attacks of torchattacks by lower-case name, and the balls that each is for. Imports neither it nor torch."""

from __future__ import annotations

from dataclasses import dataclass

from rushkit.attacks import Norm

ALL_NORMS: tuple[Norm, ...] = ("linf", "l2", "l1")


@dataclass(frozen=True)
class Kind:
    """How an attack of torchattacks is made.

    Attributes:
        class_name: Its class.
        norms: Those that it is for.
        eps: Its name for eps; None where it has none.
        classes: The fewest that it can do with.
    """

    class_name: str
    norms: tuple[Norm, ...] = ("linf",)
    eps: str | None = "eps"
    classes: int = 2


KINDS: dict[str, Kind] = {
    **{
        name.lower(): Kind(name)
        for name in (
            *("FGSM", "BIM", "RFGSM", "PGD", "EOTPGD", "FFGSM", "TPGD", "MIFGSM", "UPGD", "DIFGSM", "TIFGSM"),
            *("Jitter", "NIFGSM", "PGDRS", "SINIFGSM", "VMIFGSM", "VNIFGSM", "SPSA"),
        )
    },
    **{name.lower(): Kind(name, eps="max_epsilon") for name in ("PIFGSM", "PIFGSMPP")},
    **{name.lower(): Kind(name, ("linf", "l2")) for name in ("APGD", "FAB", "Square")},
    # The targeted DLR loss compares four classes.
    **{name.lower(): Kind(name, ("linf", "l2"), classes=4) for name in ("APGDT", "AutoAttack")},
    **{name.lower(): Kind(name, ("l2",)) for name in ("PGDL2", "PGDRSL2")},
    # These look for a small distance instead of staying within one: what they find is projected onto the ball.
    **{name.lower(): Kind(name, ("l2",), eps=None) for name in ("CW", "DeepFool")},
    **{name.lower(): Kind(name, ("l1",), eps=None) for name in ("EADEN", "EADL1")},
    # These change few pixels, each by as much as it takes: shrunk into a ball of l-inf or l2 they would break nothing.
    **{name.lower(): Kind(name, ("l1",), eps=None) for name in ("SparseFool", "OnePixel", "Pixle", "JSMA")},
    **{name.lower(): Kind(name, ALL_NORMS, eps=None) for name in ("VANILA", "GN")},
}
