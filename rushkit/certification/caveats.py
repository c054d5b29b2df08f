"""Explain in plain words what certificates cover, and the assumptions that they rest on."""

from __future__ import annotations

import math

from rushkit.certification.claim import Claim
from rushkit.image_size import ImageSize, size_words
from rushkit.noises import GridNoise, name_of, norms_of
from rushkit.recipe.radius import norm_words
from rushkit.recipe.schema import Noise
from rushkit.setup.model import Classifier

# The attack that papers in this field use, and that readers will ask about.
ASKED_LINF = 8 / 255
_ELSEWHERE = (
    "Nor are larger perturbations, other changes such as blur or rotation, and images from elsewhere; nor the "
    "network without its noise."
)


def coverage(claim: Claim) -> str:
    """Return a description of what the certificates cover and what they do not."""
    dim, norm, limit = claim.dim, norm_words(claim.norm), claim.limit
    covered = f"Covered: {norm} perturbations of a test image, of any kind, up to the image's radius. "
    if limit is not None:
        covered += f"This noise certifies {norm} {_figure(limit)} at most. "
    if not claim.certain:
        shown = _figure(claim.reach)
        covered += f"{claim.samples} draws that all agree show {norm} {shown} at alpha {claim.alpha:g}, and no more. "
    if "linf" not in norms_of(claim.noise, dim):
        name = name_of(claim.noise)
        return f"{covered}Not covered: l-inf perturbations, for which noise {name} has no theorem. {_ELSEWHERE}"
    best = claim.radius_at(claim.best_p(claim.samples), "linf")
    sizes = f"l1 norm up to {ASKED_LINF * dim:.4g} and l2 norm up to {ASKED_LINF * math.sqrt(dim):.3g}"
    if best < ASKED_LINF:
        return (
            f"{covered}Not covered: l-inf 8/255, the usual threat. On {dim} pixel values it has {sizes}; the largest "
            f"l-inf radius within reach here is {_figure(best)}, which is {best * 255:.2g}/255. {_ELSEWHERE}"
        )
    return (
        f"{covered}An l-inf perturbation of 8/255 has {sizes}; it is within reach here under --norm linf. {_ELSEWHERE}"
    )


def _figure(value: float) -> str:
    return f"{value:.4g}"


def assumptions(claim: Claim, precision: str, warnings: list[str]) -> list[str]:
    """Return the assumptions of the certificates, other than the theorem.

    Args:
        claim: What the certificates claim.
        precision: Precision of the network's forward passes.
        warnings: The result of ``training_warnings``.
    """
    stated = [_rounding(claim)]
    if not claim.certain:
        stated += [
            "Random numbers: the draws are those of a pseudo-random generator, taken for independent and exact draws "
            "of the noise; the images were chosen without knowledge of the seed.",
            f"Each certificate is false with probability at most {claim.alpha:g}; that is for each image. What "
            "holds for all of them together stands beside it, and fails with that probability in all.",
            "The settings were chosen before looking at the counts.",
        ]
    if claim.bound == "randomized":
        stated.append(
            "Each bound uses one uniform draw, which follows from the seed and the image and was fixed before its "
            "counts: under another seed, the same counts would certify another radius."
        )
    trained = "The model was trained under the noise that it is certified with."
    return [
        *stated,
        f"The network is one function: in {precision}, whose rounding may differ with the batch that an image is in.",
        "The images are a sample of what the accuracy is claimed for: the intervals are about that, not about attacks.",
        trained if not warnings else f"Not needed for validity, but for accuracy: {' '.join(warnings)}",
    ]


def _rounding(claim: Claim) -> str:
    """Return a sentence on the effect of rounding pixels and noise on the proof."""
    if claim.certain:
        return (
            "The image in the middle of the ball is 8-bit; the count over all splits leaves no chance. A perturbed "
            "image may lie between the grey levels: there the smoothed classifier dithers."
        )
    if isinstance(claim.noise, GridNoise):
        return (
            "Floating point: the noisy image lies on the grid of 8-bit images and is the same float however it was "
            "reached, so rounding does not break the proof. A perturbed image may lie anywhere in the ball: between "
            "the grey levels the smoothed classifier rounds the sum of image and noise, not the image."
        )
    return (
        "Floating point: the theorem is about real numbers. float32 noise added to an 8-bit image depends on the "
        "image in its last bit, which a network could exploit (Voráček & Hein 2023); the noises without this gap "
        "are discrete-gaussian and, for l1, split."
    )


def explanation(claim: Claim, size: ImageSize) -> str:
    """Return an explanation of the columns of a prediction, for a model that takes images of ``size``."""
    units = (
        f"The radius is in pixel units of the {size_words(size)} image that the model takes: for an image that was "
        "resized it says nothing of perturbations of the file's own pixels."
    )
    if claim.certain:
        return (
            "probability: share of all splits. radius: no perturbation within it changes the class, for certain. "
            f"{units}"
        )
    return (
        f"class: the smoothed classifier's own, or abstain; wrong with probability at most {claim.alpha:g}. "
        "probability: bounds on that of the nearest class under the noise, at the same alpha. radius: no perturbation "
        "within it changes the class, again but for alpha. None of this says that the class is right. The draws are a "
        "function of the pixels and the seed: all this is for images chosen without knowledge of the seed; where an "
        f"adversary may choose them, keep a seed of your own secret: --set system.seed=... {units}"
    )


def training_warnings(classifier: Classifier, noise: Noise) -> list[str]:
    """Return a warning if a model was fine-tuned without noise, or with another noise than it is certified under.

    Args:
        classifier: The model.
        noise: Section [noise] of the recipe of the certification.
    """
    trained = classifier.recipe
    certified, theirs = noise_words(noise), noise_words(trained.noise)
    if classifier.given:
        return [f"how the model was trained is not known; it is certified under {certified}"]
    if classifier.imported:
        said = "imported for this noise" if trained.noise == noise else f"imported with noise {theirs}"
        return [f"the model was {said}, which nothing here can confirm, and is certified under {certified}"]
    if not classifier.trained_under_noise:
        objective = trained.finetune.objective
        return [f"the model was fine-tuned without noise (objective {objective}), and is certified under {certified}"]
    if trained.noise != noise:
        return [f"the model was trained under {theirs}, and is certified under {certified}"]
    return []


def noise_words(noise: Noise) -> str:
    """Return a noise in words, such as ``uniform scale 0.3``."""
    return " ".join([noise.name, *(f"{key} {value}" for key, value in noise.options.items())])
