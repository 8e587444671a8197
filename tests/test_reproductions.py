"""plateau_interp.reproductions: plans, runs that stop and go on, stored results, RESULTS.md, the papers' data."""

import dataclasses
import functools
import json
import shutil

import filelock
import numpy as np
import pandas as pd
import pytest

from plateau_interp.cli.main import main
from plateau_interp.hooks import BiasAttention
from plateau_interp.plugins import plugin, plugins
from plateau_interp.reproductions import from_checkpoints, results
from plateau_interp.reproductions.claims import Claim, Ordered, Within
from plateau_interp.reproductions.experiments import Experiment, Paper
from plateau_interp.reproductions.pictures import moves_figure
from plateau_interp.reproductions.quantities import peak, steps_to
from plateau_interp.reproductions.results import claims, publish, stored
from plateau_interp.reproductions.running import collect, costs, outcome, plan, train_setting
from plateau_interp.reproductions.settings import AFTERWARDS, Outcome, Setting, first_solved
from plateau_interp.runs.recipe import ModelOptions, Recipe, TrainingOptions
from plateau_interp.runs.run import Run, RunError
from plateau_interp.tasks import MovingWindowSum
from plateau_interp.training.loop import train
from plateau_interp.training.optimizers import Adam

TASK = MovingWindowSum(n=4, p=5)
TRAINING = TrainingOptions(steps=6, batch_size=4, optimizer=Adam(learning_rate=1e-3))


def recipe(**changes):
    return Recipe(TASK, **{"model": ModelOptions(d_model=16), "training": TRAINING, "checkpoint_every": 2, **changes})


BASE = Setting("base", recipe(), about="baseline", whole=True)
SOLUTION = Setting("solution", recipe(), whole=True)
BIASED = Setting("biased", recipe(interventions=(BiasAttention(factor=3.0),)))
TAKEN = Setting("taken", recipe(), takes=(SOLUTION, 9, "attention map"))
LEFT = Setting("left", recipe(interventions=(BiasAttention(factor=3.0),)), leaves=(BASE, 3))
FIRST = Experiment(
    name="first",
    title="The first",
    figures="figure 1",
    settings=(BASE, BIASED),
    claims=(
        Claim("It is never solved", "us", Within(steps_to(99), "base", low=1), "a reason"),
        Claim("Bias | collapses less", "us", Ordered(peak("cosine"), ("biased", "base")), "another reason", late=True),
    ),
    n_seeds=2,
    notes="A note.",
)
SECOND = Experiment(
    name="second", title="The second", figures="figure 2", settings=(BASE, TAKEN, LEFT), claims=(), n_seeds=1
)
PAPER = Paper(name="tiny", title="Tiny", source="us", experiments=(FIRST, SECOND))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The runs of both experiments."""
    folder = tmp_path_factory.mktemp("runs")
    for setting, seed in plan(PAPER.experiments):
        train_setting(setting, seed, folder)
    return folder


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
        outcome(dataclasses.replace(LEFT, leaves=(parent, 3)), 0, runs)


def test_what_is_taken_is_found_again_after_the_folders_moved(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    train_setting(SOLUTION, 9, old)
    for step in TAKEN.open(old, 0).train():
        if step.step == 2:
            break
    old.rename(new)
    assert train_setting(TAKEN, 0, new).metrics.step.tolist() == list(range(6))


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
        dataclasses.replace(LEFT, leaves=(dataclasses.replace(CHANGED, name="base"), 3)),
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
    monkeypatch.setattr("plateau_interp.reproductions.settings.SOLVED_ACCURACY", 0.0)
    monkeypatch.setattr("plateau_interp.reproductions.running.SOLVED_ACCURACY", 0.0)
    monkeypatch.setattr("plateau_interp.reproductions.settings.AFTERWARDS", 2)
    done = train_setting(BIASED, 0, tmp_path)
    assert done.metrics.step.tolist() == [0, 1, 2]
    assert outcome(BIASED, 0, tmp_path) is not None


def test_measures_taken_afterwards_stand_beside_the_others(tmp_path):
    def weigh(run):
        rows = [{"step": step, "norm": run.model(step).W_E.norm().item()} for step in run.checkpoints if step < 6]
        return pd.DataFrame(rows)

    metrics = train_setting(Setting("weighed", recipe(), adds=weigh), 0, tmp_path).metrics
    assert metrics.norm.notna().tolist() == [True, False, True, False, True, False]
    assert stored_again(Setting("weighed", recipe(), adds=weigh), tmp_path).norm.notna().sum() == 3


def stored_again(setting, runs):
    experiment = Experiment(name="e", title="E", figures="-", settings=(setting,), claims=())
    paper = Paper(name="p", title="P", source="us", experiments=(experiment,))
    publish(paper, runs, runs / "out")
    return stored(paper, runs / "out")[setting.name][0].metrics


def test_results_are_stored_whole_and_claims_read_from_them(runs, tmp_path):
    page = publish(PAPER, runs, tmp_path)
    kept = stored(PAPER, tmp_path)
    assert {name: len(ours) for name, ours in kept.items()} == {"base": 2, "biased": 2, "taken": 1, "left": 1}
    for setting in (BASE, LEFT):
        trained = outcome(setting, 0, runs).metrics
        pd.testing.assert_frame_equal(kept[setting.name][0].metrics, trained, check_dtype=False, rtol=1e-6)
    found = claims(PAPER, [FIRST], tmp_path)
    assert found[0]["verdict"] == "holds"
    assert found[1]["measured"].startswith("biased ")
    text = page.read_text()
    assert "# Results: Tiny" in text
    assert "![The first](results/tiny/first.png)" in text
    assert (tmp_path / "results" / "tiny" / "first.png").is_file()
    assert "| first | Bias \\| collapses less | us (late) |" in text
    assert "another reason" in text
    assert "| baseline | 2 |" in text
    assert "A note." in text
    assert str(tmp_path) not in text
    assert str(runs) not in "".join(file.read_text() for file in tmp_path.rglob("*.json"))


def test_other_seeds_stay_and_the_same_seed_is_replaced(runs, tmp_path):
    publish(PAPER, runs, tmp_path)
    before = (tmp_path / "results" / "tiny" / "base.parquet").read_bytes()
    publish(PAPER, tmp_path / "none", tmp_path)
    assert (tmp_path / "results" / "tiny" / "base.parquet").read_bytes() == before
    other = tmp_path / "other"
    train_setting(BASE, 2, other)
    train_setting(BASE, 0, other)
    publish(PAPER, other, tmp_path)
    assert [one.seed for one in stored(PAPER, tmp_path)["base"]] == [0, 1, 2]


def test_one_process_publishes_at_a_time(tmp_path, monkeypatch):
    def published(paper, runs, out, folder):
        with pytest.raises(filelock.Timeout):
            filelock.FileLock(folder / ".lock").acquire(timeout=0)
        return out

    monkeypatch.setattr(results, "_published", published)
    assert publish(PAPER, tmp_path / "none", tmp_path) == tmp_path


def test_results_are_whole_after_a_kill_between_their_two_files(runs, tmp_path):
    publish(PAPER, runs, tmp_path)
    file = tmp_path / "results" / "tiny" / "base.json"
    about = file.read_text()
    file.unlink()
    assert [one.seed for one in stored(PAPER, tmp_path)["base"]] == [0, 1]
    publish(PAPER, runs, tmp_path)
    assert file.read_text() == about


def test_results_of_another_recipe_under_the_same_name_do_not_count(runs, tmp_path):
    publish(PAPER, runs, tmp_path)
    changed = dataclasses.replace(BASE, recipe=recipe(training=dataclasses.replace(TRAINING, batch_size=8)))
    paper = dataclasses.replace(PAPER, experiments=(dataclasses.replace(FIRST, settings=(changed, BIASED)),))
    assert stored(paper, tmp_path)["base"] == []


def test_what_was_not_run_is_said(runs, tmp_path):
    only = tmp_path / "only"
    for setting, seed in plan([FIRST], n_seeds=1):
        train_setting(setting, seed, only)
    text = publish(PAPER, only, tmp_path).read_text()
    assert "## Not run" in text
    assert "* `second` (figure 2): The second" in text


def test_remarks_by_hand_stand_in_their_experiment(runs, tmp_path):
    remarks = "About.\n\n## second\n\nSeen there.\n\n## first\nHere.\n\n## about\nTwo.\n\n## machine\nOld.\n"
    (tmp_path / "results" / "tiny").mkdir(parents=True)
    (tmp_path / "results" / "tiny" / "remarks.md").write_text(remarks)
    text = publish(PAPER, runs, tmp_path).read_text()
    first, second = text.index("## first: The first"), text.index("## second: The second")
    assert text.index("\nTwo.\n") < text.index("\nOf ")
    assert first < text.index("\nHere.\n") < second < text.index("\nSeen there.\n")
    assert text.endswith("\nOld.\n")
    assert "About." not in text


def test_what_did_not_hold_is_listed(runs, tmp_path):
    wrong = Claim("It is solved", "us", Within(steps_to(99), "base", high=3), "a reason")
    failing = dataclasses.replace(FIRST, claims=(*FIRST.claims, wrong))
    text = publish(dataclasses.replace(PAPER, experiments=(failing,)), runs, tmp_path).read_text()
    assert "## What did not hold\n\n* `first`: " in text
    assert "* `first`: It is solved (steps to 99 % ≤ 3). Measured: never [never, never] (2 seeds).\n" in text
    alone = dataclasses.replace(FIRST, claims=FIRST.claims[:1])
    assert (
        "## What did not hold"
        not in publish(dataclasses.replace(PAPER, experiments=(alone,)), runs, tmp_path).read_text()
    )


def test_costs_say_what_is_done_and_what_is_left(runs, tmp_path):
    done, half = costs(PAPER.experiments, runs), costs(PAPER.experiments, tmp_path)
    assert [(cost["runs"], cost["done"]) for cost in done] == [(4, 4), (4, 4)]
    assert [cost["seconds"] for cost in done] == [0, 0]
    assert all(cost["seconds"] > 0 and cost["done"] == 0 for cost in half)


def test_papers_refuse_two_things_of_one_name():
    with pytest.raises(ValueError, match="two experiments have one name"):
        Paper(name="p", title="", source="", experiments=(FIRST, FIRST))
    twin = dataclasses.replace(SECOND, settings=(dataclasses.replace(BASE),))
    with pytest.raises(ValueError, match="two settings are called 'base'"):
        Paper(name="p", title="", source="", experiments=(FIRST, twin))


def test_an_unknown_experiment_is_told_with_the_nearest():
    with pytest.raises(ValueError, match=r"tiny has no experiment 'frist'.*first.*plateau reproduce tiny --list"):
        PAPER.choose(["frist"])
    assert PAPER.choose(["second"]) == (SECOND,)
    assert PAPER.choose() == PAPER.experiments


ADDED = {
    from_checkpoints.probe_accuracies: {"probe_test", "probe_train", "probe_test_1024"},
    from_checkpoints.segment_cosines: {"cosine_segment_0", "cosine_segment_1", "cosine_segment_2"},
    from_checkpoints.permutation_strategies: {"alternative_0", "alternative_1", "right_counts"},
    from_checkpoints.copies_within_halves: {"copies_in_half_0", "copies_in_half_1"},
}


@functools.cache
def metered(task, n_layers, measuring):
    """What the meter measures, which a small model shows as well."""
    small = Recipe(task, model=ModelOptions(d_model=16, n_layers=n_layers), measuring=measuring)
    step = next(train(small.build_model(), task, steps=1, batch_size=2, meter=small.build_meter()))
    return {"loss", *step.metrics}


def columns(setting):
    """What is measured of a setting's runs, by its meter and afterwards."""
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
        for setting in experiment.settings:
            assert Recipe.from_json(setting.recipe.to_json()).to_json() == setting.recipe.to_json()


@pytest.fixture
def tiny(monkeypatch):
    """The command line knows the tiny paper as loss-plateau."""
    monkeypatch.setattr("plateau_interp.cli.main.plugin", lambda kind, name: PAPER)


@pytest.mark.usefixtures("tiny")
def test_the_command_trains_tells_and_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", "tiny", "first", "--seeds", "1", "--json"]) == 0
    told = capsys.readouterr()
    answer = json.loads(told.out)
    assert answer["results"] == "runs/tiny/RESULTS.md"
    assert answer["claims"][0]["verdict"] == "holds"
    assert "step 6/6" in told.err
    assert main(["reproduce", "tiny", "first", "--seeds", "1", "--publish", "."]) == 0
    told = capsys.readouterr()
    assert "It is never" in told.out
    assert "Results: RESULTS.md" in told.out
    assert told.err == ""
    assert (tmp_path / "results" / "tiny" / "base.parquet").is_file()


@pytest.mark.usefixtures("tiny")
def test_the_command_lists_costs_and_trains_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", "tiny", "--list"]) == 0
    told = capsys.readouterr().out
    assert "first" in told
    assert "0/4" in told
    assert list(tmp_path.iterdir()) == []
    Run.create("runs/tiny/base/seed-0", recipe(checkpoint_every=5))
    assert main(["reproduce", "tiny", "--list"]) == 0
    told = capsys.readouterr()
    assert "0/4" in told.out
    assert told.err.endswith("to be moved (or use another --out): runs/tiny/base/seed-0\n")


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("frist", "tiny has no experiment 'frist'"),
        ("first --device nonsense", "unknown device 'nonsense'"),
        ("--seeds 0", "seeds must be"),
    ],
)
def test_the_command_tells_a_mistake_in_one_line(words, line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", "tiny", *words.split()]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"plateau: {line}")
    assert told.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("tiny")
def test_a_run_that_fails_keeps_no_other_from_being_made(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Run.create("runs/tiny/base/seed-0", recipe(checkpoint_every=5))
    assert main(["reproduce", "tiny", "first", "--seeds", "2", "--json"]) == 2
    told = capsys.readouterr()
    assert "1 of 4 runs failed: base seed 0: runs/tiny/base/seed-0 holds a run of another recipe" in told.err
    assert len(json.loads(told.out)["claims"]) == 2
    assert [one.seed for one in stored(PAPER, tmp_path / "runs" / "tiny")["base"]] == [1]
    assert main(["reproduce", "tiny", "first", "--seeds", "2", "--draw"]) == 2
    assert "1 of 4 runs failed" in capsys.readouterr().err


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
