"""The benchmarks measure what they say; how fast the suite is, only ``make bench`` knows."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

import psutil
import pytest
import torch
from benchmarks import __main__ as benchmarks
from benchmarks import continuing, plain_gpt, side_by_side
from benchmarks.harness import Lacking, Result, Row, anew, peak_memory, ratio, report, wall_time
from torch.utils.flop_counter import FlopCounterMode
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from plateau_interp.models import toy_model
from plateau_interp.tasks import Histogram
from plateau_interp.training.loop import train
from plateau_interp.training.threads import threads_of_torch


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


def test_the_plain_gpt_makes_the_steps_that_we_make_elsewhere():
    ours = train(toy_model(plain_gpt.TASK), plain_gpt.TASK, steps=3, batch_size=2)
    with plain_gpt.in_a_process_of_its_own(2) as plain_step:
        assert [plain_step() for _ in range(3)] == pytest.approx([step.loss for step in ours], rel=1e-4)


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
    made = iter([Result(3.0, "c"), Result(1.0, "a"), Result(2.0, "b", " s", (0.0, 9.0))])
    assert anew(lambda: next(made), goes=3) == Result(2.0, "b; 3 goes", " s", (1.0, 3.0))


@pytest.mark.slow
def test_runs_side_by_side_train_what_they_train_in_turn():
    with side_by_side.both(n_steps=2) as (workers, threads):
        assert workers() == pytest.approx(threads(), rel=1e-4)


def test_a_busy_neighbour_is_busy_and_goes_with_the_context():
    before = set(psutil.Process().children())
    with side_by_side.busy_neighbour():
        (neighbour,) = set(psutil.Process().children()) - before
        assert os.getsid(neighbour.pid) != os.getsid(0)
        start = sum(neighbour.cpu_times()[:2])
        end = time.monotonic() + 30
        while sum(neighbour.cpu_times()[:2]) < start + 0.2:
            assert time.monotonic() < end
            time.sleep(0.05)
    assert not neighbour.is_running()


def test_mixed_precision_is_measured_on_one_thread_where_a_processor_has_it(monkeypatch):
    def trial(side, baseline):
        side(), baseline()
        return Result(torch.get_num_threads(), "")

    monkeypatch.setattr(benchmarks, "ratio", trial)
    monkeypatch.setattr(benchmarks, "BATCH", 2)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    with threads_of_torch(2):
        assert benchmarks.mixed_precision().value == 1
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    with pytest.raises(Lacking, match="AMX"):
        benchmarks.mixed_precision()


def test_without_a_browser_no_page_is_opened(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Lacking, match="chromium"):
        benchmarks.opening_a_page()


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
    assert result.quartiles[0] <= result.value <= result.quartiles[1]
    assert calls[4:] == ["slow", "fast", "fast", "slow"] * 2


def test_a_side_that_does_it_for_each_of_many_is_divided_by_their_number():
    result = ratio(lambda: time.sleep(0.06), lambda: time.sleep(0.02), rounds=3, for_each=3)
    assert 0.5 < result.value < 1.5
    assert " / 3 times 2" in result.details


def test_wall_time_is_in_seconds():
    result = wall_time([sys.executable, "-c", "import time; time.sleep(0.2)"], rounds=3)
    assert 0.2 < result.quartiles[0] <= result.value < 2.0


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


def test_each_row_is_printed_as_soon_as_it_is_measured(capsys):
    def later():
        printed.append(capsys.readouterr().out)
        return Result(3.0, "")

    printed = []
    report([Row("a step", 2.0, lambda: Result(1.25, "ten rounds", " s", (1.2, 1.3))), Row("later", 1.0, later)])
    head, row, details = printed[0].splitlines()
    assert row.split() == ["1.25", "s", "(1.2", "to", "1.3)", "<=", "2", "s", "ok", "a", "step"]
    assert row.index("a step") == details.index("ten rounds") == head.index("what")
    row, end = capsys.readouterr().out.splitlines()
    assert row.split() == ["3", "<=", "1", "BROKEN", "later"]
    assert end.startswith("1 of 2 bounds hold; ")


def test_a_stopped_benchmark_has_told_what_it_had_measured():
    rows = "[Row('quick', 1, lambda: Result(0.5, '')), Row('endless', 1, lambda: time.sleep(60))]"
    code = (
        "import sys, time; from benchmarks import __main__ as benchmarks; from benchmarks.harness import Result, Row; "
        f"benchmarks.ROWS = {rows}; sys.exit(benchmarks.main([]))"
    )
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUNBUFFERED": ""}
    pipe, words = subprocess.PIPE, [sys.executable, "-c", code]
    with subprocess.Popen(words, stdout=pipe, stderr=pipe, text=True, env=paths) as process:
        try:
            assert any("quick" in line for line in process.stdout)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, err) == (130, "stopped\n")


def test_a_command_that_fails_breaks_its_bound(capsys):
    failing = [sys.executable, "-c", "raise SystemExit('no such verb')"]
    assert not report([Row("fails", 1e9, lambda: wall_time(failing)), Row("fine", 1.0, lambda: Result(1.0, ""))])
    out = capsys.readouterr().out
    assert "no such verb" in out
    assert "fine" in out


def test_a_row_that_needs_what_a_machine_lacks_is_told_and_breaks_nothing(capsys):
    def needy():
        raise Lacking("no abacus")

    assert report([Row("needy", 1.0, needy), Row("fine", 1.0, lambda: Result(1.0, ""))])
    out = capsys.readouterr().out
    assert "not measured: no abacus" in out
    assert "1 of 2 bounds hold, 1 not measured; " in out.splitlines()[-1]


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
