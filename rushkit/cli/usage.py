"""Turn the errors of Typer into ours: one message and one hint."""

from __future__ import annotations

import re

import typer
from pydantic import ValidationError
from typer.core import TyperGroup

from rushkit.errors import UsageError, shell_line
from rushkit.recipe.problems import explain
from rushkit.registries import attacks


def usage_error(error: typer.TyperException, arguments: list[str]) -> UsageError:
    """Return the UsageError that stands for an error of Typer.

    Args:
        error: It names its option and its command where it knows them.
        arguments: The whole command line, without the program.
    """
    context = getattr(error, "ctx", None)
    command = context.command_path if context else " ".join(["rushkit", *arguments[:1]])
    listed = "commands" if isinstance(getattr(context, "command", None), TyperGroup) else "options, with an example"
    early = _early(error, arguments)
    hint = early or _divided(arguments) or _unnamed(error, arguments) or f"`{command} --help` shows its {listed}"
    if isinstance(error, typer.BadParameter) and isinstance(error.__cause__, ValidationError) and error.param:
        name = error.param.get_error_hint().replace("'", "")
        return UsageError(f"{name}: {explain(error.__cause__.errors(include_url=False)[0])}", hint)
    near = getattr(error, "possibilities", None)
    if near and not early:
        hint = f"did you mean {' or '.join(near)}?"
    message = error.message if near is not None else error.format_message()
    return UsageError(message[:1].lower() + message[1:].rstrip("."), hint)


def _divided(arguments: list[str]) -> str | None:
    """Hint at the missing slash of ``--eps 8 255``."""
    for flag, number, extra in zip(arguments, arguments[1:], arguments[2:], strict=False):
        if flag.startswith("--") and number.isdecimal() and extra.isdecimal():
            return f"did you mean {flag} {number}/{extra}?"
    return None


def _early(error: typer.TyperException, arguments: list[str]) -> str | None:
    """Hint at the order of ``rushkit --json pretrain``: the option belongs to the command behind it."""
    context = getattr(error, "ctx", None)
    verbs, option = getattr(getattr(context, "command", None), "commands", {}), getattr(error, "option_name", None)
    verb = next((word for word in arguments if word in verbs), None)
    if context is None or verb is None or option not in _options(verbs[verb]):
        return None
    return f"options follow the command: {context.command_path} {verb} {option}"


def _unnamed(error: typer.TyperException, arguments: list[str]) -> str | None:
    """Hint at the option that ``rushkit evaluate digits`` lacks: it names a run, a recipe or an attack."""
    extra = re.search(r"unexpected extra argument.* \((\S+)\)", error.format_message())
    flags = _options(getattr(getattr(error, "ctx", None), "command", None))
    if extra is None:
        return None
    likely = ("--type",) if extra[1] in attacks else ("--from", "--recipe")
    # A command that takes both has the one that it needs first.
    flag = next((flag for flag in flags if flag in likely), None)
    return f"did you mean {shell_line(flag, extra[1])}?" if flag and flag not in arguments else None


def _options(command: object) -> list[str]:
    return [word for option in getattr(command, "params", []) for word in option.opts]
