"""The trained models that come with rushkit: a folder of runs inside the package, where ``shipped/NAME`` names one.

The folder holds the run that made each model, the run of its encoder without checkpoints, and what was measured of it.
Nothing is ever written there. Nothing here imports torch.
"""

from __future__ import annotations

from pathlib import Path, PurePath

from rushkit.errors import UsageError, did_you_mean, shorten
from rushkit.paths import exists, read_text
from rushkit.run.info import RunInfo, find_runs

PREFIX = "shipped/"


def shipped_folder() -> Path:
    """Return the folder of the runs that come with rushkit."""
    return Path(__file__).resolve().parents[1] / "shipped"


def shipped_models() -> dict[str, RunInfo]:
    """Return the shipped classifiers: the name, which is that of the recipe, with its prefix -> the run."""
    runs = (run for run in find_runs(shipped_folder()) if run.verb == "finetune")
    return dict(sorted((f"{PREFIX}{run.recipe}", run) for run in runs))


def shipped_run(spec: str | Path | None) -> RunInfo | None:
    """Return the run of the shipped model that a user names; None if ``spec`` does not begin with ``shipped/``.

    Raises:
        UsageError: there is no such model, and no such path either.
    """
    name = spec.as_posix() if isinstance(spec, Path) else spec or ""
    if not name.startswith(PREFIX):
        return None
    models = shipped_models()
    if name not in models and not exists(Path(name)):
        hint = did_you_mean(name, models, cutoff=0.8) or f"there are: {', '.join(models)}"
        raise UsageError(f"rushkit comes with no model {shorten(name)!r}", hint)
    return models.get(name)


def is_shipped(folder: Path) -> bool:
    """Return whether a run's folder is one of those that come with rushkit."""
    return folder.resolve().parent == shipped_folder()


def name_of(folder: Path) -> str | None:
    """Return the name of the shipped model whose run lies in a folder, such as ``shipped/digits``; None for others."""
    models = shipped_models() if is_shipped(folder) else {}
    return next((name for name, run in models.items() if run.path.name == folder.name), None)


def model_card(folder: Path) -> str:
    """Return the text that says what a shipped model is and what was measured of it; empty for other runs."""
    name = name_of(folder)
    try:
        return read_text(card_file(name.removeprefix(PREFIX))) if name else ""
    except OSError:
        return ""


def card_file(name: str) -> Path:
    """Return the file of a model's card, by the model's name without the prefix."""
    return shipped_folder() / f"{name}.md"


def runs_around(run: RunInfo, root: str | Path) -> list[RunInfo]:
    """Return the runs among which the relatives of a run are: those of its folder, and the shipped ones if they count.

    Args:
        run: A run.
        root: The user's folder of runs, which may hold runs on a shipped model.
    """
    runs = find_runs(root if is_shipped(run.path) else run.path.parent)
    shipped = find_runs(shipped_folder())
    names = {other.path.name for other in shipped}
    builds_on_one = any(names & set(PurePath(other.about.parent or "").parts) for other in runs)
    return [*runs, *shipped] if is_shipped(run.path) or builds_on_one else runs
