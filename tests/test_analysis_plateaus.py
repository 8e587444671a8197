import dataclasses
import tracemalloc
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typecheck import unchecked

from plateau_interp.analysis.plateaus import Summary, comparable, compare, summarise
from plateau_interp.tasks import ModularArithmetic, MovingWindowSum
from plateau_interp.types import Levels

TASK = MovingWindowSum()


def history(drop: int = 200, *, noise: float = 0.0, steps: int = 400) -> pd.DataFrame:
    """Made-up metrics: a fast start, a shelf with y_1 right from step 80, a sudden drop, a slow tail."""
    step = np.arange(steps)
    shelf = 2.63 + 0.26 * np.exp(-step / 6) + 0.09 / (1 + np.exp((step - 80) / 3))
    loss = 1.30 + (shelf - 1.30) / (1 + np.exp((step - drop) / 4))
    loss = loss + noise * np.random.default_rng(0).standard_normal(steps)
    solved = 1 / (1 + np.exp(-(step - drop) / 3))
    table = pd.DataFrame({"step": step, "loss": loss, "accuracy": 0.06 + 0.94 * solved})
    table["accuracy_0"] = np.where(step < 80, 0.06, 1.0)
    for index in range(1, 16):
        table[f"accuracy_{index}"] = 0.06 + 0.94 * solved
    table["cosine"] = 0.96 * np.exp(-(((step - 120) / 60) ** 2))
    table["repetition"] = 0.8 * np.exp(-(((step - 100) / 40) ** 2))
    table["repetition_truth"] = 0.0583
    table["attention_progress"] = np.linspace(0.08, 0.78, steps)
    return table


def summary_of(table: pd.DataFrame) -> Summary:
    return summarise(table, task=TASK, batch_size=256)


@pytest.mark.parametrize("noise", [0.0, 0.004])
@pytest.mark.parametrize("drop", [150, 250])
def test_plateau_and_drop_are_found(drop: int, noise: float) -> None:
    summary = summary_of(history(drop, noise=noise))
    assert summary.level == pytest.approx(2.63, abs=0.01)
    assert summary.level_expected == TASK.levels.plateau
    assert 70 <= summary.start <= 90
    assert drop - 25 <= summary.end < drop
    assert summary.drop_step == pytest.approx(drop, abs=2)
    assert summary.partial_solution == (0,)
    assert summary.first_answer_step == 80
    assert summary.peak_cosine_step == 120
    assert summary.peak_repetition_step == 100
    assert (summary.attention_progress_start, summary.attention_progress_end) == (0.08, 0.78)
    assert summary.final_loss == pytest.approx(1.30, abs=0.01)


def test_the_first_answer_is_the_first_that_is_ever_labelled() -> None:
    table = history(150)
    summary = summary_of(table.assign(accuracy_0=np.nan, accuracy_1=table["accuracy_0"]))
    assert (summary.first_answer_step, summary.partial_solution) == (80, (1,))


def test_what_is_set_beside_other_runs_is_the_plateau_if_there_is_one() -> None:
    summary = summary_of(history(150))
    told = comparable(summary)
    assert (told["plateau_level"], told["plateau_start"], told["plateau_end"]) == (
        summary.level,
        summary.start,
        summary.end,
    )
    assert told["drop_step"] == summary.drop_step
    falling = summary_of(pd.DataFrame({"step": range(200), "loss": np.linspace(2.9, 0.1, 200)}))
    assert not falling.has_plateau
    assert {comparable(falling)[f"plateau_{part}"] for part in ("level", "start", "end")} == {None}


def test_a_constant_loss_is_its_own_plateau() -> None:
    summary = summary_of(pd.DataFrame({"step": range(50), "loss": 2.9}))
    assert (summary.level, summary.drop_step) == (2.9, None)


@pytest.mark.parametrize(("level", "is_plateau"), [(8.0, True), (8.01, False)])
def test_nothing_is_a_plateau_more_than_three_falls_above_the_first_loss(level: float, is_plateau: bool) -> None:
    table = pd.DataFrame({"step": range(81), "loss": [2.0] + [level] * 60 + [0.0] * 20})
    summary = summarise(table, task=ModularArithmetic(), batch_size=8)  # the floor is 0: it falls by 2
    assert (summary.level, summary.drop_step) == (level if is_plateau else None, 61)


@pytest.mark.parametrize("slope", [0.0, 1e-3])
def test_a_loss_that_never_left_its_initial_level_came_to_no_plateau(slope: float) -> None:
    flat = summary_of(pd.DataFrame({"step": range(20), "loss": 2.9 - slope * np.arange(20)}))
    rows = dict(flat.rows())
    assert not flat.left_initial_level
    assert not flat.has_plateau
    assert rows["Plateau level (nats)"].startswith("none, it never left the initial 2.")
    assert rows["Plateau from step to step"] == "none"
    both = compare({"flat": flat, "dropped": summary_of(history())})
    assert np.isnan(both["plateau_level"][0])
    assert np.isnan(both["plateau_end"][0])
    assert both["plateau_level"][1] == pytest.approx(2.63, abs=0.01)


@pytest.mark.parametrize(
    "loss",
    [
        [2.9] * 40 + [2.63] * 60,  # it came down
        [2.9] * 40 + [1.3] * 60,  # it dropped
        [TASK.levels.plateau] * 100,  # it began there
        [2.9, 2.1, 1.3],  # no level at all
    ],
)
def test_a_loss_that_moved_or_began_on_the_plateau_is_not_said_to_have_stayed(loss: list[float]) -> None:
    assert summary_of(pd.DataFrame({"step": range(len(loss)), "loss": loss})).left_initial_level


def test_steps_and_samples_to_accuracies_are_the_first_measured_ones() -> None:
    table = history()
    table["accuracy"] = np.where(table.step < 205, 0.4, np.where(table.step < 210, 0.96, 1.0))
    summary = summary_of(table)
    assert summary.steps_to == {50: 205, 95: 205, 99: 210}
    assert summary.samples_to == {50: 205 * 256, 95: 205 * 256, 99: 210 * 256}


def test_sparse_measuring_gives_training_steps() -> None:
    summary = summary_of(history().iloc[::10])
    assert summary.drop_step == pytest.approx(200, abs=10)
    assert summary.drop_step is not None
    assert summary.drop_step % 10 == 0


def test_a_run_that_is_still_on_the_plateau_has_no_drop() -> None:
    summary = summary_of(history().iloc[:160])
    assert summary.drop_step is None
    assert summary.steps_to == {50: None, 95: None, 99: None}
    assert summary.level == pytest.approx(2.63, abs=0.01)
    assert summary.end == 159
    assert dict(summary.rows())["Drop step"] == "not reached"


def test_only_the_loss_is_needed() -> None:
    summary = summary_of(history()[["step", "loss"]])
    assert summary.drop_step == pytest.approx(200, abs=2)
    assert summary.peak_cosine is None
    assert summary.partial_solution == ()
    assert dict(summary.rows())["Peak cosine"] == "not measured"


def test_no_rows_is_an_error() -> None:
    with pytest.raises(ValueError, match="no step was measured yet"):
        summary_of(pd.DataFrame())


def test_rows_name_every_number_with_its_closed_form() -> None:
    rows = dict(summary_of(history()).rows())
    assert rows["Plateau level (nats)"].endswith("(closed form 2.6277)")
    assert rows["Final loss (nats)"].endswith("; floor 1.2997)")
    assert rows["Answers right on the plateau"] == "y_1"
    assert "true answers 0.058" in rows["Peak repetition"]


def test_compare_counts_from_the_first_run() -> None:
    table = compare({"base": summary_of(history(200)), "biased": summary_of(history(150))})
    assert list(table["run"]) == ["base", "biased"]
    assert list(table["drop_step_change"]) == pytest.approx([0, -50], abs=2)
    assert table["samples_to_99_change"][1] == pytest.approx(-50 * 256, abs=2 * 256)


def test_compare_keeps_what_was_not_reached_empty() -> None:
    table = compare({"base": summary_of(history(200)), "cut": summary_of(history(200).iloc[:100])})
    assert np.isnan(table["drop_step"][1])


def test_compare_needs_two_runs() -> None:
    with pytest.raises(ValueError, match="at least two runs; got 1"):
        compare({"base": summary_of(history())})


class Unknown(MovingWindowSum):
    """A task of whose losses nothing is known."""

    @property
    def levels(self) -> Levels:
        return Levels()


@pytest.mark.parametrize("loss", [[2.9], [2.9, 2.9], [1.0, 1.0, 1.2]])
def test_early_tables_of_a_task_without_closed_forms_are_summarised(loss: list[float]) -> None:
    table = pd.DataFrame({"step": range(len(loss)), "loss": loss, "accuracy_0": 0.0, "accuracy_2": 1.0})
    table["repetition_truth"] = float("nan")
    summary = summarise(table, task=Unknown(), batch_size=1)
    assert summary.drop_step is None
    assert summary.partial_solution == (2,)
    assert summary.repetition_truth is None


def grokking(*, learned: int = 100, understood: int | None = 700, steps: int = 1000) -> pd.DataFrame:
    """Made-up metrics of a run that learns its training set by heart and later generalises."""
    step = np.arange(0, steps, 10)
    table = pd.DataFrame({"step": step, "loss": 4.0 * np.exp(-step / 30)})
    table["accuracy"] = np.where(step < learned, 0.5, 1.0)
    table["validation_loss"] = 5.0
    table["validation_accuracy"] = 0.1
    if understood is not None:
        table.loc[step >= understood, ["validation_loss", "validation_accuracy"]] = 0.02, 0.97
    return table


FINITE = ModularArithmetic(p=7, train_fraction=0.5)


def test_the_grokking_delay_is_from_training_to_validation_accuracy() -> None:
    summary = summarise(grokking(), task=FINITE, batch_size=10)
    assert (summary.train_95_step, summary.validation_95_step, summary.grokking_delay) == (100, 700, 600)
    assert (summary.final_validation_loss, summary.final_validation_accuracy) == (0.02, 0.97)
    rows = dict(summary.rows())
    assert rows["Training set 95 % right from step"] == "100"
    assert rows["Validation set 95 % right from step"] == "700"
    assert rows["Grokking delay"] == "600 steps"
    early = dict(dataclasses.replace(summary, grokking_delay=-50).rows())
    assert early["Grokking delay"] == "none, 50 steps before the training set"
    assert rows["Final validation loss (nats)"] == f"0.0200 at step {summary.last_step}"
    assert rows["Final validation accuracy"] == f"0.970 at step {summary.last_step}"


def test_the_first_crossing_counts_even_if_it_does_not_last() -> None:
    table = grokking()
    table.loc[table.step == 300, "validation_accuracy"] = 0.95
    assert summarise(table, task=FINITE, batch_size=10).validation_95_step == 300


def test_a_run_that_only_learns_by_heart_has_no_delay() -> None:
    summary = summarise(grokking(understood=None), task=FINITE, batch_size=10)
    assert (summary.train_95_step, summary.validation_95_step, summary.grokking_delay) == (100, None, None)
    rows = dict(summary.rows())
    assert (rows["Validation set 95 % right from step"], rows["Grokking delay"]) == ("not reached", "unknown")


def test_without_a_validation_set_nothing_is_said_of_it() -> None:
    summary = summary_of(history())
    assert (summary.train_95_step, summary.validation_95_step, summary.grokking_delay) == (None, None, None)
    assert not any("alidation" in label or "Grokking" in label for label, _ in summary.rows())
    assert not {"grokking_delay", "grokking_delay_change"} & set(compare({"a": summary, "b": summary}).columns)


def test_compare_counts_grokking_from_the_first_run_too() -> None:
    summaries = [summarise(grokking(understood=step), task=FINITE, batch_size=10) for step in (700, 400, None)]
    table = compare(dict(zip(["base", "fast", "never"], summaries, strict=True)))
    assert list(table["grokking_delay"])[:2] == [600, 300]
    assert list(table["validation_95_step_change"])[:2] == [0, -300]
    assert list(table["train_95_step_change"]) == [0, 0, 0]
    assert np.isnan(table["grokking_delay"][2])
    mixed = compare({"finite": summaries[0], "online": summary_of(history())})
    assert np.isnan(mixed["grokking_delay"][1])


def test_samples_of_a_finite_task_count_partial_batches() -> None:
    summary = summarise(grokking(), task=FINITE, batch_size=10)  # 21 equations: 10, 10 and 1
    assert summary.samples_to[95] == 33 * 21 + 10


def falling(loss: np.ndarray) -> Summary:
    return summary_of(pd.DataFrame({"step": range(len(loss)), "loss": loss, "accuracy_0": 1.0}))


T = np.linspace(0, 1, 400)


@pytest.mark.parametrize("noise", [0.0, 0.004])
@pytest.mark.parametrize("loss", [2.9 - 1.6 * T, 1.3 + 1.6 * np.exp(-T / 0.2)], ids=["straight", "exponential"])
def test_a_loss_that_only_falls_has_no_plateau(loss: np.ndarray, noise: float) -> None:
    summary = falling(loss + noise * np.random.default_rng(0).standard_normal(len(loss)))
    assert (summary.level, summary.start, summary.end, summary.length) == (None, None, None, None)
    assert TASK.levels.floor is not None
    half = np.flatnonzero(loss < (loss[0] + TASK.levels.floor) / 2)[0]
    assert summary.drop_step == pytest.approx(half, abs=3)
    assert summary.partial_solution == ()
    rows = dict(summary.rows())
    assert (rows["Plateau level (nats)"], rows["Plateau from step to step"]) == ("none (closed form 2.6277)", "none")


@pytest.mark.parametrize("length", [5, 30, 100])
def test_a_plateau_lasts_for_a_share_of_the_way_to_half_of_the_fall(length: int) -> None:
    loss = np.concatenate([np.linspace(2.9, 2.63, 50), np.full(length, 2.63), np.linspace(2.6, 1.3, 60)])
    summary = falling(loss)
    assert (summary.level is None) == (length == 5)
    if summary.level is not None:
        assert summary.level == pytest.approx(2.63, abs=0.01)
        assert summary.length == pytest.approx(length, abs=12)


@pytest.mark.parametrize("every", [10, 20, 50])
@pytest.mark.parametrize("loss", [[1.79, 0.35, 0.066, 0.026], [1.79, 1.2, 0.35, 0.066, 0.02], [1.79, 0.026]])
def test_a_fall_within_the_first_measured_steps_is_no_plateau(loss: list[float], every: int) -> None:
    loss = loss + [0.01] * 20
    summary = summarise(pd.DataFrame({"step": np.arange(len(loss)) * every, "loss": loss}), task=FINITE, batch_size=256)
    assert (summary.level, summary.start, summary.end) == (None, None, None)
    assert summary.drop_step == next(every * row for row, value in enumerate(loss) if value < 1.79 / 2)


@pytest.mark.parametrize("every", [10, 20, 50])
@pytest.mark.parametrize("before", range(1, 8))
@pytest.mark.parametrize("after", [1, 2, 20])
def test_a_drop_after_few_measured_steps_is_where_it_is(before: int, after: int, every: int) -> None:
    loss = [2.9, *[2.63] * (before - 1), *[1.3] * after]
    summary = summary_of(pd.DataFrame({"step": np.arange(len(loss)) * every, "loss": loss}))
    assert summary.drop_step == before * every
    if before < 3:
        assert summary.level is None
    else:
        assert summary.level == pytest.approx(2.63, abs=0.01)
        assert (summary.start, summary.end) == (every, (before - 1) * every)


def test_a_first_loss_that_alone_is_above_the_floor_is_no_plateau() -> None:
    summary = falling(np.array([2.9] + [1.2990] * 20))
    assert (summary.level, summary.drop_step) == (None, 1)


def test_a_drop_comes_after_a_plateau_above_the_first_loss() -> None:
    summary = falling(np.array([1.5] * 3 + [2.0] * 30 + [1.3] * 30))
    assert (summary.level, summary.drop_step) == (pytest.approx(2.0, abs=0.01), 33)


def test_a_level_is_good_to_a_twelfth_of_a_bandwidth() -> None:
    assert TASK.levels.floor is not None
    for level in np.linspace(2.6, 2.63, 40):
        summary = falling(
            np.array([*np.linspace(2.9, level, 5), *[level] * 40, *np.linspace(level, TASK.levels.floor, 20)])
        )
        assert summary.level == pytest.approx(level, abs=0.01 * (2.9 - TASK.levels.floor) / 12)


def test_a_loss_that_blows_up_is_summarised_in_little_memory() -> None:
    loss = np.array([2.9] * 20 + [*np.linspace(3, 10_000, 600)])
    tracemalloc.start()
    summary = falling(loss)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (summary.level, summary.drop_step) == (pytest.approx(2.9, abs=0.01), None)
    assert most < 100e6


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ([2.9] + [2.0] * 20 + [3.3] * 400, (None, None, 1)),
        ([2.9] + [2.63] * 100 + [2.0] * 80 + [3.3] * 400, (1, 100, None)),
        ([2.9] + [2.63] * 100 + [1.3] * 80 + [3.3] * 400, (1, 100, 101)),
        ([2.9] + [2.63] * 100 + [3.3] * 40 + [1.3] * 80, (1, 100, 141)),
    ],
)
def test_a_plateau_ends_where_the_loss_goes_up_again(loss: list[float], expected: tuple[int | None, ...]) -> None:
    summary = summary_of(pd.DataFrame({"step": range(len(loss)), "loss": loss}))
    assert (summary.start, summary.end, summary.drop_step) == expected


def test_without_answer_positions_they_are_not_measured() -> None:
    rows = dict(summarise(grokking(), task=FINITE, batch_size=10).rows())
    assert rows["First answer right from step"] == rows["Answers right on the plateau"] == "not measured"
    rows = dict(summary_of(history().assign(accuracy_0=0.5)).rows())
    assert (rows["First answer right from step"], rows["Answers right on the plateau"]) == ("not reached", "none")


@pytest.mark.parametrize(("n", "n_last"), [(1, 1), (5, 1), (19, 1), (20, 2), (99, 9), (400, 10)])
def test_the_final_loss_is_of_the_last_tenth_but_of_ten_steps_at_most(n: int, n_last: int) -> None:
    loss = np.linspace(2.9, 1.3, n) ** 2
    assert falling(loss).final_loss == pytest.approx(loss[-n_last:].mean())


def test_final_numbers_say_at_which_step_they_were_measured() -> None:
    """A run that is shorter than its measuring interval has them of step 0."""
    table = pd.DataFrame({"step": [0, 25], "loss": [2.9, 1.5], "accuracy": [0.1, 0.25]})
    for n_rows, loss, accuracy in (
        (1, "2.9000 (mean of the last rows, to step 0; ", "0.100 at step 0"),
        (2, "1.5000 (mean of the last rows, to step 25; ", "0.250 at step 25"),
    ):
        summary = summary_of(table[:n_rows])
        rows = dict(summary.rows())
        assert summary.last_step == table["step"][n_rows - 1]
        assert rows["Final loss (nats)"].startswith(loss)
        assert rows["Final accuracy"] == accuracy


@pytest.mark.parametrize("value", [None, float("nan")])
def test_what_is_not_a_number_was_not_seen(value: float | None) -> None:
    table = grokking(understood=None)
    for name in ("cosine", "repetition", "repetition_truth", "attention_progress"):
        table[name] = value
    columns = ["accuracy", "validation_loss", "validation_accuracy"]
    table.loc[table.index[-1], columns] = value
    summary = summarise(table, task=FINITE, batch_size=10)
    assert (summary.attention_progress_start, summary.attention_progress_end) == (None, None)
    assert (summary.peak_cosine, summary.peak_repetition, summary.repetition_truth) == (None, None, None)
    assert (summary.final_accuracy, summary.final_validation_loss, summary.final_validation_accuracy) == (None,) * 3
    assert not any("nan" in text for _, text in summary.rows())


def test_each_group_has_a_grokking_delay() -> None:
    table = grokking()
    for group, step in [("add", 400), ("divide", None)]:
        other = grokking(learned=150, understood=step)
        table[f"accuracy_{group}"] = other["accuracy"]
        table[f"validation_accuracy_{group}"] = other["validation_accuracy"]
    summary = summarise(table, task=FINITE, batch_size=10)
    assert (summary.grokking_delay, summary.grokking_delays) == (600, {"add": 250, "divide": None})
    rows = dict(summary.rows())
    assert (rows["Grokking delay, add"], rows["Grokking delay, divide"]) == ("250 steps", "unknown")
    assert not summarise(grokking(), task=FINITE, batch_size=10).grokking_delays
    compared = compare({"a": summary, "b": dataclasses.replace(summary, grokking_delays={"add": 300, "divide": 9})})
    assert list(compared["grokking_delay_add"]) == [250, 300]
    assert list(compared["grokking_delay_add_change"]) == [0, 50]
    assert np.isnan(compared["grokking_delay_divide"][0])
    one = dataclasses.replace(summary, grokking_delays={"add": 250})
    assert "grokking_delay_add" not in compare({"a": one, "b": one})


@pytest.mark.parametrize("share", [0.4, 0.6, 0.7])
def test_a_plateau_is_found_below_half_of_the_fall_too(share: float) -> None:
    # As with two layers: which tokens occur is learned at once, and that is most of the way.
    step = np.arange(400)
    shelf = 2.9 - share * 1.6
    loss = shelf + (2.9 - shelf) * np.exp(-step / 4)
    loss = 1.3 + (loss - 1.3) / (1 + np.exp((step - 300) / 4))
    summary = summarise(pd.DataFrame({"step": step, "loss": loss}), task=TASK, batch_size=256)
    assert summary.level == pytest.approx(shelf, abs=0.01)
    assert summary.drop_step == pytest.approx(300, abs=2)
    assert 270 <= summary.end < 300


@pytest.mark.parametrize("wrong", [3, None, pd.DataFrame({"loss": [1.0]}), [2.9, 1.3]])
def test_what_is_no_table_of_metrics_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"^metrics must be a table with step and loss, such as Run.metrics; got "):
        unchecked(summarise)(wrong, task=TASK, batch_size=2)


def test_what_is_no_task_has_no_plateau() -> None:
    with pytest.raises(ValueError, match=r"^task must be a task such as MovingWindowSum\(\); got 3$"):
        unchecked(summarise)(history(), task=3, batch_size=2)


@pytest.mark.parametrize("n", [20, 30, 40, 80])
@pytest.mark.parametrize("noise", [0.02, 0.04])
def test_a_noisy_fall_that_is_seldom_measured_has_no_plateau(n: int, noise: float) -> None:
    # As text is measured: every tenth step of some hundred, in batches whose losses are 2 to 4 % of the fall apart.
    fall = np.exp(-np.linspace(0, 1, n) / 0.2)
    found = []
    for seed in range(20):
        loss = 4 + 3 * (fall + noise * np.random.default_rng(seed).standard_normal(n))
        table = pd.DataFrame({"step": 10 * np.arange(n), "loss": loss})
        found.append(summarise(table, task=Unknown(), batch_size=16).level)
    assert found == [None] * 20


def test_the_noise_of_a_language_models_losses_is_no_plateau() -> None:
    # Of tiny-shakespeare, seed 0, every fourth step: from step 52 on the loss is the same five times, by chance.
    on_its_way = [6.95, 6.49, 6.18, 5.96, 5.79, 5.63, 5.78, 5.57, 5.60, 5.59, 5.53, 5.52, 5.41, 5.29, 5.28, 5.29, 5.28]
    later = [5.20, 5.25, 4.99, 4.90, 4.97, 5.00, 5.00, 4.75, 4.92, 4.77, 4.99, 4.84, 4.81, 4.78, 4.70, 4.72, 4.72, 4.65]
    loss = on_its_way + later
    summary = summarise(pd.DataFrame({"step": 4 * np.arange(len(loss)), "loss": loss}), task=Unknown(), batch_size=16)
    assert (summary.level, summary.start, summary.end) == (None, None, None)


@pytest.mark.parametrize("every", [1, 5, 10])
@pytest.mark.parametrize("seed", range(5))
def test_a_plateau_is_found_in_the_same_noise(seed: int, every: int) -> None:
    table = history(250).iloc[::every]
    noise = 0.02 * 1.6 * np.random.default_rng(seed).standard_normal(len(table))
    summary = summary_of(table.assign(loss=table.loss + noise))
    assert summary.level == pytest.approx(2.63, abs=0.04)
    assert summary.drop_step == pytest.approx(250, abs=20)


def test_a_rise_that_is_not_noise_costs_a_long_plateau_nothing() -> None:
    loss = np.array([2.9] + [2.63] * 20 + [2.75] + [2.63] * 20 + [1.3] * 60)
    summary = falling(loss)
    assert summary.level == pytest.approx(2.63, abs=0.01)
    assert (summary.end, summary.drop_step) == (41, 42)


@pytest.mark.parametrize("steps", [[0, 2, 1], [0, 1, 1]])
def test_rows_out_of_order_and_steps_that_come_twice_are_refused(steps):
    table = pd.DataFrame({"step": steps, "loss": [3.0, 2.0, 1.0]})
    with pytest.raises(ValueError, match=f"each step once: step 1 comes after step {steps[1]}"):
        summarise(table, task=MovingWindowSum(), batch_size=1)


NINETEEN_OF_20 = float(np.float32(19) / np.float32(20))


def test_exactly_95_percent_are_95_percent() -> None:
    assert NINETEEN_OF_20 < 0.95
    table = history()
    table["accuracy"] = table["accuracy_0"] = np.where(table["step"] < 100, 0.5, NINETEEN_OF_20)
    summary = summary_of(table)
    assert (summary.steps_to[95], summary.first_answer_step, summary.steps_to[99]) == (100, 100, None)
    assert 0 in summary.partial_solution
    table["validation_accuracy"] = np.where(table["step"] < 150, 0.5, NINETEEN_OF_20)
    summary = summary_of(table)
    assert (summary.train_95_step, summary.validation_95_step, summary.grokking_delay) == (100, 150, 50)
