"""``rushkit certify`` and ``rushkit predict`` as a user meets them: what they say, and one message for each mistake."""

from __future__ import annotations

import json
import math
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import contents, only, sets
from PIL import Image
from torch.nn import functional

from rushkit import noises
from rushkit.certificates import ABSTAIN
from rushkit.certification import draws
from rushkit.certification import predict as stage
from rushkit.certification.claim import Claim
from rushkit.certification.counts import ImageCounts
from rushkit.certification.draws import MOST_DRAWS
from rushkit.certification.fixed_samples import FixedSamples
from rushkit.errors import NoCertificate
from rushkit.votes import SCORE

FEW = ("--samples", "200", "--limit", "3", *sets("certify.selection=20"))


class PixelNoise:
    """A noise of a plugin, with a theorem for l1 alone."""

    std = 0.1

    def sample(self, x, generator=None):
        return (torch.rand(x.shape, generator=generator, device=x.device) - 0.5) / 5

    def certified_radius(self, p, norm, dim):
        if norm != "l1":
            raise NoCertificate(f"no theorem for {norm}", "use l1")
        return np.maximum(np.asarray(p) - 0.5, 0.0) / 5


@pytest.fixture
def pixel_noise():
    noises.register("pixels")(lambda: PixelNoise())
    yield
    noises._registry.unregister("pixels", noises._registry.entry("pixels").owner)


@pytest.fixture
def pictures(folder) -> Path:
    place = folder / "pictures"
    (place / "more").mkdir(parents=True)
    chance = np.random.default_rng(0)
    for name, shape in (("a.png", (8, 8)), ("more/b.png", (20, 30))):
        Image.fromarray(chance.integers(0, 256, (*shape, 3), dtype=np.uint8)).save(place / name)
    return place


def certify(cli, *arguments):
    said = cli("certify", *FEW, *arguments, "--json", "-q")
    assert said.code == 0, said.err
    return json.loads(said.out)


class TestCertify:
    def test_leaves_results_a_table_counts_and_the_curve(self, cli, runs):
        said = cli("certify", *FEW, "--norm", "l1")
        assert said.code == 0, said.err
        run = only(runs, "certify")
        for file in ("results.json", "certificates.tsv", "counts/certify.jsonl", "figures/certified.png"):
            assert (run / file).stat().st_size > 0
        assert (run / "figures" / "certified.svg").is_file()
        for words in (
            "certified accuracy",
            "This noise certifies l1 0.3 at most",
            "Not covered",
            "Assumptions",
            run.name,
        ):
            assert words in said.out
        assert "nan" not in said.out

    def test_json_is_one_document_and_the_same_as_the_file(self, cli, runs):
        found = certify(cli, "--skip", "10")
        assert found["outcomes"]["images"] == [0, 10, 20]
        stored = json.loads((Path(found["run"]) / "results.json").read_text())
        assert found == stored | {"run": found["run"]}

    def test_radii_stop_early_and_counts_are_redone(self, cli, runs):
        few = ("--samples", "5000", *FEW[2:], "--norm", "l1", "--json", "-q")
        said = cli("certify", "--radius", "0.01", "--radius", "1/255", *few)
        assert said.code == 0, said.err
        tested = json.loads(said.out)
        assert [row["radius"] for row in tested["certified"]] == [1 / 255, 0.01]
        fixed = certify(cli, "--norm", "l1")
        again = cli("certify", "--from-counts", fixed["run"], "--alpha", "0.01", "--radius", "0.02", "--json", "-q")
        assert again.code == 0, again.err
        redone = json.loads(again.out)
        assert (redone["alpha"], redone["source"]) == (0.01, fixed["run"])
        assert [row["radius"] for row in redone["certified"]] == [0.02]
        # A run is found by its name, too.
        assert cli("certify", "--from-counts", Path(fixed["run"]).name, "-q").code == 0

    def test_resume_finishes_what_a_kill_left(self, cli, runs):
        whole = certify(cli)
        path = Path(whole["run"])
        counts = path / "counts" / "certify.jsonl"
        text = counts.read_bytes()
        counts.write_bytes(text[: len(text) * 2 // 3])
        (path / "results.json").unlink()
        facts = json.loads((path / "run.json").read_text())
        (path / "run.json").write_text(json.dumps(facts | {"status": "interrupted"}))
        said = cli("certify", "--resume", "--json", "-q")
        assert said.code == 0, said.err
        found = json.loads(said.out)
        assert found["outcomes"] == whole["outcomes"]
        assert found["run"] == whole["run"]

    def test_a_signal_stops_it_and_resume_goes_on(self, cli, fails, runs, monkeypatch):
        whole = certify(cli)
        calls, draw = 0, draws.noisy_unit

        def stopped(*arguments):
            nonlocal calls
            calls += 1
            if calls == 5:
                os.kill(os.getpid(), signal.SIGTERM)
            return draw(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(draws, "noisy_unit", stopped)
            said = fails(130, "certify", *FEW, "-q")
        assert calls == 5
        path = only(runs, "certify")
        assert f"rushkit certify --resume --run {path.relative_to(runs.parent)}" in said.err
        assert json.loads((path / "run.json").read_text())["status"] == "interrupted"
        again = cli("certify", "--resume", "--json", "-q")
        assert again.code == 0, again.err
        assert json.loads(again.out)["outcomes"] == whole["outcomes"]

    def test_another_noise_than_in_training_is_a_warning_that_names_both(self, cli, runs):
        said = cli("certify", *FEW, "-q", *sets("noise.name=gaussian", "noise.scale=0.25"))
        assert said.code == 0
        (warning,) = (line for line in said.err.splitlines() if line.startswith("warning"))
        assert "uniform scale 0.3" in warning
        assert "gaussian scale 0.25" in warning

    def test_an_objective_that_takes_no_noise_is_a_warning(self, cli, runs, monkeypatch):
        from rushkit.objectives.cross_entropy import CrossEntropy

        def of_plain_views(self, network, memory, batch):
            yield batch.mean(functional.cross_entropy(network(batch.view()), batch.labels, reduction="none"))

        with monkeypatch.context() as patch:
            patch.setattr(CrossEntropy, "losses", of_plain_views)
            assert cli("finetune", "--from", "digits", "-q", *sets("finetune.epochs=1")).code == 0
        said = cli("certify", *FEW, "-q")
        (warning,) = (line for line in said.err.splitlines() if line.startswith("warning"))
        assert "without noise" in warning
        assert "uniform scale 0.3" in warning


class TestMistakes:
    @pytest.mark.parametrize("alpha", ["0", "1", "-0.1", "2", "nan"])
    def test_alpha_outside_its_range(self, fails, runs, alpha):
        said = fails(2, "certify", "--alpha", alpha)
        assert "certify.alpha" in said.err
        assert not list(runs.glob("*-certify-*"))

    @pytest.mark.parametrize("alpha", ["9e-291", "1e-320"])
    @pytest.mark.parametrize("bound", ["clopper-pearson", "randomized", "betting"])
    def test_an_alpha_whose_share_for_each_image_float64_cannot_hold(self, fails, runs, bound, alpha):
        said = fails(2, "certify", "--alpha", alpha, *sets(f"certify.bound={bound}"))
        assert "certify.alpha: must be at least 1e-290: shared by all images, less is smaller than float64" in said.err
        assert not list(runs.glob("*-certify-*"))

    def test_too_few_draws_for_alpha(self, fails, cli, runs):
        said = fails(2, "certify", "--samples", "9")
        assert "9 draws can never certify at alpha 0.001" in said.err
        assert "--samples 10" in said.err
        assert not list(runs.glob("*-certify-*"))
        assert cli("certify", "--samples", "10", "--limit", "1", "-q").code == 0

    @pytest.mark.parametrize(
        ("setting", "smallest"),
        [
            ("certify.bound=betting", 13),
            ("certify.bound=randomized", 5),
            ("certify.rule=mean", 37),
            ("certify.alpha=0.4", 2),
        ],
    )
    def test_the_smallest_number_of_draws_is_the_smallest(self, cli, fails, runs, setting, smallest):
        said = fails(2, "certify", "--samples", "1", *sets(setting))
        assert f"--samples {smallest}" in said.err
        fails(2, "certify", "--samples", str(smallest - 1), *sets(setting))
        assert cli("certify", "--samples", str(smallest), "--limit", "1", "-q", *sets(setting)).code == 0

    @pytest.mark.usefixtures("pixel_noise")
    def test_a_noise_without_a_theorem_for_the_norm(self, fails, cli, runs):
        before = contents(runs)
        for norm in ("l2", "linf"):
            for words in ((), ("--radius", "0.1")):
                said = fails(2, "certify", "--norm", norm, *words, *sets("noise.name=pixels"))
                assert "noise 'PixelNoise' has no theorem for l" in said.err
                assert "it has: l1" in said.err
                assert "--norm l1" in said.err
        assert contents(runs) == before
        found = certify(cli, "--norm", "l1", *sets("noise.name=pixels"))
        assert "has no theorem" in found["covers"]
        assert found["theorem"] == "the noise's own theorem"
        counted = contents(runs)
        said = fails(2, "certify", "--from-counts", found["run"], "--norm", "linf")
        assert "no theorem for l-inf; it has: l1" in said.err
        said = fails(2, "certify", "--norm", "l1", *sets("noise.name=pixels", "certify.two_class=true"))
        assert "no theorem for two classes" in said.err
        assert contents(runs) == counted

    @pytest.mark.usefixtures("pixel_noise")
    def test_a_noise_that_names_its_theorem_by_no_words(self, fails, runs, monkeypatch):
        monkeypatch.setattr(PixelNoise, "theorem", lambda noise, norm: ["Bernstein"], raising=False)
        before = contents(runs)
        said = fails(3, "certify", "--norm", "l1", *sets("noise.name=pixels"))
        assert "noise 'PixelNoise' names its theorem by list, and not in words" in said.err
        assert contents(runs) == before

    def test_the_smallest_alpha_is_shared_by_all_images(self, cli, runs):
        said = cli("certify", "--alpha", "1e-290", "--samples", "1000", *FEW[2:], "--json", "-q")
        assert said.code == 0, said.err
        found = json.loads(said.out)
        assert found["together"] == {"most_false": 1, "strict_alpha": 1e-290 / 2 / 3}

    @pytest.mark.parametrize("change", ["noise.scale=0.2", "system.seed=9", "data.limit=20"])
    def test_counts_of_something_else(self, cli, fails, runs, change):
        found = certify(cli)
        said = fails(2, "certify", "--from-counts", found["run"], *sets(change))
        assert f"of another {change.partition('.')[0].replace('system', 'seed')}" in said.err

    def test_radii_of_another_norm_than_the_counts(self, cli, fails, runs):
        found = certify(cli, "--norm", "l1", "--radius", "0.15", "--radius", "8/255")
        before = contents(runs)
        for change in (("--norm", "l2"), sets("certify.norm=l2")):
            said = fails(2, "certify", "--from-counts", found["run"], *change)
            assert "the counts are of l1 0.15, 8/255, and the norm is now l2" in said.err
            assert "--norm l2 --radius R" in said.err
        assert contents(runs) == before
        assert cli("certify", "--from-counts", found["run"], "--norm", "l2", "--radius", "0.15", "-q").code == 0

    @pytest.mark.parametrize(
        "setting", ["certify.bound=clopper-pearson", "certify.two_class=true", "certify.rule=mean"]
    )
    def test_counts_of_sequential_tests_hold_for_the_betting_bound_only(self, cli, fails, runs, setting):
        found = certify(cli, "--norm", "l1", "--radius", "0.15")
        before = contents(runs)
        said = fails(2, "certify", "--from-counts", found["run"], *sets(setting))
        assert "these counts are of sequential tests, which stopped when the votes of one class decided" in said.err
        assert "or certify anew" in said.err
        assert contents(runs) == before

    def test_counts_of_another_model(self, cli, fails, runs):
        found = certify(cli)
        assert cli("finetune", "--from", "digits", "-q", *sets("finetune.epochs=2")).code == 0
        said = fails(2, "certify", "--from-counts", found["run"], "--from", str(only(runs, "finetune")))
        assert "of another model" in said.err

    def test_no_counts(self, fails, runs):
        assert "there is no run 'nowhere'" in fails(2, "certify", "--from-counts", "nowhere").err
        assert "no counts" in fails(2, "certify", "--from-counts", str(only(runs, "finetune"))).err

    def test_settings_that_do_not_go_together(self, fails, runs):
        for settings in (
            ("--radius", "0.1", *sets("certify.rule=mean")),
            ("--radius", "0.1", *sets("certify.bound=clopper-pearson")),
            ("--radius", "0.1", *sets("certify.bound=randomized")),
            sets("certify.rule=mean", "certify.bound=randomized"),
            sets("certify.rule=mean", "certify.two_class=true"),
            sets("certify.rule=mean", "certify.bound=betting"),
            sets("certify.bound=hoeffding"),
            ("--radius", "-1"),
            ("--radius", "far"),
            ("--split", "nosplit"),
            ("--resume", "--alpha", "0.1"),
        ):
            fails(2, "certify", *settings)

    def test_nothing_to_certify(self, fails, folder):
        assert "no finished run" in fails(2, "certify").err


class TestPredict:
    def test_files_and_folders_with_a_note_where_one_is_resized(self, cli, runs, pictures):
        said = cli("predict", str(pictures / "a.png"), str(pictures), "--samples", "100", "--json", "-q")
        assert said.code == 0, said.err
        rows = json.loads(said.out)["predictions"]
        assert [Path(row["image"]).name for row in rows] == ["a.png", "a.png", "b.png"]
        assert rows[0] == rows[1]
        assert rows[0]["notes"] == []
        assert rows[2]["notes"] == ["middle 20x20 of 30x20", "resized from 20x20 to 8x8"]
        for row in rows:
            assert 0 <= row["p_lower"] <= row["p_upper"] <= 1
            assert row["abstained"] == (row["class"] is None)
            assert row["radius"] == 0 or not row["abstained"]

    def test_the_table_has_class_probability_radius_and_note(self, cli, runs, pictures):
        said = cli("predict", str(pictures), "--samples", "100", "--norm", "l1")
        assert said.code == 0, said.err
        for words in ("class", "probability", "l1 radius", "resized from 20x20 to 8x8", "None of this says"):
            assert words in said.out
        assert "without knowledge of the seed" in " ".join(said.out.split())
        assert "--set system.seed=" in said.out

    def test_a_coin_abstains_and_a_sure_model_does_not(self, cli, runs, pictures, monkeypatch):
        class Coin(torch.nn.Module):
            """Two classes at even odds, whatever the image: the sign of a difference of two pixels' noise."""

            def __init__(self, sure: float) -> None:
                super().__init__()
                self.sure = sure

            def forward(self, x):
                odds = (x * 1000).remainder(1).flatten(1)[:, 0] - 0.5 + self.sure
                return torch.stack([odds, -odds, *[torch.full_like(odds, -9.0)] * 8], dim=1)

        load = stage.load_classifier
        for sure, abstains in ((0.0, True), (5.0, False)):
            monkeypatch.setattr(
                stage,
                "load_classifier",
                lambda *given, sure=sure: _with_network(load(*given), Coin(sure)),
            )
            said = cli(
                "predict", str(pictures / "a.png"), "--json", "-q", *sets("noise.name=uniform", "noise.scale=0.5")
            )
            (row,) = json.loads(said.out)["predictions"]
            assert row["abstained"] is abstains
            assert (row["radius"] > 0) is not abstains
            assert row["p_lower"] < 0.5 < row["p_upper"] or not abstains

    def test_it_abstains_where_the_draws_that_choose_name_another_class(self):
        # The selection draws name class 0; of 1000 others nearly all name class 1.
        def counts(selection):
            return ImageCounts(
                images=np.zeros(1, dtype=np.int64),
                labels=np.zeros(1, dtype=np.int64),
                uniforms=np.ones(1),
                selection=np.array([selection]),
                selection_scores=np.array([selection], dtype=float),
                votes=np.array([[10, 990]]),
                scores=np.zeros(1),
                squares=np.zeros(1),
                seconds=np.zeros(1),
            )

        noise = noises.create("gaussian", scale=0.25)
        claim = Claim(noise, "l2", 12, 0.001, "clopper-pearson", "majority", False, 1000)
        procedure = FixedSamples(claim, 100)
        image = procedure.verdict(counts([60, 40]))
        assert (image.predicted, image.top, image.radius) == (ABSTAIN, 0, 0.0)
        assert image.p_lower < 0.01 < image.p_upper < 0.5
        image = procedure.verdict(counts([40, 60]))
        assert (image.predicted, image.top) == (1, 1)
        assert 0.5 < image.p_lower < 0.99 < image.p_upper
        assert image.radius > 0

    def test_the_split_noise_leaves_nothing_to_chance(self, cli, runs, pictures):
        said = cli("predict", str(pictures / "a.png"), "--json", "-q", *sets("noise.name=split", "noise.scale=0.1"))
        found = json.loads(said.out)
        (row,) = found["predictions"]
        assert found["alpha"] == 0
        assert row["p_lower"] == row["p_upper"]
        assert math.isclose(row["p_lower"] * 51, round(row["p_lower"] * 51))

    def test_one_image_that_cannot_be_read_fails_and_the_others_are_classified(self, fails, runs, pictures):
        whole = len(list(pictures.rglob("*.png")))
        (pictures / "torn.png").write_bytes((pictures / "a.png").read_bytes()[:60])
        said = fails(1, "predict", str(pictures), "--json", "--samples", "11", *sets("certify.selection=2"))
        assert "torn.png cannot be read: " in said.err.partition("error: ")[0]
        assert f"error: 1 of {whole + 1} images cannot be read: {pictures / 'torn.png'}" in said.err
        found = json.loads(said.out)
        assert len(found["predictions"]) == whole
        assert [each["image"] for each in found["unreadable"]] == [str(pictures / "torn.png")]

    def test_a_path_without_an_image_fails_and_the_others_are_classified(self, fails, runs, pictures):
        few = ("--json", "--samples", "11", *sets("certify.selection=2"))
        said = fails(1, "predict", "absent.png", str(pictures / "a.png"), *few)
        assert "there is no image absent.png" in said.err.partition("error: ")[0]
        assert "error: 1 of 2 images cannot be read: absent.png" in said.err
        found = json.loads(said.out)
        assert [each["image"] for each in found["predictions"]] == [str(pictures / "a.png")]
        assert [each["image"] for each in found["unreadable"]] == ["absent.png"]

    def test_images_of_which_none_can_be_read_are_named_before_any_work(self, fails, runs, pictures, monkeypatch):
        monkeypatch.setattr(draws, "count_votes", None)
        torn, empty = pictures / "torn.png", pictures / "empty.png"
        torn.write_bytes((pictures / "a.png").read_bytes()[:60])
        empty.write_bytes(b"")
        assert "torn.png cannot be read" in fails(1, "predict", str(torn)).err
        assert "empty.png cannot be read: not an image" in fails(1, "predict", str(empty)).err
        assert f"none of these 2 images can be read: {torn} cannot" in fails(1, "predict", str(torn), str(empty)).err
        assert "there is no image absent.png\nhint: check the path" in fails(1, "predict", "absent.png").err
        assert "none of these 2 images can be read: there is no image" in fails(1, "predict", "no.png", "nor.png").err
        (pictures / "empty").mkdir()
        assert "no images" in fails(2, "predict", str(pictures / "empty")).err
        if os.geteuid():
            torn.chmod(0)
            assert "torn.png cannot be read" in fails(1, "predict", str(torn)).err

    @pytest.mark.parametrize("verb", ["certify", "predict"])
    def test_what_no_theorem_covers_is_wrong_use_and_leaves_no_run(self, fails, runs, pictures, verb):
        before = contents(runs)
        images = [str(pictures / "a.png")] if verb == "predict" else []
        assert "without noise there is nothing to certify" in fails(2, verb, *images, *sets("noise.name=none")).err
        assert contents(runs) == before

    def test_too_few_draws_for_alpha(self, fails, runs, pictures):
        assert "--samples 11" in fails(2, "predict", str(pictures), "--samples", "5").err

    def test_more_draws_than_64_bits_hold_the_squares_of_are_refused(self, fails, runs, pictures, monkeypatch):
        assert MOST_DRAWS * SCORE**2 < 2**63 <= (MOST_DRAWS + 1) * SCORE**2
        monkeypatch.setattr(draws, "count_votes", None)
        for given in (["--samples", str(MOST_DRAWS + 1)],):
            said = fails(2, "predict", str(pictures), *given).err
            assert f"ask for {MOST_DRAWS} at most" in " ".join(said.split())


def _with_network(classifier, network):
    from dataclasses import replace

    return replace(classifier, network=network)
