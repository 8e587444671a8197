"""The report of a series: its words, what it shows and leaves out, and that what a model writes is text."""

import html
import math
import re

import pytest
from measured_series import PROMPTS, measured_series
from typecheck import unchecked

from plateau_interp.views import series_report
from plateau_interp.views.saving import report_mark
from plateau_interp.views.series_report import write_series_report

HOSTILE = "</script><img src=x onerror=alert(1)>"
COLLAPSE = {0: 0.1, 8: 0.95, 1000: 0.25}


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    """No figure but those that a test draws itself: which ones there are is what counts here."""
    monkeypatch.setattr(
        series_report, "page_picture", lambda draw, name: (f"<svg><!-- {name} --></svg>", report_mark(name).encode())
    )


def page(*folders, out=None):
    path = write_series_report(list(folders) if len(folders) > 1 else folders[0], out)
    return html.unescape(re.sub(r"<[^>]+>", " ", path.read_text())), path


def table_rows(path):
    """Of the last table: a row a checkpoint."""
    body = path.read_text().rpartition("<tbody>")[2].partition("</tbody>")[0]
    return [re.findall(r"<td>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", body, flags=re.DOTALL)]


def figures(path):
    return re.findall(r'<figure id="figure-(\w+)">', path.read_text())


@pytest.mark.parametrize(
    ("cosines", "headline"),
    [
        (COLLAPSE, "Hidden states are most alike at step 8, with a cosine of 0.95; at step 1,000 it is 0.25."),
        ({0: 0.1, 1000: 0.9}, "The cosine is highest at the last step, 1,000: 0.90."),
        ({0: 0.9, 8: 0.2, 16: math.nan}, "Hidden states are most alike at step 0, with a cosine of 0.90; at step 8"),
    ],
)
def test_the_headline_says_when_states_are_most_alike(tmp_path, cosines, headline):
    text, _ = page(measured_series(tmp_path / "series", cosines))
    assert headline in text


def test_a_report_of_other_series_is_never_written_over(tmp_path):
    one, other = (measured_series(tmp_path / name, COLLAPSE, prompts=(name,)) for name in ("one", "other"))
    _, path = page(one, out=tmp_path / "reports")
    earlier = path.read_bytes()
    with pytest.raises(ValueError, match="reports holds a report of other series: take another folder, or remove"):
        page(other, out=tmp_path / "reports")
    assert path.read_bytes() == earlier
    page(one, out=tmp_path / "reports")
    page(one, other, out=tmp_path / "reports")


def test_what_is_measured_how_and_where(tmp_path):
    folder = measured_series(tmp_path / "series", COLLAPSE, interventions=("ablate-heads",))
    text, path = page(folder)
    assert path == tmp_path / "series" / "report" / "index.html"
    assert "Each checkpoint goes on from 2 prompts (by hand) with 4 greedy tokens" in text
    assert "Under ablate-heads." in text
    assert '"prompts": "2 texts"' in text
    assert figures(path) == ["cosine", "entropy"]  # repetition is in the first
    assert {file.name for file in path.parent.iterdir()} == {"index.html", "cosine.png", "entropy.png"}
    assert "Peak of the cosine 0.950 at step 8" in " ".join(text.split())
    assert "Repetition there 0.475" in " ".join(text.split())
    assert "Checkpoints 3 all of them drawn" in " ".join(text.split())
    assert page(measured_series(tmp_path / "plain", COLLAPSE, prompts=("Why?",)))[0].count("from one prompt") == 1


def test_duplicates_and_what_was_not_to_be_had_are_told_and_not_shown(tmp_path):
    cosines = {0: 0.1, 1: 0.99, 2: 0.99, 4: 0.99, 8: 0.9, 16: 0.5, 1000: 0.3}
    text, path = page(measured_series(tmp_path / "series", cosines, same=(1, 2, 4), failed=(1000,)))
    told = "Steps 1, 2 and 4 have the very same weights: whose they are nobody can tell, so none of them is drawn."
    assert told in text
    assert "Step 1,000 was not to be had: someone/model: the hub cannot be reached" in text
    assert "most alike at step 8, with a cosine of 0.90; at step 16" in text
    assert "Checkpoints 7 3 share their weights, 1 not to be had" in " ".join(text.split())
    assert re.findall(r'<th scope="row">step ([\d,]+)</th>', path.read_text()) == ["0", "8", "16"] * 2
    rows = {row[0]: row for row in table_rows(path)}
    assert rows["2"][-2] == "ffffffff, shared"
    assert rows["0"][-2] == "00000000"
    assert rows["1,000"][2:] == ["-", "-", "-", "not to be had", "0.5"]


def test_two_duplicates_are_neither_of_them_drawn(tmp_path):
    text, _ = page(measured_series(tmp_path / "series", COLLAPSE, same=(0, 1000)))
    assert "Steps 0 and 1,000 have the very same weights: whose they are nobody can tell, so neither is drawn." in text


def test_repeated_tokens_are_marked_and_white_space_is_seen(tmp_path):
    folder = measured_series(
        tmp_path / "series", {0: 0.1}, prompts=("Why?",), pieces=(" a", " a", "\n", "\t", "", " a")
    )
    source = page(folder)[1].read_text().partition('<table class="answers">')[2]
    marked = re.findall(r'<span class="token (\w*)">(.*?)</span>', source)
    assert marked == [("", " a"), ("again", " a"), ("", "↵"), ("", "⇥"), ("", "∅"), ("seen", " a")]


def test_tokens_are_told_apart_that_look_the_same_and_what_has_no_look_has_one(tmp_path):
    """Bytes that are no character by themselves are all written alike."""
    folder = measured_series(
        tmp_path / "series",
        {0: 0.1},
        prompts=("Why?",),
        pieces=("�", "�", "�", " ", "  ", "\x01"),
        tokens=(7, 8, 8, 1, 2, 3),
    )
    source = page(folder)[1].read_text().partition('<table class="answers">')[2]
    marked = re.findall(r'<span class="token (\w*)">(.*?)</span>', source)
    assert marked == [("", "�"), ("", "�"), ("again", "�"), ("", "␣"), ("", "␣␣"), ("", "\\x01")]


def test_of_many_checkpoints_some_are_shown_and_of_many_prompts_the_first(tmp_path):
    prompts = tuple(f"Question {number}?" for number in range(9))
    folder = measured_series(tmp_path / "series", {step: 0.1 for step in range(0, 600, 10)}, prompts=prompts)
    source = page(folder)[1].read_text()
    steps = re.findall(r'<th scope="row">step ([\d,]+)</th>', source)
    assert len(steps) == 4 * 24
    assert (steps[0], steps[23]) == ("0", "590")
    assert len(set(steps)) == 24
    assert [f"“{prompt}”" in source for prompt in prompts] == [True] * 4 + [False] * 5


def test_what_a_model_writes_and_is_asked_is_text(tmp_path):
    own = {f"../{HOSTILE}": 1.0}  # in a folder that somebody else made
    folder = measured_series(
        tmp_path / "series", COLLAPSE, source=HOSTILE, prompts=(HOSTILE,), pieces=(HOSTILE, "<b>", "&amp;"), own=own
    )
    path = write_series_report(folder)
    source = path.read_text()
    assert "<img" not in source
    assert '">&lt;b&gt;</span>' in source
    assert "&amp;amp;" in source
    assert f"“{HOSTILE}”" in html.unescape(source)
    assert len(list(path.parent.iterdir())) == 4


def test_numbers_have_no_negative_zero_and_own_measures_have_a_figure(tmp_path):
    _, path = page(measured_series(tmp_path / "series", COLLAPSE, own={"my_norm": 2.5}))
    assert table_rows(path)[0][:6] == ["0", "step0", "0.1000", "0.0500", "0.0000", "2.5000"]
    assert figures(path) == ["cosine", "entropy", "my_norm"]
    assert "my_norm, measured by a function of your own." in path.read_text()


def test_several_series_are_set_side_by_side(tmp_path):
    small = measured_series(tmp_path / "14m", COLLAPSE, source="a/14m")
    large = measured_series(tmp_path / "70m", {0: 0.2, 64: 0.8, 128: 0.3}, source="a/70m", same=(0, 128))
    text, path = page(small, large, out=tmp_path / "both")
    words = " ".join(text.split())
    assert "2 series: the cosine peaks between 0.80 and 0.95." in text
    assert "a/14m 0.950 peak, at step 8; 0.250 at the end" in words
    assert "a/70m 0.800 peak, at step 64; 0.800 at the end" in words
    assert figures(path) == ["cosine", "repetition", "entropy"]
    assert "What it writes" not in text
    assert text.count("was measured") == 2


def test_series_of_one_model_are_called_by_their_folders(tmp_path):
    plain = measured_series(tmp_path / "plain", COLLAPSE)
    ablated = measured_series(
        tmp_path / "ablated", COLLAPSE, interventions=("ablate-heads", "bias-attention"), prompts=("Why?",)
    )
    text, _ = page(plain, ablated, out=tmp_path / "both")
    assert "plain · ablated" in text
    assert "from the prompts of its series, which differ" in text
    assert "Under ablate-heads, bias-attention, in ablated." in text or "Under ablate-heads and bias-attention" in text


def test_prompts_are_the_same_by_what_they_are_and_not_by_their_name(tmp_path):
    """Both are "by hand", and as many."""
    one = measured_series(tmp_path / "one", COLLAPSE)
    text, _ = page(one, measured_series(tmp_path / "other", COLLAPSE, prompts=("King of", "A man")), out=tmp_path / "a")
    assert "from the prompts of its series, which differ, with 4 greedy tokens" in text
    text, _ = page(one, measured_series(tmp_path / "longer", COLLAPSE, pieces=(" a",) * 6), out=tmp_path / "b")
    assert "from 2 prompts (by hand) with greedy tokens (one: 4, longer: 6)" in text


def test_different_texts_that_are_read_are_told(tmp_path):
    one = measured_series(tmp_path / "one", COLLAPSE, held_out=("h.txt", "1"))
    same = measured_series(tmp_path / "same", COLLAPSE, held_out=("copy.txt", "1"))
    other = measured_series(tmp_path / "other", COLLAPSE, held_out=("h.txt", "2"))
    without = measured_series(tmp_path / "without", COLLAPSE)
    told = "The texts that are read differ"
    text, _ = page(one, other, without, out=tmp_path / "a")
    assert f"{told}, and with them what a loss is of: one: h.txt, other: h.txt." in text
    assert told not in page(one, same, out=tmp_path / "b")[0]
    assert told not in page(one, without, out=tmp_path / "c")[0]


def test_what_a_run_was_trained_under_and_is_measured_without_is_told(tmp_path):
    text, _ = page(measured_series(tmp_path / "bare", COLLAPSE, trained_under=("fix-attention", "cosine-penalty")))
    assert "Trained under fix-attention, cosine-penalty and measured without." in text
    given = measured_series(
        tmp_path / "given", COLLAPSE, trained_under=("fix-attention",), interventions=("fix-attention",)
    )
    text, _ = page(given)
    assert "Under fix-attention." in text
    assert "measured without" not in text


def test_what_an_intervention_measures_is_no_function_of_the_users(tmp_path):
    """Both have columns that are none of ours; the settings name the user's."""
    folder = measured_series(tmp_path / "series", COLLAPSE, own={"norm": 1.0}, told={"qk_capacity_0_0": 2.0})
    source = page(folder)[1].read_text()
    assert "norm, measured by a function of your own." in source
    assert "qk_capacity_0_0, measured by an intervention." in source


def test_interventions_of_one_name_are_told_apart_by_their_settings(tmp_path):
    both = [
        measured_series(
            tmp_path / name, COLLAPSE, interventions=({"name": "ablate-heads", "heads": [head], "by": "zero"},)
        )
        for name, head in (("h0", 0), ("h1", 1))
    ]
    text, _ = page(*both, out=tmp_path / "both")
    assert "Under ablate-heads (heads=[0]), in h0. Under ablate-heads (heads=[1]), in h1." in text
    assert "Under ablate-heads." in page(both[0])[0]


def test_other_precisions_are_told(tmp_path):
    one, other = (
        measured_series(tmp_path / name, COLLAPSE, dtype=dtype)
        for name, dtype in (("one", "float32"), ("other", "bfloat16"))
    )
    text, _ = page(one, other, out=tmp_path / "both")
    assert "The series were not measured in one precision: one: float32, other: bfloat16." in text


def test_what_cannot_be_reported_is_refused(tmp_path):
    one, other = (measured_series(tmp_path / name, COLLAPSE) for name in ("one", "other"))
    nothing = measured_series(tmp_path / "nothing", {})
    failed = measured_series(tmp_path / "failed", {0: 0.1}, failed=(0,))
    twins = measured_series(tmp_path / "twins", {0: 0.1, 1: 0.1}, same=(0, 1))
    for wrong, told in (
        ([], "there is no series to report"),
        ([one, other], "a report of several series needs a folder of its own"),
        ([one, one], "given twice: .*one"),
        (["one"], r"a report is of a series: SeriesFolder\(path\); got"),
        (nothing, "nothing has no checkpoint that is data yet"),
        (failed, "failed has no checkpoint that is data yet"),
        (twins, "twins has no checkpoint that is data yet"),
    ):
        with pytest.raises(ValueError, match=told):
            unchecked(write_series_report)(wrong)
    assert not (tmp_path / "twins" / "report").exists()


def test_what_no_report_wrote_is_never_written_over(tmp_path):
    series = measured_series(tmp_path / "series", COLLAPSE)
    (tmp_path / "cosine.png").write_text("somebody's")
    with pytest.raises(ValueError, match=r"holds cosine\.png, of no report there: move it, or take another folder$"):
        write_series_report(series, tmp_path)
    assert (tmp_path / "cosine.png").read_text() == "somebody's"
    assert not (tmp_path / "index.html").exists()
    assert write_series_report(series) == write_series_report(series)  # its own is written again


def test_the_prompts_of_the_tests_are_there(tmp_path):
    text, _ = page(measured_series(tmp_path / "series", COLLAPSE))
    assert all(f"“{prompt}”" in text for prompt in PROMPTS)


def test_somebodys_page_in_a_series_own_report_is_not_written_over(tmp_path):
    folder = measured_series(tmp_path / "series", COLLAPSE)
    _, path = page(folder)
    path.write_text("somebody's")
    with pytest.raises(ValueError, match=r"report holds index\.html, of no report there"):
        page(folder)
    assert path.read_text() == "somebody's"
    path.unlink()
    assert page(folder)[1] == path  # over the pictures that are left there
    for is_there in (True, False):
        picture = path.with_name("cosine.png")
        picture.write_text("somebody's")
        with pytest.raises(ValueError, match=r"report holds cosine\.png, of no report there"):
            page(folder)
        assert picture.read_text() == "somebody's"
        assert path.exists() == is_there
        path.unlink(missing_ok=True)
