"""What tasks share: a prompt and its answer, one separator between them, numbers combined modulo p.

Private to this folder: a task of another package implements `plateau_interp.types.Task` itself, or inherits from one of
the finished tasks' ideas, not from these classes. They hold no dataclass fields of their own, so that each task shows
all its sizes, in its own order, where it is defined.
"""

import math
from abc import abstractmethod
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plateau_interp.checks import LARGEST_BITS, one_of, shown, whole_number
from plateau_interp.types import IGNORE, Batch, Levels, Task, answer_rows

__all__ = [
    "PromptTask",
    "Residues",
    "Scored",
    "Separated",
    "at_least",
    "below_diagonal",
    "check_draw",
    "distinct",
]

ATTEMPTS = 1000
"""How often a change of a prompt is tried before none is taken to exist."""

Scored = Literal["sequence", "answer"]
"""Which predictions the loss counts: all of the sequence (the random inputs too), or the answer's alone."""


def at_least(bound: int, **sizes: Any) -> None:
    """Refuse a size that is no whole number, is below its bound, or larger than PyTorch's integers, by name."""
    for name, size in sizes.items():
        if whole_number(name, size, least=bound) >= 2**LARGEST_BITS:
            raise ValueError(f"{name} must be below 2**{LARGEST_BITS}; got {shown(size)}")


def check_draw(n: Any, generator: Any) -> None:
    """Refuse a number of sequences to draw, or a source of randomness, that is none."""
    at_least(0, n=n)
    if not isinstance(generator, torch.Generator):
        raise ValueError(f"generator must be a torch.Generator; got {shown(generator)}")


def distinct(n: int, size: int, *, generator: torch.Generator) -> Int[Tensor, "{n} {size}"]:
    """Uniform permutations of ``0 … size - 1``, one a row."""
    # Double precision: ties, which argsort would settle unevenly, then practically never occur.
    keys = torch.rand(n, size, generator=generator, device=generator.device, dtype=torch.float64)
    return keys.argsort(dim=1)


def below_diagonal(size: int) -> Bool[Tensor, "{size} {size}"]:
    """Every pair of rows, the later one first."""
    return torch.ones(size, size, dtype=torch.bool).tril(-1)


class PromptTask(Task):
    """A prompt, whose last token is a separator, and an answer that follows from it."""

    scored: Scored

    def __post_init__(self) -> None:
        one_of(Scored, scored=self.scored)

    @property
    @abstractmethod
    def n_prompt(self) -> int:
        """Tokens before the answer."""

    @property
    @abstractmethod
    def n_answers(self) -> int:
        """Tokens of the answer."""

    @abstractmethod
    def _draw(self, n: int, generator: torch.Generator) -> Int[Tensor, "batch pos"]:
        """Whole sequences."""

    @abstractmethod
    def _answers(self, prompts: Int[Tensor, "batch prompt"]) -> Int[Tensor, "batch answer"]:
        """What follows prompts."""

    @property
    def _inputs_at(self) -> range:
        """Positions of inputs of which each may change without the others."""
        return range(self.n_prompt - 1)

    def _nudged(self, prompts: Int[Tensor, "batch prompt"], generator: torch.Generator) -> Int[Tensor, "batch prompt"]:
        """Prompts with one input, anywhere, as another prompt has it there; it may be the same."""
        others = self._draw(len(prompts), generator)
        places = self._inputs_at
        place = torch.randint(places.start, places.stop, (len(prompts), 1), generator=generator, device=prompts.device)
        return prompts.scatter(1, place, others.gather(1, place))

    @property
    @abstractmethod
    def _prompt_entropy(self) -> float:
        """Nats that the best predictor pays for a prompt, its first token given."""

    @property
    def _plateau_entropy(self) -> float | None:
        """Nats paid for an answer on the plateau, summed over its tokens; None where unknown."""
        return None

    @property
    def n_pos(self) -> int:
        """Prompt and answer."""
        return self.n_prompt + self.n_answers

    @property
    def answer(self) -> slice:
        """All that follows the prompt."""
        return slice(self.n_prompt, self.n_pos)

    def sample(self, n: int, *, generator: torch.Generator) -> Batch:
        """Draw ``n`` sequences.

        As in arXiv 2506.13688, every position but the first is scored, the random inputs too; with
        ``scored="answer"`` the answer alone.
        """
        check_draw(n, generator)
        return self._labelled(self._draw(n, generator))

    def corrupt(self, batch: Batch, *, generator: torch.Generator) -> Batch:
        """The same sequences with the least change of each prompt that makes the answer another.

        One input is replaced, anywhere; a task whose inputs cannot change alone says what else changes.

        Raises:
            ValueError: if no such change is found.
        """
        check_draw(len(batch), generator)
        prompts = batch.tokens[:, : self.n_prompt]
        answers = batch.tokens[:, self.answer]
        changed, waiting = prompts.clone(), torch.arange(len(prompts), device=prompts.device)
        for _ in range(ATTEMPTS):
            tried = self._nudged(prompts[waiting], generator)
            is_other = (self._answers(tried) != answers[waiting]).any(dim=1)
            changed[waiting[is_other]] = tried[is_other]
            waiting = waiting[~is_other]
            if not len(waiting):
                return self._labelled(torch.cat([changed, self._answers(changed)], dim=1))
        raise ValueError(f"no such change of a prompt changes the answer of {self}")

    def _labelled(self, tokens: Int[Tensor, "batch pos"]) -> Batch:
        """Whole sequences and what is scored of them."""
        labels = tokens[:, 1:].clone()
        if self.scored == "answer":
            labels[:, : self.n_prompt - 1] = IGNORE
        return Batch(tokens, labels)

    @property
    def levels(self) -> Levels:
        """Closed-form losses; None for the plateau where no source says what is known on it.

        Means over the scored positions. Initial: ``ln d_vocab`` everywhere. Floor: the prompt's entropy (if it is
        scored), answers at 0. Plateau: the answers of the partial solution at 0, the others at the entropy that each
        has by itself.
        """
        prompt, n_scored = (self._prompt_entropy, self.n_pos - 1) if self.scored == "sequence" else (0, self.n_answers)
        answers = self._plateau_entropy
        return Levels(
            initial=math.log(self.d_vocab),
            plateau=None if answers is None else (prompt + answers) / n_scored,
            floor=prompt / n_scored,
        )

    def _map(self, rows: Bool[Tensor, "#batch row key"]) -> Bool[Tensor, "#batch query query"]:
        """A map of all queries from what the answer rows read of the first keys."""
        target = rows.new_zeros(len(rows), self.n_pos - 1, self.n_pos - 1)
        target[:, answer_rows(self), : rows.shape[2]] = rows
        return target


class Separated(PromptTask):
    """``x_1 … x_n SEP y_1 … y_m``."""

    n: int

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, n=self.n)

    @property
    @abstractmethod
    def separator(self) -> int:
        """The separator's token id."""

    @abstractmethod
    def _inputs(self, n: int, generator: torch.Generator) -> Int[Tensor, "batch input"]:
        """What stands before the separator."""

    @abstractmethod
    def solve(self, numbers: Int[Tensor, "batch input"]) -> Int[Tensor, "batch answer"]:
        """The answers to given inputs."""

    def _answers(self, prompts: Int[Tensor, "batch prompt"]) -> Int[Tensor, "batch answer"]:
        return self.solve(prompts[:, : self.n])

    @property
    def n_prompt(self) -> int:
        """Inputs and separator."""
        return self.n + 1

    @property
    def n_answers(self) -> int:
        """As many as inputs."""
        return self.n

    def _draw(self, n: int, generator: torch.Generator) -> Int[Tensor, "batch pos"]:
        numbers = self._inputs(n, generator)
        return torch.cat([numbers, numbers.new_full((n, 1), self.separator), self.solve(numbers)], dim=1)

    def tokens_to_text(self, tokens: Int[Tensor, " pos"]) -> list[str]:
        """Numbers as digits, the separator as ``|``."""
        return ["|" if token == self.separator else str(token) for token in tokens.tolist()]


class Residues(Separated):
    """Inputs uniform in ``low..high``, answers modulo p, the separator after both."""

    p: int
    low: int
    high: int | None

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(2, p=self.p)
        at_least(0, low=self.low)
        if self.high is not None:
            whole_number("high", self.high)
        if self.largest < self.low:
            raise ValueError(f"high must be at least low={self.low}; got {shown(self.largest)}")
        at_least(0, high=self.largest)

    @property
    def largest(self) -> int:
        """The largest input."""
        return self.p - 1 if self.high is None else self.high

    @property
    def n_numbers(self) -> int:
        """How many inputs there are to draw from."""
        return self.largest - self.low + 1

    @property
    def separator(self) -> int:
        """The separator's token id: the first one that no number uses."""
        return max(self.p, self.largest + 1)

    @property
    def d_vocab(self) -> int:
        """Numbers and separator."""
        return self.separator + 1

    def _inputs(self, n: int, generator: torch.Generator) -> Int[Tensor, "batch input"]:
        return torch.randint(self.low, self.largest + 1, (n, self.n), generator=generator, device=generator.device)

    @property
    def _prompt_entropy(self) -> float:
        return (self.n - 1) * math.log(self.n_numbers)

    def _combine(
        self, total: Int[Tensor, "*#shape"], number: Int[Tensor, "*#shape"]
    ) -> Int[Tensor, "*#shape"]:  # broadcasting, for `_entropies`
        """The operation on one more number; a sum unless a task says otherwise."""
        return (total + number) % self.p

    def _entropies(self, longest: int) -> list[float]:
        """Entropy in nats of 1, 2, … ``longest`` inputs combined."""
        residues = torch.arange(self.p)
        table = self._combine(residues[:, None], residues[None, :]).flatten()
        one = torch.bincount(torch.arange(self.low, self.largest + 1) % self.p, minlength=self.p).double()
        laws = [one / self.n_numbers]
        for _ in range(1, longest):
            joint: Float[Tensor, " pair"] = torch.outer(laws[-1], laws[0]).flatten()
            laws.append(torch.zeros_like(laws[0]).index_add_(0, table, joint))
        return [float(torch.special.entr(law).sum()) for law in laws]
