"""Every command that a page shows is one: those of README, tutorial and guides run, those of all pages parse."""

from __future__ import annotations

import functools
import os
import re
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from later_words import replacing
from page_commands import ROOT, Command, commands, examples, inline, read, recipes
from PIL import Image
from tiny_runs import calling_after_step

from rushkit import noises, registries
from rushkit.cli.app import app
from rushkit.models.network import Network, build_backbone
from rushkit.recipe.attack_flags import change_attacks
from rushkit.recipe.components import check_components
from rushkit.recipe.find import available
from rushkit.recipe.load import load_recipe
from rushkit.run.info import find_runs

PAGES = sorted(str(page.relative_to(ROOT)) for pattern in ("*.md", "docs/*.md") for page in ROOT.glob(pattern))
RECIPES = sorted(str(recipe.relative_to(ROOT)) for recipe in ROOT.glob("recipes/*.toml"))
PLUGINS = sorted(str(page.relative_to(ROOT)) for page in ROOT.glob("plugins/*/README.md"))
TUTORIAL = "docs/tutorial.md"
GROUPS = {group.name: group.typer_instance for group in app.registered_groups}


def sets(*changes: str) -> list[str]:
    return [word for change in changes for word in ("--set", change)]


# What a command gets besides its own words, or in their place, so that it takes a second on tiny files.
DATA = sets("data.limit=32")
MODEL = sets("backbone.name=resnet10-small", "projector.hidden=8", "projector.out=4", "pretrain.batch_size=16")
LOOK = sets("pretrain.knn.k=3", "pretrain.knn.bank=16", "pretrain.knn.queries=8", "data.validation=10")
SMALL = {
    "pretrain": [*DATA, *MODEL, *LOOK, *sets("pretrain.epochs=1")],
    "finetune": [*DATA, *sets("finetune.epochs=1", "finetune.batch_size=8")],
    "evaluate": [*sets("data.limit=8"), "--samples", "1,2"],
    "attack": ["--limit", "2", "--samples", "1", "--eot", "1"],
    "audit": ["--limit", "4", "--samples", "2", "--steps", "2", "--eot", "1", "--queries", "4"],
    "certify": ["--samples", "100", "--limit", "2"],
    "predict": ["--samples", "100"],
    "probe": ["--limit", "4", "--steps", "1"],
    "bench": [*DATA, *MODEL, "--seconds", "1"],
    "import": ["--backbone", "resnet10-small", "--check", "4"],
}


def smaller(command: Command) -> list[str]:
    if "--resume" in command.words:
        return []
    if "--self-test" in command.words:
        return ["--case", "linear, l-inf"]
    steps = sets("attack.0.steps=2") if command.verb == "attack" and "autoattack" not in command.words else []
    return [*SMALL.get(command.verb, []), *steps]


def filled_in(words: tuple[str, ...]) -> list[str]:
    """The words with real runs in the place of RUN and its like: after an option, one of the verb it asks for."""
    wanted = {"--from-counts": "certify", "--supervised": "finetune"}
    filled: list[str] = []
    for before, word in zip(("", *words), words, strict=False):
        if "RUN" in word.split("/"):
            runs = (str(run.path) for run in find_runs() if run.verb == wanted.get(before, "pretrain"))
            word = next(runs) + word.partition("RUN")[2]
        elif word in ("runs/A", "runs/B"):
            models = [str(run.path) for run in find_runs() if run.verb == "finetune"]
            word = models[word == "runs/B"]
        filled.append(word)
    return filled


def run(cli, command: Command, added: list[str]) -> str:
    """Run a command of a page; it must end as the page says. Returns all that it printed."""
    code, out, err = cli(*replacing(filled_in(command.words), added))
    # A check that fails is a verdict on a tiny model, not on the command.
    allowed = {0, 1} if command.verb == "audit" else {130} if "Ctrl-C" in command.comment else {0}
    assert code in allowed, f"rushkit {command}: exit code {code}\n{err}"
    assert code == 130 or "error:" not in err, f"rushkit {command}\n{err}"
    return out + err


def run_script(name: str) -> str:
    """Run a Python file of a page, as a user does. Returns what it printed."""
    return subprocess.run([sys.executable, name], capture_output=True, text=True, check=True).stdout


def write_recipes(page: str) -> None:
    """The recipes of a page, and its Python files: blocks whose first line is a comment with the file's name."""
    files = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", read(page), re.DOTALL))
    for name, text in {**recipes(read(page)), **files}.items():
        Path(name).write_text(text, encoding="utf-8")


@pytest.fixture
def ctrl_c():
    """``ctrl_c(5)`` presses Ctrl-C after the fifth training step from now."""
    press = functools.partial(os.kill, os.getpid(), signal.SIGINT)
    with ExitStack() as watches:
        yield lambda number: watches.enter_context(calling_after_step(number, press))


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 2])
def test_the_tutorials_first_two_parts_run_as_they_stand_and_print_what_they_say(cli, ctrl_c, number):
    part = re.split(r"\n## Part \d", read(TUTORIAL))[number]
    write_recipes(TUTORIAL)
    printed = [run_script(name) for name in re.findall(r"^python (\w+\.py)$", part, re.MULTILINE)]
    found = commands(part)
    assert found
    for command in found:
        if "Ctrl-C" in command.comment:
            ctrl_c(30)
        printed.append(run(cli, command, []))
    said = shape("\n".join(printed))
    for excerpt in re.findall(r"```text\n(.*?)```", part, re.DOTALL):
        for line in re.split(r"\.\.\.|\n", excerpt):
            assert shape(line) in said, f"the tutorial shows {line.strip()!r}, which no command prints"


def shape(text: str) -> str:
    """Text without what another machine may print: figures and verdicts, frames and where lines break."""
    text = re.sub(r"-[0-9a-f]{6}\b|\b[0-9a-f]{6}\b", " ", text)
    text = re.sub(r"\b(pass|warn|fail)\b|[−<]|\d[\d.]*", " ", text)
    return " ".join(re.sub(r"[^\w%/:;,()=-]", " ", text).split())


@pytest.mark.usefixtures("tiny_files")
@pytest.mark.parametrize("page", ["README.md", TUTORIAL, "docs/results.md"])
def test_a_pages_commands_run_one_after_the_other_from_nothing(cli, page):
    text = read(page)
    found = commands(text.partition("\n## Part 3")[2] if page == TUTORIAL else text)
    assert found
    theirs = Network(build_backbone("resnet10-small", {}, 3, 32, 0), torch.nn.Linear(128, 10))
    torch.save(theirs.state_dict(), "theirs.pt")
    for command in found:
        run(cli, command, smaller(command))


@pytest.mark.usefixtures("tiny_files")
@pytest.mark.parametrize("page", ["audit", "certificates", "protocols", "recipes", "reports"])
def test_a_guides_commands_run_on_a_model_that_is_there(cli, page):
    page = f"docs/{page}.md"
    write_recipes(page)
    for recipe in ("cifar10", "cifar10-cpu"):
        for words in (("pretrain", "--recipe", recipe), ("finetune", "--from", recipe)):
            command = Command(words, "")
            run(cli, command, smaller(command))
    if page == "docs/audit.md":
        supervised = Command(("finetune", "--recipe", "cifar10", *sets("finetune.freeze=none")), "")
        run(cli, supervised, [*smaller(supervised), *MODEL])
    for place in (Path("photo.png"), Path("holiday/beach.png")):
        place.parent.mkdir(exist_ok=True)
        Image.new("RGB", (32, 32), "grey").save(place)
    found = commands(read(page))
    assert found
    for command in found:
        run(cli, command, smaller(command))


def test_blocks_of_shell_give_their_commands():
    text = """
```sh
rushkit a --b c && rushkit d    # why
make demo
```

```python
    rushkit = 1
```

```sh
rushkit e \\
    --f
OMP_NUM_THREADS=1 torchrun -m rushkit g
```
"""
    found = [Command(("a", "--b", "c"), "why"), Command(("d",), "why"), Command(("e", "--f"), ""), Command(("g",), "")]
    assert commands(text) == found


def test_a_program_that_nobody_excepts_is_named():
    with pytest.raises(AssertionError, match="rushkt"):
        commands("```sh\nrushkt doctor\n```\n")


@pytest.fixture
def parse(cli, monkeypatch):
    """Parse a command's words as the app does, and return its options instead of running it."""
    seen: list[dict[str, Any]] = []

    def recording(callback):
        @functools.wraps(callback)
        def record(**options):
            seen.append(options)

        return record

    for part in (app, *GROUPS.values()):
        for registered in part.registered_commands:
            monkeypatch.setattr(registered, "callback", recording(registered.callback))

    def run(*words: str) -> dict[str, Any]:
        code, _, err = cli(*words)
        assert (code, err) == (0, ""), f"rushkit {' '.join(words)}\n{err}"
        # What ends before a command, as --install-completion does, has none.
        return seen.pop() if seen else {}

    return run


@pytest.fixture
def triangle():
    """The noise that README and docs/plugins.md write; others run what they write."""

    @noises.register("triangle")
    class Triangle:
        std = 0.1

        def __init__(self, scale: float):
            self.scale = scale

        def sample(self, x, generator=None):
            return torch.zeros_like(x)

        def certified_radius(self, p, norm, dim):
            return 0 * p

    yield
    registries.noises.unregister("triangle", registries.noises.entry("triangle").owner)


@pytest.mark.usefixtures("triangle")
@pytest.mark.parametrize("page", [*PAGES, *PLUGINS, *RECIPES])
def test_every_command_of_a_page_parses_and_its_names_exist(parse, page):
    text = read(page)
    write_recipes(page)
    # The file of --import; the noise is that of the fixture.
    Path("triangle.py").write_text("import rushkit\n@rushkit.noises.register('of-a-file')\nclass OfAFile: ...\n")
    for command in [*commands(text), *examples(text)]:
        options = parse(*command.words)
        check_names(command, options, components=page not in PLUGINS)


def check_names(command: Command, options: dict[str, Any], components: bool) -> None:
    """Recipes, their keys and components' options, attacks, data sets: an unknown one raises.

    Where the components of a page's own plugin are not installed, they are not looked for.
    """
    if command.verb == "data":
        assert options.get("name", "digits") in registries.datasets.names() or not components
        return
    known = {*available(), *(str(place) for place in Path().glob("*.toml"))}
    # A run, a checkpoint or a file to come may have any recipe; the keys that --set may name are the same in all.
    also = options.get("source"), options.get("name") if command.verb == "recipe" else None
    named = options.get("recipe") or options.get("from_scratch") or next(filter(known.__contains__, also), "cifar10")
    recipe = load_recipe(named, options.get("changes") or [], components=components and command.verb != "attack")
    if command.verb == "attack" and components:
        check_components(change_attacks(recipe, options["kind"], changes=options["changes"] or []))
    if command.verb == "finetune" and options["target"]:
        assert options["target"] in {*known, *registries.datasets.names()}


@pytest.mark.parametrize("page", [*PAGES, *PLUGINS])
def test_commands_in_sentences_name_verbs_and_options_that_are_there(cli, page):
    for words in inline(read(page)):
        verbs = words[: 2 if words[0] in GROUPS else 1] if not words[0].startswith("-") else ()
        code, out, err = cli(*verbs, "--help")
        assert code == 0, f"{page} names rushkit {' '.join(words)}\n{err}"
        for option in (word for word in words if word.startswith("--")):
            assert option in out, f"{page} names rushkit {' '.join(words)}, and {option} is not there"


@pytest.mark.parametrize("page", [page for page in PAGES if re.search(r"python \S+\.py", read(page))])
def test_scripts_that_a_page_runs_are_there_with_their_options(page):
    for script, options in re.findall(r"python (\S+\.py)\b(.*)", read(page)):
        # A file that the page shows is the reader's.
        if f"# {script}\n" in read(page):
            continue
        source = (ROOT / script).read_text(encoding="utf-8")
        for option in re.findall(r"--[\w-]+", options):
            assert f'"{option}"' in source, f"{page} runs {script} {option}"
