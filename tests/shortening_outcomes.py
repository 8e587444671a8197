"""Outcomes of the shortening paper made by hand, for the tests of what is read off them."""

import numpy as np
import pandas as pd

from plateau_interp.reproductions.settings import Outcome
from plateau_interp.reproductions.shortening.mixes import (
    ALL_THREE,
    MIXES,
    PAIRS_WITH,
    TASKS,
    TRAINED_ALONE,
    drawn_tasks,
)
from plateau_interp.reproductions.shortening.poster import POSTER_STEPS
from plateau_interp.training.shares import column_word

NOT_REACHED = 10**6


def outcome(setting, elbows, *, right=None, seed=0, steps=900):
    """A run in which the loss of each task falls off its plateau at a step, and its accuracy goes to 1 at another."""
    right = elbows if right is None else right
    step = np.arange(steps)
    table = {"step": step}
    words = [word for word, task in TASKS.items() if task.name in drawn_tasks(setting.recipe.task)]
    for word in words:
        ending = f"_{column_word(TASKS[word].name)}" if len(words) > 1 else ""
        level = TASKS[word].levels.plateau
        table[f"loss{ending}"] = np.where(step < elbows[word], level, 0.1)
        table[f"accuracy{ending}"] = np.where(step < right[word], 0.12, 1.0)
    if len(words) > 1:
        for measure in ("loss", "accuracy"):
            table[measure] = np.mean([table[f"{measure}_{column_word(TASKS[word].name)}"] for word in words], axis=0)
    return Outcome(setting, seed, pd.DataFrame(table))


def as_on_the_poster(*, seed=0):
    """The seven runs of table 1, with the poster's own elbows; of two tasks both pairs have the mean that it tells."""
    steps = {count: {word: round(number) for word, number in row.items()} for count, row in POSTER_STEPS.items()}
    found = {word: [outcome(setting, steps[1], seed=seed)] for word, setting in TRAINED_ALONE.items()}
    pairs = {setting for both in PAIRS_WITH.values() for setting in both}
    found |= {setting.name: [outcome(setting, steps[2], seed=seed)] for setting in MIXES if setting in pairs}
    return found | {ALL_THREE.name: [outcome(ALL_THREE, steps[3], seed=seed)]}
