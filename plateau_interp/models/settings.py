"""The sizes of a toy model as plain data: `ModelOptions` as they are asked for, `ModelSettings` as they are then."""

from dataclasses import dataclass
from typing import Literal

from plateau_interp.checks import check_positive, check_whole, one_of
from plateau_interp.models.initializers import Initializer, check_initializers
from plateau_interp.types import AttentionKind, Defaults, MaskEmbedding, Task, ToyArchitecture

__all__ = ["DType", "ModelOptions", "ModelSettings", "check_used"]

DType = Literal["float32", "float64"]
WORDS: dict[ToyArchitecture, str] = {
    "decoder": "a decoder",
    "encoder": "an encoder",
    "post-norm": "a post-norm decoder",
    "depth-2": "a depth-2 net",
    "one-hot": "a one-hot MLP",
}
UNUSED: dict[ToyArchitecture, tuple[str, ...]] = {
    "post-norm": ("init_std",),  # it begins as PyTorch's own layers do
    "depth-2": ("mask_embedding",),
    "one-hot": ("init_std", "mask_embedding"),
}
"""What an architecture takes no notice of; what it can have in one way only is refused by `ModelSettings`."""


@dataclass(frozen=True)
class ModelSettings:
    """What a toy model is, in full: the fields of `ModelOptions`; of them ``d_mlp`` alone may be open.

    Raises:
        ValueError: for a size that cannot be; the message names the argument.
    """

    attention: AttentionKind
    n_layers: int
    n_heads: int
    d_model: int
    d_mlp: int | None = None
    dtype: DType = "float32"
    architecture: ToyArchitecture = "decoder"
    init_std: float = Defaults.init_std
    mask_embedding: MaskEmbedding = "trained"
    init: tuple[Initializer, ...] = ()
    """What else becomes of the initial weights, in this order; see `plateau list initializers`."""

    def __post_init__(self) -> None:
        check_initializers(self.init)
        object.__setattr__(self, "init", tuple(self.init))
        one_of(ToyArchitecture, architecture=self.architecture)
        one_of(AttentionKind, attention=self.attention)
        one_of(MaskEmbedding, mask_embedding=self.mask_embedding)
        check_positive(self, "init_std")
        if self.architecture != "decoder" and self.attention != "softmax":
            raise ValueError(f"attention of {WORDS[self.architecture]} must be softmax; got {self.attention}")
        one_of(DType, dtype=self.dtype)
        check_whole(self, "n_layers", "n_heads", "d_model", least=1)
        if self.d_mlp is not None:
            check_whole(self, "d_mlp", least=1)
        if self.d_model % self.n_heads:
            raise ValueError(f"n_heads must divide d_model; got n_heads={self.n_heads} and d_model={self.d_model}")
        for name, number in (("n_layers", self.n_layers), ("n_heads", self.n_heads)):
            if self.architecture in ("depth-2", "one-hot") and number != 1:
                raise ValueError(f"{name} of {WORDS[self.architecture]} must be 1; got {number}")

    @property
    def mlp_width(self) -> int:
        """``d_mlp``, or what it is by default."""
        return 4 * self.d_model if self.d_mlp is None else self.d_mlp

    def resolved(self, task: Task) -> "ModelSettings":
        """Itself: nothing is left to the task."""
        return self


@dataclass(frozen=True)
class ModelOptions:
    """The arguments of `toy_model`; None means the task's default.

    Args:
        attention: without softmax (the paper's) or with.
        n_layers: blocks.
        n_heads: attention heads a layer.
        d_model: width of the residual stream.
        d_mlp: width of the MLP, by default 4 d_model.
        dtype: of parameters and activations.
        architecture: causal with norms before attention and MLP, bidirectional or causal with norms after them, or an
            MLP alone.
        init_std: standard deviation of the initial weights.
        mask_embedding: whether the embedding of the task's mask token is learnt, or stays 0.
        init: of `plateau list initializers`, acting in order on the initial weights; none leaves the paper's.

    Raises:
        ValueError: for a size that cannot be; the message names the argument.
    """

    attention: AttentionKind | None = None
    n_layers: int | None = None
    n_heads: int | None = None
    d_model: int | None = None
    d_mlp: int | None = None
    dtype: DType = "float32"
    architecture: ToyArchitecture | None = None
    init_std: float | None = None
    mask_embedding: MaskEmbedding | None = None
    init: tuple[Initializer, ...] = ()

    def __post_init__(self) -> None:
        # Refused where it is written, whatever the task; a width that is left open is one that the heads divide.
        self._over(Defaults() if self.n_heads is None else Defaults(d_model=self.n_heads))

    def resolved(self, task: Task) -> ModelSettings:
        """With what the task has defaults for filled in.

        Raises:
            ValueError: for a size that cannot be together with the task's; the message names the argument.

        Example:
            >>> from plateau_interp.tasks import ModularArithmetic
            >>> ModelOptions(n_layers=2).resolved(ModularArithmetic()).n_heads
            4
        """
        return self._over(task.defaults)

    def _over(self, defaults: Defaults) -> ModelSettings:
        architecture = defaults.architecture if self.architecture is None else self.architecture
        attention = defaults.attention if architecture == "decoder" else "softmax"
        return ModelSettings(
            attention=attention if self.attention is None else self.attention,
            n_layers=defaults.n_layers if self.n_layers is None else self.n_layers,
            n_heads=defaults.n_heads if self.n_heads is None else self.n_heads,
            d_model=defaults.d_model if self.d_model is None else self.d_model,
            d_mlp=self.d_mlp,
            dtype=self.dtype,
            architecture=architecture,
            init_std=defaults.init_std if self.init_std is None else self.init_std,
            mask_embedding=defaults.mask_embedding if self.mask_embedding is None else self.mask_embedding,
            init=self.init,
        )


def check_used(settings: ModelSettings, task: Task) -> None:
    """Refuse what is asked for and would come to nothing. What the task has by default was not asked for.

    Raises:
        ValueError: naming the argument.
    """
    unused = dict.fromkeys(UNUSED.get(settings.architecture, ()), f"to {WORDS[settings.architecture]}")
    if task.mask_token is None:
        unused["mask_embedding"] = "where the task has no mask_token"
    for name, where in unused.items():
        value = getattr(settings, name)
        if value != getattr(task.defaults, name):
            raise ValueError(f"{name} says nothing {where}: leave it out; got {value}")
