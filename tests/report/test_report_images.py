"""The image panel: a tile's outcome and its bars are the same votes, those of the record."""

from __future__ import annotations

import base64
import html
import io
import re
from dataclasses import dataclass

import pytest
import torch
from PIL import Image
from synthetic_runs import EPS, attack_row, attacks, evaluation, recipe_of, taken

from rushkit.report.families import gather
from rushkit.report.page.cards import Panel
from rushkit.report.page.outcomes import Outcome
from rushkit.report.page.panel import choose, magnified, panel, picture
from rushkit.report.page.render import render_html
from rushkit.report.write import write_report
from rushkit.run.checkpoint import save_checkpoint
from rushkit.run.info import RunInfo
from rushkit.setup import components

N = 8
RECIPE = recipe_of("digits", f"attack.0.limit={N}", f"evaluate.limit={N}")
CLEAN = (10, 10, 10, 10, 10, 10, 4, 10)
ATTACKED = (4, 10, 0, 6, 5, 0, 0, 10)
FATES = ["broken", "still right", "broken", "still right", "broken", "broken", "wrong before", "still right"]


@dataclass
class Digits:
    """A model of the digits whose checkpoint is gone: what its page shows was measured before."""

    model: RunInfo
    images: torch.Tensor
    labels: list[int]
    runs: object

    def attack(self, kept: torch.Tensor | None = None, named: bool = False, **changes):
        """Add an attack on the images, of which ``kept`` are saved; ``named``: it says what they are taken for."""
        row = attack_row(ATTACKED, split="digits/test", labels=self.labels, samples=16)
        outcomes = row.outcomes.with_changes(clean_right={rule: list(CLEAN) for rule in row.outcomes.right})
        row = row.with_changes(outcomes=outcomes, saved="adversarial/pgd.safetensors" if kept is not None else "")
        row = taken(row, 10) if named else row
        results = attacks(row.with_changes(**changes), classes=list(map(str, range(10))))
        run = self.runs.add("attack", self.model, results, recipe=RECIPE, name="digits")
        if kept is not None:
            path = run.path / row.saved
            path.parent.mkdir()
            save_checkpoint(path, {"images": kept, "labels": torch.tensor(self.labels)}, {})

    def panel(self) -> Panel:
        shown = panel(gather(self.model), "digits")
        assert shown is not None
        return shown


@pytest.fixture
def digits(runs) -> Digits:
    split = components.load_split(RECIPE, components.build_dataset(RECIPE), "test", limit=N)
    model = runs.model(recipe=RECIPE, name="digits")
    return Digits(model, components.to_float(split.images[:]), split.labels.tolist(), runs)


def attacked(x: torch.Tensor) -> torch.Tensor:
    return (x + EPS).clamp(0, 1)


def test_the_outcome_of_a_tile_is_that_of_its_bars_and_both_are_the_record(digits):
    digits.attack(kept=attacked(digits.images))
    tiles = digits.panel().tiles
    assert sorted(tile.outcome for tile in tiles) == ["broken"] * 3 + ["still right"] * 3
    recorded = {(clean, right, fate) for clean, right, fate in zip(CLEAN, ATTACKED, FATES, strict=True)}
    for tile in tiles:
        clean, right = tile.tallies
        assert (clean.right, right.right, tile.outcome) in recorded
        # The votes of a model that runs again would not be of the record: this one cannot run.
        assert (clean.votes, right.votes) == (10, 10)


def test_a_tile_names_the_class_that_most_votes_give_by_the_votes_of_its_bars(digits):
    digits.attack(kept=attacked(digits.images), named=True)
    names = components.build_dataset(RECIPE).classes
    for tile in digits.panel().tiles:
        label, (clean, after) = names.index(tile.truth), tile.tallies
        assert (clean.taken_for, clean.given) == (tile.truth, 10)
        expected = (label, after.right) if after.right > 5 else ((label + 1) % 10, 10 - after.right)
        if after.right != 5:
            assert (names.index(after.taken_for), after.given) == expected
        assert after.right <= after.given <= after.votes
    text, (first, *_) = html_of(digits.panel()), digits.panel().tiles
    other = names[(names.index(first.truth) + 1) % 10]
    assert f"<span>{other} by 6 of 10, 4 right</span>" in text
    assert f'alt="{first.truth}, attacked: taken for {other} by 6 of 10 votes, 4 right; broken"' in text
    assert "is not said" not in digits.panel().caption


def test_a_record_that_did_not_keep_the_classes_says_so_in_the_caption(digits):
    digits.attack()
    assert "Which class an image is taken for is not said" in digits.panel().caption
    assert {tally.taken_for for tile in digits.panel().tiles for tally in tile.tallies} == {""}


def test_half_of_the_votes_do_not_keep_an_image_right(digits):
    digits.attack(kept=attacked(digits.images))
    assert [tile.outcome for tile in digits.panel().tiles if tile.tallies[1].right == 5] == ["broken"]


def test_the_caption_says_whose_votes_they_are_and_of_what_m(digits):
    digits.attack(kept=attacked(digits.images))
    assert "10 votes of m = 16 on each version that the attack's accuracy counts" in digits.panel().caption


def test_a_tile_has_every_version_and_its_alternative_text_says_class_version_and_outcome(digits):
    digits.attack(kept=attacked(digits.images))
    shown = digits.panel()
    assert [kind for kind, _ in shown.kinds] == ["clean", "attacked", "change", "noisy"]
    (first, *_) = shown.tiles
    text = html_of(shown)
    assert f'alt="{first.truth}, attacked: 4 of 10 votes right; broken"' in text
    assert f'alt="{first.truth}, clean: 10 of 10 votes right; broken"' in text
    assert f'alt="{first.truth}, change × {0.5 / EPS:.3g}"' in text


def test_without_kept_images_the_outcomes_stand_beside_the_clean_ones(digits):
    digits.attack()
    shown = digits.panel()
    assert [kind for kind, _ in shown.kinds] == ["clean", "noisy"]
    assert {tile.outcome for tile in shown.tiles} == {"broken", "still right"}
    assert "No attacked images were kept" in shown.caption


@pytest.mark.parametrize(
    "kept",
    [lambda x: x.flip(3), lambda x: x[:4], lambda x: (x * 255).to(torch.uint8), lambda x: x * float("nan")],
    ids=["another's", "few", "integers", "nan"],
)
def test_kept_images_that_are_no_versions_of_the_data_are_not_shown(digits, kept):
    digits.attack(kept=kept(digits.images))
    shown = digits.panel()
    assert [kind for kind, _ in shown.kinds] == ["clean", "noisy"]
    assert not any(tile.tallies for tile in shown.tiles)


def test_outcomes_of_other_images_are_not_shown(digits):
    digits.labels = digits.labels[::-1]
    digits.attack()
    assert not any(tile.tallies for tile in digits.panel().tiles)


def test_an_evaluation_says_what_an_image_was_taken_for(digits):
    results = evaluation([True] * N, data="digits/test")
    wrong = [(label + 1) % 10 if place < 4 else label for place, label in enumerate(digits.labels)]
    predicted = {m: dict.fromkeys(rules, wrong) for m, rules in results.outcomes.predicted.items()}
    outcomes = results.outcomes.with_changes(labels=digits.labels, predicted=predicted)
    digits.runs.add("evaluate", digits.model, results.with_changes(outcomes=outcomes), recipe=RECIPE, name="digits")
    shown = digits.panel()
    names = components.build_dataset(RECIPE).classes
    assert [tile.outcome for tile in shown.tiles[:3]] == [f"taken for {names[wrong[place]]}" for place in range(3)]
    assert [tile.outcome for tile in shown.tiles[3:]] == ["right"] * 3
    assert "m = 64" in shown.caption


def test_a_class_that_the_data_do_not_have_leaves_the_evaluation_out(digits):
    results = evaluation([True] * N, data="digits/test")
    predicted = {"64": {"majority": [10**9] * N}}
    outcomes = results.outcomes.with_changes(labels=digits.labels, predicted=predicted)
    digits.runs.add("evaluate", digits.model, results.with_changes(outcomes=outcomes), recipe=RECIPE, name="digits")
    assert {tile.outcome for tile in digits.panel().tiles} == {""}


def test_without_the_data_a_sentence_stands_in_place_of_the_images(runs, tmp_path):
    model = runs.model(recipe=recipe_of("cifar10", f"system.data_dir={tmp_path / 'none'}"))
    shown = panel(gather(model), "cifar10")
    assert shown is not None
    assert shown.tiles == ()
    assert re.match(r"No images of cifar10: .+", shown.caption)
    assert shown.caption in html.unescape(html_of(shown))


def test_the_versions_are_switched_without_a_script(digits):
    digits.attack(kept=attacked(digits.images))
    text = html_of(digits.panel())
    assert "<script" not in text
    (row,) = re.findall(r'<fieldset class="choose">.*?</fieldset>', text, re.DOTALL)
    assert re.findall(r'value="(\w+)"( checked)?', row) == [
        ("clean", ""),
        ("attacked", " checked"),
        ("change", ""),
        ("noisy", ""),
        ("all", ""),
    ]
    assert text.count('<input type="checkbox"') == 6


def test_the_rows_of_two_panels_do_not_switch_each_other(digits, tmp_path):
    digits.attack(kept=attacked(digits.images))
    other = digits.runs.model(recipe=RECIPE, name="digits")
    write_report([gather(digits.model), gather(other)], tmp_path / "page")
    text = (tmp_path / "page" / "comparison.html").read_text()
    assert set(re.findall(r'type="radio" name="([\w-]+)"', text)) == {"images-0", "images-1"}


def test_images_of_each_outcome_are_chosen_and_others_fill_up():
    kinds = ["wrong before", *["still right"] * 2, *["broken"] * 5]
    places = choose([Outcome(kind) for kind in kinds])
    assert [kinds[place] for place in places] == [*["broken"] * 3, *["still right"] * 2, "wrong before"]


def test_a_change_is_magnified_around_grey():
    x = torch.full((1, 2, 2), 0.5)
    change, factor = magnified(x, x + torch.tensor([[[0.1, -0.1], [0.05, 0]]]))
    assert factor == pytest.approx(5)
    assert torch.allclose(change, torch.tensor([[[1, 0], [0.75, 0.5]]]), atol=1e-6)
    assert magnified(x, x)[1] == 0


@pytest.mark.parametrize("shape, size", [((3, 32, 32), (32, 32)), ((1, 97, 20), (10, 49)), ((3, 224, 224), (75, 75))])
def test_large_images_are_averaged_to_at_most_96_pixels(shape, size):
    url = picture(torch.full(shape, 0.5))
    image = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
    assert image.size == size
    assert image.convert("L").getextrema() == (128, 128)


def html_of(shown: Panel) -> str:
    return render_html("sections/images.html.j2", panels=[shown])
