"""plateau_interp.reproductions.shortening.mixes: seven subsets of equal sizes."""

import torch

from plateau_interp.models.flops import training_flops
from plateau_interp.reproductions.shortening.mixes import (
    ALL_THREE,
    BATCH,
    MIXES,
    PAIRS_WITH,
    TASKS,
    TRAINED_ALONE,
    drawn_tasks,
)
from plateau_interp.tasks import MovingWindowSum


def test_all_seven_subsets_are_there_with_the_same_ids_batch_and_cost() -> None:
    drawn = {drawn_tasks(setting.recipe.task) for setting in MIXES}
    assert len(MIXES) == len(drawn) == 7
    for setting in MIXES:
        recipe = setting.recipe
        assert (recipe.task.d_vocab, recipe.batch_size, recipe.training.optimizer.learning_rate) == (20, 128, 1e-4)
        assert training_flops(recipe.task, recipe.model) * BATCH == 19_855_835_136
        counts = recipe.task.group_counts(BATCH)
        assert sum(counts.values()) == 128
        assert max(counts.values()) - min(counts.values()) <= 2
    assert ALL_THREE.recipe.task.group_counts(BATCH) == dict(
        zip([task.name for task in TASKS.values()], (42, 42, 44), strict=True)
    )


def test_each_task_is_in_two_pairs_and_keeps_its_separator() -> None:
    generator = torch.Generator().manual_seed(0)
    for place, (word, both) in enumerate(PAIRS_WITH.items()):
        assert all(TASKS[word].name in drawn_tasks(setting.recipe.task) for setting in both)
        assert all(len(drawn_tasks(setting.recipe.task)) == 2 for setting in both)
        tokens = TRAINED_ALONE[word].recipe.task.sample(3, generator=generator).tokens
        assert tokens[:, 16].tolist() == [17 + place] * 3


def test_a_task_that_is_no_mixture_is_drawn_by_itself() -> None:
    assert drawn_tasks(MovingWindowSum()) == ("moving-window-sum",)
