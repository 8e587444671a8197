"""plateau_interp.reproductions: plans, runs that stop and go on, stored results, RESULTS.md, the papers' data."""

import dataclasses
import functools
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_paper import BASE, BIASED, FIRST, LEFT, PAPER, SECOND, SOLUTION, TAKEN, TASK, TRAINING, recipe, train_all

from plateau_interp.analysis.continuations import WRITING
from plateau_interp.hooks import FreezeWeights, TransplantWeights
from plateau_interp.models.settings import ModelOptions
from plateau_interp.plugins import plugin, plugins
from plateau_interp.reproductions import from_checkpoints
from plateau_interp.reproductions.circuits.measured import ATTRIBUTED_COLUMNS
from plateau_interp.reproductions.experiments import Experiment, Paper
from plateau_interp.reproductions.pictures import beside_figure, moves_figure, seeds_figure
from plateau_interp.reproductions.pretrained import PublishedModel
from plateau_interp.reproductions.quantities import DROP, steps_to
from plateau_interp.reproductions.results import publish
from plateau_interp.reproductions.running import collect, outcome, plan, train_setting
from plateau_interp.reproductions.settings import AFTERWARDS, Added, Begins, Outcome, Setting, first_solved
from plateau_interp.reproductions.storage import stored
from plateau_interp.reproductions.study import Study
from plateau_interp.runs.donors import InitFrom
from plateau_interp.runs.folder import only_writer
from plateau_interp.runs.recipe import Recipe
from plateau_interp.runs.run import Run, RunError
from plateau_interp.tasks import OneHotArithmetic, Text
from plateau_interp.training.batches import training_batch
from plateau_interp.training.loop import train
from plateau_interp.training.optimizers import Adam
from plateau_interp.training.settings import MeasuringOptions
from plateau_interp.views.panels import Panel


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return train_all(tmp_path_factory.mktemp("runs"))


def test_a_plan_has_each_run_once_and_what_others_need_first():
    assert [(s.name, seed) for s, seed in plan(PAPER.experiments)] == [
        ("base", 0),
        ("biased", 0),
        ("base", 1),
        ("biased", 1),
        ("solution", 9),
        ("taken", 0),
        ("left", 0),
    ]
    assert [(s.name, seed) for s, seed in plan([FIRST], n_seeds=1)] == [("base", 0), ("biased", 0)]
    with pytest.raises(ValueError, match="seeds must be at least 1; got 0"):
        plan([FIRST], n_seeds=0)


def test_runs_are_those_of_their_settings(runs):
    taken = Run(runs / "taken" / "seed-0").recipe.interventions
    assert [type(one).__name__ for one in taken] == ["TransplantWeights", "FreezeWeights"]
    assert Run(runs / "left" / "seed-0").recipe.fork_of.step == 3
    assert Run(runs / "biased" / "seed-1").recipe.seed == 1
    base, left = (outcome(setting, 0, runs).metrics for setting in (BASE, LEFT))
    pd.testing.assert_frame_equal(base[base.step < 3], left[left.step < 3])
    assert base.loss[3] != left.loss[3]


def test_a_whole_run_that_is_seldom_measured_goes_to_its_end(tmp_path):
    setting = Setting("seldom", recipe(measuring=MeasuringOptions(every=4)), whole=True)
    assert train_setting(setting, 0, tmp_path).metrics.step.tolist() == [0, 4]
    assert Run(tmp_path / "seldom" / "seed-0").finished


def test_a_run_of_another_recipe_is_refused_and_told(runs, tmp_path):
    train_setting(BASE, 0, tmp_path)
    changed = dataclasses.replace(BASE, recipe=recipe(training=dataclasses.replace(TRAINING, batch_size=8)))
    with pytest.raises(RunError, match=r"base/seed-0 holds a run of another recipe than 'base' has now"):
        train_setting(changed, 0, tmp_path)
    longer = dataclasses.replace(BASE, recipe=recipe(training=dataclasses.replace(TRAINING, steps=8)))
    assert train_setting(longer, 0, tmp_path).metrics.step.tolist() == list(range(8))


def test_a_fork_of_another_parent_is_refused(runs):
    parent = dataclasses.replace(BASE, recipe=recipe(training=dataclasses.replace(TRAINING, batch_size=8)))
    with pytest.raises(RunError, match="another recipe"):
        outcome(dataclasses.replace(LEFT, recipe=parent.recipe, leaves=(parent, 3)), 0, runs)


def test_what_is_taken_is_found_again_after_the_folders_moved(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    train_setting(SOLUTION, 9, old)
    for step in TAKEN.open(old, 0).train():
        if step.step == 2:
            break
    old.rename(new)
    assert train_setting(TAKEN, 0, new).metrics.step.tolist() == list(range(6))


def test_a_recipe_is_told_new_places_only_while_nobody_writes_there(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    train_setting(SOLUTION, 9, old)
    TAKEN.open(old, 0)
    old.rename(new)
    folder = new / "taken" / "seed-0"
    before = (folder / "recipe.json").read_bytes()
    with only_writer(folder), pytest.raises(RunError, match="is writing to"):
        TAKEN.open(new, 0)
    assert (folder / "recipe.json").read_bytes() == before
    assert str(new) in TAKEN.open(new, 0).recipe.to_json()


KEPT = {"model": ModelOptions(d_model=16), "training": TRAINING, "checkpoint_every": 2}
CHANGED = dataclasses.replace(
    SOLUTION, recipe=recipe(training=dataclasses.replace(TRAINING, optimizer=Adam(learning_rate=1e-2)))
)


def test_a_run_does_not_outlive_the_run_it_took_from(runs, tmp_path):
    shutil.copytree(runs, tmp_path / "runs")
    changed = dataclasses.replace(TAKEN, takes=(CHANGED, 9, "attention map"))
    shutil.move(tmp_path / "runs" / "solution" / "seed-9", tmp_path / "old")
    train_setting(CHANGED, 9, tmp_path / "runs")
    with pytest.raises(RunError, match=r"taken/seed-0 took its weights from another run than 'solution' is now"):
        train_setting(changed, 0, tmp_path / "runs")
    shutil.move(tmp_path / "runs" / "taken" / "seed-0", tmp_path / "taken")
    again = train_setting(changed, 0, tmp_path / "runs")
    assert again.metrics.loss[0] != outcome(TAKEN, 0, runs).metrics.loss[0]


def test_a_run_that_was_killed_before_it_took_anything_goes_on(tmp_path):
    train_setting(SOLUTION, 9, tmp_path)
    TAKEN.open(tmp_path, 0)
    (tmp_path / "taken" / "seed-0" / "taken.json").unlink()
    assert train_setting(TAKEN, 0, tmp_path).metrics.step.tolist() == list(range(6))
    (tmp_path / "taken" / "seed-0" / "taken.json").unlink()
    with pytest.raises(RunError, match="took its weights from another run"):
        outcome(TAKEN, 0, tmp_path)


@pytest.mark.parametrize(
    "setting",
    [
        dataclasses.replace(TAKEN, takes=(CHANGED, 9, "attention map")),
        dataclasses.replace(LEFT, recipe=CHANGED.recipe, leaves=(dataclasses.replace(CHANGED, name="base"), 3)),
    ],
)
def test_nothing_is_trained_from_a_run_of_another_recipe(setting, runs, tmp_path):
    for name in ("solution", "base"):
        shutil.copytree(runs / name, tmp_path / name)
    with pytest.raises(RunError, match="holds a run of another recipe"):
        train_setting(setting, 0, tmp_path)
    assert not (tmp_path / setting.name).exists()


def test_folders_that_were_put_aside_do_not_count(tmp_path):
    train_setting(BASE, 0, tmp_path)
    shutil.copytree(tmp_path / "base" / "seed-0", tmp_path / "base" / "seed-0-old")
    assert [one.seed for one in collect([BASE], tmp_path)["base"]] == [0]


def test_a_whole_run_has_ended_only_with_its_last_checkpoint(tmp_path):
    # Killed between the last row and the last checkpoint: what others take is not there yet.
    train_setting(SOLUTION, 9, tmp_path)
    shutil.rmtree(tmp_path / "solution" / "seed-9" / "checkpoints" / "6")
    assert outcome(SOLUTION, 9, tmp_path) is None
    train_setting(SOLUTION, 9, tmp_path)
    assert Run(tmp_path / "solution" / "seed-9").finished


def test_what_has_ended_is_not_trained_again(runs):
    def refuse(run):
        raise AssertionError("trained again")

    assert train_setting(BASE, 0, runs, showing=refuse).seed == 0


def test_a_run_that_was_stopped_goes_on_and_comes_out_the_same(runs, tmp_path):
    run = BASE.open(tmp_path, 0)
    for step in run.train():
        if step.step == 3:
            break
    assert outcome(BASE, 0, tmp_path) is None
    pd.testing.assert_frame_equal(train_setting(BASE, 0, tmp_path).metrics, outcome(BASE, 0, runs).metrics)


def solving(setting):
    """The setting's run ends when it may, on metrics whose accuracy is right from step 2 on."""
    return [
        setting.ended(pd.DataFrame({"step": range(last + 1), "accuracy": [0.0, 0.0] + [1.0] * (last - 1)}))
        for last in (2, 2 + AFTERWARDS - 1, 2 + AFTERWARDS)
    ]


def test_a_solved_run_ends_a_little_later_unless_the_whole_is_wanted():
    long = recipe(training=dataclasses.replace(TRAINING, steps=1000))
    assert solving(Setting("a", long)) == [False, False, True]
    assert solving(Setting("a", long, whole=True)) == [False, False, False]
    assert not Setting("a", long).ended(pd.DataFrame())
    assert Setting("a", long).ended(pd.DataFrame({"step": [999], "accuracy": [0.0]}))
    assert first_solved(pd.DataFrame({"step": [0, 5], "accuracy": [0.98, 0.99]})) == 5
    assert first_solved(pd.DataFrame({"step": [0], "loss": [1.0]})) is None


def test_a_run_stops_itself_when_it_may(tmp_path, monkeypatch):
    for module in ("settings", "running"):
        monkeypatch.setattr(f"plateau_interp.reproductions.{module}.SOLVED_ACCURACY", 0.0)
    monkeypatch.setattr("plateau_interp.reproductions.settings.AFTERWARDS", 2)
    done = train_setting(BIASED, 0, tmp_path)
    assert done.metrics.step.tolist() == [0, 1, 2]
    assert outcome(BIASED, 0, tmp_path) is not None


def test_a_run_may_go_on_until_all_was_right_for_long():
    long = recipe(training=dataclasses.replace(TRAINING, steps=1000))
    setting = Setting("a", long, perfect_steps=5)

    def ended(n_right, last=0.99):
        right = [0.0, last, *[1.0] * n_right]
        return setting.ended(pd.DataFrame({"step": range(len(right)), "accuracy": right}))

    # Right from step 2 on: for five steps in a row at step 6, and ten later it may end.
    assert [ended(n) for n in (5, 14, 15)] == [False, False, True]
    assert setting.solved(pd.DataFrame({"step": range(9), "accuracy": [1.0] * 4 + [0.99] + [1.0] * 4})) is None
    assert setting.ended(pd.DataFrame({"step": [999], "loss": [0.0]}))


def test_a_run_does_not_end_before_a_checkpoint_that_is_asked_for():
    asked = recipe(training=dataclasses.replace(TRAINING, steps=1000), checkpoint_at=(40,))
    right = pd.DataFrame({"step": range(60), "accuracy": 1.0})
    assert [Setting("a", asked).ended(right[:n]) for n in (12, 40, 41)] == [False, False, True]


def test_a_run_that_waits_for_all_to_be_right_stops_itself_and_goes_on_after_a_kill(tmp_path, monkeypatch):
    monkeypatch.setattr("plateau_interp.reproductions.settings.AFTERWARDS", 1)
    monkeypatch.setattr(
        "plateau_interp.reproductions.settings.perfect_for",
        lambda steps, values, n_steps: int(steps[n_steps - 1]) if len(steps) >= n_steps else None,
    )
    monkeypatch.setattr("plateau_interp.reproductions.running.SOLVED_ACCURACY", 0.0)
    setting = Setting("patient", recipe(), perfect_steps=3)
    for step in setting.open(tmp_path, 0).train():
        if step.step == 1:
            break
    assert train_setting(setting, 0, tmp_path).metrics.step.tolist() == [0, 1, 2, 3]


BEGUN = Setting("begun", recipe(), begins=Begins(SOLUTION, 4, where="mlp"))


def test_a_run_may_begin_with_the_weights_of_another_of_its_seed(tmp_path):
    assert plan([dataclasses.replace(SECOND, settings=(BASE, BEGUN), key=(DROP, BEGUN))]) == [
        (BASE, 0),
        (SOLUTION, 0),
        (BEGUN, 0),
    ]
    train_setting(SOLUTION, 0, tmp_path)
    train_setting(BEGUN, 0, tmp_path)
    first, donor = Run(tmp_path / "begun" / "seed-0").model(0), Run(tmp_path / "solution" / "seed-0").model(4)
    assert first.W_in.equal(donor.W_in)
    assert not first.W_Q.equal(donor.W_Q)
    batches = [
        training_batch(run.task, seed=run.recipe.seed, step=1, batch_size=8).tokens
        for run in (Run(tmp_path / name / "seed-0") for name in ("begun", "solution"))
    ]
    assert not torch.equal(*batches), "its donor's batches would be seen again"
    assert [one.seed for one in collect([BEGUN], tmp_path)["begun"]] == [0]
    shutil.rmtree(tmp_path / "solution")  # what has begun needs it no more
    assert outcome(BEGUN, 0, tmp_path) is not None
    assert stored_again(BEGUN, tmp_path)["loss"].notna().all()
    other = dataclasses.replace(BEGUN, begins=Begins(CHANGED, 4, where="mlp"))
    with pytest.raises(RunError, match="took its weights from another run than 'solution' is now"):
        outcome(other, 0, tmp_path)
    with pytest.raises(RunError, match="holds a run of another recipe"):
        outcome(dataclasses.replace(BEGUN, begins=Begins(SOLUTION, 4)), 0, tmp_path)


def test_what_began_with_others_weights_goes_on_where_it_was_moved_to(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    train_setting(SOLUTION, 0, old)
    for step in BEGUN.open(old, 0).train():
        if step.step == 2:
            break
    old.rename(new)
    assert train_setting(BEGUN, 0, new).metrics.step.tolist() == list(range(6))


def test_what_cannot_be_begun_with_is_told(tmp_path):
    train_setting(SOLUTION, 0, tmp_path)
    missing = dataclasses.replace(BEGUN, begins=Begins(SOLUTION, 5))
    with pytest.raises(RunError, match=r"begun: .* has no checkpoint of step 5; the nearest is 4"):
        train_setting(missing, 0, tmp_path)
    with pytest.raises(ValueError, match="begun is to begin with others' weights: it can take or leave nothing"):
        dataclasses.replace(BEGUN, leaves=(BASE, 2))
    with pytest.raises(ValueError, match="left is to leave begun, which begins with others' weights"):
        dataclasses.replace(LEFT, leaves=(BEGUN, 2))


def test_a_recipe_that_begins_with_others_weights_by_itself_is_refused():
    """They were not taken: the run was trained from its own initial weights."""
    with pytest.raises(ValueError, match=r"given has a recipe with init_from, which would not be used: give begins="):
        Setting("given", recipe(init_from=InitFrom("runs/donor@4", digest="0" * 64)))


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("training", {"training": dataclasses.replace(TRAINING, batch_size=8)}),
        ("training", {"training": dataclasses.replace(TRAINING, optimizer=Adam(learning_rate=1e-2))}),
        ("task", {"task": dataclasses.replace(TASK, k=3)}),
        ("model", {"model": ModelOptions(d_model=8)}),
        ("measuring", {"measuring": MeasuringOptions(every=2)}),
        ("checkpoint_at", {"checkpoint_at": (5,)}),
    ],
)
def test_a_fork_that_asks_for_what_it_cannot_have_is_refused(field, changes):
    """It was left out without a word: three settings that were to differ were one."""
    with pytest.raises(ValueError, match=f"fork has another {field} than base, which it leaves: a fork cannot"):
        Setting("fork", Recipe(**{"task": TASK, **KEPT, **changes}), leaves=(BASE, 3))
    own = {"training": dataclasses.replace(TRAINING, steps=8), "checkpoint_every": 4}
    assert Setting("fork", Recipe(**{"task": TASK, **KEPT, **own}), leaves=(BASE, 3)).recipe.steps == 8


@pytest.mark.parametrize("leaves", [False, True])
def test_a_run_with_another_donor_of_the_same_last_name_is_refused(leaves, tmp_path):
    """Digests keep the last part of a place alone: the numbers of one donor stood under the name of the other."""
    for name, seed in (("one", 0), ("two", 1)):
        for _ in Run.create(tmp_path / name / "donor", recipe(seed=seed)).train():
            pass

    def given(name):
        taken = (TransplantWeights(f"{tmp_path}/{name}/donor@4", where="mlp"), FreezeWeights("mlp"))
        setting = Setting("given", recipe(interventions=taken), whole=True)
        return Setting("fork", recipe(), leaves=(setting, 2)) if leaves else setting

    runs = tmp_path / "runs"
    for setting, seed in [*given("one").needs(0), (given("one"), 0)]:
        train_setting(setting, seed, runs)
    with pytest.raises(RunError, match=r"holds a run with '.*one/donor@4' where '.*' has '.*two/donor@4' now"):
        outcome(given("two"), 0, runs)
    runs.rename(tmp_path / "moved")
    assert train_setting(given("one"), 0, tmp_path / "moved").seed == 0


def test_measures_taken_afterwards_stand_beside_the_others(tmp_path):
    def weigh(run):
        rows = [{"step": step, "norm": run.model(step).W_E.norm().item()} for step in run.checkpoints if step < 6]
        return pd.DataFrame(rows)

    metrics = train_setting(Setting("weighed", recipe(), adds=Added(weigh)), 0, tmp_path).metrics
    assert metrics.norm.notna().tolist() == [True, False, True, False, True, False]
    assert stored_again(Setting("weighed", recipe(), adds=Added(weigh)), tmp_path).norm.notna().sum() == 3


def test_columns_of_another_paper_are_drawn_as_it_says():
    """Their panels come with the setting that measures them; nobody else need know of them."""
    look = Panel("Weight of the embedding", "Euclidean norm", (0.0, 9.0))
    weighed = Setting("weighed", recipe(), adds=Added(lambda run: pd.DataFrame(), {"weight_#": look}))
    plain, table = Setting("plain", recipe()), pd.DataFrame({"step": [0, 1], "weight_3": [1.0, 2.0]})
    experiment = Experiment("x", "X", "none", (plain, weighed), (), (DROP, weighed), panels=("weight_3",))
    axes = seeds_figure(experiment, {"weighed": [measured(weighed, table)]}).axes[0]
    assert (axes.get_title(loc="left"), axes.get_ylabel()) == ("Weight of the embedding", "Euclidean norm")
    assert axes.get_ylim() == (0.0, 9.0)
    other = seeds_figure(experiment, {"plain": [measured(plain, table)]}).axes[0]
    assert other.get_title(loc="left") == "Weight 3"


def test_what_leaves_another_run_is_drawn_from_there_on_if_that_is_in_the_picture():
    parent = Setting("parent", recipe())
    fork = Setting("fork", recipe(), leaves=(parent, 2))
    experiment = Experiment(
        name="e", title="E", figures="-", settings=(parent, fork), claims=(), key=(steps_to(99), parent)
    )
    table = pd.DataFrame({"step": range(4)})
    both = {"parent": [measured(parent, table)], "fork": [measured(fork, table)]}
    lines = [list(line.get_xdata()) for line in seeds_figure(experiment, both).axes[0].get_lines()]
    assert lines[:2] == [[0, 1, 2, 3], [2, 3]]
    (alone, *_) = seeds_figure(experiment, {"fork": both["fork"]}).axes[0].get_lines()
    assert list(alone.get_xdata()) == [0, 1, 2, 3]


@pytest.mark.parametrize(("first", "cut"), [(50.0, True), (1.5, False)])
def test_a_loss_s_first_steps_do_not_flatten_the_rest(first, cut):
    setting = Setting("one", recipe())
    experiment = Experiment(name="e", title="E", figures="-", settings=(setting,), claims=(), key=(DROP, setting))
    falling = [first, *np.linspace(1.0, 0.5, 199)]
    outcome_of = Outcome(setting, 0, pd.DataFrame({"step": range(200), "loss": falling}))
    low, high = seeds_figure(experiment, {"one": [outcome_of]}).axes[0].get_ylim()
    assert (high < first) == cut
    assert low < 0.5
    assert high > 1.0


def test_many_settings_beside_the_first_stand_in_bands():
    """Seven beside the first are four and three, and the same measure has one axis throughout."""
    table = pd.DataFrame({"step": range(4)})
    outcomes = {name: [measured(Setting(name, recipe()), table)] for name in "abcdefgh"}
    axes = beside_figure(outcomes, ("loss",)).axes
    assert [one.get_title(loc="left") for one in axes] == list("bcdefgh")
    assert len({one.get_ylim() for one in axes}) == 1
    rows = [round(one.get_subplotspec().get_position(axes[0].figure).y0, 3) for one in axes]
    assert len(set(rows[:4])) == len(set(rows[4:])) == 1
    assert rows[0] > rows[4]


def test_nothing_beside_the_first_is_cut_off():
    """The axis of a row is as high as what is highest in any of its panels, and not in the first."""
    columns = {"a": 0.01, "b": 0.02, "c": 1.0}
    outcomes = {
        name: [measured(Setting(name, recipe()), pd.DataFrame({"step": range(4), "validation_accuracy": value}))]
        for name, value in columns.items()
    }
    for axes in beside_figure(outcomes, ("validation_accuracy",)).axes:
        low, high = axes.get_ylim()
        assert low < 0.01
        assert high > 1.0


def test_rows_beside_the_first_say_what_is_measured():
    """By title and unit: two shares would look alike by their unit, and not every column has one."""
    table = pd.DataFrame({"step": range(4), "accuracy": 1.0, "validation_accuracy": 0.5})
    outcomes = {name: [measured(Setting(name, recipe()), table)] for name in "abc"}
    axes = beside_figure(outcomes, ("loss", "accuracy", "validation_accuracy")).axes
    told = [
        "Training loss\nnats a position",
        "Accuracy of greedy\nanswers\nshare of answer tokens",
        "Validation accuracy",
    ]
    assert [one.get_ylabel() for one in axes if one.get_ylabel()] == told


def measured(setting, table):
    return Outcome(setting, 0, table.assign(loss=1.0))


def stored_again(setting, runs):
    experiment = Experiment(
        name="e", title="E", figures="-", settings=(setting,), claims=(), key=(steps_to(99), setting)
    )
    paper = Paper(name="p", title="P", source="us", experiments=(experiment,))
    publish(paper, runs, runs / "out")
    return stored(paper, runs / "out").outcomes[setting.name][0].metrics


def test_papers_refuse_two_things_of_one_name():
    with pytest.raises(ValueError, match="two experiments have one name"):
        Paper(name="p", title="", source="", experiments=(FIRST, FIRST))
    base = dataclasses.replace(BASE)
    twin = dataclasses.replace(SECOND, settings=(base,), key=(steps_to(99), base))
    with pytest.raises(ValueError, match="two settings are called 'base'"):
        Paper(name="p", title="", source="", experiments=(FIRST, twin))


def test_an_unknown_experiment_is_told_with_the_nearest():
    with pytest.raises(ValueError, match=r"tiny has no experiment 'frist'.*first.*plateau reproduce tiny --list"):
        PAPER.choose(["frist"])
    assert PAPER.choose(["second"]) == (SECOND,)
    assert PAPER.choose() == PAPER.experiments


ADDED = {
    from_checkpoints.PROBE_COLUMNS: {"probe_test", "probe_train", "probe_test_1024"},
    from_checkpoints.SEGMENT_COLUMNS: {"cosine_segment_0", "cosine_segment_1", "cosine_segment_2"},
    from_checkpoints.STRATEGY_COLUMNS: {"alternative_0", "alternative_1", "right_counts"},
    from_checkpoints.HALF_COLUMNS: {"copies_in_half_0", "copies_in_half_1"},
    from_checkpoints.TEXT_COLUMNS: {"above_unigram"},
    ATTRIBUTED_COLUMNS: {"answer_difference"},
}


@functools.cache
def metered(task, n_layers, measuring):
    """What the meter measures, which a small model shows as well, of another text if need be."""
    task = Text(n=8) if isinstance(task, Text) else task
    width = task.defaults.d_model if isinstance(task, OneHotArithmetic) else 16  # which is that of its inputs
    small = Recipe(task, model=ModelOptions(d_model=width, n_layers=n_layers), measuring=measuring)
    step = next(train(small.build_model(), task, steps=1, batch_size=2, meter=small.build_meter()))
    return {"loss", *step.metrics}


def columns(setting):
    """What is measured of a setting's runs, by its meter and afterwards."""
    if isinstance(setting, PublishedModel):
        return {*WRITING, *setting.measures}
    if isinstance(setting, Study):
        return {*setting.adds.panels}
    task, model, measuring = setting.recipe.task, setting.recipe.model, setting.recipe.measuring
    return metered(task, model.n_layers, measuring) | ADDED.get(setting.adds, set())


@pytest.mark.parametrize("name", plugins("experiments"))
def test_the_papers_are_whole(name):
    paper = plugin("experiments", name)
    assert paper.name == name
    for experiment in paper.experiments:
        names = {setting.name for setting in experiment.settings}
        for claim in experiment.claims:
            check = claim.check
            meant = set(getattr(check, "settings", ())) | {getattr(check, key, None) for key in ("setting", "over")} - {
                None
            }
            assert meant <= names, (experiment.name, claim.text)
            assert claim.text
            assert claim.source
            assert claim.reason or check.expected.endswith("unknown"), (experiment.name, claim.text)
        measured = set().union(*(columns(setting) for setting in experiment.settings))
        assert experiment.draws is not None or set(experiment.panels) <= measured, experiment.name
        trained = [setting for setting in experiment.settings if isinstance(setting, Setting)]
        for setting in trained:
            assert Recipe.from_json(setting.recipe.to_json()).to_json() == setting.recipe.to_json()
        read = [setting for setting in experiment.settings if isinstance(setting, Study)]
        made = {setting.name for other in paper.experiments for setting in other.settings}
        assert {study.of.name for study in read} <= made
        assert len(trained) + len(read) == len(experiment.settings) or "the hub" in experiment.needs


def test_moves_that_were_not_measured_are_hatched_and_endless_ones_marked():
    table = np.array([[1.0, np.nan, np.inf]])
    axes = moves_figure({"it moves": table}, rows=["a"], columns=["0", "1", "2"]).axes[0]
    assert [text.get_text() for text in axes.texts] == ["+1", "never"]
    assert axes.images[0].get_array().tolist() == [[1.0, None, 1.0]]
    assert len(axes.patches) == 1


@pytest.mark.parametrize(
    ("name", "steps", "factor", "leaves", "taken"),
    [
        ("moving-window-sum", 400, None, None, None),
        ("bias-10", 400, 10.0, None, None),
        ("bias-2.5", 400, 2.5, None, None),
        ("bias-0.5", 2000, 0.5, None, None),
        ("bias-0.2", 2000, 0.2, None, None),
        ("bias-10-from-25", 400, 10.0, 25, None),
        ("bias-10-from-100", 400, 10.0, 100, None),
        ("transplant-attention-map", 400, None, None, "attention map"),
        ("transplant-mlp", 400, None, None, "mlp"),
        ("prefix-sum", 1000, None, None, None),
        ("softmax", 2000, None, None, None),
        ("multi-digit-addition", 10000, None, None, None),
        ("permutation", 2000, None, None, None),
        ("histogram", 5000, None, None, None),
        ("concatenated-windows", 5000, None, None, None),
    ],
)
def test_the_settings_are_the_papers(name, steps, factor, leaves, taken):
    setting = next(one for one in plugin("experiments", "loss-plateau").settings() if one.name == name)
    assert setting.recipe.steps == steps
    assert [one.factor for one in setting.recipe.interventions] == ([] if factor is None else [factor])
    assert (setting.leaves and setting.leaves[1]) == leaves
    assert (setting.takes and setting.takes[2]) == taken


def test_the_counterfactual_picture_counts_from_the_baseline_of_the_seed():
    paper = plugin("experiments", "loss-plateau")
    experiment = paper.choose(["counterfactual"])[0]

    def dropping(name, step):
        setting = next(one for one in experiment.settings if one.name == name)
        loss = np.where(np.arange(400) < (step or 400), 2.63, 1.3)
        loss[0] = 2.9
        accuracy = np.where(np.arange(400) < (step or 300) - 10, 0.1, 0.9)
        return [Outcome(setting, 0, pd.DataFrame({"step": range(400), "loss": loss, "accuracy": accuracy}))]

    steps = {"moving-window-sum": 200, "trained-mlp-from-40": 150, "frozen-mlp-from-40": None}
    drop, half, _bar = experiment.draws({name: dropping(name, step) for name, step in steps.items()}).axes
    assert sorted(text.get_text() for text in drop.texts) == ["-50", "never"]
    assert sorted(text.get_text() for text in half.texts) == ["+100", "-50"]
    assert len(drop.patches) == len(half.patches) == 8 * 5 - 2
    late = {name: dropping(name, 155) for name in ("moving-window-sum", "trained-mlp-from-160")}
    assert not experiment.draws(late).axes[0].texts, "a fork that was made after the drop"
