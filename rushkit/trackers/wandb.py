"""The scalars of metrics.jsonl as a run of Weights & Biases, offline unless the user's WANDB_MODE says otherwise."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from rushkit.errors import UsageError, shorten
from rushkit.files import write_error
from rushkit.trackers import TrackedRun

if TYPE_CHECKING:
    import wandb

Mode = Literal["offline", "online", "disabled"]

# The folder of a run that holds its files.
FOLDER = "wandb"
_PROJECT = "rushkit"
# Seconds that the end of a run waits for uploads at most; `wandb sync` brings what is left.
_FINISH_SECONDS = 60.0
# The longest texts that the service takes.
_MOST_ID, _MOST_NAME, _MOST_TAG = 64, 128, 64


class WeightsAndBiases:
    """A run in Weights & Biases, with our run's id and its files in the run's ``wandb/``.

    The mode is that of the environment's WANDB_MODE: offline, online or disabled; without it, offline, which sends
    nothing anywhere: ``wandb sync`` does that later. WANDB_PROJECT, WANDB_ENTITY and the variables of an account count
    as well. Only what rushkit measures is logged: no console, no code, no facts of the machine.

    Offline the files are written anew whenever a run goes on; online the run of this id goes on.

    Raises:
        UsageError: it is not installed, or WANDB_MODE is none of the modes.
    """

    def __init__(self) -> None:
        if find_spec("wandb") is None:
            raise UsageError("Weights & Biases is not installed", "pip install 'rushkit[wandb]'")
        self.mode = _asked_mode()
        self._run: wandb.Run | None = None

    def begin(self, run: TrackedRun) -> None:
        """Start a run with our id, or go on with it. Raises RushkitError for no room or no permission."""
        if self.mode == "disabled":
            return
        # Reports on its own errors and use would go out even offline. Set for good: it looks again later.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        # Where it cannot write it would take a temporary folder, without a word.
        folder = run.subfolder(FOLDER)
        try:
            for old in folder.glob("offline-run-*") if self.mode == "offline" else ():
                shutil.rmtree(old)
        except OSError as error:
            raise write_error(folder, error) from error
        with _surroundings(folder):
            self._run = _begun(run, self.mode)

    def add(self, step: int, scalars: Mapping[str, float]) -> None:
        """Log the scalars of a step; online, those that the service has already are left out."""
        if self._run is not None and step >= self._run.starting_step:
            self._run.log(dict(scalars), step=step)

    def flush(self) -> None:
        """Do nothing: a process of its own writes what is logged."""

    def close(self) -> None:
        """End the run; online, wait a minute at most until everything is sent."""
        if self._run is not None:
            run, self._run = self._run, None
            run.finish()


def run_id(name: str) -> str:
    """Return the id in the service for a run of ours: the same for the same run, whenever it goes on."""
    return re.sub(r"[^A-Za-z0-9_.+-]", "-", name)[-_MOST_ID:].strip("-.+") or "run"


def _asked_mode() -> Mode:
    asked = os.environ.get("WANDB_MODE") or "offline"
    modes: tuple[Mode, ...] = get_args(Mode)
    for mode in modes:
        if mode == asked:
            return mode
    hint = f"choose one of: {', '.join(modes)}; unset, it is offline"
    raise UsageError(f"WANDB_MODE is {shorten(asked)!r}", hint)


def _begun(run: TrackedRun, mode: Mode) -> wandb.Run:
    import wandb

    settings = wandb.Settings(
        silent=True,
        console="off",
        symlink=False,
        disable_code=True,
        disable_git=True,
        finish_timeout=_FINISH_SECONDS,
        x_disable_machine_info=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_save_requirements=False,
    )
    # Where this machine keeps things is nobody's business.
    recipe: dict[str, Any] = {key: value for key, value in run.recipe.items() if key != "system"}
    return wandb.init(
        project=os.environ.get("WANDB_PROJECT") or _PROJECT,
        dir=str(run.folder),
        id=run_id(run.id),
        name=run.id[:_MOST_NAME],
        group=run.study[:_MOST_NAME] or None,
        tags=[tag[:_MOST_TAG] for tag in (run.study, run.row) if tag],
        job_type=run.verb,
        config={**run.facts(), "recipe": recipe},
        mode=mode,
        resume="allow",
        # A user's own run in this process stays what it is.
        reinit="create_new",
        settings=settings,
    )


@contextlib.contextmanager
def _surroundings(folder: Path) -> Iterator[None]:
    """Let it start in silence, with its logs in a folder; put back what it changes here: exits and the environment."""
    before = dict(os.environ)
    exits, hook = sys.exit, sys.excepthook
    os.environ |= {"WANDB_CACHE_DIR": str(folder.resolve() / "cache"), "WANDB_SILENT": "true"}
    try:
        yield
    finally:
        sys.exit, sys.excepthook = exits, hook
        for key in os.environ.keys() - before.keys():
            del os.environ[key]
        os.environ.update(before)
