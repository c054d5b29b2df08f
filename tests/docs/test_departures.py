"""The table of departures from the paper's protocol: what a row departs in, what it is compared with, and the pairs."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest

from rushkit.recipe import toml
from rushkit.results.attacks import AttackOutcomes, AttackRow, Attacks, Candidate, Rescored, VoteOutcomes
from rushkit.results.intervals import figures_by_rule
from rushkit.study.make import plan_study
from rushkit.study.places import Places

ROOT = Path(__file__).parents[2]
IMAGES = 20


def load():
    spec = importlib.util.spec_from_file_location("docs_departures", ROOT / "docs" / "departures.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


departures = load()


def row(right, kind="pgd", protocol="paper", draws=64, **options):
    """An attack that leaves this many of 20 images right at m = 64, and half of them at m = 1."""
    by_m = {}
    for m, count in ((64, right), (1, right // 2)):
        counts = {"majority": [int(image < count) for image in range(IMAGES)]}
        by_m[m] = {"right": counts, "clean_right": {"majority": [1] * IMAGES}, "images": list(range(IMAGES))}
    outcomes = AttackOutcomes(
        **by_m[64], labels=[0] * IMAGES, chosen=[0] * IMAGES, indices=[7 * image for image in range(IMAGES)]
    )
    further = VoteOutcomes(**by_m[1])
    return AttackRow(
        split="digits/test",
        attack=kind,
        norm="linf",
        eps=8 / 255,
        protocol=protocol,
        deviations=[],
        samples=64,
        votes=1,
        gradient_samples=draws,
        candidates=[Candidate(label=kind, options=options)],
        images=IMAGES,
        rules=figures_by_rule(outcomes, 1),
        outcomes=outcomes,
        seconds=1.0,
        image_forwards=40,
        image_backwards=20,
        contributions={},
        notes=[],
        rescored=[Rescored(samples=1, rules=figures_by_rule(further, 1), outcomes=further)],
    )


OPPOSITE = {"noise": "fresh", "best": "best", "steps": 200}
ROWS = [
    row(4, protocol="strict"),
    row(16),
    row(12, noise="fresh"),
    row(15, draws=8),
    row(19, draws=1),
    row(8, best="best"),
    row(16, steps=200),
    row(6, **OPPOSITE),
    row(14, **(OPPOSITE | {"noise": "fixed"})),
    row(7, **(OPPOSITE | {"steps": 40})),
    row(9, draws=1, **(OPPOSITE | {"noise": "none"})),
    row(18, kind="autoattack", version="rand"),
    row(18, kind="autoattack", draws=1, version="standard"),
    row(5, kind="autoattack", protocol="strict", version="rand"),
]


@pytest.fixture
def star():
    return departures.Star("protocols-digits", "digits", IMAGES, tuple(map(departures.measured, ROWS)))


def test_what_a_row_departs_in_is_read_from_its_settings(star):
    assert [star.name_of(one) for one in star.in_order()] == [
        "strict",
        "AutoAttack rand, on a shared panel of 64",
        "AutoAttack rand, strict",
        "AutoAttack standard, on a shared panel of 1",
        "paper",
        "paper: 8 draws",
        "paper: one draw",
        "paper: worst iterate",
        "paper: fresh noise",
        "paper: 200 steps",
        "opposite",
        "opposite: a shared panel",
        "opposite: no noise",
        "opposite: 40 steps",
    ]


def test_each_attack_is_compared_with_its_centre_and_autoattack_with_pgd_on_the_same_panel(star):
    base = {star.name_of(one): star.base(one) for one in star.measured}
    named = {name: star.name_of(one) if one else None for name, one in base.items()}
    assert named["paper: fresh noise"] == named["AutoAttack rand, on a shared panel of 64"] == "paper"
    assert named["AutoAttack standard, on a shared panel of 1"] == "paper: one draw"
    assert named["AutoAttack rand, strict"] == "strict"
    assert named["opposite: a shared panel"] == "opposite"
    assert named["paper"] is named["opposite"] is named["strict"] is None


def test_differences_are_of_the_same_images_and_the_gap_is_shared_out(star):
    paper, strict = star.pgd(departures.PAPER), star.strict
    change, low, high = paper.votes[64].minus(strict.votes[64])
    assert change == pytest.approx(12 / 20)
    assert low < change < high
    assert star.share_of_gap(paper, 64) == pytest.approx(1)
    assert star.share_of_gap(star.pgd(departures.OPPOSITE), 64) == pytest.approx(2 / 12)
    with pytest.raises(ValueError, match="other images"):
        departures.Votes({1: 1.0}).minus(departures.Votes({2: 1.0}))


def test_the_pairs_are_of_three_respects_and_leave_out_what_is_measured(star):
    assert [one.departures(departures.PAPER) for one in departures.largest(star, departures.PAPER)] == [
        ("iterate",),
        ("noise",),
        ("draws",),
    ]
    rows = [
        departures.row_of(one, departures.PAPER, "shipped/digits") for one in departures.pairs(star, departures.PAPER)
    ]
    changes = [toml.loads(one)["row"][0]["set"] for one in rows]
    # Fresh noise and the worst iterate together are the opposite with 40 steps, which is measured.
    assert changes == [
        {"attack.0.eot": 1, "attack.0.best": "best", "attack.0.selection_samples": 20},
        {"attack.0.eot": 1, "attack.0.noise": "fresh"},
    ]


def test_no_pair_gives_draws_to_an_attack_without_noise(star):
    rows = [*ROWS[:2], row(4, noise="none"), row(5, draws=1), row(6, best="best")]
    bare = departures.Star("protocols-digits", "digits", IMAGES, tuple(map(departures.measured, rows)))
    found = [pair.departures(departures.PAPER) for pair in departures.pairs(bare, departures.PAPER)]
    assert found == [("noise", "iterate"), ("draws", "iterate")]


def test_the_page_gets_the_tables_their_sentences_and_the_figure(star, tmp_path):
    (tmp_path / "pictures").mkdir()
    page = tmp_path / "protocols.md"
    page.write_text(f"before\n{departures.MARK[0]}\nold\n{departures.MARK[1]}\nafter\n", encoding="utf-8")
    departures.write_pages([star], tmp_path)
    text = page.read_text(encoding="utf-8")
    assert "old" not in text
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "| paper | 3 | 80.0 [58.3, 92.0] |  | +60.0 [" in text
    assert "Away from the opposite, most is left by *opposite: a shared panel*, 83 % of that gap." in text
    assert "AutoAttack rand, on a shared panel of 64 leaves +10.0 [" in text
    assert (tmp_path / "pictures" / "protocols.svg").read_text(encoding="utf-8").startswith("<?xml")


def test_results_are_found_by_the_jobs_of_the_study(tmp_path):
    # A copy has no results kept beside it.
    study = shutil.copy(ROOT / "studies" / "protocols-digits.toml", tmp_path)
    plan = plan_study(study, tmp_path)
    assert len({cell.job for cell in plan.cells}) == len(plan.cells)
    for cell in plan.cells:
        kept = {"strict": ROWS[0], "paper": ROWS[1]}.get(cell.row)
        if kept is not None:
            folder = Places(tmp_path).run_folder(cell.job)
            folder.mkdir()
            results = Attacks(
                job=cell.job,
                recipe="digits",
                source="x",
                data="digits",
                noise={"name": "uniform", "scale": 0.3},
                attacks=[kept],
                failed=[],
            )
            (folder / "results.json").write_text(results.model_dump_json(), encoding="utf-8")
    (star,) = departures.stars([study], tmp_path)
    assert (star.name, len(star.measured)) == ("digits", 2)
    assert star.missing[0] == "AutoAttack rand"
    assert "Not measured yet of `protocols-digits`: AutoAttack rand; " in departures.text([star])


def test_the_page_is_up_to_date(tmp_path):
    results = list(departures.stars(["protocols", "protocols-digits"], tmp_path))
    page = (ROOT / "docs" / "protocols.md").read_text(encoding="utf-8")
    _, _, rest = page.partition(departures.MARK[0])
    written, _, _ = rest.partition(departures.MARK[1])
    assert written == f"\n\n{departures.text(results)}\n", "run docs/departures.py"


@pytest.mark.parametrize("study", ["protocols", "protocols-digits"])
def test_the_shipped_studies_hold_the_whole_star(study, tmp_path):
    attacked = [planned.job for planned in plan_study(study, tmp_path).jobs.values()]
    tables = [job.recipe["attack"][0] for job in attacked if job.options["protocols"] == ["paper"]]
    settings = {
        departures.Setting(
            noise=table.get("noise", "fixed"),
            draws=table["eot"] or 64,
            iterate="worst" if table.get("best") == "best" else "last",
            steps=table.get("steps", 40),
            loss=table.get("loss", "nll"),
        )
        for table in tables
        if table["type"] == "pgd"
    }
    values = {"noise": 4, "draws": 3, "iterate": 2, "steps": 3, "loss": 2}
    for centre in (departures.PAPER, departures.OPPOSITE):
        assert centre in settings
        single = [
            found for (found,) in (one.departures(centre) for one in settings if len(one.departures(centre)) == 1)
        ]
        assert {name: single.count(name) + 1 for name in values} == values
