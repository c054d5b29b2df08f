"""A registry of named components: built in, registered by hand, or brought by an installed distribution.

Listing never imports a component. A name that two owners bring is an error when it is used, not before,
and ``owner/name`` chooses. A plugin that cannot be imported breaks only its own names.
"""

from __future__ import annotations

import importlib
import os
import types
import typing
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, is_dataclass
from functools import lru_cache, partial
from importlib import metadata
from inspect import Parameter, signature
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

from rushkit.errors import PluginError, RushkitError, UsageError, did_you_mean, shell_line, shorten
from rushkit.ratio import is_ratio, number

BUILTIN_OWNER = "rushkit"

Factory = TypeVar("Factory")


@dataclass(frozen=True)
class Entry:
    """One registered name.

    Attributes:
        name: What the user writes; ``"timm/*"`` stands for every name behind the slash.
        owner: The distribution that brings it, or the top-level module that registered it.
        version: The owner's version, or ``""``.
        target: ``"module:attribute"``, or the object itself where it was registered by hand.
    """

    name: str
    owner: str
    version: str = ""
    target: Any = field(default=None, compare=False, repr=False)

    def load(self) -> Any:
        """Import and return the object. Raises PluginError with the cause, whatever the import raised."""
        if not isinstance(self.target, str):
            return self.target
        module, _, attribute = self.target.partition(":")
        try:
            target: Any = importlib.import_module(module)
            for part in filter(None, attribute.split(".")):
                target = getattr(target, part)
        # SystemExit too: a plugin that exits while it is imported must not take the program with it.
        except (Exception, SystemExit) as error:
            raise PluginError(
                f"{self.name!r} of {self.owner} cannot be loaded from {self.target}: {type(error).__name__}: {error}",
                f"repair or uninstall {self.owner}; `rushkit plugins --check` tries every plugin",
            ) from error
        return target

    def family_member(self, name: str) -> str | None:
        """Return what a name has for the star of a family such as ``timm/*``, with or without the owner; else None."""
        if not self.name.endswith("/*"):
            return None
        stems = (self.name[:-1], f"{self.owner}/{self.name[:-1]}")
        return next((name[len(stem) :] for stem in stems if name.startswith(stem) and len(name) > len(stem)), None)


@runtime_checkable
class Family(Protocol):
    """The object behind a name such as ``torchattacks/*``, which provides the factory of each member."""

    def member(self, name: str) -> Callable[..., Any]:
        """Return the factory of a member. Raises UsageError for a name that the family does not have."""
        ...


class Registry:
    """The names of one kind of component, and their factories.

    Args:
        kind: The singular word used in messages, such as ``"noise"``.
        group: The entry-point group that plugins use, such as ``"rushkit.noises"``.
        builtins: Name to ``"module:attribute"`` for what rushkit itself brings.
        known_plugins: Name to the distribution that would bring it, for the hint on an unknown name.
        offers: Attributes that what a plugin's factory makes must have.
        members: Family to ``"module:attribute"`` of its members' names. A name that nobody else brings may leave the
            family out: ``fgsm`` for ``torchattacks/fgsm``.
    """

    def __init__(
        self,
        kind: str,
        group: str,
        builtins: Mapping[str, str] | None = None,
        known_plugins: Mapping[str, str] | None = None,
        offers: tuple[str, ...] = (),
        members: Mapping[str, str] | None = None,
    ) -> None:
        self.kind = kind
        self.group = group
        self.offers = offers
        self._entries = [Entry(name, BUILTIN_OWNER, target=target) for name, target in (builtins or {}).items()]
        self.known_plugins = dict(known_plugins or {})
        # Name -> the file that registered it, as a run says that was made with it; "" for a notebook.
        self.known_files: dict[str, str] = {}
        self._members = dict(members or {})
        self._discovered = False

    def __repr__(self) -> str:
        return f"Registry({self.kind!r}: {', '.join(self.names())})"

    def __contains__(self, name: str) -> bool:
        return bool(self._matching(name))

    def register(self, name: str) -> Callable[[Factory], Factory]:
        """Decorate a factory with its name. The same owner may register a name again (a notebook cell run twice)."""

        def decorate(factory: Factory) -> Factory:
            owner = getattr(factory, "__module__", "").partition(".")[0] or "?"
            self.unregister(name, owner)
            self._entries.append(Entry(name, owner, target=factory))
            return factory

        return decorate

    def unregister(self, name: str, owner: str) -> None:
        """Forget one name of one owner; unknown pairs are ignored."""
        self._entries = [entry for entry in self._entries if not _same(entry, name, owner)]

    def by_hand(self) -> list[Entry]:
        """Return the entries that were registered by a decorator."""
        return [entry for entry in self._entries if not isinstance(entry.target, str)]

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Leave the registry at the end of the block as it was at its start."""
        before = list(self._entries), self._discovered
        try:
            yield
        finally:
            self._entries, self._discovered = before

    def names(self) -> list[str]:
        """Return every name once, sorted. Imports no component."""
        return sorted({entry.name for entry in self.entries()})

    def entries(self) -> list[Entry]:
        """Return every entry, sorted by name and owner. Imports no component."""
        self._discover()
        return sorted(self._entries, key=lambda entry: (entry.name, entry.owner))

    def entry(self, name: str) -> Entry:
        """Return the only entry for a name or ``owner/name``.

        Raises:
            UsageError: unknown name, or a name that several owners bring.
        """
        matching = self._matching(name)
        if not matching:
            raise self._unknown(name)
        if len(matching) > 1:
            owners = ", ".join(
                f"{entry.owner}/{entry.name.removesuffix('*') + (entry.family_member(name) or '')}"
                for entry in matching
            )
            raise UsageError(f"the {self.kind} {name!r} is brought by more than one owner", f"choose one of: {owners}")
        return matching[0]

    def get(self, name: str) -> Callable[..., Any]:
        """Return the factory of a name; for a family such as ``timm/*`` the rest of the name is its first argument.

        Raises:
            UsageError: unknown name, or a name that several owners bring.
            PluginError: what is behind it cannot be imported, or cannot be called.
        """
        name = self.written(name)
        entry = self.entry(name)
        factory = entry.load()
        member = None
        if entry.name.endswith("/*"):
            member = entry.family_member(name) or name
            if isinstance(factory, Family):
                return factory.member(member)
        if not callable(factory):
            raise PluginError(
                f"{self.kind} {entry.name!r} of {entry.owner}: {entry.target} is no factory: "
                f"a {type(factory).__name__} cannot be called",
                f"repair or uninstall {entry.owner}",
            )
        return typing.cast(Callable[..., Any], factory) if member is None else partial(factory, member)

    def create(self, name: str, /, **options: Any) -> Any:
        """Call the factory with checked options.

        Raises:
            UsageError: unknown name, unknown, missing or ill-typed option.
            PluginError: a plugin's factory raises something that is no error of rushkit's, or makes something that
                lacks a part of the interface.
        """
        factory = self.get(name)
        if problems := option_problems(factory, options):
            raise UsageError(
                f"{self.kind} {name!r}: {'; '.join(map(str, problems))}", f"its options: {describe_options(factory)}"
            )
        options = with_numbers(factory, options)
        entry = self.entry(name)
        ours = entry.owner == BUILTIN_OWNER or not isinstance(entry.target, str)
        try:
            made = factory(**options)
        except RushkitError as error:
            # A factory says what is wrong with a value; what else it takes is known here.
            error.hint = error.hint or f"its options: {describe_options(factory)}"
            raise
        except (Exception, SystemExit) as error:
            if ours:
                raise
            raise PluginError(
                f"{self.kind} {entry.name!r} of {entry.owner} cannot be made: {type(error).__name__}: {error}",
                f"check its options: {describe_options(factory)}; with --debug the traceback is shown",
            ) from error
        if entry.owner == BUILTIN_OWNER:
            return made
        # Seen without being asked for: a property may read files.
        if lacking := [part for part in self.offers if part not in dir(made)]:
            raise PluginError(
                f"{self.kind} {entry.name!r} of {entry.owner} is incomplete: its {type(made).__name__} has no "
                f"{', '.join(lacking)}",
                f"a {self.kind} needs {', '.join(self.offers)}: docs/plugins.md",
            )
        return made

    def written(self, name: str) -> str:
        """Return a name as it is registered, where it differs from that in case alone: ``"PGD"`` is ``"pgd"``.

        Any other name is returned as it is, unknown ones too. Imports no component.
        """
        # What is known already needs no look at the plugins.
        if any(entry.name == name for entry in self._entries):
            return name
        known, stems = [], []
        for entry in self.entries():
            both = [entry.name, f"{entry.owner}/{entry.name}"]
            if entry.name.endswith("/*"):
                stems += [stem[:-1] for stem in both]
                members = self.members(entry)
                both = [*members, *(f"{stem[:-1]}{member}" for stem in both for member in members)]
            known += both
        alike = {one for one in known if one.casefold() == name.casefold()}
        if name not in alike and len(alike) == 1:
            return alike.pop()
        # Of a family's member that nobody lists, at least the family.
        stem = next((stem for stem in stems if name.casefold().startswith(stem.casefold())), "")
        return stem + name[len(stem) :]

    def _matching(self, name: str) -> list[Entry]:
        name, entries = self.written(name), self.entries()
        exact = [entry for entry in entries if entry.name == name]
        if exact:
            return exact
        qualified = [entry for entry in entries if f"{entry.owner}/{entry.name}" == name]
        if qualified:
            return qualified
        family = [entry for entry in entries if entry.family_member(name) is not None]
        return family or [entry for entry in entries if name in self.members(entry)]

    def members(self, entry: Entry) -> list[str]:
        """Return the known names of a family's members, without the family. Imports no component."""
        if entry.owner != BUILTIN_OWNER or entry.name not in self._members:
            return []
        return list(Entry(entry.name, entry.owner, target=self._members[entry.name]).load())

    def _unknown(self, name: str) -> UsageError:
        if name in self.known_plugins:
            hint = f"it comes with a plugin: pip install {self.known_plugins[name]}"
        elif name in self.known_files:
            hint = _hint_at_file(self.known_files[name])
        else:
            members = [member for entry in self.entries() for member in self.members(entry)]
            near = did_you_mean(name, sorted({*self.names(), *members}))
            hint = near or f"there are: {', '.join(self.names())}"
        return UsageError(f"unknown {self.kind} {shorten(name)!r}", hint)

    def _discover(self) -> None:
        if self._discovered:
            return
        self._discovered = True
        for distribution, point in _entry_points(self.group):
            owner = distribution.name
            if not any(_same(entry, point.name, owner) for entry in self._entries):
                self._entries.append(Entry(point.name, owner, distribution.version, point.value))


def _hint_at_file(file: str) -> str:
    """Say how a component is registered that a file, or a notebook (``""``), registered when the run was made."""
    if not file:
        return "the run was made in a notebook that registers it: put that into a file, and add --import FILE.py"
    return f"the run was made with {file}, which registers it: add {shell_line('--import', file)}, with its path"


def _entry_points(group: str) -> Iterator[tuple[metadata.Distribution, metadata.EntryPoint]]:
    """Yield a group's entry points and distributions, as ``RUSHKIT_PLUGINS`` allows ("" none, "a,b" only those)."""
    listed = os.environ.get("RUSHKIT_PLUGINS")
    allowed = None if listed is None else {_canonical(name) for name in listed.split(",") if name.strip()}
    if allowed is not None and not allowed:
        return
    for point in metadata.entry_points(group=group):
        # What is left of a distribution that was torn may have no name.
        if point.dist is None or "Name" not in point.dist.metadata:
            continue
        if allowed is None or _canonical(point.dist.name) in allowed:
            yield point.dist, point


def _same(entry: Entry, name: str, owner: str) -> bool:
    """Return whether an entry has this name and owner; the owner may be given as a module or as a distribution."""
    return entry.name == name and _canonical(entry.owner) == _canonical(owner)


def _canonical(name: str) -> str:
    return name.strip().lower().replace("_", "-").replace(".", "-")


def factory_parameters(factory: Callable[..., Any], supplied: Iterable[str] = ()) -> dict[str, Parameter]:
    """Return the options that a factory takes by name, without those that rushkit supplies itself."""
    hidden = set(supplied)
    return {
        name: parameter
        for name, parameter in signature(factory).parameters.items()
        if parameter.kind in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY) and name not in hidden
    }


@dataclass(frozen=True)
class OptionProblem:
    """One problem with the options for a factory; ``str()`` gives a sentence about it.

    Attributes:
        option: The option's name.
        kind: Whether the factory does not know the option, needs it, or takes no such value.
        words: Of an unknown option, ``"did you mean ...?"`` or nothing; of a value, ``"must be ... (got ...)"``.
    """

    option: str
    kind: Literal["unknown", "missing", "value"]
    words: str = ""

    def __str__(self) -> str:
        if self.kind == "unknown":
            return f"unknown option {shorten(self.option)!r}" + (f"; {self.words}" if self.words else "")
        return f"option {self.option!r} is missing" if self.kind == "missing" else f"{self.option} {self.words}"


def option_problems(
    factory: Callable[..., Any], options: Mapping[str, object], supplied: Iterable[str] = ()
) -> list[OptionProblem]:
    """Return what is wrong with the options for a factory: unknown or missing options, and values of another type."""
    supplied = tuple(supplied)
    parameters = factory_parameters(factory, supplied)
    takes_any = any(parameter.kind is Parameter.VAR_KEYWORD for parameter in signature(factory).parameters.values())
    hints = option_types(factory)
    problems = []
    for name, value in options.items():
        if name not in parameters:
            if takes_any:
                continue
            problems.append(OptionProblem(name, "unknown", did_you_mean(name, parameters, most=1, cutoff=0.6)))
        elif name in hints and not _fits(value, hints[name]):
            words = f"must be {type_words(hints[name])} (got {shorten(repr(value))})"
            problems.append(OptionProblem(name, "value", words))
    for name, parameter in parameters.items():
        if parameter.default is Parameter.empty and name not in options:
            problems.append(OptionProblem(name, "missing"))
    return problems


def takes_value(factory: Callable[..., Any], option: str, value: object) -> bool:
    """Return whether a factory says by its annotation that an option takes such a value."""
    hints = option_types(factory)
    return option in hints and _fits(value, hints[option])


def describe_options(factory: Callable[..., Any], supplied: Iterable[str] = ()) -> str:
    """Return the options with their defaults in one line, for hints and listings."""
    parameters = factory_parameters(factory, supplied)
    shown = [name if p.default is Parameter.empty else f"{name}={p.default!r}" for name, p in parameters.items()]
    return ", ".join(shown) or "none"


def option_types(factory: Callable[..., Any]) -> dict[str, object]:
    """Return the annotation of each option of a factory; empty where it cannot be resolved.

    Those of a dataclass are its fields', each resolved in the module of the class that declares it.
    """
    target: Any = factory.func if isinstance(factory, partial) else factory
    if isinstance(target, type) and not is_dataclass(target):
        target = getattr(target, "__init__")  # noqa: B009
    return dict(_hints(target) if isinstance(target, Hashable) else _hints.__wrapped__(target))


@lru_cache(maxsize=512)
def _hints(target: Any) -> dict[str, object]:
    try:
        return typing.get_type_hints(target)
    # A plugin may annotate with names that exist only for the type checker; then its values go unchecked.
    except (NameError, TypeError, AttributeError):
        return {}


def _fits(value: object, expected: object) -> bool:
    """Return whether a value fits an annotation; an unknown kind of annotation accepts everything."""
    origin, arguments = typing.get_origin(expected), typing.get_args(expected)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, option) for option in arguments)
    if origin is Literal:
        # By type too: True == 1 == 1.0.
        return any(type(value) is type(argument) and value == argument for argument in arguments)
    if expected is float:
        return is_ratio(value) or (isinstance(value, int | float) and not isinstance(value, bool))
    if expected is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if expected is str or expected is bool:
        return isinstance(value, expected)
    if expected in (None, type(None)):
        return value is None
    if origin in (list, tuple):
        if not isinstance(value, list | tuple):
            return False
        if origin is tuple and arguments and Ellipsis not in arguments:
            return len(value) == len(arguments) and all(map(_fits, value, arguments))
        return not arguments or all(_fits(item, arguments[0]) for item in value)
    return True


def with_numbers(factory: Callable[..., Any], options: Mapping[str, object]) -> dict[str, object]:
    """Return the options with the number in place of a ratio such as ``"8/255"`` where a number is expected."""
    hints = option_types(factory)
    return {name: _number(value, hints.get(name)) for name, value in options.items()}


def _number(value: object, expected: object) -> object:
    if not isinstance(value, str) or not is_ratio(value):
        return value
    kinds = typing.get_args(expected) or (expected,)
    return number(value) if float in kinds and str not in kinds else value


def type_words(expected: object) -> str:
    """Return the values that fit an annotation, in words: "a number", "one of 'l2', 'linf'"."""
    words: dict[object, str] = {
        float: "a number",
        int: "a whole number",
        str: "a text",
        bool: "true or false",
        type(None): "absent",
    }
    origin, arguments = typing.get_origin(expected), typing.get_args(expected)
    if origin is Literal:
        return "one of " + ", ".join(repr(argument) for argument in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(type_words(argument) for argument in arguments if argument is not type(None))
    if origin in (list, tuple):
        counted = f" of {len(arguments)}" if origin is tuple and Ellipsis not in arguments else ""
        return f"a list{counted}"
    return words.get(expected, getattr(expected, "__name__", str(expected)))
