"""manifest.json of an artifact: what was attacked, how, on which images, and the chain of hashes over all of it."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from rushkit.claims.canonical import decode
from rushkit.claims.container import MANIFEST
from rushkit.claims.problem import ArtifactError
from rushkit.errors import shorten, showable
from rushkit.files import JSON
from rushkit.recipe.schema import Norm
from rushkit.recipe.toml import MAX_CHARACTERS
from rushkit.results.adaptive import OwnAttackUsed, SurrogateUsed
from rushkit.results.attacks import AttackRow, Candidate, Deviation, Protocol, variant_words
from rushkit.results.base import Count, Number, Precision, Record, Size
from rushkit.results.records import first_problem
from rushkit.results.rounds import AttackRound
from rushkit.results.run_file import GivenFacts
from rushkit.robustness.deviations import deviation_words

SCHEMA: Literal[1] = 1
# The kind of claim that an artifact of this schema makes.
KIND: Literal["rushkit attack"] = "rushkit attack"
# Thousands of classes with names take less.
MOST_BYTES = 1 << 22
# Of a hundred times as many votes as strict takes the exact tests still take a moment.
_MOST_VOTES = 1000
_MOST_TEXT = 400
_RECIPE = "recipe"
_MOST_IMAGES, _MOST_SIDE, _MOST_CHANNELS = 1 << 24, 1 << 14, 64

Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class DataFacts(Record):
    """The data set and the split that the images are of.

    Attributes:
        split: Data set and split, such as ``"cifar10/test"``.
        classes: Names of the data set's classes.
        shape: [C, H, W] of an image as the model takes it.
        images: How many images the split has, of which those of the attack were chosen.
        resized: What was done to their size; empty if nothing was.
    """

    split: str
    classes: Annotated[list[str], Field(min_length=2)]
    shape: Annotated[list[Number], Field(min_length=3, max_length=3)]
    images: Number
    resized: str = ""


class Selection(Record):
    """How the images were chosen.

    Attributes:
        rule: ``"all"`` of the split; ``"limit"``: those that the options --skip and --limit of rushkit attack choose,
            by one fixed permutation; ``"chosen"``: by the author.
        limit: The value of --limit; 0: none.
        skip: The value of --skip.
    """

    rule: Literal["all", "limit", "chosen"]
    limit: Count = 0
    skip: Number = 1


class ModelFacts(Record):
    """The model that was attacked.

    Attributes:
        hash: SHA-256 of its weights and buffers, by ``chain.weights_hash``; of somebody's classifier, the hash of all
            that rushkit can see of it, by ``setup.given``.
        checkpoint: Hash in the checkpoint file that they lie in; empty for somebody's classifier.
        given: Somebody's classifier; None for a model of rushkit's.
    """

    hash: Hash
    checkpoint: str = ""
    given: GivenFacts | None = None


class AttackFacts(Record):
    """The attack, its protocol and its budget; each attribute is that of ``results.attacks.AttackRow``.

    Attributes:
        seed: The seed of the attack and its votes.
    """

    attack: str
    norm: Norm
    eps: Size
    eight_bit: bool
    smaller: Size | None = None
    protocol: Protocol
    version: Number
    effort: Number
    samples: Number
    votes: Annotated[Number, Field(le=_MOST_VOTES)]
    gradient_samples: Number
    deviations: list[Deviation]
    candidates: list[Candidate]
    own: list[OwnAttackUsed] = Field(default_factory=list)
    surrogate: SurrogateUsed | None = None
    rounds: list[AttackRound] = Field(default_factory=list)
    selection: list[Number] = Field(default_factory=list)
    thresholds: dict[str, Size] = Field(default_factory=dict)
    search_precision: Precision
    image_forwards: Count
    image_backwards: Count
    seed: int

    @classmethod
    def of(cls, row: AttackRow, seed: int) -> Self:
        """Return the facts of a row of results."""
        own = {name: getattr(row, name) for name in cls.model_fields if name in AttackRow.model_fields}
        return cls(**own, seed=seed)

    def words(self) -> str:
        """Return ``"pgd, strict, m = 64"``, with every setting that is not the protocol's own."""
        settings = deviation_words(self.protocol, self.deviations)
        return ", ".join(filter(None, (self.attack, variant_words(self), settings, f"m = {self.samples}")))


class Manifest(Record):
    """All of an artifact but for its tensors.

    Attributes:
        schema_version: Version of the format; the key ``schema`` in the file.
        kind: What is claimed.
        made_by: The program that packed it.
        data: The data set.
        selection: How the images were chosen.
        recipe: The resolved recipe of the attack as TOML, without this machine's folders.
        model: The model.
        attack: The attack.
        images: How many images were attacked.
        sizes: Member -> bytes, but for the manifest's own.
        chain: h0 to h5, by ``chain.chain_of``.
    """

    schema_version: Literal[1] = Field(alias="schema")
    kind: Literal["rushkit attack"]
    made_by: str
    data: DataFacts
    selection: Selection
    recipe: str
    model: ModelFacts
    attack: AttackFacts
    images: Number
    sizes: dict[str, Count]
    chain: Annotated[list[Hash], Field(min_length=6, max_length=6)]

    @model_validator(mode="after")
    def _is_bounded(self) -> Self:
        channels, *sides = self.data.shape
        if self.images > min(_MOST_IMAGES, self.data.images) or channels > _MOST_CHANNELS or max(sides) > _MOST_SIDE:
            raise ValueError("more images, or larger ones, than a split has")
        return self


def read_manifest(data: bytes, path: object) -> Manifest:
    """Return the manifest of an artifact.

    Args:
        data: The bytes of the member.
        path: The file, for messages.

    Raises:
        ArtifactError: another schema, texts that are too long or have control characters, or a malformed manifest.
    """
    again = "get it again from its author"
    try:
        table = decode(data)
    except ValueError as error:
        raise ArtifactError(f"{path}: {MANIFEST} was altered: {error}", again) from error
    if not isinstance(table, dict) or table.get("kind") != KIND:
        raise ArtifactError(f"{path} makes no claim that rushkit knows", "rushkit attack --artifact writes one", "RV18")
    schema = table.get("schema")
    # JSON's true equals 1.
    if type(schema) is not int or schema != SCHEMA:
        raise ArtifactError(
            f"{path} has schema {shorten(str(schema), 40)}, and this rushkit reads schema {SCHEMA}",
            "verify it with the rushkit that wrote it",
            "RV18",
        )
    _check_texts(table, path)
    try:
        return Manifest.model_validate(table)
    except ValidationError as error:
        raise ArtifactError(f"{path}: {MANIFEST} is malformed: {first_problem(error)}", again) from error


def _check_texts(value: JSON, path: object, key: str = "") -> None:
    """Raise ArtifactError for a text that is longer than any that rushkit writes, or that a terminal would obey."""
    if isinstance(value, dict):
        for name, item in value.items():
            _check_texts(name, path)
            _check_texts(item, path, name)
    elif isinstance(value, list):
        for item in value:
            _check_texts(item, path)
    elif isinstance(value, str):
        recipe = key == _RECIPE
        most = MAX_CHARACTERS if recipe else _MOST_TEXT
        lines = "" if recipe else "\n\t"
        if len(value) > most or showable(value) != value or any(one in value for one in lines):
            raise ArtifactError(
                f"{path}: {MANIFEST} has a text with control characters or over {most} letters: {shorten(value, 40)!r}",
                "no artifact of rushkit has one",
                "RV17",
            )
