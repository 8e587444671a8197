"""The benchmarks measure what they say; how fast the suite is, only ``make bench`` knows."""

import sys
import time
from dataclasses import dataclass

import pytest
import torch
from benchmarks import __main__ as benchmarks
from benchmarks import continuing, side_by_side
from benchmarks.harness import Result, Row, anew, peak_memory, ratio, report, wall_time
from torch.utils.flop_counter import FlopCounterMode
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from plateau_interp.models import toy_model
from plateau_interp.tasks import Histogram


def test_bare_matmuls_do_the_arithmetic_of_a_training_step():
    task = benchmarks.TASK
    batch = task.sample(benchmarks.BATCH, generator=torch.Generator().manual_seed(0))
    model = toy_model(task)
    multiply = benchmarks.bare_matmuls()
    with FlopCounterMode(display=False) as whole:
        task.loss(model(batch.inputs), batch).backward()
    with FlopCounterMode(display=False) as bare:
        multiply()
    assert bare.get_total_flops() == whole.get_total_flops()


def test_both_ways_to_continue_a_hundred_prompts_give_the_same_states():
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    language = GPTNeoXForCausalLM(GPTNeoXConfig(vocab_size=50304, eos_token_id=0, **sizes)).eval()
    ours = continuing.batched(language, 5)()
    assert ours.mask.all()
    assert not ours.prompt_mask.all()
    torch.testing.assert_close(ours.states, torch.stack(continuing.published(language, 5)()), atol=1e-4, rtol=1e-4)
    assert len(continuing.prompts()) == 100


def test_the_language_model_of_the_benchmark_has_the_size_it_says():
    assert sum(parameter.numel() for parameter in continuing.language_model().parameters()) == 70_426_624


def test_goes_are_made_anew_and_the_median_counts():
    made = iter([Result(3.0, "c"), Result(1.0, "a"), Result(2.0, "b", " s")])
    assert anew(lambda: next(made), goes=3) == Result(2.0, "b; 3 goes, 1 to 3", " s")


@pytest.mark.slow
def test_runs_side_by_side_train_what_they_train_in_turn():
    with side_by_side.both(n_steps=2) as (workers, threads):
        assert workers() == pytest.approx(threads(), rel=1e-4)


def test_the_slowest_task_is_found_and_named(monkeypatch):
    @dataclass(frozen=True)
    class Sleepy(Histogram):
        name = "sleepy"

        def sample(self, n, *, generator):
            time.sleep(0.05)
            return super().sample(n, generator=generator)

    monkeypatch.setattr(benchmarks.tasks, "Histogram", Sleepy)
    monkeypatch.setattr(benchmarks, "training_step", lambda: lambda: time.sleep(0.01))
    result = benchmarks.slowest_sampling()
    assert result.details.startswith("sleepy: ")
    assert 3 < result.value < 15


def test_ratio_compares_the_two_sides():
    calls = []

    def slow():
        calls.append("slow")
        time.sleep(0.03)

    def fast():
        calls.append("fast")
        time.sleep(0.01)

    result = ratio(slow, fast, rounds=4)
    assert 2.0 < result.value < 3.5
    assert calls[4:] == ["slow", "fast", "fast", "slow"] * 2


def test_wall_time_is_in_seconds():
    result = wall_time([sys.executable, "-c", "import time; time.sleep(0.2)"], rounds=3)
    assert 0.2 < result.value < 2.0


def test_peak_memory_is_the_command_s_own():
    """Not that of this process, which has torch loaded; in GiB."""
    assert peak_memory([sys.executable, "-c", "pass"]).value < 0.1
    large = peak_memory([sys.executable, "-c", "b'x' * (300 * 2**20)"]).value
    assert 300 / 1024 < large < 0.4


@pytest.mark.parametrize(("value", "holds"), [(1.5, True), (1.51, False)])
def test_report_says_whether_the_bounds_hold(capsys, value, holds):
    rows = [Row("fine", 2.0, lambda: Result(1.0, "")), Row("close", 1.5, lambda: Result(value, "because", " s"))]
    assert report(rows) is holds
    out = capsys.readouterr().out
    assert ("BROKEN" in out) is not holds
    assert "because" in out


def test_a_command_that_fails_breaks_its_bound(capsys):
    failing = [sys.executable, "-c", "raise SystemExit('no such verb')"]
    assert not report([Row("fails", 1e9, lambda: wall_time(failing)), Row("fine", 1.0, lambda: Result(1.0, ""))])
    out = capsys.readouterr().out
    assert "no such verb" in out
    assert "fine" in out


def test_rows_are_chosen_by_words(monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(benchmarks, "report", lambda rows: seen.append([row.what for row in rows]) or True)
    assert benchmarks.main(["--help", "torch"]) == 0
    assert seen == [["plateau --help", "import plateau_interp loads torch"]]
    monkeypatch.setattr(benchmarks, "report", lambda rows: False)
    assert benchmarks.main([]) == 1
    with pytest.raises(SystemExit, match="no row contains nonsense"):
        benchmarks.main(["nonsense"])


def test_the_circuit_of_the_benchmark_is_that_of_all_edges(monkeypatch):
    monkeypatch.setattr(benchmarks, "BATCH", 2)
    found = benchmarks.circuit_of_a_toy_model()()
    assert (found.scoring, found.n_edges, found.n_sequences) == ("attributed", 13, 2)
