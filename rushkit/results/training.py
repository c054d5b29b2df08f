"""Results of the two stages that train."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rushkit.results.base import Count, Number, Record, Share, StageResults
from rushkit.results.imported import Origin
from rushkit.results.notes import Note
from rushkit.rounding import counted, percent


class KnnProtocol(Record):
    """How the nearest-neighbour accuracy of the features is measured.

    Attributes:
        k: Number of neighbours that vote.
        temperature: Temperature of the weights of their votes.
        bank: The images that the neighbours come from.
        queries: The images that are classified.
        use: Whether the accuracy chooses the best checkpoint.
    """

    k: Number
    temperature: float
    bank: str
    queries: str
    use: str


class Teacher(Record):
    """The encoder that a pre-training learnt from.

    Attributes:
        source: Path of its checkpoint.
        recipe: Name of the recipe that made it.
        noise: The smoothing noise that its own training added to images, in words; "" for none, None where an imported
            one does not say.
        sees: The images that it is given.
    """

    source: str
    recipe: str
    noise: str | None
    sees: str

    def in_words(self) -> str:
        """Return what it is, and what it sees.

        For example "RUN/checkpoints/step-000330.safetensors (recipe digits, trained under noise uniform scale 0.3), on
        the clean views, without noise".
        """
        trained = f"trained under noise {self.noise}" if self.noise else "trained without noise"
        trained = "imported" if self.noise is None else trained
        return f"{self.source} (recipe {self.recipe}, {trained}), on {self.sees}"


class Started(Record):
    """What a pre-training started from in place of random weights.

    Attributes:
        source: Path of the checkpoint or the file.
        hash: Of the checkpoint; of the whole file where it is somebody else's.
        way: Whether its weights were taken and all else began anew, or its training went on.
        tensors: How many tensors of the encoder were loaded.
        projector: Whether its projector was loaded, too; a fresh one takes its place else.
        epochs: For an extension, the epochs that it had; else None.
        imported: The origin of somebody else's file; None for a checkpoint of rushkit.
    """

    source: str
    hash: str
    way: Literal["weights", "extension"]
    tensors: Count
    projector: bool
    epochs: Count | None = None
    imported: Origin | None = None

    def in_words(self) -> str:
        """Return what was started from, such as "the encoder of RUN/checkpoints/step-000330.safetensors"."""
        if self.way == "extension" and self.epochs is not None:
            return f"the training of {self.source}, which had {counted(self.epochs, 'epoch')}, goes on"
        beside = "and its projector" if self.projector else "with a fresh projector"
        return f"the encoder of {self.source} ({self.tensors} tensors), {beside}"


class PseudoLabels(Record):
    """The clustering that the labels of a training come from.

    Attributes:
        run: The folder of the clustering's run.
        table: Hash of its table of labels.
        clusters: The numbers of clusters of the columns that are used.
        outside: What the features owe to data from outside, such as pretrained weights; empty: nothing.
    """

    run: str
    table: str
    clusters: list[Number]
    outside: str = ""


class Pretraining(StageResults):
    """Results of ``rushkit pretrain``.

    Attributes:
        recipe: The recipe's name.
        epochs: Passes over the training images.
        loss: Mean loss of the last epoch; None if the metrics of that epoch are lost.
        knn_accuracy: Nearest-neighbour accuracy after the last epoch; None if it was not measured.
        knn_protocol: How it is measured; None if it is not.
        teacher: The encoder that it learnt from; None for an objective without a teacher.
        started: What it started from; None for random weights, or those that the backbone brings.
        labels: Where its labels come from; None for a training without labels.
        notes: That it collapsed, if it did.
    """

    stage: Literal["pretrain"] = "pretrain"
    recipe: str
    epochs: Number
    loss: float | None = None
    knn_accuracy: Share | None = None
    knn_protocol: KnnProtocol | None
    teacher: Teacher | None = None
    started: Started | None = None
    labels: PseudoLabels | None = None
    notes: list[Note] = Field(default_factory=list)


class ValidationProtocol(Record):
    """How the validation images are attacked during fine-tuning.

    Attributes:
        images: The images that are attacked.
        attack: The attack.
        use: Which accuracy chooses the best checkpoint.
    """

    images: str
    attack: str
    use: str


class EndAccuracy(Record):
    """What the model gets right at the end of its training, each image under one draw of the noise.

    Attributes:
        training: Share of training images.
        images: Which training images.
        test: Share of test images; None where there are none, it was trained on them, or validation images stand in.
        test_images: Which test images; empty for none.
    """

    training: Share
    images: str
    test: Share | None = None
    test_images: str = ""

    def in_words(self) -> str:
        """Return both, such as "right on 93.2 % of 10000 images of cifar10/train, under one draw of the noise each"."""
        test = "" if self.test is None else f", on {percent(self.test)} % of {self.test_images}"
        return f"right on {percent(self.training)} % of {self.images}{test}, under one draw of the noise each"


class Finetuning(StageResults):
    """Results of ``rushkit finetune``.

    Attributes:
        recipe: The recipe's name.
        epochs: Passes over the training images.
        source: Path of the checkpoint whose encoder was loaded; None: random weights.
        loaded: How many tensors it brought.
        trainable: Names of the parameters that train.
        loss: Mean loss of the last epoch; None if the metrics of that epoch are lost.
        validation_accuracy: Accuracy on the validation images after the last epoch, under one draw of the noise; None
            without validation images.
        validation_robust_accuracy: Accuracy on them under attack; None where they are not attacked.
        validation_protocol: How they are attacked; None where they are not.
        accuracy: Accuracy on training images, and on test images, at the end; None for a training on clusters.
        average_decay: Decay of the moving average that the weights are; None for weights as the last step left them.
        labels: Where its labels come from; None for those of the data set.
        notes: That it stopped early, if it did.
    """

    stage: Literal["finetune"] = "finetune"
    recipe: str
    epochs: Number
    source: str | None
    loaded: Count
    trainable: list[str]
    loss: float | None = None
    validation_accuracy: Share | None = None
    validation_robust_accuracy: Share | None = None
    validation_protocol: ValidationProtocol | None = None
    accuracy: EndAccuracy | None = None
    average_decay: Share | None = None
    labels: PseudoLabels | None = None
    notes: list[Note] = Field(default_factory=list)
