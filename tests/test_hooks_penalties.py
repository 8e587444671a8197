"""plateau_interp.hooks.penalties: what a term of the loss adds to gradients, to training and to a run's columns."""

import copy
import re

import pytest
import torch
from every_hook import llama
from hook_cases import TASK, assert_untouched, gradients, tokens_for, toy
from typecheck import unchecked

from plateau_interp.analysis.capacity import query_key_capacity
from plateau_interp.hooks import CapacityRegulariser, During, FreezeWeights, FrobeniusPenalty
from plateau_interp.interventions.attaching import InterventionWarning, intervening
from plateau_interp.interventions.clock import advance
from plateau_interp.interventions.measuring import attached_measures
from plateau_interp.models import toy_model
from plateau_interp.runs.recipe import Recipe
from plateau_interp.runs.run import Run
from plateau_interp.tasks import DepthTwoNet
from plateau_interp.training.loop import train
from plateau_interp.training.meter import Meter
from plateau_interp.training.optimizers import SGD
from plateau_interp.training.settings import MeasuringOptions, TrainingOptions

W_IN = "blocks.0.mlp.W_in"


def test_the_gradient_is_the_terms():
    model = toy(n_layers=2, dtype=torch.float64)
    tokens = tokens_for(model)
    plain = gradients(model, tokens)
    with intervening(model, FrobeniusPenalty(0.3)) as (receipt,):
        found = gradients(model, tokens)
    weights = dict(model.named_parameters())
    for name, gradient in plain.items():
        copied = weights[name].detach().clone().requires_grad_()
        (0.3 / 2 * copied.square().sum()).backward()
        expected = gradient + copied.grad if name.endswith("mlp.W_in") else gradient
        assert (found[name] - expected).abs().max() <= 1e-15
    assert receipt.fired == 2
    assert_untouched(model)


def test_none_of_it_changes_nothing():
    model = toy()
    plain = gradients(model, tokens_for(model))
    with intervening(model, FrobeniusPenalty(0.0)):
        found = gradients(model, tokens_for(model))
    assert all(torch.equal(found[name], gradient) for name, gradient in plain.items())


def test_after_an_error_nothing_is_left():
    model = toy()
    with pytest.raises(RuntimeError, match="on purpose"), intervening(model, FrobeniusPenalty(0.1)):
        raise RuntimeError("on purpose")
    assert_untouched(model)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_with_sgd_it_is_weight_decay(momentum):
    """Ten steps, to 1e-12; the optimiser's decay is PyTorch's own."""
    ours = toy(dtype=torch.float64)
    theirs = copy.deepcopy(ours)
    options = {"steps": 10, "batch_size": 4, "grad_clip": float("inf")}
    for _ in train(ours, TASK, optimizer=SGD(0.1, momentum), interventions=[FrobeniusPenalty(0.2)], **options):
        pass
    chosen = {name: parameter for name, parameter in theirs.named_parameters() if name == W_IN}
    others = [parameter for name, parameter in theirs.named_parameters() if name not in chosen]
    groups = [{"params": [*chosen.values()], "weight_decay": 0.2}, {"params": others, "weight_decay": 0.0}]
    for _ in train(theirs, TASK, optimizer=torch.optim.SGD(groups, lr=0.1, momentum=momentum), **options):
        pass
    for name, parameter in ours.named_parameters():
        assert (parameter - dict(theirs.named_parameters())[name]).abs().max() < 1e-12
    without = toy(dtype=torch.float64)
    for _ in train(without, TASK, optimizer=SGD(0.1, momentum), **options):
        pass
    assert (without.W_in - ours.W_in).abs().max() > 0.01


def test_with_adam_it_is_not_adamws_decay():
    """Where the data say nothing AdamW shrinks a weight in proportion; the term, through Adam, by a whole step."""
    rate, coefficient = 1e-3, 0.1
    moved = {}
    for way in ("term", "decay"):
        model = toy(dtype=torch.float64)
        weight = model.blocks[0].mlp.W_in
        before = weight.detach().clone()
        decay = coefficient if way == "decay" else 0.0
        optimizer = torch.optim.AdamW([weight], lr=rate, weight_decay=decay, eps=1e-16)
        with intervening(model, *([FrobeniusPenalty(coefficient)] if way == "term" else [])):
            (0.0 * model(tokens_for(model)).sum()).backward()
            optimizer.step()
        moved[way] = (weight.detach() - before), before
    change, before = moved["term"]
    assert change.allclose(-rate * before.sign(), atol=1e-9)
    change, before = moved["decay"]
    assert change.allclose(-rate * coefficient * before, atol=1e-9)


def test_a_schedule_gives_it_by_degrees():
    model = toy(dtype=torch.float64)
    plain = gradients(model, tokens_for(model))[W_IN]
    with intervening(model, During(FrobeniusPenalty(0.4), start=0, ramp=4)):
        for step, share in ((0, 0.25), (1, 0.5), (10, 1.0)):
            advance(model, step=step)
            found = gradients(model, tokens_for(model))[W_IN]
            assert (found - plain - share * 0.4 * model.blocks[0].mlp.W_in).abs().max() < 1e-14
            measured = attached_measures(model)
            assert measured[f"weight_norm@{W_IN}"].item() == pytest.approx(model.W_in.norm().item())
            expected = share * 0.2 * model.W_in.square().sum().item()
            assert measured["frobenius_penalty@blocks.*.mlp.W_in"].item() == pytest.approx(expected)


def test_what_is_not_trained_is_not_shrunk():
    task = DepthTwoNet(d=3, n=8)
    model = toy_model(task)
    message = "'embed.W_E' means nothing that is trained: embed.W_E stay as they are"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        intervening(model, FrobeniusPenalty(0.1, where="embed.W_E")).__enter__()
    everything = FrobeniusPenalty(0.1, where="*")
    assert everything.sites(model) == (W_IN,)
    with intervening(model, FreezeWeights(W_IN)):  # for a time
        assert everything.sites(model) == (W_IN,)
    with pytest.raises(ValueError, match="coefficient must be at least 0; got -1"):
        FrobeniusPenalty(-1.0)


def test_a_parameter_that_no_gradient_reaches_is_told():
    model = toy(n_layers=2)
    with (
        pytest.warns(InterventionWarning, match=r"did not shrink blocks\.1\.mlp\.W_in: no gradient came there"),
        intervening(model, FrobeniusPenalty(0.1)),
    ):
        model(tokens_for(model), stop_at_layer=1).sum().backward()


def test_its_columns_are_in_a_run_and_name_the_choice(tmp_path):
    task = DepthTwoNet(d=3, n=16, n_validation=4)
    training = TrainingOptions(steps=5)
    penalties = (FrobeniusPenalty(0.1), During(FrobeniusPenalty(0.1), stop=2))
    run = Run.create(
        tmp_path / "run", Recipe(task, training=training, interventions=penalties, measuring=MeasuringOptions(every=2))
    )
    rows = [step.metrics for step in run.train() if step.metrics]
    name = "frobenius_penalty@blocks.*.mlp.W_in"
    assert rows[0][name] == rows[0][f"{name}#2"] > 0 == rows[-1][f"{name}#2"]
    assert rows[0][f"weight_norm@{W_IN}"] == pytest.approx(rows[0]["weight_norm"])
    assert Run(tmp_path / "run").metrics[name].notna().all()
    assert rows[-1]["weight_norm"] < rows[0]["weight_norm"]


def test_measuring_changes_nothing():
    task = DepthTwoNet(d=3, n=16, n_validation=4)
    weights = []
    for meter in (None, Meter(task, every=1)):
        model = toy_model(task)
        for _ in train(model, task, steps=4, interventions=[FrobeniusPenalty(0.1)], meter=meter):
            pass
        weights.append(model.W_in.detach())
    assert weights[0].equal(weights[1])


def capacities_by_hand(weights, *, n_layers, scale):
    """C_QK of each head by its definition; differentiable."""
    tables = [weights[name] for name in ("embed.W_E", "pos_embed.W_pos") if name in weights]
    columns = torch.cat(tables).square().sum(dim=0).sqrt()
    found = []
    for layer in range(n_layers):
        names = {side: f"blocks.{layer}.attn.W_{side}" for side in "QK"}
        if names["K"] not in weights:
            names["K"] = f"blocks.{layer}.attn._W_K"
        queries, keys = weights[names["Q"]], weights[names["K"]]
        for head, query in enumerate(queries):
            product = query @ keys[head * len(keys) // len(queries)].T
            found.append((product.abs() * torch.outer(columns, columns)).sum() / scale)
    return torch.stack(found)


@pytest.mark.parametrize("of", ["logarithm", "capacity"])
@pytest.mark.parametrize("kind", ["toy", "grouped keys, rotary"])
def test_the_gradient_of_the_capacity_is_autograds_of_its_formula(of, kind):
    model = toy(d_model=8, n_heads=2, n_layers=2, dtype=torch.float64) if kind == "toy" else llama().double()
    tokens = tokens_for(model)
    plain = gradients(model, tokens)
    with intervening(model, CapacityRegulariser(0.3, of=of)) as (receipt,):
        found = gradients(model, tokens)
        told = attached_measures(model)["capacity_regulariser"]
    copied = {name: weights.detach().clone().requires_grad_() for name, weights in model.named_parameters()}
    capacities = capacities_by_hand(copied, n_layers=2, scale=model.cfg.attn_scale)
    term = 0.3 * (capacities.log() if of == "logarithm" else capacities).sum()
    term.backward()
    assert told.item() == pytest.approx(term.item(), rel=1e-12)
    for name, gradient in plain.items():
        expected = gradient if copied[name].grad is None else gradient + copied[name].grad
        assert (found[name] - expected).abs().max() <= 1e-12 * max(1.0, expected.abs().max().item()), name
    expected_sites = {name for name, copy_ in copied.items() if copy_.grad is not None}
    assert {*receipt.sites} == expected_sites
    assert len(expected_sites) == (6 if kind == "toy" else 5)
    assert capacities.detach().reshape(2, -1).allclose(query_key_capacity(model).capacity)
    assert_untouched(model)


def test_the_regularisers_of_capacity_by_degrees_and_none():
    model = toy(dtype=torch.float64)
    tokens = tokens_for(model)
    plain = gradients(model, tokens)
    with intervening(model, CapacityRegulariser(0.0)):
        assert all(torch.equal(gradient, plain[name]) for name, gradient in gradients(model, tokens).items())
    name = "blocks.0.attn.W_Q"
    with intervening(model, CapacityRegulariser(0.4)):
        whole = gradients(model, tokens)[name] - plain[name]
        term = attached_measures(model)["capacity_regulariser"].item()
    with intervening(model, During(CapacityRegulariser(0.4), start=0, ramp=4)):
        advance(model, step=0)
        assert (gradients(model, tokens)[name] - plain[name] - whole / 4).abs().max() < 1e-14
        assert attached_measures(model)["capacity_regulariser"].item() == pytest.approx(term / 4)


def test_a_capacity_of_nothing_has_no_gradient():
    model = toy(dtype=torch.float64, n_heads=2)
    with torch.no_grad():
        model.blocks[0].attn.W_Q[0] = 0.0
        model.embed.W_E[:, 3], model.pos_embed.W_pos[:, 3] = 0.0, 0.0
    tokens = tokens_for(model)
    plain = gradients(model, tokens)
    with intervening(model, CapacityRegulariser(0.3)):
        found = gradients(model, tokens)
        assert attached_measures(model)["capacity_regulariser"].item() == float("-inf")
    assert torch.equal(found["blocks.0.attn.W_Q"][0], plain["blocks.0.attn.W_Q"][0])
    assert torch.equal(found["embed.W_E"][:, 3], plain["embed.W_E"][:, 3])
    assert all(gradient.isfinite().all() for gradient in found.values())
    assert not torch.equal(found["embed.W_E"], plain["embed.W_E"])


def test_a_capacity_that_nothing_trains_is_refused():
    model = toy_model(DepthTwoNet(d=3, n=8))
    with pytest.raises(ValueError, match="neither queries and keys nor embeddings of the model are trained"):
        intervening(model, CapacityRegulariser(0.1)).__enter__()
    with pytest.raises(ValueError, match="coefficient must be at least 0; got -1"):
        CapacityRegulariser(-1.0)
    with pytest.raises(ValueError, match="of must be"):
        unchecked(CapacityRegulariser.__init__)(object.__new__(CapacityRegulariser), 0.1, of="root")


def test_training_against_the_capacity_lowers_it():
    capacities = []
    for interventions in ((), (CapacityRegulariser(1.0),)):
        model = toy(dtype=torch.float64)
        for _ in train(model, TASK, steps=20, batch_size=4, optimizer=SGD(0.1), interventions=interventions):
            pass
        capacities.append(query_key_capacity(model).capacity.item())
    assert capacities[1] < 0.8 * capacities[0]
