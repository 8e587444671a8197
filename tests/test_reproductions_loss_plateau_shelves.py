"""plateau_interp.reproductions.loss_plateau.shelves: what is told of draws that get stuck and those that do not."""

import pandas as pd

from plateau_interp.reproductions.loss_plateau.shelves import (
    DRAW_FORKS,
    LONG_RUN,
    STUCK,
    SUM_DRAWS,
    WINDOW_FORKS,
    draws_side_by_side,
)
from plateau_interp.reproductions.settings import Outcome


def run_of(setting, seed, *, solved, begins=0):
    steps = list(range(begins, 1000, 5))
    accuracy = [1.0 if step >= solved else 0.1 for step in steps]
    progress = [0.5 if solved < 500 else 0.1] * len(steps)
    loss = [1.0 if step >= solved else 1.37 for step in steps]
    columns = {"accuracy": accuracy, "attention_progress": progress, "loss": loss}
    return Outcome(setting, seed, pd.DataFrame({"step": steps, **columns}))


def outcomes():
    draws = [run_of(SUM_DRAWS, seed, solved=300 if seed else 10**6) for seed in range(4)]
    freed = {s.name: [run_of(s, seed, solved=300 if seed else 560) for seed in range(4)] for s in DRAW_FORKS.values()}
    return {SUM_DRAWS.name: draws, **freed}


def test_draws_are_told_side_by_side():
    told = draws_side_by_side(outcomes())
    assert "1 of 4 draws are stuck at step 1,000 (95 % interval of the share 0.05 to 0.70)." in told
    assert "| median [lowest, highest] | 1 stuck | 3 solved |" in told
    assert "| attention_progress at step 150 | 0.100 | 0.500 [0.500, 0.500] |" in told
    assert "| steps to 99 % | never | 300 [300, 300] |" in told
    assert "| steps to 99 %; attention fixed at the optimum, from step 500 | 560 | 300 [300, 300] |" in told
    assert "| cosine at step 0 | - | - |" in told


def test_nothing_is_told_of_nothing():
    assert draws_side_by_side({}) == ""


def test_claims_of_the_stuck_are_held_against_the_stuck_alone():
    verdicts = {one.claim.text: one.finding for one in STUCK.statements(outcomes())}
    freed = verdicts["Attention fixed at the optimum frees them within 250 steps"]
    assert (freed.measured, freed.verdict) == ("60 (1 seed)", "holds")
    assert verdicts["Those that are stuck rest at about 1.37 nats"].measured == "1.370 (1 seed)"
    behind = verdicts["At step 150 the attention of those that will be stuck is behind"]
    assert (behind.measured, behind.verdict) == ("0.100 (1 seed)", "holds")


def test_what_is_left_keeps_its_checkpoint_and_state():
    for setting in (*WINDOW_FORKS.values(), *DRAW_FORKS.values()):
        parent, step = setting.leaves
        assert parent in (LONG_RUN, SUM_DRAWS)
        assert step % parent.recipe.checkpoint_every == 0
        assert step % parent.recipe.state_every == 0
        assert setting.recipe.steps > step
