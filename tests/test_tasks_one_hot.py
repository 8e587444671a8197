"""plateau_interp.tasks.one_hot: the equations of modular arithmetic as features of single tokens."""

import pytest
import torch

from plateau_interp.models import toy_model
from plateau_interp.tasks import ModularArithmetic, OneHotArithmetic
from plateau_interp.training.loop import train
from plateau_interp.training.meter import Meter
from plateau_interp.training.optimizers import AdamW

SOLVE = {
    "add": lambda a, b, p: (a + b) % p,
    "subtract": lambda a, b, p: (a - b) % p,
    "multiply": lambda a, b, p: a * b % p,
    "divide": lambda a, b, p: a * pow(b, -1, p) % p,
}


@pytest.mark.parametrize("operations", [("add",), ("divide",), ("subtract", "multiply")])
def test_labels_are_the_results_and_every_equation_is_in_one_of_the_sets(operations):
    task = OneHotArithmetic(p=7, operations=operations)
    seen = []
    for batch in (task.train_set, task.validation_set):
        for token, label in zip(batch.tokens[:, 0].tolist(), batch.labels[:, 0].tolist(), strict=True):
            told = [int(feature) for feature in task.features[token]]
            operation = operations[told[2] - 14] if len(operations) > 1 else operations[0]
            a, b = told[0], told[1] - 7
            assert SOLVE[operation](a, b, 7) == label
            assert task.tokens_to_text(torch.tensor([token])) == [f"{a} {operation} {b}"]
            seen.append(token)
    assert len(seen) == len(set(seen)) == sum(7 * (7 - (one == "divide")) for one in operations)


def test_the_split_is_that_of_the_equations_as_text():
    task, text = OneHotArithmetic(p=11, split_seed=4), ModularArithmetic(11, ("add",), 0.5, split_seed=4)
    pairs = [(a * 11 + b) for a, b in text.train_set.tokens[:, [0, 2]].tolist()]
    assert task.train_set.tokens[:, 0].tolist() == pairs
    assert (len(OneHotArithmetic().train_set), len(OneHotArithmetic().validation_set)) == (4704, 4705)
    assert OneHotArithmetic().defaults.batch_size == 4704


def test_the_split_by_triples_is_that_of_the_equations_as_text():
    sizes = {"p": 11, "operations": ("divide", "multiply"), "train_fraction": 0.5, "split": "triples"}
    task, text = OneHotArithmetic(**sizes), ModularArithmetic(**sizes)
    for ours, theirs in ((task.train_set, text.train_set), (task.validation_set, text.validation_set)):
        told = [" ".join(text.tokens_to_text(row)[:3]) for row in theirs.tokens]
        words = [" ".join(task.tokens_to_text(row)) for row in ours.tokens]
        assert [one.replace("divide", "/").replace("multiply", "*") for one in words] == told
        assert torch.equal(ours.labels[:, 0], theirs.tokens[:, -1])
    assert task.defaults.batch_size == len(task.train_set)
    with pytest.raises(ValueError, match=r"^train_fraction must leave two or more of the 66 triples of 'divide'"):
        OneHotArithmetic(p=11, operations=("divide",), train_fraction=0.02, split="triples")


def test_samples_are_of_the_training_set():
    task = OneHotArithmetic(p=5)
    batch = task.sample(50, generator=torch.Generator().manual_seed(0))
    assert set(batch.tokens[:, 0].tolist()) <= set(task.train_set.tokens[:, 0].tolist())
    with pytest.raises(ValueError, match="p must be a prime"):
        OneHotArithmetic(p=6, operations=("divide",))


def test_its_measures_are_of_the_whole_sets_and_of_each_operation():
    task = OneHotArithmetic(p=5, operations=("add", "multiply"))
    model = toy_model(task, d_mlp=8)
    meter = Meter(task)
    step = next(train(model, task, steps=1, batch_size=6, meter=meter, optimizer=AdamW(1e-12, weight_decay=0.0)))
    model = model.eval()
    for prefix, batch in (("", task.train_set), ("validation_", task.validation_set)):
        logits = model(batch.tokens)[:, 0]
        right = (logits.argmax(dim=-1) == batch.labels[:, 0]).float()
        assert step.metrics[f"{prefix}accuracy"] == pytest.approx(right.mean().item())
        masks = task.groups(batch)
        assert [int(mask.sum()) for mask in masks.values()] == [len(batch) // 2] * 2
        for operation, mask in masks.items():
            assert step.metrics[f"{prefix}accuracy_{operation}"] == pytest.approx(right[mask].mean().item())
    norm = torch.cat([p.flatten() for p in model.parameters() if p.requires_grad]).norm().item()
    assert step.metrics["weight_norm"] == pytest.approx(norm)
    scale = model(task.train_set.tokens)[:, 0].std(dim=-1, correction=0).mean().item()
    assert step.metrics["logit_scale"] == pytest.approx(scale)
    assert {"weight_norm", "logit_scale"} == set(task.captions)
    assert "loss_add" in step.metrics
    assert task.levels.floor == 0.0


def test_one_operation_has_no_groups():
    task = OneHotArithmetic(p=5)
    assert task.groups(task.train_set) == {}
    assert "accuracy_add" not in task.measures(toy_model(task, d_mlp=4), generator=torch.Generator())
