"""What is observed of a model, and how often it is run for it."""

import pandas as pd
import pytest
import torch

from plateau_interp import metrics
from plateau_interp.analysis.observing import (
    Checkpointed,
    Observations,
    captured_at,
    captured_patterns,
    fixed_batch,
    mean_share,
    shared_map,
)
from plateau_interp.interventions.hook_points import FINAL_STATE
from plateau_interp.models import toy_model
from plateau_interp.tasks import MovingWindowSum
from plateau_interp.types import answer_rows

TASK = MovingWindowSum(n=4, p=5)


class Models:
    """Two checkpoints that are never trained; counts how often one is loaded."""

    task, checkpoints, metrics = TASK, [0, 1], pd.DataFrame({"step": [0], "loss": [2.9]})

    def __init__(self):
        self.loaded = []

    def model(self, step=None):
        self.loaded.append(step)
        return toy_model(TASK, d_model=16, n_heads=2, n_layers=2, seed=step)


def test_a_run_is_recognised_by_what_it_has():
    assert isinstance(Models(), Checkpointed)
    assert not isinstance(toy_model(TASK, d_model=16), Checkpointed)


def test_a_checkpoint_is_loaded_once_whatever_is_asked_of_it():
    run = Models()
    seen = Observations(run, cosines=True)
    seen.shares(0, [0, 1])
    seen.shares(1, [1, 0])
    assert seen.targets(1, 1) is not None
    assert seen[0].cosines is not None
    assert run.loaded == [0, 1]


@pytest.mark.parametrize("layer", [0, 1])
def test_what_is_observed_is_what_a_cache_holds(layer):
    run = Models()
    seen = Observations(run, cosines=True)[1]
    inputs = fixed_batch(TASK).inputs
    _, cache = run.model(1).run_with_cache(inputs)
    pattern = cache[f"blocks.{layer}.attn.hook_pattern"]
    assert torch.equal(seen.firsts[layer], pattern[0])
    by_hand = torch.zeros_like(pattern[0])
    for sequence in pattern:
        for head, query in ((head, query) for head in range(2) for query in range(inputs.shape[1])):
            row = sequence[head, query].abs()
            by_hand[head, query] += row / row.sum() / len(pattern)
    assert torch.allclose(seen.shares[layer], by_hand, atol=1e-5)
    states = cache[FINAL_STATE][:, answer_rows(TASK)]
    assert torch.allclose(seen.cosines, metrics.pairwise_cosine(states).mean(dim=0), atol=1e-6)


def test_other_layers_and_cosines_are_left_out_if_nobody_asks():
    seen = Observations(Models(), layers=[1])[0]
    assert (list(seen.shares), list(seen.firsts), seen.cosines) == ([1], [1], None)
    with pytest.raises(ValueError, match="there is no layer 2"):
        Observations(Models(), layers=[2])[0]


def test_a_query_without_attention_has_no_share():
    pattern = torch.tensor([[[[0.0, 0.0], [-1.0, 1.0]]]])
    assert mean_share(pattern).tolist() == [[[0.0, 0.0], [0.5, 0.5]]]


def test_a_mean_share_of_half_precision_is_taken_in_float32():
    pattern = torch.rand(64, 2, 3, 5, generator=torch.Generator().manual_seed(0)).softmax(dim=-1).bfloat16()
    shares = mean_share(pattern)
    assert shares.dtype == torch.float32
    assert torch.equal(shares, mean_share(pattern.float()))
    assert mean_share(pattern.double()).dtype == torch.float64


def test_targets_that_differ_between_sequences_are_no_shared_map():
    one = torch.eye(3, dtype=torch.bool)[None]
    assert torch.equal(shared_map(one), one[0])
    assert shared_map(one.expand(2, 3, 3)) is None
    assert shared_map(None) is None


def test_captured_patterns_see_hooks_and_leave_none():
    model = toy_model(TASK, d_model=16)
    tokens = torch.ones(2, 5, dtype=torch.long)
    with model.hooks(fwd_hooks=[("blocks.0.attn.hook_pattern", lambda pattern, hook: torch.zeros_like(pattern))]):
        assert not captured_patterns(model, tokens).any()
    assert captured_patterns(model, tokens).any()
    assert not captured_at(model, tokens, FINAL_STATE).requires_grad
    assert not model.hook_dict["blocks.0.attn.hook_pattern"].fwd_hooks
