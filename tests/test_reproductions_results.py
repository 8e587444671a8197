"""plateau_interp.reproductions.results: stored results, and the pages that tell them."""

import dataclasses
import io
import json
import shutil

import filelock
import pandas as pd
import pytest
from matplotlib.figure import Figure
from tiny_paper import BASE, FIRST, LEFT, PAPER, page_of_statements, paper_of

from plateau_interp.reproductions import results
from plateau_interp.reproductions.pictures import seeds_figure
from plateau_interp.reproductions.results import claims, publish
from plateau_interp.reproductions.running import outcome, plan, train_setting
from plateau_interp.reproductions.storage import stored

pytestmark = pytest.mark.usefixtures("blank_pictures")


def test_results_are_stored_whole_and_claims_read_from_them(runs, tmp_path):
    assert publish(PAPER, runs, tmp_path) == tmp_path / "RESULTS.md"
    kept = stored(PAPER, tmp_path).outcomes
    assert {name: len(ours) for name, ours in kept.items()} == {"base": 2, "biased": 2, "taken": 1, "left": 1}
    for setting in (BASE, LEFT):
        trained = outcome(setting, 0, runs).metrics
        pd.testing.assert_frame_equal(kept[setting.name][0].metrics, trained, check_dtype=False, rtol=1e-6)
    found = claims(PAPER, [FIRST], tmp_path)
    assert found[0]["verdict"] == "holds"
    assert found[1]["measured"].startswith("biased ")
    assert json.loads((tmp_path / "results" / "tiny" / "claims.json").read_text()) == found
    for text in (file.read_text() for file in [*tmp_path.rglob("*.json"), *tmp_path.rglob("*.md")]):
        assert str(tmp_path) not in text
        assert str(runs) not in text


def test_every_experiment_that_was_run_gets_its_picture(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(results, "seeds_figure", seeds_figure)
    publish(paper_of(FIRST), runs, tmp_path)
    blank = io.BytesIO()
    Figure(figsize=(1, 1)).savefig(blank)
    assert (tmp_path / "results" / "tiny" / "first.png").stat().st_size > 10 * len(blank.getvalue())


def test_the_page_of_statements_tells_everything(runs, tmp_path):
    publish(PAPER, runs, tmp_path)
    text = page_of_statements(tmp_path)
    assert "# All statements: Tiny" in text
    assert "(../../RESULTS.md#tiny)" in text
    assert '<a id="first"></a>\n\n## first: The first' in text
    assert "![The first](first.png)" in text
    assert "| Bias \\| collapses less | us (late) |" in text
    assert "* Bias | collapses less: *another reason*." in text
    assert "| baseline | 2 |" in text
    assert "A note." in text
    assert "How to read it." in text


def test_a_reason_that_several_claims_have_is_told_once(runs, tmp_path):
    same = dataclasses.replace(FIRST.claims[1], reason="a reason")
    publish(paper_of(dataclasses.replace(FIRST, claims=(FIRST.claims[0], same))), runs, tmp_path)
    assert "* It is never solved; Bias | collapses less: *a reason*." in page_of_statements(tmp_path)


def test_the_page_tells_in_short_what_was_run_and_how_it_came_out(runs, tmp_path):
    text = publish(PAPER, runs, tmp_path).read_text()
    assert text.startswith("# Results\n")
    assert "## Tiny\n\nus. Two tiny experiments." in text
    assert "All 2 experiments were run, in 4 settings with 1 to 2 seeds each: 6 runs, 33 training steps" in text
    n_holding = sum(one["verdict"] == "holds" for one in claims(PAPER, PAPER.experiments, tmp_path))
    assert f"Of 2 statements **{n_holding} hold and {2 - n_holding} do not**; 0 are reported" in text
    row = next(line for line in text.splitlines() if "statements.md#first): The first" in line)
    peaks = [one.metrics.cosine.max() for one in stored(PAPER, tmp_path).outcomes["biased"]]
    told = f"{sum(peaks) / 2:.3f} [{min(peaks):.3f}, {max(peaks):.3f}]"
    assert f"| figure 1 | 2 | {n_holding} | {2 - n_holding} | 0 | peak cosine: {told} with biased (baseline: " in row
    assert "| figure 2 | 1 | 0 | 0 | 0 | steps to 99 %: never with left (baseline: never [never, never]) |" in text
    assert "### The second\n\n![The second](results/tiny/second.png)" in text
    assert "plateau reproduce tiny --draw --publish ." in text
    assert len(text.splitlines()) < 100


def test_pages_are_drawn_again_from_the_stored_results_alone(runs, tmp_path):
    page = publish(PAPER, runs, tmp_path / "one")
    shutil.copytree(tmp_path / "one" / "results", tmp_path / "two" / "results")
    for file in [*(tmp_path / "two").rglob("*.md"), *(tmp_path / "two").rglob("*.png")]:
        file.unlink()
    again = publish(PAPER, tmp_path / "none", tmp_path / "two")
    assert again.read_text() == page.read_text()
    assert page_of_statements(tmp_path / "two") == page_of_statements(tmp_path / "one")
    assert (tmp_path / "two" / "results" / "tiny" / "second.png").is_file()


def test_sections_of_other_papers_stay(runs, tmp_path):
    other = dataclasses.replace(PAPER, name="other", title="Other", experiments=(FIRST,), cover="")
    first = publish(PAPER, runs, tmp_path).read_text()
    assert "](#tiny)" not in first
    both = publish(other, runs, tmp_path).read_text()
    assert both.index("* [Tiny](#tiny)\n* [Other](#other)\n") < both.index("\n## Tiny\n") < both.index("\n## Other\n")
    assert first.split('<a id="tiny"></a>')[1].strip() in both
    assert publish(PAPER, runs, tmp_path).read_text() == both
    assert (tmp_path / "results" / "other" / "statements.md").is_file()


def test_a_page_of_somebody_else_is_not_written_over(runs, tmp_path):
    (tmp_path / "RESULTS.md").write_text("# My thesis\n")
    with pytest.raises(ValueError, match=r"RESULTS.md was not written by `plateau reproduce`: move it, or use another"):
        publish(PAPER, runs, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["RESULTS.md"]
    assert (tmp_path / "RESULTS.md").read_text() == "# My thesis\n"


@pytest.mark.parametrize("name", ["statements.md", "claims.json", "second.png", "left.json", "left.parquet"])
def test_a_file_of_somebody_else_is_not_written_over(runs, tmp_path, name):
    file = tmp_path / "results" / "tiny" / name
    file.parent.mkdir(parents=True)
    pd.DataFrame({"mine": [1]}).to_parquet(file) if file.suffix == ".parquet" else file.write_text("mine")
    before = file.read_bytes()
    with pytest.raises(ValueError, match=rf"{name} was not written by `plateau reproduce`: move it, or use another"):
        publish(PAPER, runs, tmp_path)
    assert [each.read_bytes() for each in tmp_path.rglob("*") if each.is_file()] == [before]


def test_results_of_a_killed_command_and_of_nothing_are_known_again(runs, tmp_path):
    publish(PAPER, tmp_path / "none", tmp_path)
    publish(PAPER, runs, tmp_path)
    (tmp_path / "results" / "tiny" / "statements.md").unlink()  # curves come first
    publish(PAPER, runs, tmp_path)
    assert page_of_statements(tmp_path).startswith("# All statements: Tiny")


def test_a_page_of_an_earlier_version_is_replaced(runs, tmp_path):
    (tmp_path / "RESULTS.md").write_text("# Results: Tiny\n\nWritten by `plateau reproduce tiny` from the files.\n")
    assert "Results: Tiny" not in publish(PAPER, runs, tmp_path).read_text()


def test_one_process_publishes_at_a_time(tmp_path, monkeypatch):
    def collecting(settings, runs):
        # Of all papers: their sections are in one page.
        with pytest.raises(filelock.Timeout):
            filelock.FileLock(tmp_path / "results" / ".lock").acquire(timeout=0)
        raise InterruptedError("collected")

    monkeypatch.setattr(results, "collect", collecting)
    with pytest.raises(InterruptedError, match="collected"):
        publish(PAPER, tmp_path / "none", tmp_path)


def test_what_was_not_run_is_said(runs, tmp_path):
    only = tmp_path / "only"
    for setting, seed in plan([FIRST], n_seeds=1):
        train_setting(setting, seed, only)
    text = publish(PAPER, only, tmp_path).read_text()
    assert "1 of 2 experiments were run, in 2 settings with 1 seeds each" in text
    assert "| `second`: The second | figure 2 | not run |" in text
    assert "* `second` (figure 2): The second" in page_of_statements(tmp_path)


def test_nothing_at_all_can_be_published(tmp_path):
    text = publish(PAPER, tmp_path / "none", tmp_path).read_text()
    assert "Nothing was run yet." in text
    assert "* `first` (figure 1): The first" in page_of_statements(tmp_path)


def test_without_anything_that_does_not_hold_nothing_is_said_of_it(runs, tmp_path):
    text = publish(paper_of(dataclasses.replace(FIRST, claims=FIRST.claims[:1])), runs, tmp_path).read_text()
    assert "does not hold" not in text
