"""Make a report from the names of runs: the Python interface of ``rushkit report``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rushkit.errors import UsageError, shell_line
from rushkit.recipe.load import default_runs_dir
from rushkit.report.families import Family, gather
from rushkit.report.inline import page_html
from rushkit.report.write import write_report
from rushkit.run.named import run_named
from rushkit.run.shipped import name_of, runs_around


@dataclass(frozen=True, repr=False)
class Page:
    """A report that was written; a notebook shows its page.

    Attributes:
        document: What the JSON file holds: figures, sentences and notes of each model.
        files: The HTML, Markdown and JSON files, followed by those of the figures.
        html: The text of the page, which a notebook shows from any working folder, also when the files are gone.
    """

    document: dict[str, object]
    files: tuple[Path, ...]
    html: str = field(compare=False)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(str, self.files))})"

    def _repr_html_(self) -> str:
        return page_html(self.html, str(self.document["title"]))


def report(
    *runs: str | Path,
    out: str | Path | None = None,
    images: bool = True,
    figures: str | Path | None = None,
    runs_dir: str | None = None,
) -> Page:
    """Write a report on a model, or on several side by side; a notebook shows its page.

    Example::

        page = rushkit.report("cifar10", images=False)
        print(page.document["models"][0]["summary"], page.files[0])

    Args:
        *runs: What names runs of any stage: a folder, an id, the end of one, or a recipe; none: the newest model.
        out: Where to write; None: the folder of the first model's run, ``shipped/NAME`` under the folder of runs for a
            model that comes with rushkit.
        images: Show some images; needs the checkpoint and the data.
        figures: Where its charts go as SVG and PDF for a paper, and its tables as LaTeX and CSV; None: nowhere.
        runs_dir: Where runs are looked for; None: ``$RUSHKIT_RUNS``, else ``runs``.

    Raises:
        UsageError: no such run.
        RushkitError: a folder cannot be written.
    """
    root = runs_dir or default_runs_dir()
    families = families_of([str(run) for run in runs], root)
    folder = Path(out) if out else folder_of(families[0], root)
    written, paths = write_report(families, folder, images, Path(figures) if figures else None)
    return Page(written.plain(), tuple(paths), paths[0].read_text(encoding="utf-8"))


def folder_of(family: Family, root: str | Path) -> Path:
    """Return where the report on a model goes: the folder of its run, or ``shipped/NAME`` under ``root``."""
    shipped = name_of(family.model.path)
    return Path(root, shipped) if shipped else family.model.path


def families_of(specs: Sequence[str], root: str | Path, warn: Callable[[str], None] | None = None) -> list[Family]:
    """Return the models that the runs are about, or the newest model.

    Args:
        specs: What names the runs, by the rule of ``run.named``.
        root: The folder of runs.
        warn: Called with a sentence about each name that could have meant other runs too.

    Raises:
        UsageError: there is no such run, or it is a self-test of the audit, which is about no model.
    """
    named = [run_named(spec, root) for spec in (specs or (None,))]
    if warn is not None:
        for note in filter(None, dict.fromkeys(note for _, note in named)):
            warn(note)
    runs = [run for run, _ in named]
    if tested := next((run for run in runs if run.about.self_test), None):
        raise UsageError(
            f"{tested.path} is a self-test of the audit, which is about no model and has no page",
            f"to see its figures: {shell_line('rushkit', 'runs', 'show', tested.path)}",
        )
    families = [gather(run, runs_around(run, root)) for run in runs]
    return list({family.model.path.resolve(): family for family in families}.values())
