"""An artifact: written and read again, opened by others' programs, and verified."""

from __future__ import annotations

import json
import zipfile

import pytest
import safetensors.torch
import torch
from claimed import IMAGES, make_claim

from rushkit.claims.artifact import read_artifact, write_artifact
from rushkit.claims.canonical import decode
from rushkit.claims.case import Case
from rushkit.claims.evidence import Missing
from rushkit.claims.of_attack import says_what_took_part
from rushkit.claims.targets import verify_file
from rushkit.claims.words import claim_words
from rushkit.results.verification import Estimate


def section(**keys: object) -> str:
    """A section attack of a recipe, as TOML."""
    table = {"norm": "linf", "eps": 0.1, "limit": 4, "samples": [1]} | keys
    return "{" + ", ".join(f"{key} = {json.dumps(value)}" for key, value in table.items()) + "}"


def test_what_is_written_is_read_again(fixed, tmp_path):
    write_artifact(tmp_path / "a.rushkit", fixed.artifact)
    again = read_artifact(tmp_path / "a.rushkit")
    for name, tensor in fixed.artifact.tensors().items():
        assert torch.equal(again.tensors()[name], tensor), name
    assert {name: tensor.tolist() for name, tensor in again.weights.items()} == {
        name: tensor.tolist() for name, tensor in fixed.artifact.weights.items()
    }
    assert again.manifest.chain == again.chain() == fixed.artifact.chain()
    assert len(again) == again.manifest.images == IMAGES


def test_two_files_of_one_claim_are_the_same_bytes(fixed, tmp_path):
    for name in ("a", "b"):
        write_artifact(tmp_path / name, fixed.artifact)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_other_programs_open_it(fixed, tmp_path):
    write_artifact(tmp_path / "a.rushkit", fixed.artifact)
    with zipfile.ZipFile(tmp_path / "a.rushkit") as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["manifest.json", "images.safetensors", "weights.safetensors"]
        tensors = safetensors.torch.load(archive.read("images.safetensors"))
        manifest = decode(archive.read("manifest.json"))
    assert torch.equal(tensors["images"], fixed.artifact.images)
    assert manifest["attack"]["eps"] == 0.1


def test_nothing_in_it_names_a_folder_of_this_machine(fixed, tmp_path):
    write_artifact(tmp_path / "a.rushkit", fixed.artifact)
    data = (tmp_path / "a.rushkit").read_bytes()
    assert str(fixed.run.parents[1]).encode() not in data
    assert b"runs_dir" not in data


def test_an_honest_claim_is_consistent(fixed, tmp_path):
    write_artifact(tmp_path / "a.rushkit", fixed.artifact)
    verification = verify_file(tmp_path / "a.rushkit")
    (attack,) = verification.attacks
    assert verification.verdict == "consistent", [check for check in attack.checks if check.status == "fail"]
    assert attack.here.accuracy == attack.claimed.accuracy
    assert attack.here_clean.accuracy == attack.claimed_clean.accuracy > 0.7
    assert attack.sentence.startswith("40 images, all within l-inf 0.1 and [0, 1], hashes match; now ")


def test_an_honest_claim_of_a_random_model_is_consistent(random, tmp_path):
    write_artifact(tmp_path / "a.rushkit", random.artifact)
    verification = verify_file(tmp_path / "a.rushkit", seed=1)
    assert verification.verdict == "consistent", verification.attacks[0].checks
    assert verification.attacks[0].here.votes == 10


def test_what_may_be_said_is_rounded_up_and_names_noise_clean_accuracy_and_protocol(fixed):
    left, clean = (Estimate(accuracy=accuracy, low=0.1, high=0.9, votes=1) for accuracy in (0.25001, 0.75))
    noise = {"name": "uniform", "scale": 0.3}
    weaker = claim_words(fixed.artifact.manifest, left, clean, noise, is_file=True)
    assert "noise uniform scale 0.3) leaves at most 25.1 % [" in weaker
    assert "against 75.0 % of the same images clean" in weaker
    assert "Only the protocol strict may be quoted" in weaker
    attack = fixed.artifact.manifest.attack.with_changes(protocol="strict")
    strict = claim_words(fixed.artifact.manifest.with_changes(attack=attack), left, clean, noise, is_file=False)
    assert "the attack in this run (" in strict
    assert "may be quoted" not in strict


NO_NOISE, NOISE = "noise.name=none", ("noise.name=uniform", "noise.scale=0.5")
# Kinds of attack -> the recipe's; each is planned again from what is packed.
KINDS = {
    "rounds": (NO_NOISE, section(type="pgd")),
    "rounds in two balls": (NO_NOISE, section(type="pgd", eps=0.05), section(type="pgd")),
    "grey levels": (NO_NOISE, section(type="pgd", steps=3, eight_bit=True)),
    "draws a gradient": (*NOISE, section(type="pgd", steps=3, samples=[2], eot=3)),
    "APGD": (NO_NOISE, section(type="apgd", steps=5)),
    "AutoAttack": (NO_NOISE, section(type="autoattack", version="rand", steps=2)),
    "another package's": (NO_NOISE, section(type="torchattacks/PGD", steps=3)),
    "the paper's": (*NOISE, section(type="pgd", samples=[2])),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_took_part_in_an_honest_attack_of_any_kind_is_its_recipes(kind, tmp_path):
    sections = ", ".join(change for change in KINDS[kind] if change.startswith("{"))
    noise = [change for change in KINDS[kind] if not change.startswith("{")]
    protocol = "paper" if kind == "the paper's" else "strict"
    claim = make_claim(tmp_path, *noise, protocol=protocol, attacks=f"[{sections}]")
    check = says_what_took_part(Case(claim.artifact, Missing("", ""), Missing("", ""), is_file=True))
    assert check.status == "pass", check
