"""Attacks at several radii, towards a class and on 8-bit pixels, as the stage runs them."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from nearest_mean import SIDE, nearest_mean, pixels_backbone
from PIL import Image

from rushkit.errors import UsageError
from rushkit.recipe.attack_flags import balls_of, change_attacks, several
from rushkit.results import read
from rushkit.results.attacks import Attacks
from rushkit.robustness.attack import attack
from rushkit.robustness.jobs import check_keeping, plan_jobs
from rushkit.run.checkpoint import load_checkpoint
from rushkit.run.speaker import Speaker
from rushkit.setup import components
from rushkit.setup.start import start_run

QUIET = Speaker(-1, rank=0)
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@pytest.fixture(autouse=True)
def named_backbone(monkeypatch):
    monkeypatch.setattr("rushkit.robustness.attack.BLOCK", 5)
    with pixels_backbone():
        yield


@pytest.fixture
def recipe(tiny):
    """Linear classifiers of digits without noise, 12 images, blocks of 5."""

    def make(*changes):
        quick = ("data.limit=12", "backbone.name=pixels", "noise.name=none", "attack.0.limit=0")
        return tiny(*quick, "attack.0.samples=[1]", *changes)

    return make


@pytest.fixture
def source(recipe, tmp_path):
    """The checkpoint of a nearest-mean classifier, which is linear."""
    return nearest_mean(recipe(), tmp_path / "source.safetensors")


def attacked(recipe, source, **options):
    with start_run("attack", recipe, QUIET, parent=str(source.path)) as run:
        return attack(recipe, source, run, **options), run.path


def outcomes(row):
    return row.outcomes.right["majority"]


def test_several_radii_make_a_curve_that_never_rises(recipe, source):
    chosen = change_attacks(recipe(), "pgd", eps=["0.2", "0.05", "0.1"])
    assert [job.section.eps for job in plan_jobs(chosen, DIGITS, ["strict"])] == [0.05, 0.1, 0.2]
    results, path = attacked(chosen, source, protocols=["strict"])
    rows = results.attacks
    assert [(row.eps, row.smaller, row.protocol) for row in rows] == [
        (0.05, None, "strict"),
        (0.1, 0.05, "strict"),
        (0.2, 0.1, "strict"),
    ]
    for smaller, larger in pairwise(rows):
        assert all(after <= before for before, after in zip(outcomes(smaller), outcomes(larger), strict=True))
        # What a smaller ball broke costs no climb, and is credited to it.
        broken_there = sum(count == 0 for count in outcomes(smaller))
        assert larger.contributions["clean"] + larger.contributions["smaller ball"] == broken_there
        assert larger.candidates[-1].label == "smaller ball"
        assert larger.outcomes.first_broken["majority"].count(-2) == larger.contributions["smaller ball"]
    assert any(note.code == "smaller-ball" for note in rows[1].notes)
    assert Attacks.model_validate_json((path / "results.json").read_text()).attacks[2].smaller == 0.1


def test_several_norms_leave_together_what_holds_against_each(recipe, source):
    chosen = change_attacks(recipe("attack.0.limit=24"), "pgd", norm=["linf", "l2"], eps=["0.1", "0.7"])
    results, path = attacked(chosen, source, protocols=["paper", "strict"])
    rows = {(row.norm, row.protocol): outcomes(row) for row in results.attacks}
    assert set(rows) == {(norm, protocol) for norm in ("linf", "l2") for protocol in ("paper", "strict")}
    assert [(union.protocol, union.ball_words()) for union in results.unions] == [
        ("paper", "l-inf 0.1 or l2 0.7"),
        ("strict", "l-inf 0.1 or l2 0.7"),
    ]
    for union in results.unions:
        right = list(zip(*(rows[norm, union.protocol] for norm in ("linf", "l2")), strict=True))
        # The model has no noise: an image holds against both, or it does not.
        holds = sum(min(counts) > 0 for counts in right)
        assert union.rules["majority"].accuracy == holds / union.images
    assert read(path).unions == results.unions


def test_a_union_that_is_not_of_its_rows_is_refused(recipe, source):
    chosen = change_attacks(recipe("attack.0.limit=6"), "pgd", norm=["linf", "l2"], eps=["0.1", "0.7"])
    table = attacked(chosen, source, protocols=["paper"])[0].to_table()
    (union,) = table["unions"]
    share = union["rules"]["majority"]["accuracy"]
    forged = {"majority": union["rules"]["majority"] | {"accuracy": share + 0.1, "high": 1.0}}
    for change, words in [
        ({"rules": forged}, "not that of its images"),
        ({"rows": [0, 7]}, "a row that is not there"),
        ({"samples": 9}, "differ in more than the attack"),
    ]:
        with pytest.raises(ValueError, match=words):
            Attacks(**{**table, "unions": [union | change]})


@pytest.mark.parametrize(
    "norm, eps, words",
    [
        ("linf,l2", None, "each of the 2 norms of --norm needs a radius of its own, and there are none"),
        ("linf,l2", "8/255", "and there is 1"),
        ("linf,l2", "2/255,4/255,8/255", "and there are 3"),
        ("l2,l2", "0.25,0.5", "--norm gives l2 twice"),
        ("linf,,l2", "8/255,0.5", "has an empty norm"),
    ],
)
def test_each_norm_has_a_radius_of_its_own(recipe, norm, eps, words):
    with pytest.raises(UsageError, match=words):
        change_attacks(recipe(), "pgd", norm=several(norm, "--norm"), eps=several(eps, "--eps"))


def test_the_line_that_a_hint_shows_gives_every_norm_its_radius(recipe):
    with pytest.raises(UsageError) as raised:
        change_attacks(recipe(), "pgd", norm=["l1", "l2", "linf"], eps="8/255")
    assert "--norm l1,l2,linf --eps 12,0.5,8/255" in raised.value.hint
    balls = [(ball["norm"], ball["eps"]) for ball in balls_of(["l1", "l2"], ["12", "0.5"])]
    assert balls == [("l1", "12"), ("l2", "0.5")]


def test_paper_attacks_at_each_radius_by_itself(recipe, source):
    chosen = change_attacks(recipe("attack.0.steps=2"), "pgd", eps=["0.1", "0.05"])
    jobs = plan_jobs(chosen, DIGITS, ["paper"])
    assert [job.smaller for job in jobs] == ["", ""]


@pytest.mark.parametrize(
    "eps, words", [("8/255,8/255", "gives 8/255 twice"), ("8/255,16/510", "twice"), ("2/255,,4/255", "empty radius")]
)
def test_radii_are_given_once_each(recipe, eps, words):
    with pytest.raises(UsageError, match=words):
        change_attacks(recipe(), "pgd", eps=several(eps, "--eps"))


def test_a_targeted_attack_moves_every_image_of_another_class(recipe, source):
    chosen = change_attacks(recipe(), "pgd", eps="0.15", target="3")
    results, _ = attacked(chosen, source)
    assert results.attacks == []
    paper, strict = results.targeted
    assert (paper.protocol, strict.protocol) == ("paper", "strict")
    for row in (paper, strict):
        assert (row.target.index, row.target.name) == (3, "three")
        assert 3 not in row.outcomes.labels
        assert row.words().startswith("pgd l-inf 0.15 to class 'three' ")
    assert strict.rules["majority"].accuracy <= paper.rules["majority"].accuracy
    # Leaving the own class is easier than reaching another one.
    away, _ = attacked(change_attacks(recipe(), "pgd", eps="0.15"), source, protocols=["strict"])
    left = dict(zip(away.attacks[0].outcomes.indices, outcomes(away.attacks[0]), strict=True))
    for index, resisted in zip(strict.outcomes.indices, outcomes(strict), strict=True):
        assert resisted == 1 or left[index] == 0
    assert 0 < strict.rules["majority"].accuracy < 1


def test_a_class_that_is_not_there_is_refused(recipe):
    with pytest.raises(UsageError, match="has no class 'cat'"):
        plan_jobs(change_attacks(recipe(), "pgd", target="cat"), DIGITS, ["strict"])


def test_images_of_8_bits_survive_as_png(recipe, source, tmp_path):
    chosen = change_attacks(recipe(), "pgd", eps="24/255", eight_bit=True)
    results, path = attacked(chosen, source, export=tmp_path / "out", protocols=["strict"])
    (row,) = results.attacks
    assert row.eight_bit
    assert row.protocol == "weaker"
    assert [(one.name, one.value, one.weaker) for one in row.deviations] == [("eight_bit", True, True)]
    saved = load_checkpoint(path / row.saved).tensors["images"]
    (folder,) = (tmp_path / "out").iterdir()
    files = sorted(folder.iterdir())
    assert len(files) == 2 * row.images
    for place, index in enumerate(row.outcomes.indices):
        attacked_image = Image.open(folder / f"{index:06d}-attacked.png")
        levels = torch.frombuffer(bytearray(attacked_image.tobytes()), dtype=torch.uint8).view(SIDE, SIDE, 3)
        assert torch.equal(components.to_float(levels.permute(2, 0, 1)), saved[place])
        original = Image.open(folder / f"{index:06d}-original.png")
        clean = torch.frombuffer(bytearray(original.tobytes()), dtype=torch.uint8).view(SIDE, SIDE, 3)
        moved = (levels.int() - clean.int()).abs().amax()
        assert int(moved) <= 24
    assert row.rules["majority"].accuracy < row.rules["majority"].clean_accuracy


def test_only_8_bit_pixels_are_exported(recipe):
    with pytest.raises(UsageError, match="--export writes 8-bit pixels"):
        check_keeping(plan_jobs(recipe(), DIGITS, ["strict"]), save=True, transfer=False, export=True)
