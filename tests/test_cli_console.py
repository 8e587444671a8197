import json
import math
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import pytest
from typecheck import unchecked

from plateau_interp.cli import console
from plateau_interp.cli.console import print_table, showing_progress, table_rows
from plateau_interp.training import threads
from plateau_interp.training.threads import CoreTimes


@dataclass
class Clock:
    """Seconds that pass when somebody says so."""

    now: float = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.mark.parametrize(("columns", "width"), [("80", 80), ("200", 200), (None, 120), ("", 120), ("wide", 120)])
def test_a_table_is_as_wide_as_the_environment_says_where_there_is_no_terminal(columns, width, monkeypatch, capsys):
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns is not None:
        monkeypatch.setenv("COLUMNS", columns)
    print_table(["long"], [["x" * 300]])
    assert max(map(len, capsys.readouterr().out.splitlines())) == width


@dataclass
class Told:
    """A step that notes when its numbers are read."""

    step: int
    read: list[int] = field(default_factory=list)
    metric_tensors: dict[str, float] = field(default_factory=dict)

    @property
    def loss(self) -> float:
        self.read.append(self.step)
        return 1.5

    @property
    def metrics(self) -> dict[str, float]:
        return self.metric_tensors


@dataclass
class Running:
    """What a bar asks of a run."""

    step: int = 0
    name: str = "a task"
    steps: int = 100

    @property
    def recipe(self) -> "Running":
        return self

    @property
    def task(self) -> "Running":
        return self


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(console, "time", clock)
    return clock


def steps(clock: Clock, *, seconds: float, measured: int = 3) -> list[int]:
    """Those of which something was read, of a run whose steps take so many seconds."""
    read: list[int] = []
    with showing_progress(unchecked(Running())) as show:
        for step in range(100):
            clock.now += seconds
            unchecked(show)(Told(step, read, {"accuracy": 0.25} if step == measured else {}))
    return read


def test_a_bar_reads_a_step_only_when_it_draws(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    assert steps(clock, seconds=0.04) == [*range(2, 99, 3), 99]
    assert capsys.readouterr().err.splitlines()[-1] == "plateau: step 100/100  loss 1.5000  accuracy 0.250  0 s left"
    assert steps(clock, seconds=1.0) == [*range(100)]


def test_a_line_says_once_that_the_cores_are_busy(
    clock: Clock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "core_times", lambda: CoreTimes(clock.now, clock.now, 2 * clock.now))
    asked: list[Any] = []

    def advice(passed: CoreTimes, **sizes: int) -> str:
        asked.append((passed, sizes.keys()))
        return "try --threads 1"

    monkeypatch.setattr(threads, "advice_on_threads", advice)
    steps(clock, seconds=1.0)
    assert asked == [(CoreTimes(10.0, 10.0, 20.0), {"threads": 0, "cores": 0}.keys())]
    assert capsys.readouterr().err.count("plateau: try --threads 1\n") == 1
    steps(clock, seconds=0.05)  # over in five seconds: nothing is said
    assert "--threads" not in capsys.readouterr().err


def test_a_word_that_is_wider_than_its_column_is_not_cut(capsys):
    print_table(
        ["setting", "loss"], [[f"optimizer={name},{'x' * 100}", "1.0 (0.9 to 1.1)"] for name in ("adam", "sgd")]
    )
    assert capsys.readouterr().out.count("x") == 200


def test_the_rows_of_a_table_have_all_digits():
    table = pd.DataFrame({"a": [0.1 + 0.2, 1.2345678901234567e-12, math.nan], "n": [1, 2, 3], "s": ["x", None, "z"]})
    table["whole"] = pd.array([1, None, 3], dtype="Int64")
    rows = json.loads(json.dumps(table_rows(table)))
    assert [row["a"] for row in rows] == [0.1 + 0.2, 1.2345678901234567e-12, None]
    assert [row["n"] for row in rows] == [1, 2, 3]
    assert [row["whole"] for row in rows] == [1, None, 3]
    assert [row["s"] for row in rows] == ["x", None, "z"]
