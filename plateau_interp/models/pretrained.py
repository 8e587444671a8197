"""Pretrained language models as HookedTransformers: of the hub, of a folder, or in memory; never processed.

TransformerLens's `from_pretrained` folds norms and centres weights, which changes what hidden states are, goes by the
name of a model or of its folder, and lets tensors be missing. Here the configuration decides, and every tensor must
find its place. For the toy models of a task see `plateau_interp.models.toy`.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from torch import Tensor
from transformer_lens import HookedTransformer, HookedTransformerConfig
from transformers import AutoConfig, AutoTokenizer, PreTrainedModel
from transformers.utils import logging

from plateau_interp.checks import check_memory, first_line, listed, shown
from plateau_interp.models.architectures import architecture_of, hooked_config
from plateau_interp.models.checkpoint_files import has_tokenizer, model_folder
from plateau_interp.models.conversions import Weights
from plateau_interp.models.tokenizers import keep_tokenizer_

__all__ = ["pretrained_model"]

UNREADABLE = (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, SafetensorError)
"""What transformers raises for files that it cannot make a model or a tokenizer of."""


def pretrained_model(
    source: str | Path | PreTrainedModel,
    *,
    revision: str | None = None,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    n_ctx: int | None = None,
) -> HookedTransformer:
    """A pretrained language model with every hook point, its weights as they are: nothing folded, nothing centred.

    The residual stream at ``unembed.hook_in`` is Hugging Face's ``hidden_states[-1]``. Files that are in the hub's
    cache are taken from there; with ``HF_HUB_OFFLINE=1`` the network is never asked. Only safetensors are read.

    Mapped are GPT-2, GPT-NeoX (Pythia), Llama (SmolLM2), Mistral, OLMo, OLMo-2, Qwen2, Qwen3 and the text models of
    Gemma 2 and 3: see `plateau_interp.models.architectures.ARCHITECTURES`.

    Args:
        source: a name on the hub, a local folder (whatever its name; a folder of that name goes first), or a Hugging
            Face model in memory, which is copied and left as it is.
        revision: branch, tag or commit on the hub; None for the main branch.
        dtype: of the parameters, whatever they were saved as.
        device: where the model lives.
        n_ctx: longest input; None for the configuration's. It costs no memory by itself. Learned positions can be cut,
            not added; rotary ones go on for ever, though a model is rarely good beyond those it was trained on.

    Returns:
        The model, in evaluation mode, mapping tokens ``[batch, query]`` to logits ``[batch, query, d_vocab]``.
        ``model.tokenizer`` is what was saved beside it, kept by `keep_tokenizer_`; None where there is none, and for a
        model in memory.

    Raises:
        ValueError: in one line, for a source or a revision that is not to be had, an architecture that is not mapped or
            that TransformerLens cannot hold, pickle files alone, and tensors that are missing, left over or misshapen.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> config = GPT2Config(vocab_size=50, n_positions=16, n_embd=8, n_layer=1, n_head=2)
        >>> model = pretrained_model(GPT2LMHeadModel(config))
        >>> model(torch.tensor([[3, 1, 4]])).shape
        torch.Size([1, 3, 50])
    """
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ValueError(f"dtype must be a floating-point dtype such as torch.float32; got {shown(dtype)}")
    if isinstance(source, PreTrainedModel):
        if revision is not None:
            raise ValueError(f"a revision is of a model on the hub; got revision={revision!r} and a model in memory")
        return _hooked(source, tokenizer=None, dtype=dtype, device=device, n_ctx=n_ctx)
    if not isinstance(source, str | Path):
        raise ValueError(f"source must be a name, a folder or a Hugging Face model; got {shown(source)}")
    folder = model_folder(source, revision=revision)
    try:
        loaded = _loaded(folder, dtype=dtype)
        return _hooked(loaded, tokenizer=_tokenizer(folder), dtype=dtype, device=device, n_ctx=n_ctx)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None


def _hooked(
    source: PreTrainedModel, *, tokenizer: Any, dtype: torch.dtype, device: str | torch.device, n_ctx: int | None
) -> HookedTransformer:
    name = type(source).__name__
    cfg = hooked_config(name, source.config, dtype=dtype, device=str(device), n_ctx=n_ctx)
    _check_plain(source)
    model = _unfilled(cfg)
    weights = Weights(source.state_dict())
    _fill_(model, architecture_of(name).convert(weights, cfg))
    if weights.left:
        raise ValueError(f"{name} in TransformerLens has no place for {_tensors_named(weights.left)}")
    if tokenizer is not None:
        keep_tokenizer_(model, tokenizer)
    return torch.nn.Module.to(model, device).eval()


def _unfilled(cfg: HookedTransformerConfig) -> HookedTransformer:
    """A model of uninitialised weight matrices; biases are 0."""
    with warnings.catch_warnings():
        # The deprecation names a successor whose attention hooks do not change the output.
        warnings.filterwarnings("ignore", message="HookedTransformer", category=DeprecationWarning)
        model = HookedTransformer(cfg, move_to_device=False)
    for name, parameter in model.named_parameters():
        if order := _order_in_memory(name, gated=cfg.gated_mlp):
            made = torch.empty(
                [parameter.shape[axis] for axis in order], dtype=parameter.dtype, device=parameter.device
            )
            parameter.data = made.permute([order.index(axis) for axis in range(len(order))])
    return model


def _order_in_memory(name: str, *, gated: bool) -> tuple[int, ...] | None:
    """The axes of a matrix from the outermost to the innermost, as a forward reads it; None where that is as they are.

    TransformerLens's forward copies each of these matrices into that order: half the time of decoding, and a second for
    a large vocabulary. Where it lies so in memory already, nothing is copied.
    """
    kind, matrix = name.split(".")[-2:]
    if kind == "unembed" or (kind == "mlp" and gated):
        return (1, 0) if matrix.startswith("W_") else None
    if kind != "attn":
        return None
    return {"Q": (0, 2, 1), "K": (0, 2, 1), "V": (0, 2, 1), "O": (2, 0, 1)}.get(matrix.lstrip("_").removeprefix("W_"))


def _fill_(model: HookedTransformer, tensors: Mapping[str, Tensor]) -> None:
    parameters = dict(model.named_parameters())
    for name, tensor in tensors.items():
        if name not in parameters or parameters[name].shape != tensor.shape:
            there = tuple(parameters[name].shape) if name in parameters else "no such parameter"
            raise ValueError(f"{name} has the shape {tuple(tensor.shape)}; TransformerLens has {there}")
        with torch.no_grad():
            parameters[name].copy_(tensor)
    # What an architecture has no bias for is 0 already.
    if empty := [name for name in parameters if name not in tensors and not _is_bias(name)]:
        raise ValueError(f"nothing was found for {_tensors_named(empty)}")


def _is_bias(name: str) -> bool:
    return name.rsplit(".", 1)[-1].lstrip("_").startswith("b_")


def _check_plain(source: PreTrainedModel) -> None:
    """Refuse weights that are not simply there: quantised, or not loaded yet."""
    state = source.state_dict()
    if packed := [name for name, tensor in state.items() if not tensor.is_floating_point()]:
        raise ValueError(f"the model is quantised ({_tensors_named(packed)}); load it in a floating-point dtype")
    if absent := [name for name, tensor in state.items() if tensor.is_meta]:
        raise ValueError(f"the model's weights are not in memory ({_tensors_named(absent)} on the device meta)")


def _check_size(cfg: HookedTransformerConfig) -> None:
    """Refuse a model whose matrices alone no memory of this machine could hold."""
    n_key_value_heads = cfg.n_key_value_heads or cfg.n_heads
    attention = 2 * cfg.d_model * cfg.d_head * (cfg.n_heads + n_key_value_heads)
    mlp = cfg.d_model * (cfg.d_mlp or 0) * (3 if cfg.gated_mlp else 2)
    n_parameters = cfg.n_layers * (attention + mlp) + 2 * cfg.d_vocab * cfg.d_model
    check_memory(n_parameters * cfg.dtype.itemsize, f"a model of {n_parameters:,} parameters")


def _loaded(folder: Path, *, dtype: torch.dtype) -> PreTrainedModel:
    """The Hugging Face model of a folder, each of its tensors read from there."""
    with _quiet():
        try:
            config = AutoConfig.from_pretrained(folder)
        except UNREADABLE as error:
            raise ValueError(f"transformers makes nothing of config.json: {first_line(error)}") from None
        if not config.architectures:
            raise ValueError("config.json names no architecture (architectures)")
        name = config.architectures[0]
        _check_size(hooked_config(name, config, dtype=dtype, device="cpu", n_ctx=None))  # before gigabytes are read
        if getattr(config, "quantization_config", None) is not None:  # an optional key of config.json
            raise ValueError("the model is quantised (quantization_config); take one in a floating-point dtype")
        try:
            model, told = getattr(transformers, name).from_pretrained(
                folder,
                dtype=dtype,
                use_safetensors=True,
                ignore_mismatched_sizes=True,  # so that they are named
                output_loading_info=True,
            )
        except UNREADABLE as error:
            raise ValueError(f"transformers cannot read it: {first_line(error)}") from None
    # transformers fills in what is missing or misshapen at random and ignores what is left over.
    for what in ("missing", "unexpected"):
        if names := sorted(told[f"{what}_keys"]):
            raise ValueError(f"{'missing' if what == 'missing' else 'left over'}: {_tensors_named(names)}")
    for tensor, there, expected in sorted(told["mismatched_keys"]):
        raise ValueError(f"tensor {tensor} has the shape {tuple(there)}; config.json asks for {tuple(expected)}")
    loaded: PreTrainedModel = model
    return loaded


def _tokenizer(folder: Path) -> Any:
    if not has_tokenizer(folder):
        return None
    try:
        with _quiet():
            return AutoTokenizer.from_pretrained(folder)
    except UNREADABLE as error:
        raise ValueError(f"transformers cannot read its tokenizer: {first_line(error)}") from None


def _tensors_named(names: list[str]) -> str:
    return f"tensor{'' if len(names) == 1 else 's'} {listed(names)}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the reports and progress bars of transformers: what matters in them becomes an error."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
