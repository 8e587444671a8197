"""plateau_interp.reproductions.shortening.transfer: who begins with whose weights, and the whole paper in small."""

import dataclasses

import pandas as pd
import pytest
import torch

from plateau_interp.reproductions.experiments import Paper
from plateau_interp.reproductions.quantities import NEVER, final
from plateau_interp.reproductions.results import claims, publish
from plateau_interp.reproductions.running import plan, train_setting
from plateau_interp.reproductions.settings import Begins, Outcome, Setting
from plateau_interp.reproductions.shortening import PAPER
from plateau_interp.reproductions.shortening.transfer import (
    PREFIX_SCRATCH,
    PREFIX_TO_SUM,
    SUM,
    TO_SUM,
    TO_SUM_ADAM,
    falls_below,
    with_donor,
)
from plateau_interp.reproductions.study import Study
from plateau_interp.tasks import ModularArithmetic, OneHotArithmetic


def test_the_sum_begins_with_the_prefix_sum_at_the_poster_s_step_and_both_have_one_separator() -> None:
    assert plan([PREFIX_TO_SUM], n_seeds=1) == [(SUM, 0), (PREFIX_SCRATCH, 0), (TO_SUM, 0), (TO_SUM_ADAM, 0)]
    assert [(one.begins.step, one.begins.optimizer) for one in (TO_SUM, TO_SUM_ADAM)] == [
        (420, "fresh"),
        (420, "taken"),
    ]
    assert PREFIX_SCRATCH.recipe.keeps(420)
    assert PREFIX_SCRATCH.recipe.state_every == 1
    generator = torch.Generator().manual_seed(0)
    for setting in (PREFIX_SCRATCH, TO_SUM):
        assert setting.recipe.task.d_vocab == 20
        assert set(setting.recipe.task.sample(4, generator=generator).tokens[:, 16].tolist()) == {17}


def test_steps_before_count_where_somebody_else_made_them() -> None:
    rows = pd.DataFrame({"step": [0, 1, 2], "loss": [3.0, 0.6, 0.4]})
    below = falls_below("loss", 0.5)
    assert below.of(Outcome(SUM, 0, rows)) == with_donor(below).of(Outcome(SUM, 0, rows)) == 2
    assert with_donor(below).of(Outcome(TO_SUM, 0, rows)) == 422
    assert below.of(Outcome(SUM, 0, rows[:2])) == NEVER
    assert below.of(Outcome(SUM, 0, rows[["step"]])) is None
    assert with_donor(final("accuracy")).of(Outcome(TO_SUM, 0, rows)) is None


SMALL = {"d_model": 16, "n_heads": 1}


def shrunk(setting, known):
    """The setting with a tiny model and six steps; what it begins with likewise, at step 4."""
    if setting.name in known:
        return known[setting.name]
    if isinstance(setting, Study):
        small = dataclasses.replace(setting, of=shrunk(setting.of, known))
    else:
        recipe = setting.recipe
        is_mlp = isinstance(recipe.task, OneHotArithmetic)
        is_finite = is_mlp or isinstance(recipe.task, ModularArithmetic)
        task = dataclasses.replace(recipe.task, p=5) if is_finite else recipe.task
        recipe = dataclasses.replace(
            recipe,
            task=task,
            model=dataclasses.replace(recipe.model, **({"d_model": task.n_features, "d_mlp": 8} if is_mlp else SMALL)),
            training=dataclasses.replace(recipe.training, steps=6, batch_size=9, precision="float32"),
            measuring=dataclasses.replace(recipe.measuring, every=2, **({} if is_finite else {"n_sequences": 6})),
            checkpoint_every=2,
            checkpoint_at=(),
        )
        begins = setting.begins
        if begins is not None:
            begins = Begins(shrunk(begins.setting, known), 4, begins.where, begins.optimizer)
        small = dataclasses.replace(setting, recipe=recipe, begins=begins)
    known[setting.name] = small
    return small


def in_small(paper: Paper) -> Paper:
    known: dict[str, Setting | Study] = {}
    experiments = []
    for experiment in paper.experiments:
        settings = tuple(shrunk(setting, known) for setting in experiment.settings)
        key = (experiment.key[0], known[experiment.key[1].name])
        experiments.append(dataclasses.replace(experiment, settings=settings, key=key))
    return dataclasses.replace(paper, experiments=tuple(experiments))


@pytest.mark.slow
def test_the_whole_paper_runs_in_small_and_tells_all_of_it(tmp_path) -> None:
    paper = in_small(PAPER)
    for setting, seed in plan(paper.experiments, n_seeds=1):
        if isinstance(setting, Study):
            setting.measure(tmp_path, seed)
        else:
            train_setting(setting, seed, tmp_path)
    page = publish(paper, tmp_path, tmp_path / "out")
    assert f"All {len(paper.experiments)} experiments were run" in page.read_text()
    statements = (tmp_path / "out" / "results" / "shortening" / "statements.md").read_text()
    assert "Counted as the poster does" in statements or "Not known" in statements
    told = claims(paper, paper.experiments, tmp_path / "out")
    # At a step that the small runs do not come to.
    assert {one["claim"] for one in told if one["verdict"] == "not run"} == {
        "Prefix sums that are right when they are left, at step 420"
    }
    for experiment in paper.experiments:
        assert (tmp_path / "out" / "results" / "shortening" / f"{experiment.name}.png").is_file()
