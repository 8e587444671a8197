"""plateau_interp.cli.listing: what there is, told as data and as tables."""

import json
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from itertools import pairwise

import pytest
import torch
from filled import FilledTokens
from rich.console import Console

from plateau_interp.cli import listing
from plateau_interp.cli.listing import describe, listed_plugins, tables
from plateau_interp.plugins import plugin, plugins
from plateau_interp.tasks import Histogram, MatrixCompletion, Mixture, MovingWindowSum, MultiDigitAddition, Permutation
from plateau_interp.types import Batch, Defaults, Levels, Task

KINDS = ("tasks", "hooks", "optimizers")


@dataclass(frozen=True)
class Scattered(Task):
    """Ids far apart, an answer in the middle, no closed form."""

    name = "scattered"
    d_vocab = 100
    n_pos = 5
    answer = slice(2, 4)

    def sample(self, n: int, *, generator: torch.Generator) -> Batch:
        tokens = torch.tensor([[3, 5, 9, 20, 21], [4, 50, 60, 90, 3]]).repeat(n // 2, 1)
        return Batch(tokens, tokens[:, 1:])


def drawn(rows, kind, *, width):
    console = Console(width=width, markup=False, highlight=False, color_system=None)
    with console.capture() as capture:
        for table in tables(kind, rows):
            console.print(table)
    return capture.get()


@pytest.mark.parametrize("kind", KINDS)
def test_every_plugin_has_a_row(kind):
    rows = listed_plugins(kind)
    assert json.loads(json.dumps(rows)) == rows
    assert [row["name"] for row in rows] == sorted(plugins(kind))
    assert all(row["summary"].endswith(".") and row["package"] == "plateau-interp" for row in rows)


def test_a_task_is_described_by_its_sizes_and_a_sequence():
    told = describe(MovingWindowSum())
    prompt, answer = ([int(token) for token in part.split()] for part in told.pop("example").split("|"))
    assert answer == [prompt[0], *((a + b) % 17 for a, b in pairwise(prompt))]
    levels = told.pop("levels")
    assert levels == pytest.approx({"initial": 2.8904, "plateau": 2.6277, "floor": 1.2997}, abs=1e-4)
    training = told.pop("training")
    assert training.keys() == vars(Defaults()).keys()
    assert (training["steps"], training["n_layers"], training["grad_clip"]) == (400, 1, None)
    assert told == {
        "vocabulary": 18,
        "ids": {"prompt": "1-17", "answer": "0-16"},
        "lengths": {"prompt": 17, "answer": 16},
        "unit": "nats",
    }


@pytest.mark.parametrize(
    ("task", "ids", "lengths"),
    [
        (Permutation(), {"prompt": "0-32", "answer": "17-32"}, {"prompt": 34, "answer": 16}),
        (MultiDigitAddition(), {"prompt": "0-11", "answer": "0-9"}, {"prompt": 10, "answer": 5}),
        (Mixture(shares=(1.0, 0.0, 1.0)), {"prompt": "1-17, 19", "answer": "0-16"}, {"prompt": 17, "answer": 16}),
        (MatrixCompletion(), {"prompt": "0-21", "answer": "-1 to 1"}, {"prompt": 16, "answer": 16}),
        (FilledTokens(), {"prompt": "0-8", "answer": "1-8"}, {"prompt": 6, "answer": 6}),
        (Scattered(), {"prompt": "3-5, 50", "answer": "9-90"}, {"prompt": 2, "answer": 2}),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_ids_and_lengths_are_those_of_prompt_and_answer(task, ids, lengths):
    told = describe(task)
    assert (told["ids"], told["lengths"]) == (ids, lengths)


def test_tables_of_tasks_fit_into_eighty_columns():
    rows = listed_plugins("tasks")
    told = drawn(rows, "tasks", width=80)
    assert "…" not in told  # nothing was cut off
    assert max(map(len, told.splitlines())) <= 80
    for row in rows:
        assert sum(line.startswith(f" {row['name']} ") for line in told.splitlines()) == 2
        assert " ".join(row["example"].split()[:5]) in told
    histogram = next(line for line in told.splitlines() if line.startswith(" histogram"))
    assert histogram.split() == ["histogram", "17", "17", "+", "16", "2.833", "-", "1.165", "2", "5000"]


@pytest.mark.parametrize("kind", ["hooks", "optimizers"])
def test_tables_of_others_say_what_they_are(kind):
    rows = listed_plugins(kind)
    told = drawn(rows, kind, width=80)
    assert all(row["name"] in told and row["summary"][:20] in told for row in rows)


def test_another_package_s_tasks_say_so():
    (row,) = (row for row in listed_plugins("tasks") if row["name"] == "copy")
    assert "from " not in drawn([row], "tasks", width=80)
    assert "from somebody" in drawn([{**row, "package": "somebody"}], "tasks", width=80)


@pytest.mark.parametrize("broken", ["import", "default"])
def test_a_broken_package_does_not_hide_the_others(broken, monkeypatch):
    @dataclass(frozen=True)
    class Needy(Scattered):
        """Cannot be without a size."""

        size: int = 0

        def __post_init__(self):
            raise ValueError("size must be given")

    def load(kind, name):
        if name != "copy":
            return plugin(kind, name)
        if broken == "import":
            raise ImportError("no such thing")
        return Needy

    monkeypatch.setattr(listing, "plugin", load)
    rows = listed_plugins("tasks")
    reason = {"import": "ImportError: no such thing", "default": "ValueError: size must be given"}[broken]
    assert next(row["summary"] for row in rows if row["name"] == "copy") == f"cannot be loaded: {reason}"
    told = drawn(rows, "tasks", width=120)
    assert reason in told
    assert "reverse" in told


def test_unknown_levels_are_told_as_such(monkeypatch):
    assert describe(Scattered())["levels"] == {"initial": None, "plateau": None, "floor": None} == vars(Levels())
    monkeypatch.setattr(listing, "plugins", lambda kind: {"scattered": EntryPoint("scattered", "", "")})
    monkeypatch.setattr(listing, "plugin", lambda kind, name: Scattered)
    told = drawn(listed_plugins("tasks"), "tasks", width=80)
    assert next(line for line in told.splitlines() if "scattered" in line).split()[-5:] == ["-", "-", "-", "1", "400"]
    assert "ids 3-5, 50; answer" in told


def test_listing_tasks_loads_no_transformer_lens():
    """It takes seconds, and no model is needed."""
    code = "import sys; from plateau_interp.cli import listing; listing.listed_plugins('tasks'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "plateau_interp.cli.listing" in loaded
    assert "transformer_lens" not in loaded


def test_levels_of_a_task_are_the_task_s():
    assert describe(Histogram())["levels"] == vars(Histogram().levels)


def test_what_is_no_class_says_what_it_is(monkeypatch):
    (row,) = [row for row in listed_plugins("experiments") if row["name"] == "loss-plateau"]
    assert row["summary"] == plugin("experiments", "loss-plateau").__doc__.partition("\n")[0]


def test_a_long_reason_is_cut(monkeypatch):
    def load(kind, name):
        raise RuntimeError("boom " * 1000)

    monkeypatch.setattr(listing, "plugin", load)
    assert all(len(row["summary"]) < 200 for row in listed_plugins("optimizers"))
