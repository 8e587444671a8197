"""plateau_interp.reproductions.matrix_completion.embedding_layout: embeddings put in by hand."""

import dataclasses

import pytest
import torch
from planted_encoders import TASK, Checkpoints, untrained

from plateau_interp.reproductions.matrix_completion import embedding_structure


def test_planted_values_sizes_and_columns_are_found() -> None:
    model = untrained()
    x = TASK.values(torch.arange(1, TASK.d_vocab))
    with torch.no_grad():
        weights = dict(model.named_parameters())
        for name in ("embed.W_E", "pos_embed.W_pos"):
            weights[name].zero_()
        weights["embed.W_E"][1:, 3], weights["embed.W_E"][1:, 5] = x, 2 * x.abs()
        weights["pos_embed.W_pos"][:16, :4] = torch.eye(4)[torch.arange(16) % 4]
    (row,) = embedding_structure(Checkpoints({9: model})).to_dict("records")
    assert row["step"] == 9
    assert row["norm_symmetry"] == pytest.approx(1)
    assert row["value_axis"] == pytest.approx(1)
    assert row["size_axis"] == pytest.approx(1)
    # Without their mean, places of two columns have the cosine -1/3; places of two rows share a column in one of four.
    assert row["column_nearness"] == pytest.approx(4 / 3)
    assert row["row_nearness"] == pytest.approx(-1 / 3)


def test_tokens_that_are_never_trained_do_not_count() -> None:
    wide = dataclasses.replace(TASK, largest=2.0)
    model = untrained()
    found = embedding_structure(Checkpoints({0: model}))
    from plateau_interp.models import toy_model

    larger = toy_model(wide, d_model=16, n_heads=2, n_layers=2)
    with torch.no_grad():
        larger.embed.W_E[11:32] = model.embed.W_E[1:]
        larger.pos_embed.W_pos[:] = model.pos_embed.W_pos
    assert embedding_structure(Checkpoints({0: larger}, task=wide)).equals(found)
    assert not embedding_structure(Checkpoints({0: larger}, task=wide), largest=2.0).equals(found)
