from typing import Any

import pytest
import torch
from test_analysis_circuits import host_model, linear, metric, model_of, pair

from plateau_interp.analysis.edges import attention_biases, cutting, graph_of, one_number


def settings(**changes: Any) -> dict[str, Any]:
    clean, corrupted = pair()
    asked: dict[str, Any] = {"clean": clean, "corrupted": corrupted, "metric": metric}
    return asked | {"ablation": "resample", "freeze_norms": False} | changes


def test_a_reader_reads_what_was_written_before_it() -> None:
    graph = graph_of(model_of("linear", 2))
    read = {
        reader: [writer for writer, there in zip(graph.writers, graph.edges[:, column], strict=True) if there]
        for column, reader in enumerate(graph.readers)
    }
    assert read["L0H1.k"] == ["embed", "pos_embed"]
    assert read["MLP0"] == ["embed", "pos_embed", "L0H0", "L0H1"]
    assert read["L1H0.v"] == [*read["MLP0"], "MLP0"]
    assert read["logits"] == list(graph.writers)


@pytest.mark.parametrize("ablation", ["resample", "mean", "zero"])
@pytest.mark.parametrize("freeze_norms", [False, True])
def test_no_edge_cut_is_the_model_and_all_are_what_it_says(ablation: str, freeze_norms: bool) -> None:
    model = model_of("softmax", 2)
    with cutting(model, **settings(ablation=ablation, freeze_norms=freeze_norms)) as cut:
        none = torch.zeros(1, *cut.graph.edges.shape, 1, dtype=torch.bool)
        both = torch.cat([none, none | cut.graph.edges[None, :, :, None]])
        assert cut.metrics_when_cut(both).tolist() == pytest.approx([cut.clean, cut.ablated], abs=1e-12)
    assert cut.clean == pytest.approx(metric(model(pair()[0])).item(), abs=1e-12)


def test_several_choices_in_one_forward_are_those_of_a_forward_each() -> None:
    model = model_of("linear", 2)
    with cutting(model, **settings()) as cut:
        random = torch.rand(5, *cut.graph.edges.shape, 8, generator=torch.Generator().manual_seed(0))
        choices = (random < 0.3) & cut.graph.edges[None, :, :, None]
        together = cut.metrics_when_cut(choices)
        apart = torch.cat([cut.metrics_when_cut(choice[None]) for choice in choices])
    torch.testing.assert_close(together, apart, atol=1e-12, rtol=0)
    assert together.unique().numel() == 5


def test_biases_of_attention_are_nobody_s() -> None:
    model = model_of("linear", 2)
    assert torch.equal(attention_biases(model), model.blocks[0].attn.b_O + model.blocks[1].attn.b_O)


def test_the_model_is_left_as_it_was_after_an_error_too() -> None:
    model = host_model()
    flags = (model.cfg.use_split_qkv_input, model.cfg.use_hook_mlp_in)
    with pytest.raises(ZeroDivisionError), cutting(model, **settings(metric=linear)):
        raise ZeroDivisionError
    assert (model.cfg.use_split_qkv_input, model.cfg.use_hook_mlp_in) == flags == (False, False)
    assert not any(point.fwd_hooks for point in model.hook_dict.values())


@pytest.mark.parametrize(
    ("measured", "words"),
    [
        (torch.zeros(2), r"the metric must be one number; got \(2,\)"),
        (float("nan"), "the metric must be finite; got nan"),
        ("three", "the metric must be one number; got 'three'"),
    ],
)
def test_a_metric_is_one_finite_number(measured: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        one_number(measured)
    assert one_number(torch.tensor([[3]], dtype=torch.int64)).shape == ()


@pytest.mark.parametrize("side", ["left", "right"])
def test_means_are_of_the_tokens_at_one_position_of_their_sequences(side: str) -> None:
    n_pad = [2, 1, 0]
    n_pos = pair()[0].shape[1]
    mask = torch.tensor([[0] * n + [1] * (n_pos - n) for n in n_pad])
    starts = n_pad if side == "left" else [0, 0, 0]
    mask = mask if side == "left" else mask.flip(1)
    model = model_of("softmax", 1)
    with cutting(model, **settings(ablation="mean", attention_mask=mask)) as cut:
        for position in range(n_pos):
            has = [row for row in range(3) if position < n_pos - n_pad[row]]
            there = torch.stack([cut.written[:, row, starts[row] + position] for row in has])
            for row in has:
                torch.testing.assert_close(cut.instead[:, row, starts[row] + position], there.mean(0))
        assert torch.equal(cut.instead[:, mask == 0], cut.written[:, mask == 0])


@pytest.mark.parametrize("mask", [None, 1])
def test_means_without_padding_are_of_the_batch(mask: int | None) -> None:
    asked = settings(ablation="mean", attention_mask=None if mask is None else torch.ones_like(pair()[0]))
    with cutting(model_of("softmax", 1), **asked) as cut:
        torch.testing.assert_close(cut.instead[:, 1], cut.written.mean(dim=1))
