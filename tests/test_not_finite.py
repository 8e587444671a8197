"""Weights that are NaN, and models that TransformerLens builds but cannot run: one clear line, or NaN, as measured."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformer_lens import HookedTransformer, HookedTransformerConfig

from plateau_interp import intervening, train
from plateau_interp.analysis.capacity import query_key_capacity
from plateau_interp.analysis.circuits import circuit
from plateau_interp.analysis.direct_attribution import direct_attribution
from plateau_interp.analysis.embeddings import principal_components
from plateau_interp.analysis.linear_probes import fit_linear, mean_absolute_cosine
from plateau_interp.analysis.nuclear_norm import nuclear_norms
from plateau_interp.analysis.patching import patch_by_head
from plateau_interp.analysis.probing import probe
from plateau_interp.decoding import continued, greedy_answers
from plateau_interp.hooks import AblateHeads, QueryKeyCapacity
from plateau_interp.metrics import effective_rank
from plateau_interp.models import ToyTransformer, toy_model
from plateau_interp.tasks import MovingWindowSum
from plateau_interp.training.meter import Meter
from plateau_interp.views import attention_view

TASK = MovingWindowSum(n=4)
CLEAN, OTHER = (TASK.sample(3, generator=torch.Generator().manual_seed(seed)).inputs for seed in (0, 1))


def metric(logits: torch.Tensor) -> torch.Tensor:
    return logits[:, -1, 0].mean()


def spoilt() -> ToyTransformer:
    model = toy_model(TASK, d_model=16, n_heads=2)
    with torch.no_grad():
        model.blocks[0].attn.W_Q[0, 0, 0] = torch.nan
    return model


@pytest.mark.parametrize(
    ("work", "text"),
    [
        (lambda model: probe(model, TASK, n_sequences=8, n_train_sequences=4), "^the activations at blocks.0.hook_att"),
        (
            lambda model: circuit(model, clean=CLEAN, corrupted=OTHER, metric=metric),
            "^the model's hidden states are NaN",
        ),
        (lambda model: direct_attribution(model, CLEAN, metric), "^the model's hidden states are NaN or infinite"),
        (lambda model: patch_by_head(model, metric, clean=CLEAN, corrupted=OTHER), "^the metric must be finite"),
        (lambda model: attention_view(model, CLEAN[0]), "^a pattern must be finite"),
        (lambda model: fit_linear(model.blocks[0].attn.W_Q[0], torch.ones(16, 1)), "^states must be finite numbers"),
        (lambda model: fit_linear(torch.ones(16, 1), model.blocks[0].attn.W_Q[0]), "^targets must be finite numbers"),
        (lambda model: principal_components(model.blocks[0].attn.W_Q[0], 2), "^vectors must be finite numbers"),
    ],
)
def test_what_cannot_be_measured_of_nan_is_refused(work: Callable[[Any], Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        work(spoilt())


def test_measures_of_what_is_not_finite_are_nan_and_no_others() -> None:
    states = torch.ones(3, 4, 4)
    states[1, 0, 0], states[2, 0, 0] = torch.nan, torch.inf
    assert effective_rank(states).isnan().tolist() == [False, True, True]
    assert nuclear_norms(states).isnan().tolist() == [False, True, True]
    assert mean_absolute_cosine(states[1], states[0]).isnan()
    heads = query_key_capacity(spoilt())
    assert heads.nuclear.isnan().tolist() == [[True, False]]
    assert heads.stable_rank.isnan().tolist() == [[True, False]]


def test_a_training_whose_weights_are_nan_is_measured_on() -> None:
    meter = Meter(TASK, n_sequences=2)
    steps = [*train(spoilt(), TASK, steps=2, batch_size=4, interventions=[QueryKeyCapacity()], meter=meter)]
    assert [math.isnan(step.loss) for step in steps] == [True, True]


@pytest.mark.parametrize(
    "work",
    [
        lambda model: next(train(model, TASK, steps=1, batch_size=4)),
        lambda model: greedy_answers(model, TASK, CLEAN),
        lambda model: continued(model, CLEAN, 1),
        lambda model: probe(model, TASK, n_sequences=8, n_train_sequences=4),
        lambda model: circuit(model, clean=CLEAN, corrupted=OTHER, metric=metric),
        lambda model: patch_by_head(model, metric, clean=CLEAN, corrupted=OTHER),
        lambda model: attention_view(model, CLEAN[0]),
        lambda model: intervening(model, AblateHeads([0])).__enter__(),
    ],
)
def test_a_model_that_transformer_lens_cannot_run_is_refused(work: Callable[[Any], Any]) -> None:
    sizes: dict[str, Any] = {"n_layers": 1, "n_ctx": 12, "d_model": 16, "d_head": 8, "n_heads": 2}
    kinds: dict[str, Any] = {"act_fn": "relu", "positional_embedding_type": "relative_positional_bias"}
    config = HookedTransformerConfig(
        **sizes, **kinds, d_vocab=TASK.d_vocab, relative_attention_max_distance=8, relative_attention_num_buckets=4
    )
    with pytest.raises(ValueError, match=r"^a model with positional_embedding_type='relative_positional_bias' has no"):
        work(HookedTransformer(config))
