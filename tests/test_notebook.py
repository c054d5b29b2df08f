"""Progress in a notebook is one display that ends as one line; without IPython nothing changes."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from rushkit.bar import Progress
from rushkit.data.progress import reporting
from rushkit.notebook import in_notebook
from rushkit.run.speaker import Speaker


class Handle:
    """What ``IPython.display.display`` returns: it remembers what it was given."""

    def __init__(self, content: dict[str, str]) -> None:
        self.shown = [content]

    def update(self, content: dict[str, str], raw: bool) -> None:
        assert raw
        self.shown.append(content)


class FrontEnd:
    """A stand-in for IPython inside a kernel."""

    def __init__(self, kernel: object = object()) -> None:
        self.displays: list[Handle] = []
        self.display = SimpleNamespace(display=self._display)
        self.shell: object = SimpleNamespace(kernel=kernel)

    def get_ipython(self) -> object:
        return self.shell

    def _display(self, content: dict[str, str], raw: bool, display_id: bool) -> Handle:
        assert raw
        assert display_id
        self.displays.append(Handle(content))
        return self.displays[-1]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def notebook(monkeypatch) -> FrontEnd:
    front_end = FrontEnd()
    monkeypatch.setitem(sys.modules, "IPython", front_end)
    return front_end


def work(steps: int = 6, label: str = "pretrain") -> None:
    clock = Clock()
    with Progress(steps, label, clock=clock) as bar:
        for step in range(steps):
            clock.now += 1
            bar.advance(loss=1 / (step + 1))
            bar.row(epoch=step + 1, loss=1 / (step + 1))


def test_a_piece_of_work_is_one_display(notebook):
    work()
    (display,) = notebook.displays
    assert len(display.shown) == 1 + 6 + 1


def test_nothing_goes_to_the_streams_of_the_cell(notebook, capsys):
    work()
    assert capsys.readouterr() == ("", "")


def test_while_it_runs_there_is_a_bar_with_the_newest_row(notebook):
    work()
    shown = notebook.displays[0].shown[3]
    assert shown["text/html"].startswith('<progress value="3" max="6"></progress> pretrain: 3/6 steps')
    assert shown["text/html"].endswith("<br>epoch 2, loss 0.5, time 1.0 s")
    assert shown["text/plain"].splitlines()[1] == "epoch 2, loss 0.5, time 1.0 s"


def test_it_ends_as_one_line(notebook):
    work()
    end = notebook.displays[0].shown[-1]
    assert end["text/plain"] == "pretrain: 6/6 steps, 1 steps/s, in 6.0 s, loss 0.167"
    assert end["text/html"] == f"<span>{end['text/plain']}</span>"


def test_work_of_unknown_length_has_a_bar_without_a_value(notebook):
    with Progress(None, "reading", "images") as bar:
        bar.advance()
    assert notebook.displays[0].shown[0]["text/html"] == "<progress></progress> reading"


def test_two_pieces_of_work_are_two_displays_and_a_part_has_none(notebook):
    speaker = Speaker(rank=0)
    for _ in range(2):
        with speaker.progress(2, "pretrain") as bar, speaker.progress(3, "kNN", "images") as part:
            part.advance()
            bar.advance()
    assert len(notebook.displays) == 2


def test_a_label_that_is_markup_is_text(notebook):
    work(label="<script>\x1b[2J")
    for content in notebook.displays[0].shown:
        assert "<script>" not in content["text/html"]
        assert "\x1b" not in content["text/plain"]


def test_reading_data_is_a_display_too(notebook):
    with reporting("decoding photos") as report:
        report(3, 4)
    assert notebook.displays[0].shown[-1]["text/plain"].startswith("decoding photos: 3/4 images")


def test_a_front_end_that_has_gone_stops_nothing(notebook, capsys):
    def gone(*args, **named):
        raise RuntimeError("the comm is closed")

    notebook.display.display = gone
    work()
    assert capsys.readouterr() == ("", "")


def test_a_stream_that_was_named_gets_the_lines(notebook, tmp_path):
    with (tmp_path / "log").open("w") as stream, Progress(1, "pretrain", stream=stream) as bar:
        bar.advance()
    assert not notebook.displays
    assert (tmp_path / "log").read_text().startswith("pretrain: 1/1 steps")


@pytest.mark.parametrize(
    "ipython",
    [None, FrontEnd(kernel=None), SimpleNamespace(get_ipython=lambda: None), SimpleNamespace()],
    ids=["blocked", "in a terminal", "no shell", "another module of that name"],
)
def test_without_a_kernel_progress_is_lines_on_stderr(ipython, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    work()
    assert not in_notebook()
    assert capsys.readouterr().err.splitlines()[-1].startswith("pretrain: 6/6 steps")


def test_ipython_is_never_imported(monkeypatch):
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    work()
    assert "IPython" not in sys.modules
