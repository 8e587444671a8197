from itertools import product
from typing import Any

import pytest
import torch
from reference.edges import forward
from torch import Tensor

from plateau_interp.analysis.circuits import circuit
from plateau_interp.models import toy_model
from plateau_interp.tasks import MovingWindowSum

TASK = MovingWindowSum(n=4, p=5)
KINDS = list(product(("linear", "softmax"), (1, 2)))


def metric(logits: Tensor) -> Tensor:
    """Not linear in the logits, and of several rows."""
    return (logits[:, 3:, 1] - logits[:, 3:, 2]).tanh().mean()


def pair(n: int = 3) -> tuple[Tensor, Tensor]:
    clean, corrupted = (TASK.sample(n, generator=torch.Generator().manual_seed(seed)).inputs for seed in (0, 1))
    return clean, corrupted


def model_of(attention: str, n_layers: int, *, dtype: torch.dtype = torch.float64) -> Any:
    model = toy_model(TASK, attention=attention, n_layers=n_layers, n_heads=2, d_model=12, dtype=dtype)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():  # large enough for every edge to matter, biases and gains among it
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.3
                parameter.copy_(noise + name.endswith(".w"))
    return model


def brute(model: Any, *, ablation: str, freeze_norms: bool) -> dict[tuple[str, str], float]:
    """Each edge's score, by the reference."""
    clean, corrupted = pair()
    weights = {name: value.detach() for name, value in model.state_dict().items()}
    sizes: Any = {"n_layers": model.cfg.n_layers, "n_heads": model.cfg.n_heads, "softmax": model.attention == "softmax"}
    logits, written, seen = forward(weights, clean, **sizes)
    other = forward(weights, corrupted, **sizes)[1]
    instead = {
        "resample": other,
        "mean": {name: value.mean(0, keepdim=True).expand_as(value) for name, value in written.items()},
        "zero": {name: torch.zeros_like(value) for name, value in written.items()},
    }[ablation]
    divisors = seen if freeze_norms else None
    whole = metric(logits)
    found = circuit(model, clean=clean, corrupted=corrupted, metric=metric, scoring="exact")
    edges = [(row.writer, row.reader) for row in found.table().itertuples()]
    return {
        edge: float(metric(forward(weights, clean, **sizes, cut={edge}, instead=instead, divisors=divisors)[0]) - whole)
        for edge in edges
    }


@pytest.mark.parametrize(("attention", "n_layers"), KINDS)
@pytest.mark.parametrize(
    ("ablation", "freeze_norms"), [("resample", False), ("resample", True), ("mean", False), ("zero", True)]
)
def test_exact_scores_are_those_of_parts_that_add_up_their_own_input(
    attention: str, n_layers: int, ablation: Any, freeze_norms: bool
) -> None:
    model = model_of(attention, n_layers)
    clean, corrupted = pair()
    settings: Any = {"ablation": ablation, "freeze_norms": freeze_norms, "scoring": "exact"}
    found = circuit(model, clean=clean, corrupted=corrupted, metric=metric, **settings)
    expected = brute(model, ablation=ablation, freeze_norms=freeze_norms)
    assert found.n_edges == len(expected) == {1: 21, 2: 61}[n_layers]
    for row in found.table().itertuples():
        assert row.score == pytest.approx(expected[row.writer, row.reader], abs=1e-9)
    single = model_of(attention, n_layers, dtype=torch.float32)
    close = circuit(single, clean=clean, corrupted=corrupted, metric=metric, **settings)
    torch.testing.assert_close(close.scores, found.scores, atol=1e-5, rtol=0, equal_nan=True)
