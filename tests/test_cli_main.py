import dataclasses
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from plateau_interp.cli import console
from plateau_interp.cli.listing import listed_plugins
from plateau_interp.cli.main import main
from plateau_interp.cli.options import read_training
from plateau_interp.cli.verbs import VERBS
from plateau_interp.hooks import FixAttention
from plateau_interp.plugins import plugins
from plateau_interp.runs.run import Run
from plateau_interp.tasks import Text
from plateau_interp.training.optimizers import Adam

pytestmark = pytest.mark.usefixtures("undrawn")

NAMES = ", ".join(VERBS)
TINY = "--n 4 --p 7 --d-model 16 --batch-size 4 --n-sequences 2 --checkpoint-every 2"


def plateau(words: str | list[str]) -> int:
    return main(words.split() if isinstance(words, str) else words)


def command(words: str) -> list[str]:
    return [sys.executable, "-m", "plateau_interp.cli.main", *words.split()]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a finished run of six steps."""
    out = tmp_path_factory.mktemp("runs") / "first"
    assert plateau(f"train moving-window-sum {TINY} --steps 6 --out {out}") == 0
    return out


@pytest.fixture(autouse=True)
def width(monkeypatch):
    """tyro and rich draw as wide as the terminal."""
    monkeypatch.setenv("COLUMNS", "100")


@pytest.mark.parametrize(
    "words",
    ["--help", *(f"{verb} --help" for verb in VERBS), "train moving-window-sum --help"],
)
def test_help(words, capsys, snapshot):
    try:
        status = plateau(words)
    except SystemExit as stop:
        status = stop.code
    assert status == 0
    told = capsys.readouterr()
    assert told.err == ""
    assert told.out == snapshot


def test_help_has_an_example_of_every_verb(capsys):
    assert plateau("--help") == 0
    examples = re.findall(r"^  plateau (\w+) ", capsys.readouterr().out, flags=re.MULTILINE)
    assert set(examples) == set(VERBS)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("", f"no verb was given: it is one of {NAMES}; see `plateau --help`"),
        ("trian", f"no verb is called 'trian': it is one of {NAMES}; see `plateau --help`"),
        ("train", "the task comes first: plateau train TASK [options]; see `plateau list tasks`"),
        ("train --seed 0", "the task comes first: plateau train TASK [options]; see `plateau list tasks`"),
        (
            "train moving-window-summ --out @out",
            "no task is called 'moving-window-summ'; the nearest is moving-window-sum; see `plateau list tasks`",
        ),
        (
            "train moving-window-sum",
            "--out DIR is missing; see `plateau train moving-window-sum --help`",
        ),
        (
            "train moving-window-sum --out @out --k 99",
            "k must be between 1 and n=16; got 99; see `plateau train moving-window-sum --help`",
        ),
        (
            "train moving-window-sum --out @out --n many",
            "--n: expected a whole number; got 'many'; see `plateau train moving-window-sum --help`",
        ),
        ("train moving-window-sum --out @out --steps abc", "--steps: expected a whole number; got 'abc'; see "),
        (
            "train moving-window-sum --out @out --grad-clip 1,5",
            "--grad-clip: expected a number; got '1,5'; see ",
        ),
        ("train moving-window-sum --out @out --seed", "--seed: a value is missing; see "),
        (
            "train moving-window-sum --out @out --dtype float16",
            "--dtype: expected one of float32, float64; got 'float16'; see ",
        ),
        (
            "train concatenated-windows --out @out --windows 1 b",
            "--windows: expected a whole number; got 'b'; see ",
        ),
        ("train mixture --out @out --shares 1 b", "--shares: expected a number or None; got 'b'; see "),
        (
            "train mixture --out @out --tasks cpy",
            "--tasks: no task is called 'cpy'; the nearest is copy; see `plateau list tasks`",
        ),
        (
            "train modular-arithmetic --out @out --split triple",
            "--split: expected one of equations, triples; got 'triple'; see `plateau train modular-arithmetic --help`",
        ),
        (
            "train moving-window-sum --out @out --optimizer adamm",
            "--optimizer: no optimizer is called 'adamm'; the nearest is adam; see `plateau list optimizers`; see ",
        ),
        ("fork @run --at half --out @out", "--at: expected a whole number; got 'half'; see `plateau fork --help`"),
        (
            "train moving-window-sum --out @out --stepps 3",
            "there is no option --stepps; the nearest is --steps; see `plateau train moving-window-sum --help`",
        ),
        ("train moving-window-sum --out @out --steps 0", "steps must be at least 1; got 0; see "),
        (
            "train moving-window-sum --out @out --d-model 30 --n-heads 4",
            "n_heads must divide d_model; got n_heads=4 and d_model=30",
        ),
        (
            "train moving-window-sum --out @out --hook ablate-heads:heads=[3]",
            "there is no head 3: the model has 0 to 0; the nearest is 0",
        ),
        (
            "train moving-window-sum --out @out --hook bias-atention:factor=10",
            "no hook is called 'bias-atention'; the nearest is bias-attention; see `plateau list hooks`",
        ),
        ("train moving-window-sum --out @out --device nowhere", "unknown device 'nowhere'; expected cpu, cuda"),
        ("train moving-window-sum --out @out --device meta:x", "unknown device 'meta:x'; expected cpu, cuda"),
        ("train @out.yaml --out @out", "@out.yaml: No such file or directory"),
        ("fork @out --at 3 --out @out2", "@out is not a folder; `plateau train` makes a run"),
        ("report", "which run? plateau report RUN [RUN ...]"),
        ("report @out", "@out is not a folder; `plateau train` makes a run"),
        ("report @run --out @run/recipe.json", "@run/recipe.json is a file; a folder is needed"),
        ("compare @run @run --out @run/recipe.json", "@run/recipe.json is a file; a folder is needed"),
        ("reproduce loss-plateau fig2 --out @run/recipe.json", "@run/recipe.json is a file; a folder is needed"),
        ("reproduce loss-plateau fig2 --publish @run/recipe.json", "@run/recipe.json is a file; a folder is needed"),
        (
            "train moving-window-sum --d-model 100000000 --out @out",
            "not enough memory: a model with n_layers=1, d_model=100000000, ",
        ),
        (
            "train moving-window-sum --n 1000000 --out @out",
            "not enough memory: attention over n_ctx=2000001 tokens of MovingWindowSum(n=1000000, k",
        ),
        (
            "train copy --n 9000 --out @out",
            "not enough memory: attention over batch_size=256 sequences of Copy(n=9000, ",
        ),
        ("train copy --n-sequences 1000000000 --out @out", "not enough memory: n_sequences=1000000000 sequences of "),
        ("train modular-arithmetic --p 1000003 --out @out", "not enough memory: "),
        ("train copy --hook freeze-weights:where=* --out @out", "nothing is trained at step 0: "),
        ("compare @run", "comparing needs at least two runs; got 1"),
        ("compare @run @run", "@run is given twice"),
        ("compare @run @run/../first", "@run/../first is given twice"),
        ("fork @run --at 7 --out @out", "@run can be forked at steps 0 to 6; got 7"),
        ("fork @run --at 3 --out @out --hook ablate-heads:heads=[3]", "there is no head 3: "),
        ("train moving-window-sum --out @run", "@run holds the run of another recipe (task.n is 4 there and 16 here)"),
        (
            "train moving-window-sum --hook fix-attention --hook bias-attention --out @out",
            "--hook is given twice; where it takes several values: --hook A B; see `plateau train moving-window-sum",
        ),
        ("train moving-window-sum --d-model 8 --d_model=9 --out @out", "--d-model is given twice; "),
        (
            "list taks",
            "kind: expected one of tasks, hooks, initializers, optimizers, loggers, engines, experiments; got 'taks'",
        ),
        ("list tasks --jsn", "there is no option --jsn; the nearest is --json; see `plateau list --help`"),
    ],
)
def test_a_mistake_is_told_in_one_line_and_nothing_is_written(words, line, run, tmp_path, capsys):
    def fill_in(text: str) -> str:
        return text.replace("@out", str(tmp_path / "out")).replace("@run", str(run))

    assert plateau(fill_in(words)) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith(f"plateau: {fill_in(line)}")
    assert told.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_foreign_folder_is_left_alone(tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("years of work")
    assert plateau(f"train moving-window-sum --out {tmp_path}") == 2
    assert capsys.readouterr().err == f"plateau: {tmp_path} is not empty and holds no run\n"
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_disk_error_is_told_in_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert plateau(f"train moving-window-sum {TINY} --steps 2 --out {tmp_path}/file/run") == 2
    told = capsys.readouterr().err
    assert told == f"plateau: {tmp_path}/file/run: Not a directory\n"
    assert told.count("\n") == 1


def test_training_takes_every_option_to_its_place_in_the_recipe(tmp_path):
    words = (
        "train moving-window-sum --n 5 --k 3 --p 11 --attention softmax --n-layers 2 --n-heads 2 --d-model 16 "
        "--dtype float64 --steps 2 --batch-size 3 --optimizer adamw:weight_decay=0.2 --grad-clip 1.5 "
        "--warm-up 1 --cosine-until 9 --every 2 "
        f"--n-sequences 4 --checkpoint-every 1 --seed 7 --out {tmp_path / 'run'} "
        "--hook bias-attention:factor=2.5,layers=[1] freeze-weights:where=mlp"
    )
    assert plateau(words) == 0
    recipe = Run(tmp_path / "run").recipe.to_dict()
    assert {name: recipe["task"][name] for name in ("name", "n", "k", "p")} == {
        "name": "moving-window-sum",
        "n": 5,
        "k": 3,
        "p": 11,
    }
    assert recipe["model"] == {
        "attention": "softmax",
        "n_layers": 2,
        "n_heads": 2,
        "d_model": 16,
        "d_mlp": None,
        "architecture": "decoder",
        "init_std": 0.02,
        "mask_embedding": "trained",
        "init": [],
        "dtype": "float64",
    }
    assert recipe["training"]["optimizer"]["weight_decay"] == 0.2
    assert {**recipe["training"], "optimizer": recipe["training"]["optimizer"]["name"]} == {
        "steps": 2,
        "batch_size": 3,
        "optimizer": "adamw",
        "grad_clip": 1.5,
        "schedule": {"warm_up": 1, "cosine_until": 9},
        "precision": "float32",
    }
    assert recipe["measuring"] == {"every": 2, "n_sequences": 4, "cosine_at": []}
    assert (recipe["checkpoint_every"], recipe["seed"]) == (1, 7)
    bias, freeze = recipe["interventions"]
    assert (bias["name"], bias["factor"], bias["layers"]) == ("bias-attention", 2.5, [1])
    assert (freeze["name"], freeze["where"]) == ("freeze-weights", "mlp")


@pytest.mark.usefixtures("undrawn")
def test_training_on_equations_that_are_split_by_triples(tmp_path):
    words = "--p 7 --operations divide multiply --split triples --steps 1"
    for task, model in (("modular-arithmetic", "--d-model 16"), ("one-hot-arithmetic", "--d-mlp 8")):
        out = tmp_path / task
        assert plateau(f"train {task} {words} {model} --out {out}") == 0
        recipe = Run(out).recipe
        assert recipe.task.split == "triples"
        assert plateau(f"train {out / 'recipe.json'} --split equations --out {tmp_path / 'other'}-{task}") == 0
        other = Run(tmp_path / f"other-{task}").recipe
        assert other.task == dataclasses.replace(recipe.task, split="equations")


def test_training_tells_what_came_out(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    out = Path("run")  # a long name would leave the values no room on a line
    assert plateau(f"train moving-window-sum {TINY} --steps 4 --out {out}") == 0
    told = capsys.readouterr()
    for label, value in Run(out).summary.rows():
        assert label in told.out
        assert value in told.out
    assert told.out.rstrip().endswith(f"Report: {out / 'report' / 'index.html'}")
    assert (out / "report" / "index.html").stat().st_size > 0
    assert "step 4/4  loss " in told.err
    assert "0 s left" in told.err


def test_the_same_command_again_tells_the_same(run, capsys):
    rows = (run / "metrics.jsonl").read_text()
    assert plateau(f"train moving-window-sum {TINY} --steps 6 --out {run}") == 0
    assert "Plateau level" in capsys.readouterr().out
    assert (run / "metrics.jsonl").read_text() == rows


@pytest.mark.usefixtures("undrawn")
def test_training_from_a_recipe_file_overridden_by_options(run, tmp_path, capsys):
    out = tmp_path / "again"
    assert plateau(f"train {run / 'recipe.json'} --seed 5 --hook fix-attention --out {out} --json") == 0
    recipe, parent = Run(out).recipe, Run(run).recipe
    assert (recipe.task, recipe.model, recipe.training) == (parent.task, parent.model, parent.training)
    assert recipe.seed == 5
    assert plateau(f"train {out / 'recipe.json'} --seed 6 --out {tmp_path / 'third'} --json") == 0
    capsys.readouterr()
    assert Run(tmp_path / "third").recipe.to_dict()["interventions"] == recipe.to_dict()["interventions"]


@pytest.mark.usefixtures("undrawn")
def test_json_is_all_there_is_on_stdout(run, capsys):
    assert plateau(f"train moving-window-sum {TINY} --steps 6 --out {run} --json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["run"] == str(run)
    assert told["steps"] == 6
    assert told["report"] == str(run / "report" / "index.html")
    assert told["summary"]["final_loss"] == Run(run).summary.final_loss


@pytest.mark.usefixtures("undrawn")
def test_the_recipe_of_a_fork_is_not_trained_from_the_beginning(run, tmp_path, capsys):
    fork = tmp_path / "fork"
    Run(run).fork(at=3, interventions=[FixAttention()], out=fork)
    assert plateau(f"train {fork / 'recipe.json'} --out {tmp_path / 'again'}") == 2
    said = "training begins at step 0, and this is the recipe of a fork: see `plateau fork RUN --at 3`"
    assert f"{fork / 'recipe.json'}: {said}" in capsys.readouterr().err
    assert not (tmp_path / "again").exists()


def test_forking_and_comparing(run, tmp_path, capsys):
    fork, copy = tmp_path / "fork", tmp_path / "copy"
    assert plateau(f"fork {run} --at 3 --hook fix-attention --out {fork}") == 0
    assert plateau(f"fork {run} --at 3 --out {copy}") == 0
    assert [type(x).__name__ for x in Run(fork).recipe.interventions] == ["FixAttention"]
    losses, forked, copied = (list(Run(folder).metrics["loss"]) for folder in (run, fork, copy))
    assert copied == losses
    assert forked[:3] == losses[:3]
    assert forked[3:] != losses[3:]

    capsys.readouterr()
    assert plateau(f"compare {run} {fork} --json") == 0
    told = json.loads(capsys.readouterr().out)
    table = told["runs"]
    assert told["report"] == str(run / "report" / "compared" / "index.html")
    assert (run / "report" / "compared" / "loss.png").exists()
    assert [row["run"] for row in table] == [str(run), str(fork)]
    assert table[1]["peak_cosine_change"] == table[1]["peak_cosine"] - table[0]["peak_cosine"]
    assert [row["peak_cosine"] for row in table] == [Run(folder).summary.peak_cosine for folder in (run, fork)]

    assert plateau(f"compare {run} {fork} --out {tmp_path / 'page'}") == 0
    told = capsys.readouterr().out
    assert (tmp_path / "page" / "index.html").exists()
    assert f"{table[1]['peak_cosine']:.4f} ({table[1]['peak_cosine_change']:+.4f})" in told
    assert "steps to 99 %" in told
    assert "plateau level" in told
    assert "not reached" in told
    assert "different tasks" not in told


@pytest.mark.usefixtures("undrawn")
def test_what_was_never_measured_is_not_called_not_reached(run, tmp_path, capsys):
    numbers, finite = tmp_path / "numbers", tmp_path / "finite"
    small = "--steps 4 --d-model 16 --n-heads 2 --batch-size 4"
    assert plateau(f"train matrix-completion --shapes 3 3 {small} --out {numbers}") == 0
    assert plateau(f"train modular-arithmetic --p 5 {small} --out {finite}") == 0
    capsys.readouterr()
    assert plateau(f"compare {run} {numbers} {finite} --out {tmp_path / 'page'}") == 0
    told = {" ".join(line.split()) for line in capsys.readouterr().out.splitlines()}
    for line in (
        "steps to 99 % not reached not measured not reached",
        "samples to 99 % not reached not measured not reached",
        "validation 95 step not measured not measured not reached",
        "grokking delay not measured not measured not reached",
        "peak cosine",
    ):
        assert any(each.startswith(line) for each in told), line


@pytest.mark.usefixtures("undrawn")
def test_runs_of_different_tasks_are_compared_with_a_word(run, tmp_path, capsys):
    other = tmp_path / "other"
    assert plateau(f"train prefix-sum {TINY} --steps 6 --out {other}") == 0
    capsys.readouterr()
    assert plateau(f"compare {run} {other} --out {tmp_path / 'page'}") == 0
    told = " ".join(capsys.readouterr().out.split())
    assert (
        f"The runs are of different tasks, so what losses and levels mean differs, too. {run}: MovingWindowSum(" in told
    )
    assert f"; {other}: PrefixSum(n=4" in told


@pytest.mark.usefixtures("undrawn")
def test_tasks_that_differ_in_one_field_are_told_with_it(run, tmp_path, capsys):
    other = tmp_path / "other"
    assert plateau(f"train moving-window-sum {TINY} --edge partial --steps 6 --out {other}") == 0
    capsys.readouterr()
    assert plateau(f"compare {run} {other} --out {tmp_path / 'page'}") == 0
    told = " ".join(capsys.readouterr().out.split())
    tasks = {folder: str(Run(folder).recipe.task) for folder in (run, other)}
    assert tasks[run] != tasks[other]
    assert f"{run}: {tasks[run]}; {other}: {tasks[other]}" in told


@pytest.mark.usefixtures("undrawn")
def test_reports_are_written_again_one_a_run_or_together(run, tmp_path, capsys):
    page = run / "report" / "index.html"
    page.unlink()
    assert plateau(f"report {run}") == 0
    assert capsys.readouterr().out.split() == [str(page)]
    assert page.exists()
    assert plateau(f"report {run} {run} --out {tmp_path} --json") == 0
    assert json.loads(capsys.readouterr().out) == [str(tmp_path / "index.html")]


INF = math.inf
SHEET = {
    "concatenated-windows": (1, 5000, INF),
    "copy": (1, 100, INF),
    "histogram": (2, 5000, 1.0),
    "mixture": (1, 1000, INF),
    "moving-window-difference": (1, 1000, INF),
    "moving-window-product": (1, 1000, INF),
    "moving-window-quotient": (1, 1000, INF),
    "moving-window-sum": (1, 400, INF),
    "multi-digit-addition": (1, 10_000, INF),
    "permutation": (2, 2000, INF),
    "prefix-sum": (1, 1000, INF),
    "repeat": (1, 200, INF),
    "reverse": (1, 100, INF),
}
"""The papers' layers, steps and clipping."""


@pytest.mark.parametrize("name", SHEET)
def test_a_task_is_trained_as_in_its_paper(name):
    recipe, _ = read_training(name, ["--out", "somewhere"])
    assert (recipe.model.n_layers, recipe.steps, recipe.training.grad_clip) == SHEET[name]
    assert (recipe.model.d_model, recipe.model.n_heads, recipe.model.attention) == (256, 1, "linear")
    assert recipe.optimizer == Adam(learning_rate=1e-4)


OF_ONE_WIDTH = ("one-hot-arithmetic",)
"""Tasks whose model is as wide as their features are many."""
TWO_STEPS = "--steps 2 --every 1 --batch-size 6 --checkpoint-every 1 --json"


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("name", plugins("tasks"))
def test_every_task_can_be_trained(name, tmp_path, capsys):
    width = "" if name in OF_ONE_WIDTH else "--d-model 16"
    assert plateau(f"train {name} {width} {TWO_STEPS} --out {tmp_path / 'run'}") == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 2
    metrics = Run(tmp_path / "run").metrics
    assert list(metrics["step"]) == [0, 1]
    assert metrics["loss"].between(0, 10).all()


SMALL_TEXT = "train text --n 8 --n-layers 1 --n-heads 1 --d-model 16 --steps 2 --every 1 --batch-size 4"


@pytest.fixture
def fable(tmp_path):
    """A corpus by a user, with a blank in its name."""
    lines = [f"The {animal} saw {number} old ships on the sea." for number in range(40) for animal in ("fox", "crow")]
    file = tmp_path / "a fable.txt"
    file.write_text("\n".join(lines) + "\n")
    return file


@pytest.mark.usefixtures("undrawn")
def test_a_language_model_is_trained_on_a_corpus_of_ones_own(fable, tmp_path, capsys):
    words = [*SMALL_TEXT.split(), "--corpus", str(fable), "--vocabulary", "300", "--out", str(tmp_path / "run")]
    assert plateau(words) == 0
    told = capsys.readouterr().out
    assert re.search(r"^ *Steps to 50 % accuracy +not measured *$", told, flags=re.MULTILINE)
    assert re.search(r"^ *Attention progress, start to end +not measured *$", told, flags=re.MULTILINE)
    run = Run(tmp_path / "run")
    assert isinstance(run.task, Text)
    assert (run.task.corpus, run.task.d_vocab) == (str(fable), 300)
    assert "The fox saw " in run.task.tokenizer.decode(run.task.train_tokens.tolist())
    assert run.metrics["loss"].between(5, 7).all()  # ln 300 is 5.7
    assert run.metrics["validation_loss"].notna().all()
    assert (tmp_path / "run" / "report" / "index.html").is_file()
    assert plateau([*words, "--json"]) == 0  # the same command finds it done
    assert json.loads(capsys.readouterr().out)["steps"] == 2
    fable.write_text("Another text. " * 400)
    assert plateau(words) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"plateau: {tmp_path / 'run'} holds the run of another recipe (task.sha256 is '")
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (None, "there is no corpus '@file': give a text file, or one of general-questions, tiny-shakespeare; see "),
        ("folder", "the corpus '@file' is a folder: give a text file, or one of general-questions, tiny-shakespeare; "),
        (b"", "the corpus '@file' is empty: give a text file, or one of "),
        (b"Once upon a time.", "@file is too short for n=8: of its two parts one has "),
        (bytes(range(256)) * 400, "@file is no text in UTF-8"),
    ],
)
def test_what_is_no_corpus_is_told_in_one_line_and_nothing_is_written(content, line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if content == "folder":
        Path("mine.txt").mkdir()
    elif content is not None:
        Path("mine.txt").write_bytes(content)
    assert plateau(f"{SMALL_TEXT} --corpus mine.txt --out run") == 2
    told = capsys.readouterr()
    assert (told.out, told.err.count("\n")) == ("", 1)
    assert told.err.startswith("plateau: " + line.replace("@file", "mine.txt"))
    assert not Path("run").exists()


@pytest.mark.usefixtures("undrawn")
def test_a_mixture_is_trained_and_reported_by_task(tmp_path):
    tasks = "moving-window-sum:n=4,p=7 histogram:n=4,high=3 copy:n=4"
    assert plateau(f"train mixture --tasks {tasks} --d-model 16 {TWO_STEPS} --out {tmp_path / 'run'}") == 0
    run = Run(tmp_path / "run")
    assert (run.recipe.model.n_layers, run.recipe.training.grad_clip) == (2, 1.0)
    groups = ("moving_window_sum", "histogram", "copy")
    assert {f"{name}_{group}" for name in ("loss", "accuracy", "cosine") for group in groups} <= {*run.metrics}
    assert (tmp_path / "run" / "report" / "index.html").stat().st_size > 0


@pytest.mark.parametrize("kind", ["tasks", "hooks", "optimizers"])
def test_lists(kind, capsys):
    assert plateau(f"list {kind} --json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows == listed_plugins(kind)
    assert plateau(f"list {kind}") == 0
    told = capsys.readouterr().out
    assert all(row["name"] in told for row in rows)


def test_progress_without_a_terminal_is_a_line_now_and_then(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(console, "PLAIN_SECONDS", 0.0)
    monkeypatch.setattr(console, "DRAWN_SECONDS", 0.0)
    assert plateau(f"train {run / 'recipe.json'} --every 2 --seed 1 --out {tmp_path / 'run'} --json") == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[2] for line in lines] == [f"{step}/6" for step in range(1, 7)]
    accuracies = [line.split("accuracy ")[1].split()[0] for line in lines]
    assert accuracies[0] == accuracies[1]  # measured at every second step, told at each
    assert "-" not in accuracies


def test_interrupting_says_how_to_go_on(run, tmp_path, monkeypatch, capsys):
    train = Run.train

    def interrupted(self, *, device):
        for step in train(self, device=device):
            yield step
            if step.step == 2:
                raise KeyboardInterrupt

    monkeypatch.setattr(Run, "train", interrupted)
    words = f"train {run / 'recipe.json'} --seed 2 --out {tmp_path / 'a run'}".split(" ", maxsplit=5)
    assert plateau(words) == 130
    assert capsys.readouterr().err == (
        "plateau: stopped at step 3; the steps since checkpoint 2 will be made again; "
        f"go on with: plateau train {run / 'recipe.json'} --seed 2 --out '{tmp_path / 'a run'}'\n"
    )
    monkeypatch.undo()
    assert plateau(words) == 0
    assert Run(tmp_path / "a run").finished


@pytest.mark.filterwarnings("always")
def test_a_warning_of_ours_is_told_in_one_line(tmp_path, capsys):
    hook = "when:intervention=fix-attention,since=acuracy > 2"
    words = f"train moving-window-sum {TINY} --steps 4 --out {tmp_path / 'run'}".split()
    assert plateau([*words, "--hook", hook]) == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "acuracy" in line]
    assert line.startswith("plateau: warning: When(")
    assert " waited for acuracy, which nobody measured; measured were accuracy, " in line


def test_a_warning_of_others_is_shown_as_python_shows_it(capsys):
    with pytest.warns(UserWarning, match="not ours"), console.telling_warnings():
        warnings.warn("not ours", UserWarning, stacklevel=1)
    assert capsys.readouterr().err == ""


def test_ctrl_c_ends_the_process_with_130(tmp_path):
    words = command(f"train moving-window-sum {TINY} --steps 100000 --out {tmp_path / 'run'}")
    metrics = tmp_path / "run" / "metrics.jsonl"
    end = time.monotonic() + 60
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            while not (metrics.exists() and metrics.stat().st_size):
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < end
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130, err
    assert out == ""
    assert err.splitlines()[-1].startswith("plateau: stopped at step ")
    assert "Traceback" not in err


def test_a_mistake_ends_the_process_with_2():
    done = subprocess.run(command("nonsense"), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("plateau: no verb is called 'nonsense'")


def test_development_mode_shows_where_a_mistake_was_found():
    words = [sys.executable, "-X", "dev", *command("nonsense")[1:]]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_a_reader_that_has_gone_is_no_error():
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as closed:
        done = subprocess.run(command("--help"), stdout=closed, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "words",
    [
        ["--hook", "freeze-weights:where={}"],
        ["--hook", "ablate-activation:at={}"],
        ["--hook", "ablate-activation:at=hook_embed,by={}"],
        ["--hook", "capture:out=x,names=[{}]"],
        ["--hook", "capture:out=x,names=[hook_embed],label={}/"],
        ["--hook", "when:intervention=fix-attention,condition={}"],
        ["--hook", "patch-attention:source={}@"],
        ["--hook", "{}"],
        ["--cosine-at", "{}"],
        ["--cosine-at", "*{}"],
        ["--edge", "{}"],
        ["--optimizer", "{}"],
        *([option, str(10**30)] for option in ("--p", "--n", "--k", "--high", "--low", "--steps", "--d-model")),
    ],
    ids=lambda words: "".join(words)[:40],
)
def test_what_is_very_long_is_cut_in_the_one_line_that_refuses_it(words, tmp_path, capsys):
    given = [word.format("x" * 5000) for word in words]
    assert main(["train", "moving-window-sum", *given, "--out", str(tmp_path / "run")]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert len(told) < 700
    assert not (tmp_path / "run").exists()
