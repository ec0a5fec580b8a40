"""Progress: one line on a terminal, plain lines elsewhere, a bar in words in a notebook."""

import io
from types import SimpleNamespace

import ipywidgets
import pytest

from labkit.experiments import progress
from labkit.experiments.progress import Pace, duration, follow, watch
from labkit.experiments.running import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until a test moves it."""
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now.seconds))
    return now


@pytest.fixture
def shown(monkeypatch):
    """The widgets that `watch` displays."""
    widgets: list[ipywidgets.HBox] = []
    monkeypatch.setattr(progress, "_display", widgets.append)
    return widgets


def events(clock, total: int = 1000, seconds: float = 0.5):
    for done in range(total + 1):
        yield Progress(done, total, 1 + 2 * done // (total + 1))
        yield "an event of another kind"
        clock.seconds += seconds


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (80, "1 min 20 s"),
        (12 * 60 + 5, "12 min"),
        (3600, "1 h"),
        (2 * 3600 + 300, "2 h 5 min"),
    ],
)
def test_durations_are_read_at_a_glance(seconds, words):
    assert duration(seconds) == words


def test_time_left_is_work_left_at_the_pace_so_far(clock):
    pace = Pace()
    assert pace.left is None and pace.percent == 0
    clock.seconds += 50  # loading data is no part of the pace
    pace.update(Progress(0, 200, 0))
    assert pace.left is None
    clock.seconds += 20  # and neither is the first iteration
    pace.update(Progress(10, 200, 0))
    assert pace.left is None and pace.in_words() == "  5%  round 0"
    clock.seconds += 10
    pace.update(Progress(60, 200, 1))
    assert pace.left == pytest.approx(28)
    assert pace.in_words() == " 30%  round 1  28 s left"
    assert pace.elapsed == pytest.approx(30)


def test_no_time_is_guessed_from_a_split_second(clock):
    pace = Pace()
    for done in range(9):
        pace.update(Progress(done, 1_000_000, 0))
        clock.seconds += 0.1
    assert pace.left is None


def test_nothing_is_divided_by_no_work(clock):
    pace = Pace()
    pace.update(Progress(0, 0, 0))
    assert pace.percent == 0 and pace.left is None


def test_off_a_terminal_a_plain_line_for_every_tenth(clock):
    stream = io.StringIO()
    follow(events(clock), stream)
    lines = stream.getvalue().splitlines()
    assert [line.split("%")[0] for line in lines] == [str(10 * i) for i in range(11)]
    assert lines[5] == "50%  round 1  4 min 10 s left"
    assert stream.getvalue().isprintable() is False  # line feeds,
    assert all(line.isprintable() for line in lines)  # and no other control character


def test_on_a_terminal_one_line_is_rewritten(clock, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    stream = Terminal()
    follow(events(clock), stream)
    first, *drawn = stream.getvalue().split("\r")
    assert first == "" and len(drawn) > 100
    assert stream.getvalue().count("\n") == 1 and stream.getvalue().endswith("\n")
    # Never as wide as the terminal, and always as wide as what has to be overwritten.
    assert {len(line.rstrip("\n")) for line in drawn} == {59}
    assert "[############............]  50%  round 1" in stream.getvalue()
    assert "100%" in drawn[-1] and "0 s left" in drawn[-1]


def test_a_terminal_is_not_flooded(clock, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    follow(events(clock, total=1000, seconds=0.001), stream)
    assert stream.getvalue().count("\r") < 15


def test_a_narrow_or_dumb_terminal_is_not_garbled(clock, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "20")
    stream = Terminal()
    follow(events(clock), stream)
    assert max(len(line) for line in stream.getvalue().split("\r")) <= 20
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    follow(events(clock), stream)
    assert "\r" not in stream.getvalue()


def test_what_a_run_raises_passes_through_and_ends_the_line(clock, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")

    def failing():
        yield Progress(1, 2, 0)
        raise KeyboardInterrupt

    stream = Terminal()
    with pytest.raises(KeyboardInterrupt):
        follow(failing(), stream)
    assert stream.getvalue().endswith("\n")


def test_without_work_nothing_is_shown():
    for stream in (io.StringIO(), Terminal()):
        follow(iter(()), stream)
        assert stream.getvalue() == ""


def test_follow_writes_to_standard_error(clock, capsys):
    follow(events(clock))
    assert capsys.readouterr().out == ""


def test_watch_updates_a_bar_and_a_text(clock, shown):
    seen = []

    def watched():
        for event in events(clock):
            yield event
            bar, text = shown[0].children
            seen.append((bar.value, text.value))

    watch(watched())
    bar, text = shown[0].children
    assert isinstance(bar, ipywidgets.IntProgress) and bar.description
    assert (50, "50%  round 1  4 min 10 s left") in seen
    assert (bar.value, bar.bar_style) == (100, "success")
    assert text.value == "done in 8 min 20 s"


@pytest.mark.parametrize(
    ("error", "word", "style"),
    [(KeyboardInterrupt(), "stopped", "warning"), (OSError("no disk"), "failed", "danger")],
)
def test_watch_says_in_words_how_a_run_ended(clock, shown, error, word, style):
    def ending():
        yield Progress(0, 4, 0)
        yield Progress(1, 4, 0)
        raise error

    with pytest.raises(type(error)):
        watch(ending())
    bar, text = shown[0].children
    assert text.value.startswith(f"{word} at 25%") and "kept" in text.value
    assert (bar.value, bar.bar_style) == (25, style)


def test_watch_says_when_there_was_nothing_to_do(shown):
    watch(iter(()))
    assert shown[0].children[1].value == "nothing to train"


def test_watch_prints_nothing_in_plain_python(clock, capsys):
    watch(events(clock, total=10))
    assert capsys.readouterr() == ("", "")
