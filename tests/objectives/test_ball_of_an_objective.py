"""What an objective says of the ball that it attacks in."""

from __future__ import annotations

import pytest

from rushkit import objectives
from rushkit.errors import UsageError
from rushkit.objectives.supervised import Supervised
from rushkit.recipe.load import load_recipe
from rushkit.registries import objectives as registry


class Unclear(Supervised):
    def __init__(self, eps: float = 0.03) -> None:
        self.eps = eps

    def losses(self, network, memory, batch):
        yield batch.mean(network(batch.view()).sum(1))


class Clear(Unclear):
    def __init__(self, eps: float = 0.03, norm: str = "linf") -> None:
        super().__init__(eps)


@pytest.fixture(autouse=True)
def registered():
    for name, factory in {"unclear": Unclear, "clear": Clear}.items():
        objectives.register(name)(factory)
    yield
    for name in ("unclear", "clear"):
        registry.unregister(name, __name__.partition(".")[0])


def test_an_eps_without_a_norm_is_refused():
    with pytest.raises(UsageError, match="objective 'unclear' has an eps without a norm"):
        load_recipe("digits", ["finetune.objective=unclear"], {})


def test_an_eps_with_a_norm_is_fine():
    assert load_recipe("digits", ["finetune.objective=clear"], {}).finetune.objective == "clear"
