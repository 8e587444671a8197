"""plateau_interp.reproductions.shortening.beside: the poster's numbers beside ours, and a sentence on each saving."""

import pytest
from shortening_outcomes import as_on_the_poster, outcome

from plateau_interp.reproductions.shortening.beside import poster_beside_ours
from plateau_interp.reproductions.shortening.mixes import ALL_THREE, TASKS, TRAINED_ALONE


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
        (1.0, "Counted as the poster does, its saving of 63% survives: 67% here.", "0% is saved"),
        (2.5, "Counted as the poster does, its saving of 63% does not survive: 17% here.", "150% more is needed"),
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
        f"Counted so, it does not survive: {fair_words}, where the poster says that 63% is saved.",
    ]
    assert saved["two tasks, both pairs", "own sequences to the elbow"][1:] == [
        "not run, or not reached",
        "Not known: not all of it was run, or reached.",
    ]


def test_a_saving_that_is_larger_is_said_to_be():
    alone = {word: [outcome(setting, {word: 200})] for word, setting in TRAINED_ALONE.items()}
    told = poster_beside_ours({**alone, ALL_THREE.name: [outcome(ALL_THREE, dict.fromkeys(TASKS, 40))]})
    assert "Counted as the poster does, its saving of 63% is exceeded: 93% here." in told
    assert "Counted so, 80% is saved: more than the poster says (63%)." in told


def test_a_smaller_saving_in_another_currency_is_told_as_such():
    alone = {word: [outcome(setting, {word: 400})] for word, setting in TRAINED_ALONE.items()}
    told = poster_beside_ours({**alone, ALL_THREE.name: [outcome(ALL_THREE, dict.fromkeys(TASKS, 300))]})
    assert "Counted so, 25% is saved: less than the poster says (63%)." in told
    told = poster_beside_ours({**alone, ALL_THREE.name: [outcome(ALL_THREE, dict.fromkeys(TASKS, 160))]})
    assert "Counted so, 60% is saved: about what the poster says (63%)." in told
