"""The stand-in that the user names with ``--surrogate``: a model with its values, and slopes that lead through it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from rushkit.errors import PluginError, RushkitError, UsageError
from rushkit.image_size import sides
from rushkit.models.adapted import Adapted, Reading
from rushkit.models.answers import answer_kind
from rushkit.models.behaviour import behaviour, trial_images
from rushkit.models.draws import global_draws
from rushkit.models.fronts import Fronted
from rushkit.models.lazy import initialise
from rushkit.models.modes import in_eval_mode
from rushkit.models.stood_in import StoodIn
from rushkit.models.trial import MISFITS, code_of_others, reason
from rushkit.named_code import IDENTITY, SURROGATE, consented, source_hash
from rushkit.results.adaptive import StandsFor
from rushkit.setup.given import on_device
from rushkit.setup.model import Classifier
from rushkit.setup.named_module import make_surrogate
from rushkit.system import generator


@dataclass(frozen=True)
class Surrogate:
    """A classifier with the slopes of a stand-in.

    Attributes:
        network: (N, C, H, W) images in [0, 1] -> (N, K): the classifier's values, the stand-in's slopes.
        alone: The classifier with the stand-in in place of what it stands for: its values, too, are the stand-in's.
        code: What messages and records call it.
        sha256: Hash of its file; "" if it has none.
        stands_for: The whole model, or what stands before it.
        notes: What its trial showed, a sentence each.
    """

    network: nn.Module
    alone: nn.Module
    code: str
    sha256: str
    stands_for: StandsFor
    notes: tuple[str, ...] = ()


class _Named(nn.Module):
    """A stand-in whose errors are told as those of its code."""

    def __init__(self, inner: Callable[[Tensor], Tensor], name: str) -> None:
        super().__init__()
        self.inner, self._name = inner, name
        self.training = False

    def forward(self, x: Tensor) -> Tensor:
        """Return what the stand-in returns for x, which it gets in the precision of its weights."""
        first = next((weights for weights in self.parameters() if weights.is_floating_point()), None)
        with code_of_others(self._name, x):
            outputs = self.inner(x if first is None else x.to(first.dtype))
        return outputs


def make_surrogate_of(classifier: Classifier, said: str) -> Surrogate:
    """Run the code of a surrogate, if the user named it in this command, and try it in the place of a classifier.

    It returns logits, and stands for the whole model; or images, and stands for all fronts before the model together.
    ``identity`` stands for the fronts.

    Args:
        classifier: What is attacked.
        said: ``"FILE.py:NAME"``, ``"MODULE:NAME"`` or ``"identity"``.

    Raises:
        UsageError: the user did not name the code, or there is no such name in it; its outputs are of another shape
            than those of what it stands for; it has no slope, or one that is zero, NaN or infinite; it moves its
            buffers; the model answers with labels alone.
        PluginError: the code raises an error.
    """
    network = classifier.network
    if answer_kind(network) == "labels":
        raise UsageError(
            f"{SURROGATE} gives slopes to scores, and the model answers with labels alone",
            "`--type hopskipjump` needs no more",
        )
    x = trial_images(classifier.channels, *sides(classifier.image_size), generator(0, "surrogate"))
    x = x.to(next((tensor.device for tensor in network.parameters()), torch.device("cpu")))
    with global_draws(0, "trial of a surrogate", device=x.device):
        if said == IDENTITY:
            fronted = _fronted(network, said)
            return _tried(_for_fronts(fronted, nn.Identity(), said, x), classifier, x)
        code = consented(said, SURROGATE)
        made = make_surrogate(code, network.module if isinstance(network, Adapted) else network)
        if isinstance(made, nn.Module):
            initialise(made, classifier.channels, classifier.image_size, code.key)
        stand_in = _Named(on_device(made, x.device, code.key) if isinstance(made, nn.Module) else made, code.key)
        with torch.no_grad(), in_eval_mode(stand_in):
            returned = stand_in(x.clone())
        if isinstance(returned, Tensor) and returned.ndim == 4:
            found = _for_fronts(_fronted(network, code.key), stand_in, code.key, x)
        else:
            found = _for_model(classifier, stand_in, code.key, x)
        return _tried(replace(found, sha256=source_hash(code)), classifier, x)


def _fronted(network: nn.Module, name: str) -> Fronted:
    if not isinstance(network, Fronted):
        raise UsageError(
            f"{name} stands for what changes the images before a model, and nothing is before this one",
            "name it with --front FILE.py:NAME; a stand-in for the whole model returns (N, classes) logits",
        )
    return network


def _for_fronts(fronted: Fronted, stand_in: nn.Module, name: str, x: Tensor) -> Surrogate:
    """Return a classifier behind fronts with the slopes of a stand-in for all of these."""
    real = nn.Sequential(*fronted.fronts)
    with torch.no_grad(), in_eval_mode(fronted), in_eval_mode(stand_in):
        theirs, ours = real(x.clone()), stand_in(x.clone())
    if ours.shape != theirs.shape:
        raise UsageError(
            f"the surrogate {name} returned images {_shape(ours)}, and what it stands for {_shape(theirs)}",
            "a stand-in for fronts returns images of the same shape",
        )
    alone = nn.Sequential(stand_in, fronted.model)
    return Surrogate(nn.Sequential(StoodIn(real, stand_in), fronted.model), alone, name, "", "fronts")


def _for_model(classifier: Classifier, stand_in: nn.Module, name: str, x: Tensor) -> Surrogate:
    """Return a classifier with the slopes of a stand-in for all of it, which is fed as the classifier's module is."""
    network = classifier.network
    reading = network.reading if isinstance(network, Adapted) else Reading()
    alone = Adapted(stand_in, replace(reading, answers="logits", classes=len(classifier.classes), name=name))
    alone.mean, alone.std = alone.mean.to(x.device), alone.std.to(x.device)
    with torch.no_grad(), in_eval_mode(alone):
        classes = alone(x.clone()).shape[1]
    if classes != len(classifier.classes):
        raise UsageError(
            f"the surrogate {name} returned {classes} classes, and the model has {len(classifier.classes)}",
            "it has the model's classes in the model's order",
        )
    return Surrogate(StoodIn(network, alone), alone, name, "", "model")


def _tried(surrogate: Surrogate, classifier: Classifier, x: Tensor) -> Surrogate:
    """Return a surrogate after it was tried: whether it has a slope, draws, and leaves itself as it is."""
    name, alone = surrogate.code, surrogate.alone
    before = [buffer.clone() for buffer in alone.buffers()]
    _check_slope(surrogate, x)
    behaved = behaviour(alone, x)
    if any(not torch.equal(buffer, old) for buffer, old in zip(alone.buffers(), before, strict=True)):
        raise UsageError(
            f"the surrogate {name} moves its buffers in every pass, in eval mode too: its slope would depend on what "
            "was attacked before",
            "let BatchNorm use its running statistics: training=False",
        )
    notes = []
    if behaved.minds_batch:
        notes.append(
            f"the surrogate {name} answers an image by the images beside it, as BatchNorm in train mode does: its "
            "slope is that of the batch"
        )
    if behaved.random and not classifier.random:
        notes.append(f"the surrogate {name} is random by itself, and the model is not: each slope is that of one draw")
        surrogate = _with_own_draws(surrogate)
    return replace(surrogate, notes=tuple(notes))


def _with_own_draws(surrogate: Surrogate) -> Surrogate:
    """Return a surrogate whose stand-in draws by itself, and what it stands for does not."""
    if surrogate.stands_for == "model":
        assert isinstance(surrogate.network, StoodIn)
        return replace(surrogate, network=surrogate.network.with_own_draws())
    assert isinstance(surrogate.network, nn.Sequential)
    stood_in, model = surrogate.network
    assert isinstance(stood_in, StoodIn)
    return replace(surrogate, network=nn.Sequential(stood_in.with_own_draws(), model))


def _check_slope(surrogate: Surrogate, x: Tensor) -> None:
    """Raise UsageError for a surrogate that no gradient comes through."""
    probe = x.detach().clone().requires_grad_()
    gradient, why = None, ""
    with in_eval_mode(surrogate.network), torch.enable_grad():
        try:
            logits = surrogate.network(probe)
            if logits.requires_grad:
                weights = torch.linspace(1, 2, logits.shape[1], device=logits.device)
                (gradient,) = torch.autograd.grad((logits * weights).sum(), probe, allow_unused=True)
        except (PluginError, *MISFITS) as error:
            why = f": {error.message if isinstance(error, RushkitError) else reason(error)}"
    if gradient is None:
        raise UsageError(
            f"the surrogate {surrogate.code} has no gradient{why}",
            "run it without no_grad, detach, numpy or whole numbers; what has no slope needs another stand-in",
        )
    finite = bool(torch.isfinite(gradient).all())
    if not finite or not bool(gradient.any()):
        raise UsageError(
            f"the gradient of the surrogate {surrogate.code} is {'zero' if finite else 'NaN or infinite'} on images of "
            "the trial",
            "rounding, comparisons and whole numbers have none; float16 overflows; behind a front the model needs one",
        )


def _shape(tensor: Tensor) -> str:
    return f"({', '.join(map(str, tensor.shape))})"
