"""plateau_interp.reproductions.remarks: what a person adds, with the measured numbers filled in."""

import dataclasses

import pytest
from tiny_paper import FIRST, PAPER, page_of_statements, paper_of

from plateau_interp.reproductions.claims import Claim, Within
from plateau_interp.reproductions.quantities import steps_to
from plateau_interp.reproductions.results import publish

pytestmark = pytest.mark.usefixtures("blank_pictures")


def remark(out, text):
    (out / "results" / "tiny").mkdir(parents=True)
    (out / "results" / "tiny" / "remarks.md").write_text(text)


def test_remarks_by_hand_stand_in_their_experiment(runs, tmp_path):
    remark(
        tmp_path,
        "About.\n\n## second\n\nSeen there.\n\nAnd more.\n\n## first\nHere.\n\n## about\nTwo.\n\n## machine\nOld.\n",
    )
    page = publish(PAPER, runs, tmp_path).read_text()
    assert "### The second\n\nSeen there.\n\n![The second]" in page
    assert "And more." not in page
    text = page_of_statements(tmp_path)
    first, second = text.index("## first: The first"), text.index("## second: The second")
    assert (
        text.index("\nTwo.\n") < first < text.index("\nHere.\n") < second < text.index("\nSeen there.\n\nAnd more.\n")
    )
    assert text.endswith("\nOld.\n")
    assert "About." not in text


WRONG = Claim("It is solved: soon", "us", Within(steps_to(99), "base", high=3), "a reason")


def test_what_does_not_hold_is_told_with_what_was_seen_instead(runs, tmp_path):
    remark(tmp_path, "## first\n\nHere.\n\n### It is solved: soon\n\nSix steps\nare too few.\n")
    failing = paper_of(dataclasses.replace(FIRST, claims=(FIRST.claims[0], WRONG)))
    text = publish(failing, runs, tmp_path).read_text()
    assert (
        "### What does not hold, and what was seen instead\n\n"
        "* **It is solved: soon** ([first](results/tiny/statements.md#first)). Expected: steps to 99 % ≤ 3; measured: "
        "never [never, never] (2 seeds). Six steps are too few.\n\n"
    ) in text
    assert "\nHere.\n\n| claim |" in page_of_statements(tmp_path)
    assert "\n*It is solved: soon:* Six steps\nare too few.\n" in page_of_statements(tmp_path)


def test_sentences_have_the_measured_numbers(runs, tmp_path):
    remark(
        tmp_path,
        "## holds\n\n* Solved after {first: It is never\n  solved} steps,\n  and "
        "{first: It is solved: soon}; {} {no: braces}\n",
    )
    failing = paper_of(dataclasses.replace(FIRST, claims=(FIRST.claims[0], WRONG)))
    with pytest.raises(
        ValueError,
        match=r"remarks.md names 'no: braces', and there is no such claim; there are first: It is never solved",
    ):
        publish(failing, runs, tmp_path)
    file = tmp_path / "results" / "tiny" / "remarks.md"
    file.write_text(file.read_text().replace("{no: braces}", ""))
    never = "never [never, never]"
    text = publish(failing, runs, tmp_path).read_text()
    assert f"### What holds\n\n* Solved after {never} steps, and {never}, **does not hold**; {{}}\n" in text


@pytest.mark.parametrize(
    ("remarks", "complaint"),
    [
        ("## frist\n\nHere.\n", "names 'frist', and there is no such experiment; the nearest is first"),
        ("## first\n\n### It is newer solved\n\nNo.\n", "no such claim of first; the nearest is It is never solved"),
    ],
)
def test_remarks_about_nothing_that_there_is_are_refused(remarks, complaint, runs, tmp_path):
    remark(tmp_path, remarks)
    with pytest.raises(ValueError, match=complaint):
        publish(PAPER, runs, tmp_path)
