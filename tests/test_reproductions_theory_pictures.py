"""plateau_interp.reproductions.theory.pictures: panels, dots and lines of tables made by hand."""

import numpy as np
import pandas as pd
import pytest

from plateau_interp.reproductions.settings import Outcome
from plateau_interp.reproductions.theory.pictures import rays_figure, scatter_figure, starts_figure
from plateau_interp.reproductions.theory.rays import PAIRED, RAYS, WEIGHTS
from plateau_interp.reproductions.theory.scatter import TRAINING_SIZES
from plateau_interp.reproductions.theory.starts import nets


def test_a_row_a_group_and_a_dot_a_start() -> None:
    settings = [*nets("squared", "tanh", 0.01), *nets("squared", "tanh", 0.0)]
    rows = pd.DataFrame({"step": [0], "train_loss": [0.1], "weight_norm": [2.0], "share_of_constant": [0.5]})
    figure = starts_figure({setting.name: [Outcome(setting, 0, rows)] for setting in settings})
    losses, shares = figure.axes
    assert [label.get_text() for label in losses.get_yticklabels()] == [
        "squared, tanh, λ = 0.01",
        "squared, tanh, λ = 0",
    ]
    points = [line.get_xydata().ravel().tolist() for line in losses.get_lines()]
    assert points == [pytest.approx([0.12, 0.0])] * 3 + [pytest.approx([0.1, 1.0])] * 3
    assert len(shares.get_lines()) == 7  # and the line of the best constant
    assert [text.get_text() for text in figure.legends[0].get_texts()][-1] == "initial weights of deviation 3"


def test_a_panel_a_study_with_every_ray_and_the_bound() -> None:
    table = pd.DataFrame(
        {
            "direction": np.repeat([WEIGHTS, PAIRED, "draw 1"], 2),
            "norm": [1.0, 10.0] * 3,
            "psi": [1.0, 2.0, -1.0, 3.0, 0.5, 0.6],
            "least": [-5.0, 1.0] * 3,
        }
    )
    first, second = RAYS.settings[:2]
    figure = rays_figure({one.name: [Outcome(one, 0, table)] for one in (first, second)})
    assert [axes.get_title(loc="left") for axes in figure.axes] == [first.about, second.about]
    lines = figure.axes[0].get_lines()
    assert [line.get_ydata().tolist() for line in lines] == [[1.0, 2.0], [-1.0, 3.0], [0.5, 0.6], [-5.0, 1.0]]
    assert lines[-1].get_linestyle() == "--"
    assert len({line.get_color() for line in lines}) == 4
    assert figure.axes[0].get_yscale() == "linear"


def test_psi_that_grows_has_a_scale_of_powers() -> None:
    table = pd.DataFrame({"direction": WEIGHTS, "norm": [1.0, 1e4], "psi": [-50.0, 2e6], "least": [-500.0, 1e6]})
    (axes,) = rays_figure({"rays": [Outcome(RAYS.settings[0], 0, table)]}).axes
    assert axes.get_yscale() == "symlog"
    told = [label.get_text() for label in axes.get_yticklabels()]
    assert told == ["-100", "-1", "0", "1", "100", "1e4", "1e6"]


def test_a_dot_a_run_and_the_correlation_above() -> None:
    outcomes = {
        setting.name: [
            Outcome(
                setting, seed, pd.DataFrame({"step": [0], "capacity": [1.0 + seed], "gap": [1.0 * n], "n_train": [n]})
            )
            for seed in range(2)
        ]
        for n, setting in zip((100, 200), TRAINING_SIZES, strict=False)
    }
    figure = scatter_figure(outcomes)
    scaled, inverse, plain = figure.axes
    dots = [line.get_xydata().tolist() for line in scaled.get_lines()]
    assert dots[0] == [pytest.approx([0.1, 100.0]), pytest.approx([0.2, 100.0])]
    assert inverse.get_title(loc="left").startswith("r = -1.00 [")
    assert plain.get_title(loc="left").startswith("r = 0.00 [")
    assert plain.get_title(loc="left").endswith("n = 4")
    assert [axes.get_xlabel() for axes in figure.axes] == ["capacity/√m", "1/√m", "capacity"]
