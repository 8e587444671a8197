"""plateau_interp.reproductions.theory.scatter: sizes that differ in the training set alone, and their claims."""

import dataclasses

from plateau_interp.reproductions.theory.pooled import Correlated
from plateau_interp.reproductions.theory.scatter import FRACTIONS, SCATTER, TRAINING_SIZES


def test_sizes_differ_in_the_share_that_is_trained_on_alone() -> None:
    tasks = [setting.recipe.task for setting in TRAINING_SIZES]
    assert [task.train_fraction for task in tasks] == [*FRACTIONS]
    same = {repr(dataclasses.replace(one.recipe, task=tasks[0])) for one in TRAINING_SIZES}
    assert len(same) == 1
    assert len({len(task.train_set) for task in tasks}) == len(FRACTIONS)
    assert all(len(task.train_set) <= one.recipe.batch_size for task, one in zip(tasks, TRAINING_SIZES, strict=True))
    assert all(len(task.train_set) + len(task.validation_set) == 529 for task in tasks)


def test_beside_the_capacity_stands_what_the_size_alone_tells() -> None:
    checks = [claim.check for claim in SCATTER.claims]
    assert all(isinstance(check, Correlated) for check in checks)
    assert all(check.settings == tuple(setting.name for setting in TRAINING_SIZES) for check in checks)
    assert [check.x.name for check in checks] == ["capacity/√m", "1/√m", "capacity", "|M|_F/√m", "capacity"]
    assert [check.within for check in checks] == [False] * 4 + [True]
    assert [check.low for check in checks] == [0.0, None, None, None, 0.0]
