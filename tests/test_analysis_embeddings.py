"""plateau_interp.analysis.embeddings: main axes and nearness, against hand-computed values."""

import math

import pytest
import torch

from plateau_interp.analysis.embeddings import nearness_within_classes, pearson, principal_components


def test_main_axes_are_those_of_largest_variance_about_the_mean() -> None:
    # Along (1, 1) the deviation is larger than along (1, -1); 7 and 9 are the mean.
    along, across = torch.tensor([3.0, -3.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, 1.0, -1.0])
    vectors = torch.stack([7 + (along + across) / math.sqrt(2), 9 + (along - across) / math.sqrt(2)], dim=1)
    found = principal_components(vectors, 2)
    torch.testing.assert_close(found[:, 0].abs(), along.abs(), atol=1e-5, rtol=0)
    torch.testing.assert_close(found[:, 1].abs(), across.abs(), atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="n must be from 1 to 2; got 3"):
        principal_components(vectors, 3)


def test_correlation() -> None:
    # Covariance 1 of the deviations (-1, 0, 1) and (-1, 1, 0), lengths sqrt(2) each.
    assert pearson(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([4.0, 6.0, 5.0])) == pytest.approx(0.5)


def test_nearness_within_classes_takes_off_the_mean() -> None:
    square = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0], [-1.0, 1.0]])
    left_right, diagonal = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
    # Neighbours on the square are at right angles, opposite corners at 180°: within 0, across (0, 0, -1, -1).
    assert nearness_within_classes(square + 5, left_right) == pytest.approx(0.5)
    assert nearness_within_classes(square + 5, diagonal) == pytest.approx(-1.0)
    assert math.isnan(nearness_within_classes(square, torch.arange(4)))
