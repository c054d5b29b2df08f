"""Make what the user's code names: a module, a callable that only answers, or a callable that changes images."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from inspect import Parameter
from typing import Any

from torch import Tensor, nn

from rushkit.errors import (
    CheckpointError,
    PluginError,
    RushkitError,
    UsageError,
    did_you_mean,
    first_few,
    shell_line,
    shorten,
)
from rushkit.foreign.file import read_foreign
from rushkit.foreign.onnx_model import open_onnx
from rushkit.models.black_box import BlackBox
from rushkit.models.fronts import Front
from rushkit.named_code import FLAG, FRONT, Code, called, run_code
from rushkit.paths import expand
from rushkit.recipe.model_section import Model

# What torch adds to a BatchNorm layer of its own; files from before version 0.4.1 lack it.
_COUNTER = "num_batches_tracked"


def make_module(code: Code, section: Model) -> nn.Module:
    """Run code that the user named, and return the module that its name stands for, which is one or makes one.

    A callable that only answers becomes a module too.

    Args:
        code: What the user named.
        section: Its arguments, and what it answers.

    Raises:
        UsageError: there is no such name in it, it is no module and makes none, or an argument does not fit or is
            missing.
        PluginError: it raises an error.
        CheckpointError: an ONNX file that is damaged, too large, or needs more than operators of ONNX.
    """
    arguments = section.arguments
    if code.is_onnx:
        if arguments or section.weights:
            flag = "--model-arg" if arguments else "--weights"
            raise UsageError(f"an ONNX file takes no {flag}: it has all that its model needs", f"leave {flag} out")
        return open_onnx(code.place)
    found = run_code(code)
    if isinstance(found, nn.Module):
        if arguments:
            raise UsageError(
                f"{code.key} is a module that is made already: it takes no arguments",
                "leave --model-arg out, or name the class or the function that makes it",
            )
        return found
    if not callable(found):
        raise UsageError(
            f"{code.key} is {_kind(found)}, neither a torch module nor a callable that returns one",
            "name a class of torch.nn.Module, an instance of one, or a function that returns one",
        )
    only_answers = section.answers != "logits"
    if only_answers and not arguments and not isinstance(found, type) and _takes_one(found):
        return BlackBox(found, code.key)
    _check_arguments(code, found, arguments)
    try:
        made = found(**arguments)
    except RushkitError:
        raise
    except (Exception, SystemExit) as error:
        raise called(code, error) from error
    if isinstance(made, nn.Module):
        return made
    if only_answers and callable(made):
        return BlackBox(made, code.key)
    if callable(made):
        raise UsageError(
            f"{code.key} returns {_kind(made)}, not a torch module",
            "a callable that takes numpy images and returns probabilities or labels needs --answers probabilities or "
            "--answers labels",
        )
    raise UsageError(
        f"{code.key} returns {_kind(made)}, not a torch module",
        "--model names a class of torch.nn.Module, or a function that returns a module",
    )


def make_front(code: Code) -> Front:
    """Run code that the user named for the place before a model, and return what its name stands for.

    Raises:
        UsageError: there is no such name in it, or it is no callable of images.
        PluginError: it raises an error.
    """
    found = run_code(code)
    if isinstance(found, type):
        _check_arguments(code, found, {}, FRONT)
        try:
            found = found()
        except (Exception, SystemExit) as error:
            raise called(code, error) from error
    if not callable(found):
        raise UsageError(
            f"{code.key} is {_kind(found)}, and nothing that takes images",
            "name a function from images (N, C, H, W) to images, a torch module, or a class of one",
        )
    return Front(found, code.key)


def make_surrogate(code: Code, real: nn.Module) -> Callable[[Tensor], Any]:
    """Run code that the user named for a stand-in, and return what takes images in place of a model or of fronts.

    Args:
        code: What the user named: a torch module, or a class that makes one from nothing; else a callable that takes
            the real one and returns a module or a function of images.
        real: What it is to stand for: the user's module, or a network with its fronts.

    Raises:
        UsageError: there is no such name in it, or it makes nothing that takes images.
        PluginError: it raises an error.
    """
    found = run_code(code, again=False)
    if isinstance(found, nn.Module):
        return found
    if not callable(found):
        raise UsageError(
            f"{code.key} is {_kind(found)}, neither a torch module nor a callable that returns one",
            "name a module, or a function that takes the real model and returns its stand-in",
        )
    try:
        made = found() if isinstance(found, type) and not _takes_one(found) else found(real)
    except RushkitError:
        raise
    except (Exception, SystemExit) as error:
        takes = "it is called with the real model, and returns a stand-in: a torch module or a function of images"
        raise PluginError(called(code, error).message, takes) from error
    if isinstance(made, nn.Module):
        return made
    if isinstance(made, Tensor) or not callable(made):
        raise UsageError(
            f"{code.key} returned {type(made).__name__} for the real model, and no stand-in for it",
            "it takes the model, and returns a torch module or a function of images",
        )
    stand_in: Callable[[Tensor], Any] = made
    return stand_in


def load_weights(module: nn.Module, path: str) -> str:
    """Load a file of weights into a module whose names they have, and return the file's SHA-256.

    One word before all names, such as DataParallel's ``module.``, may be missing on either side.

    Raises:
        CheckpointError: the file is missing, damaged, or holds more than tensors; names or shapes do not fit.
    """
    foreign = read_foreign(expand(path))
    own = module.state_dict()
    if not own:
        raise CheckpointError(
            f"the module of {FLAG} has no weights to load {shorten(path)} into", "leave --weights out"
        )
    tensors = _renamed(foreign.tensors, own)
    missing = [name for name in own if name not in tensors and not name.endswith(_COUNTER)]
    unexpected = [name for name in tensors if name not in own]
    misshapen = [name for name in own if name in tensors and own[name].shape != tensors[name].shape]
    if missing or unexpected:
        lacks = [f"the file lacks {first_few(list(map(shorten, missing)))}"] * bool(missing)
        extra = [f"the module has no {first_few(list(map(shorten, unexpected)))}"] * bool(unexpected)
        name = (missing or unexpected)[0]
        near = did_you_mean(name, unexpected if missing else own)
        raise CheckpointError(
            f"{shorten(path)} does not fit the module: {', and '.join([*lacks, *extra])}",
            f"in place of {shorten(name)}: {near}" if near else "these are the weights of another module, or of a part",
        )
    if misshapen:
        name = misshapen[0]
        raise CheckpointError(
            f"{shorten(path)} does not fit the module: {name} is {tuple(tensors[name].shape)} in the file and "
            f"{tuple(own[name].shape)} in the module",
            "--model-arg may say the width or the number of classes",
        )
    module.load_state_dict({name: tensors.get(name, own[name]) for name in own})
    return foreign.origin.sha256


def _renamed(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return the tensors of a file by the module's names, if one word before all of either makes the difference."""
    here, there = _first_word(tensors), _first_word(own)
    if here and not any(name.startswith(here) for name in own):
        return {name.removeprefix(here): tensor for name, tensor in tensors.items()}
    if there and not any(name.startswith(there) for name in tensors):
        return {f"{there}{name}": tensor for name, tensor in tensors.items()}
    return tensors


def _first_word(names: Mapping[str, Tensor]) -> str:
    """Return the first word of all names with its dot: ``"module."``; "" if they begin with several."""
    words = {name.partition(".")[0] for name in names if "." in name}
    return f"{words.pop()}." if len(words) == 1 and all("." in name for name in names) else ""


def _takes_one(found: Callable[..., Any]) -> bool:
    """Return whether a callable takes one thing, such as images: it needs one argument, or that cannot be known."""
    try:
        parameters = inspect.signature(found).parameters.values()
    except (TypeError, ValueError):
        return True
    by_place = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD, Parameter.VAR_POSITIONAL)
    needed = [each for each in parameters if each.default is Parameter.empty and each.kind in by_place]
    return len(needed) == 1


def _check_arguments(code: Code, factory: Callable[..., Any], arguments: Mapping[str, Any], flag: str = FLAG) -> None:
    """Raise UsageError for arguments that a callable does not have, or does not get."""
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return
    by_name = [
        name
        for name, each in parameters.items()
        if each.kind in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    ]
    takes_any = any(each.kind == Parameter.VAR_KEYWORD for each in parameters.values())
    if unknown := [name for name in arguments if name not in by_name and not takes_any]:
        takes = f"it takes {first_few(by_name, 8)}" if by_name else "it takes none"
        raise UsageError(
            f"{code.key} has no argument {shorten(unknown[0])}", did_you_mean(unknown[0], by_name) or takes
        )
    missing = [
        name
        for name, each in parameters.items()
        if each.default is Parameter.empty
        and each.kind not in (Parameter.VAR_KEYWORD, Parameter.VAR_POSITIONAL)
        and name not in arguments
    ]
    if not missing:
        return
    needs = f"{code.key} needs the argument{'s' * (len(missing) > 1)} {first_few(missing, 8)}"
    if flag == FRONT:
        raise UsageError(needs, "a front is made without arguments: write a function of images that gives them")
    hint = "say " + " ".join(shell_line("--model-arg", f"{name}=VALUE") for name in missing[:8])
    if len(missing) == 1 and not arguments and not isinstance(factory, type):
        hint += "; if that is the images: a function of them goes into the forward of a torch module, or, with numpy "
        hint += "images, --answers probabilities or --answers labels says what it returns"
    raise UsageError(needs, hint)


def _kind(found: object) -> str:
    return f"{type(found).__name__} {shorten(repr(found), 60)}"
