"""plateau_interp.reproductions.circuits.pictures: the picture of a forming circuit."""

import pandas as pd
import pytest

from plateau_interp.reproductions.circuits.measured import EDGE
from plateau_interp.reproductions.circuits.pictures import MOST_NAMED, forming_figure
from plateau_interp.reproductions.circuits.toys import BIASED, WINDOWS
from plateau_interp.reproductions.settings import Outcome, Setting


@pytest.mark.parametrize("n_edges", [2, 9])
def test_the_picture_has_losses_edges_and_shares(n_edges: int) -> None:
    def one(seed: int, setting: Setting) -> Outcome:
        shared = {"step": [0, 10], "loss": [2.0, 1.0], "circuit_overlap": [0.0, 1.0], "main_edges_there": [0.5, 1.0]}
        scores = {f"{EDGE}a>{place}": [0.0, 1.0 + place] for place in range(n_edges)}
        return Outcome(setting, seed, pd.DataFrame({**shared, **scores}))

    figure = forming_figure({each.name: [one(0, each), one(1, each)] for each in (WINDOWS, BIASED)})
    losses, edges, shares = figure.axes[:3]
    assert len(figure.axes) == 6
    assert [len(axes.get_lines()) for axes in (losses, shares)] == [2, 4]
    assert len(edges.get_lines()) == min(n_edges, MOST_NAMED) + 1  # and half of the last score
    assert losses.get_title(loc="left") == "moving-window sum, one layer"
    labels = [text.get_text() for text in shares.get_legend().get_texts()]
    assert labels == ["as high up as at last", "have half of their last score"]
