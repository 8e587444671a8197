"""`toy_model`: a small HookedTransformer for a task, decoder, encoder or MLP as the task has it.

Everything a TransformerLens user does with a `HookedTransformer` works on it. `plateau_interp.models.decoder`,
`plateau_interp.models.encoder`, `plateau_interp.models.post_norm`, `plateau_interp.models.depth_two` and
`plateau_interp.models.one_hot` say what the five are. For pretrained models see `plateau_interp.models.pretrained`.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from transformer_lens import HookedTransformerConfig

from plateau_interp.checks import seed_number, shown, whole_number
from plateau_interp.models.base import ToyTransformer
from plateau_interp.models.decoder import ToyDecoder
from plateau_interp.models.depth_two import depth_two_net
from plateau_interp.models.encoder import ToyEncoder
from plateau_interp.models.fitting import check_device, check_direction, check_model_size, check_task
from plateau_interp.models.initializers import Initializer, check_initializers, initialise_
from plateau_interp.models.one_hot import one_hot_net
from plateau_interp.models.post_norm import ToyPostNorm
from plateau_interp.models.settings import ModelOptions, ModelSettings, check_used
from plateau_interp.models.tokenizers import keep_tokenizer_
from plateau_interp.positions import input_length
from plateau_interp.types import AttentionKind, MaskEmbedding, OfText, Task, ToyArchitecture

__all__ = ["check_init_std", "model_of", "toy_model"]

GATES_AND_EPS: dict[ToyArchitecture, tuple[str, float]] = {
    "decoder": ("gelu_pytorch_tanh", 1e-5),  # minGPT's
    "encoder": ("gelu", 1e-12),  # those of transformers' BERT
    "post-norm": ("relu", 1e-5),  # of nn.TransformerEncoderLayer
}
"""Of Transformers: the activation of the MLP, and what LayerNorm adds to the variance."""


def toy_model(
    task: Task,
    *,
    attention: AttentionKind | None = None,
    n_layers: int | None = None,
    n_heads: int | None = None,
    d_model: int | None = None,
    d_mlp: int | None = None,
    n_ctx: int | None = None,
    architecture: ToyArchitecture | None = None,
    init_std: float | None = None,
    mask_embedding: MaskEmbedding | None = None,
    init: Sequence[Initializer] = (),
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
) -> ToyTransformer:
    """A HookedTransformer for a task, initialised as in the task's paper.

    A decoder is causal and has its LayerNorms before attention and MLP. Its weights are drawn N(0, 0.02²), those of the
    two layers that write to the residual stream N(0, (0.02/sqrt(2L))²); biases are 0, LayerNorm gains 1. The
    unembedding has no bias (TransformerLens's ``b_U`` is there, 0 and frozen). An encoder reads in both directions and
    has its LayerNorms after each addition, and a read-out with bias; see `plateau_interp.models.encoder`. A post-norm
    decoder has them there, too, but is causal, with ReLU and PyTorch's initial weights; see
    `plateau_interp.models.post_norm`. A depth-2 net is an MLP of one layer, for tasks of points; see
    `plateau_interp.models.depth_two`. A one-hot MLP has two hidden layers of width ``d_mlp`` and PyTorch's initial
    weights, for tasks of features; see `plateau_interp.models.one_hot`.

    The same seed gives the same weights on every device and, up to rounding, in every dtype; the global random state
    is not touched.

    Args:
        task: fixes the vocabulary and the context length; the model keeps it as ``model.task``, and the tokenizer of a
            task of text as ``model.tokenizer``.
        attention: "linear" (no softmax; signed, unnormalised) or "softmax"; this and the next three are by default the
            task's: linear, 1 layer (2 for tasks that need two), 1 head and 256 unless `Task.defaults` says otherwise.
            Encoders and post-norm decoders have softmax attention; that of a depth-2 net or a one-hot MLP gives 0.
        n_layers: blocks.
        n_heads: attention heads a layer; must divide ``d_model``.
        d_model: width of the residual stream.
        d_mlp: width of the MLP, by default ``4 * d_model``.
        n_ctx: longest input, by default the task's whole sequence.
        architecture: "decoder", "encoder", "post-norm", "depth-2" or "one-hot"; this and the next two are by default
            the task's.
        init_std: of the weights, in the place of 0.02. A narrow encoder needs more: with 0.02 at width 64 its attention
            is uniform. Refused where the weights begin as PyTorch's, and where ``init`` leaves nothing of it.
        mask_embedding: "zero" keeps the embedding of the task's mask token at 0, so that a masked position enters as
            its position alone; "trained" learns it as any other. Refused where there is no mask.
        init: what else becomes of the initial weights, in order; see `plateau_interp.models.initializers`.
        seed: of the initial weights.
        dtype: of the parameters.
        device: where the model lives.

    Returns:
        The model, in training mode, mapping tokens ``[batch, query]`` to logits ``[batch, query, d_output]``.

    Raises:
        ValueError: for a size, seed, dtype or device that cannot be, an argument that the architecture takes no notice
            of, or a model that needs more memory than there is; the message names the argument.

    Source: arXiv 2506.13688, authors' code (minGPT initialisation); arXiv 2410.22244, authors' code (BERT).

    Example:
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> model = toy_model(MovingWindowSum())
        >>> sum(p.numel() for p in model.parameters() if p.requires_grad)
        807936
    """
    check_task(task)
    check_initializers(init)
    settings = ModelOptions(
        attention,
        n_layers,
        n_heads,
        d_model,
        d_mlp,
        architecture=architecture,
        init_std=init_std,
        mask_embedding=mask_embedding,
        init=tuple(init),
    ).resolved(task)
    check_used(settings, task)
    seed = seed_number(seed)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ValueError(f"dtype must be that of real numbers, such as torch.float32; got {shown(dtype)}")
    check_device(device)
    n_ctx = task.n_pos if n_ctx is None else whole_number("n_ctx", n_ctx)
    if n_ctx < input_length(task):
        raise ValueError(f"n_ctx must be at least {input_length(task)}, the task's input length; got {n_ctx}")

    def begun(settings: ModelSettings) -> ToyTransformer:
        return model_of(task, settings, n_ctx=n_ctx, seed=seed, dtype=dtype, device=device)

    if settings.init:
        check_init_std(task, settings, begun)
    return begun(settings)


def check_init_std(
    task: Task, settings: ModelSettings, begun: Callable[[ModelSettings], ToyTransformer], *, replaced_by: str = "init"
) -> None:
    """Refuse a deviation of the initial weights that was asked for, and that no weight has to do with.

    Args:
        task: whose own deviation was not asked for.
        settings: of the model.
        begun: the model of some settings, as it begins.
        replaced_by: what leaves nothing of the draw, in the user's words.

    Raises:
        ValueError: telling the deviation and what replaces it.
    """
    if settings.init_std == task.defaults.init_std:
        return
    models = begun(settings), begun(replace(settings, init_std=2 * settings.init_std))
    pairs = zip(*(model.parameters() for model in models), strict=True)
    if all(torch.equal(one, another) for one, another in pairs):
        raise ValueError(
            f"init_std={settings.init_std} comes to nothing: {replaced_by} replaces what is drawn with it; leave it out"
        )


def model_of(
    task: Task, settings: ModelSettings, *, n_ctx: int, seed: int, dtype: torch.dtype, device: str | torch.device
) -> ToyTransformer:
    """`toy_model` from settings, in which nothing is left open; what comes to nothing in them is let be.

    Args:
        task: as for `toy_model`, like all that follows the settings.
        settings: resolved from the options of a model.
        n_ctx: longest input.
        seed: of the initial weights.
        dtype: of the parameters.
        device: where the model lives.

    Raises:
        ValueError: for sizes that cannot be together with the task's, or need more memory than there is.
    """
    check_model_size(task, settings, n_ctx=n_ctx, dtype=dtype)
    model: ToyTransformer
    if settings.architecture == "depth-2":
        model = depth_two_net(task, settings, n_ctx=n_ctx, dtype=dtype, device=device)
    elif settings.architecture == "one-hot":
        model = one_hot_net(task, settings, n_ctx=n_ctx, dtype=dtype, device=device)
    else:
        model = _transformer(task, settings, n_ctx=n_ctx, dtype=dtype, device=device)
    model.initialise_(std=settings.init_std, seed=seed)
    initialise_(model, *settings.init, seed=seed)
    if isinstance(task, OfText):
        keep_tokenizer_(model, task.tokenizer)
    return torch.nn.Module.to(model, device)


def _transformer(
    task: Task, settings: ModelSettings, *, n_ctx: int, dtype: torch.dtype, device: str | torch.device
) -> ToyTransformer:
    """A decoder of either kind or an encoder, its weights not drawn yet."""
    kind = settings.architecture
    check_direction(kind == "encoder", task)
    act_fn, eps = GATES_AND_EPS[kind]
    cfg = HookedTransformerConfig(
        n_layers=settings.n_layers,
        n_heads=settings.n_heads,
        d_model=settings.d_model,
        d_head=settings.d_model // settings.n_heads,
        d_mlp=settings.mlp_width,
        n_ctx=n_ctx,
        d_vocab=task.d_vocab,
        d_vocab_out=task.d_output,
        act_fn=act_fn,
        normalization_type="LN",
        eps=eps,
        attention_dir="bidirectional" if kind == "encoder" else "causal",
        init_weights=False,
        dtype=dtype,
        device=str(device),
    )
    untrained = task.mask_token if settings.mask_embedding == "zero" else None
    if kind == "encoder":
        return ToyEncoder(cfg, task=task, untrained=untrained)
    if kind == "post-norm":
        return ToyPostNorm(cfg, task=task, untrained=untrained)
    return ToyDecoder(cfg, task=task, attention=settings.attention, untrained=untrained)
