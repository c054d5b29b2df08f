"""``rushkit attack``, ``audit`` and ``probe`` as a user meets them."""

from __future__ import annotations

import json

import pytest
from commands import contents, only, sets

from rushkit.run.checkpoint import load_checkpoint, save_checkpoint

QUICK = ("--limit", "4", "--samples", "2", *sets("attack.0.steps=2", "attack.0.restarts=1"))
LEAST = ("--limit", "16", "--samples", "2", "--steps", "2", "--eot", "2", "--queries", "2", "--eps", "8/255")


def without_seconds(results):
    rows = [{key: value for key, value in row.items() if key != "seconds"} for row in results["attacks"]]
    return {**results, "attacks": rows}


def test_both_protocols_side_by_side_with_what_each_attack_broke(cli, runs):
    said = cli("attack", "--eot", "3", *QUICK)
    assert said.code == 0, said.err
    assert "protocol paper, m = 2: pgd nll; 3 draws a gradient" in said.out
    assert "protocol weaker, m = 2: pgd nll, pgd ce, pgd dlr, pgd margin; 3 draws a gradient" in said.out
    assert "weaker % [95%]" in said.out
    assert "first to break" in said.out
    assert "pgd margin" in said.out.partition("first to break")[2]


def test_autoattack_says_which_version_runs_and_lists_its_parts(cli, runs):
    arguments = ("--type", "autoattack", "--limit", "3", "--samples", "1", "--eot", "2", "--protocol", "strict")
    said = cli("attack", *arguments, *sets("attack.0.steps=2"))
    assert said.code == 0, said.err
    assert "note: version rand, the default on a smoothed model" in said.out
    assert "apgd-ce" in said.out.partition("first to break")[2]
    assert "apgd-dlr" in said.out


def test_saved_images_and_another_model_beside(cli, runs):
    other = only(runs, "finetune").name
    said = cli("attack", "--protocol", "strict", "--transfer-to", other, "--json", *QUICK)
    assert said.code == 0, said.err
    (row,) = json.loads(said.out)["attacks"]
    run = only(runs, "attack")
    assert load_checkpoint(run / row["saved"]).tensors["images"].shape == (4, 3, 8, 8)
    assert row["transfer"]["model"].startswith(f"runs/{other}")
    # Later, and of a run that has ended: only the other model is asked.
    again = cli("attack", "--resume", "--run", run.name, "--transfer-to", other)
    assert again.code == 0, again.err
    assert "asked of another model" in again.out


def test_resuming_a_run_that_has_ended_gives_the_same_results(cli, runs):
    first = json.loads(cli("attack", "--json", *QUICK).out)
    run = only(runs, "attack")
    again = json.loads(cli("attack", "--resume", "--run", run.name, "--json").out)
    assert without_seconds(again) == without_seconds(first)


def test_resume_refuses_a_model_that_changed_and_loses_nothing(cli, fails, runs):
    assert cli("attack", *QUICK).code == 0
    run = only(runs, "attack")
    before = contents(run / "counts") | {"results": (run / "results.json").read_bytes()}
    (path,) = (only(runs, "finetune") / "checkpoints").glob("*.safetensors")
    stored = load_checkpoint(path)
    changed = {name: tensor + 1 if name == "head.bias" else tensor for name, tensor in stored.tensors.items()}
    save_checkpoint(path, changed, stored.meta)
    said = fails(1, "attack", "--resume", "--run", run.name)
    assert "model changed" in said.err
    assert contents(run / "counts") | {"results": (run / "results.json").read_bytes()} == before


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--eps", "8/0"], "must be a number such as 0.03 or 8/255 (got '8/0')"),
        (["--type", "deepfool", "--norm", "l1", "--eps", "1"], "deepfool has no norm 'l1'"),
        (["--type", "fgsm", "--norm", "l2", "--eps", "1"], "fgsm has no norm 'l2'"),
        (["--norm", "l2"], "--norm l2 without --eps: the recipe's eps 8/255 is a radius in linf"),
        (["--type", "autoattack", "--set", "attack.0.version=strong"], "version"),
        (["--set", "attack.0.loss=hinge"], "loss"),
        (["--transfer-to", "elsewhere"], "elsewhere"),
    ],
)
def test_what_an_attack_cannot_do_is_said_before_there_is_a_run(fails, runs, arguments, words):
    before = sorted(runs.iterdir())
    assert words in fails(2, "attack", *arguments).err
    assert sorted(runs.iterdir()) == before


def test_an_audit_prints_every_check_and_its_exit_code_is_the_verdict(cli, runs):
    said = cli("audit", *LEAST)
    assert said.code in (0, 1), said.err
    for code in ("RK101", "RK119"):
        assert code in said.out
    assert "docs/audit.md" in said.out
    assert "passes, about" in said.out
    run = only(runs, "audit")
    results = json.loads((run / "results.json").read_text())
    assert (said.code == 1) == any(check["status"] == "fail" for check in results["checks"])
    assert [point["value"] for point in results["sweeps"]["steps"]] == [1, 2, 4]
    assert (run / "figures" / "audit.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((run / "run.json").read_text())["status"] == "finished"


def test_an_audit_in_json_is_one_document(cli, runs):
    said = cli("audit", "--json", "-q", *LEAST)
    results = json.loads(said.out)
    assert results["stage"] == "audit"
    assert {"code", "name", "status", "says", "figures"} == set(results["checks"][0])


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--eps", "0"], "eps must be above 0"),
        (["--eps", "8/0"], "must be a number"),
        (["--norm", "l3"], "must be 'linf', 'l2' or 'l1'"),
    ],
)
@pytest.mark.parametrize("verb", ["audit", "probe"])
def test_a_ball_that_is_none_is_refused(fails, runs, verb, arguments, words):
    words = "eps above 0" if verb == "probe" and "eps must" in words else words
    assert words in fails(2, verb, *arguments).err


def test_a_probe_compares_encoders_and_says_how_to_make_the_one_that_is_missing(cli, runs):
    said = cli("probe", "--limit", "6", "--steps", "2")
    assert said.code == 0, said.err
    assert "rushkit finetune --recipe" in said.out
    assert "pre-trained" in said.out
    assert "random" in said.out
    assert "supervised encoder" in said.out


def test_a_probe_takes_a_supervised_run_and_warns_of_one_that_began_elsewhere(cli, fails, runs):
    pretrained = only(runs, "pretrain").name
    frozen = only(runs, "finetune").name
    assert "was not trained on labels" in fails(2, "probe", "--limit", "4", "--supervised", frozen).err
    assert cli("finetune", "--from", pretrained, "-q", *sets("finetune.freeze=none")).code == 0
    said = cli("probe", "--limit", "4", "--steps", "1", "--json", "--supervised", only(runs, "finetune").name)
    assert said.code == 0, said.err
    assert "not from random weights" in said.err
    assert {row["encoder"] for row in json.loads(said.out)["rows"]} == {"pre-trained", "random", "supervised"}


@pytest.mark.parametrize("verb", ["audit", "probe"])
def test_help_has_an_example(cli, verb):
    said = cli(verb, "--help")
    assert said.code == 0
    assert f"Example: rushkit {verb}" in said.out


PUBLISHED = '[{type="pgd",eps="8/255",steps=2,step_size="2/255",best="last"}]'


def test_a_published_attack_is_a_row_and_a_column_of_its_own_and_stays_so_on_resuming(cli, runs):
    said = cli("attack", "--protocol", "published", "--limit", "4", "--json", *sets(f"published={PUBLISHED}"))
    assert said.code == 0, said.err
    first = json.loads(said.out)
    assert {(row["protocol"], row["votes"], row["images"]) for row in first["attacks"]} == {("published", 1, 4)}
    again = cli("attack", "--resume", "--run", only(runs, "attack").name)
    assert again.code == 0, again.err
    assert "published % [95%]" in again.out
    assert "published: steps 2, step_size 2/255, best last" in again.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "has no published attack"),
        (("--eps", "4/255"), "--eps would change them"),
        (sets("attack.0.steps=2"), "do not run under --protocol published"),
        (sets("published=[{effort=2}]"), "a published attack has none"),
        (("--limit", "2", *sets("published=[{limit=3}]")), "--limit sets published.0.limit"),
    ],
)
def test_what_a_published_attack_does_not_take_is_said_before_there_is_a_run(fails, runs, arguments, words):
    before = sorted(runs.iterdir())
    assert words in fails(2, "attack", "--protocol", "published", *arguments).err
    assert sorted(runs.iterdir()) == before
