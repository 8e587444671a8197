"""Which parameters are meant: groups of them by name, patterns, functions of the name; and how weights lie.

The first four groups are those of the optimal-initialisation experiments of arXiv 2506.13688 (figure 5), the others the
components that arXiv 2410.22244 trains one at a time (figure 8), in TransformerLens's names:

| group | parameters |
|---|---|
| ``"attention map"`` | queries, keys, token and position embeddings, first LayerNorms |
| ``"attention"`` | the same, values and output projections, LayerNorms of what attention adds |
| ``"mlp"`` | MLPs, second LayerNorms, those of what MLPs add, final LayerNorm, unembedding |
| ``"embeddings"`` | token and position embeddings, final LayerNorm, unembedding |
| ``"token embedding"``, ``"position embedding"`` | either alone |
| ``"attention layers"`` | queries, keys, values, output projections, first LayerNorms, those of what attention adds |
| ``"mlp layers"`` | MLPs, second LayerNorms, those of what MLPs add |
| ``"norms"`` | every LayerNorm: of the embeddings, first, second, of what attention and MLPs add, final |
| ``"read-out"`` | unembedding |
| ``"embedding tables"`` | token and position embeddings, and nothing else |
| ``"linear layers"`` | output projections, MLPs, unembedding (drawn in "Shortening the Loss Plateau") |

Gemma 2 and 3 have LayerNorms of what attention and MLPs add, beside the first and second; other models have none.

Anything else is a pattern over parameter names, such as ``"blocks.0.attn.W_*"``, or a function of the name.
``"all but "`` before a group or a pattern means every other parameter: ``"all but mlp layers"``. Whatever matches
nothing is an error: the authors' own rule for the attention map looks for lower-case names and would, with their final
code, silently leave out queries and keys.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch

from plateau_interp.checks import check_takes, listed, nearest, shown
from plateau_interp.types import HookedModel

__all__ = ["Where", "check_where", "fans", "parameter_kind", "parameters_where", "row_axes", "trained_where"]

Where = str | Callable[[str], bool]
"""A group, a pattern over parameter names, ``"all but "`` and one of these, or a function of the name."""

ALL_BUT = "all but "
LAST_NORM = "hook_normalized_resid_post"
"""The hook point of blocks that end in a norm."""

# Attention with grouped queries keeps its key and value parameters under a leading underscore; what is named without
# one there are repeated views, no parameters.
PARTS = {
    "queries": r"blocks\.LAYER\.attn\.(_?[Wb]_Q|q_norm\..*)",
    "keys": r"blocks\.LAYER\.attn\.(_?[Wb]_K|k_norm\..*)",
    "values": r"blocks\.LAYER\.attn\._?[Wb]_V",
    "output projections": r"blocks\.LAYER\.attn\._?[Wb]_O",
    "first norms": r"blocks\.LAYER\.ln1\..*",
    "norms of what attention adds": r"blocks\.LAYER\.ln1_post\..*",
    "second norms": r"blocks\.LAYER\.ln2\..*",
    "norms of what MLPs add": r"blocks\.LAYER\.ln2_post\..*",
    "MLPs": r"blocks\.LAYER\.mlp\..*",
    "token embedding": r"embed\..*",
    "position embedding": r"pos_embed\..*",
    "embedding norm": r"ln_embed\..*",
    "final norm": r"ln_final\..*",
    "unembedding": r"unembed\..*",
}

GROUPS = {
    "attention map": ("queries", "keys", "token embedding", "position embedding", "first norms"),
    "attention": (
        "queries",
        "keys",
        "values",
        "output projections",
        "token embedding",
        "position embedding",
        "first norms",
        "norms of what attention adds",
    ),
    "mlp": ("MLPs", "second norms", "norms of what MLPs add", "final norm", "unembedding"),
    "embeddings": ("token embedding", "position embedding", "final norm", "unembedding"),
    "token embedding": ("token embedding",),
    "position embedding": ("position embedding",),
    "attention layers": (
        "queries",
        "keys",
        "values",
        "output projections",
        "first norms",
        "norms of what attention adds",
    ),
    "mlp layers": ("MLPs", "second norms", "norms of what MLPs add"),
    "norms": (
        "embedding norm",
        "first norms",
        "norms of what attention adds",
        "second norms",
        "norms of what MLPs add",
        "final norm",
    ),
    "read-out": ("unembedding",),
    "embedding tables": ("token embedding", "position embedding"),
    "linear layers": ("output projections", "MLPs", "unembedding"),
}

ROW_AXES = {
    "W_Q": (1,),  # [head, d_model, d_head]
    "W_K": (1,),
    "W_V": (1,),
    "W_O": (0, 1),  # [head, d_head, d_model]: one layer that reads all heads
    "W_in": (0,),  # and so on, [in, out]
    "W_gate": (0,),
    "W_out": (0,),
    "W_U": (0,),
    "W_E": (1,),  # [token, d_model]
    "W_pos": (1,),
}
"""By kind of weight, as TransformerLens keeps it, the axes along which a row runs."""


def check_where(where: Any) -> None:
    """Refuse what cannot say which parameters are meant.

    Raises:
        ValueError: for anything but a string or a function.
    """
    if not isinstance(where, str) and (isinstance(where, type) or not callable(where)):
        raise ValueError(f"where must be a group, a pattern over names or a function of the name; got {shown(where)}")
    if not isinstance(where, str):
        check_takes(where, "where", "name")


def parameters_where(model: HookedModel, where: Where) -> dict[str, torch.nn.Parameter]:
    """The parameters that a group, a name pattern or a function of the name means.

    Every part of a group must be there in every layer, unless the model's configuration says it has none (no position
    embedding with rotary positions, no MLPs in a model of attention alone, no final norm where blocks end in one).

    Raises:
        ValueError: if nothing matches, a part of a group is missing, or nothing is left by ``"all but "``.

    Example:
        >>> from plateau_interp import toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> list(parameters_where(toy_model(MovingWindowSum(), d_model=32), "blocks.0.attn.W_*"))
        ['blocks.0.attn.W_Q', 'blocks.0.attn.W_O', 'blocks.0.attn.W_K', 'blocks.0.attn.W_V']
    """
    check_where(where)
    parameters = dict(model.named_parameters())
    if isinstance(where, str) and where.startswith(ALL_BUT):
        names = parameters.keys() - parameters_where(model, where.removeprefix(ALL_BUT)).keys()
    elif isinstance(where, str) and where in GROUPS:
        names = {name for part in GROUPS[where] for name in _part(model, part, parameters, group=where)}
    elif isinstance(where, str):
        names = {name for name in parameters if name == where or fnmatchcase(name, where)}
    else:
        names = {name for name in parameters if where(name)}
    if not names:
        hint = (
            nearest(where, [*GROUPS, *parameters])
            if isinstance(where, str) and where not in GROUPS
            else f"there are {listed([*parameters])}"
        )
        raise ValueError(f"{shown(where)} means no parameter of the model; {hint}")
    return {name: parameter for name, parameter in parameters.items() if name in names}


def trained_where(model: HookedModel, where: Where) -> dict[str, torch.nn.Parameter]:
    """What ``where`` means, without what is never trained, such as the bias of a decoder's unembedding.

    Raises:
        ValueError: as `parameters_where`, and if nothing is left.

    Example:
        >>> from plateau_interp import toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> list(trained_where(toy_model(MovingWindowSum(), d_model=32), "read-out"))
        ['unembed.W_U']
    """
    chosen = {name: found for name, found in parameters_where(model, where).items() if found.requires_grad}
    if not chosen:
        raise ValueError(f"{shown(where)} means no parameter that is trained")
    return chosen


def row_axes(name: str) -> tuple[int, ...]:
    """The axes of a weight along which its rows run, as PyTorch's layers have rows.

    A row of a linear layer is what leads to one of its outputs, of an embedding the vector of one token or position.

    Raises:
        ValueError: for a parameter that is no weight matrix.

    Example:
        >>> row_axes("blocks.0.attn.W_O"), row_axes("embed.W_E")
        ((0, 1), (1,))
    """
    kind = parameter_kind(name)
    if kind not in ROW_AXES:
        raise ValueError(f"{name} is no weight matrix; such are called {', '.join(ROW_AXES)}")
    return ROW_AXES[kind]


def fans(name: str, shape: Sequence[int]) -> tuple[int, int]:
    """How many inputs and outputs a weight has, the heads of a layer taken together, as PyTorch counts them.

    Raises:
        ValueError: for a parameter that is no weight matrix.

    Example:
        >>> fans("blocks.0.attn.W_Q", (4, 128, 32)), fans("blocks.0.attn.W_O", (4, 32, 128))
        ((128, 128), (128, 128))
    """
    axes = row_axes(name)
    fan_in = math.prod(shape[axis] for axis in axes)
    return fan_in, math.prod(shape) // fan_in


def parameter_kind(name: str) -> str:
    """What a parameter is by the end of its name, without the underscore that shared keys and values begin with.

    Example:
        >>> parameter_kind("blocks.0.attn.W_K")
        'W_K'
    """
    return name.rsplit(".", 1)[-1].lstrip("_")


def _part(model: HookedModel, part: str, parameters: Mapping[str, Any], *, group: str) -> list[str]:
    """The parameters of one part of a group; an error if it is missing in a layer that should have it."""
    names: list[str] = []
    layers = range(model.cfg.n_layers) if "LAYER" in PARTS[part] else [0]
    for layer in layers:
        pattern = re.compile(PARTS[part].replace("LAYER", str(layer)))
        matched = [name for name in parameters if pattern.fullmatch(name)]
        if not matched and not _may_lack(model, part):
            place = f" in layer {layer}" if "LAYER" in PARTS[part] else ""
            raise ValueError(
                f"group {group!r} needs {part}, but the model has none{place}; it has {', '.join(parameters)}"
            )
        names += matched
    return names


def _may_lack(model: HookedModel, part: str) -> bool:
    """Whether a model of this kind is right to have no such parameters."""
    cfg = model.cfg
    if part == "embedding norm" or (part == "final norm" and cfg.attention_dir == "bidirectional"):
        return True  # of the two an encoder has the first, other models the second
    if part == "final norm" and any(name.endswith(LAST_NORM) for name in model.hook_dict):
        return True  # blocks that end in a norm leave nothing to normalise
    if part == "position embedding":
        return cfg.positional_embedding_type not in ("standard", "shortformer")
    if part.startswith("norms of what") and not getattr(cfg, "use_normalization_before_and_after", False):
        return True
    if cfg.attn_only and part in ("MLPs", "second norms"):
        return True
    # Blocks with attention and MLP side by side feed both from the first norm.
    if part == "second norms" and getattr(cfg, "parallel_attn_mlp", False):
        return True
    # LNPre and RMSPre, what weight processing leaves, divide by the norm and have nothing to train.
    return part.endswith(("norm", "norms")) and cfg.normalization_type not in ("LN", "RMS")
