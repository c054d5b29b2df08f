"""What tests of contrastive adversarial training share: a network with BatchNorm in both parts, and slow references."""

from __future__ import annotations

import copy

import torch
from batches import batch_of
from robust_losses import images_of
from tiny_runs import QUIET, checkpoint_of, toy

from rushkit.models.network import Network
from rushkit.setup.start import machine_of, start_run
from rushkit.training.loop import train
from rushkit.training.pretrain import pretraining_job

# Five images whose pixels are neither near black nor near white.
IMAGES = images_of(5, 8)
TEMPERATURE = 0.5


def network_of(objective):
    """A network in float64, in train mode; the same each time, with a bias and a scale of its own for each channel."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Network(toy(), objective.head(8, [10]), "projector").double()
        for parameter in network.parameters():
            parameter.data += 0.1 * torch.randn(parameter.shape, dtype=torch.float64)
    with torch.no_grad():
        # Statistics of a network that has seen images: in eval mode, too, its projections differ.
        for _ in range(40):
            network(torch.cat(drawn()[:2]))
    return network


def blurred(images, generator):
    """Views in float64 that differ a little, within [0, 1]."""
    chance = torch.rand(images.shape, generator=generator, dtype=torch.float64)
    return images.double() / 255 + 0.2 * (chance - 0.5)


# The same at every strength.
blurred.weakened = lambda _: blurred


def drawn(images=IMAGES, seed=0):
    """Two views of the images, and the batch that drew them: a uniform start is its next draw."""
    batch = batch_of(images, views=blurred, seed=seed)
    return batch.view(), batch.view(), batch


def contrast(first, second, temperature=TEMPERATURE):
    """NT-Xent as its formula says it: over all 2N anchors i, the positive p and all others k."""
    z = torch.nn.functional.normalize(torch.cat([first, second]), dim=1)
    count, total = len(z), 0.0
    for i in range(count):
        others = torch.stack([(z[i] @ z[k] / temperature).exp() for k in range(count) if k != i])
        total = total - z[i] @ z[(i + count // 2) % count] / temperature + others.sum().log()
    return total / count


def climbed(x, loss, start, eps, step_size, steps):
    """The end of steps of l-inf along the sign, each within ball and box."""
    point = (x + start).clamp(0, 1)
    for _ in range(steps):
        point = point.detach().requires_grad_()
        (slope,) = torch.autograd.grad(loss(point), point)
        point = torch.min(torch.max(point + step_size * slope.sign(), x - eps), x + eps).clamp(0, 1)
    return point.detach()


def graded(objective, network, memory, images=IMAGES, seed=0, epoch=0.5):
    """The only loss of an objective on a batch, after its backward pass; what follows the step has run."""
    steps = objective.losses(network, memory, batch_of(images, views=blurred, seed=seed, epoch=epoch))
    loss = next(steps)
    loss.backward()
    assert next(steps, None) is None
    return loss.detach()


def buffers(*branches):
    return [{name: tensor.clone() for name, tensor in branch.named_buffers()} for branch in branches]


def gradients(*branches):
    return [{name: parameter.grad for name, parameter in branch.named_parameters()} for branch in branches]


def copied(*branches):
    """Copies of branches; those that share tensors share them in the copies too."""
    return copy.deepcopy(branches)


def opened(recipe, backbone):
    """A plain backbone with the encoder of a checkpoint that a pre-training has saved, and the job of the training."""
    machine = machine_of(recipe)
    job, _ = pretraining_job(recipe, machine)
    with start_run("pretrain", recipe, QUIET) as run:
        train(job, run, machine, recipe.system.seed)
    saved = checkpoint_of(run).tensors
    # Strict: no other name begins so, and none is missing.
    backbone.load_state_dict(
        {name.removeprefix("encoder."): tensor for name, tensor in saved.items() if name.startswith("encoder.")}
    )
    return backbone, job
