"""Every page that the package writes, of runs that trained nothing: a model, nine, a comparison, a ranking, a study."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from study_cells import report_of
from synthetic_runs import CLASSES, Runs, attack_row, attacks, audited, certification, evaluation, probed, taken

from rushkit.report.content import build_report
from rushkit.report.document import build_document
from rushkit.report.families import gather
from rushkit.report.leaderboard import Board, Leaderboard, leaderboard_page
from rushkit.report.page.cards import Panel, Tally, Tile, View
from rushkit.report.page.panel import picture
from rushkit.report.page.render import page
from rushkit.report.protocols import attacks_of
from rushkit.report.study.write import write_study
from rushkit.report.tables.ranked import Ranked, Unranked
from rushkit.run.info import RunInfo, find_runs


def model_with_everything(runs: Runs) -> RunInfo:
    model = runs.model(argv=["rushkit", "finetune", *(f"--set=finetune.epochs={number}" for number in range(20))])
    runs.add("evaluate", model, evaluation([True] * 9 + [False] * 3))
    rows = [taken(attack_row([10] * 3 + [5] + [0] * 8, protocol)) for protocol in ("weaker", "strict")]
    runs.add("attack", model, attacks(*rows, classes=CLASSES))
    runs.add("certify", model, certification([0.05, 0.15, 0.25, 0.25], [True, True, True, False]))
    runs.add("audit", model, audited("pass", "fail", "warn"))
    encoder = next(run for run in find_runs(runs.root) if run.verb == "pretrain")
    runs.add("probe", encoder, probed("pre-trained", "random"))
    return model


def images() -> Panel:
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    tiles = [
        Tile(
            truth="cat",
            index=index,
            outcome=outcome,
            views=(
                View("clean", picture(x[0]), "clean"),
                View("attacked", picture(x[1]), "attacked"),
                View("change", picture(x[1] - x[0]), "change × 16"),
                View("noisy", picture(x[0]), "one noisy look"),
            ),
            tallies=(
                Tally("clean", 10, 10, "cat", 10),
                Tally("attacked", right, 10, "cat" if right > 5 else "dog", max(right, 10 - right)),
            ),
        )
        for index, (outcome, right) in enumerate([("broken", 2), ("still right", 9), ("wrong before", 0)])
    ]
    return Panel("cifar10", "Attacked.", tuple(tiles))


def report(models: list[RunInfo], panels: list[Panel] | None = None) -> str:
    return page(build_document(build_report([gather(model) for model in models])), "report.json", panels or [])


def of_one_model(folder: Path) -> str:
    return report([model_with_everything(Runs(folder / "runs"))], [images()])


def of_nine_models(folder: Path) -> str:
    runs = Runs(folder / "runs")
    models = [runs.model(name=f"model-{number}") for number in range(9)]
    for number, model in enumerate(models):
        runs.add("evaluate", model, evaluation([True] * (12 - number) + [False] * number))
        runs.add("attack", model, attacks(attack_row([10] * (9 - number) + [0] * (3 + number))))
        runs.add("certify", model, certification([0.05 * number, 0.15, 0.25], [True, True, False]))
    return report(models, [images(), images()])


def of_a_clean_figure(folder: Path) -> str:
    runs = Runs(folder / "runs")
    model = runs.model()
    runs.add("evaluate", model, evaluation([True] * 9 + [False] * 3))
    return report([model])


def of_a_comparison(folder: Path) -> str:
    runs = Runs(folder / "runs")
    return report([model_with_everything(runs), model_with_everything(runs)])


def of_a_leaderboard(folder: Path) -> str:
    (row,) = attacks_of("", attacks(attack_row([10] * 4 + [0] * 8)))
    rows = tuple(
        Ranked(name, "card.md", row, (certification([0.1], [True]),), audited("pass"), ("scored again",), "0" * 64)
        for name in ("one", "other")
    )
    boards = (Board("board-1", "cifar10/test, l-inf 8/255", rows), Board("board-2", "cifar10/test, l2 0.5", rows[:1]))
    return leaderboard_page(Leaderboard(boards, (Unranked("torn", ("it is damaged",)),)))


def of_a_study(folder: Path) -> str:
    cells = {
        ("first", 0, "evaluate"): evaluation([True, False, True, True]),
        ("first", 1, "evaluate"): evaluation([True, False, True, False]),
        ("first", 0, "strict"): attacks(attack_row([10, 0, 5, 0])),
        ("first", 1, "strict"): "failed",
        ("first", 0, "certify"): certification([0.3] * 4, [True] * 4),
        ("other", 0, "evaluate"): evaluation([True] * 4),
        ("other", 0, "strict"): attacks(attack_row([10, 0, 0, 0])),
    }
    (path,) = write_study(report_of(cells), folder, ["html"])
    return path.read_text(encoding="utf-8")


PAGES: dict[str, Callable[[Path], str]] = {
    "one model": of_one_model,
    "nine models": of_nine_models,
    "a clean figure": of_a_clean_figure,
    "a comparison": of_a_comparison,
    "a leaderboard": of_a_leaderboard,
    "a study": of_a_study,
}
