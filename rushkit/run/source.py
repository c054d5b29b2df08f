"""The checkpoint that ``--from`` names, with helpful messages if nothing fits."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from rushkit.errors import CheckpointError, UsageError, did_you_mean, first_few, shell_line, showable
from rushkit.recipe.find import available
from rushkit.recipe.variant import base_name
from rushkit.run.checkpoint import Checkpoint, load_checkpoint
from rushkit.run.info import STOPPED, RunInfo, find_runs, read_run_file
from rushkit.run.lineage import ancestors, parents
from rushkit.run.named import IMPORTED, Named, Wish, find_named
from rushkit.run.names import CHECKPOINTS, POINTERS, SUFFIX
from rushkit.run.shipped import PREFIX, is_shipped, shipped_models
from rushkit.run.store import CheckpointStore


def _log_warning(text: str) -> None:
    logging.getLogger(__name__).warning("%s", showable(text))


@dataclass(frozen=True)
class Source:
    """The source that ``--from`` names: a checkpoint file, or a run, whose last intact checkpoint is used.

    Attributes:
        run: The run, or None for a file outside any run.
        checkpoint: The file that was named, or None.
        note: What a user must be told of the choice, such as other runs of this name; else empty.
    """

    run: RunInfo | None
    checkpoint: Path | None = None
    note: str = ""

    def load(self, device: torch.device | str = "cpu", warn: Callable[[str], None] | None = None) -> Checkpoint:
        """Load the checkpoint; damaged ones are passed over, and ``warn`` is called with a sentence about each.

        Before, ``warn`` is called with the note. Without ``warn`` the sentences are logged.

        Raises:
            CheckpointError: no checkpoint loads.
        """
        if self.note:
            (warn or _log_warning)(self.note)
        if self.checkpoint is not None:
            return load_checkpoint(self.checkpoint, device)
        if self.run is None:
            raise CheckpointError("neither a run nor a checkpoint is named", "name one with --from")
        checkpoint = self.run.store(warn).load_latest(device)
        if checkpoint is None:
            raise _without_checkpoint(self.run)
        return checkpoint


def resolve_from(
    spec: str | Path | None, root: str | Path, verbs: str | Sequence[str], prefer: str | None = None
) -> Source:
    """Return the source that ``--from SPEC`` names, by the rule of ``run.named``.

    Args:
        spec: What names it, or None (the newest finished run that fits).
        root: The folder of runs.
        verbs: The commands whose runs are accepted.
        prefer: The one of them whose runs a recipe's name means, if it has any; None: the newest run of all.

    Raises:
        UsageError: nothing fits; the message lists what exists, and the command that would make one.
        CheckpointError: the run has no checkpoint.
    """
    verbs = (verbs,) if isinstance(verbs, str) else tuple(verbs)
    # An imported model is called by its name alone: say what it is, where it is not what is needed.
    wishes = (*([Wish((prefer,))] if prefer else []), Wish(verbs))
    if spec is None:
        run = next((run for wish in wishes for run in find_runs(root) if wish.grants(run)), None)
        named = None if run is None else Named(run)
    else:
        named = find_named(str(spec), root, (*wishes, IMPORTED))
    if named is None:
        raise _nothing_fits(None if spec is None else str(spec), Path(root), verbs)
    if named.checkpoint is not None:
        return _of_file(named, verbs)
    assert named.run is not None
    if "pretrain" in verbs and is_shipped(named.run.path):
        # Its encoder does not come alone.
        verbs = ("finetune", *verbs)
    return Source(_fitting(named.run, verbs), note=named.note)


def _fitting(run: RunInfo, verbs: Sequence[str]) -> RunInfo:
    if run.status == "broken":
        # Says what is wrong with it.
        read_run_file(run.path)
    if run.stage not in verbs:
        imported = run.stage != run.verb
        stands_for = f", which stands for one of {run.stage}" if imported else ""
        raise UsageError(
            f"{run.path} is a run of {run.verb}{stands_for}; this needs one of {' or '.join(verbs)}",
            f"make one with: {shell_line('rushkit', 'finetune', '--from', run.path)}"
            if imported and run.stage == "pretrain"
            else _nearer(run, verbs) or _how_to(verbs, run.recipe),
        )
    if not run.store().paths():
        raise _without_checkpoint(run)
    return run


def _of_file(named: Named, verbs: Sequence[str]) -> Source:
    """Return the source of a checkpoint file, or of the one that a pointer names."""
    path, run = named.checkpoint, named.run
    assert path is not None
    if path.name in POINTERS and path.parent.name == CHECKPOINTS:
        path = CheckpointStore(path.parent, writable=False).pointed(path.name) or path
    if path.suffix != SUFFIX:
        hint = f"name a run folder, or a checkpoint that rushkit wrote: it ends in {SUFFIX}"
        raise UsageError(f"{path} is not a checkpoint of rushkit", hint)
    if run is not None and run.status != "broken":
        return Source(_fitting(run, verbs), path)
    return Source(None, path)


def _nearer(run: RunInfo, verbs: Sequence[str]) -> str | None:
    """Return a hint that names the nearest ancestor of the wanted kind; None if there is none."""
    if run.verb == "import":
        return "an encoder is imported with: rushkit import FILE --encoder-only"
    around = find_runs(run.path.resolve().parent)
    by_name = {other.path.name: other for other in around}
    for name in ancestors(run.path.resolve().name, parents(around)):
        if by_name[name].stage in verbs:
            return f"name the one that it builds on: {shell_line('--from', run.path.parent / name)}"
    return None


def _without_checkpoint(run: RunInfo) -> CheckpointError:
    return CheckpointError(
        f"{run.path} ({run.status}) has no checkpoint", "resume it with --resume, or choose another run with --from"
    )


def _nothing_fits(recipe: str | None, root: Path, verbs: Sequence[str]) -> UsageError:
    of = f" of recipe {recipe!r}" if recipe else ""
    runs = find_runs(root)
    how_to = _how_to(
        verbs, recipe, [run.recipe for run in runs if run.stage == "pretrain" and run.status == "finished"]
    )
    for run in runs:
        if run.verb in verbs and run.recipe == recipe and run.status in STOPPED:
            how_to = (
                f"go on with the one that stopped: {shell_line('rushkit', run.verb, '--resume', '--run', run.path)}"
            )
            break
    message = f"no finished run of {' or '.join(verbs)}{of} in {root}"
    hints = [_what_there_is(recipe, runs, root, verbs), *_shipped(recipe, verbs), how_to]
    return UsageError(message, "\n".join(hints))


def _shipped(recipe: str | None, verbs: Sequence[str]) -> list[str]:
    """Return a sentence on the models that come with rushkit and would do; none if there are none."""
    fitting = [name for name in shipped_models() if recipe is None or name == f"{PREFIX}{recipe}"]
    return [f"with rushkit comes: --from {' or '.join(fitting)}"] if fitting and verbs[0] == "finetune" else []


def _what_there_is(recipe: str | None, runs: Sequence[RunInfo], root: Path, verbs: Sequence[str]) -> str:
    """Return the recipes that have a fitting run, or otherwise the runs that exist."""
    names = list(dict.fromkeys(run.recipe for run in runs if run.stage in verbs and run.status == "finished"))
    if question := did_you_mean(recipe or "", names, cutoff=0.6):
        return question
    known = names or [f"{run.path.name} ({run.status})" for run in runs]
    return f"there are: {first_few(known, 5, separator='; ')}" if runs else f"there are no runs in {root}"


def _how_to(verbs: Sequence[str], recipe: str | None, encoders: Sequence[str] | None = None) -> str:
    """Return the command that makes the needed run, preceded by the one for its encoder if ``encoders`` lacks it."""
    verb, name = verbs[0], recipe or "NAME"
    if verb == "demo":
        return "make one with: rushkit demo"
    source, transfer, target = name.partition("-to-")
    if (verb == "pretrain" or not transfer) and recipe is not None and base_name(recipe) not in available():
        return "`rushkit runs list` shows the runs, `rushkit recipe list` the recipes"
    if verb == "pretrain":
        return f"make one with: {shell_line('rushkit', 'pretrain', '--recipe', base_name(name))}"
    lacks = encoders is not None and (source not in encoders if recipe else not encoders)
    first = f"{shell_line('rushkit', 'pretrain', '--recipe', base_name(source))}, and then: " if lacks else ""
    to = ("--to", target) if transfer else ()
    return f"make one with: {first}{shell_line('rushkit', 'finetune', '--from', source, *to)}"
