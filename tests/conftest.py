"""What holds for every test: one thread for each worker, and no settings of the person who runs them."""

import os

import pytest

# Before torch is imported: two workers with a thread for each core get in each other's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Without units for bf16 on any processor: what a test trains under ``system.precision = auto`` is float32 everywhere.
os.environ["ONEDNN_MAX_CPU_ISA"] = "AVX512_CORE"
for _name in (
    "RUSHKIT_RUNS",
    "RUSHKIT_IMPORT",
    "RUSHKIT_MODEL",
    "RUSHKIT_DEVICE",
    "RUSHKIT_PRECISION",
    "RUSHKIT_PLUGINS",
    "RUSHKIT_DEBUG",
    "FORCE_COLOR",
):
    os.environ.pop(_name, None)


def pytest_collection_modifyitems(items):
    """Files with slow tests come first, lest one be left alone at the end; tests for CUDA are skipped without it."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
    for item in items:
        if item.get_closest_marker("cuda"):
            item.add_marker(
                pytest.mark.skipif("not __import__('torch').cuda.is_available()", reason="needs a CUDA device")
            )


@pytest.fixture(scope="session", autouse=True)
def results_are_records():
    """Every results.json that a test writes is read by its record and written again byte for byte."""
    from rushkit.results import dump, read
    from rushkit.run.folder import Run

    write = Run.write_results

    def write_and_read(run, results):
        returned = write(run, results)
        if run.writes:
            assert dump(read(run.path)) == (run.path / "results.json").read_text(), run.path
        return returned

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "write_results", write_and_read)
        yield


@pytest.fixture(scope="session", autouse=True)
def commands_are_built_once():
    """Typer builds an app's commands at every call of it, which takes longer than most commands that tests run.

    Here they are built anew where the functions behind them are others than at the call before.
    """
    import typer

    build = typer.main.get_command
    last: list = [None, None]

    def functions(app):
        yield app
        yield from (command.callback for command in app.registered_commands)
        for group in app.registered_groups:
            yield from functions(group.typer_instance)

    def built_once(app):
        now = list(functions(app))
        if last[0] != now:
            last[:] = now, build(app)
        return last[1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.main, "get_command", built_once)
        yield
