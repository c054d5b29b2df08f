"""The app with its verbs, and how an error becomes one message and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Literal

import typer

from rushkit import __version__, interrupt, registries
from rushkit.cli import (
    attack,
    audit,
    bench,
    certify,
    cluster,
    data,
    demo,
    doctor,
    evaluate,
    export,
    finetune,
    import_,
    leaderboard,
    plugins,
    predict,
    pretrain,
    probe,
    publish,
    recipe,
    report,
    runs,
    schema,
    study,
    verify,
)
from rushkit.cli.home import with_home
from rushkit.cli.imports import take_imports
from rushkit.cli.once import take_once
from rushkit.distributed.notes import Kind, leave_note
from rushkit.errors import LOST_PEER, Interrupted, RushkitError, UsageError, showable
from rushkit.named_code import naming
from rushkit.place import current_place, leave_place
from rushkit.prose import fitted
from rushkit.registrations import registered_by
from rushkit.voice import unfailing_output

ABOUT = (
    "Train image classifiers by contrastive learning and randomized smoothing, and learn how robust they really are."
)
# Command -> what it is for.
FIRST_HOUR = {
    "rushkit demo": "a small model, start to end",
    "rushkit attack --from shipped/digits --limit 20": "one that was trained",
    "rushkit report shipped/digits": "all of it on one page",
}
EPILOG = (
    "Exit codes: 0 done, 1 failed, 2 wrong use, 3 a plugin's fault, 130 interrupted. docs/troubleshooting.md explains "
    "error messages."
)

app = typer.Typer(
    name="rushkit",
    help=ABOUT,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
VERBS = (
    demo,
    pretrain,
    finetune,
    cluster,
    evaluate,
    attack,
    certify,
    predict,
    audit,
    verify,
    probe,
    report,
    import_,
    export,
    publish,
    leaderboard,
    doctor,
    bench,
    schema,
)
for verb in VERBS:
    app.command(verb.NAME, epilog=verb.EXAMPLE)(verb.command)
# Verbs whose work is on the disk before they print: it stands even where the output cannot be written.
KEEPING = {
    "audit",
    "attack",
    "certify",
    "cluster",
    "demo",
    "evaluate",
    "export",
    "finetune",
    "import",
    "leaderboard",
    "pretrain",
    "probe",
    "publish",
    "report",
    "verify",
}
KEEPING_GROUPS = {
    ("data", "fetch"),
    ("plugins", "new"),
    ("recipe", "copy"),
    ("runs", "clean"),
    ("runs", "export"),
    ("runs", "remove"),
}
_PRINTING = {"--help", "-h", "--dry-run"}

app.add_typer(recipe.app, name="recipe")
app.add_typer(data.app, name="data")
app.add_typer(runs.app, name="runs")
app.add_typer(study.app, name="study")
app.add_typer(plugins.app, name="plugins")
take_once(app)


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"rushkit {__version__}\n")
        raise typer.Exit


def _about() -> str:
    width = max(map(len, FIRST_HOUR))
    # Typer keeps the lines of a paragraph that begins so.
    lines = ["\b", "The first hour:", *(f"  {command:<{width}}  {what}" for command, what in FIRST_HOUR.items())]
    return f"{ABOUT}\n\n" + "\n".join(lines)


@app.callback(help=_about(), epilog=EPILOG)
def root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    """Read the options before a verb."""


def main(arguments: list[str] | None = None) -> int:
    """Run a command line and return its exit code: 0 done, 1 failed, 2 wrong use, 3 a plugin's fault, 130 interrupted.

    Output that cannot be written does not stop the work. The code is then 1 for a command that only prints, unless the
    reader has left on purpose, as ``head`` does.

    >>> main(["recipe", "list"])
    0
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    with unfailing_output() as out:
        code = _run(arguments)
        out.flush()
        lost = out.failure is not None and not isinstance(out.failure, BrokenPipeError)
        if code == 0 and lost and not _keeps_its_work(arguments):
            reason = getattr(out.failure, "strerror", None) or out.failure
            _complain(f"the standard output cannot be written: {reason}", "send it elsewhere, or free some space")
            code = 1
    return code


def _keeps_its_work(arguments: list[str]) -> bool:
    """Whether a command that succeeded has left more than what it printed."""
    kept = (arguments[:1] and arguments[0] in KEEPING) or tuple(arguments[:2]) in KEEPING_GROUPS
    return bool(kept) and _PRINTING.isdisjoint(arguments)


def _run(arguments: list[str]) -> int:
    debug = "--debug" in arguments or bool(os.environ.get("RUSHKIT_DEBUG"))
    try:
        # Every command takes it, though only the verbs list it: the hint below offers it for any of them.
        words = [with_home(word) for word in arguments if word != "--debug"]
        _refuse_empty(words)
        # And so for --import.
        words, files = take_imports(words)
        with interrupt.heard(), registered_by(files), naming():
            code = app(args=words, prog_name="rushkit", obj=arguments, standalone_mode=False)
        _part()
        return code or 0
    except SystemExit as stop:
        _part()
        return stop.code if isinstance(stop.code, int) else int(bool(stop.code))
    except typer.TyperException as error:
        from rushkit.cli.usage import usage_error

        wrong = usage_error(error, words)
        # A group without a command has already shown its help.
        if wrong.message:
            _complain(wrong.message, wrong.hint, code=error.exit_code)
        return error.exit_code
    except RushkitError as error:
        if debug:
            sys.stderr.write(showable(traceback.format_exc()))
        _complain(error.message, error.hint, "stop" if isinstance(error, Interrupted) else "cause", error.exit_code)
        return error.exit_code
    except KeyboardInterrupt:
        _complain("interrupted", None, "interrupted")
        return 130
    except Exception as error:  # noqa: BLE001 - whatever a bug raises becomes one message
        if debug:
            sys.stderr.write(showable(traceback.format_exc()))
        if _has_lost_a_peer(error):
            # Under --nproc the agent says which one, and why.
            if not current_place().folder:
                _complain(
                    f"another rank of this job has gone: {str(error).splitlines()[0]}",
                    "what ended it is said there, or in its log; --resume goes on from the last checkpoint",
                    "consequence",
                )
            return LOST_PEER
        if _is_out_of_memory(error):
            _complain(
                f"out of memory: {str(error).splitlines()[0] if str(error) else 'no more to be had'}",
                "smaller batches need less: --set pretrain.batch_size=N, finetune.batch_size=N or system.chunk=N; "
                "--dry-run estimates what a training step needs",
            )
            return 1
        _complain(
            f"an error inside rushkit: {type(error).__name__}: {error}",
            "run the command again with --debug for the traceback; a report of it is welcome",
        )
        return 1
    finally:
        leave_place()
        for registry in registries.ALL:
            registry.known_files.clear()


def _refuse_empty(words: list[str]) -> None:
    """Raise UsageError for an empty word. As a path it would mean the working folder, and as a name nothing."""
    for before, word in zip(["", *words], words, strict=False):
        option, equals, value = word.partition("=")
        if not word or (option.startswith("--") and equals and not value):
            name = option if word else before if before.startswith("-") else "an argument"
            raise UsageError(f"{name} is empty", "leave it out, or see whether a variable of the shell is not set")


def _part() -> None:
    """Leave the process group, if there is one; torch warns about a process that ends inside it."""
    if current_place().world > 1 and "torch" in sys.modules:
        from torch import distributed

        if distributed.is_initialized():
            distributed.destroy_process_group()


def _is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out. Does not import torch, whose CPU allocator raises a plain RuntimeError."""
    return (
        isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "can't allocate" in str(error)
    )


def _has_lost_a_peer(error: Exception) -> bool:
    """Whether the error follows from the end of another rank; torch.distributed and gloo raise different ones."""
    if current_place().world == 1:
        return False
    return any(kind.__name__ == "DistError" for kind in type(error).__mro__) or "/gloo/" in str(error)


def _complain(message: str, hint: str | None, kind: Kind | Literal["consequence"] = "cause", code: int = 1) -> None:
    lines = [f"error: {message}", *(f"hint: {hint}".splitlines() if hint else [])]
    text = showable("\n".join(lines))
    if kind != "consequence" and leave_note(kind, f"{text}\n", code):
        return
    if current_place().rank:
        text = f"rank {current_place().rank}: {text}"
    text = fitted(text, sys.stderr)
    colour = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    sys.stderr.write(f"\x1b[31m{text}\x1b[0m\n" if colour else f"{text}\n")
