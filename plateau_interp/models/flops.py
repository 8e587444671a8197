"""How many floating-point operations a model takes, counted from its sizes: nothing is run, nothing timed.

A multiplication and the addition that follows it are two. Matrix products alone are counted, as in
``torch.utils.flop_counter``: norms, softmax, activations and additions are a few per cent of small models and less of
large ones. Attention is counted whole, with what its mask hides, since that is computed, too.
"""

from plateau_interp.checks import whole_number
from plateau_interp.models.settings import ModelSettings
from plateau_interp.positions import input_length
from plateau_interp.types import HookedModel, Task

__all__ = ["FORWARDS_IN_TRAINING", "forward_flops", "model_flops", "training_flops"]

FORWARDS_IN_TRAINING = 3
"""A backward pass makes two products of each product's size: for the gradients of both factors."""


def forward_flops(
    *,
    n_layers: int,
    n_heads: int,
    d_head: int,
    d_model: int,
    d_mlp: int,
    d_output: int,
    n_positions: int,
    n_key_value_heads: int | None = None,
    mlp_matrices: int = 2,
    d_read: int | None = None,
) -> int:
    """Floating-point operations of a forward of one sequence without a cache.

    For each position: queries and output projection 4 d_model heads d_head, keys and values 4 d_model d_head for each
    of their heads, scores and their use 4 positions heads d_head, the MLP 2 d_model d_mlp a matrix; after all layers
    the unembedding 2 d_model d_output. Attention that gives 0, in a model that is an MLP, is computed all the same.

    Args:
        n_layers: blocks.
        n_heads: heads a layer.
        d_head: width of a head.
        d_model: width of the residual stream.
        d_mlp: width of the MLP, 0 for none.
        d_output: numbers that come out at each position.
        n_positions: tokens that are read.
        n_key_value_heads: of keys and values, if they are fewer.
        mlp_matrices: 3 where the MLP is gated.
        d_read: width of what the MLP gives and the unembedding reads, if it is not ``d_model``.

    Example:
        >>> sizes = {"n_layers": 1, "n_heads": 1, "d_head": 256, "d_model": 256, "d_mlp": 1024}
        >>> forward_flops(**sizes, d_output=20, n_positions=32)
        51707904
    """
    shared = n_heads if n_key_value_heads is None else n_key_value_heads
    projections = 4 * d_model * d_head * (n_heads + shared)
    attention = 4 * n_positions * n_heads * d_head
    read = d_model if d_read is None else d_read
    mlp = 2 * d_mlp * ((mlp_matrices - 1) * d_model + read)
    return n_positions * (n_layers * (projections + attention + mlp) + 2 * read * d_output)


def model_flops(model: HookedModel, *, n_positions: int) -> int:
    """`forward_flops` of a HookedTransformer, from its configuration.

    Args:
        model: any but one with a mixture of experts.
        n_positions: tokens that are read.

    Raises:
        ValueError: for what is no number of positions, and for experts, of which it depends on the tokens which work.

    Example:
        >>> from plateau_interp import toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> model_flops(toy_model(MovingWindowSum()), n_positions=32)
        51675136
    """
    cfg = model.cfg
    if cfg.num_experts:
        raise ValueError(
            "the operations of a mixture of experts depend on its tokens: they cannot be counted from sizes"
        )
    return forward_flops(
        n_layers=cfg.n_layers,
        n_heads=cfg.n_heads,
        d_head=cfg.d_head,
        d_model=cfg.d_model,
        d_mlp=0 if cfg.attn_only else cfg.d_mlp,
        d_output=cfg.d_vocab_out,
        n_positions=whole_number("n_positions", n_positions, least=1),
        n_key_value_heads=cfg.n_key_value_heads,
        mlp_matrices=3 if cfg.gated_mlp else 2,
        d_read=len(dict(model.named_parameters())["unembed.W_U"]),
    )


def training_flops(task: Task, settings: ModelSettings) -> int:
    """Floating-point operations of training on one sequence: a forward, and twice as much to go back.

    What is frozen saves some of the way back and is counted all the same; measuring is not counted.

    Example:
        >>> from plateau_interp.models.settings import ModelOptions
        >>> from plateau_interp.tasks import Mixture
        >>> training_flops(Mixture(), ModelOptions().resolved(Mixture())) * 128  # a step of the poster's
        19855835136
    """
    is_mlp = settings.architecture in ("depth-2", "one-hot")
    return FORWARDS_IN_TRAINING * forward_flops(
        n_layers=settings.n_layers,
        n_heads=settings.n_heads,
        d_head=1 if is_mlp else settings.d_model // settings.n_heads,
        d_model=settings.d_model,
        d_mlp=settings.mlp_width,
        d_output=task.d_output,
        n_positions=input_length(task),
        d_read=settings.mlp_width if settings.architecture == "one-hot" else None,
    )
