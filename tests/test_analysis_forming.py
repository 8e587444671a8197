from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from plateau_interp import ModelOptions, Recipe, Run, TrainingOptions
from plateau_interp.analysis import forming
from plateau_interp.analysis.circuits import Circuit, answer_difference, circuit
from plateau_interp.analysis.forming import CircuitOptions, Forming, circuits, counterfactual_pairs
from plateau_interp.analysis.text_pairs import repeated_tokens
from plateau_interp.models import toy_model
from plateau_interp.tasks import MovingWindowSum, Text
from plateau_interp.types import Task

TASK = MovingWindowSum(n=4, p=5)


class Remembered:
    """A run in memory: a model of another seed at each step."""

    task: Any = TASK
    checkpoints: ClassVar[list[int]] = [0, 10, 20]
    metrics = None

    def model(self, step: int | None = None) -> Any:
        return toy_model(TASK, d_model=12, seed=20 if step is None else step)


def of_scores(*scores: list[float]) -> Forming:
    """Three edges at each step."""

    def found(three: list[float]) -> Circuit:
        matrix = torch.tensor([three[:2], [float("nan"), three[2]]]).unsqueeze(2)
        names = (("embed", "MLP0"), ("MLP0", "logits"), ("all",))
        return Circuit(*names, matrix, "exact", "zero", "live", 1.0, 0.5, 4, torch.ones(1, 3, dtype=torch.bool))

    return Forming(tuple(range(0, 10 * len(scores), 10)), tuple(map(found, scores)))


def test_each_checkpoint_has_the_circuit_of_the_same_pairs() -> None:
    told: list[int] = []
    found = circuits(Remembered(), n_pairs=6, seed=3, scoring="exact", progress=told.append)
    assert found.steps == (0, 10, 20)
    assert told == [0, 10, 20]
    generator = torch.Generator().manual_seed(3)
    clean = TASK.sample(6, generator=generator)
    corrupted = TASK.corrupt(clean, generator=generator)
    metric = answer_difference(TASK, clean, corrupted)
    for step, one in zip(found.steps, found.circuits, strict=True):
        model = Remembered().model(step)
        expected = circuit(model, clean=clean.inputs, corrupted=corrupted.inputs, metric=metric, scoring="exact")
        torch.testing.assert_close(one.scores, expected.scores, equal_nan=True)
    again = circuits(Remembered(), n_pairs=6, seed=3, scoring="exact", steps=[10])
    assert again.steps == (10,)
    assert np.array_equal(again.scores[0], found.scores[1])
    assert not np.array_equal(circuits(Remembered(), n_pairs=6, seed=4, scoring="exact").scores, found.scores)


def test_roles_are_the_tasks() -> None:
    found = circuits(Remembered(), n_pairs=4, by_role=True)
    assert found.circuits[0].roles == ("prompt", "separator", "answer")
    assert len(found.edges()) == 13 * 3


def test_an_edge_is_there_from_the_step_on_that_keeps_half_of_its_last_score() -> None:
    found = of_scores([0, 1, 0], [5, -4, 0], [1, -1, 0], [6, -4, 0], [10, -4, 0])
    edges = found.edges()
    assert edges.writer.tolist() == ["embed", "embed", "MLP0"]
    assert edges.reader.tolist() == ["MLP0", "logits", "logits"]
    assert edges.score.tolist() == [10, -4, 0]
    assert edges.step.iloc[:2].tolist() == [30, 30]  # 5 of 10 at step 10 was lost again at step 20
    assert edges.step.isna().tolist() == [False, False, True]
    assert found.edges(share=0.1).step.iloc[:2].tolist() == [10, 10]
    assert found.edges(share=1.0).step.iloc[0] == 40


def test_how_alike_a_circuit_is_to_the_last_is_a_column() -> None:
    found = of_scores([3, 2, 1], [1, 2, 3], [1, 2, 4])
    metrics = found.metrics(n=1)
    assert metrics.step.tolist() == [0, 10, 20]
    assert metrics.circuit_overlap.tolist() == [0, 1, 1]
    assert metrics.circuit_rank.tolist() == pytest.approx([-1, 1, 1])
    assert metrics.answer_difference.tolist() == [1, 1, 1]
    assert metrics.answer_difference_ablated.tolist() == [0.5, 0.5, 0.5]


def test_a_table_has_a_row_a_step_and_edge() -> None:
    table = of_scores([3, 2, 1], [1, 2, 3]).table()
    assert table.columns.tolist() == ["step", "writer", "reader", "role", "score"]
    assert table[table.step == 10].score.tolist() == [1, 2, 3]
    assert table[table.step == 0].score.tolist() == [3, 2, 1]


def test_a_run_has_circuits_at_its_checkpoints(tmp_path: Any) -> None:
    options: Any = {"model": ModelOptions(d_model=12), "training": TrainingOptions(steps=3)}
    run = Run.create(tmp_path / "run", Recipe(TASK, **options))
    for _ in run.train():
        pass
    found = circuits(run, n_pairs=4)
    assert list(found.steps) == run.checkpoints
    assert repr(found).endswith(f"at {len(run.checkpoints)} steps, 0 to 3")
    with pytest.raises(ValueError, match="there is no checkpoint of step 2; the nearest is 3"):
        circuits(run, steps=[2])


def test_a_task_of_text_has_repeated_tokens_of_half_its_length() -> None:
    task = Text(n=8, vocabulary=256)
    clean, corrupted, mask = counterfactual_pairs(task, CircuitOptions(n_pairs=3, seed=5))
    drawn = {"length": 4, "d_vocab": 256, "generator": torch.Generator().manual_seed(5)}
    for one, other in zip((clean, corrupted), repeated_tokens(3, **drawn), strict=True):
        assert torch.equal(one.tokens, other.tokens)
        assert torch.equal(one.labels, other.labels)
    assert mask is None
    with pytest.raises(ValueError, match="by_role is for prompts of a task: texts have no roles"):
        counterfactual_pairs(task, CircuitOptions(by_role=True))


def test_pairs_are_drawn_once_for_all_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(forming, "counterfactual_pairs", lambda *a: drawn.append(a) or counterfactual_pairs(*a))
    assert len(circuits(Remembered(), n_pairs=4).circuits) == 3
    assert len(drawn) == 1


def test_what_has_no_counterfactual_pairs_is_refused() -> None:
    class Silent(MovingWindowSum):
        corrupt = Task.corrupt

    run = Remembered()
    run.task = Silent(n=4)
    with pytest.raises(ValueError, match="Silent does not say how to corrupt its prompts"):
        circuits(run)
    with pytest.raises(ValueError, match="n_pairs must be at least 1"):
        circuits(Remembered(), n_pairs=0)
    with pytest.raises(ValueError, match="steps is empty"):
        circuits(Remembered(), steps=[])
