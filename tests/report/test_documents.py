"""Every document that has a schema has the form that its schema says, and no other."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from document_samples import documents, printed
from jsonschema import Draft202012Validator
from printed import fits, validator_of
from stage_records import STAGES
from synthetic_runs import Runs

from rushkit.documents.names import DOCUMENTS
from rushkit.recipe.find import shipped_folder
from rushkit.report.content import build_report
from rushkit.report.families import gather
from rushkit.results import dump
from rushkit.run.shipped import shipped_models

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "rushkit" / "shipped"
# Of a recipe that extends another every key may be missing.
PARTIAL = ("recipe.toml",)


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> Iterator[dict[str, object]]:
    """A real document for each name."""
    folder = tmp_path_factory.mktemp("documents")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("RUSHKIT_")]:
            patch.delenv(name)
        patch.setenv("RUSHKIT_OFFLINE", "1")
        patch.chdir(folder)
        yield {name: make() for name, make in documents(folder).items()}


def test_every_document_has_a_sample(samples):
    assert set(samples) == set(DOCUMENTS)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_schema_is_one_of_draft_2020_12(name):
    schema = DOCUMENTS[name].schema()
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"] == f"urn:rushkit:{name}"
    assert schema["title"]
    assert schema["description"] == DOCUMENTS[name].about


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_real_document_fits(samples, name):
    validator_of(name).validate(samples[name])


@pytest.mark.parametrize("name", DOCUMENTS)
def test_an_unknown_key_does_not_fit(samples, name):
    assert not fits(name, {**samples[name], "unheard_of": "no"})


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_key_of_another_type_does_not_fit(samples, name):
    for key, value in samples[name].items():
        wrong = "a text" if isinstance(value, dict) else {"a table": []}
        assert not fits(name, {**samples[name], key: wrong}), key


@pytest.mark.parametrize("name", [name for name in DOCUMENTS if name not in PARTIAL])
def test_a_document_without_one_of_its_keys_does_not_fit(samples, name):
    assert any(not fits(name, lacking) for lacking in without_a_key(samples[name]))


def without_a_key(document: object) -> Iterator[object]:
    """Copies of a document, in each of which one key is missing, in tables at the top or right below."""
    for key, value in document.items():
        yield {name: copy.deepcopy(item) for name, item in document.items() if name != key}
        if isinstance(value, dict):
            for inner in value:
                yield {**document, key: {name: item for name, item in value.items() if name != inner}}


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage not in ("predict", "export")])
def test_results_of_every_stage_fit_with_their_folder_only_where_they_are_printed(stage):
    stored = json.loads(dump(STAGES[stage]))
    shown = {**stored, "run": "runs/x"}
    verb = "audit" if stage == "self-test" else stage
    assert (fits("results.json", stored), fits("results.json", shown)) == (True, False)
    assert (fits(verb, stored), fits(verb, shown)) == (False, True)


@pytest.mark.parametrize("run", [path.name for path in sorted(SHIPPED.iterdir()) if path.is_dir()])
def test_runs_that_come_with_rushkit_fit(run):
    for name in ("run.json", "results.json"):
        validator_of(name).validate(json.loads((SHIPPED / run / name).read_text()))


@pytest.mark.parametrize("name", shipped_models())
def test_what_is_printed_of_models_that_come_with_rushkit_fits(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    validator_of("runs-show").validate(printed("runs", "show", name))
    validator_of("report").validate(printed("report", name, "--no-images"))


@pytest.mark.parametrize("recipe", [path.stem for path in sorted(shipped_folder().glob("*.toml"))])
def test_recipes_of_rushkit_fit_as_they_are_written_and_as_they_resolve(recipe):
    validator_of("recipe.toml").validate(tomllib.loads((shipped_folder() / f"{recipe}.toml").read_text()))
    validator_of("recipe-show").validate(printed("recipe", "show", recipe))


@pytest.mark.parametrize("study", [path.stem for path in sorted((ROOT / "studies").glob("*.toml"))])
def test_studies_of_rushkit_fit(study):
    validator_of("study.toml").validate(tomllib.loads((ROOT / "studies" / f"{study}.toml").read_text()))


def test_a_number_may_be_written_as_a_fraction_and_resolves_to_a_number():
    asked = {"attack": [{"type": "pgd", "eps": "8/255"}]}
    resolved = printed("recipe", "show", "digits")
    assert fits("recipe.toml", asked)
    assert not fits("recipe-show", {**resolved, **asked})


def test_a_comparison_fits(tmp_path):
    runs = Runs(tmp_path / "runs")
    models = [runs.model(), runs.model()]
    validator_of("report.json").validate(json.loads(json.dumps(build_report([gather(one) for one in models]).plain())))


def test_where_values_of_a_recipe_come_from_fits():
    validator_of("recipe-show").validate(printed("recipe", "show", "digits", "--origins"))


def test_keys_have_the_words_of_the_docstrings():
    properties = DOCUMENTS["report.json"].schema()["$defs"]["Model"]["properties"]
    assert properties["weights"]["description"].startswith("Hash of the weights that were measured")


def test_another_process_writes_the_same_schemas(tmp_path):
    code = "import sys; from rushkit.cli.app import main; sys.exit(main(['schema', '--all', '--to', sys.argv[1]]))"
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code, tmp_path], env=environment, check=True, capture_output=True)
    written = {path.name.removesuffix(".schema.json"): json.loads(path.read_text()) for path in tmp_path.iterdir()}
    assert written == {name: document.schema() for name, document in DOCUMENTS.items()}
