"""plateau_interp.reproductions.shortening.ends: costs of a task alone and in company, and what company saves."""

import math

import pytest
from shortening_outcomes import NOT_REACHED, as_on_the_poster, outcome

from plateau_interp.reproductions.quantities import NEVER
from plateau_interp.reproductions.settings import Outcome
from plateau_interp.reproductions.shortening.ends import JointOverSeparate, MeanSaving, taken_to
from plateau_interp.reproductions.shortening.mixes import ALL_THREE, PAIRS_WITH, TASKS, TRAINED_ALONE
from plateau_interp.reproductions.shortening.poster import SEQUENCES

THREE = {word: (ALL_THREE.name,) for word in TASKS}
SEPARATE = {word: word for word in TASKS}


@pytest.fixture(scope="module")
def poster():
    return as_on_the_poster()


@pytest.mark.parametrize("word", TASKS)
def test_each_task_s_elbow_is_read_off_its_own_loss_alone_and_in_company(word, poster):
    own = taken_to("elbow", "own_sequences", word)
    for count, name in ((1, word), (3, ALL_THREE.name)):
        assert own.of(poster[name][0]) == SEQUENCES[count][word]
    steps = taken_to("elbow", "steps", word).of(poster[ALL_THREE.name][0])
    assert taken_to("elbow", "sequences", word).of(poster[ALL_THREE.name][0]) == 128 * steps
    assert taken_to("elbow", "flops", word).of(poster[word][0]) == 19_855_835_136 * SEQUENCES[1][word] / 128


def test_what_is_not_drawn_or_measured_is_unknown_and_what_did_not_come_never():
    steps = dict.fromkeys(TASKS, 10)
    run = outcome(TRAINED_ALONE["sum"], steps, right={"sum": NOT_REACHED}, steps=40)
    assert taken_to("elbow", "steps", "product").of(run) is None
    assert taken_to("elbow", "seconds", "sum").of(run) is None
    assert taken_to("right_99", "steps", "sum").of(run) == NEVER
    unmeasured = Outcome(run.setting, 0, run.metrics.drop(columns="accuracy"))
    assert taken_to("right_99", "steps", "sum").of(unmeasured) is None
    assert taken_to("grokked", "steps").of(run) is None


def test_the_mean_saving_is_the_poster_s_where_the_elbows_are(poster):
    saving = MeanSaving("elbow", "own_sequences", THREE, 0.45, 0.75)
    assert saving.by_seed(poster) == {0: pytest.approx(0.63239, abs=1e-5)}
    assert saving.find(poster).verdict == "holds"
    assert saving.find(poster).measured == "63 % (seeds: 1)"
    assert saving.expected == "mean saving of own sequences to the elbow in 45% to 75%"
    both = {word: tuple(setting.name for setting in PAIRS_WITH[word]) for word in TASKS}
    # Steps are whole numbers here; the poster's mean of two pairs ends in a half.
    assert MeanSaving("elbow", "own_sequences", both, 0, 1).by_seed(poster)[0] == pytest.approx(0.4455, abs=2e-3)
    fair = MeanSaving("elbow", "sequences", THREE, -math.inf, 0.1)
    assert fair.by_seed(poster)[0] == pytest.approx(-0.1136, abs=1e-3)
    assert fair.find(poster).verdict == "holds"
    assert fair.expected == "mean saving of sequences of all tasks to the elbow ≤ 10%"
    assert MeanSaving("elbow", "sequences", THREE, 0.0, 0.1).find(poster).verdict == "does not hold"


def test_one_training_is_held_against_the_sum_of_separate_ones(poster):
    joint = JointOverSeparate("elbow", ALL_THREE.name, SEPARATE, 0.2, 0.4)
    assert joint.by_seed(poster) == {0: pytest.approx(38_656 / 144_384)}
    assert joint.find(poster).verdict == "holds"
    assert joint.find(poster).measured == "0.27 (seeds: 1)"
    assert JointOverSeparate("elbow", ALL_THREE.name, SEPARATE, 0.3, 0.4).find(poster).verdict == "does not hold"


@pytest.mark.parametrize(
    "check",
    [MeanSaving("elbow", "sequences", THREE, 0, 1), JointOverSeparate("elbow", ALL_THREE.name, SEPARATE, 0, 1)],
)
def test_what_was_not_run_or_not_reached_is_not_judged(check, poster):
    assert set(check.settings) == {*TASKS, ALL_THREE.name}
    assert check.find({**poster, "sum": []}).verdict == "not run"
    late = {**poster, "product": [outcome(TRAINED_ALONE["product"], {"product": NOT_REACHED})]}
    found = check.find(late)
    assert (found.verdict, found.measured) == ("unknown", "reached by all in 0 of 1 seeds alone")
