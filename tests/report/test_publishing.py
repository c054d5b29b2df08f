"""A published model: what is in its folder, that it opens anywhere, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace

import pytest
import yaml
from synthetic_runs import attack_row, attacks, evaluation, recipe_of

from rushkit.certification.certify import certify
from rushkit.claims.certificates import verify_claimed
from rushkit.claims.chain import weights_hash
from rushkit.claims.published import read_published
from rushkit.claims.redraw import Effort
from rushkit.errors import DataError, RushkitError, UsageError
from rushkit.recipe.load import derive_recipe, read_recipe
from rushkit.report.families import gather
from rushkit.report.make import families_of
from rushkit.report.page.render import render_markdown
from rushkit.report.publishing import check_name, name_of_model, publish
from rushkit.run.info import find_runs, info_of
from rushkit.run.source import resolve_from
from rushkit.run.speaker import Speaker
from rushkit.setup.model import recipe_of as recipe_in
from rushkit.setup.start import start_run


@pytest.fixture(scope="module")
def shipped():
    (family,) = families_of(["shipped/digits"], "runs")
    return family


@pytest.fixture(scope="module")
def published(shipped, tmp_path_factory):
    """The shipped digits with a certification, published."""
    root = tmp_path_factory.mktemp("published")
    model = resolve_from("shipped/digits", "runs", "finetune").load()
    changes = ["certify.samples=200", "certify.limit=3", f"system.runs_dir={root / 'runs'}", "system.device=cpu"]
    recipe = derive_recipe(recipe_in(model), changes)
    with start_run("certify", recipe, Speaker(-1, rank=0), parent=model) as run:
        certify(recipe, model, run)
    family = replace(shipped, runs=(*shipped.runs, info_of(run.path)))
    return publish(family, [], root / "models" / "digits", "apache-2.0")


@pytest.fixture
def copied(published, tmp_path):
    folder = tmp_path / "copied"
    shutil.copytree(published.folder, folder)
    return folder


def test_the_folder_holds_what_it_names_and_nothing_of_this_machine(published):
    found = read_published(published.folder)
    assert [one.stage for one in found.claims.measured] == ["evaluate", "attack", "certify"]
    assert found.claims.model.weights == weights_hash(found.checkpoint.tensors) == published.weights
    assert sorted(path.name for path in published.folder.iterdir()) == [
        "README.md", "certifications", "claims.json", "model.safetensors", "recipe.toml",
    ]  # fmt: skip
    texts = [path.read_bytes() for path in published.folder.rglob("*") if path.is_file()]
    assert not any(str(published.folder.parents[1]).encode() in text for text in texts)


def test_a_copy_opens_anywhere_as_a_classifier(copied):
    checkpoint = resolve_from(str(copied), "nowhere", "finetune").load()
    original = resolve_from("shipped/digits", "nowhere", "finetune").load()
    assert weights_hash(checkpoint.tensors) == weights_hash(original.tensors)
    assert checkpoint.meta["classes"] == original.meta["classes"]


def test_its_certification_verifies_with_its_weights(copied):
    found = read_published(copied)
    measured = found.claims.measured[-1]
    recipe = read_recipe(measured.recipe, "claims.json")
    checked = verify_claimed(
        measured.record(), recipe, copied / measured.counts, found.checkpoint, 5, (), Effort(2, 100)
    )
    assert checked.verdict == "consistent"
    assert {check.code: check.status for check in checked.checks}["RV07"] == "skipped"


def test_the_card_has_the_front_matter_that_hugging_face_reads(published):
    text = (published.folder / "README.md").read_text()
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["library_name"] == "rushkit"
    assert front["license"] == "apache-2.0"
    assert front["datasets"] == ["digits"]
    names = [metric["name"] for one in front["model-index"][0]["results"] for metric in one["metrics"]]
    assert "accuracy without an attack, m = 64, n = 360" in names
    assert "upper bound: accuracy under pgd l-inf 8/255 strict, m = 16, n = 64" in names
    assert [name for name in names if name.startswith("lower bound: certified accuracy at l2")]
    assert "stay right (m = 16), against 95.6 % of the same images clean. This is an upper bound" in text
    assert published.weights in text
    assert "Not measured" not in text


HOSTILE = [
    "</script><script>alert(1)</script>",
    "---\nlicense: mit",
    "\x1b[2J",
    "](http://evil) [x",
    '"}]\n# heading',
    "| a | b |",
    "\u202e\u2028\ufeff",
]


def test_hostile_names_are_text_in_yaml_and_in_markdown():
    front = {"model-index": [{"name": name} for name in HOSTILE], "tags": ["a"]}
    about = {"name": "x", "classes": HOSTILE, "front": front}
    shown = render_markdown(
        "card.md.j2",
        **about,
        model=type("M", (), {"about": {"noise": HOSTILE[0]}, "attacks": []}),
        **dict.fromkeys(("said", "remarks", "certified", "audits", "protocols"), HOSTILE[:0]),
        attacks=None,
        commands="a",
        checks="",
        weights="0",
        version="1",
    )
    head, body = shown.split("---\n", 2)[1:]
    assert yaml.safe_load(head)["model-index"] == front["model-index"]
    assert "license" not in yaml.safe_load(head)
    assert "\x1b" not in head
    assert not re.search(r"(?<!\\)<script", body)
    assert not re.search(r"(?<!\\)\]\(http", body)
    assert "\n# heading" not in body


def test_nothing_is_overwritten(published, shipped):
    before = (published.folder / "claims.json").read_bytes()
    with pytest.raises(UsageError, match="is there already"):
        publish(shipped, [], published.folder)
    assert (published.folder / "claims.json").read_bytes() == before


def test_a_folder_that_cannot_be_written_is_one_message(shipped, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RushkitError, match="cannot write"):
        publish(shipped, [], tmp_path / "file" / "digits")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("status", "said"), [("failed", "is failed, and only a finished run"), ("finished", "has no weights to publish")]
)
def test_a_run_without_weights_and_an_unfinished_one_are_refused(runs, tmp_path, status, said):
    run = runs.add("finetune", status=status)
    with pytest.raises(RushkitError, match=said):
        publish(gather(run), [], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_encoder_and_code_are_refused(runs, tmp_path):
    with pytest.raises(UsageError, match="has no classifier"):
        publish(gather(runs.add("pretrain")), [], tmp_path / "out")
    given = {"code": "defence.py:Net", "hash": "ab"}
    measured = runs.add("evaluate", None, evaluation([True]), model=given)
    with pytest.raises(UsageError, match="is code, and a published folder holds weights"):
        publish(gather(measured), [], tmp_path / "out")


def test_runs_of_other_weights_are_left_out_and_said_and_refused_by_name(shipped, runs, tmp_path):
    other = runs.add("attack", None, attacks(attack_row([10])), recipe_of("digits"), hashes={"parent": "cd" * 32})
    family = replace(shipped, runs=(*shipped.runs, other))
    done = publish(family, [], tmp_path / "out")
    assert any("measured other weights: those of cdcdcdcdcdcd" in sentence for sentence in done.left_out)
    assert other.path.name not in done.measured
    with pytest.raises(UsageError, match="measured other weights"):
        publish(family, [other], tmp_path / "again")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-x", "a" * 99, "x\n", "ä"])
def test_names_that_are_no_folder_are_refused(name):
    with pytest.raises(UsageError, match="no name for a published model"):
        check_name(name)


def test_without_a_name_it_is_that_of_the_recipe(shipped):
    assert name_of_model(shipped) == "digits"
    assert name_of_model(shipped, several=True) == "digits-9d4cc8"


def edited(folder, change):
    path = folder / "claims.json"
    table = json.loads(path.read_text())
    change(table)
    path.write_text(json.dumps(table, sort_keys=True, separators=(",", ":"), ensure_ascii=False))


MUTATIONS = {
    "schema": (lambda table: table.update(schema=9), "has schema 9"),
    "kind": (lambda table: table.update(kind="x"), "is no claim of rushkit"),
    "extra key": (lambda table: table.update(x=1), "is no claim of rushkit"),
    "weights": (lambda table: table["model"].update(weights="0" * 64), "holds other weights"),
    "path": (lambda table: table["files"].update({"../../etc/passwd": "0" * 64}), "does not add up"),
    "unnamed": (lambda table: table["files"].pop("recipe.toml"), "does not add up"),
    "counts elsewhere": (lambda table: table["measured"][2].update(counts="/etc"), "does not add up"),
    "artifact elsewhere": (lambda table: table["measured"][1].update(artifacts=["../x.rushkit"]), "does not add up"),
    "escape": (lambda table: table.update(name="\x1b[2J"), "control characters"),
    "stage": (lambda table: table["measured"][0].update(stage="audit"), "are called those of"),
    "figure": (lambda table: table["measured"][0]["results"]["accuracy"][0].update(correct=360), "does not add up"),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_claims_that_were_altered_are_refused(copied, mutation):
    change, said = MUTATIONS[mutation]
    edited(copied, change)
    with pytest.raises(DataError, match=said):
        read_published(copied)


@pytest.mark.parametrize("name", ["model.safetensors", "recipe.toml", "certifications/01/counts/certify.jsonl"])
def test_files_that_were_altered_or_are_gone_or_are_links_are_refused(copied, name):
    path = copied / name
    whole = path.read_bytes()
    path.write_bytes(whole + b" ")
    with pytest.raises(DataError, match="was altered"):
        read_published(copied)
    path.unlink()
    with pytest.raises(DataError, match="is missing"):
        read_published(copied)
    (copied.parent / "elsewhere").write_bytes(whole)
    path.symlink_to(copied.parent / "elsewhere")
    with pytest.raises(DataError, match="is a link"):
        read_published(copied)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"{}", b"\xff", b'{"schema": 1}', b"9" * 99, b"[" * 100_000])
def test_torn_claims_are_one_message(copied, text):
    (copied / "claims.json").write_bytes(text)
    with pytest.raises(DataError):
        read_published(copied)


def test_another_folder_is_no_published_model(tmp_path):
    with pytest.raises(DataError, match="is no published model"):
        read_published(tmp_path)
    assert find_runs(tmp_path) == []
