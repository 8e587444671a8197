"""plateau_interp.analysis.linear_probes: planted targets, directions, errors."""

import pytest
import torch
from typecheck import unchecked

from plateau_interp.analysis.linear_probes import fit_linear, mean_absolute_cosine, read_linearly


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


def test_what_cannot_be_fitted_is_refused() -> None:
    with pytest.raises(ValueError, match="got 2 and 3"):
        unchecked(fit_linear)(torch.ones(3, 1), torch.ones(2, 1))


def test_the_cosine_forgets_signs_and_skips_what_has_no_direction() -> None:
    one = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    other = torch.tensor([[-2.0, 0.0], [3.0, 3.0], [1.0, 0.0]])
    assert float(mean_absolute_cosine(one, other)) == pytest.approx((1 + 0.5**0.5) / 2)
    assert mean_absolute_cosine(torch.zeros(2, 2), torch.ones(2, 2)).isnan()
