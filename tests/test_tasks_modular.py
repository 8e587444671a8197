"""plateau_interp.tasks.modular against enumeration: the equations, the split, targets, sizes."""

import dataclasses
import itertools
import random
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference.tasks import conditional_entropy, determines, equation, every_equation
from typecheck import unchecked

from plateau_interp.files import digest
from plateau_interp.runs.identity import recipe_digest
from plateau_interp.runs.recipe import Recipe
from plateau_interp.tasks import ModularArithmetic, OneHotArithmetic
from plateau_interp.types import IGNORE, Batch, answer_rows, is_finite

OPERATIONS = ("add", "subtract", "multiply", "divide")
PRIMES = (5, 7, 11, 13)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@st.composite
def any_task(draw: st.DrawFn) -> ModularArithmetic:
    operations = tuple(draw(st.lists(st.sampled_from(OPERATIONS), min_size=1, unique=True)))
    return ModularArithmetic(
        p=draw(st.sampled_from(PRIMES) if "divide" in operations else st.integers(4, 14)),
        operations=operations,
        train_fraction=draw(st.floats(0.07, 0.93)),
        split_seed=draw(st.integers(0, 2**40)),
        layout=draw(st.sampled_from(["infix", "prefix"])),
    )


@st.composite
def split_by_triples(draw: st.DrawFn) -> ModularArithmetic:
    task = draw(any_task())
    return dataclasses.replace(task, split="triples", train_fraction=draw(st.floats(0.14, 0.86)))


def forms_of_its_fact(a: int, b: int, c: int, operation: str) -> set[tuple[str, int, int, int]]:
    """Of an equation ``a OP b = c`` all equations that say the same, by hand."""
    inverse, direct = {"add": ("subtract", "add"), "multiply": ("divide", "multiply")}[
        {"subtract": "add", "divide": "multiply"}.get(operation, operation)
    ]
    one, other, whole = (c, b, a) if operation == inverse else (a, b, c)
    forms = {(direct, one, other, whole), (direct, other, one, whole)}
    if inverse == "subtract" or other != 0:
        forms.add((inverse, whole, other, one))
    if inverse == "subtract" or one != 0:
        forms.add((inverse, whole, one, other))
    return forms


def equations_of(task: ModularArithmetic, batch: Batch) -> set[tuple[str, int, int, int]]:
    first, second = task.operand_positions
    return {
        (operation, row[first], row[second], row[-1])
        for operation, sequences in by_operation(task, batch).items()
        for row in sequences
    }


def by_operation(task: ModularArithmetic, batch: Batch) -> dict[str, list[list[int]]]:
    index = task.operation_index(batch.tokens)
    return {operation: batch.tokens[index == i].tolist() for i, operation in enumerate(task.operations)}


def rows(batch: Batch) -> list[tuple[int, ...]]:
    return [tuple(row) for row in batch.tokens.tolist()]


@given(any_task())
def test_the_two_sets_are_all_equations_once(task):
    train, held_out = rows(task.train_set), rows(task.validation_set)
    everything = {tuple(row) for row in every_equation(task.operations, p=task.p, layout=task.layout)}
    assert len(train) + len(held_out) == len(everything)
    assert {*train} | {*held_out} == everything
    for operation, tokens in by_operation(task, task.train_set).items():
        n = task.p * (task.p - (operation == "divide"))
        assert len(tokens) == int(n * task.train_fraction + 1e-9)


@given(any_task())
def test_whole_sequences_with_the_answer_alone_scored(task):
    for batch in (task.train_set, task.validation_set):
        assert batch.tokens.shape[1:] == (task.n_pos,)
        assert batch.tokens.max() < task.d_vocab
        assert (batch.labels[:, :-1] == IGNORE).all()
        assert torch.equal(batch.labels[:, -1], batch.tokens[:, -1])
    assert task.d_vocab == int(task.train_set.tokens.max()) + 1
    assert len(task.tokens_to_text(task.train_set.tokens[0])) == task.n_pos


@given(any_task(), st.integers(0, 2**32))
def test_samples_are_of_the_training_set(task, seed):
    batch = task.sample(50, generator=generator(seed))
    assert {*rows(batch)} <= {*rows(task.train_set)}
    assert torch.equal(batch.labels, task.sample(50, generator=generator(seed)).labels)


@given(any_task())
def test_each_sequence_is_an_equation_of_its_operation(task):
    for operation, sequences in by_operation(task, task.validation_set).items():
        for sequence in sequences:
            a, b = (sequence[position] for position in task.operand_positions)
            assert sequence[-1] == equation(a, b, operation=operation, p=task.p)


def test_groups_are_the_operations_where_there_are_several():
    task = ModularArithmetic(p=7, operations=("divide", "add"))
    batch = task.validation_set
    groups = task.groups(batch)
    assert {name: batch.tokens[mask].tolist() for name, mask in groups.items()} == by_operation(task, batch)
    assert ModularArithmetic(p=7).groups(ModularArithmetic(p=7).train_set) == {}


def test_samples_are_uniform_over_the_training_set():
    task = ModularArithmetic(p=5, operations=("add", "divide"), train_fraction=0.5)
    found, counts = task.sample(22_000, generator=generator()).tokens.unique(dim=0, return_counts=True)
    assert len(found) == len(task.train_set) == 22
    chi_squared = ((counts - 1000) ** 2 / 1000).sum().item()
    assert chi_squared < 21 + 5 * 42**0.5  # 21 degrees of freedom: mean 21, variance 42


def test_the_split_is_the_seeds_and_uses_no_global_randomness():
    state, python_state = torch.get_rng_state(), random.getstate()
    first = rows(ModularArithmetic(p=11).train_set)
    assert torch.equal(torch.get_rng_state(), state)
    assert random.getstate() == python_state
    torch.rand(3)
    assert rows(ModularArithmetic(p=11).train_set) == first
    assert {*rows(ModularArithmetic(p=11, split_seed=1).train_set)} != {*first}


def test_an_operation_has_the_same_split_beside_others():
    def trained_on(*operations: str) -> set[tuple[int, int]]:
        task = ModularArithmetic(p=11, operations=operations)
        return {(row[0], row[2]) for row in by_operation(task, task.train_set)["divide"]}

    assert trained_on("divide") == trained_on("add", "divide") == trained_on("divide", "multiply")


def test_operations_are_split_independently():
    task = ModularArithmetic(p=31, operations=("add", "subtract"), train_fraction=0.5)
    trained_on = by_operation(task, task.train_set).values()
    add, subtract = ({(row[0], row[2]) for row in sequences} for sequences in trained_on)
    assert len(add & subtract) == pytest.approx(31**2 / 4, abs=5 * (31**2 * 3 / 16) ** 0.5)


@given(split_by_triples())
def test_split_by_triples_no_fact_is_on_both_sides(task):
    train, held_out = equations_of(task, task.train_set), equations_of(task, task.validation_set)
    for some, others in ((train, held_out), (held_out, train)):
        assert some
        told = {form for name, a, b, c in some for form in forms_of_its_fact(a, b, c, name)}
        assert not told & others
        assert {form for form in told if form[0] in task.operations} == some
    everything = {tuple(row) for row in every_equation(task.operations, p=task.p, layout=task.layout)}
    assert {*rows(task.train_set)} | {*rows(task.validation_set)} == everything
    assert len(task.train_set) + len(task.validation_set) == len(everything)
    for batch in (task.train_set, task.validation_set):
        assert {name for name, *_ in equations_of(task, batch)} == {*task.operations}


def test_split_by_equations_most_held_out_divisions_are_trained_on_in_another_form():
    task = ModularArithmetic(p=31, operations=("divide", "multiply"), train_fraction=0.5)
    train = equations_of(task, task.train_set)
    held_out = [one for one in equations_of(task, task.validation_set) if one[0] == "divide"]
    told = sum(bool(forms_of_its_fact(a, b, c, name) & train) for name, a, b, c in held_out)
    assert told / len(held_out) > 0.8  # 1 - 0.5 ** 3, of three other forms


@pytest.mark.parametrize("train_fraction", [0.3, 0.5, 0.6])
@pytest.mark.parametrize("p", [53, 97])
def test_split_by_triples_about_as_many_equations_of_each_operation_are_trained_on(p, train_fraction):
    for seed in range(5):
        task = ModularArithmetic(p, OPERATIONS, train_fraction, seed, split="triples")
        for operation, sequences in by_operation(task, task.train_set).items():
            share = len(sequences) / (p * (p - (operation == "divide")))
            assert share == pytest.approx(train_fraction, rel=0.02)
    products = equations_of(task, task.train_set)
    facts = {frozenset((a, b)) for name, a, b, _ in products if name == "multiply"}
    assert len(facts) == int(p * (p + 1) / 2 * train_fraction)


def test_the_split_by_triples_is_the_seeds_and_the_same_beside_other_operations():
    def trained_on(*operations: str, seed: int = 0) -> set[tuple[str, int, int, int]]:
        task = ModularArithmetic(p=11, operations=operations, split_seed=seed, split="triples")
        return {one for one in equations_of(task, task.train_set) if one[0] == "divide"}

    alone = trained_on("divide")
    assert alone == trained_on("divide", "multiply") == trained_on("add", "subtract", "multiply", "divide")
    assert alone != trained_on("divide", seed=1)


def test_sums_and_products_are_drawn_independently():
    task = ModularArithmetic(p=31, operations=("add", "multiply"), train_fraction=0.5, split="triples")
    add, multiply = (
        {(a, b) for name, a, b, _ in equations_of(task, task.train_set) if name == operation and a <= b}
        for operation in task.operations
    )
    n = 31 * 32 / 2
    assert len(add & multiply) == pytest.approx(n / 4, abs=5 * (n * 3 / 16) ** 0.5)


def test_a_factor_of_0_is_one_like_others():
    sides = set()
    for seed in range(20):
        task = ModularArithmetic(p=7, operations=("divide", "multiply"), split_seed=seed, split="triples")
        train = equations_of(task, task.train_set)
        for b in range(1, 7):
            forms = {("multiply", 0, b, 0), ("multiply", b, 0, 0), ("divide", 0, b, 0)}
            assert forms <= train or not forms & train
            sides.add((b, forms <= train))
        sides.add((0, ("multiply", 0, 0, 0) in train))
    assert sides == {(b, is_trained) for b in range(7) for is_trained in (True, False)}


@pytest.mark.parametrize(
    ("task", "before"),
    [
        (ModularArithmetic(), "47e99f1ad58d7b88"),
        (ModularArithmetic(97, ("divide", *OPERATIONS[:3]), 0.5, layout="prefix"), "60b6d205b20cd5cc"),
        (OneHotArithmetic(), "2b55d30c5405e093"),
        (OneHotArithmetic(p=11, operations=("divide", "multiply"), split_seed=3), "7e6d65d35e4eefa8"),
    ],
    ids=["small", "poster", "mlp", "two"],
)
def test_the_split_by_equations_is_what_it_was_before_there_was_another(task, before):
    told = b"".join(batch.tokens.numpy().tobytes() for batch in (task.train_set, task.validation_set))
    assert digest(told).startswith(before)


@pytest.mark.parametrize(
    ("kind", "before"), [(ModularArithmetic, "5f151e1c4a903588"), (OneHotArithmetic, "700629ed841e621d")]
)
def test_recipes_from_before_there_was_a_choice_of_splits_are_the_same_runs(kind, before):
    recipe = Recipe(kind())
    data = recipe.to_dict()
    assert data["task"].pop("split") == "equations"
    assert Recipe.from_dict(data) == recipe
    assert recipe_digest(recipe).startswith(before)
    other = Recipe(kind(split="triples"))
    assert Recipe.from_json(other.to_json()) == other
    assert recipe_digest(other) != recipe_digest(recipe)


def test_the_posters_sizes_and_examples():
    operations = ("divide", "add", "subtract", "multiply")
    task = ModularArithmetic(p=97, operations=operations, train_fraction=0.5, layout="prefix")
    assert (task.d_vocab, task.n_pos, task.answer) == (103, 6, slice(5, 6))
    train, held_out = by_operation(task, task.train_set), by_operation(task, task.validation_set)
    assert [len(sequences) for sequences in train.values()] == [4656, 4704, 4704, 4704]
    assert [len(sequences) for sequences in held_out.values()] == [4656, 4705, 4705, 4705]
    everything = {*rows(task.train_set), *rows(task.validation_set)}
    assert {(97, 45, 101, 23, 102, 61), (97, 10, 101, 3, 102, 68)} <= everything
    assert " ".join(task.tokens_to_text(torch.tensor([97, 45, 101, 23, 102, 61]))) == "/ 45 ∘ 23 = 61"


def test_the_plain_layout_as_text():
    task = ModularArithmetic(p=97, operations=("add", "subtract", "multiply", "divide"))
    assert (task.d_vocab, task.n_pos) == (102, 5)
    texts = [" ".join(task.tokens_to_text(torch.tensor([10, 97 + index, 3, 101, 68]))) for index in range(4)]
    assert texts == ["10 + 3 = 68", "10 - 3 = 68", "10 * 3 = 68", "10 / 3 = 68"]
    assert ModularArithmetic(p=97).tokens_to_text(torch.tensor([10, 97])) == ["10", "/"]


CHOICES = [choice for size in (1, 2, 4) for choice in itertools.combinations(OPERATIONS, size)]


@pytest.mark.parametrize("layout", ["infix", "prefix"])
@pytest.mark.parametrize("operations", CHOICES, ids="+".join)
def test_the_targets_determine_the_answer_and_without_any_one_it_is_open(operations, layout):
    task = ModularArithmetic(p=5, operations=operations, layout=layout)
    (target,) = task.optimal_attention(task.sample(1, generator=generator()))
    (query,) = range(task.n_pos - 1)[answer_rows(task)]
    keys = set(target[0, query].nonzero().flatten().tolist())
    assert int(target.sum()) == len(keys) == 2 + (len(operations) > 1)
    sequences = every_equation(operations, p=5, layout=layout)
    assert determines(sequences, task.answer.start, keys)
    for key in keys:
        assert not determines(sequences, task.answer.start, keys - {key})


@pytest.mark.parametrize("operations", CHOICES, ids="+".join)
def test_levels(operations):
    task = ModularArithmetic(p=5, operations=operations)
    uniform = torch.zeros(len(task.train_set), task.n_pos - 1, task.d_vocab)
    assert task.levels.initial == pytest.approx(task.loss(uniform, task.train_set).item())
    floor = conditional_entropy(every_equation(operations, p=5, layout="infix"), task.answer.start)
    assert task.levels.floor == floor == 0
    assert (task.levels.plateau, task.partial_solution) == (None, ())


def test_it_is_finite_and_tells_so_without_listing_its_equations():
    task = ModularArithmetic(p=7)
    assert is_finite(task)
    assert "_sets" not in vars(task)


@pytest.mark.parametrize(
    ("sizes", "text"),
    [
        ({"p": 1}, "p must be at least 2; got 1"),
        ({"p": 9}, "p must be a prime to divide by every number but 0; got 9"),
        ({"split_seed": -1}, "split_seed must be at least 0; got -1"),
        ({"operations": ()}, "operations must be one or several, each once; got ()"),
        ({"operations": ("add", "add")}, "operations must be one or several, each once; got ('add', 'add')"),
        (
            {"p": 3, "train_fraction": 0.1},
            "train_fraction must leave some of the 6 equations of 'divide' on either side; got 0.1",
        ),
        (
            {"p": 3, "operations": ("add",), "train_fraction": 0.05},
            "train_fraction must leave some of the 9 equations of 'add' on either side; got 0.05",
        ),
        (
            {"p": 5, "train_fraction": 0.1, "split": "triples"},
            "train_fraction must leave two or more of the 15 triples of 'divide' on either side; got 0.1",
        ),
        (
            {"p": 5, "operations": ("subtract",), "train_fraction": 0.05, "split": "triples"},
            "train_fraction must leave some of the 15 triples of 'subtract' on either side; got 0.05",
        ),
        ({"train_fraction": 0.0}, "train_fraction must be above 0 and below 1; got 0.0"),
        ({"train_fraction": 1.0}, "train_fraction must be above 0 and below 1; got 1.0"),
        ({"train_fraction": float("nan")}, "train_fraction must be above 0 and below 1; got nan"),
    ],
)
def test_bad_sizes_are_refused(sizes, text):
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        ModularArithmetic(**sizes)


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("operations", ("power",), "operations must be one of add, subtract, multiply, divide; got 'power'"),
        ("layout", "postfix", "layout must be one of infix, prefix; got 'postfix'"),
        ("split", "facts", "split must be one of equations, triples; got 'facts'"),
    ],
)
def test_values_that_the_shape_checker_would_refuse_first(field, value, text):
    task = ModularArithmetic()
    object.__setattr__(task, field, value)
    with pytest.raises(ValueError, match=f"^{re.escape(text)}"):
        unchecked(type(task).__post_init__)(task)


def test_any_modulus_will_do_without_division():
    task = ModularArithmetic(p=12, operations=("multiply",), train_fraction=0.5)
    assert len(task.train_set) == len(task.validation_set) == 72
