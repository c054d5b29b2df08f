"""The figures of a report."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from rich.console import Console
from synthetic_runs import (
    EPS,
    WITHOUT_NOISE,
    attack_row,
    attacks,
    audited,
    certification,
    evaluation,
    finetuning,
    imported,
    pretraining,
    probed,
    recipe_of,
    transferred,
)

from rushkit.recipe.schema import Noise
from rushkit.report.content import build_report
from rushkit.report.document import build_document
from rushkit.report.families import gather
from rushkit.report.page.render import markdown
from rushkit.report.terminal.tables import record_table
from rushkit.results.certification import AttackAgreement
from rushkit.results.words import PROTOCOL_NOTE
from rushkit.statistics import wilson_interval


def document_of(*models):
    return build_report([gather(model) for model in models]).plain()


def markdown_of(*models):
    return markdown(build_document(build_report([gather(model) for model in models])), "report.html")


def test_table_1_has_the_papers_figures_beside_both_protocols(measured):
    rows = document_of(measured)["models"][0]["table_1"]
    assert [row["samples"] for row in rows] == [64, 1]
    first = rows[0]
    assert [first["reported"][name] for name in ("standard", "pgd", "autoattack")] == [0.879, 0.778, 0.795]
    assert first["standard"]["accuracy"] == 0.75
    low, high = wilson_interval(9, 12)
    assert (first["standard"]["low"], first["standard"]["high"]) == (low, high)
    assert first["pgd"]["paper"]["accuracy"] == pytest.approx(8 / 12)
    assert first["pgd"]["strict"]["accuracy"] == pytest.approx(3.5 / 12)
    assert first["autoattack"]["paper"]["accuracy"] == 0.75
    assert first["autoattack"]["strict"] is None
    assert rows[1]["pgd"] == {"paper": None, "strict": None}


def test_the_stl10_row_is_that_of_the_pretraining_data(runs):
    encoder = runs.add("pretrain", recipe=recipe_of("cifar10"))
    model = runs.add("finetune", encoder, recipe=recipe_of("stl10"))
    runs.add("evaluate", model, evaluation([True, False], samples=(64,), data="stl10/test"))
    assert document_of(model)["models"][0]["table_1"][0]["reported"]["standard"] == 0.737


def test_another_noise_is_a_row_of_its_own(runs):
    model = runs.model()
    runs.add("evaluate", model, evaluation([True, False], samples=(64,)))
    louder = Noise(name="uniform", scale=0.5)
    runs.add("evaluate", model, evaluation([False, False], samples=(64,), noise=louder))
    rows = document_of(model)["models"][0]["table_1"]
    assert {row["noise"]["scale"]: row["standard"]["accuracy"] for row in rows} == {0.3: 0.5, 0.5: 0.0}


def test_figures_under_another_noise_are_neither_the_papers_row_nor_the_models_result(runs):
    model = runs.model()
    runs.add("evaluate", model, evaluation([True, False, False, False]))
    runs.add("evaluate", model, evaluation([True] * 4, noise=WITHOUT_NOISE))
    runs.add("attack", model, attacks(attack_row([10, 10, 10, 0])))
    runs.add("attack", model, attacks(attack_row([0, 0, 0, 0]), noise=WITHOUT_NOISE))
    entry = document_of(model)["models"][0]
    by_noise = {(row["noise"]["name"], row["samples"]): row for row in entry["table_1"]}
    assert by_noise["uniform", 64]["reported"]["standard"] == 0.879
    assert by_noise["uniform", 64]["strategy"] == "I_F+"
    assert by_noise["none", 64]["reported"] is None
    assert by_noise["none", 64]["strategy"] is None
    clean, attacked = entry["summary"][:2]
    assert "right on 25.0 %" in clean
    assert "strict: at most 75.0 %" in attacked


def test_where_there_is_no_other_figure_its_noise_is_said(runs):
    model = runs.model()
    runs.add("evaluate", model, evaluation([True] * 4, noise=WITHOUT_NOISE))
    runs.add("attack", model, attacks(attack_row([0, 0, 0, 0]), noise=WITHOUT_NOISE))
    runs.add("certify", model, certification([0.1, 0.2], [True, True], noise=Noise(name="gaussian", std=0.5)))
    runs.add("audit", model, audited("pass", noise=WITHOUT_NOISE))
    clean, attacked, proved, checked = document_of(model)["models"][0]["summary"]
    assert clean.endswith("images of cifar10/test (all of test), noise none.")
    assert "(m = 64, noise none)" in attacked
    assert ", noise gaussian std 0.5)" in proved
    assert "(m = 64, noise none;" in checked


def test_the_newest_evaluation_and_the_largest_attack_count(runs):
    model = runs.model()
    runs.add("evaluate", model, evaluation([True, False], samples=(64,)))
    runs.add("evaluate", model, evaluation([True, True], samples=(64,)))
    runs.add("attack", model, attacks(attack_row([10, 10, 0, 0])))
    runs.add("attack", model, attacks(attack_row([10])))
    runs.add("attack", model, attacks(attack_row([10, 0, 0, 0])))
    row = document_of(model)["models"][0]["table_1"][0]
    assert row["standard"]["accuracy"] == 1.0
    assert (row["pgd"]["strict"]["accuracy"], row["pgd"]["strict"]["images"]) == (0.25, 4)


def test_of_strict_runs_on_the_same_images_the_lowest_counts_and_of_paper_the_newest(runs):
    model = runs.model()
    for right in ([10, 0, 0, 0], [10, 10, 5, 0], [10, 10, 0, 0]):
        runs.add("attack", model, attacks(attack_row(right), attack_row([each // 10 for each in right], "paper")))
    found = document_of(model)["models"][0]
    cell = found["table_1"][0]["pgd"]
    assert (cell["strict"]["accuracy"], cell["strict"]["chosen_from"]) == (0.25, 3)
    assert cell["strict"]["run"] < cell["paper"]["run"]
    assert (cell["paper"]["accuracy"], cell["paper"]["chosen_from"]) == (0.5, 3)
    assert "n = 4, of 3 runs" in markdown_of(model)


def test_of_paper_runs_one_at_the_papers_settings_stands_before_a_newer_one_that_is_not(runs):
    model = runs.model()
    runs.add("attack", model, attacks(attack_row([1, 0, 0, 0], "paper")))
    steps = {"name": "steps", "value": 1, "own": 40, "weaker": True}
    runs.add("attack", model, attacks(attack_row([1, 1, 1, 1], "paper", deviations=[steps])))
    cell = document_of(model)["models"][0]["table_1"][0]["pgd"]["paper"]
    assert (cell["accuracy"], cell["chosen_from"]) == (0.25, 1)


def test_a_lower_figure_of_other_images_is_no_better_attack(runs):
    model = runs.model()
    runs.add("attack", model, attacks(attack_row([0, 0, 0], images=[3, 4, 5])))
    runs.add("attack", model, attacks(attack_row([10, 10, 0], images=[0, 1, 2])))
    runs.add("attack", model, attacks(attack_row([0, 0, 0], images=[0, 1, 2], labels=[2, 1, 0])))
    runs.add("attack", model, attacks(attack_row([10, 0, 10], images=[0, 1, 2])))
    cell = document_of(model)["models"][0]["table_1"][0]["pgd"]["strict"]
    assert (cell["accuracy"], cell["chosen_from"]) == (pytest.approx(2 / 3), 2)


def test_table_1_is_about_the_test_split_alone(runs):
    model = runs.model()
    runs.add("attack", model, attacks(attack_row([10, 0])))
    # More images, lower figures, newer: yet of other splits.
    runs.add("attack", model, attacks(attack_row([10, 0, 0, 0], split="cifar10/train")))
    runs.add("evaluate", model, evaluation([True, False], samples=(64,)))
    runs.add("evaluate", model, evaluation([True] * 9, samples=(64,), data="cifar10/train"))
    found = document_of(model)["models"][0]
    (row,) = found["table_1"]
    assert (row["standard"]["accuracy"], row["pgd"]["strict"]["accuracy"]) == (0.5, 0.5)
    assert sorted(row["split"] for row in found["attacks"]) == ["cifar10/test", "cifar10/train"]
    assert any("of 2 images of cifar10/test" in line for line in found["summary"])
    assert "| 4 of train |" in markdown_of(model)


def test_only_the_papers_ball_is_in_table_1(runs):
    model = runs.model()
    runs.add("attack", model, attacks(attack_row([10], eps=2 * EPS), attack_row([10], norm="l2")))
    found = document_of(model)["models"][0]
    assert found["table_1"] == []
    assert len(found["attacks"]) == 2


def test_accuracy_against_eps_needs_two_radii_and_begins_unattacked(measured):
    (series,) = document_of(measured)["models"][0]["against_eps"]
    assert (series["attack"], series["protocol"], series["samples"]) == ("pgd", "strict", 64)
    assert [point["eps"] for point in series["points"]] == [0.0, EPS, 2 * EPS]
    assert [point["accuracy"] for point in series["points"]] == pytest.approx([1.0, 3.5 / 12, 2 / 12])
    assert all(point["low"] <= point["accuracy"] <= point["high"] for point in series["points"])


def test_the_certified_curve_falls_just_after_each_radius(measured):
    (one,) = document_of(measured)["models"][0]["certified"]
    curve = one["curve"]
    assert curve["radius"] == [0.0, 0.05, 0.15, 0.25, 0.3]
    assert curve["value"] == [0.75, 0.75, 0.5, 0.25, 0.0]


def test_tested_radii_are_points(runs):
    model = runs.model()
    runs.add("certify", model, certification([0.1, 0.2], [True, True], mode="sequential"))
    curve = document_of(model)["models"][0]["certified"][0]["curve"]
    assert (curve["tested"], curve["radius"], curve["value"]) == (True, [0.0, 0.1, 0.2], [1.0, 1.0, 0.5])


def test_the_confusion_matrix_counts_every_image(measured):
    found = document_of(measured)["models"][0]["confusion"]
    assert found["classes"] == ["cat", "dog", "bird"]
    assert found["counts"] == [[3, 1, 0], [0, 3, 1], [1, 0, 3]]


def test_the_confusion_matrix_is_of_the_largest_m(runs):
    model = runs.model()
    runs.add("evaluate", model, evaluation([True, False], samples=(8, 16)))
    assert document_of(model)["models"][0]["confusion"]["samples"] == 16


def test_two_classes_of_one_name_are_told_apart(runs):
    model = runs.model()
    runs.add("evaluate", model, evaluation([True] * 3, per_class={"cat": 1.0, "dog": 1.0}))
    assert document_of(model)["models"][0]["confusion"]["classes"] == ["0", "1", "2"]


def test_training_curves_are_over_epochs(measured):
    training = document_of(measured)["models"][0]["training"]
    assert [one["stage"] for one in training] == ["pretrain", "finetune"]
    curves = training[0]["curves"]
    assert curves["loss"][0] == [0.2, 4.9]
    assert curves["loss"][-1] == [2.0, 4.0]
    assert curves["knn_accuracy"] == [[2.0, 0.5]]


def test_a_torn_or_damaged_metrics_file_costs_its_curves_only(runs):
    model = runs.model()
    (model.path / "metrics.jsonl").write_text('{"step": 1, "kind": "step", "loss": 1.0}\nnot json\n{"step": 2}\n')
    assert [one["stage"] for one in document_of(model)["models"][0]["training"]] == ["pretrain"]


def test_the_summary_quotes_strict_and_never_paper(measured):
    text = " ".join(document_of(measured)["models"][0]["summary"])
    assert "75.0 %" in text
    assert "strict: at most 29.2 %" in text
    assert "66.7" not in text
    method = "alpha 0.001 for each image, clopper-pearson, 1000 draws; theorem: Neyman-Pearson, tight"
    assert f"Proved ({method}): at least 25.0 % [4.5, 70.0] of 4 images" in text
    assert "keep their right class under every l1 perturbation up to 0.2; taken together, at least 0.0 % of" in text
    assert "of these images do, but for one chance of 0.001." in text
    assert "gives reasons to doubt the figures under attack: RK102 check-1" in text


def test_a_paper_figure_alone_says_nothing_about_robustness(runs):
    model = runs.model()
    runs.add("attack", model, attacks(attack_row([1, 1], "paper")))
    text = " ".join(document_of(model)["models"][0]["summary"])
    assert "nothing here says how robust the model is" in text
    assert "100" not in text


def test_an_audit_without_failures_is_said_to_be_one(runs):
    model = runs.model()
    runs.add("audit", model, audited("pass", "warn"))
    said = " ".join(document_of(model)["models"][0]["summary"])
    assert "9 of 12 images attacked, the others wrong before) found nothing that fails among 2 checks." in said


def test_a_passed_audit_says_what_it_could_not_have_noticed(runs):
    model = runs.model()
    runs.add("audit", model, audited("pass", "skipped", drop=0.125))
    said = " ".join(document_of(model)["models"][0]["summary"])
    assert "fails among 2 checks; 1 more were skipped." in said
    assert "would not have noticed a drop below 12.5 points" in said


def test_the_points_of_an_audits_sweep_have_intervals(measured):
    (audit,) = document_of(measured)["models"][0]["audit"]
    point = audit["sweeps"]["eps"][0]
    assert (point["accuracy"], point["images"]) == (0.5, 9)
    # Of 4.5 images: as wide as that of 4 and 5.
    assert (point["low"], point["high"]) == (wilson_interval(4, 9)[0], wilson_interval(5, 9)[1])


def test_strict_above_paper_is_explained_where_it_is_chance_and_blamed_where_it_is_not(runs):
    near, far = runs.model(), runs.model()
    runs.add("attack", near, attacks(attack_row([1, 0, 0, 0], "paper"), attack_row([10, 2, 0, 0])))
    runs.add("attack", far, attacks(attack_row([1] * 5 + [0] * 95, "paper"), attack_row([10] * 50 + [0] * 50)))
    document = document_of(near, far)
    (near_note,), (far_note,) = (model["attack_notes"] for model in document["models"])
    assert (
        "strict leaves 30.0 %, paper 25.0 %; paper asks for one vote an image, strict for the mean of 10" in near_note
    )
    assert "on 4 images such a difference can be chance" in near_note
    assert "the search of strict was too weak" in far_note


def test_the_terminal_explains_it_too(capsys):
    rows = [attack_row([1, 0, 0, 0], "paper"), attack_row([10, 2, 0, 0])]
    Console(width=400).print(record_table(attacks(*rows)))
    assert "such a difference can be chance" in capsys.readouterr().out


def test_the_terminal_shows_each_attack_of_a_ball(capsys):
    one, other = attack_row([10, 0, 0, 0]), attack_row([10, 10, 10, 0])
    elsewhere = attack_row([10, 10, 0, 0], split="cifar10/train")
    rows = (attack_row([1, 1, 0, 0], "paper"), one, attack_row([1, 1, 1, 1], "paper"), other, elsewhere)
    Console(width=400).print(record_table(attacks(*rows)))
    shown = [line.split("│") for line in capsys.readouterr().out.splitlines() if line.startswith("│ pgd")][:3]
    figures = [(line[4].strip(), line[6].split()[:1], line[7].split()[0]) for line in shown]
    assert figures == [("4", ["50.0"], "25.0"), ("4", ["100.0"], "75.0"), ("4 of train", [], "50.0")]


def test_attacks_of_one_run_are_not_several_runs(runs):
    model = runs.model()
    runs.add("attack", model, attacks(attack_row([10, 0, 0, 0]), attack_row([10, 10, 0, 0])))
    cell = document_of(model)["models"][0]["table_1"][0]["pgd"]["strict"]
    assert (cell["accuracy"], cell["chosen_from"]) == (0.25, 1)


def test_strict_below_paper_needs_no_word(runs):
    model = runs.model()
    runs.add("attack", model, attacks(attack_row([1, 1, 0], "paper"), attack_row([10, 0, 0])))
    assert document_of(model)["models"][0]["attack_notes"] == []


def test_probes_keep_the_spread_over_the_images(measured):
    (probe,) = document_of(measured)["models"][0]["probe"]
    assert [(row["encoder"], row["points"]) for row in probe["rows"]][:2] == [
        ("pre-trained", "random"),
        ("pre-trained", "ascent"),
    ]
    curve = probe["rows"][0]["curve"]
    assert [x for x, _ in curve] == pytest.approx([0.1, 0.175, 0.25, 0.325, 0.4])
    assert [y for _, y in curve] == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_what_transfers_is_kept_without_the_images(runs):
    model = runs.model()
    row = transferred(attack_row([0, 0, 10, 10]), [10, 5, 10, 10], "20300101-finetune-other")
    runs.add("attack", model, attacks(row))
    (shown,) = document_of(model)["models"][0]["attacks"]
    assert shown["transfer"]["rules"]["majority"]["accuracy"] == pytest.approx(3.5 / 4)
    assert "outcomes" not in shown["transfer"]


def test_an_evaluation_of_a_few_images_does_not_replace_that_of_all(runs):
    model = runs.model()
    runs.add("evaluate", model, evaluation([True] * 9 + [False], samples=(64,)))
    runs.add("evaluate", model, evaluation([False, False], samples=(64,)))
    found = document_of(model)["models"][0]
    assert found["table_1"][0]["standard"]["images"] == 10
    assert sum(map(sum, found["confusion"]["counts"])) == 10


def test_an_imported_model_was_not_trained_by_its_recipe(runs):
    results = imported("classifier")
    model = runs.add("import", results=results, stage="finetune", imported=results.imported.to_table())
    runs.add("evaluate", model, evaluation([True, False], samples=(64,)))
    found = document_of(model)["models"][0]
    assert found["about"]["imported"] == "theirs.pt (sha256 0123456789ab)"
    assert not {"pre-training", "fine-tuning"} & set(found["about"])
    assert found["table_1"][0]["reported"] is None
    assert found["differences"] == []
    encoder = runs.add("import", results=imported("encoder"), stage="pretrain")
    tuned = runs.add("finetune", encoder, finetuning())
    found = document_of(tuned)["models"][0]
    assert found["about"]["imported"] == encoder.path.name
    assert "pre-training" not in found["about"]
    assert "fine-tuning" in found["about"]
    assert "pre-training unknown" in found["differences"]


@pytest.mark.parametrize(
    ("argv", "command"),
    [
        (["/x/rushkit", "pretrain", "--set", "a b=1"], "rushkit pretrain --set 'a b=1'"),
        (["C:\\x\\rushkit.exe", "demo"], "rushkit demo"),
        (["/x/rushkit/__main__.py", "demo"], "rushkit demo"),
        (["-c"], None),
        (["train.py", "--epochs", "3"], None),
    ],
)
def test_a_program_of_someone_else_is_no_command_of_ours(runs, argv, command):
    report = build_report([gather(runs.model(argv=argv))])
    assert [run.command for run in report.models[0].runs] == [command] * 2
    (model,) = build_document(report).models
    assert model.commands[0] == command or model.commands[0].startswith("# pretrain was called from Python; its recipe")


def test_a_stronger_attack_that_leaves_more_is_flagged(runs):
    model = runs.model()
    rows = [attack_row([0] * 60 + [10] * 40), attack_row([10] * 90 + [0] * 10, attack="autoattack")]
    runs.add("attack", model, attacks(*rows))
    notes = " ".join(document_of(model)["models"][0]["attack_notes"])
    assert "AutoAttack, the stronger attack, leaves more than PGD" in notes


def test_what_is_not_complete_or_of_another_checkpoint_is_noted(runs):
    model = runs.model()
    runs.add("evaluate", model, evaluation([True]), status="interrupted")
    best = f"x/{model.path.name}/checkpoints/best.safetensors"
    runs.add("attack", results=attacks(attack_row([1])), recipe=recipe_of("cifar10"))
    path = next(runs.root.glob("*attack*")) / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"parent": best}))
    notes = " ".join(document_of(model)["models"][0]["notes"])
    assert "is interrupted" in notes
    assert "several checkpoints" in notes
    assert "best.safetensors" in notes


def test_a_contradiction_of_a_certificate_is_noted(runs):
    model = runs.model()
    clash = AttackAgreement(agree_with_attacks=False, messages=["1 image is certified but broken"])
    runs.add("certify", model, certification([0.1], [True], checks=clash))
    assert "CONTRADICTION: 1 image is certified but broken" in document_of(model)["models"][0]["notes"]


def test_the_commands_are_those_that_were_typed(measured):
    runs = document_of(measured)["models"][0]["runs"]
    assert runs[0]["command"] == "rushkit pretrain --set 'a b=1'"
    assert runs[0]["seconds"] == 30.0


def test_the_document_is_json_and_carries_the_note(measured):
    document = document_of(measured)
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["protocol_note"] == PROTOCOL_NOTE


def test_every_key_of_the_json_is_documented_and_no_other(measured, runs):
    document = document_of(measured, runs.model())
    page = (Path(__file__).parents[2] / "docs" / "reports.md").read_text(encoding="utf-8")
    for heading, found in (("key", document), ("key of a model", document["models"][0])):
        table = page.partition(f"| {heading} | what |\n")[2].partition("\n\n")[0]
        documented = [key for line in table.splitlines()[1:] for key in re.findall(r"`(\w+)`", line.split("|")[1])]
        assert sorted(documented) == sorted(found)


@pytest.mark.parametrize("verb", ["finetune", "evaluate", "attack", "certify", "audit", "probe", "import"])
@pytest.mark.parametrize("status", ["failed", "interrupted", "running"])
def test_a_run_without_results_still_has_a_report(runs, verb, status):
    found = document_of(runs.add(verb, status=status))["models"][0]
    assert "Nothing was measured" in found["summary"][0]
    assert f"({verb}) is " in found["notes"][0]


def test_an_encoder_alone_is_said_to_be_one(runs):
    encoder = runs.add("pretrain", results=pretraining())
    found = document_of(encoder)["models"][0]
    assert found["summary"] == ["This is an encoder, not a classifier yet: rushkit finetune."]
    assert set(found["about"]) == {"backbone", "noise", "pre-training"}
    runs.add("probe", encoder, probed("pre-trained", "random"))
    assert "Features of the encoder move 0.250 [" in document_of(encoder)["models"][0]["summary"][1]


def test_nothing_certified_is_said(runs):
    model = runs.model()
    runs.add("certify", model, certification([0.0, 0.0], [False, True]))
    (said, *_) = document_of(model)["models"][0]["summary"]
    assert "of 2 images of cifar10/test (all of test) none is certified at any l1 radius above 0" in said


def test_a_stage_without_a_section_shows_its_figures(runs):
    model = runs.model()
    runs.add("import", model, imported("classifier"))
    (other,) = document_of(model)["models"][0]["other"]
    figures = {"recipe": "cifar10", "makes": "classifier", "parameters": 10, "image_size": 32, "channels": 3}
    figures |= {"classes": 10}
    assert (other["stage"], other["figures"]) == ("import", figures)


def test_models_of_one_recipe_get_names_of_their_own(runs):
    document = document_of(runs.model(), runs.model())
    assert [model["name"] for model in document["models"]] == ["cifar10 000002", "cifar10 000004"]


def test_results_of_another_format_are_noted_and_left_out(runs):
    model = runs.model()
    run = runs.add("evaluate", model)
    (run.path / "results.json").write_text(json.dumps({"stage": "evaluate", "accuracy": [{}]}))
    entry = document_of(model)["models"][0]
    assert any("results.json is damaged" in note and "left out" in note for note in entry["notes"])
    assert entry["accuracy"] == []
