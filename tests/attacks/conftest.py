"""What holds for the tests of attacks."""

import importlib
import importlib.util

import pytest


@pytest.fixture(scope="session", autouse=True)
def short_squares_of_torchattacks():
    """torchattacks' AutoAttack has no option for the queries of its Square: 200, not 5000, take the same way.

    The size of the window changes after 10 and after 50 of them.
    """
    if importlib.util.find_spec("torchattacks") is None:
        yield
        return
    suite = importlib.import_module("torchattacks.attacks.autoattack")
    square = suite.Square
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suite, "Square", lambda *args, **options: square(*args, **{**options, "n_queries": 200}))
        yield
