"""Write a new plugin that works as it is, from the files in ``skeletons/``.

A file there has the path that it gets in the plugin, with MODULE and NAME for the names of the plugin, and ``.txt`` at
the end; ``${...}`` in it is filled in. The folder ``common`` holds what all kinds of plugins have.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from string import Template

from rushkit import __version__, registries
from rushkit.errors import UsageError
from rushkit.registry import Registry

FOLDER = Path(__file__).with_name("skeletons")


class Kind(StrEnum):
    """The kinds of components that a plugin can bring."""

    NOISE = "noise"
    ATTACK = "attack"
    DATASET = "dataset"
    BACKBONE = "backbone"
    OBJECTIVE = "objective"
    RECIPE = "recipe"


REGISTRIES: dict[Kind, Registry] = {
    Kind.NOISE: registries.noises,
    Kind.ATTACK: registries.attacks,
    Kind.DATASET: registries.datasets,
    Kind.BACKBONE: registries.backbones,
    Kind.OBJECTIVE: registries.objectives,
    Kind.RECIPE: registries.recipes,
}
_EXAMPLES = {
    Kind.NOISE: "rushkit pretrain --recipe digits --set noise.name={name} --set noise.scale=0.4",
    Kind.ATTACK: "rushkit attack --type {name} --limit 10",
    Kind.DATASET: "rushkit pretrain --recipe digits --set data.name={name}",
    Kind.BACKBONE: "rushkit pretrain --recipe digits --set backbone.name={name}",
    Kind.OBJECTIVE: "rushkit finetune --from digits --set finetune.objective={name}",
    Kind.RECIPE: "rushkit pretrain --recipe {name}",
}


@dataclass(frozen=True)
class Plugin:
    """A plugin that is to be written.

    Attributes:
        name: The registered name of its component, such as ``"cauchy"``.
        kind: The kind of the component.
    """

    name: str
    kind: Kind

    @property
    def distribution(self) -> str:
        """The distribution that pip installs."""
        return f"rushkit-{self.name}"

    @property
    def module(self) -> str:
        """The module that Python imports."""
        return self.distribution.replace("-", "_")

    @property
    def example(self) -> str:
        """A command that uses it."""
        return _EXAMPLES[self.kind].format(name=self.name)

    def files(self) -> dict[str, str]:
        """Return the files of the plugin: path in its folder -> content."""
        # With the kind at its end, the name of the class clashes with none that its module imports.
        words = "".join(word.capitalize() for word in self.name.split("-")).removesuffix(self.kind.capitalize())
        values = {
            "name": self.name,
            "kind": REGISTRIES[self.kind].kind,
            "distribution": self.distribution,
            "module": self.module,
            "factory": "path" if self.kind == Kind.RECIPE else f"{words}{self.kind.capitalize()}",
            "group": REGISTRIES[self.kind].group,
            "version": __version__,
            "example": self.example,
        }
        files = {}
        for part in (FOLDER / "common", FOLDER / self.kind):
            for source in sorted(path for path in part.rglob("*.txt")):
                path = source.relative_to(part).as_posix().removesuffix(".txt")
                path = path.replace("MODULE", self.module).replace("NAME", self.name)
                files[path] = Template(source.read_text(encoding="utf-8")).substitute(values)
        return files


def plan_plugin(name: str, kind: Kind) -> Plugin:
    """Check the name of a plugin, with or without ``rushkit-`` before it, and return the plugin.

    Raises:
        UsageError: pip or Python does not accept the name, or it is taken.
    """
    plugin = Plugin(name.removeprefix("rushkit-"), kind)
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", plugin.name, re.ASCII):
        near = re.sub(r"[^a-z0-9]+", "-", plugin.name.lower()).strip("-0123456789")
        raise UsageError(
            f"{name!r} is no name for a plugin: it needs lower-case letters, digits and single dashes, a letter first",
            f"for example {near or 'my-noise'}",
        )
    owners = {entry.owner for entry in REGISTRIES[kind].entries() if entry.name == plugin.name}
    if kind == Kind.RECIPE:
        from rushkit.recipe.find import available

        owners |= {owner for recipe, owner in available().items() if recipe == plugin.name}
    if owners:
        raise UsageError(
            f"there is a {REGISTRIES[kind].kind} {plugin.name!r} already, of {', '.join(sorted(owners))}",
            "choose another name; `rushkit plugins` shows those that are taken",
        )
    if _is_installed(plugin.distribution):
        raise UsageError(f"a distribution {plugin.distribution} is installed already", "choose another name")
    return plugin


def write_plugin(plugin: Plugin, parent: Path) -> Path:
    """Write a plugin into a new folder below ``parent`` and return that folder.

    >>> write_plugin(plan_plugin("cauchy", Kind.NOISE), Path("."))

    Raises:
        UsageError: the folder exists already.
        RushkitError: the folder cannot be written.
    """
    from rushkit.files import write_error

    project = parent / plugin.distribution
    try:
        project.mkdir(parents=True)
        for path, content in plugin.files().items():
            (project / path).parent.mkdir(parents=True, exist_ok=True)
            (project / path).write_text(content, encoding="utf-8")
    except FileExistsError as error:
        raise UsageError(f"{error.filename} exists already", "choose another name or --dir, or remove it") from error
    except OSError as error:
        raise write_error(project, error) from error
    return project


def _is_installed(distribution: str) -> bool:
    try:
        metadata.distribution(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True
