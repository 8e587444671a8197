"""The sequences of each of a task's kinds: counted as they are drawn."""

import pytest
import torch

from plateau_interp.tasks import Copy, Mixture, ModularArithmetic, MovingWindowSum, Reverse
from plateau_interp.training.batches import training_batch
from plateau_interp.training.shares import OfGroups, column_word, group_names, group_samples_before

POSTER = ["moving-window-sum", "moving-window-difference", "moving-window-product"]


@pytest.mark.parametrize(
    "task", [Mixture(), Mixture(shares=(1, 0, 3)), Mixture(tasks=(Copy(n=4), Copy(n=4), Reverse(n=4)))]
)
def test_what_a_mixture_counts_is_what_it_draws(task: Mixture) -> None:
    assert isinstance(task, OfGroups)
    assert group_names(task) == tuple(task.group_levels) == tuple(task.group_counts(50))
    seen = dict.fromkeys(group_names(task), 0)
    for step in range(3):
        batch = training_batch(task, seed=1, step=step, batch_size=50)
        for name, mask in task.groups(batch).items():
            seen[name] += int(mask.sum())
        counted = {name: group_samples_before(task, name, step=step + 1, batch_size=50) for name in seen}
        assert counted == seen


def test_the_poster_s_own_sequences() -> None:
    """Table 1: the steps of its elbows times 128, 64, and 42, 42, 44."""
    three = Mixture()
    own = {name: group_samples_before(three, name, step=1, batch_size=128) for name in POSTER}
    assert own == dict(zip(POSTER, (42, 42, 44), strict=True))
    assert group_samples_before(three, POSTER[2], step=302, batch_size=128) == 13_288
    two = Mixture(shares=(1, 0, 1))
    assert group_names(two) == (POSTER[0], POSTER[2])
    assert group_samples_before(two, POSTER[0], step=425, batch_size=128) == 27_200


def test_a_finite_task_s_own_sequences_are_exact_at_the_end_of_each_epoch() -> None:
    task = ModularArithmetic(p=7, operations=("add", "divide"), train_fraction=0.5)
    n, own = len(task.train_set), int(task.groups(task.train_set)["divide"].sum())
    steps = -(-n // 8)
    seen = 0
    for step in range(2 * steps):
        seen += int(task.groups(training_batch(task, seed=0, step=step, batch_size=8))["divide"].sum())
        counted = group_samples_before(task, "divide", step=step + 1, batch_size=8)
        assert abs(counted - seen) <= 8
        if (step + 1) % steps == 0:
            assert counted == seen == own * (step + 1) // steps


def test_one_kind_is_no_group() -> None:
    assert (
        group_names(MovingWindowSum())
        == group_names(ModularArithmetic())
        == group_names(Mixture(shares=(0, 1, 0)))
        == ()
    )
    assert column_word("copy-0") == "copy_0"


def test_levels_of_groups_are_those_of_the_tasks_if_answers_alone_are_scored() -> None:
    levels = Mixture().group_levels
    assert [round(level.plateau or 0, 3) for level in levels.values()] == [2.656, 2.656, 2.599]
    scoring_prompts = Mixture(tasks=(MovingWindowSum(n=4), MovingWindowSum(n=4, k=3)))
    assert all(level.plateau is None for level in scoring_prompts.group_levels.values())
    assert torch.equal(torch.tensor(list(Mixture().group_counts(128).values())), torch.tensor([42, 42, 44]))
