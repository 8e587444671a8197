"""plateau_interp.reproductions.shortening.beside: the poster's numbers beside ours, and a sentence on each saving."""

import pytest
from shortening_outcomes import NOT_REACHED, as_on_the_poster, outcome

from plateau_interp.reproductions.shortening.beside import poster_beside_ours
from plateau_interp.reproductions.shortening.mixes import ALL_THREE, TASKS, TRAINED_ALONE

NOT_KNOWN = "Not known: not all of it was run, or reached at four of five seeds."


def rows(text):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]


def test_the_table_has_every_cell_of_the_poster_s_beside_ours():
    told = rows(poster_beside_ours(as_on_the_poster()))
    by_cell = {(row[0], row[1]): row[2:] for row in told}
    assert by_cell["product", "three tasks"] == [
        "13,288", "13288", "302", "302", "38656", "6.00", "13288", "13288", "15444"
    ]  # fmt: skip
    assert by_cell["sum", "alone"][:4] == ["16,256", "16256", "127", "127"]
    assert by_cell["difference", "two tasks, both pairs"][:4] == ["19,680", "19712", "308", "308"]


@pytest.mark.parametrize(
    ("company", "sentence", "fair_words"),
    [
        (
            1.0,
            "Counted as the poster does, its saving of 63% survives: 67% here, and so at 1 of 1 seeds.",
            "0% is saved",
        ),
        (
            2.5,
            "Counted as the poster does, its saving of 63% does not survive: 17% here; it does at 0 of 1 seeds.",
            "150% more is needed",
        ),
    ],
    ids=["survives", "does not"],
)
def test_a_sentence_says_whether_the_saving_survives(company, sentence, fair_words):
    alone = {word: [outcome(setting, {word: 200})] for word, setting in TRAINED_ALONE.items()}
    among = outcome(ALL_THREE, dict.fromkeys(TASKS, round(200 * company)))
    told = poster_beside_ours({**alone, ALL_THREE.name: [among]})
    assert sentence in told
    saved = {(row[0], row[1]): row[2:] for row in rows(told)}
    fair = saved["three tasks", "sequences of all tasks, steps, FLOPs to the elbow"]
    assert fair == [
        "-11.38% (derived)",
        f"{100 - 100 * company:.0f} %".replace("-0 ", "0 "),
        f"Counted so, it does not survive: {fair_words}, where the poster says that 63% is saved; "
        "a saving does at 0 of 1 seeds.",
    ]
    assert saved["two tasks, both pairs", "own sequences to the elbow"][1:] == [
        "not run, or not reached",
        NOT_KNOWN,
    ]


def test_a_saving_that_is_larger_is_said_to_be():
    alone = {word: [outcome(setting, {word: 200})] for word, setting in TRAINED_ALONE.items()}
    told = poster_beside_ours({**alone, ALL_THREE.name: [outcome(ALL_THREE, dict.fromkeys(TASKS, 40))]})
    assert "Counted as the poster does, its saving of 63% is exceeded: 93% here, and so at 1 of 1 seeds." in told
    assert "Counted so, a saving survives at 1 of 1 seeds: 80%, more than the poster says (63%)." in told


def test_a_smaller_saving_in_another_currency_is_told_as_such():
    alone = {word: [outcome(setting, {word: 400})] for word, setting in TRAINED_ALONE.items()}
    told = poster_beside_ours({**alone, ALL_THREE.name: [outcome(ALL_THREE, dict.fromkeys(TASKS, 300))]})
    assert "Counted so, a saving survives at 1 of 1 seeds: 25%, less than the poster says (63%)." in told
    told = poster_beside_ours({**alone, ALL_THREE.name: [outcome(ALL_THREE, dict.fromkeys(TASKS, 160))]})
    assert "Counted so, a saving survives at 1 of 1 seeds: 60%, about what the poster says (63%)." in told


def at_seeds(*companies):
    """Sentences on three tasks, until the elbow: own sequences, and those of all; a seed a number of steps among three.

    Alone each takes 200 steps.
    """
    seeds = range(len(companies))
    alone = {
        word: [outcome(setting, {word: 200}, seed=seed) for seed in seeds] for word, setting in TRAINED_ALONE.items()
    }
    among = [outcome(ALL_THREE, dict.fromkeys(TASKS, steps), seed=seed) for seed, steps in enumerate(companies)]
    told = {(row[0], row[1]): row[-1] for row in rows(poster_beside_ours({**alone, ALL_THREE.name: among}))}
    kinds = ("own sequences", "sequences of all tasks, steps, FLOPs")
    return [told["three tasks", f"{kind} to the elbow"] for kind in kinds]


@pytest.mark.parametrize(
    ("companies", "own", "fair"),
    [
        # Of own sequences the bounds lie at 147 and 331 steps, of all sequences at 180.
        ((200, 210, 400), "survives: 65% here, and so at 2 of 3 seeds.", "a saving does at 0 of 3 seeds."),
        ((200, 390, 400), "does not survive: 35% here; it does at 1 of 3 seeds.", "a saving does at 0 of 3 seeds."),
        ((20, 20, 170), "is exceeded: 97% here, and so at 2 of 3 seeds.", "a saving survives at 3 of 3 seeds: 90%"),
        # The median alone would do, half of the seeds does not.
        ((200, 400), "does not survive: 50% here; it does at 1 of 2 seeds.", "a saving does at 0 of 2 seeds."),
        ((100, 100, 200, 200), "survives: 75% here, and so at 4 of 4 seeds.", "does not survive: 25% is saved"),
        # What was not reached does not count, and is told of no seed.
        ((200, 200, 200, 200, NOT_REACHED), "survives: 67% here, and so at 4 of 5 seeds.", "at 0 of 5 seeds."),
        ((200, 200, NOT_REACHED), NOT_KNOWN, NOT_KNOWN),
    ],
)
def test_a_saving_survives_at_more_than_half_of_the_seeds_and_at_the_median(companies, own, fair):
    own_sentence, fair_sentence = at_seeds(*companies)
    assert own in own_sentence
    assert fair in fair_sentence


def test_the_rule_stands_above_the_table():
    told = poster_beside_ours(as_on_the_poster())
    assert "A saving survives where it does at more than half of the seeds and at the median" in told
