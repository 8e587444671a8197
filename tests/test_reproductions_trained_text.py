"""plateau_interp.reproductions.loss_plateau.trained_text: its experiments in small, and without the corpus."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from plateau_interp.cli.main import main
from plateau_interp.models.settings import ModelOptions
from plateau_interp.reproductions.loss_plateau import PAPER
from plateau_interp.reproductions.loss_plateau.trained_text import TEXT, TEXT_ATTENTION, TEXT_UNIGRAM, unigram_figure
from plateau_interp.reproductions.pictures import against_figure, seeds_figure
from plateau_interp.reproductions.running import plan, train_setting
from plateau_interp.reproductions.settings import NotHereError, Outcome
from plateau_interp.runs.recipe import Recipe
from plateau_interp.runs.run import Run
from plateau_interp.tasks import Text
from plateau_interp.training.settings import TrainingOptions

EXPERIMENTS = (TEXT, TEXT_UNIGRAM, TEXT_ATTENTION)
SMALL, SHORT = ModelOptions(n_layers=1, n_heads=2, d_model=16), TrainingOptions(steps=12, batch_size=2)


@pytest.fixture
def without_corpus(monkeypatch):
    monkeypatch.setattr("plateau_interp.tasks.text.metadata.files", lambda package: None)
    monkeypatch.setattr("plateau_interp.tasks.text.encode_corpus", pytest.fail)


def by_hand(setting, seed=0, *, lag=0.0):
    """Curves as they are expected: the loss falls in a line, collapse goes with it, ``lag`` nats later."""
    steps = np.arange(0, 101, 4)
    above = 1.0 - 0.025 * steps
    cosine = np.clip(0.95 + 0.6 * (above + lag), 0.1, 0.95)
    cosine[0] = 0.1
    columns = {"step": steps, "loss": above + 5.76, "validation_loss": above + 5.76, "above_unigram": above}
    shares = {"cosine": cosine, "repetition": cosine, "distinct_tokens": 1 - cosine, "cosine_across_prompts": cosine}
    return Outcome(setting, seed, pd.DataFrame({**columns, **shares}))


def test_the_paper_is_read_judged_and_drawn_without_the_corpus(without_corpus):
    for experiment in EXPERIMENTS:
        outcomes = {one.name: [by_hand(one, seed) for seed in range(5)] for one in experiment.settings}
        statements = experiment.statements(outcomes)
        assert "not run" not in [one.finding.verdict for one in statements]
        figure = (experiment.draws or (lambda shown, of=experiment: seeds_figure(of, shown)))(outcomes)
        assert len(figure.axes) == {TEXT: 4, TEXT_UNIGRAM: 2, TEXT_ATTENTION: 10}[experiment]
        for quantity in experiment.table:
            assert quantity.of(outcomes[experiment.settings[0].name][0]) is not None
    assert all(one.finding.verdict in ("holds", "unknown") for one in TEXT.statements({"text": [by_hand(TEXT.key[1])]}))


def test_claims_about_the_unigram_entropy_hold_and_fail_as_they_say():
    (trained, slow) = TEXT_UNIGRAM.settings
    verdicts = {
        one.claim.text: one.finding.verdict
        for one in TEXT_UNIGRAM.statements({"text": [by_hand(trained)], "text-slow": [by_hand(slow, lag=-2.0)]})
    }
    assert verdicts["text: where the loss passes the unigram entropy, states are still collapsed"] == "holds"
    assert verdicts["text: collapse ends half a nat below the unigram entropy"] == "holds"
    slow_one = "half the learning rate: where the loss passes the unigram entropy, states are still collapsed"
    assert verdicts[slow_one] == "does not hold"


def test_time_runs_to_the_right_where_measures_are_drawn_against_the_loss():
    (trained, slow) = TEXT_UNIGRAM.settings
    figure = unigram_figure({"text": [by_hand(trained)], "text-slow": [by_hand(slow)]})
    for axes in figure.axes:
        left, right = axes.get_xlim()
        assert left > right
        assert len(axes.get_lines()) == 3  # two runs, and where the loss passes
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["Similarity of hidden states", "Repetition in continuations"]
    (only,) = against_figure({"text": [by_hand(trained)]}, "above_unigram", ["entropy"], mark=0.0).axes[:1]
    assert len(only.get_lines()) == 1  # what was not measured is left out


def test_each_fork_stands_beside_the_text_run():
    first, *forks = TEXT_ATTENTION.settings
    figure = TEXT_ATTENTION.draws({one.name: [by_hand(one, seed) for seed in range(2)] for one in (first, *forks)})
    assert [axes.get_title(loc="left").replace("\n", " ") for axes in figure.axes[:5]] == [one.about for one in forks]
    for axes in figure.axes:
        assert [len(axes.get_lines())] == [4]
        assert len({line.get_color() for line in axes.get_lines()}) == 2


def test_a_fork_is_the_text_run_with_its_attention_edited(tmp_path):
    def small(setting, **changes):
        options = {"task": Text(n=8, vocabulary=256), "model": SMALL, "training": SHORT}
        return dataclasses.replace(setting, recipe=dataclasses.replace(setting.recipe, **options), **changes)

    trained = small(TEXT.settings[0])
    train_setting(trained, 0, tmp_path)
    for setting in TEXT_ATTENTION.settings[1:2]:
        fork = small(setting, leaves=(trained, setting.leaves[1]))
        rows = train_setting(fork, 0, tmp_path).metrics
        assert rows["above_unigram"].notna().sum() == 3
        assert Run(fork.folder(tmp_path, 0)).recipe.fork_of.step == 8


def test_every_fork_leaves_the_text_run_and_ends_together():
    first, *forks = TEXT_ATTENTION.settings
    assert {fork.leaves[0] for fork in forks} == {first}
    assert {fork.recipe.steps for fork in forks} == {100}
    assert [fork.recipe.interventions[0].targets for fork in forks].count("previous token") == 3
    runs = plan(EXPERIMENTS)
    assert len(runs) == len({(setting.name, seed) for setting, seed in runs}) == 5 * 7


def test_without_the_corpus_it_is_told_how_to_get_it(without_corpus, tmp_path, monkeypatch, capsys):
    monkeypatch.undo()
    monkeypatch.setattr("plateau_interp.tasks.text.metadata.files", lambda package: None)
    task = Text("tiny-shakespeare", vocabulary=777)  # one that was not read before
    setting = dataclasses.replace(TEXT.settings[0], recipe=Recipe(task))
    with pytest.raises(NotHereError, match="`make corpus` fetches it"):
        train_setting(setting, 0, tmp_path)
    experiment = dataclasses.replace(TEXT, settings=(setting,), key=(TEXT.key[0], setting))
    paper = dataclasses.replace(PAPER, experiments=(experiment,), cover="")
    monkeypatch.setattr("plateau_interp.cli.reproduce_verb.plugin", lambda kind, name: paper)
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", "loss-plateau", "--json"]) == 0
    told = capsys.readouterr()
    assert "not run: needs the corpus tiny-shakespeare: `make corpus`" in told.out
    assert told.err.startswith(
        "plateau: text not run: needs the corpus tiny-shakespeare: `make corpus`; then `plateau "
    )
    assert main(["reproduce", "loss-plateau", "text"]) == 2
    capsys.readouterr()
    assert main(["reproduce", "loss-plateau", "--list"]) == 0
    assert "needs the corpus" in capsys.readouterr().out
