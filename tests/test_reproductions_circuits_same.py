"""plateau_interp.reproductions.circuits.same: the circuits of two settings, seed by seed."""

import pandas as pd

from plateau_interp import Recipe
from plateau_interp.reproductions.circuits.measured import EDGE
from plateau_interp.reproductions.circuits.same import SameCircuit, shared_edges
from plateau_interp.reproductions.claims import Finding
from plateau_interp.reproductions.settings import Outcome, Setting
from plateau_interp.tasks import MovingWindowSum

SETTING = Setting("any", Recipe(MovingWindowSum()))


def of_scores(seed: int, *last: float) -> Outcome:
    scores = {f"{EDGE}{name}": [0.0, score] for name, score in zip(("a>b", "b>c", "c>d", "d>e"), last, strict=True)}
    return Outcome(SETTING, seed, pd.DataFrame({"step": [0, 10], **scores}))


def test_the_main_edges_of_the_one_are_looked_for_among_as_many_of_the_other() -> None:
    assert shared_edges(of_scores(0, -5, 4, 0.1, 0), of_scores(0, 3, 0, 7, 2)) == 0.5
    assert shared_edges(of_scores(0, -5, 4, 0.1, 0), of_scores(0, 6, -7, 1, 2)) == 1
    assert shared_edges(of_scores(0, 9, 0, 0, 0), of_scores(0, 1, 2, 0, 0)) == 0


def test_the_median_over_the_seeds_that_both_have_is_held_against_the_bound() -> None:
    parent = [of_scores(seed, 5, 4, 0, 0) for seed in (0, 1, 2)]
    fork = [of_scores(0, 5, 4, 0, 0), of_scores(2, 5, 0, 4, 0), of_scores(7, 0, 0, 5, 4)]
    check = SameCircuit("fork", "parent", low=0.75)
    assert check.find({"fork": fork, "parent": parent}) == Finding("0.75 [0.50, 1.00] (2 seeds)", "holds")
    stricter = SameCircuit("fork", "parent", low=0.8)
    assert stricter.find({"fork": fork, "parent": parent}).verdict == "does not hold"
    assert check.find({"fork": fork[:1], "parent": parent}).measured == "1.00 (1 seed)"
    assert check.find({"fork": fork}) == Finding("", "not run")
    assert check.expected == "share of the main edges of parent that are as high up in fork ≥ 0.75"
