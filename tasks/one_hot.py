"""Modular arithmetic for an MLP: both numbers side by side as one-hot inputs, the result as a class."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plateau_interp.tasks._layouts import check_draw
from plateau_interp.tasks.modular import EquationSplit, ModularArithmetic, Operation
from plateau_interp.training.optimizers import AdamW
from plateau_interp.training.shares import column_word
from plateau_interp.types import Batch, Defaults, FiniteTask, HookedModel, Levels

__all__ = ["OneHotArithmetic"]


@dataclass(frozen=True)
class OneHotArithmetic(FiniteTask):
    """Equations a + b = c modulo p, of which an MLP sees a and b as one-hot vectors and gives c as a class.

    Equations and their split are those of `ModularArithmetic`. A sequence is one token, which stands for an operation
    and its two numbers: its features are a, b and, of several operations, which it is. There are ``2 p`` of them, and
    one more for each of several operations.

    Args:
        p: the modulus, a prime if ``"divide"`` is among the operations.
        operations: one or several of "add", "subtract", "multiply", "divide".
        train_fraction: share of each operation's equations, or of the triples, that is trained on, rounded down.
        split_seed: of the split; independent of a run's seed.
        split: what goes to one side or the other: each equation, or each triple with all its forms (``a / b = c`` and
            ``c * b = a`` are one).

    Raises:
        ValueError: as `ModularArithmetic`.

    Source: AgentTorch/psi, whose saved logs grok within 2,650 steps: inputs of 194, two hidden layers of 128, ReLU, p
    97, all 4,704 equations in a batch, AdamW with weight decay 1. (Here the hidden layers are 4 times as wide as the
    inputs unless `ModelOptions` say ``d_mlp=128``.)

    Example:
        >>> task = OneHotArithmetic(p=5)
        >>> task.n_features, len(task.train_set), task.features[task.train_set.tokens[0, 0]].shape
        (10, 12, torch.Size([2]))
    """

    p: int = 97
    operations: tuple[Operation, ...] = ("add",)
    train_fraction: float = 0.5
    split_seed: int = 0
    split: EquationSplit = "equations"

    name: ClassVar[str] = "one-hot-arithmetic"
    lookahead: ClassVar[int] = 0
    n_pos: ClassVar[int] = 1
    answer: ClassVar[slice] = slice(0, 1)

    def __post_init__(self) -> None:
        _ = self._equations

    @property
    def defaults(self) -> Defaults:
        """The source's: the whole training set in a batch."""
        return Defaults(
            steps=3500,
            batch_size=len(self._sets[0]),
            optimizer=AdamW(learning_rate=1e-3, weight_decay=1.0),
            attention="softmax",
            d_model=self.n_features,
            measure_every=25,
            architecture="one-hot",
        )

    @property
    def d_vocab(self) -> int:
        """A token for each operation and pair of numbers."""
        return len(self.operations) * self.p**2

    @property
    def d_output(self) -> int:
        """A logit for each result."""
        return self.p

    @property
    def n_features(self) -> int:
        """First numbers, second numbers, and operations if there are several."""
        return 2 * self.p + (len(self.operations) if len(self.operations) > 1 else 0)

    @property
    def features(self) -> Int[Tensor, "d_vocab active"]:
        """Of each token a, p + b and, of several operations, 2 p + which."""
        tokens = torch.arange(self.d_vocab)
        pairs = tokens % self.p**2
        told = [pairs // self.p, self.p + pairs % self.p]
        if len(self.operations) > 1:
            told.append(2 * self.p + tokens // self.p**2)
        return torch.stack(told, dim=1)

    @property
    def train_set(self) -> Batch:
        """The equations to train on, operation after operation."""
        return self._sets[0].clone()

    @property
    def validation_set(self) -> Batch:
        """The equations that are held out, operation after operation."""
        return self._sets[1].clone()

    @property
    def levels(self) -> Levels:
        """An untrained net knows nothing; the numbers determine the result."""
        return Levels(floor=0.0)

    def sample(self, n: int, *, generator: torch.Generator) -> Batch:
        """Draw ``n`` of the training set, with replacement."""
        check_draw(n, generator)
        train_set, _ = self._sets
        rows = torch.randint(len(train_set), (n,), generator=generator, device=generator.device)
        return train_set.to(generator.device).take(rows)

    def groups(self, batch: Batch) -> dict[str, Bool[Tensor, " batch"]]:
        """The sequences of each operation, if there are several."""
        if len(self.operations) == 1:
            return {}
        index = batch.tokens[:, 0] // self.p**2
        return {operation: index == i for i, operation in enumerate(self.operations)}

    @torch.no_grad()
    def measures(self, model: HookedModel, *, generator: torch.Generator) -> dict[str, Float[Tensor, ""]]:
        """Accuracy on the training set, and what weight decay and temperature act on.

        Returns:
            ``accuracy``, and that of each operation and of its held-out equations if there are several;
            ``weight_norm``, the Euclidean norm of all that is trained; ``logit_scale``, the standard deviation of an
            equation's logits, mean over the training set.
        """
        trained = [parameter.double() for parameter in model.parameters() if parameter.requires_grad]
        device = next(model.parameters()).device
        batch = self.train_set.to(device)
        logits = model(batch.inputs)
        measured = {
            "accuracy": _right(logits, batch).mean(),
            "weight_norm": torch.stack([parameter.square().sum() for parameter in trained]).sum().sqrt(),
            "logit_scale": logits[:, 0].std(dim=-1, correction=0).mean(),
        }
        if len(self.operations) == 1:
            return measured
        held_out = self.validation_set.to(device)
        for name, some, right in (
            ("accuracy", batch, _right(logits, batch)),
            ("validation_accuracy", held_out, _right(model(held_out.inputs), held_out)),
        ):
            for group, mask in self.groups(some).items():
                measured[f"{name}_{column_word(group)}"] = right[mask].mean()
        return measured

    @property
    def captions(self) -> Mapping[str, str]:
        """What reports say below the curves of `measures`."""
        return {
            "weight_norm": "Euclidean norm of all that is trained.",
            "logit_scale": "Standard deviation of the logits of an equation.",
        }

    def tokens_to_text(self, tokens: Int[Tensor, " pos"]) -> list[str]:
        """As in ``3 add 5``."""
        return [
            f"{token % self.p**2 // self.p} {self.operations[token // self.p**2]} {token % self.p}"
            for token in tokens.tolist()
        ]

    @cached_property
    def _equations(self) -> ModularArithmetic:
        """The same equations with a token for each number; it knows which are held out."""
        return ModularArithmetic(self.p, self.operations, self.train_fraction, self.split_seed, split=self.split)

    @cached_property
    def _sets(self) -> tuple[Batch, Batch]:
        task = self._equations
        return self._folded(task.train_set), self._folded(task.validation_set)

    def _folded(self, batch: Batch) -> Batch:
        first, second = (batch.tokens[:, position] for position in self._equations.operand_positions)
        tokens = (self._equations.operation_index(batch.tokens) * self.p + first) * self.p + second
        results = batch.tokens[:, -1]
        return Batch(rearrange(tokens, "batch -> batch 1"), rearrange(results, "batch -> batch 1"))


def _right(logits: Float[Tensor, "batch 1 d_output"], batch: Batch) -> Float[Tensor, " batch"]:
    return (logits[:, 0].argmax(dim=-1) == batch.labels[:, 0]).float()
