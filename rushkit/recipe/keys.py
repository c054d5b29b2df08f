"""The keys of a recipe by their last part: what a key may have been that was written short, or as an option."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Literal, get_args, get_origin

from rushkit.recipe.schema import Recipe, Section, section_at

# What other programs call it -> what it is called here.
_ALSO_CALLED = {
    "arch": "backbone",
    "bs": "batch_size",
    "dataset": "data",
    "data_path": "data_dir",
    "data_root": "data_dir",
    "epsilon": "eps",
    "iterations": "steps",
    "iters": "steps",
    "learning_rate": "lr",
    "loss": "objective",
    "model": "backbone",
    "num_epochs": "epochs",
    "num_steps": "steps",
    "output_dir": "runs_dir",
    "random_seed": "seed",
    "scheduler": "schedule",
    "sigma": "std",
    "wd": "weight_decay",
}


def called_here(word: str) -> str:
    """Return the name of a key for what was written: ``batch-size`` and ``bs`` are ``batch_size``."""
    word = word.lower().replace("-", "_")
    return _ALSO_CALLED.get(word, word)


@cache
def all_keys() -> tuple[str, ...]:
    """Return every dotted key that a recipe has, but for the options of components: ``attack.0.eps`` among them."""
    return tuple(_keys(Recipe, ""))


def keys_ending_in(word: str, sections: Iterable[str] = ()) -> list[str]:
    """Return the keys that a word may stand for: those that end in it, and what a table of its name is chosen by.

    >>> keys_ending_in("epochs")
    ['pretrain.epochs', 'finetune.epochs']
    >>> keys_ending_in("noise")
    ['noise.name']

    Args:
        word: The last part of a key, or more of its end: ``optimizer.lr``.
        sections: The sections to look in; none: all of them.
    """
    end = ".".join(called_here(part) for part in word.split("."))
    known = [key for key in all_keys() if not sections or key.partition(".")[0] in sections]
    # A table is meant by the key that says which: [noise] by its name, [[attack]] by its type.
    ends = (end, f"{end}.name", f"{end}.0.type")
    matching = [key for key in known if any(key == one or key.endswith(f".{one}") for one in ends)]
    return sorted(matching, key=lambda key: key.count("."))


def choices_of(key: str) -> list[str]:
    """Return the values that a key takes where there are only a few; an empty list where there are many."""
    section, _, name = key.rpartition(".")
    fields = getattr(section_at(section), "model_fields", {})
    annotation = fields[name].annotation if name in fields else None
    if annotation is bool:
        return ["true", "false"]
    return [str(choice) for choice in get_args(annotation)] if get_origin(annotation) is Literal else []


def _keys(model: type[Section], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        key = f"{prefix}{field.alias or name}"
        inner = next(iter(get_args(field.annotation)), field.annotation)
        if isinstance(inner, type) and issubclass(inner, Section):
            yield from _keys(inner, f"{key}.0." if get_origin(field.annotation) is list else f"{key}.")
        else:
            yield key
    # Every one of them is an option of most components.
    yield from (f"{prefix}{name}" for name in sorted(model.EXCLUSIVE))
