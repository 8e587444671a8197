"""plateau_interp.models.weights: a digest of every weight in its place."""

import copy
import math

import torch

from plateau_interp.models import toy_model
from plateau_interp.models.weights import weights_digest
from plateau_interp.tasks import MovingWindowSum


def test_the_digest_is_of_every_weight_in_its_place():
    model = toy_model(MovingWindowSum(n=4), d_model=16)
    before = weights_digest(model)
    assert weights_digest(copy.deepcopy(model)) == before
    with torch.no_grad():
        model.W_E[5, 3] = math.nextafter(float(model.W_E[5, 3]), math.inf) + 1e-7
    changed = weights_digest(model)
    with torch.no_grad():
        model.blocks[0].attn.W_Q.copy_(model.blocks[0].attn.W_K.clone())
    assert len({before, changed, weights_digest(model), weights_digest(model.to(torch.float64))}) == 4
