"""``rushkit data list|fetch|check``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import typer

from rushkit.cli.complete import complete_datasets
from rushkit.cli.options import Json, Output
from rushkit.errors import DataError, UsageError
from rushkit.image_size import sides
from rushkit.paths import expand_text

if TYPE_CHECKING:
    from collections.abc import Collection

    from rushkit.data.recognise import Recognised
    from rushkit.documents.data import Images
    from rushkit.image_size import ImageSize
    from rushkit.recipe.toml import Table

app = typer.Typer(help="List data sets, fetch their files, check them.", no_args_is_help=True)
DataDir = Annotated[
    str,
    typer.Option(
        "--data-dir",
        envvar="RUSHKIT_DATA",
        help="The folder that data sets lie in.",
        show_default=True,
        callback=expand_text,
    ),
]
Name = Annotated[str, typer.Argument(help="A data set's name.", autocompletion=complete_datasets)]
What = Annotated[
    str,
    typer.Argument(
        metavar="NAME|PATH", help="A data set's name, or a folder or a file.", autocompletion=complete_datasets
    ),
]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="An option of the data set as in a recipe: data.path=photos."),
]


@app.command("list", epilog="Example: rushkit data list")
def list_datasets(data_dir: DataDir = "data", json: Json = False) -> None:
    """Every data set by name, and whether its files are there."""
    from rich.table import Table

    from rushkit import data
    from rushkit.documents.data import DataSetFacts, DataSets
    from rushkit.errors import RushkitError

    facts: dict[str, DataSetFacts] = {}
    table = Table("data set", "classes", "size", "splits", "files")
    for name in data.names():
        try:
            about = data.describe(name, data_dir)
        except RushkitError as error:
            facts[name] = DataSetFacts(ready=False, problem=error.message)
            table.add_row(name, "", "", "", error.message)
            continue
        state = "ready" if about.ready else about.problem or "; ".join(sorted({c.status for c in about.checks}))
        facts[name] = DataSetFacts(about.ready, about.problem, len(about.classes), about.image_size, about.splits)
        table.add_row(name, str(len(about.classes) or ""), str(about.image_size or ""), ", ".join(about.splits), state)
    Output(json).result(DataSets(data_dir, facts).plain(), table)


@app.command("fetch", epilog="Example: rushkit data fetch cifar10")
def fetch(name: Name, data_dir: DataDir = "data", changes: Changes = None, json: Json = False) -> None:
    """Download a data set's files from their official address, with checksum."""
    from rushkit import data
    from rushkit.documents.data import FetchedData

    options = _options(changes)
    facts = FetchedData(name, data_dir).plain()
    if data.describe(name, data_dir, **options).ready:
        Output(json).result(facts, f"{name} is ready: there is nothing to fetch")
        return
    dataset = data.create(name, root=data_dir, **options)
    if not isinstance(dataset, data.Downloadable):
        raise DataError(f"{name} cannot be downloaded", f"`rushkit data check {name}` says what it needs")
    dataset.fetch()
    Output(json).result(facts, f"{name} is in {data_dir}")


@app.command("check", epilog="Example: rushkit data check photos/")
def check(what: What, data_dir: DataDir = "data", changes: Changes = None, json: Json = False) -> None:
    """Check a data set's files, or say what lies at a path. Exit code 1 unless all can be used.

    For a name: lengths and labels. For a path: what it is, its classes, counts and sizes, what would be cropped or
    resized, which files cannot be read, and the line to use.
    """
    from rich.console import Group
    from rich.table import Table

    from rushkit import data
    from rushkit.data.recognise import recognise
    from rushkit.documents.data import CheckedData, FileState, Place

    found = recognise(what, data_dir)
    options = {**found.options, **_options(changes)}
    place = Place(found.options["path"], found.kind) if found.options else None
    look = _look_at(found, options, data_dir) if found.options else _Look()
    about = data.describe(found.name, data_dir, **options)
    table = Table("file", "state", "detail")
    for file in about.checks:
        table.add_row(*file)
    facts = CheckedData(found.name, about.ready, list(map(FileState.of, about.checks)), place, look.images)
    Output(json).result(facts.plain(), Group(*look.lines, table))
    if about.ready:
        return
    if look.fault:
        raise look.fault
    name = found.name
    way = f"`rushkit data fetch {name}` downloads it; " if about.url else ""
    if found.options:
        raise DataError(
            about.problem or f"{found.options['path']} has files that cannot be used",
            f"{way}repair or remove what is marked wrong; --set data.KEY=VALUE gives an option such as data.image_size",
        )
    raise DataError(
        about.problem or f"{found.name} is not complete in {data_dir}",
        f"{way}--data-dir or RUSHKIT_DATA name another folder, --set data.KEY=VALUE an option such as data.path "
        "or data.image_size",
    )


@dataclass
class _Look:
    """What ``data check`` finds at a path: in lines, as a record, and what keeps it from finding more."""

    lines: list[str] = field(default_factory=list)
    images: Images | None = None
    fault: DataError | None = None


def _look_at(found: Recognised, options: Table, data_dir: str) -> _Look:
    """Look at what lies at a path; an image size is added to the options where the images need one."""
    from rushkit import data
    from rushkit.data.recognise import Recognised
    from rushkit.data.survey import proposed_size, sizes_of, survey
    from rushkit.documents.data import Images, SplitFacts
    from rushkit.errors import first_few

    look = _Look([f"{found.options['path']}: {found.kind}"])
    try:
        sizes = sizes_of(data.create(found.name, root=data_dir, **options))
        if size := proposed_size(sizes):
            options.setdefault("image_size", size)
        dataset = data.create(found.name, root=data_dir, **options)
        seen, classes, size_used = survey(dataset), dataset.classes, dataset.image_size
        tall, wide = sides(size_used)
    except DataError as fault:
        look.fault = fault
        return look
    form = f"images: {seen.channels} x {tall} x {wide}"
    if any(size != (wide, tall) for size in sizes):
        form += ", resized"
    if any(width * tall != height * wide for width, height in sizes):
        fit = {"crop": "the middle is kept", "pad": "black bars are added", "stretch": "they are distorted"}
        which = "not square" if tall == wide else "of another shape"
        form += f"; of those that are {which} {fit[str(options.get('fit', 'crop'))]}"
    used = Recognised(found.name, {key: str(value) for key, value in options.items()}, found.kind)
    look.lines += [f"{len(classes)} classes: {first_few(classes, 12)}" if classes else "no labels"]
    look.lines += [*(split.describe() for split in seen.splits), form, f"use: {used.line()}"]
    look.lines += _rectangles(found, options, sizes, size_used)
    splits = {split.name: SplitFacts(split.images, split.per_class) for split in seen.splits}
    look.images = Images(list(classes), seen.channels, size_used, splits, used.changes())
    return look


def _rectangles(found: Recognised, options: Table, sizes: Collection[tuple[int, int]], size: ImageSize) -> list[str]:
    """Return the line for a folder of rectangles of one size, of which squares are made unless one says otherwise."""
    from rushkit.data.recognise import Recognised

    if found.name != "folder" or isinstance(size, tuple) or len(sizes) != 1:
        return []
    ((width, height),) = sizes
    if width == height:
        return []
    kept = {key: str(value) for key, value in options.items()} | {"image_size": f"[{height},{width}]"}
    line = Recognised(found.name, kept, found.kind).line()
    return [f"or as rectangles of {height} x {width}, for a convolutional backbone: {line}"]


def _options(changes: list[str] | None) -> Table:
    """Return the options of the data set that ``--set`` gives. Raises UsageError for a key of another section."""
    from rushkit.recipe.overrides import parse_changes

    options: Table = {}
    for key, value in parse_changes(changes or []):
        section, _, option = key.partition(".")
        if section != "data" or not option:
            raise UsageError(f"--set {key}: is no option of a data set", "for example --set data.path=photos")
        options[option] = value
    return options
