"""Verbs whose options come in groups: frozen dataclasses whose fields are Typer options, each declared once."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable
from inspect import Parameter, Signature, signature
from typing import Annotated, Any, get_type_hints

import typer
from typer.models import OptionInfo

from rushkit.cli.panels import OUTPUT, RUN, panel_of

# ``main`` takes these two off the command line of every command before Typer reads it; the verbs list them.
_IMPORT = Parameter(
    "imports",
    Parameter.KEYWORD_ONLY,
    default=None,
    annotation=Annotated[
        list[str] | None,
        typer.Option(
            "--import",
            metavar="FILE.py",
            rich_help_panel=RUN,
            help="Run a Python file of yours for the components that it registers; also in RUSHKIT_IMPORT.",
        ),
    ],
)
_DEBUG = Parameter(
    "debug",
    Parameter.KEYWORD_ONLY,
    default=False,
    annotation=Annotated[bool, typer.Option("--debug", rich_help_panel=OUTPUT, help="Show Python tracebacks.")],
)


def _group(parameters: Iterable[Parameter]) -> None:
    """Give each option the group that ``--help`` shows it in, unless it names one itself."""
    for parameter in parameters:
        for about in getattr(parameter.annotation, "__metadata__", ()):
            if isinstance(about, OptionInfo) and about.rich_help_panel is None:
                # Inside of an Annotated, Typer takes the first flag for a default until it reads the command.
                words = (about.default, *(about.param_decls or ()))
                panels = [panel_of(word.partition("/")[0]) for word in words if isinstance(word, str)]
                about.rich_help_panel = next(filter(None, panels), None)


def verb(command: Callable[..., None]) -> Callable[..., None]:
    """Give Typer a command whose parameters that are dataclasses stand for their fields, in the same order.

    Example::

        @dataclass(frozen=True)
        class Output:
            json: Annotated[bool, typer.Option("--json")] = False

        @verb
        def command(output: Output) -> None: ...  # Typer sees the option --json; the command gets an Output
    """
    hints = get_type_hints(command, include_extras=True)
    parameters: list[Parameter] = []
    groups: dict[str, type[Any]] = {}
    for name, parameter in signature(command).parameters.items():
        kind = hints[name]
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            groups[name] = kind
            parameters += signature(kind, eval_str=True).parameters.values()
        else:
            parameters.append(parameter.replace(annotation=kind))

    @functools.wraps(command)
    def call(**values: Any) -> None:
        del values["imports"], values["debug"]
        made = {
            name: kind(**{field.name: values.pop(field.name) for field in dataclasses.fields(kind)})
            for name, kind in groups.items()
        }
        command(**values, **made)

    _group(parameters)
    # By name alone, so that an option with a default may stand before one without.
    named = [parameter.replace(kind=Parameter.KEYWORD_ONLY) for parameter in parameters]
    call.__signature__ = Signature([*named, _IMPORT, _DEBUG])  # type: ignore[attr-defined]
    call.__annotations__ = {}
    return call
