"""plateau_interp.types: what a task gets for free, and that the protocols fit what they describe."""

import math
from contextlib import nullcontext
from dataclasses import FrozenInstanceError, dataclass
from typing import ClassVar

import pytest
import torch
from typeguard import TypeCheckError, check_type

from plateau_interp.interventions.attached import Intervention
from plateau_interp.models import toy_model
from plateau_interp.positions import layer_targets
from plateau_interp.tasks import MovingWindowSum
from plateau_interp.types import (
    IGNORE,
    Batch,
    Defaults,
    HookedModel,
    Levels,
    OptimizerSpec,
    Task,
    answer_rows,
    is_finite,
)


@dataclass(frozen=True)
class Echo(Task):
    """A third party's task with nothing but what must be there: three digits, a 0, the digits again."""

    name: ClassVar[str] = "echo"
    defaults: ClassVar[Defaults] = Defaults(n_layers=2)

    @property
    def d_vocab(self) -> int:
        return 10

    @property
    def n_pos(self) -> int:
        return 7

    @property
    def answer(self) -> slice:
        return slice(4, 7)

    def sample(self, n: int, *, generator: torch.Generator) -> Batch:
        digits = torch.randint(1, 10, (n, 3), generator=generator)
        tokens = torch.cat([digits, torch.zeros(n, 1, dtype=torch.int64), digits], dim=1)
        labels = tokens[:, 1:].clone()
        labels[:, :3] = IGNORE
        return Batch(tokens, labels)


def batch_of(n: int = 4) -> Batch:
    return Echo().sample(n, generator=torch.Generator().manual_seed(0))


def test_batch_reads_all_but_the_last_token():
    batch = batch_of()
    assert torch.equal(batch.inputs, batch.tokens[:, :6])
    assert len(batch) == 4
    with pytest.raises(FrozenInstanceError):
        batch.tokens = batch.labels


def test_answer_rows_predict_the_answer():
    batch = batch_of()
    assert answer_rows(Echo()) == slice(3, 6)
    assert torch.equal(batch.labels[:, answer_rows(Echo())], batch.tokens[:, Echo().answer])


def test_loss_is_the_mean_over_scored_positions():
    batch = batch_of()
    output = torch.randn(4, 6, 10, generator=torch.Generator().manual_seed(1))
    terms = []
    for i in range(4):
        for position in range(6):
            if batch.labels[i, position] != IGNORE:
                logits = output[i, position]
                terms.append(math.log(logits.exp().sum().item()) - logits[batch.labels[i, position]].item())
    assert len(terms) == 4 * 3
    assert Echo().loss(output, batch).item() == pytest.approx(sum(terms) / len(terms), abs=1e-5)


def test_what_a_task_gets_for_free():
    task = Echo()
    assert task.levels == Levels(initial=None, plateau=None, floor=None)
    assert task.partial_solution == ()
    assert task.optimal_attention(batch_of()) == [None, None]
    assert task.cosine_pairs().nonzero().tolist() == [[1, 0], [2, 0], [2, 1]]
    assert task.tokens_to_text(torch.tensor([1, 0, 9])) == ["1", "0", "9"]
    assert task.defaults == Defaults(steps=400, n_layers=2, batch_size=256, learning_rate=1e-4, grad_clip=math.inf)


def test_a_task_with_nothing_else_trains():
    model = toy_model(Echo(), d_model=16)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        batch = batch_of(32)
        loss = Echo().loss(model(batch.inputs), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(math.log(10), abs=0.01)
    assert losses[-1] < 2.0


@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_targets_belong_to_the_last_layers(n_layers):
    task = MovingWindowSum(n=3, p=5)
    batch = task.sample(2, generator=torch.Generator())
    targets = layer_targets(task, batch, n_layers=n_layers)
    assert len(targets) == n_layers
    assert targets[:-1] == [None] * (n_layers - 1)
    assert torch.equal(targets[-1], task.optimal_attention(batch)[0])


def test_a_shallow_model_has_the_last_maps():
    @dataclass(frozen=True)
    class TwoMaps(Echo):
        def optimal_attention(self, batch: Batch) -> list[torch.Tensor]:
            return [torch.zeros(1, 6, 6, dtype=torch.bool), torch.ones(1, 6, 6, dtype=torch.bool)]

    (only,) = layer_targets(TwoMaps(), batch_of(), n_layers=1)
    assert only.all()
    assert [target.all().item() for target in layer_targets(TwoMaps(), batch_of(), n_layers=2)] == [False, True]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([torch.ones(1, 3, 3, dtype=torch.bool)], r"here \[1 or 2, 6, 6\]; got a tensor \[1, 3, 3\]"),
        ([torch.ones(3, 6, 6, dtype=torch.bool)], r"here \[1 or 2, 6, 6\]; got a tensor \[3, 6, 6\]"),
        (torch.ones(1, 6, 6, dtype=torch.bool), r"here \[1 or 2, 6, 6\]; got a tensor \[6, 6\]"),
        (["diagonal"], r"here \[1 or 2, 6, 6\]; got 'diagonal'"),
        ([torch.ones(1, 6, 6)], r"must give maps of true and false; got torch.float32"),
    ],
)
def test_what_is_no_map_over_the_batch_is_refused(given, message):
    class Wrong(Echo):
        def optimal_attention(self, batch):
            return given

    with pytest.raises(ValueError, match=rf"^optimal_attention of .*{message}$"):
        layer_targets(Wrong(), batch_of(2), n_layers=2)


def test_a_toy_model_is_a_hooked_model():
    check_type(toy_model(Echo(), d_model=16), HookedModel)
    with pytest.raises(TypeCheckError):
        check_type(torch.nn.Linear(2, 2), HookedModel)


def test_interventions_and_optimisers_are_known_by_their_method():
    class Nothing:
        def attach(self, model):
            return nullcontext()

    class Descent:
        def build(self, parameters):
            return torch.optim.SGD(parameters)

    assert isinstance(Nothing(), Intervention)
    assert not isinstance(Descent(), Intervention)
    assert isinstance(Descent(), OptimizerSpec)
    assert not isinstance(Nothing(), OptimizerSpec)


@dataclass(frozen=True, kw_only=True)
class Listed(MovingWindowSum):
    train_set: Batch
    validation_set: Batch


class Given(MovingWindowSum):
    def __init__(self, *names: str) -> None:
        super().__init__()
        for name in names:
            object.__setattr__(self, name, Batch(torch.zeros(1, 33, dtype=torch.long), torch.zeros(1, 32).long()))


def test_finite_is_what_has_both_sets_however_it_has_them() -> None:
    batch = MovingWindowSum().sample(1, generator=torch.Generator())
    assert is_finite(Listed(train_set=batch, validation_set=batch))
    assert is_finite(Given("train_set", "validation_set"))
    assert not is_finite(Given("train_set"))
    assert not is_finite(Given())
