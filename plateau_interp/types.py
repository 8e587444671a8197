"""The words everything else is written in: axis names, `Batch`, and the protocols of the plug-ins.

Axis words, the same in every shape of the package: ``batch`` sequences, ``pos`` token positions of a whole sequence,
``query``/``key`` positions of the model's input (``pos - 1`` of them where the last token is only ever predicted, all
where tokens are filled in), ``row`` the query positions that predict the answer, ``answer`` the answer's own positions,
``head``, ``layer``, ``d_model``, ``d_head``, ``d_vocab``. An intervention is `plateau_interp.interventions.attached`.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Protocol, TypeGuard, runtime_checkable

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plateau_interp.checks import shown
from plateau_interp.plugins import protocol_of

__all__ = [
    "IGNORE",
    "PLACE",
    "AttentionKind",
    "Batch",
    "BuiltForTask",
    "Defaults",
    "FiniteTask",
    "HookedModel",
    "Levels",
    "MaskEmbedding",
    "OfAttentionKind",
    "OfText",
    "OptimizerSpec",
    "Reader",
    "Task",
    "ToyArchitecture",
    "answer_rows",
    "check_model",
    "is_finite",
]

IGNORE = -100
"""The label where nothing is scored (the `ignore_index` of PyTorch's cross-entropy); of numbers it is NaN."""

PLACE: Mapping[str, bool] = MappingProxyType({"place": True})
"""Metadata of a plug-in's field that names a folder, or a run: ``out: str = field(metadata=PLACE)``.

Folders are moved, and recipes then name them anew: of such a text the last part alone says which run it is.
"""

AttentionKind = Literal["linear", "softmax"]
"""Attention without softmax (signed, rows that sum to anything) or with."""
ToyArchitecture = Literal["decoder", "encoder", "post-norm", "depth-2", "one-hot"]
"""Causal, LayerNorm before attention and MLP; bidirectional, LayerNorm after each addition; causal, likewise after; or
an MLP of one token: of a point, with a fixed outer layer, or of features, with two hidden layers."""
MaskEmbedding = Literal["trained", "zero"]
"""Whether the embedding of a task's mask token is learnt like any other, or stays 0."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Sequences and what the model should predict at each position.

    ``labels[:, i]`` is what the output at position ``i`` should predict: a token, `IGNORE` where nothing is scored; or
    a number, NaN where nothing is. The model reads as many tokens as there are labels.

    Example:
        >>> batch = Batch(torch.tensor([[3, 1, 4]]), torch.tensor([[1, 4]]))  # each predicts the next
        >>> batch.inputs.shape
        torch.Size([1, 2])
    """

    tokens: Int[Tensor, "batch pos"]
    labels: Int[Tensor, "batch query"] | Float[Tensor, "batch query"]

    @property
    def inputs(self) -> Int[Tensor, "batch query"]:
        """What the model reads: the tokens that have a label."""
        return self.tokens[:, : self.labels.shape[1]]

    def __len__(self) -> int:
        return len(self.tokens)

    def clone(self) -> "Batch":
        """The same in memory of its own, to be written into."""
        return Batch(self.tokens.clone(), self.labels.clone())

    def take(self, rows: Int[Tensor, " row"]) -> "Batch":
        """Some of the sequences, in the order asked for."""
        return Batch(self.tokens[rows], self.labels[rows])

    def scoring(self, sequences: Bool[Tensor, " batch"]) -> "Batch":
        """The same sequences, of which some alone are scored."""
        nothing = math.nan if self.labels.is_floating_point() else IGNORE
        return Batch(self.tokens, self.labels.where(rearrange(sequences, "batch -> batch 1"), nothing))

    def to(self, device: str | torch.device) -> "Batch":
        """The same on a device; no copy where it is there already. A GPU is not waited for, a copy from one is."""
        ahead = torch.device(device).type != "cpu"
        return Batch(self.tokens.to(device, non_blocking=ahead), self.labels.to(device, non_blocking=ahead))


@dataclass(frozen=True)
class Levels:
    """Closed-form losses of a task, in its `Task.unit`; None where no closed form is known."""

    initial: float | None = None
    plateau: float | None = None
    floor: float | None = None


@dataclass(frozen=True)
class Defaults:
    """With what model a task is trained, and how, when nobody says otherwise (the paper's settings).

    `plateau_interp.training.settings` and `plateau_interp.models.settings` fill in from them what is left open.
    """

    steps: int = 400
    n_layers: int = 1
    batch_size: int = 256
    learning_rate: float = 1e-4
    """Of Adam, where there is no `optimizer`."""
    grad_clip: float = math.inf
    """Largest norm of the whole gradient; infinite where nothing is clipped."""
    optimizer: "OptimizerSpec | None" = None
    attention: AttentionKind = "linear"
    n_heads: int = 1
    d_model: int = 256
    measure_every: int = 1
    """Steps from one measurement to the next."""
    architecture: ToyArchitecture = "decoder"
    init_std: float = 0.02
    """Standard deviation of the initial weights."""
    mask_embedding: MaskEmbedding = "trained"


@protocol_of("tasks")
@runtime_checkable
class Task(Protocol):
    """A distribution over token sequences with a known answer and the attention that solves it.

    Write one as a frozen dataclass that inherits from this protocol, fill in the three properties and `sample`; all
    else has a sensible default. Register it under the entry-point group ``plateau_interp.tasks``.
    """

    name: ClassVar[str]
    lookahead: ClassVar[int] = 1
    """How many positions on lies what an output predicts: 1 where sequences go on, 0 where they are filled in.

    With 0 a label is of its own position, the whole sequence is read, and answers are read off one forward.
    """
    unit: ClassVar[str] = "nats"
    """Of the loss and its levels, as figures and tables call it."""

    @property
    def defaults(self) -> Defaults:
        """How it is trained when nobody says otherwise; a class attribute will do."""
        return Defaults()

    @property
    def d_vocab(self) -> int:
        """Number of token ids, separators included."""
        ...

    @property
    def d_output(self) -> int:
        """Numbers that a model gives at each position: by default a logit for each token."""
        return self.d_vocab

    @property
    def mask_token(self) -> int | None:
        """The token that stands where something is to be filled in; None, as by default, if there is none."""
        return None

    @property
    def n_pos(self) -> int:
        """Tokens in a whole sequence: prompt and answer."""
        ...

    @property
    def answer(self) -> slice:
        """Positions of the answer, or that are filled in, with plain start and stop: ``tokens[:, task.answer]``."""
        ...

    def sample(self, n: int, *, generator: torch.Generator) -> Batch:
        """Draw ``n`` sequences, on the generator's device, from nothing but the generator."""
        ...

    @property
    def levels(self) -> Levels:
        """Closed-form initial, plateau and floor loss."""
        return Levels()

    @property
    def partial_solution(self) -> tuple[int, ...]:
        """Indices of the answers that a model on the plateau gets right; empty where unknown."""
        return ()

    def optimal_attention(self, batch: Batch) -> Sequence[Bool[Tensor, "batch query key"] | None]:
        """For each layer the key positions the solution reads (a leading axis of 1 if the same for all), or None.

        Compute it from the prompt: in a forward under an intervention the last token, and of a decoding every token to
        come, is not known yet and stands as 0, and so do the labels.
        """
        return [None] * self.defaults.n_layers

    def groups(self, batch: Batch) -> Mapping[str, Bool[Tensor, " batch"]]:
        """Kinds of sequences that are also measured by themselves, by name; none by default.

        So is the loss, all other labels hidden (`Batch.scoring`). No name is a number: columns are ``accuracy_<name>``.
        """
        return {}

    def answer_kinds(self, batch: Batch) -> Mapping[str, Bool[Tensor, "batch answer"]]:
        """Kinds of answers whose accuracy is also measured, as ``accuracy_<name>``: other names than `groups` have."""
        return {}

    def separator_map(self) -> Bool[Tensor, "1 query key"] | None:
        """A separator's cells in the answer rows, if its share of attention is to be measured; None by default."""
        return None

    def cosine_pairs(self) -> Bool[Tensor, "row row"]:
        """Which pairs of answer rows (below the diagonal) the collapse measure averages over; default all."""
        n_rows = self.answer.stop - self.answer.start
        return torch.ones(n_rows, n_rows, dtype=torch.bool).tril(-1)

    def measures(self, model: "HookedModel", *, generator: torch.Generator) -> Mapping[str, Float[Tensor, ""]] | None:
        """What a meter measures in the place of greedy answers, for a task that has none; None for the usual measures.

        Draw from the generator alone, and leave the model as it is. Columns ``NAME_0_1`` are of layer 0 and head 1, and
        are drawn with the column ``NAME``; so are ``loss_…`` with the loss.
        """
        return None

    @property
    def captions(self) -> Mapping[str, str]:
        """What reports say below the curves of its own measures, by column; none by default."""
        return {}

    def remark(self, measured: Mapping[str, float]) -> str:
        """What reports say about a row of metrics of its own: a sentence without its full stop; empty by default."""
        return ""

    def corrupt(self, batch: Batch, *, generator: torch.Generator) -> Batch:
        """The same sequences after the smallest change of each prompt that changes its answer, for circuits.

        Raises:
            ValueError: unless a task says how.
        """
        raise ValueError(f"{type(self).__name__} does not say how to corrupt its prompts: give pairs of your own")

    def loss(self, output: Float[Tensor, "batch query d_output"], batch: Batch) -> Float[Tensor, ""]:
        """Mean cross-entropy in nats over the scored positions, in float32 at least; of numbers write your own."""
        precise = output.to(torch.promote_types(output.dtype, torch.float32))
        flat = rearrange(precise, "batch query d_vocab -> (batch query) d_vocab")
        return F.cross_entropy(flat, batch.labels.flatten(), ignore_index=IGNORE)

    def tokens_to_text(self, tokens: Int[Tensor, " pos"]) -> list[str]:
        """One short string a position, for views and tables."""
        return [str(token) for token in tokens.tolist()]


class FiniteTask(Task, Protocol):
    """A task of so few sequences that they are listed once and split: some to train on, the others to validate.

    `plateau_interp.train` then goes through the training set in epochs. `sample` draws from the training set too, with
    replacement: it is what anything that knows nothing of finite data sees, such as a picture's example.
    """

    @property
    def train_set(self) -> Batch:
        """Every sequence that may be trained on, always in the same order, on the CPU."""

    @property
    def validation_set(self) -> Batch:
        """Every sequence that must not, likewise."""


def is_finite(task: Task) -> TypeGuard[FiniteTask]:
    """Whether a task has a training and a validation set (whatever it inherits from).

    They may be properties, class attributes, dataclass fields or attributes of the object.

    Example:
        >>> from plateau_interp.tasks import ModularArithmetic, MovingWindowSum
        >>> is_finite(ModularArithmetic()), is_finite(MovingWindowSum())
        (True, False)
    """
    # Properties are looked up on the class: asking the instance would list all the sequences, and so would isinstance
    # with a protocol before Python 3.12. It is asked several times a step: inspect.getattr_static is 20 times slower.
    own = getattr(task, "__dict__", {})
    return all(name in own or hasattr(type(task), name) for name in ("train_set", "validation_set"))


def answer_rows(task: Task) -> slice:
    """The query positions whose outputs are the answer: one before each answer position, itself where it is filled in.

    Example:
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> answer_rows(MovingWindowSum())
        slice(16, 32, None)
    """
    return slice(task.answer.start - task.lookahead, task.answer.stop - task.lookahead)


def check_model(model: Any) -> None:
    """Refuse what is no model, such as its name, and one that TransformerLens builds but cannot run.

    Raises:
        ValueError: saying what came.
    """
    if not isinstance(model, torch.nn.Module):
        raise ValueError(f"expected a model; got {shown(model)}")
    positions = getattr(getattr(model, "cfg", None), "positional_embedding_type", None)
    if positions == "relative_positional_bias" and hasattr(model, "blocks"):  # T5 itself has two stacks of them
        raise ValueError(f"a model with positional_embedding_type={positions!r} has no forward in TransformerLens")


@runtime_checkable
class OfText(Protocol):
    """A task whose tokens are pieces of text."""

    @property
    def tokenizer(self) -> Any:
        """As transformers has them: from texts to token ids and back."""


class HookedModel(Protocol):
    """What the suite asks of a model: TransformerLens's hook API and a torch module's parameters."""

    cfg: Any
    training: bool

    @property
    def hook_dict(self) -> Mapping[str, Any]:
        """Hook points by name."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """A forward pass: tokens to logits."""

    def hooks(self, fwd_hooks: Any = ..., bwd_hooks: Any = ...) -> AbstractContextManager[Any]:
        """Hooks, as lists of pairs of name and function, for the length of a context."""

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """As of a torch module."""

    def named_parameters(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        """As of a torch module."""

    def modules(self) -> Iterator[torch.nn.Module]:
        """As of a torch module."""


@runtime_checkable
class BuiltForTask(Protocol):
    """A model that says which task it is for, as toy models do; set ``model.task`` of any other to have it so."""

    task: Task | None


@runtime_checkable
class OfAttentionKind(Protocol):
    """A model that says whether its attention has a softmax, as toy models do; of all others it has one."""

    attention: AttentionKind


@runtime_checkable
class Reader(Protocol):
    """A model that may have a tokenizer, as TransformerLens's have; without one it is None."""

    tokenizer: Any

    def to_tokens(self, text: str) -> Tensor:
        """Token ids ``[1, query]`` of a text."""

    def to_str_tokens(self, tokens: Tensor) -> list[str]:
        """A text for each id."""


@protocol_of("optimizers")
@runtime_checkable
class OptimizerSpec(Protocol):
    """The plain data of an optimiser; `build` makes the live one."""

    def build(self, parameters: Iterable[tuple[str, torch.nn.Parameter]]) -> torch.optim.Optimizer:
        """A torch optimiser over named parameters, as ``model.named_parameters()`` gives them."""
        ...
