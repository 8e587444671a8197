"""plateau_interp.views.grid_views: answers that are grids, as a page and in reports."""

import base64
import re

import numpy as np
import pytest
import torch
from typecheck import unchecked

from plateau_interp.analysis.answer_grids import GridsThroughTraining
from plateau_interp.models.settings import ModelOptions
from plateau_interp.runs.recipe import Recipe
from plateau_interp.runs.run import Run
from plateau_interp.tasks import MatrixCompletion
from plateau_interp.training.settings import MeasuringOptions, TrainingOptions
from plateau_interp.views import grid_figure, grid_view, write_report
from plateau_interp.views.grid_views import GridView
from plateau_interp.views.report_maps import map_sections
from plateau_interp.views.theme import LIGHT


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    recipe = Recipe(
        MatrixCompletion(shapes=((2, 3),)),
        ModelOptions(d_model=8, n_heads=2, n_layers=1),
        TrainingOptions(steps=4, batch_size=4),
        measuring=MeasuringOptions(every=2),
        checkpoint_every=2,
    )
    run = Run.create(tmp_path_factory.mktemp("runs") / "tiny", recipe)
    for _ in run.train():
        pass
    return run


def test_the_stills_of_a_report_are_what_is_right_and_its_moments(run):
    section = map_sections([run], ["tiny"], [run.summary])[0]
    titles = [each(theme=LIGHT).axes[0].get_title(loc="left") for each in section.stills]
    assert titles[0] == "right"
    assert len(titles) == 4
    assert all(title.startswith("step ") for title in titles[1:])
    colours = {each(theme=LIGHT).axes[0].images[0].get_clim() for each in section.stills}
    assert len(colours) == 1
    assert len(section.whole(theme=LIGHT).axes) == 4 + 1


def unpacked(values, *shape):
    kind = "<i2" if values["bits"] == 16 else "<i4"
    return np.frombuffer(base64.b64decode(values["data"]), kind).reshape(shape) / 10.0 ** values["decimals"]


def test_a_view_holds_what_is_right_and_what_the_model_says_at_each_step(run):
    spec = grid_view(run, n=2).spec()
    found = grid_view(run, n=2).grids
    assert (spec["kind"], spec["steps"], spec["rows"], spec["columns"]) == ("grid", [0, 2, 4], 2, 3)
    np.testing.assert_allclose(unpacked(spec["truth"], 2, 2, 3), found.truth.numpy(), atol=1e-4)
    np.testing.assert_allclose(unpacked(spec["said"], 3, 2, 2, 3), found.said.numpy(), atol=1e-4)
    assert spec["asked"] == found.asked.int().reshape(2, 6).tolist()
    assert spec["range"] == pytest.approx(found.truth.abs().max().item())
    assert spec["curve"]["step"][0] == 0


def test_one_step_has_no_curve(run):
    assert grid_view(run, steps=[4]).spec()["curve"] is None


def test_a_page_has_room_for_so_many_steps(run, monkeypatch):
    monkeypatch.setattr("plateau_interp.views.grid_views.MAX_VALUES", 2 * 6 * 2)
    assert grid_view(run, n=2).grids.steps == (0, 4)
    four = run.task.sample(4, generator=torch.Generator())
    assert grid_view(run, n=2, batch=four).grids.steps == (4,)  # it has as many as are given
    with pytest.raises(ValueError, match="n must be a whole number"):
        unchecked(grid_view)(run, n="2")


def test_without_scripts_the_first_grid_of_the_last_step_is_seen():
    truth, asked = torch.tensor([[[0.25, -0.5]]]), torch.tensor([[[False, True]]])
    said = torch.tensor([[[[0.1, 0.2]]], [[[0.26, -0.41]]]])
    still = GridView("", "", GridsThroughTraining((0, 9), said, truth, asked)).still()
    for text in ("0.25", "-0.50", "0.26", "-0.41", "step 9", "right"):
        assert text in still.replace("\N{MINUS SIGN}", "-")
    assert "0.10" not in still


def test_a_figure_outlines_what_is_asked():
    figure = grid_figure(np.array([[[1.0, -2.0]], [[0.5, 0.0]]]), ["right", "said"], asked=np.array([[False, True]]))
    for axes in figure.axes[:2]:
        (boxes,) = axes.collections
        (box,) = boxes.get_paths()
        assert box.get_extents().x0 == pytest.approx(0.54)
    assert [text.get_text() for text in figure.axes[0].texts] == ["1.00", "-2.00"]
    assert figure.axes[0].images[0].get_clim() == figure.axes[1].images[0].get_clim() == (-2.0, 2.0)
    assert not grid_figure(np.ones((1, 1, 2)), ["right"]).axes[0].collections
    with pytest.raises(ValueError, match="2 maps need 2 titles; got 1"):
        grid_figure(np.ones((2, 1, 2)), ["right"])


@pytest.mark.usefixtures("undrawn")
def test_a_report_shows_them_with_a_slider(run, tmp_path):
    page = write_report(run, tmp_path / "report")
    html = page.read_text(encoding="utf-8")
    assert (page.parent / "answers.png").is_file()
    headings = re.findall(r"<h2>(.*?)</h2>", html)
    assert headings.index("Answers") < headings.index("Attention")
    assert html.count('data-plateau-view="answers-0"') == 1
    assert "What is right, and what the model says. Outlined: the cells that it cannot see." in html
