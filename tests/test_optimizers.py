import pytest
import torch

from plateau_interp.models import toy_model
from plateau_interp.optimizers import SGD, Adam, AdamW
from plateau_interp.plugins import plugin
from plateau_interp.tasks import MovingWindowSum


def test_adam_has_the_papers_settings_by_default() -> None:
    defaults = Adam().build(torch.nn.Linear(1, 1).named_parameters()).defaults
    assert (defaults["lr"], defaults["betas"], defaults["eps"], defaults["weight_decay"]) == (
        1e-4,
        (0.9, 0.999),
        1e-8,
        0,
    )


def test_adamw_decays_weight_matrices_alone() -> None:
    model = toy_model(MovingWindowSum(n=4), d_model=16)
    decayed, plain = AdamW(weight_decay=0.3).build(model.named_parameters()).param_groups
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.3, 0.0)
    assert {name.rsplit(".", 1)[-1] for name in decayed["param_names"]} == {
        "W_Q", "W_K", "W_V", "W_O", "W_in", "W_out", "W_U",
    }  # fmt: skip
    assert len(decayed["params"]) + len(plain["params"]) == len(list(model.parameters()))


def test_sgd_passes_momentum_on() -> None:
    optimizer = SGD(learning_rate=0.5, momentum=0.9).build(torch.nn.Linear(1, 1).named_parameters())
    assert (optimizer.defaults["lr"], optimizer.defaults["momentum"]) == (0.5, 0.9)


@pytest.mark.parametrize("kind", [Adam, AdamW, SGD])
@pytest.mark.parametrize("learning_rate", [0.0, -1.0, float("inf"), float("nan")])
def test_a_learning_rate_that_cannot_be_is_refused(kind: type, learning_rate: float) -> None:
    with pytest.raises(ValueError, match="learning_rate must be a positive number; got"):
        kind(learning_rate=learning_rate)


@pytest.mark.parametrize("kind", [Adam, AdamW, SGD])
def test_the_entry_point_has_the_name_of_the_class(kind: type) -> None:
    assert plugin("optimizers", kind.name) is kind  # type: ignore[attr-defined]
