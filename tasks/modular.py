"""Arithmetic modulo p on all pairs of numbers: few enough to be listed, split and learned by heart."""

import math
from dataclasses import dataclass
from functools import cached_property
from numbers import Real
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from plateau_interp.checks import check_memory, one_of, shown
from plateau_interp.tasks._layouts import at_least, check_draw
from plateau_interp.training.batches import stream_generator
from plateau_interp.training.optimizers import AdamW
from plateau_interp.types import IGNORE, Batch, Defaults, FiniteTask, Levels, answer_rows

__all__ = ["EquationSplit", "ModularArithmetic", "Operation"]

Operation = Literal["add", "subtract", "multiply", "divide"]
"""Of two numbers modulo p."""
EquationLayout = Literal["infix", "prefix"]
EquationSplit = Literal["equations", "triples"]
"""What goes to one side or the other: each equation by itself, or all equations of two numbers and their result."""

SIGNS: dict[Operation, str] = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/"}
SAME_FACTS: dict[Operation, str] = {"add": "sums", "subtract": "sums", "multiply": "products", "divide": "products"}
"""What an equation is, read the right way round: ``a / b = c`` is the product ``c * b = a``."""


@dataclass(frozen=True)
class ModularArithmetic(FiniteTask):
    """Equations a / b = c modulo p, split for good into a training and a validation set (grokking).

    All pairs of residues are there, for every operation; a division by 0 is not. The answer alone is scored.

    With the layout ``"infix"`` a sequence is ``a OP b = c``: each operation has an operator token of its own. With
    ``"prefix"`` it is ``OP a ∘ b = c``: a token at the front tells the operation and the one in the middle is the same
    for all, as in the poster's last runs (its earlier ones are infix). Ids: the numbers ``0 … p - 1``, an operator for
    each of ``operations``, in the prefix layout the token in the middle, the equals sign.

    The split of an operation depends on ``split``, ``split_seed``, ``p``, ``train_fraction`` and the operation alone:
    it is the same beside other operations. Split by equations, each goes its own way: ``c * b = a`` or ``a / c = b``
    may be trained on where ``a / b = c`` is held out. Split by triples, all forms of one fact are on one side: ``b * c
    = a``, ``c * b = a``, ``a / b = c`` and ``a / c = b`` are one triple, two factors in either order and their product,
    and so are ``b + c = a``, ``c + b = a``, ``a - b = c`` and ``a - c = b``. A factor of 0 is one like others: ``0 * b
    = 0``, ``b * 0 = 0`` and ``0 / b = 0`` are one triple, and ``0 * 0 = 0`` is one that no division has. Sums and
    products are drawn independently.

    Args:
        p: the modulus, a prime if ``"divide"`` is among the operations.
        operations: one or several of "add", "subtract", "multiply", "divide".
        train_fraction: share of each operation's equations that is trained on, rounded down. Split by triples, it is
            the share of the ``p (p + 1) / 2`` triples; that of the equations differs by chance, by some 0.001 at p =
            53 and less at 97, as triples of twice the same number, and divisions of 0, have one equation, not two.
        split_seed: of the split; independent of a run's seed.
        layout: where the operation is told.
        split: what goes to one side or the other, equations or triples.

    Raises:
        ValueError: if a size or choice cannot be; the message names the argument and the bound.

    Source: "Shortening the Loss Plateau", part 2 (there p = 97, half of the equations, and all four operators in every
    vocabulary). Defaults: the small setting that groks on a CPU in minutes.

    Example:
        >>> task = ModularArithmetic(p=97, operations=("divide",), train_fraction=0.5)
        >>> len(task.train_set), len(task.validation_set)
        (4656, 4656)
        >>> " ".join(task.tokens_to_text(torch.tensor([45, 97, 23, 98, 61])))
        '45 / 23 = 61'
    """

    p: int = 53
    operations: tuple[Operation, ...] = ("divide",)
    train_fraction: float = 0.6
    split_seed: int = 0
    layout: EquationLayout = "infix"
    split: EquationSplit = "equations"

    name: ClassVar[str] = "modular-arithmetic"
    defaults: ClassVar[Defaults] = Defaults(
        steps=3000,
        batch_size=512,
        optimizer=AdamW(learning_rate=1e-3, beta2=0.98, weight_decay=1.0),
        attention="softmax",
        n_heads=4,
        d_model=64,
        measure_every=10,
    )

    def __post_init__(self) -> None:
        at_least(2, p=self.p)
        at_least(0, split_seed=self.split_seed)
        one_of(EquationLayout, layout=self.layout)
        one_of(EquationSplit, split=self.split)
        several = isinstance(self.operations, tuple | list)
        for operation in self.operations if several else ():
            one_of(Operation, operations=operation)
        if not several or not self.operations or len(set(self.operations)) < len(self.operations):
            raise ValueError(f"operations must be one or several, each once; got {shown(self.operations)}")
        if "divide" in self.operations and not _is_prime(self.p):
            raise ValueError(f"p must be a prime to divide by every number but 0; got {self.p}")
        if not (isinstance(self.train_fraction, Real) and 0 < self.train_fraction < 1):
            raise ValueError(f"train_fraction must be above 0 and below 1; got {shown(self.train_fraction)}")
        for operation in self.operations:
            divides = operation == "divide"
            if self.split == "equations":
                n, least, what = self.p * (self.p - divides), 1, "some"
            else:
                # Of two triples one at least has a division: 0 * 0 = 0 alone has none.
                n, least, what = self._n_triples, 1 + divides, "two or more" if divides else "some"
            if not least <= self._n_train(n) <= n - least:
                raise ValueError(
                    f"train_fraction must leave {what} of the {n} {self.split} of {operation!r} on either side; "
                    f"got {self.train_fraction}"
                )

    @property
    def d_vocab(self) -> int:
        """Numbers, operators and equals sign."""
        return self.equals + 1

    @property
    def n_pos(self) -> int:
        """5 tokens, 6 in the prefix layout."""
        return self.operand_positions[1] + 3

    @property
    def answer(self) -> slice:
        """The last token."""
        return slice(self.n_pos - 1, self.n_pos)

    @property
    def operator_position(self) -> int:
        """Where the token stands that tells the operation."""
        return 1 if self.layout == "infix" else 0

    @property
    def operand_positions(self) -> tuple[int, int]:
        """Where a and b stand."""
        return (0, 2) if self.layout == "infix" else (1, 3)

    @property
    def equals(self) -> int:
        """Token id of the equals sign."""
        return self.p + len(self.operations) + (self.layout == "prefix")

    def sample(self, n: int, *, generator: torch.Generator) -> Batch:
        """Draw ``n`` sequences of the training set, with replacement."""
        check_draw(n, generator)
        train_set, _ = self._sets
        rows = torch.randint(len(train_set), (n,), generator=generator, device=generator.device)
        return train_set.to(generator.device).take(rows)

    def corrupt(self, batch: Batch, *, generator: torch.Generator) -> Batch:
        """The same equations with another a or b, seen in training or not, such that the result is another.

        Both are others where neither will do alone, as in 0 times 0.

        Raises:
            ValueError: if there is none.
        """
        check_draw(len(batch), generator)
        both = [part.to(batch.tokens.device) for part in self._sets]
        tokens, labels = (
            torch.cat(parts) for parts in zip(*((part.tokens, part.labels) for part in both), strict=True)
        )
        equal = batch.tokens[:, None, :] == tokens[None, :, :]
        others = equal[:, :, self.operator_position] & ~equal[:, :, -1]
        if not others.any(dim=1).all():
            raise ValueError(f"no other numbers change the result of an equation of {self}")
        kept = equal[:, :, list(self.operand_positions)].sum(dim=2)
        draws = torch.rand(others.shape, generator=generator, device=generator.device).to(others.device)
        rows = (kept + draws).masked_fill(~others, -1).argmax(dim=1)
        return Batch(tokens[rows], labels[rows])

    @property
    def train_set(self) -> Batch:
        """The equations to train on, operation after operation."""
        return self._sets[0].clone()

    @property
    def validation_set(self) -> Batch:
        """The equations that are held out, operation after operation."""
        return self._sets[1].clone()

    def operation_index(self, tokens: Int[Tensor, "batch pos"]) -> Int[Tensor, " batch"]:
        """Which of the operations each sequence is of, read off its operator."""
        return tokens[:, self.operator_position] - self.p

    def groups(self, batch: Batch) -> dict[str, Bool[Tensor, " batch"]]:
        """The sequences of each operation, if there are several."""
        if len(self.operations) == 1:
            return {}
        index = self.operation_index(batch.tokens)
        return {operation: index == i for i, operation in enumerate(self.operations)}

    @property
    def levels(self) -> Levels:
        """Initially every token is as likely; the prompt determines the answer. No plateau is known in closed form."""
        return Levels(initial=math.log(self.d_vocab), floor=0.0)

    def optimal_attention(self, batch: Batch) -> list[Bool[Tensor, "1 query key"]]:
        """The equals sign, where the answer is predicted, reads both operands; the operator too if there are several.

        (That is one operator too many where two operations agree, as adding and subtracting modulo 2.)
        """
        told = (self.operator_position,) if len(self.operations) > 1 else ()
        size = self.n_pos - 1
        target = torch.zeros(1, size, size, dtype=torch.bool, device=batch.tokens.device)
        target[:, answer_rows(self), [*self.operand_positions, *told]] = True
        return [target]

    def tokens_to_text(self, tokens: Int[Tensor, " pos"]) -> list[str]:
        """As in ``3 / 5 = 20``; the prefix layout as ``/ 3 ∘ 5 = 20``."""
        signs = [SIGNS[operation] for operation in self.operations] + ["∘"] * (self.layout == "prefix") + ["="]
        return [str(token) if token < self.p else signs[token - self.p] for token in tokens.tolist()]

    @cached_property
    def _sets(self) -> tuple[Batch, Batch]:
        part = self._part_equations if self.split == "equations" else self._part_triples
        train, held_out = zip(*(part(operation) for operation in self.operations), strict=True)
        return self._batch(torch.cat(train)), self._batch(torch.cat(held_out))

    def _part_equations(self, operation: Operation) -> tuple[Int[Tensor, "train pos"], Int[Tensor, "held_out pos"]]:
        equations = self._equations(operation)
        generator = stream_generator(self.split_seed, f"split of {operation}", 0)
        order = torch.randperm(len(equations), generator=generator)
        n_train = self._n_train(len(equations))
        return equations[order[:n_train]], equations[order[n_train:]]

    def _part_triples(self, operation: Operation) -> tuple[Int[Tensor, "train pos"], Int[Tensor, "held_out pos"]]:
        equations = self._equations(operation)
        a, b = (equations[:, position] for position in self.operand_positions)
        other = equations[:, -1] if operation in ("subtract", "divide") else a
        is_trained = self._trained_triples(operation)[other, b]
        return equations[is_trained], equations[~is_trained]

    def _trained_triples(self, operation: Operation) -> Bool[Tensor, "p p"]:
        """Of each two summands, or factors, whether their triple is trained on; symmetric."""
        triples = torch.combinations(torch.arange(self.p), with_replacement=True)
        generator = stream_generator(self.split_seed, f"split of {SAME_FACTS[operation]}", 0)
        one, other = triples[torch.randperm(len(triples), generator=generator)[: self._n_train(len(triples))]].T
        trained = torch.zeros(self.p, self.p, dtype=torch.bool)
        trained[one, other] = trained[other, one] = True
        return trained

    @property
    def _n_triples(self) -> int:
        return self.p * (self.p + 1) // 2

    def _n_train(self, n: int) -> int:
        # The small number keeps 0.29 of 100, which is 28.999…, from losing an equation.
        return math.floor(n * self.train_fraction + 1e-9)

    def _batch(self, tokens: Int[Tensor, "batch pos"]) -> Batch:
        labels = tokens[:, 1:].clone()
        labels[:, : answer_rows(self).start] = IGNORE
        return Batch(tokens, labels)

    def _equations(self, operation: Operation) -> Int[Tensor, "batch pos"]:
        """All there are, as tokens."""
        check_memory(8 * self.p * (self.p - 1) * self.n_pos, f"the {self.p * (self.p - 1):,} equations of p={self.p}")
        numbers = torch.arange(self.p)
        a, b = torch.cartesian_prod(numbers, numbers[1:] if operation == "divide" else numbers).T
        told = torch.full_like(a, self.p + self.operations.index(operation))
        front = [a, told] if self.layout == "infix" else [told, a, torch.full_like(a, self.equals - 1)]
        return torch.stack([*front, b, torch.full_like(a, self.equals), self._solve(a, b, operation)], dim=1)

    def _solve(self, a: Int[Tensor, " batch"], b: Int[Tensor, " batch"], operation: Operation) -> Int[Tensor, " batch"]:
        if operation == "add":
            return (a + b) % self.p
        if operation == "subtract":
            return (a - b) % self.p
        if operation == "divide":
            b = torch.tensor([0, *(pow(number, -1, self.p) for number in range(1, self.p))])[b]
        return a * b % self.p


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, math.isqrt(number) + 1))
