"""The names of all documents, and where the type of each is. Importing this imports none of them."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import GenericAlias
from typing import Any, Union

from rushkit import __version__
from rushkit.documents.form import Form
from rushkit.errors import UsageError, did_you_mean, shorten


@dataclass(frozen=True)
class Document:
    """A kind of JSON document, or of a file that is read like one.

    Attributes:
        name: Its name: the words of the command that prints it, or the name of the file.
        about: What it is, on one line.
        types: The types that it can have, each as ``"module:Name"`` of this package; ``"{module:Name}"`` is a table of
            such.
        form: How it holds its records.
        resolved: Whether a recipe in it is one that rushkit writes.
        partial: Whether every key may be missing, since another file has it.
    """

    name: str
    about: str
    types: tuple[str, ...]
    form: Form = "printed"
    resolved: bool = False
    partial: bool = False

    @property
    def title(self) -> str:
        """What prints it, or the file."""
        return f"rushkit {self.name.replace('-', ' ')} --json" if self.form == "printed" else self.name

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema, draft 2020-12. The same rushkit always returns the same."""
        from rushkit.documents.derive import DIALECT, schema_of, without_required

        # One of them is no union.
        made = schema_of(Union[tuple(map(_type, self.types))], self.form, self.resolved)  # noqa: UP007
        head = {"$schema": DIALECT, "$id": f"urn:rushkit:{self.name}", "$comment": f"rushkit {__version__}"}
        about = {"title": self.title, "description": self.about}
        kept = {key: value for key, value in made.items() if key not in about}
        return {**head, **about, **(without_required(kept) if self.partial else kept)}


def _type(place: str) -> Any:
    module, _, name = place.strip("{}").partition(":")
    kind = getattr(importlib.import_module(f"rushkit.{module}"), name)
    return GenericAlias(dict, (str, kind)) if place.startswith("{") else kind


def _printed(name: str, about: str, *types: str) -> Document:
    return Document(name, about, types)


_DRY_RUN, _MANIFEST = "results.dry_run:DryRun", "claims.manifest:Manifest"
# What the lines of counts are of.
_COUNTED = ("Selection", "Estimation", "Splits", "Round")
_STUDY_REPORT = "report.study.figures:StudyReport"
_PRINTED = (
    _printed("attack", "results of attacks", "results.attacks:Attacks"),
    _printed("audit", "results of an audit or a self-test", "results.auditing:Audit", "results.selftest:SelfTest"),
    _printed("bench", "how fast this machine does the work of a recipe", "speed.figures:Benchmark"),
    _printed("certify", "results of a certification", "results.certification:Certification"),
    _printed("cluster", "results of a clustering", "results.clustering:Clustering"),
    _printed("data-check", "the state of a data set's files, or what lies at a path", "documents.data:CheckedData"),
    _printed("data-fetch", "a data set whose files are there", "documents.data:FetchedData"),
    _printed("data-list", "every data set, and whether its files are there", "documents.data:DataSets"),
    _printed("demo", "what the demo found", "documents.models:Demo"),
    _printed("doctor", "what there is on this machine, and what would be slow", "documents.machine:Diagnosis"),
    _printed("evaluate", "results of an evaluation", "results.evaluation:Evaluation"),
    _printed("export", "an exported model", "exchange.exported:Exported"),
    _printed("finetune", "results of a fine-tuning, or its sizes", "results.training:Finetuning", _DRY_RUN),
    _printed("import", "results of an import", "results.imported:Imported"),
    _printed("leaderboard", "rankings of published models", "documents.models:WrittenLeaderboard"),
    _printed("plugins", "every registered component", "documents.components:Components"),
    _printed("plugins-new", "a plugin that was written to start from", "documents.components:NewPlugin"),
    _printed("plugins-show", "a component and its options", "description:Description"),
    _printed("predict", "the classes of image files", "results.prediction:Prediction"),
    _printed("pretrain", "results of a pre-training, or its sizes", "results.training:Pretraining", _DRY_RUN),
    _printed("probe", "results of a probe", "results.evaluation:Probe"),
    _printed("publish", "the models that were published", "documents.models:PublishedModels"),
    _printed("recipe-check", "a recipe that is in order", "documents.components:CheckedRecipe"),
    _printed("recipe-list", "every recipe by name", "{documents.components:Listed}"),
    Document(
        "recipe-show",
        "a resolved recipe, or where each of its values comes from",
        ("recipe.schema:Recipe", "{documents.components:KeyOrigin}"),
        resolved=True,
    ),
    _printed("report", "the figures of a report, and its files", "documents.models:WrittenReport"),
    _printed("runs-best", "runs ranked by a figure", "documents.runs:BestRuns"),
    _printed("runs-clean", "runs that stopped without results", "documents.runs:LeftoverRuns"),
    _printed("runs-compare", "runs side by side", "documents.runs:ComparedRuns"),
    _printed("runs-export", "what was written of runs as CSV", "documents.runs:ExportedRuns"),
    _printed("runs-list", "the runs of a folder", "documents.runs:RunList"),
    _printed("runs-remove", "the runs that were deleted", "documents.runs:RemovedRuns"),
    _printed("runs-show", "a run and what lies around it", "documents.runs:ShownRun"),
    _printed(
        "schema",
        "a schema, the names of all, or the files that were written",
        *("documents.schemas:Schema", "documents.schemas:Schemas", "documents.schemas:WrittenSchemas"),
    ),
    _printed("study-list", "every study by name", "{documents.components:Listed}"),
    _printed("study-plan", "the jobs of a study and their costs", "documents.studies:PlannedStudy"),
    _printed("study-report", "the table of a study, and its files", "documents.studies:WrittenStudyReport"),
    _printed(
        "study-run",
        "how a study went, or what would be done",
        *("documents.studies:StudyOutcome", "documents.studies:JobsAhead"),
    ),
    _printed("study-status", "how the jobs of a study stand", "documents.studies:StudyStatus"),
    _printed("verify", "results of a verification", "results.verification:Verification"),
)
_FILES = (
    Document("artifact.json", "manifest.json of an artifact (`attack --artifact`)", (_MANIFEST,), "canonical"),
    Document(
        "certify.jsonl",
        "a line of the counts of a certification (`counts/certify.jsonl`)",
        ("documents.files:CountsHead", *(f"documents.files:{part}Line" for part in _COUNTED)),
        "file",
    ),
    Document("claims.json", "what is claimed of a published model", ("claims.record:Claims",), "canonical"),
    Document("metrics.jsonl", "a line of a training's figures", ("documents.files:MetricsLine",), "file"),
    Document("recipe.toml", "a recipe to write", ("documents.files:RecipeFile",), "file", partial=True),
    Document("report.json", "the figures of a report; comparison.json is alike", ("report.figures:Report",), "file"),
    Document("results.json", "the results of a run, by its `stage`", ("results.records:Results",), "file"),
    Document("run.json", "what a run was started with, and how it stands", ("results.run_file:RunFile",), "file"),
    Document("study-report.json", "the table of a study: its report.json", (_STUDY_REPORT,), "file"),
    Document("study.toml", "a study to write", ("study.schema:StudyAsked",), "file"),
)
DOCUMENTS = {document.name: document for document in (*_PRINTED, *_FILES)}


def document_named(name: str) -> Document:
    """Return the document of a name. Raises UsageError for an unknown one."""
    if name in DOCUMENTS:
        return DOCUMENTS[name]
    hint = did_you_mean(name, DOCUMENTS) or "`rushkit schema` lists the names"
    raise UsageError(f"no document is called {shorten(name)!r}", hint)
