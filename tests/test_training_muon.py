import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from plateau_interp.training.muon import MuonWithAdam, NewtonSchulzDType, orthogonalise

MUON = {"kind": "muon", "lr": 0.02, "momentum": 0.95, "iterations": 5, "precision": "bfloat16"}
ADAM = {"kind": "adam", "lr": 1e-2, "betas": (0.9, 0.95), "eps": 1e-10, "fused": True}


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def updated(optimizer: torch.optim.Optimizer, parameter: Parameter, gradients: list[Tensor]) -> Tensor:
    """The parameter after an update with each of the gradients."""
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
    return parameter.detach()


@pytest.mark.parametrize("shape", [(16, 48), (48, 16), (16, 16)])
def test_in_two_dimensions_it_is_pytorchs_muon(shape: tuple[int, int]) -> None:
    # bfloat16 rounds to 2**-9, three products an iteration, five iterations: 15 / 512 = 0.03 in all if every rounding
    # went the same way. 0.05 leaves room for another order of summing; without Nesterov's term it is 0.2 and more.
    gradients = [draw(*shape, seed=seed) for seed in range(6)]
    ours, theirs = Parameter(torch.zeros(shape)), Parameter(torch.zeros(shape[::-1]))  # [in, out] and [out, in]
    updated(MuonWithAdam([{"params": [("W", ours)], **MUON}]), ours, gradients)
    reference = torch.optim.Muon([theirs], lr=0.02, weight_decay=0.0)
    updated(reference, theirs, [gradient.mT.contiguous() for gradient in gradients])
    distance = torch.linalg.matrix_norm(ours - theirs.mT) / torch.linalg.matrix_norm(theirs)
    assert distance < 0.05


def test_the_formula_of_the_momentum_and_the_factor() -> None:
    gradients = [draw(2, 4, 12, seed=seed).double() for seed in range(3)]
    weight = Parameter(torch.zeros(2, 4, 12, dtype=torch.float64))
    updated(MuonWithAdam([{"params": [("W", weight)], **MUON, "precision": "float32"}]), weight, gradients)
    expected, buffer = torch.zeros(2, 4, 12, dtype=torch.float64), torch.zeros(2, 4, 12, dtype=torch.float64)
    for gradient in gradients:
        buffer = 0.95 * buffer + 0.05 * gradient
        direction = 0.05 * gradient + 0.95 * buffer
        for head in range(2):
            expected[head] -= 0.02 * 3**0.5 * orthogonalise(direction[head], precision="float32")
    torch.testing.assert_close(weight.detach(), expected, atol=1e-6, rtol=1e-5)  # float32 inside


@pytest.mark.parametrize("shape", [(4, 64, 16), (4, 16, 64), (2, 3, 32, 32)])
def test_singular_values_of_each_head_follow_the_quintic(shape: tuple[int, ...]) -> None:
    heads = draw(*shape)
    expected = torch.linalg.svdvals(heads / torch.linalg.matrix_norm(heads, keepdim=True))
    for _ in range(5):
        expected = 3.4445 * expected - 4.7750 * expected**3 + 2.0315 * expected**5
    values = torch.linalg.svdvals(orthogonalise(heads, precision="float32"))
    torch.testing.assert_close(values, expected.sort(descending=True).values, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("precision", "slack"), [("float32", 0.0), ("bfloat16", 0.03)])  # 15 roundings, as above
def test_each_head_comes_out_near_orthogonal(precision: NewtonSchulzDType, slack: float) -> None:
    values = torch.linalg.svdvals(orthogonalise(draw(4, 64, 16), precision=precision))
    assert values.shape == (4, 16)
    assert values.min() > 0.68 - slack
    assert values.max() < 1.14 + slack


def test_of_a_tall_matrix_the_smaller_products_are_made() -> None:
    tall = torch.randn(3, 24, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(orthogonalise(tall), orthogonalise(tall.mT).mT)


def test_singular_vectors_are_kept() -> None:
    matrix = draw(8, 24)
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    scaled = u.mT @ orthogonalise(matrix, precision="float32") @ v.mT
    torch.testing.assert_close(scaled, torch.diag(scaled.diagonal()), atol=1e-4, rtol=0)
    assert not torch.allclose(scaled.diagonal(), s, atol=0.5)


def test_heads_know_nothing_of_each_other() -> None:
    heads = draw(3, 12, 4)
    changed = heads.clone()
    changed[1] *= 100 * draw(12, 4, seed=1)
    before, after = orthogonalise(heads), orthogonalise(changed)
    assert torch.equal(before[0], after[0])
    assert torch.equal(before[2], after[2])
    assert not torch.equal(before[1], after[1])


def test_a_gradient_of_zero_gives_no_update_and_no_nan() -> None:
    assert torch.equal(orthogonalise(torch.zeros(2, 3, 3)), torch.zeros(2, 3, 3))


def test_adams_part_is_pytorchs_adam_bit_for_bit() -> None:
    gradients = [draw(5, seed=seed) for seed in range(4)]
    ours, theirs = Parameter(torch.ones(5)), Parameter(torch.ones(5))
    mine = updated(MuonWithAdam([{"params": [("b", ours)], **ADAM}]), ours, gradients)
    reference = torch.optim.Adam([theirs], lr=1e-2, betas=(0.9, 0.95), eps=1e-10, fused=True)
    assert torch.equal(mine, updated(reference, theirs, gradients))


def test_parameters_without_gradient_are_passed_over() -> None:
    weight, bias, still = Parameter(torch.ones(2, 2)), Parameter(torch.ones(2)), Parameter(torch.ones(2))
    optimizer = MuonWithAdam(
        [{"params": [("W", weight)], **MUON}, {"params": [("b", bias), ("still", still)], **ADAM}],
    )
    bias.grad = torch.ones(2)
    optimizer.step()
    assert set(optimizer.state) == {bias}
    assert torch.equal(weight, torch.ones(2, 2))
    assert torch.equal(still, torch.ones(2))
    assert not torch.equal(bias, torch.ones(2))


def test_the_state_dict_goes_on_bit_for_bit() -> None:
    def build() -> tuple[MuonWithAdam, Parameter, Parameter]:
        weight, bias = Parameter(draw(2, 4, 4)), Parameter(draw(4))
        return MuonWithAdam([{"params": [weight], **MUON}, {"params": [bias], **ADAM}]), weight, bias

    def advance(optimizer: MuonWithAdam, weight: Parameter, bias: Parameter, seeds: range) -> None:
        for seed in seeds:
            weight.grad, bias.grad = draw(2, 4, 4, seed=seed), draw(4, seed=seed)
            optimizer.step()

    whole = build()
    advance(*whole, range(6))
    first, second = build(), build()
    advance(*first, range(3))
    second[0].load_state_dict(first[0].state_dict())
    with torch.no_grad():
        second[1].copy_(first[1])
        second[2].copy_(first[2])
    advance(*second, range(3, 6))
    assert torch.equal(second[1], whole[1])
    assert torch.equal(second[2], whole[2])


def test_a_closure_is_evaluated_with_gradients() -> None:
    weight = Parameter(draw(3, 3))
    optimizer = MuonWithAdam([{"params": [weight], **MUON}])

    def closure() -> float:
        loss = (weight**2).sum()
        loss.backward()
        return float(loss.detach())

    assert optimizer.step(closure) == pytest.approx(float((draw(3, 3) ** 2).sum()))
    assert not torch.equal(weight, draw(3, 3))
