"""Every method on the digits: train its recipe, measure it under every protocol, and write the table of results.md.

    OMP_NUM_THREADS=1 python benchmarks/methods.py
    OMP_NUM_THREADS=1 python benchmarks/methods.py --pages docs

The methods are the recipes ``*-digits`` and ``digits`` itself, whose encoder is the teacher of those that have one, and
is clustered for those that learn pseudo-labels. Two of them are worked on at a time, each in a process of one thread.
The first line may be stopped at any time and goes on where it was: what is finished is not done again, and a training
or an attack that was stopped resumes. The results.json of every stage is kept under benchmarks/methods, with the cost
beside it; the runs themselves lie under ``build/methods``. Delete a method's folders to measure it anew. The second
line also writes the table into the page.

``--quick`` trains for a few epochs and attacks a few images with few draws: what CI has time for.

A pass is one image through a network once: forward, or backward to the input alone. A backward pass to the weights
counts as two. Seconds are those of the CPU, which do not depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import torch
from cost import Cost, Passes, tenths
from torch import Tensor

from rushkit.certification.certify import certify
from rushkit.errors import RushkitError
from rushkit.evaluation.evaluate import evaluate
from rushkit.files import write_atomic
from rushkit.objectives import HasTeacher
from rushkit.recipe.load import load_recipe
from rushkit.recipe.radius import ball_words
from rushkit.recipe.schema import Recipe
from rushkit.results.attacks import AttackRow, Attacks
from rushkit.results.evaluation import AccuracyRow, Evaluation
from rushkit.results.records import RESULTS_FILE, parse
from rushkit.robustness.attack import attack
from rushkit.rounding import number_words, percent, percent_interval
from rushkit.run.checkpoint import Checkpoint
from rushkit.run.folder import Run
from rushkit.run.metrics import read_metrics
from rushkit.run.speaker import Speaker
from rushkit.setup.components import build_dataset, build_objective, load_split
from rushkit.setup.model import open_checkpoint
from rushkit.setup.start import start_run
from rushkit.training import loop
from rushkit.training.cluster import cluster
from rushkit.training.finetune import finetune
from rushkit.training.loop import watching_steps
from rushkit.training.pretrain import pretrain

ROOT = Path(__file__).parents[1]
MARK = "<!-- methods: benchmarks/methods.py writes from here -->", "<!-- methods: to here -->"
# The recipe of RUSH itself, whose encoder those start from that freeze theirs.
RUSH = "digits"
# What the lower end of the interval of the clean accuracy must exceed: a tenth is chance.
LEARNT = 0.2
PROTOCOLS = ("paper", "strict", "published")
# The numbers of clusters of the pseudo-labels.
CLUSTERS = (10, 20, 50)
# The norm of the certificates under a noise.
CERTIFIED = {"gaussian": "l2", "uniform": "l1"}
Stage = Literal["cluster", "pretrain", "finetune", "evaluate", "paper", "strict", "certify", "published"]


@dataclass(frozen=True)
class Sizes:
    """How long the methods train, and how much is measured.

    Attributes:
        images: Test images that are attacked; all of them are classified clean.
        samples: m, the draws of a vote where there is noise.
        pretrain: Epochs of pre-training; 0: the recipe's own.
        finetune: Epochs of fine-tuning a pre-trained encoder; 0: the recipe's own.
        scratch: Epochs of training from random weights; 0: the recipe's own.
        certified: Draws that certify an image, where there is noise; 0: no certificates.
        published: Whether a method also meets the attacks that it was published with.
    """

    images: int
    samples: int
    pretrain: int = 0
    finetune: int = 0
    scratch: int = 0
    certified: int = 0
    published: bool = True


FULL, QUICK = Sizes(images=64, samples=64), Sizes(images=4, samples=4, pretrain=2, finetune=3, scratch=5)


@dataclass(frozen=True)
class Method:
    """A recipe, and where what is measured of it lies.

    Attributes:
        name: The recipe's name.
        kept: The folder of its results.
        work: The folder of its runs.
        sizes: How long it trains, and how much is measured.
        seed: The seed of its runs.
        variant: The name of another fine-tuning of the same pre-trained encoder; empty: the recipe's own.
        changes: What that changes of the recipe.
    """

    name: str
    kept: Path
    work: Path
    sizes: Sizes
    seed: int = 0
    variant: str = ""
    changes: tuple[str, ...] = ()

    @property
    def recipe(self) -> Recipe:
        """The recipe, attacked by PGD in l-inf 8/255 as every method is; what it was published with is cut to size."""
        images, m = self.sizes.images, self.sizes.samples
        common = f"{{type='pgd', norm='linf', eps='8/255', samples=[{m}], limit={images}}}"
        # The seconds that are counted are those of the training.
        always = ["system.device=cpu", f"system.seed={self.seed}", "pretrain.knn.every=0", f"evaluate.samples=[{m}]"]
        changes = [*always, *self.changes, f"attack=[{common}]"]
        recipe = load_recipe(self.name, [*changes, *self.own_changes(load_recipe(self.name, changes, {}))], {})
        published = [section.model_copy(update={"limit": images}) for section in recipe.published]
        return recipe.model_copy(update={"published": published})

    def own_changes(self, recipe: Recipe) -> list[str]:
        """Return what the sizes and a clustering change of a recipe."""
        sizes, changes = self.sizes, []
        epochs = sizes.finetune if self.name == RUSH or pretrains(recipe) else sizes.scratch
        if epochs:
            changes.append(f"finetune.epochs={epochs}")
        if sizes.pretrain:
            changes.append(f"pretrain.epochs={sizes.pretrain}")
        if sizes.certified and recipe.noise.name in CERTIFIED:
            norm = CERTIFIED[recipe.noise.name]
            changes += [f"certify.norm={norm}", f"certify.samples={sizes.certified}", f"certify.limit={sizes.images}"]
        if recipe.pretrain.labels:
            changes += [f"pretrain.labels={path}" for path in self.folder("cluster").glob("*")]
        return changes

    @property
    def from_scratch(self) -> bool:
        """Whether it starts from random weights."""
        return not self.pretrains and self.recipe.finetune.freeze == "none"

    @property
    def pretrains(self) -> bool:
        """Whether it has a pre-training of its own."""
        return self.name == RUSH or pretrains(self.recipe)

    @property
    def taught(self) -> bool:
        """Whether its pre-training has a teacher."""
        recipe = self.recipe
        return self.name != RUSH and isinstance(build_objective(recipe, recipe.pretrain), HasTeacher)

    @property
    def wave(self) -> int:
        """When it can be measured: 0 at once, 1 when there is the encoder of RUSH, 2 when there is its own."""
        if self.variant:
            return 2
        return int(not (self.from_scratch or self.pretrains) or self.taught or bool(self.recipe.pretrain.labels))

    @property
    def stages(self) -> list[Stage]:
        """What is done, in order."""
        recipe = self.recipe
        clustering: list[Stage] = ["cluster"] if recipe.pretrain.labels else []
        first: list[Stage] = [*clustering, "pretrain"] if self.pretrains and not self.variant else []
        certificates: list[Stage] = ["certify"] if self.sizes.certified and recipe.noise.name in CERTIFIED else []
        last: list[Stage] = ["published"] if recipe.published and self.sizes.published else []
        return [*first, "finetune", "evaluate", "paper", "strict", *certificates, *last]

    def beside(self, name: str) -> Method:
        """Return another recipe that is measured in the same way."""
        return Method(name, self.kept, self.work, self.sizes, self.seed)

    def file(self, stage: str) -> Path:
        """The kept results of a stage."""
        return self.kept / self.place(stage) / f"{stage}.json"

    def place(self, stage: str) -> str:
        """The name of the folder of a stage; variants have their pre-training in common."""
        first = stage.startswith(("cluster", "pretrain")) or not self.variant
        return self.name if first else f"{self.name}-{self.variant}"

    def cost_file(self, stage: str) -> Path:
        """The kept cost of a stage of training."""
        return self.file(f"{stage}-cost")

    def cost(self, stage: str) -> Cost | None:
        """What a stage of training took, if that is known."""
        file = self.cost_file(stage)
        return Cost(**json.loads(file.read_text(encoding="utf-8"))) if file.exists() else None

    def folder(self, stage: str) -> Path:
        """The folder of the only run of a stage."""
        return self.work / self.place(stage) / stage

    @property
    def title(self) -> str:
        """What it is called in messages."""
        words = (self.place("finetune"), f"seed {self.seed}" if self.seed else "")
        return ", ".join(filter(None, words))

    def finished(self) -> bool:
        """Whether everything is measured."""
        return all(self.file(stage).exists() for stage in self.stages)

    def measure(self) -> None:
        """Do every stage that is not done."""
        for stage in self.stages:
            if not self.file(stage).exists():
                started = time.monotonic()
                self.do(stage)
                print(f"{self.title}: {stage} ({time.monotonic() - started:.0f} s)", flush=True)

    def attempt(self) -> str:
        """Do every stage that is not done, and return what it failed with; ``""`` if nothing is wrong."""
        try:
            self.measure()
        except (RushkitError, ValueError, RuntimeError) as error:
            return f"{self.title}: {type(error).__name__}: {error}"
        share = clean_figures(self).low
        return (
            "" if share > LEARNT else f"{self.title}: learned nothing, {percent(share)} % at best are sure to be right"
        )

    def do(self, stage: Stage) -> None:
        """Do a stage, or what is left of it, and keep its results."""
        recipe, source = self.recipe, self.source(stage)
        verb = "attack" if stage in PROTOCOLS else stage
        with self.open(stage, verb, recipe, source) as run:
            if stage == "evaluate":
                evaluate(recipe, self.model(source), run)
            elif stage in ("paper", "strict", "published"):
                attack(recipe, self.model(source), run, protocols=(stage,))
            elif stage == "certify":
                certify(recipe, self.model(source), run)
            elif stage == "cluster":
                cluster(recipe, self.model(source), CLUSTERS, run=run)
            else:
                write(self.cost_file(stage), json.dumps(asdict(trained(recipe, source, run)), indent=1) + "\n")
        # No path of this machine is kept.
        write(self.file(stage), (run.path / RESULTS_FILE).read_text(encoding="utf-8").replace(f"{ROOT}/", ""))

    def open(self, stage: Stage, verb: str, recipe: Recipe, source: Checkpoint | None) -> Run:
        """Open the run of a stage that was stopped, or a new one."""
        folder, speaker = self.folder(stage), Speaker(-1, rank=0)
        for path in sorted(folder.glob(f"*-{verb}-*")):
            return Run.open(path, speaker)
        recipe = recipe.model_copy(update={"system": recipe.system.model_copy(update={"runs_dir": str(folder)})})
        return start_run(verb, recipe, speaker, parent=str(source.path) if source else None)

    def source(self, stage: Stage) -> Checkpoint | None:
        """The checkpoint that a stage starts from."""
        if (stage == "pretrain" and not self.taught) or (stage == "finetune" and self.from_scratch):
            return None
        if stage in ("cluster", "pretrain") or (stage == "finetune" and not self.pretrains):
            method, verb = self.beside(RUSH), "pretrain"
        else:
            method, verb = self, "pretrain" if stage == "finetune" else "finetune"
        (path,) = method.folder(verb).iterdir()
        return open_checkpoint(path, verb)

    @staticmethod
    def model(source: Checkpoint | None) -> Checkpoint:
        """The checkpoint of a model, which must be there."""
        assert source is not None
        return source


def pretrains(recipe: Recipe) -> bool:
    """Return whether a recipe has another pre-training than that of RUSH, which all recipes inherit."""
    return recipe.pretrain.objective != load_recipe(RUSH, (), {}).pretrain.objective


def trained(recipe: Recipe, source: Checkpoint | None, run: Run) -> Cost:
    """Train, or go on training, and return what it took.

    A training that was stopped is costed by the steps that were left. Passes are those of its steps: not those that
    look at a network after an epoch.
    """
    steps, passes, started, train_batch = [], Passes(), time.process_time(), loop.train_batch

    def counted(*given: Any) -> Tensor:
        with passes.counted():
            return train_batch(*given)

    with mock.patch.object(loop, "train_batch", counted), watching_steps(steps.append):
        if run.verb == "pretrain":
            pretrain(recipe, run, source)
        else:
            finetune(recipe, source, run)
    seconds = time.process_time() - started
    losses = [float(line["loss"]) for line in read_metrics(run.metrics.path) if line.get("kind") == "step"]
    section = getattr(recipe, run.verb)
    images = len(load_split(recipe, build_dataset(recipe), section.split))
    share = len(losses) / max(1, len(steps))
    before, last = tenths(losses)
    return Cost(passes.count * share / (images * section.epochs), seconds * share, section.epochs, before, last)


def write(file: Path, text: str) -> None:
    """Write a file whole, or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(file, [text.encode()])


def worker() -> None:
    """Set up a process that measures."""
    torch.set_num_threads(1)


def measure(methods: Sequence[Method], processes: int) -> list[str]:
    """Measure what is missing, the longest first, and return what failed."""
    problems: list[str] = []
    # Those that need an encoder come once it is there.
    for wave in sorted({method.wave for method in methods}):
        due = [method for method in methods if method.wave == wave]
        with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), worker) as pool:
            running = [pool.submit(method.attempt) for method in sorted(due, key=longest_first)]
            problems += [future.result() for future in as_completed(running)]
    return [problem for problem in problems if problem]


def longest_first(method: Method) -> float:
    """Order methods by what their training took here the last time; those that are not known come first."""
    known = replace(method, kept=ROOT / "benchmarks" / "methods")
    costs = [known.cost(stage) for stage in ("pretrain", "finetune")]
    return -sum(cost.seconds for cost in costs if cost) if any(costs) else -float("inf")


def table(methods: Iterable[Method]) -> str:
    """Return the table of the methods that are measured, in the order of their names."""
    lines = [
        "| recipe | epochs | passes an image: an epoch, in all | CPU minutes | loss in the last tenth | clean | "
        "`paper` | `strict` | `published` |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*lines, *(row(method) for method in methods if method.finished())]) + "\n"


def row(method: Method) -> str:
    """Return the line of a method."""
    cells = [
        f"`{method.name}`",
        *training_cells(method),
        clean(method),
        *(attacked(method, protocol) for protocol in PROTOCOLS),
    ]
    return f"| {' | '.join(cells)} |"


def training_cells(method: Method) -> list[str]:
    """Return epochs, passes, minutes and the loss of each stage of training."""
    costs = [cost for stage in ("pretrain", "finetune") if (cost := method.cost(stage)) is not None]
    passes = sum(cost.passes * cost.epochs for cost in costs)
    return [
        " + ".join(str(cost.epochs) for cost in costs),
        " + ".join(f"{cost.passes:.1f}" for cost in costs) + f", {passes:.0f}",
        f"{sum(cost.seconds for cost in costs) / 60:.1f}",
        ", then ".join(fall(cost) for cost in costs),
    ]


def fall(cost: Cost) -> str:
    """Return the loss of the last tenth of the steps, and by how much it fell from the tenth before."""
    change = (cost.last - cost.before) / cost.before if cost.before else 0.0
    return f"{number_words(cost.last)} ({100 * change:+.1f} %)".replace("-", "−")


def clean(method: Method) -> str:
    """Return the accuracy on clean images, by vote."""
    found = clean_figures(method)
    return interval(found.accuracy, found.low, found.high)


def clean_figures(method: Method) -> AccuracyRow:
    """Return the record of the accuracy on clean images, by vote."""
    results = results_of(method, "evaluate")
    assert isinstance(results, Evaluation)
    (found,) = (accuracy for accuracy in results.accuracy if accuracy.rule == "majority")
    return found


def attacked(method: Method, protocol: str) -> str:
    """Return the robust accuracy under a protocol, by vote; of a method's own attacks each with its ball."""
    if not method.file(protocol).exists():
        return ""
    results = results_of(method, protocol)
    assert isinstance(results, Attacks)
    return "; ".join(words(found, protocol) for found in results.attacks)


def words(found: AttackRow, protocol: str) -> str:
    """Return the robust accuracy of an attack."""
    figures = found.rules["majority"]
    text = interval(figures.accuracy, figures.low, figures.high)
    if protocol != "published":
        return text if found.protocol == protocol else f"{text} ({found.protocol})"
    return f"{found.attack} {ball_words(found.norm, found.eps)}, m = {found.samples}: {text}"


def results_of(method: Method, stage: str) -> object:
    """Return the record of a stage."""
    return parse(method.file(stage).read_text(encoding="utf-8"))


def interval(share: float, low: float, high: float) -> str:
    """Return a share in percent, with its interval."""
    return f"{percent(share)} [{percent_interval(low, high)}]"


def write_page(text: str, page: Path, mark: tuple[str, str] = MARK) -> None:
    """Put a table between two marks of a page."""
    before, rest = page.read_text(encoding="utf-8").split(mark[0])
    _, after = rest.split(mark[1])
    write(page, f"{before}{mark[0]}\n\n{text}\n{mark[1]}{after}")


def names() -> list[str]:
    """Return the names of the recipes, RUSH's first."""
    return [RUSH, *sorted(file.stem for file in (ROOT / "recipes").glob(f"*-{RUSH}.toml"))]


def main() -> None:
    """Measure what is missing, print the table, and write it into the page if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=names(), help="this recipe; may be given again")
    parser.add_argument("--quick", action="store_true", help="attack few images, with few draws")
    parser.add_argument("--processes", type=int, default=2, help="methods at a time")
    parser.add_argument("--kept", type=Path, default=ROOT / "benchmarks" / "methods", help="where results are kept")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "methods", help="where the runs lie")
    parser.add_argument("--pages", type=Path, help="the folder of results.md, to be brought up to date")
    arguments = parser.parse_args()
    sizes = QUICK if arguments.quick else FULL
    asked = arguments.only or names()
    methods = [Method(name, arguments.kept, arguments.work, sizes) for name in asked]
    problems = measure(methods, arguments.processes)
    text = table(Method(name, arguments.kept, arguments.work, sizes) for name in names())
    print(text)
    if arguments.pages:
        write_page(text, arguments.pages / "results.md")
    if problems:
        raise SystemExit("\n".join(problems))


if __name__ == "__main__":
    main()
