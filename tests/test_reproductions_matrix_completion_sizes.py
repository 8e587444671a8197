"""plateau_interp.reproductions.matrix_completion.sizes: what is its own."""

import pytest
import torch

from plateau_interp.models import toy_model
from plateau_interp.reproductions.matrix_completion.drop import SMALL
from plateau_interp.reproductions.matrix_completion.sizes import DEPTHS, WIDTHS
from plateau_interp.reproductions.settings import Setting


@pytest.mark.parametrize("setting", WIDTHS.settings, ids=lambda setting: setting.name)
def test_at_every_width_attention_differs_as_much_at_the_start(setting: Setting) -> None:
    recipe = setting.recipe
    model = toy_model(recipe.task, d_model=recipe.model.d_model, init_std=recipe.model.init_std, seed=1)
    # Scores of normalised states are sums of d_model² products of three numbers of deviation 1, s and s, over
    # sqrt(d_head): their deviation is s² d_model, whatever the number of heads.
    drawn = torch.stack([each for block in model.blocks for each in (block.attn.W_Q, block.attn.W_K, block.attn.W_V)])
    spread = drawn.std().item() ** 2 * model.cfg.d_model
    assert spread == pytest.approx(0.12**2 * 64, rel=0.1)
    assert model.cfg.d_mlp == 4 * model.cfg.d_model


def test_one_thing_differs_from_the_small_setting() -> None:
    for experiment, field in ((WIDTHS, {"d_model", "init_std"}), (DEPTHS, {"n_layers"})):
        assert experiment.settings[0] is SMALL
        for setting in experiment.settings[1:]:
            assert isinstance(setting, Setting)
            ours, base = (vars(one.recipe.model.resolved(one.recipe.task)) for one in (setting, SMALL))
            assert {name for name in base if ours[name] != base[name]} == field
            assert (setting.recipe.task, setting.recipe.training) == (SMALL.recipe.task, SMALL.recipe.training)
