"""Revisions: names of published checkpoints, as they are in the hub's repositories."""

import re

import pytest

from plateau_interp.series.revisions import PAPER_STEPS, chosen_revisions, parsed_revisions

PYTHIA = ["main", *(f"step{step}" for step in (0, *(2**power for power in range(10)), *range(1000, 143_001, 1000)))]
OLMO_2 = [
    "main",
    "stage1-step0-tokens0B",
    "stage1-step150-tokens1B",
    "stage1-step600-tokens3B",
    "stage1-step928646-tokens3896B",
    "stage2-ingredient1-step1000-tokens5B",
    "stage2-ingredient3-step11931-tokens50B",
]


@pytest.mark.parametrize(
    ("name", "step", "tokens"),
    [
        ("step143000", 143_000, None),
        ("checkpoint-150", 150, None),
        ("stage1-step600-tokens3B", 600, 3),
        ("step1000-tokens4B", 1000, 4),
        ("stage1-step37000-tokens78B", 37_000, 78),
        ("step_2000", 2000, None),
        ("refs/heads/step8", 8, None),
    ],
)
def test_the_step_is_read_from_the_name(name, step, tokens):
    (found,) = parsed_revisions([name])
    assert (found.step, found.name, found.tokens) == (step, name, tokens)


@pytest.mark.parametrize("name", ["main", "v0", "stepwise3", "misstep4", "step", "step5x", "seed1", "3000"])
def test_other_branches_are_no_checkpoints(name):
    assert parsed_revisions([name]) == []


def test_later_stages_are_left_out():
    assert [each.step for each in parsed_revisions(OLMO_2)] == [0, 150, 600, 928_646]


def test_one_name_a_step_whatever_the_order():
    for names in (["step5", "step5-tokens1B"], ["step5-tokens1B", "step5"]):
        assert [each.name for each in parsed_revisions(names)] == ["step5"]


def test_all_of_a_pythia():
    there = parsed_revisions(PYTHIA)
    assert len(there) == 154
    assert chosen_revisions("EleutherAI/pythia-14m", there, "all") == there


@pytest.mark.parametrize(
    ("source", "names", "steps"),
    [
        ("EleutherAI/pythia-14m", PYTHIA, PAPER_STEPS["eleutherai/pythia-"]),
        ("allenai/OLMo-2-1124-7B", OLMO_2, (150, 600)),
    ],
)
def test_the_papers_steps(source, names, steps):
    assert tuple(each.step for each in chosen_revisions(source, parsed_revisions(names), "paper")) == steps


def test_steps_evenly_on_a_log_axis():
    steps = [each.step for each in chosen_revisions("a/b", parsed_revisions(PYTHIA), "log:12")]
    assert steps[0] == 0
    assert steps[-1] == 143_000
    assert 10 <= len(steps) <= 12
    assert steps == sorted(set(steps))


def test_patterns_steps_and_names():
    there = parsed_revisions(PYTHIA)
    assert [each.step for each in chosen_revisions("a/b", there, "step1?")] == [16]
    assert [each.step for each in chosen_revisions("a/b", there, [8, "step4", 8])] == [4, 8]
    assert [each.step for each in chosen_revisions("a/b", there, "step64")] == [64]


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        ([3], "a/b has no step 3; the nearest are 1, 2, 4"),
        (["stp64"], "a/b has no revision 'stp64'; the nearest are step64"),
        ("step9?x", "no revision of a/b is like 'step9?x'; the nearest are step"),
        ("paper", "the paper measured eleutherai/pythia-* and allenai/olmo-2-1124-7b*, not a/b"),
        ("log:1", "log:1 leaves out the first or the last"),
        ([], "no revision of a/b is chosen by []"),
    ],
)
def test_what_is_not_there_is_told_with_the_nearest(choice, told):
    with pytest.raises(ValueError, match=re.escape(told)):
        chosen_revisions("a/b", parsed_revisions(PYTHIA), choice)


def test_a_model_without_checkpoints():
    with pytest.raises(ValueError, match="a/b has no revision whose name holds a step"):
        chosen_revisions("a/b", parsed_revisions(["main"]), "all")


def test_names_may_come_with_what_they_stand_for():
    """Which makes them no other revisions."""
    told = parsed_revisions({"main": "a" * 40, "step8": "b" * 40})
    assert [(each.step, each.commit) for each in told] == [(8, "b" * 40)]
    assert told == parsed_revisions(["step8"])
