"""Turn the errors of Typer into ours: one message and one hint."""

from __future__ import annotations

import re

import typer
from pydantic import ValidationError
from typer.core import TyperGroup

from rushkit.cli.meant import meant_by_option, meant_by_words
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
    hint = (
        _early(error, arguments)
        or _divided(arguments)
        or _meant(error, arguments)
        or _unnamed(error, arguments)
        or f"`{command} --help` shows its {listed}"
    )
    if isinstance(error, typer.BadParameter) and isinstance(error.__cause__, ValidationError) and error.param:
        name = error.param.get_error_hint().replace("'", "")
        return UsageError(f"{name}: {explain(error.__cause__.errors(include_url=False)[0])}", hint)
    # Without Typer's own suggestions, which have nothing to do with what an option is for.
    message = error.message if "possibilities" in vars(error) else error.format_message()
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


def _meant(error: typer.TyperException, arguments: list[str]) -> str | None:
    """Hint at what an unknown option, or a stray word, was meant for."""
    context, option = getattr(error, "ctx", None), getattr(error, "option_name", None)
    extra = re.search(r"unexpected extra argument.* \((\S+)", error.format_message())
    if context is None or isinstance(context.command, TyperGroup):
        return None
    if "possibilities" in vars(error) and option:
        return meant_by_option(option, _value(option, arguments), context)
    if extra is None or extra[1].rstrip(")") not in arguments:
        return None
    word = extra[1].rstrip(")")
    place = arguments.index(word)
    before = arguments[place - 1] if place > 1 and arguments[place - 2] == "--set" else ""
    return meant_by_words(word, before, context.command)


def _value(option: str, arguments: list[str]) -> str | None:
    """Return what was given to an option: what follows its ``=``, or the next word."""
    for word, following in zip(arguments, [*arguments[1:], "--"], strict=True):
        name, equals, value = word.partition("=")
        if name == option:
            return value if equals else None if following.startswith("--") else following
    return None


def _options(command: object) -> list[str]:
    return [word for option in getattr(command, "params", []) for word in option.opts]
