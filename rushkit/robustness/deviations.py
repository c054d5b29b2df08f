"""In what an attack differs from its protocol's own settings, and whether that makes it weaker.

Of a setting that only adds work (``steps``, ``restarts``, ``queries``, draws) the protocol's own value or more is as
strong. Of any other only the protocol's own value is: nobody has shown that another step size, loss or start is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

# What a row is called whose attack ran as strict does, but weaker than strict asks for.
WEAKER: Literal["weaker"] = "weaker"
ProtocolName = Literal["paper", "strict"]
Label = Literal["paper", "strict", "weaker"]

_MORE_IS_STRONGER = ("steps", "restarts", "eot", "selection_samples", "queries", "n_targets")


@dataclass(frozen=True)
class Deviation:
    """A setting that is not the protocol's own.

    Attributes:
        name: Of the option, ``eot``, or ``type`` for an attack that is none of the protocol's.
        value: What it was set to.
        own: The protocol's own value.
        weaker: Whether the attack is no longer sure to be as strong as the protocol's.
    """

    name: str
    value: Any
    own: Any
    weaker: bool


def deviations_from(own: Mapping[str, Any], given: Mapping[str, Any]) -> list[Deviation]:
    """The settings in ``given`` that differ from the protocol's ``own``; a name that ``own`` lacks differs."""
    return [
        Deviation(name, value, own.get(name), _is_weaker(name, value, own.get(name)))
        for name, value in given.items()
        if _plain(value) != _plain(own.get(name))
    ]


def label_of(protocol: ProtocolName, deviations: Sequence[Deviation]) -> Label:
    """What a row is called: the protocol's name, or ``weaker`` where it falls short of strict."""
    if protocol == "strict" and any(each.weaker for each in deviations):
        return WEAKER
    return protocol


def deviation_words(label: str, deviations: Sequence[Mapping[str, Any]]) -> str:
    """``"steps 1 (strict: 40), targeted true (strict: false)"``; empty where all is the protocol's own.

    Args:
        label: Of the row.
        deviations: As the row holds them: ``Deviation`` as a dictionary.
    """
    protocol = "strict" if label == WEAKER else label
    return ", ".join(
        f"{each['name']} {_words(each['value'])} ({protocol}: {_words(each['own'])})" for each in deviations
    )


def _is_weaker(name: str, value: Any, own: Any) -> bool:
    return not (name in _MORE_IS_STRONGER and own is not None and value >= own)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return ", ".join(map(_words, value))
    return f"{value:.4g}" if isinstance(value, float) else "none" if value is None else str(value)
