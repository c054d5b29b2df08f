"""A real document for each that has a schema: what commands print, and files, of synthetic and of shipped runs."""

from __future__ import annotations

import io
import json
import tomllib
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

from stage_records import STAGES
from synthetic_runs import Runs, attack_row, attacks, audited, certification, evaluation, finetuning

from rushkit.claims.canonical import encode
from rushkit.claims.manifest import AttackFacts, DataFacts, Manifest, ModelFacts, Selection
from rushkit.claims.record import Claims, Measured, ModelClaim
from rushkit.cli.app import main
from rushkit.documents.models import Demo, PublishedModels, RankedBall, RankedModel, WrittenLeaderboard
from rushkit.documents.studies import JobOutcome, StudyOutcome
from rushkit.files import plain_json
from rushkit.recipe.find import shipped_folder
from rushkit.report.publication import Published
from rushkit.report.tables.ranked import Unranked
from rushkit.results import dump, logs
from rushkit.results.certification import Seal
from rushkit.run.info import find_runs
from rushkit.run.log import next_line
from rushkit.speed.figures import Benchmark, Cost, Estimate, Row
from rushkit.study.find import find_study

HASH = "0123456789abcdef" * 4


def printed(*words: str) -> object:
    """What a command prints under ``--json``."""
    out = io.StringIO()
    with redirect_stdout(out):
        code = main([*words, "--json"])
    assert code == 0, words
    return json.loads(out.getvalue())


def results(stage: str) -> object:
    """What the command of a stage prints."""
    return STAGES[stage].model_copy(update={"run": "runs/x"}).to_json()


def bench() -> object:
    row = Row("votes", "samples/s", 10, "bf16", 64, Cost(4.0, 2.0), Cost(1.0, 1.0), Cost(9.0, 1.5))
    bare = Row("views", "views/s", 10, "float32", 64, Cost(4.0, 2.0), Cost(1.0, 1.0))
    return Benchmark("digits", "cpu", 64, 128, (row, bare), 2**20, Estimate(2, 1.0, 2.0)).plain()


def counts() -> object:
    """A line of the counts of a certification."""
    line = logs.Selection(
        images=[7], labels=[1], uniforms=[0.5], votes=[[3, 1]], scores=[[9, 2]], drawn=4, seconds=0.5
    ).to_table()
    return json.loads(next_line(Seal(lines=0, chain=""), line)[0])


def demo() -> object:
    return Demo(
        evaluation([True, False]), attacks(attack_row([1, 0])), {"attack": "runs/x"}, Path("report.html")
    ).plain()


def leaderboard() -> object:
    row = RankedModel(1, "mine", 0.5, 0.4, 0.6, 100, HASH)
    return WrittenLeaderboard(
        [RankedBall("digits/test", [row])], (Unranked("theirs", ("no",)),), Path("x.html")
    ).plain()


def publish() -> object:
    return PublishedModels([Published(Path("there/mine"), HASH, ["20300101-000000-attack"], 1, 0, ["one"])]).plain()


def study_run() -> object:
    done = JobOutcome(HASH, "A", 0, "finetune", "done")
    failed = JobOutcome(HASH, "A", 0, "evaluate", "failed", "no room", "")
    return StudyOutcome("mine", 1, [done, failed]).plain()


def manifest() -> object:
    row = attack_row([10, 5, 0, 0])
    facts = Manifest(
        schema_version=1,
        kind="rushkit attack",
        made_by="rushkit 0.1.0",
        data=DataFacts(split="digits/test", classes=["0", "1"], shape=[1, 8, 8], images=100),
        selection=Selection(rule="limit", limit=4),
        recipe="schema = 1",
        model=ModelFacts(hash=HASH),
        attack=AttackFacts.of(row, 3),
        images=4,
        sizes={"images.bin": 100},
        chain=[HASH] * 6,
    )
    return json.loads(encode(plain_json(facts.to_table(), "manifest")))


def claims() -> object:
    measured = Measured(stage="evaluate", recipe="schema = 1", results=evaluation([True, False]).to_table())
    model = ModelClaim(weights=HASH, checkpoint=HASH, made_from=HASH)
    made = Claims(
        schema_version=1,
        kind="rushkit model",
        made_by="rushkit",
        name="mine",
        model=model,
        files={},
        measured=[measured],
    )
    return json.loads(encode(plain_json(made.to_table(), "claims.json")))


def documents(folder: Path) -> dict[str, Callable[[], object]]:
    """Each document by name, to be made in an empty working folder."""
    runs = Runs(folder / "runs")
    model = runs.model()
    runs.add("evaluate", model, evaluation([True] * 9 + [False] * 3))
    runs.add("attack", model, attacks(attack_row([10] * 6 + [5] + [0] * 5), attack_row([1] * 8 + [0] * 4, "paper")))
    runs.add("certify", model, certification([0.05, 0.15, 0.25, 0.25], [True, True, True, False]))
    runs.add("audit", model, audited("pass", "fail", "warn"))
    other = runs.add("finetune", results=finetuning(), name="digits")
    runs.add("evaluate", other, evaluation([True] * 8 + [False] * 4), name="digits")
    stopped = runs.add("pretrain", status="interrupted")
    encoder = next(run.path for run in find_runs(runs.root) if run.verb == "pretrain" and run.path != stopped.path)
    report = ("report", model.path.name, "--no-images", "--out", "page")
    table = ("study", "report", "table1-digits", "--out", "table", "--format", "json")
    stages = {stage: lambda stage=stage: results(stage) for stage in STAGES if stage not in ("predict", "export")}
    del stages["self-test"]

    def written(path: Path, *words: str) -> object:
        printed(*words)
        return json.loads(path.read_text())

    return {
        **stages,
        "artifact.json": manifest,
        "bench": bench,
        "claims.json": claims,
        "data-check": lambda: printed("data", "check", "digits"),
        "data-fetch": lambda: printed("data", "fetch", "digits"),
        "data-list": lambda: printed("data", "list"),
        "demo": demo,
        "doctor": lambda: printed("doctor"),
        "export": lambda: STAGES["export"].to_table(),
        "certify.jsonl": counts,
        "leaderboard": leaderboard,
        "metrics.jsonl": lambda: json.loads((encoder / "metrics.jsonl").read_text().splitlines()[-1]),
        "plugins": lambda: printed("plugins"),
        "plugins-new": lambda: printed("plugins", "new", "cauchy", "--kind", "noise"),
        "plugins-show": lambda: printed("plugins", "show", "uniform"),
        "predict": lambda: STAGES["predict"].to_table(),
        "publish": publish,
        "recipe-check": lambda: printed("recipe", "check", "digits"),
        "recipe-list": lambda: printed("recipe", "list"),
        "recipe-show": lambda: printed("recipe", "show", "digits"),
        "recipe.toml": lambda: tomllib.loads((shipped_folder() / "digits.toml").read_text()),
        "report": lambda: printed(*report),
        "report.json": lambda: written(Path("page/report.json"), *report),
        "results.json": lambda: json.loads(dump(STAGES["evaluate"])),
        "run.json": lambda: json.loads((encoder / "run.json").read_text()),
        "runs-best": lambda: printed("runs", "best"),
        "runs-clean": lambda: printed("runs", "clean", "--resumable"),
        "runs-compare": lambda: printed("runs", "compare", "cifar10", "digits"),
        "runs-export": lambda: printed("runs", "export", "cifar10", "--to", "sheets"),
        "runs-list": lambda: printed("runs", "list"),
        "runs-remove": lambda: printed("runs", "remove", stopped.path.name, "--yes"),
        "runs-show": lambda: printed("runs", "show", model.path.name),
        "schema": lambda: printed("schema"),
        "study-list": lambda: printed("study", "list"),
        "study-plan": lambda: printed("study", "plan", "table1-digits", "--no-bench"),
        "study-report": lambda: printed(*table),
        "study-report.json": lambda: written(Path("table/report.json"), *table),
        "study-run": study_run,
        "study-status": lambda: printed("study", "status", "table1-digits"),
        "study.toml": lambda: tomllib.loads(find_study("table1-digits").read_text()),
        # Made last: it removes a run.
    }
