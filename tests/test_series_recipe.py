"""plateau_interp.series.recipe: a series as plain data, read, refused, and measured as by hand."""

import json

import pytest
from measured_series import measured_series

from plateau_interp.codec import RecipeError
from plateau_interp.hooks import AblateHeads
from plateau_interp.interventions.capturing import Capture
from plateau_interp.series.recipe import SeriesRecipe


def test_plain_data_make_the_recipe_again():
    recipe = SeriesRecipe("a/model", [0, "step8"], first=3, interventions=[AblateHeads([0])], dtype="bfloat16")
    data = json.loads(recipe.to_json())
    assert data["revisions"] == [0, "step8"]
    assert data["interventions"][0]["name"] == "ablate-heads"
    assert SeriesRecipe.from_dict(data).to_json() == recipe.to_json()
    assert SeriesRecipe.from_dict({"source": "a/model"}) == SeriesRecipe("a/model")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "source: missing"),
        ({"source": 3}, "source: expected text; got 3"),
        ({"source": ""}, "source must be a text; got ''"),
        ({"source": "a", "n_neww": 3}, "n_neww: unknown field; the nearest is n_new"),
        ({"source": "a", "n_new": 0}, "n_new must be at least 1; got 0"),
        ({"source": "a", "first": 0}, "first must be at least 1; got 0"),
        ({"source": "a", "dtype": "float8"}, "dtype must be one of float32, bfloat16, float16, float64; got 'float8'"),
        ({"source": "a", "revisions": 5}, "revisions: expected text or a list of texts or whole numbers; got 5"),
        ({"source": "a", "interventions": [{"name": "ablate-head"}]}, r"interventions\[0\].name: .*ablate-heads"),
    ],
)
def test_what_cannot_be_is_refused(data, message):
    with pytest.raises(RecipeError, match=message):
        SeriesRecipe.from_dict(data)


def test_a_capture_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="a Capture records one model"):
        SeriesRecipe("a", interventions=[Capture(("blocks.0.hook_resid_post",), str(tmp_path / "captured"))])


def test_what_is_here_gets_its_whole_path_and_names_on_the_hub_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "prompts.txt").write_text("Why?")
    (tmp_path / "text.txt").write_text("Because.")
    here = SeriesRecipe("run", prompts="prompts.txt", held_out="text.txt").located()
    names = ("run", "prompts.txt", "text.txt")
    assert (here.source, here.prompts, here.held_out) == tuple(str(tmp_path / name) for name in names)
    assert SeriesRecipe("saved/step*").located().source == str(tmp_path / "saved/step*")
    elsewhere = SeriesRecipe("someone/model", prompts="general")
    assert elsewhere.located() == elsewhere
    (tmp_path / "general").mkdir()  # a folder holds no prompts: the word means what it always does
    assert elsewhere.located() == elsewhere


def test_what_is_left_is_what_is_not_measured(tmp_path):
    """A checkpoint that was not to be had is left, too; a folder of another series is refused."""
    for step in (0, 1, 4):
        (tmp_path / "saved" / f"step{step}").mkdir(parents=True)
    out = tmp_path / "series"
    recipe = SeriesRecipe(str(tmp_path / "saved"), n_new=4)
    assert [revision.step for revision in recipe.left(out)] == [0, 1, 4]
    assert not out.exists()
    measured_series(out, {0: 0.1, 1: 0.2}, source=str(tmp_path / "saved"), failed=(1,))
    with pytest.raises(ValueError, match="holds a series with other prompts, prompts_origin"):
        recipe.left(out)
    settings = json.loads((out / "series.json").read_text())
    questions = tmp_path / "questions.txt"
    questions.write_text("\n".join(settings["prompts"]))
    asked = SeriesRecipe(recipe.source, prompts=str(questions), n_new=4)
    (out / "series.json").write_text(
        json.dumps({**settings, "prompts_origin": "questions.txt", "held_out_sha256": None})
    )
    assert [revision.step for revision in asked.left(out)] == [1, 4]
