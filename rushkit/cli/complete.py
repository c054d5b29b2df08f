"""Completion in the shell: recipes, runs, components, keys of a recipe. Nothing here imports torch."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from rushkit.errors import showable
from rushkit.paths import expand

if TYPE_CHECKING:
    from rushkit.run.info import RunInfo

# Characters of a word that may be offered: the shell gets it unquoted, and zsh evaluates the line.
_WORD = re.compile(r"[\w@%+=:,./~ -]+")
# How many runs are offered, the newest ones.
_MOST_RUNS = 30


def complete_recipes(incomplete: str) -> list[tuple[str, str]]:
    """Offer recipes by name, with their origins."""
    from rushkit.recipe.find import available

    return _starting(incomplete, available().items())


def complete_runs(incomplete: str) -> list[tuple[str, str]]:
    """Offer what names a run: recipes of which there are runs, the models that come with rushkit, then the newest ids.

    Once something is typed, the ends of ids and the paths of folders are offered as well.
    """
    from rushkit.run.shipped import shipped_models

    runs = _runs()
    recipes = {run.recipe: f"newest run of recipe {run.recipe}" for run in runs}
    shipped = dict.fromkeys(shipped_models(), "comes with rushkit")
    offers = [*_starting(incomplete, (recipes | shipped).items()), *_newest(runs, incomplete, str)]
    if incomplete:
        offers += _newest(runs, incomplete, lambda name: name.rpartition("-")[2])
        offers += _newest(runs, incomplete, lambda name: str(_root() / name))
    return list(dict(reversed(offers)).items())[::-1]


def complete_attacks(incomplete: str) -> list[tuple[str, str]]:
    """Offer attacks by name, with their owners; of a family such as torchattacks/* the part before the star."""
    from rushkit import registries

    return _starting(incomplete, ((e.name.removesuffix("*"), e.owner) for e in registries.attacks.entries()))


def complete_datasets(incomplete: str) -> list[tuple[str, str]]:
    """Offer data sets by name, with their owners."""
    from rushkit import registries

    return _starting(incomplete, ((entry.name, entry.owner) for entry in registries.datasets.entries()))


def complete_backbones(incomplete: str) -> list[tuple[str, str]]:
    """Offer backbones by name, with their owners; a family such as timm/* by the part before the star."""
    from rushkit import registries

    return _starting(incomplete, ((e.name.removesuffix("*"), e.owner) for e in registries.backbones.entries()))


def complete_trackers(incomplete: str) -> list[tuple[str, str]]:
    """Offer trackers by name, the last of several."""
    from rushkit import registries

    before = incomplete[: incomplete.rfind(",") + 1]
    return _starting(incomplete, ((f"{before}{entry.name}", entry.owner) for entry in registries.trackers.entries()))


def complete_targets(incomplete: str) -> list[tuple[str, str]]:
    """Offer what a model can be transferred to: recipes and data sets."""
    return sorted((dict(complete_datasets(incomplete)) | dict(complete_recipes(incomplete))).items())


def complete_changes(incomplete: str) -> list[tuple[str, str]]:
    """Offer the keys of a recipe, as ``KEY=``, and behind a key that names a component the components."""
    from rushkit import registries
    from rushkit.recipe import toml
    from rushkit.recipe.keys import all_keys, choices_of
    from rushkit.recipe.schema import Data, Recipe

    key, given, _ = incomplete.partition("=")
    if given:
        named = {
            "data.name": registries.datasets,
            "backbone.name": registries.backbones,
            "noise.name": registries.noises,
            "pretrain.objective": registries.objectives,
            "finetune.objective": registries.objectives,
            "attack.0.type": registries.attacks,
        }
        if key in ("pretrain.labels", "finetune.labels"):
            runs = (run for run in _runs() if run.verb == "cluster" and run.status == "finished")
            return _starting(incomplete, ((f"{key}={run.path.name}", f"clusters of {run.recipe}") for run in runs))
        if key in named:
            entries = named[key].entries()
            return _starting(incomplete, ((f"{key}={entry.name.removesuffix('*')}", entry.owner) for entry in entries))
        return _starting(incomplete, ((f"{key}={choice}", key) for choice in choices_of(key)))
    defaults = toml.flatten(Recipe(data=Data(name="digits")).resolved())
    known = (key for key in all_keys() if key != "schema")
    return _starting(
        incomplete, ((f"{key}=", toml.format_value(defaults[key]) if key in defaults else "") for key in known)
    )


def complete_documents(incomplete: str) -> list[tuple[str, str]]:
    """Offer the documents that have a schema."""
    from rushkit.documents.names import DOCUMENTS

    return _starting(incomplete, ((document.name, document.about) for document in DOCUMENTS.values()))


def complete_devices(incomplete: str) -> list[tuple[str, str]]:
    """Offer the names of devices that a machine may have."""
    devices = {"auto": "a GPU where there is one", "cpu": "", "cuda": "", "cuda:0": "", "mps": "Apple's GPUs"}
    return _starting(incomplete, devices.items())


def complete_splits(incomplete: str) -> list[tuple[str, str]]:
    """Offer the splits that most data sets have."""
    return _starting(incomplete, ((name, "") for name in ("test", "train", "validation")))


def _root() -> Path:
    return expand(os.environ.get("RUSHKIT_RUNS") or "runs")


def _newest(runs: Sequence[RunInfo], incomplete: str, called: Callable[[str], str]) -> list[tuple[str, str]]:
    """Offer the newest runs that start with what is typed, each as it is called by the name of its folder."""
    offers = ((called(run.path.name), f"{run.verb} {run.recipe}, {run.status}") for run in runs)
    return _starting(incomplete, islice((offer for offer in offers if offer[0].startswith(incomplete)), _MOST_RUNS))


def _runs() -> list[RunInfo]:
    """The runs whose run.json can be read, newest first."""
    from rushkit.run.info import find_runs

    return [run for run in find_runs(_root()) if run.verb]


def _starting(incomplete: str, offers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the offers that start with what is typed and that a shell takes for one word.

    Names and remarks may come from files of other people.
    """
    from rich.markup import escape

    return [
        (name, escape(showable(" ".join(about.split()))))
        for name, about in offers
        if name.startswith(incomplete) and _WORD.fullmatch(name)
    ]
