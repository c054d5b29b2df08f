"""How an attack differs from its protocol's own settings, and whether that makes it weaker.

For a setting that only adds work (``steps``, ``restarts``, ``queries``, draws) the protocol's value or more is as
strong. For any other only the protocol's value is: nobody has shown that another step size, loss or start is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import JsonValue

from rushkit.files import plain_json
from rushkit.results.attacks import Deviation, Protocol

# The label of a row whose attack runs as strict does, but weaker than strict asks for.
WEAKER: Literal["weaker"] = "weaker"
ProtocolName = Literal["paper", "strict"]

_MORE_IS_STRONGER = ("steps", "restarts", "eot", "selection_samples", "queries", "n_targets")


def deviations_from(own: Mapping[str, object], given: Mapping[str, object]) -> list[Deviation]:
    """The settings in ``given`` that differ from the protocol's ``own``; a name that ``own`` lacks differs."""
    deviations = []
    for name, setting in given.items():
        value, expected = plain_json(setting, name), plain_json(own.get(name), name)
        if value != expected:
            weaker = _is_weaker(name, value, expected)
            deviations.append(Deviation(name=name, value=value, own=expected, weaker=weaker))
    return deviations


def label_of(protocol: ProtocolName, deviations: Sequence[Deviation]) -> Protocol:
    """The label of a row: the protocol's name, or ``weaker`` where it falls short of strict."""
    if protocol == "strict" and any(deviation.weaker for deviation in deviations):
        return WEAKER
    return protocol


def deviation_words(label: str, deviations: Sequence[Deviation]) -> str:
    """``"steps 1 (strict: 40), targeted true (strict: false)"``; empty where every setting is the protocol's own.

    Args:
        label: The label of the row.
        deviations: Those of the row.
    """
    protocol = "strict" if label == WEAKER else label
    return ", ".join(
        f"{deviation.name} {_words(deviation.value)} ({protocol}: {_words(deviation.own)})" for deviation in deviations
    )


def _is_weaker(name: str, value: JsonValue, own: JsonValue) -> bool:
    if not isinstance(value, int | float) or not isinstance(own, int | float):
        return True
    return not (name in _MORE_IS_STRONGER and value >= own)


def _words(value: JsonValue) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ", ".join(map(_words, value))
    return f"{value:.4g}" if isinstance(value, float) else "none" if value is None else str(value)
