"""Reports: the words, the numbers and the files."""

import dataclasses
import json
import os
import re
import shutil
from dataclasses import replace
from html import unescape

import numpy as np
import pandas as pd
import pytest
import torch
from trained_runs import finished
from typecheck import unchecked

from plateau_interp.analysis.plateaus import summarise
from plateau_interp.files import write_atomically
from plateau_interp.hooks import BiasAttention, During, FixAttention
from plateau_interp.models import ToyTransformer
from plateau_interp.models.matrix_draws import Sparse
from plateau_interp.models.settings import ModelOptions
from plateau_interp.runs.donors import InitFrom
from plateau_interp.runs.recipe import Recipe
from plateau_interp.runs.run import Run
from plateau_interp.tasks import DepthTwoNet, ModularArithmetic, MovingWindowSum, OneHotArithmetic
from plateau_interp.training.settings import MeasuringOptions, TrainingOptions
from plateau_interp.views import report_curves, report_maps, report_words
from plateau_interp.views.attention_views import attention_view
from plateau_interp.views.curves import curves_figure
from plateau_interp.views.page import PICTURES_ARE_MARKED, check_report_folder, report_pictures, write_report_page
from plateau_interp.views.readings import affordable
from plateau_interp.views.report import write_report
from plateau_interp.views.saving import report_mark, save_figure
from plateau_interp.views.theme import DARK, LIGHT

TASK = MovingWindowSum(n=4, p=5)


def train(path, *, seed=0, steps=6, n_layers=1, n_heads=1):
    options = ModelOptions(d_model=16, n_layers=n_layers, n_heads=n_heads)
    recipe = Recipe(TASK, options, TrainingOptions(steps=steps, batch_size=8), checkpoint_every=2, seed=seed)
    run = Run.create(path, recipe)
    for _step in run.train():
        pass
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train(tmp_path_factory.mktemp("runs") / "tiny")


@pytest.fixture(scope="module")
def html(run):
    return write_report(run).read_text(encoding="utf-8")


class Dropped:
    """A run with the metrics of a plateau and a drop, such as no tiny model has in six steps."""

    def __init__(self, run, *, drop=200, n_steps=400, early=True):
        steps = np.arange(n_steps)
        after = 1 / (1 + np.exp(-(steps - drop + 0.5) / 6))
        progress = 1 / (1 + np.exp(-(steps - drop + (40 if early else -40)) / 10))
        loss = 2.63 + 0.26 * np.exp(-steps / 4) - 1.32 * after
        columns = {"step": steps, "samples": steps * 256, "loss": loss, "accuracy": after, "accuracy_0": 1.0}
        columns |= {f"accuracy_{index}": after for index in range(1, 16)}
        columns |= {"repetition": 0.5 - 0.44 * after, "repetition_truth": 0.06}
        columns |= {"attention_progress": 0.1 + 0.7 * progress, "cosine": 0.95 * (1 - after)}
        self.metrics, self.task, self.recipe = pd.DataFrame(columns), MovingWindowSum(), Recipe(MovingWindowSum())
        self.path, self.checkpoints = run.path, []

    def model(self, step=None):
        raise AssertionError("it has no checkpoint")

    @property
    def summary(self):
        return summarise(self.metrics, task=self.task, batch_size=256)


def text_of(html):
    return unescape(re.sub(r"\s+", " ", re.sub(r"<(script|style|svg).*?</\1>|<[^>]+>", " ", html, flags=re.DOTALL)))


def test_a_report_is_one_page_and_its_pictures(run):
    index = write_report(run)
    assert index == run.path / "report" / "index.html"
    pictures = {path.stem for path in index.parent.glob("*.png")}
    assert {path.name for path in index.parent.iterdir()} == {*(f"{name}.png" for name in pictures), "index.html"}
    usual = {"accuracy", "attention_progress", "cosine", "loss", "repetition"}
    assert usual | {"attention-0", "collapse", "positions"} <= pictures
    assert pictures - {"attention-0", "collapse", "positions"} <= set(run.metrics.columns)
    for path in index.parent.glob("*.png"):
        assert path.read_bytes().startswith(b"\x89PNG")


def test_a_report_needs_no_network(html):
    assert "default-src 'none'" in html
    assert html.count("CircuitsVis=(()") == 1
    markup = re.sub(r"<script>.*?</script>", "", html, flags=re.DOTALL)
    links = re.findall(r'(?:src|href)="([^"]+)"', markup)
    assert links
    assert all(re.match(r"data:|#|[\w-]+\.png$", link) for link in links)
    assert "url(http" not in markup
    assert "@import" not in markup


def test_the_same_run_gives_the_same_report(run, html, tmp_path):
    assert write_report(run, tmp_path / "again").read_text(encoding="utf-8") == html


def test_every_number_of_the_summary_is_in_the_table(run, html):
    text = text_of(html)
    for label, value in run.summary.rows():
        assert f"{label} {value}" in text


def test_ids_on_the_page_are_unique(html):
    html = re.sub(r"<script>.*?</script>", "", html, flags=re.DOTALL)
    found = re.findall(r'\sid="([^"]+)"', html)
    assert found
    assert len(found) == len(set(found))


def test_figures_are_there_for_a_light_and_a_dark_page(html):
    for theme, other in ((LIGHT, DARK), (DARK, LIGHT)):
        drawn = "".join(re.findall(rf'<div class="on-{theme.name}"><svg.*?</svg>', html, flags=re.DOTALL))
        for name in ("ground", "ink", "muted", "grid", "accent"):  # the ground is behind the words
            assert getattr(theme, name) in drawn
            assert getattr(other, name) not in drawn


@pytest.mark.usefixtures("undrawn")
def test_names_are_escaped(tmp_path):
    run = train(tmp_path / "<img src=x onerror=alert(1)>", steps=2)
    html = write_report(run).read_text(encoding="utf-8")
    assert "<img src=x" not in html
    assert "<img src=x onerror=alert(1)>" in text_of(html)


@pytest.mark.usefixtures("undrawn")
def test_a_name_that_is_not_utf_8_is_told_by_its_bytes(tmp_path):
    runs = [train(tmp_path / os.fsdecode(name), steps=2) for name in (b"caf\xe9", b"caf\xe8")]
    assert report_words.run_names(runs) == [r"caf\xe9", r"caf\xe8"]
    assert r"caf\xe9" in text_of(write_report(runs[0]).read_text(encoding="utf-8"))
    assert r"caf\xe8: attention" in attention_view(runs[1]).title


@pytest.mark.usefixtures("undrawn")
def test_each_layer_has_its_maps(tmp_path):
    run = train(tmp_path / "deep", steps=2, n_layers=2)
    index = write_report(run)
    assert (index.parent / "attention-1.png").exists()
    text = text_of(index.read_text(encoding="utf-8"))
    assert "Attention, layer 0" in text
    assert "Attention, layer 1" in text


def test_the_headline_says_what_was_measured(run):
    dropped = Dropped(run)
    headline = report_words.run_headline([dropped], [dropped.summary])
    summary = dropped.summary
    length = len(range(summary.start, summary.end + 1))
    assert headline == f"The loss sat at 2.63 nats for {length} steps, then dropped at step 200 and ended at 1.31."
    assert "1 of 16 answers was right" in report_words.lede([dropped], [summary])
    dropped.metrics = dropped.metrics.assign(accuracy_14=float("nan"), accuracy_15=float("nan"))  # never labelled
    assert "1 of 14 answers was right" in report_words.lede([dropped], [summary])


def test_the_headline_without_a_drop(run):
    flat = Dropped(run, drop=1000)
    assert report_words.run_headline([flat], [flat.summary]) == "No drop in 400 steps: the loss is 2.63 nats."
    short = Dropped(run, drop=1000, n_steps=52)
    told = "No drop in 52 steps: the loss is 2.63 nats. Unfinished: 52 of 400 steps are made."
    assert report_words.run_headline([short], [short.summary]) == told
    assert ("Drop", "none") in [fact[:2] for fact in report_words.facts([flat], [flat.summary])]


def test_a_run_that_is_shorter_than_its_measuring_interval_says_when_its_loss_was_measured(tmp_path):
    options = TrainingOptions(steps=3, batch_size=8)
    recipe = Recipe(TASK, ModelOptions(d_model=16), options, measuring=MeasuringOptions(every=5))
    short = finished(tmp_path / "short", recipe)
    assert short.summary.last_step == 0
    headline = report_words.run_headline([short], [short.summary])
    assert re.fullmatch(r"No drop in 3 steps: the loss is [\d.]+ nats, measured at step 0\.", headline)
    facts = {name: remark for name, _, remark in report_words.facts([short], [short.summary])}
    assert re.fullmatch(r"floor [\d.]+; mean of the last rows, to step 0", facts["Final loss"])
    both = report_words.facts([short, short], [short.summary, replace(short.summary, last_step=2)])
    assert re.fullmatch(r"floor [\d.]+", both[-1][2])


def test_a_loss_that_never_left_its_initial_level_is_not_told_as_a_plateau(run):
    flat = Dropped(run)
    flat.metrics = flat.metrics.iloc[:20].assign(loss=2.9)
    told = report_words.run_headline([flat], [flat.summary])
    assert told.startswith("No drop in 20 steps: the loss never left its initial level, 2.90 nats.")
    facts = {label: rest for label, *rest in report_words.facts([flat], [flat.summary])}
    assert facts["Plateau"][0] == "none"
    assert facts["On the plateau"] == ["none", "the loss never left its initial level"]
    assert report_words.lede([flat] * 2, [flat.summary] * 2).startswith("There was no plateau.")
    assert "plateau's level" not in report_curves.loss_caption(flat.summary, fresh=True, known=True)


def test_steps_on_the_plateau_count_the_first_and_the_last(run):
    dropped = Dropped(run)
    _label, number, where = report_words.facts([dropped], [dropped.summary])[1]
    start, end = (int(word) for word in where.removeprefix("step ").split(" to "))
    assert number == f"{len(range(start, end + 1))} steps"


def test_steps_between_two_measurements_count(tmp_path):
    training, measuring = TrainingOptions(steps=6, batch_size=8), MeasuringOptions(every=4)
    recipe = Recipe(TASK, ModelOptions(d_model=16), training, measuring=measuring)
    rare = Run.create(tmp_path / "rare", recipe)
    for _step in rare.train():
        pass
    assert rare.metrics["step"].tolist() == [0, 4]
    assert report_words.run_headline([rare], [replace(rare.summary, drop_step=None)]).startswith("No drop in 6 steps")


def test_the_headline_of_several_runs(run):
    runs = [Dropped(run, drop=drop) for drop in (150, 200, 1000)]
    summaries = [each.summary for each in runs]
    assert report_words.run_headline(runs, summaries) == "2 of 3 runs dropped, between steps 150 and 200."
    assert report_words.run_headline(runs[:2], summaries[:2]) == "Both runs dropped, between steps 150 and 200."
    assert report_words.run_headline([runs[1]] * 3, [summaries[1]] * 3) == "All 3 runs dropped, at step 200."
    assert report_words.run_headline([runs[2]] * 3, [summaries[2]] * 3) == "None of the 3 runs dropped."


@pytest.mark.usefixtures("undrawn")
def test_unfinished_runs_are_named(run, tmp_path):
    finished, short = train(tmp_path / "finished"), stopped(tmp_path / "short")
    for runs, there in (([finished], False), ([short], True), ([finished, short], True)):
        text = text_of(write_report(runs, tmp_path / "report").read_text(encoding="utf-8"))
        assert ("nfinished: " in text) == there
        how = "short made 3 of 6 steps" if len(runs) > 1 else "3 of 6 steps are made"
        assert (f"Unfinished: {how}." in text) == there
        table = " ".join("3 of 6" if each is short else "6 of 6" for each in runs)
        assert f"Steps {table} Plateau level" in text
    many = [finished, *(stopped(tmp_path / str(number)) for number in range(3))]
    assert report_words.run_headline(many, [each.summary for each in many]).endswith(" 3 of them are unfinished.")


def stopped(path):
    """A run that was left after three of six steps."""
    options = TrainingOptions(steps=6, batch_size=8)
    short = Run.create(path, Recipe(TASK, ModelOptions(d_model=16), options, checkpoint_every=2))
    for step in short.train():
        if step.step == 2:
            break
    return short


@pytest.mark.usefixtures("undrawn")
def test_a_fork_and_its_interventions_are_told(run, tmp_path):
    acting = [FixAttention(), During(BiasAttention(factor=5.0), start=3)]
    fork = run.fork(at=2, interventions=acting, out=tmp_path / "fork")
    for _step in fork.train():
        pass
    told = "FixAttention(), During(BiasAttention(factor=5.0), start=3)"
    html = write_report(fork).read_text(encoding="utf-8")
    text = text_of(html)
    assert f"A fork that left its parent at step 2; what acts in it: {told}." in text
    assert re.search(r"went from [\d.]+ to 1\.00, the interventions included\.", text)
    assert "Forked at step 2 Interventions FixAttention(), " in text
    alone = "the run's interventions are not applied."
    captions = [unescape(label) for label in re.findall(r'class="stills" role="img" aria-label="([^"]+)"', html)]
    assert [alone in caption for caption in captions] == [True, True]
    assert text.count(alone) == 2
    assert "As in training: interventions included." in text
    both = text_of(write_report([run, fork], tmp_path / "both").read_text(encoding="utf-8"))
    assert "Forked at step no fork 2 Interventions none FixAttention(), " in both
    assert alone not in both  # the stills are those of the first
    plain = run.fork(at=2, interventions=[], out=tmp_path / "plain")
    assert report_words.origin(plain) == "A fork that left its parent at step 2; what acts in it: nothing."
    assert report_words.origin(run) == ""


@pytest.mark.usefixtures("undrawn")
def test_views_of_runs_in_folders_of_one_name_are_told_apart(tmp_path):
    """As in a sweep, where each setting has a seed-0; and what an intervention does is not in the picture."""
    plain = train(tmp_path / "plain" / "seed-0")
    biased = plain.fork(at=2, interventions=[BiasAttention(factor=5.0)], out=tmp_path / "biased" / "seed-0")
    for _step in biased.train():
        pass
    html = write_report([plain, biased], tmp_path / "report").read_text(encoding="utf-8")
    assert "<p>plain/seed-0: attention through training, layer 0, head" in html
    assert "<p>biased/seed-0: attention through training, layer 0, without its interventions, head" in html


def test_what_a_run_began_with_is_told(run):
    recipe = replace(run.recipe, model=replace(run.recipe.model, init=(Sparse(0.5),)))
    assert report_words.beginning(run.recipe) == ""
    assert report_words.beginning(recipe) == f"weights drawn by {Sparse(0.5)!r}"
    step = run.checkpoints[-1]
    whole = replace(run.recipe, init_from=InitFrom(f"{run.path}@{step}", optimizer="taken"))
    told = f"all weights of {run.path.name} at step {step}, and its optimiser's state"
    assert report_words.beginning(whole) == told
    part = replace(recipe, init_from=InitFrom(f"{run.path}@{step}", where=("mlp", "embed.*")))
    assert report_words.beginning(part).endswith(
        f"; then the weights of mlp, embed.* of {run.path.name} at step {step}"
    )
    begun = Begun(run, whole)
    assert report_words.origin(begun) == f"It began with {told}."
    assert ("Began with", ["the paper's draw", told]) in report_words.histories([run, begun])


class Begun:
    """A run as if it had been made by another recipe."""

    def __init__(self, run, recipe):
        self.run, self.recipe = run, recipe

    def __getattr__(self, name):
        return getattr(self.run, name)


@pytest.mark.parametrize("early", [True, False])
def test_what_comes_first_is_claimed_only_where_it_did(run, early):
    dropped = Dropped(run, early=early)
    assert ("before the drop" in panels([dropped])["attention_progress"][1]) == early


class Altered:
    """A run with other columns in its metrics."""

    def __init__(self, run, **columns):
        self.run = run
        self.metrics = run.metrics.assign(**columns)
        self.path, self.task, self.recipe, self.checkpoints = run.path, run.task, run.recipe, []
        self.model = run.model

    @property
    def summary(self):
        return summarise(self.metrics, task=self.task, batch_size=256)


def panels(runs):
    names = [str(index) for index in range(len(runs))]
    drawings = report_curves.curve_drawings(runs, names, [run.summary for run in runs])
    return {drawing.name: (drawing.draw(theme=LIGHT).axes[0], drawing.caption) for drawing in drawings}


def legend(axes):
    drawn = [*axes.figure.legends, *filter(None, [axes.get_legend()])]
    return [text.get_text() for one in drawn for text in one.get_texts()]


def test_a_validation_set_is_a_dashed_line(run):
    dropped = Dropped(run)
    late = dropped.metrics["loss"].where(dropped.metrics["step"] % 10 == 0)
    held_out = Altered(dropped, validation_loss=late, validation_accuracy=0.5)
    axes, caption = panels([held_out])["loss"]
    assert legend(axes) == ["training", "validation"]
    assert axes.get_title(loc="left") == "Loss"
    assert "Dashed: on the validation set." in caption
    assert "fresh" not in caption
    dashed = next(line for line in axes.get_lines() if line.get_linestyle() == "--")
    assert dashed.get_xdata().tolist() == list(range(0, 400, 10))
    assert dashed.get_ydata() == pytest.approx(late.dropna())
    assert legend(panels([held_out])["accuracy"][0]) == ["training", "validation"]
    assert legend(panels([held_out, held_out])["loss"][0]) == ["0", "validation", "1"]
    assert "new sequences" in report_words.setting(dropped)
    assert panels([dropped])["loss"][0].get_title(loc="left") == "Training loss"


def test_the_tasks_of_a_mixture_are_thin_lines(run):
    table = run.metrics
    mixed = Altered(run, loss_one_task=table["loss"] + 1, loss_other=table["loss"], accuracy_other=0.5, accuracy_2=0.1)
    found = panels([mixed])
    assert legend(found["loss"][0]) == ["all", "one task", "other"]
    assert legend(found["accuracy"][0]) == ["all", "other"]
    assert found["loss"][0].get_lines()[1].get_ydata() == pytest.approx(table["loss"] + 1)
    assert "Thin lines" in found["loss"][1]
    assert not [name for name in found if "other" in name or "one_task" in name]


@pytest.mark.usefixtures("undrawn")
def test_a_task_that_was_never_drawn_is_left_out(run, tmp_path):
    loss = run.metrics["loss"]
    mixed = Altered(run, loss_seen=loss, loss_never=np.nan, accuracy_never=np.nan)
    assert legend(panels([mixed])["loss"][0]) == ["all", "seen"]
    assert "Thin lines" not in panels([Altered(run, loss_never=np.nan)])["loss"][1]
    assert write_report(mixed, tmp_path / "report").exists()


def test_layers_are_thin_lines(run):
    deep = Altered(run, attention_progress_0=0.1, attention_progress_1=0.9)
    found = panels([deep])
    assert legend(found["attention_progress"][0]) == ["all", "layer 0", "layer 1"]
    assert "attention_progress_0" not in found


def test_columns_that_the_suite_does_not_know_get_panels(run):
    columns = {"cosine@blocks.0.hook_attn_out": 0.5, "my_measure": 2.0, "empty": np.nan, "words": "x"}
    found = panels([Altered(run, **columns)])
    assert set(found) - set(panels([run])) == {"cosine-blocks-0-hook_attn_out", "my_measure"}
    assert found["my_measure"][0].get_title(loc="left") == "My measure"
    assert found["cosine-blocks-0-hook_attn_out"][0].get_title(loc="left") == "Cosine at blocks.0.hook_attn_out"
    assert "my_measure" not in panels([Altered(run, **columns), run])  # not every run has it


def test_levels_are_drawn_if_they_are_those_of_all_runs(run, tmp_path):
    class Other(Dropped):
        def __init__(self, run):
            super().__init__(run)
            self.task = MovingWindowSum(p=5)

    assert "closed-form" in panels([Dropped(run)])["loss"][1]
    assert "closed-form" not in panels([Dropped(run), Other(run)])["loss"][1]


def of_task(run, task, **columns):
    """A run with a drop whose task has other closed forms."""
    other = Dropped(run)
    other.metrics = other.metrics.assign(**columns)
    other.task, other.recipe = task, Recipe(task)
    return other


def test_closed_forms_are_told_if_they_are_those_of_all_runs(run):
    first, other = Dropped(run), of_task(run, MovingWindowSum(p=5))
    for runs in ([first, other], [other, first]):
        summaries = [each.summary for each in runs]
        assert "closed form" not in report_words.lede(runs, summaries).lower()
        remarks = [remark for _label, _number, remark in report_words.facts(runs, summaries)]
        assert (remarks[0], remarks[-1]) == ("closed forms differ", "floors differ; mean of the last rows, to step 399")
    same = [first.summary] * 2
    assert "The closed form of the plateau is 2.6" in report_words.lede([first] * 2, same)
    assert [remark[:11] for *_, remark in report_words.facts([first] * 2, same)][::3] == ["closed form", "floor 1.299"]


def test_the_distance_to_the_closed_form_is_that_of_the_level(run):
    dropped = Dropped(run)
    summary = dropped.summary
    told = f"The plateau's level is {summary.level:.3f} nats, {abs(summary.level - summary.level_expected):.3f} from"
    assert told in panels([dropped])["loss"][1]


def test_answer_positions_are_averaged_over_seeds_alone(run):
    first, other = Dropped(run), of_task(run, MovingWindowSum(p=5), accuracy_16=0.25)
    for runs in ([first, other, first], [other, first, first]):
        found = {name: shown for name, shown in panels(runs).items() if name.startswith("positions")}
        assert sorted(found) == ["positions-1", "positions-2"]
        told = {caption.partition(" Of ")[2]: axes for axes, caption in found.values()}
        names = {
            f"{runs.index(first)} and others. Mean of 2 runs, at each step of those that got so far.": 16,
            f"{runs.index(other)}.": 17,
        }
        assert {text: len(axes.get_images()[0].get_array()) for text, axes in told.items()} == names
    assert "Mean" not in panels([first])["positions"][1]


@pytest.mark.usefixtures("undrawn")
def test_runs_of_any_numbers_of_answers_are_reported_together(run, tmp_path):
    recipe = Recipe(MovingWindowSum(n=3, p=5), ModelOptions(d_model=16), TrainingOptions(steps=2, batch_size=8))
    other = Run.create(tmp_path / "other", recipe)
    for _step in other.train():
        pass
    there = [write_report(runs, tmp_path / "report").parent for runs in ([run, other], [other, run])]
    assert all((folder / f"positions-{number}.png").exists() for folder in there for number in (1, 2))


@pytest.mark.usefixtures("undrawn")
def test_what_some_runs_alone_measured_is_named(run, tmp_path):
    table = run.metrics
    groups = {"loss_x": table["loss"], "accuracy_x": 0.5, "validation_loss": 1.0}
    other = Altered(run, my_measure=2.0, empty=np.nan, **groups)
    other.metrics = other.metrics.drop(columns="cosine")
    told = ["My measure", "Similarity of hidden states"]
    assert report_curves.not_drawn([run, other]) == report_curves.not_drawn([other, run]) == told
    assert report_curves.not_drawn([run, run]) == []
    text = text_of(write_report([other, run], tmp_path / "report").read_text(encoding="utf-8"))
    assert "Not drawn, as not every run measured it: My measure, Similarity of hidden states." in text


def test_the_true_answers_of_several_runs_are_a_mean(run):
    assert "Dotted: of the true answers." in panels([Dropped(run)])["repetition"][1]
    assert "Dotted: of the true answers, mean of the runs." in panels([Dropped(run)] * 2)["repetition"][1]


def test_lines_of_single_runs_are_called_no_means(run):
    runs = [of_task(run, MovingWindowSum(p=p)) for p in (5, 7, 11, 13, 17, 19, 23)]
    assert "mean over seeds" not in panels(runs)["loss"][1]
    assert "Line: mean over seeds" in panels([*runs, runs[0]])["loss"][1]


def test_the_drop_is_in_a_caption_if_there_is_one(run):
    assert "Vertical line: the drop" in panels([Dropped(run)])["positions"][1]
    assert "Vertical lines: the drop" in panels([Dropped(run), Dropped(run, drop=100)])["positions"][1]
    assert "Vertical" not in panels([Dropped(run, drop=1000)])["positions"][1]
    assert "Vertical lines: the drops." in panels([Dropped(run), Dropped(run, drop=100)])["loss"][1]
    assert "Vertical line: the drop." in panels([Dropped(run), Dropped(run, drop=1000)])["loss"][1]
    assert "Vertical" not in panels([Dropped(run, drop=1000)] * 2)["loss"][1]


def test_captions_of_runs_with_and_without_a_validation_set(run):
    dropped = Dropped(run)
    mixed = panels([dropped, Altered(dropped, validation_loss=2.0, validation_accuracy=np.nan)])
    assert mixed["loss"][1].startswith("Training loss;")
    assert "Dashed: on the validation set, of the runs that have one." in mixed["loss"][1]
    assert "Dashed" not in mixed["accuracy"][1]
    assert legend(mixed["loss"][0]) == ["0", "1", "validation"]
    assert panels([dropped, dropped])["loss"][1].startswith("Training loss of fresh batches;")


@pytest.mark.usefixtures("undrawn")
def test_what_was_not_measured_is_not_told_as_nan(run, tmp_path):
    dropped = Dropped(run)
    last = dropped.metrics["step"] == 399
    gaps = {name: dropped.metrics[name].mask(last) for name in ("accuracy", "attention_progress")}
    text = text_of(write_report(Altered(dropped, **gaps), tmp_path / "report").read_text(encoding="utf-8"))
    assert "nan" not in re.findall(r"\w+", text.lower())
    assert "Final accuracy not measured" in text
    assert re.search(r"Attention progress, start to end 0\.\d+ to not measured", text)
    assert "The share of attention" not in text
    never = Altered(dropped, attention_progress=dropped.metrics["attention_progress"].where(last))
    assert "before the drop" not in panels([never])["attention_progress"][1]


@pytest.mark.usefixtures("undrawn")
def test_of_many_runs_it_says_which_are_shown(run, tmp_path):
    runs = [run, *(train(tmp_path / name, steps=2) for name in ("second", "third"))]
    text = text_of(write_report(runs, tmp_path / "all").read_text(encoding="utf-8"))
    assert "Below: tiny and second, of 3 runs with checkpoints." in text
    assert "Collapse of tiny" in text


@pytest.mark.usefixtures("undrawn")
def test_several_runs_lie_over_each_other(run, tmp_path):
    other = train(tmp_path / "other", seed=1)
    index = write_report([run, other], tmp_path / "both")
    text = text_of(index.read_text(encoding="utf-8"))
    assert "tiny" in text
    assert "other" in text
    for each in (run, other):
        assert dict(each.summary.rows())["Final loss (nats)"] in text
    assert index.read_text(encoding="utf-8").count("data-plateau-view=") == 2 + 1  # and once in the front end


def test_many_seeds_become_mean_and_spread(run):
    runs = [Dropped(run, drop=190 + seed) for seed in range(7)]
    curves = report_curves.overlaid(runs, [f"seed {seed}" for seed in range(7)])
    assert list(curves) == ["seed 0 and others"]
    assert len(curves["seed 0 and others"]) == 7


def test_seeds_in_a_folder_of_their_own_are_called_by_it(run):
    one, other = Dropped(run), of_task(run, MovingWindowSum(p=5), accuracy_16=0.25)
    runs = [one] * 4 + [other] * 4
    apart = [f"k={k}/seed-{seed}" for k in (2, 3) for seed in range(4)]
    assert {name: len(each) for name, each in report_curves.overlaid(runs, apart).items()} == {"k=2": 4, "k=3": 4}
    together = [f"runs/{index}" for index in range(8)]
    assert list(report_curves.overlaid(runs, together)) == ["runs/0 and others", "runs/4 and others"]


def test_equal_names_are_told_apart_by_their_folders(tmp_path):
    one, two = (train(tmp_path / folder / "run", steps=2) for folder in ("a", "b"))
    assert report_words.run_names([one, two]) == ["a/run", "b/run"]
    assert report_words.run_names([one, one]) == [str(one.path)] * 2


@pytest.mark.usefixtures("undrawn")
def test_a_report_of_a_run_that_goes_on(run, tmp_path):
    """A report may be asked for while a run is young: no checkpoint yet, one row."""
    young = Dropped(run, n_steps=1)
    text = text_of(write_report(young, tmp_path / "young").read_text(encoding="utf-8"))
    assert "No drop in 1 step:" in text


def test_what_cannot_be_reported_is_refused(run, tmp_path):
    empty = Run.create(tmp_path / "empty", Recipe(TASK))
    with pytest.raises(ValueError, match="empty has no measured step yet"):
        write_report(empty)
    assert not (empty.path / "report").exists()
    with pytest.raises(ValueError, match="no run to report"):
        write_report([])
    for wrong in (3, [3], str(run.path)):
        with pytest.raises(ValueError, match=r"^runs must be a Run, such as Run\('runs/mws'\), or several; got "):
            unchecked(write_report)(wrong)
    with pytest.raises(ValueError, match="give out="):
        write_report([run, run])


def test_a_file_is_no_folder_for_a_report(run, tmp_path):
    file = tmp_path / "file"
    file.write_text("kept")
    with pytest.raises(ValueError, match=f"^{re.escape(str(file))} cannot be a folder: .*file is a file$"):
        write_report(run, file)
    assert file.read_text() == "kept"


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("names", [["index.html", "loss.png"], ["index.html"], ["loss.png"]])
def test_what_no_report_wrote_is_never_written_over(run, tmp_path, names):
    for name in [*names, "other.png"]:
        (tmp_path / name).write_text("somebody's")
    expected = f"^{re.escape(str(tmp_path))} holds {', '.join(names)}, of no report there: move it, or take another"
    with pytest.raises(ValueError, match=expected):
        write_report(run, tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir() if path.is_file()} == dict.fromkeys(
        [*names, "other.png"], "somebody's"
    )


@pytest.mark.usefixtures("undrawn")
def test_a_report_is_written_over_an_earlier_one_a_page_of_views_is_not(run, tmp_path):
    index = write_report(run, tmp_path / "report")
    picture = index.with_name("loss.png")
    earlier = index.read_text(encoding="utf-8")
    assert write_report(run, tmp_path / "report").read_text(encoding="utf-8") == earlier
    picture.write_text("somebody's")
    with pytest.raises(ValueError, match=r"holds loss\.png, of no report there"):
        write_report(run, tmp_path / "report")
    assert picture.read_text() == "somebody's"
    copied = tmp_path / "figures" / "loss.png"
    copied.parent.mkdir()
    copied.write_text(report_mark("loss"))
    with pytest.raises(ValueError, match=r"holds loss\.png, of no report there"):
        write_report(run, copied.parent)
    assert [*copied.parent.iterdir()] == [copied]
    index.write_text(earlier.replace(PICTURES_ARE_MARKED, ""))  # of a version whose pictures do not say whose they are
    write_report(run, tmp_path / "report")
    assert picture.read_bytes() == report_mark("loss").encode()
    view = attention_view(torch.eye(3)[None]).save(tmp_path / "index.html")
    with pytest.raises(ValueError, match=r"holds index\.html, of no report there"):
        write_report(run, tmp_path)
    assert "CircuitsVis" in view.read_text(encoding="utf-8")


@pytest.mark.usefixtures("undrawn")
def test_a_report_of_other_runs_is_never_written_over(run, tmp_path):
    """More runs may come to it, and each may move; in a run's own folder it is drawn anew."""
    other, third = (train(tmp_path / f"seed-{seed}", steps=2, seed=seed) for seed in (1, 2))
    out = tmp_path / "reports"
    page = write_report([run, other], out)
    for runs in ([other, third], run, [third]):
        earlier = page.read_bytes()
        with pytest.raises(
            ValueError,
            match=f"^{re.escape(str(out))} holds a report of other runs: take another folder, or remove that one$",
        ):
            write_report(runs, out)
        assert page.read_bytes() == earlier
    moved = Run(shutil.copytree(other.path, tmp_path / "moved"))
    write_report([moved, run], out)
    write_report([run, moved, third], out)
    page.write_text(re.sub("<!-- of the recipes .*? -->", "", page.read_text(encoding="utf-8")), encoding="utf-8")
    write_report(third, out)  # over one of an earlier version, which does not say
    own = write_report([run, other], run.path / "report" / "compared")
    assert write_report([run, third], own.parent) == own


def test_a_report_that_was_killed_before_its_pictures_is_known_as_one(run, tmp_path, monkeypatch):
    def killed(path, content):
        write_atomically(path, content)
        raise KeyboardInterrupt

    pictures = {"loss": b"PNG", "accuracy": b"PNG"}
    report = write_report(run).read_text(encoding="utf-8")
    monkeypatch.setattr("plateau_interp.views.page.write_atomically", killed)
    with pytest.raises(KeyboardInterrupt):
        write_report_page(tmp_path, report, pictures)
    monkeypatch.undo()
    check_report_folder(tmp_path, pictures)
    write_report_page(tmp_path, report, pictures)
    assert {path.name for path in tmp_path.iterdir()} == {"index.html", "loss.png", "accuracy.png"}


@pytest.mark.usefixtures("undrawn")
def test_pictures_that_a_report_has_no_more_go_and_somebodys_stay(run, tmp_path):
    index = write_report(run, tmp_path / "report")
    before = report_pictures(index.parent)
    index.with_name("positions-2.png").write_text(report_mark("positions-2"))  # as of another run beside this one
    index.with_name("mine.png").write_text("somebody's")
    kept = shutil.copy(index.with_name("loss.png"), index.with_name("loss-for-the-paper.png"))
    write_report(run, tmp_path / "report")
    assert report_pictures(index.parent) == before
    assert kept.read_text() == report_mark("loss")
    assert index.with_name("mine.png").read_text() == "somebody's"


def test_moments_are_checkpoints_around_the_drop(run):
    dropped = Dropped(run)
    dropped.checkpoints = list(range(0, 401, 20))
    moments = report_maps.moments(dropped, dropped.summary)
    assert list(moments.values()) == [
        "step 100, on the plateau",
        "step 200, at the drop",
        "step 400, after the drop",
    ]
    dropped.checkpoints = [0, 300, 500]
    assert list(report_maps.moments(dropped, dropped.summary).values()) == [
        "step 0, before the drop",
        "step 300, after the drop",
        "step 500, after the drop",
    ]
    dropped.checkpoints = [350]  # of a fork that left after the drop
    assert list(report_maps.moments(dropped, dropped.summary).values()) == ["step 350, after the drop"]
    unknown = dataclasses.replace(dropped.summary, start=None, end=None)
    dropped.checkpoints = [0, 200, 399]
    assert report_maps.moments(dropped, unknown)[200] == "step 200, at the drop"
    dropped.checkpoints = [0, 20, 40]
    assert list(report_maps.moments(dropped, dropped.summary)) == [0, 20, 40]


def test_a_view_has_the_checkpoints_that_there_is_room_for():
    steps = list(range(0, 100, 10))
    assert affordable(steps, [0, 40, 90], room=99) == steps
    assert affordable(steps, [0, 40, 90], room=4) == [0, 40, 90]
    assert affordable(steps, [10, 40, 80], room=4) == [0, 10, 40, 80]
    assert affordable(steps, [0, 40, 90], room=2) == [0, 90]
    assert affordable(steps, [0, 40, 90], room=1) == [90]
    assert affordable(steps, [0, 40, 90], room=0) == []
    assert affordable(steps, [], room=1) == [0]
    assert all(len(affordable(steps, [5, 10, 40, 80], room=room)) <= room for room in range(12))


def shown_steps(html):
    found = re.findall(r"\|\|\[\]\)\.push\((.*?)\)</script>", html)
    return [json.loads(spec)["steps"] for spec in found]


@pytest.mark.usefixtures("undrawn")
def test_large_maps_have_a_view_of_fewer_steps(tmp_path):
    options, measuring = ModelOptions(d_model=8, n_heads=8), MeasuringOptions(every=20, n_sequences=2)
    recipe = Recipe(
        MovingWindowSum(n=48), options, TrainingOptions(steps=3, batch_size=2), measuring=measuring, checkpoint_every=1
    )
    run = Run.create(tmp_path / "large", recipe)
    for _step in run.train():
        pass
    html = write_report(run).read_text(encoding="utf-8")
    assert shown_steps(html) == [[0, 3]]
    assert "The view has no room for step 2." in text_of(html)
    assert re.search(r"a share of [\d.]+ at step 0, [\d.]+ at step 2, [\d.]+ at step 3\.", text_of(html))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n_maps", "how"),
    [(3, "heads=[0]) shows one head."), (1, "heads=[0], tokens=...) shows one head on a shorter input.")],
)
def test_maps_that_fit_on_no_page_are_still_pictures_alone(tmp_path, monkeypatch, run, n_maps, how):
    n_inputs = TASK.n_pos - 1
    monkeypatch.setattr(report_maps, "MAX_VALUES", n_maps * n_inputs**2)  # two heads in two readings are four maps
    two_heads = train(tmp_path / "two", steps=2, n_heads=2)
    html = write_report(two_heads, tmp_path / "report").read_text(encoding="utf-8")
    assert not shown_steps(html)
    assert "CircuitsVis" not in html
    assert html.count('<div class="plot">') > 3
    told = f"There is no view: a step has {4 * n_inputs**2} values, a page has room for {report_maps.MAX_VALUES}."
    assert f"{told} attention_view(run, layer=0, {how}" in text_of(html)
    both = write_report([two_heads, run], tmp_path / "both").read_text(encoding="utf-8")
    assert "There is no view of two:" in text_of(both)
    assert len(shown_steps(both)) == (n_maps == 3)  # the other run has one head


def trained_on_finite_data(path, batch_size=4):
    options = TrainingOptions(steps=8, batch_size=batch_size)
    recipe = Recipe(ModularArithmetic(p=5), ModelOptions(d_model=16), options)
    run = Run.create(path, recipe)
    for _step in run.train():
        pass
    return run


@pytest.mark.usefixtures("undrawn")
def test_a_finite_task_is_told_with_its_validation_set(tmp_path, run):
    finite = trained_on_finite_data(tmp_path / "finite")
    assert "new sequences" not in report_words.setting(finite)
    whole = report_words.setting(trained_on_finite_data(tmp_path / "whole", batch_size=99))
    assert f", all {len(finite.task.train_set)} sequences of the training set a step" in whole
    assert ", 4 sequences a step" in report_words.setting(finite)
    text = text_of(write_report(finite).read_text(encoding="utf-8"))
    assert "Grokking delay" in text
    assert f"Final validation accuracy {finite.metrics['validation_accuracy'].iloc[-1]:.3f}" in text
    together = text_of(write_report([run, finite], tmp_path / "both").read_text(encoding="utf-8"))
    assert "Grokking delay not measured" in together


def test_the_delay_between_learning_by_heart_and_understanding_is_told(run):
    summary = replace(run.summary, train_95_step=100, final_validation_accuracy=0.5)
    late = "95 % of the training set were right from step 100; the validation set got no further than 50% in the end."
    assert report_words.grokking(summary) == late
    summary = replace(summary, validation_95_step=700, grokking_delay=600)
    told = "95 % of the training set were right from step 100, of the validation set from step 700: 600 steps later."
    assert report_words.grokking(summary) == told
    delays = {"add": 250, "divide": None}
    apart = " Delays of each by itself: add 250 steps, divide never."
    assert report_words.grokking(replace(summary, grokking_delays=delays)) == told + apart
    assert report_words.grokking(replace(summary, grokking_delay=None, grokking_delays=delays)) == late + apart
    assert report_words.grokking(run.summary) == ""
    for step, delay, when in ((50, -50, "50 steps before"), (100, 0, "at the same step")):
        early = replace(summary, validation_95_step=step, grokking_delay=delay)
        assert report_words.grokking(early) == told.replace("step 700: 600 steps later", f"step {step}: {when}")
    apart = " Delays of each by itself: add none, 20 steps before the training set, divide never."
    assert report_words.grokking(replace(summary, grokking_delays={"add": -20, "divide": None})) == told + apart


@pytest.mark.usefixtures("undrawn")
def test_a_loss_that_only_falls_is_told_without_a_plateau(tmp_path, run):
    falling = Dropped(run)
    falling.metrics["loss"] = 2.9 - 1.6 * falling.metrics["step"] / 400
    text = text_of(write_report(falling, tmp_path / "one").read_text(encoding="utf-8"))
    assert "The loss fell without a plateau: half of its fall was done by step 2" in text
    assert "nats for" not in text
    both = text_of(write_report([falling, falling], tmp_path / "two").read_text(encoding="utf-8"))
    assert "There was no plateau." in both


@pytest.mark.usefixtures("undrawn")
def test_a_report_during_training_does_not_say_that_the_run_stopped(tmp_path):
    options = TrainingOptions(steps=6, batch_size=8)
    run = Run.create(tmp_path / "going-on", Recipe(TASK, ModelOptions(d_model=16), options, checkpoint_every=2))
    for step in run.train():
        if step.step == 2:
            text = text_of(write_report(run).read_text(encoding="utf-8"))
            assert "stopped" not in text
            assert "Unfinished: 3 of 6 steps are made." in text


@pytest.mark.usefixtures("undrawn")
def test_each_checkpoint_is_loaded_and_run_once(tmp_path, monkeypatch):
    """Still maps, the view through training and the collapse of all layers come from one forward."""
    run = train(tmp_path / "deep", n_layers=2, n_heads=2)
    loaded, forwards = [], []
    load, forward = Run.model, ToyTransformer.forward
    monkeypatch.setattr(Run, "model", lambda self, step=None: loaded.append(step) or load(self, step))
    monkeypatch.setattr(ToyTransformer, "forward", lambda self, *a, **k: forwards.append(1) or forward(self, *a, **k))
    write_report(run)
    assert run.checkpoints == [0, 2, 4, 6]
    assert (sorted(loaded), len(forwards)) == (run.checkpoints, 4)


def test_nothing_is_written_where_a_folder_has_the_name_of_a_picture(tmp_path):
    (tmp_path / "b.png").mkdir()
    with pytest.raises(IsADirectoryError, match=r"b\.png"):
        write_report_page(tmp_path, "a page", {"a": b"1", "b": b"2"})
    assert [path.name for path in tmp_path.iterdir()] == ["b.png"]


def test_somebodys_page_and_pictures_in_a_runs_own_report_are_not_written_over(run, tmp_path):
    copy = Run(shutil.copytree(run.path, tmp_path / "copy"))
    page = write_report(copy)
    page.write_text("somebody's")
    with pytest.raises(ValueError, match=r"report holds index\.html, of no report there"):
        write_report(copy)
    assert page.read_text() == "somebody's"
    page.unlink()
    assert write_report(copy) == page  # over the pictures that are left there
    page.unlink()
    picture = page.with_name("loss.png")
    save_figure(curves_figure(run.metrics), picture)
    drawn = picture.read_bytes()
    with pytest.raises(ValueError, match=r"report holds loss\.png, of no report there"):
        write_report(copy)
    assert picture.read_bytes() == drawn
    assert not page.exists()


def test_a_net_without_attention_is_told_as_what_it_is(run):
    tasks = {
        "An MLP with two hidden layers of 56; AdamW": Recipe(OneHotArithmetic(p=7)),
        "An MLP with two hidden layers of 9; AdamW": Recipe(OneHotArithmetic(p=7), ModelOptions(d_mlp=9)),
        "A net of depth 2 with 6 gates; SGD": Recipe(DepthTwoNet(d=3, n=8), ModelOptions(d_mlp=6)),
        "Softmax attention, 1 layer, 4 heads, width 64; AdamW": Recipe(ModularArithmetic(p=5)),
    }
    for told, recipe in tasks.items():
        one = Dropped(run)
        one.recipe, one.task = recipe, recipe.task
        assert report_words.setting(one).startswith(told)


def test_what_is_filled_in_is_not_said_to_be_written():
    def caption(*tasks):
        return report_curves.accuracy_caption(None, tasks=tasks)

    written = "Share of answer tokens that are right when the model writes the whole answer by itself."
    assert caption(MovingWindowSum()) == caption(MovingWindowSum(), ModularArithmetic(p=5)) == written
    assert caption(OneHotArithmetic(p=7)) == "Share of the answers, the likeliest at each place, that are right."
    assert caption(OneHotArithmetic(p=7), MovingWindowSum()) == "Share of answer tokens that are right."
