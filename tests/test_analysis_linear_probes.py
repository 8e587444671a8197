"""plateau_interp.analysis.linear_probes: planted targets, directions, errors."""

import numpy as np
import pytest
import torch
from typecheck import unchecked

from plateau_interp.analysis.linear_probes import fit_linear, mean_absolute_cosine, read_linearly
from plateau_interp.models import toy_model
from plateau_interp.tasks import MovingWindowSum


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_planted_matrix_is_found_and_reads_unseen_states() -> None:
    planted, states, unseen = normal(6, 3, seed=1), normal(50, 6, seed=2), normal(20, 6, seed=3)
    torch.testing.assert_close(fit_linear(states, states @ planted), planted, atol=1e-5, rtol=0)
    found = read_linearly(states, states @ planted, unseen_states=unseen, unseen_targets=unseen @ planted)
    assert found.error == pytest.approx(0, abs=1e-10)
    assert found.cosine == pytest.approx(1, abs=1e-5)
    assert found.read.shape == (20, 3)


def test_there_is_no_bias() -> None:
    states = torch.tensor([[1.0], [1.0]])
    found = read_linearly(
        states, torch.tensor([[2.0], [4.0]]), unseen_states=torch.zeros(1, 1), unseen_targets=torch.ones(1, 1)
    )
    assert found.error == 1.0  # the mean, 3, needs a state to hang on


def test_features_that_hang_together_get_the_shortest_solution() -> None:
    twice = normal(30, 1).expand(-1, 2)
    torch.testing.assert_close(fit_linear(twice, 2 * twice[:, :1]), torch.ones(2, 1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_states_of_low_rank_are_read_in_the_directions_that_they_have(dtype: torch.dtype) -> None:
    """As sums of a few embeddings are: what rounding adds in all other directions is nothing to be fitted."""
    states = {}
    for point in ("blocks.0.hook_resid_pre", "blocks.0.hook_attn_out"):
        task = MovingWindowSum()
        model = toy_model(task)
        for seed in (1, 2):
            batch = task.sample(100, generator=torch.Generator().manual_seed(seed))
            _, cache = model.run_with_cache(batch.inputs, names_filter=point)
            true = torch.nn.functional.one_hot(batch.labels[:, 16:32].flatten(), task.d_vocab)
            states[seed] = cache[point][:, 16:32].flatten(0, 1).to(dtype), true.to(dtype)
        (seen, targets), (unseen, others) = states[1], states[2]
        found = read_linearly(seen.float(), targets.float(), unseen_states=unseen, unseen_targets=others)
        own = np.linalg.pinv(seen.double().numpy(), rcond=1e-6) @ targets.double().numpy()
        expected = np.square(unseen.double().numpy() @ own - others.numpy()).mean()
        assert found.error == pytest.approx(expected, rel=0.01)
        assert float(fit_linear(seen.float(), targets.float()).abs().max()) < 10


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e-20, 1e20])
def test_a_cosine_has_no_unit(scale: float) -> None:
    one, other = normal(100, 8), normal(100, 8, seed=1) * torch.logspace(0, -4, 100)[:, None]
    expected = torch.nn.functional.cosine_similarity(one.double(), other.double(), dim=-1).abs().mean()
    assert float(mean_absolute_cosine(one * scale, other * scale)) == pytest.approx(float(expected), rel=1e-5)


def test_what_cannot_be_fitted_is_refused() -> None:
    with pytest.raises(ValueError, match="got 2 and 3"):
        unchecked(fit_linear)(torch.ones(3, 1), torch.ones(2, 1))


def test_the_cosine_forgets_signs_and_skips_what_has_no_direction() -> None:
    one = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    other = torch.tensor([[-2.0, 0.0], [3.0, 3.0], [1.0, 0.0]])
    assert float(mean_absolute_cosine(one, other)) == pytest.approx((1 + 0.5**0.5) / 2)
    assert mean_absolute_cosine(torch.zeros(2, 2), torch.ones(2, 2)).isnan()
