"""An attack's images with all that a reviewer needs to check them: written to one file, and read with bounds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from rushkit.claims.canonical import encode
from rushkit.claims.chain import chain_of, classifier_tensors
from rushkit.claims.container import IMAGES, MANIFEST, WEIGHTS, Container, write_container
from rushkit.claims.manifest import MOST_BYTES, Manifest, read_manifest
from rushkit.claims.problem import ArtifactError
from rushkit.claims.tensors import MOST_HEADER, Shapes, dump_tensors, load_tensors
from rushkit.files import plain_json

_DIGEST_BYTES = 32
_AGAIN = "get the artifact again from its author"


@dataclass(frozen=True)
class Artifact:
    """A claim on how many of an attack's images a model still classifies correctly, with those images.

    Attributes:
        manifest: What was attacked, and how.
        images: (N, C, H, W) float32, the attacked images, in the order of their indices.
        indices: (N,) int64, their indices in the data set's split.
        labels: (N,) int64, the true classes.
        originals: (N, 32) uint8, the SHA-256 of each original as uint8 (C, H, W).
        right: (N,) int64, the number of correct majority votes on each attacked image.
        clean_right: (N,) int64, the same on each original.
        weights: The tensors of the model, if the file holds them.
    """

    manifest: Manifest
    images: Tensor
    indices: Tensor
    labels: Tensor
    originals: Tensor
    right: Tensor
    clean_right: Tensor
    weights: dict[str, Tensor] | None = None

    def __len__(self) -> int:
        return len(self.images)

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors of the member ``images.safetensors``."""
        names = "images", "indices", "labels", "originals", "right", "clean_right"
        return {name: getattr(self, name) for name in names}

    def chain(self) -> list[str]:
        """Return the chain of hashes of its contents, whatever chain the manifest holds."""
        return chain_of(self.manifest, self.tensors())


def write_artifact(path: str | Path, artifact: Artifact) -> None:
    """Write an artifact atomically, with the sizes of its members and the chain of its contents.

    Raises:
        RushkitError: no room, no permission, or more than 4 GiB.
    """
    members: dict[str, bytes] = {IMAGES: dump_tensors(artifact.tensors())}
    if artifact.weights is not None:
        members[WEIGHTS] = dump_tensors(classifier_tensors(artifact.weights))
    sizes = {name: len(data) for name, data in members.items()}
    manifest = artifact.manifest.with_changes(sizes=sizes, chain=artifact.chain())
    write_container(Path(path), {MANIFEST: encode(plain_json(manifest.to_table(), MANIFEST)), **members})


def read_artifact(path: str | Path) -> Artifact:
    """Read an artifact of anybody's: nothing in it is executed, unpickled, joined to a path or trusted for a size.

    The chain of hashes is not compared here, nor is any image looked at: ``claims.verify`` does that.

    Raises:
        ArtifactError: it is no artifact, of another schema, damaged, or laid out in another way.
    """
    path = Path(path)
    with Container(path) as container:
        if container.sizes[MANIFEST] > MOST_BYTES:
            raise ArtifactError(f"{path}: {MANIFEST} has more than {MOST_BYTES} bytes", _AGAIN)
        manifest = read_manifest(container.read(MANIFEST), path)
        sizes = {name: size for name, size in container.sizes.items() if name != MANIFEST}
        if sizes != manifest.sizes:
            raise ArtifactError(f"{path}: its members have other sizes than {MANIFEST} says", _AGAIN)
        expected = _shapes(manifest)
        most = sum(kind.itemsize * torch.Size(shape).numel() for kind, shape in expected.values()) + MOST_HEADER
        if sizes[IMAGES] > most:
            raise ArtifactError(f"{path}: {IMAGES} has more bytes than {manifest.images} images take", _AGAIN)
        tensors = load_tensors(container.read(IMAGES), f"{path}: {IMAGES}", expected)
        weights = load_tensors(container.read(WEIGHTS), f"{path}: {WEIGHTS}") if WEIGHTS in sizes else None
    return Artifact(manifest=manifest, weights=weights, **tensors)


def _shapes(manifest: Manifest) -> Shapes:
    n, of_each = manifest.images, (manifest.images,)
    return {
        "images": (torch.float32, (n, *manifest.data.shape)),
        "originals": (torch.uint8, (n, _DIGEST_BYTES)),
        **dict.fromkeys(("indices", "labels", "right", "clean_right"), (torch.int64, of_each)),
    }
