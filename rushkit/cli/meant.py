"""What an unknown option or a stray word was meant for: an option, a key of the recipe, an option of another verb."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher

from typer import Context
from typer.core import TyperCommand, TyperGroup

from rushkit.cli.once import keys_of_flags
from rushkit.errors import first_few, shell_line
from rushkit.recipe.components import SECTIONS, components_with
from rushkit.recipe.keys import called_here, keys_ending_in
from rushkit.registries import noises

# Verb -> the sections of the recipe that it uses, its own first; the others use all of them.
_SECTIONS = {
    "pretrain": ("pretrain", "data", "backbone", "projector", "noise", "system"),
    "finetune": ("finetune", "data", "noise", "backbone", "system"),
    "cluster": ("data", "backbone", "system"),
    "evaluate": ("evaluate", "data", "noise", "system"),
    "attack": ("attack", "data", "noise", "system"),
    "audit": ("attack", "data", "noise", "system"),
    "verify": ("system",),
    "probe": ("attack", "data", "noise", "system"),
    "certify": ("certify", "data", "noise", "system"),
    "predict": ("certify", "data", "noise", "system"),
    "import": ("data", "backbone", "noise", "system"),
    "export": ("system",),
    "report": ("system",),
    "doctor": ("system",),
    "fetch": ("data",),
}
# Options of other programs -> those of ours that say the same, where a command has them.
_ALSO_CALLED = {
    "batch_size": "batch",
    "checkpoint": "from",
    "ckpt": "from",
    "config": "recipe",
    "gpus": "nproc",
    "num_samples": "samples",
    "output": "out",
    "weights": "from",
}
# The least likeness of an option that is suggested: one letter of six may be wrong, or two that changed places.
_ALIKE = 0.75
# Noises that need no scale: the paper's has one, and none has no use for it.
_WITHOUT_SCALE = ("uniform", "none")


def meant_by_option(option: str, value: str | None, context: Context) -> str | None:
    """Return a hint at what an option that a command does not have was meant for; None where nothing is likely.

    Args:
        option: As it was typed: ``--epochs``.
        value: What was given to it, if anything was.
        context: That of the command.
    """
    word, command = option.lstrip("-"), context.command
    if len(word) < 2 or not option.startswith("--"):
        return None
    same = f"--{_ALSO_CALLED.get(called_here(word), called_here(word)).replace('_', '-')}"
    if same in _options(command):
        return f"did you mean {same}?"
    return meant_by_key(word, value, command) or _nearest_option(word, command) or _elsewhere(same, context)


def meant_by_key(word: str, value: str | None, command: object) -> str | None:
    """Return a hint at the keys of the recipe that a word may stand for, each as ``--set`` or a flag takes it."""
    if "--set" not in _options(command):
        return None
    verb = str(getattr(command, "name", ""))
    sections = _SECTIONS.get(verb, ())
    keys = [key for key in keys_ending_in(word, sections) if sections or not key.startswith("published.")]
    # A key that was written out is a key.
    ways = [_set(key, value) if "." in word else _way(key, value, verb, command) for key in keys]
    # Beside the attack on validation images an objective may have one of its own.
    if "." not in word and all(".validation." in key for key in keys):
        ways = [*_of_components(called_here(word), value, sections[:1]), *ways]
    return f"did you mean {first_few(list(dict.fromkeys(ways)), separator=' or ')}?" if ways else None


def _of_components(option: str, value: str | None, sections: Sequence[str]) -> Iterator[str]:
    for section in filter(SECTIONS.__contains__, sections):
        if names := components_with(option, section):
            key = f"{section}.0.{option}" if section == "attack" else f"{section}.{option}"
            yield f"{_set(key, value)} (of {first_few(names)})"


def meant_by_words(extra: str, before: str, command: object) -> str | None:
    """Return a hint at a stray word: ``pretrain.epochs=3`` lacks its ``--set``, and ``--set KEY 3`` its ``=``."""
    if re.fullmatch(r"[A-Za-z][\w.-]*=.+", extra):
        key, _, value = extra.partition("=")
        return meant_by_key(key, value, command)
    if re.fullmatch(r"[a-z_]+(\.\w+)+", before):
        return f"did you mean {_set(before, extra)}?"
    return None


def _way(key: str, value: str | None, verb: str, command: object) -> str:
    """Return how a key is set: by the flag that a command has for it, or else by ``--set``."""
    for parameter in getattr(command, "params", []):
        pattern = keys_of_flags(verb).get(str(parameter.name))
        if pattern and re.fullmatch(pattern.format(verb=verb).replace(".", r"\.").replace("#", "[0-9]+"), key):
            return shell_line(parameter.opts[0], *([] if value is None else [value]))
    return _set(key, value)


def _set(key: str, value: str | None) -> str:
    words = ["--set", f"{key}={'...' if value is None else value}"]
    if key == "noise.name" and value is not None and value in noises and value.lower() not in _WITHOUT_SCALE:
        # The scale of the noise before it does not fit.
        words += ["--set", "noise.std=..."]
    return shell_line(*words)


def _nearest_option(word: str, command: object) -> str | None:
    """Return a hint at the options that differ by a slip, or that the word is the beginning of."""
    likeness = {}
    for option in _options(command):
        known = option.lstrip("-")
        likeness[option] = 1.0 if known.startswith(f"{word}-") else SequenceMatcher(None, word.lower(), known).ratio()
    near = sorted((option for option, ratio in likeness.items() if ratio >= _ALIKE), key=lambda near: -likeness[near])
    return f"did you mean {' or '.join(near[:2])}?" if near else None


def _elsewhere(option: str, context: Context) -> str | None:
    """Return a hint at the commands that have an option."""
    having = [path for path, command in _commands(context.find_root().command, ()) if option in _options(command)]
    return f"{option} is an option of {first_few(having)}" if having else None


def _commands(command: object, path: tuple[str, ...]) -> Iterator[tuple[str, TyperCommand]]:
    if isinstance(command, TyperGroup):
        for name, inner in command.commands.items():
            yield from _commands(inner, (*path, name))
    elif isinstance(command, TyperCommand):
        yield " ".join(path), command


def _options(command: object) -> Sequence[str]:
    return [word for option in getattr(command, "params", []) for word in option.opts if word.startswith("--")]
