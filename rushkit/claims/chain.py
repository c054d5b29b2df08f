"""The chain of hashes of a claim: where it breaks, there the artifact was altered or mixed.

    h0 = H(schema, data set, split)          h3 = H(h2, protocol and budget)
    h1 = H(h0, recipe)                       h4 = H(h3, index, original and label of each image, in order)
    h2 = H(h1, hash of the weights)          h5 = H(h4, attacked images, outcomes)

H is the SHA-256 of canonical JSON. The chain detects damage and mixing, not forgery: whoever writes the file writes the
chain. A digest that was published elsewhere beforehand detects that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

from rushkit.claims.canonical import digest
from rushkit.claims.manifest import Manifest

# What each link adds, for messages.
LINKS = ("the data set", "the recipe", "the weights", "the protocol", "originals and labels", "images and outcomes")
# What of a checkpoint of fine-tuning makes its classifier; the rest belongs to its training.
_PARTS = ("encoder.", "head.")
_HASHED_AT_ONCE = 1 << 24


def chain_of(manifest: Manifest, tensors: Mapping[str, Tensor]) -> list[str]:
    """Return h0 to h5 for what a manifest says, whatever chain it holds, and for the tensors of the artifact.

    Args:
        manifest: The manifest.
        tensors: ``images`` (N, C, H, W), ``indices``, ``labels``, ``right`` and ``clean_right`` (N,), ``originals``
            (N, 32) uint8.
    """
    originals = [bytes(row).hex() for row in tensors["originals"].numpy()]
    entries = zip(tensors["indices"].tolist(), originals, tensors["labels"].tolist(), strict=True)
    outcomes = [tensors["right"].tolist(), tensors["clean_right"].tolist()]
    added = (
        [manifest.schema_version, manifest.kind, manifest.data.to_table()],
        [manifest.recipe],
        [manifest.model.to_table()],
        [manifest.attack.to_table(), manifest.selection.to_table(), manifest.images, manifest.made_by],
        [[list(entry) for entry in entries]],
        [images_hash(tensors["images"]), outcomes],
    )
    chain: list[str] = []
    for parts in added:
        chain.append(digest(*chain[-1:], *parts))
    return chain


def broken_at(said: list[str], made: list[str]) -> str:
    """Return what the first link of a chain that does not hold adds; empty if all hold."""
    return next((link for link, here, there in zip(LINKS, said, made, strict=True) if here != there), "")


def weights_hash(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 over name, type, shape and bytes of a classifier's tensors, buffers included, by name.

    Args:
        tensors: Those of a checkpoint; what training keeps beside the classifier does not count.
    """
    total = hashlib.sha256()
    for name, tensor in sorted(classifier_tensors(tensors).items()):
        total.update(digest(name, str(tensor.dtype), list(tensor.shape)).encode())
        total.update(_bytes_hash(tensor).encode())
    return total.hexdigest()


def classifier_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint that make its classifier."""
    return {name: tensor for name, tensor in tensors.items() if name.startswith(_PARTS)}


def images_hash(images: Tensor) -> str:
    """Return the SHA-256 of images (N, C, H, W) float32, with their shape."""
    return digest(list(images.shape), _bytes_hash(images))


def original_hashes(images: Tensor) -> Tensor:
    """Return the SHA-256 of each uint8 image: (N, C, H, W) -> (N, 32) uint8."""
    hashes = b"".join(hashlib.sha256(image.contiguous().numpy().data).digest() for image in images)
    return torch.frombuffer(bytearray(hashes), dtype=torch.uint8).view(len(images), 32)


def _bytes_hash(tensor: Tensor) -> str:
    plain = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
    total = hashlib.sha256()
    for start in range(0, len(plain), _HASHED_AT_ONCE):
        total.update(plain[start : start + _HASHED_AT_ONCE])
    return total.hexdigest()
