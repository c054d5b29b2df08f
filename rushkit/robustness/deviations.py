"""Compare the settings of an attack with its protocol's own, and decide whether they make the attack weaker.

A setting that only adds work (``steps``, ``restarts``, ``queries``, draws) is as strong at the protocol's value or
above. Any other setting counts as weaker unless it equals the protocol's: nothing shows that another step size, loss or
start is as strong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import JsonValue

from rushkit.files import plain_json
from rushkit.results.attacks import Deviation, Protocol, ProtocolName

# The label of an attack under strict whose settings are weaker than strict's own.
WEAKER: Literal["weaker"] = "weaker"
# The label of an attack that a method was published with.
PUBLISHED: Literal["published"] = "published"
# The names of what a row has that no protocol has by itself: a stand-in's gradients, and attacks of the user's own.
SURROGATE, ALSO = "surrogate", "also"
_ADAPTED = {SURROGATE: "gradients of", ALSO: "with"}
# The head of what a row has that is not its protocol's.
OTHER_SETTINGS = "not the protocol's own settings"

_MORE_IS_STRONGER = ("steps", "restarts", "eot", "selection_samples", "queries", "n_targets")


def deviations_from(own: Mapping[str, object], given: Mapping[str, object]) -> list[Deviation]:
    """Return the settings in ``given`` that differ from the protocol's ``own``, or that ``own`` does not have."""
    deviations = []
    for name, setting in given.items():
        value, expected = plain_json(setting, name), plain_json(own.get(name), name)
        if value != expected:
            weaker = _is_weaker(name, value, expected)
            deviations.append(Deviation(name=name, value=value, own=expected, weaker=weaker))
    return deviations


def as_written(given: Mapping[str, object]) -> list[Deviation]:
    """Return the settings of a published attack, whose protocol has none of its own that they could be weaker than."""
    return [
        Deviation(name=name, value=plain_json(value, name), own=None, weaker=False) for name, value in given.items()
    ]


def label_of(protocol: ProtocolName, deviations: Sequence[Deviation]) -> Protocol:
    """Return the label of a row: the protocol's name, or ``weaker`` for an attack that is weaker than strict."""
    if protocol == "strict" and any(deviation.weaker for deviation in deviations):
        return WEAKER
    return protocol


def deviation_words(label: str, deviations: Sequence[Deviation]) -> str:
    """Return ``"steps 1 (strict: 40), targeted true (strict: false)"``, or an empty text without deviations.

    What no protocol has by itself is ``"gradients of defence.py:smooth, with mine.py:attack"``. Those of a published
    attack are ``"steps 20, best last"``, since its protocol has no settings of its own.

    Args:
        label: The label of the row.
        deviations: The deviations of the row.
    """
    if label == PUBLISHED:
        return ", ".join(f"{deviation.name} {_words(deviation.value)}" for deviation in deviations)
    protocol = "strict" if label == WEAKER else label
    return ", ".join(
        f"{_ADAPTED[deviation.name]} {_words(deviation.value)}"
        if deviation.name in _ADAPTED
        else f"{deviation.name} {_words(deviation.value)} ({protocol}: {_words(deviation.own)})"
        for deviation in deviations
    )


def settings_line(label: str, deviations: Sequence[Deviation]) -> str:
    """Return ``"not the protocol's own settings: steps 1 (strict: 40)"``, or ``"as published: steps 20"``."""
    return f"{'as published' if label == PUBLISHED else OTHER_SETTINGS}: {deviation_words(label, deviations)}"


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
