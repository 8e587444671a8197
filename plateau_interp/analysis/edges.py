"""A model as a graph: what writes to its residual stream, what reads from it, and forwards in which edges are cut.

Writers are the embeddings, each head (what it adds, without the layer's bias) and each MLP; readers are the query, key
and value input of each head, each MLP's input and the logits. Every writer has an edge to every reader after it. To cut
an edge is to give one reader another value of one writer, while all others go on reading the writer as it is (path
patching: Wang et al. 2022, arXiv 2211.00593; cut edges: Conmy et al. 2023, arXiv 2304.14997). Circuits are in
`plateau_interp.analysis.circuits`.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from einops import einsum, rearrange, repeat
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from plateau_interp.checks import one_of, shown
from plateau_interp.interventions.derivatives import gradients_as_they_are
from plateau_interp.interventions.hook_points import has_hooks
from plateau_interp.interventions.padding import layout_of
from plateau_interp.types import HookedModel

__all__ = ["CutModel", "EdgeAblation", "Graph", "Metric", "attention_biases", "cutting", "graph_of", "one_number"]

Metric = Callable[[Tensor], Tensor | float]
"""From logits ``[batch, pos, d_vocab]`` to one number."""
EdgeAblation = Literal["resample", "mean", "zero"]
"""What a cut edge carries: the writer's value on the corrupted input, its mean at that position, or zero."""

READER_FLAGS = ("use_split_qkv_input", "use_hook_mlp_in")
"""Of a TransformerLens configuration: whether readers have hook points of their own."""
NORMS = ("ln1.hook_scale", "ln2.hook_scale", "ln_final.hook_scale")
"""Where the norms in front of the readers divide; norms of queries and keys are inside a reader."""
SUM_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3, torch.bfloat16: 0.2, torch.float16: 0.05}
"""How far the sum of all writers may be from the residual stream, relative to its largest entry."""
WRITTEN_ENTRIES = 2**26
"""Of what all writers put out in a forward with copies: 256 MiB in float32."""


class _Writing(NamedTuple):
    """A hook point and the writers whose output it tells."""

    point: str
    start: int
    stop: int
    layer: int | None


class _Reading(NamedTuple):
    """A hook point and the readers whose input it is; they read the first ``upstream`` writers."""

    point: str
    start: int
    stop: int
    upstream: int


@dataclass(frozen=True)
class Graph:
    """The writers and readers of a model, in the order of its forward.

    Attributes:
        writers: names, such as ``embed``, ``L0H1``, ``MLP0``.
        readers: names, such as ``L0H1.q``, ``MLP0``, ``logits``; where queries share keys, ``L0KV0.k``.
        edges: which writer may be read by which reader.
    """

    writers: tuple[str, ...]
    readers: tuple[str, ...]
    edges: Bool[Tensor, "writer reader"]
    writings: tuple[_Writing, ...]
    readings: tuple[_Reading, ...]


def graph_of(model: HookedModel) -> Graph:
    """The graph of a model.

    Raises:
        ValueError: if it adds something else to its residual stream, or normalises what it adds.

    Example:
        >>> from plateau_interp import toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> graph = graph_of(toy_model(MovingWindowSum(n=4), d_model=16))
        >>> graph.writers, graph.readers
        (('embed', 'pos_embed', 'L0H0', 'MLP0'), ('L0H0.q', 'L0H0.k', 'L0H0.v', 'MLP0', 'logits'))
    """
    cfg = model.cfg
    writers, readers = ["embed"], list[str]()
    writings, readings = [_Writing("hook_embed", 0, 1, None)], list[_Reading]()

    def write(point: str, *names: str, layer: int | None = None) -> None:
        writings.append(_Writing(point, len(writers), len(writers) + len(names), layer))
        writers.extend(names)

    def read(point: str, *names: str, upstream: int) -> None:
        readings.append(_Reading(point, len(readers), len(readers) + len(names), upstream))
        readers.extend(names)

    if cfg.positional_embedding_type == "standard":
        write("hook_pos_embed", "pos_embed")
    elif cfg.positional_embedding_type == "shortformer":
        raise ValueError(
            "a model with shortformer positions reads them beside its residual stream: it has no such graph"
        )
    shared = cfg.n_key_value_heads is not None and not cfg.ungroup_grouped_query_attention
    for layer in range(cfg.n_layers):
        block, before = f"blocks.{layer}", len(writers)
        heads = [f"L{layer}H{head}" for head in range(cfg.n_heads)]
        keys = [f"L{layer}KV{head}" for head in range(cfg.n_key_value_heads)] if shared else heads
        for letter, names in (("q", heads), ("k", keys), ("v", keys)):
            read(f"{block}.hook_{letter}_input", *(f"{name}.{letter}" for name in names), upstream=before)
        write(f"{block}.attn.hook_z", *heads, layer=layer)
        if not cfg.attn_only:
            upstream = before if cfg.parallel_attn_mlp else len(writers)
            read(f"{block}.hook_mlp_in", f"MLP{layer}", upstream=upstream)
            write(f"{block}.hook_mlp_out", f"MLP{layer}")
    read(f"blocks.{cfg.n_layers - 1}.hook_resid_post", "logits", upstream=len(writers))
    edges = torch.zeros(len(writers), len(readers), dtype=torch.bool)
    for reading in readings:
        edges[: reading.upstream, reading.start : reading.stop] = True
    return Graph(tuple(writers), tuple(readers), edges, tuple(writings), tuple(readings))


@dataclass(eq=False)
class CutModel:
    """A model in the middle of a comparison: its forward on clean tokens, and what cut edges carry.

    Made by `cutting`, which closes it.

    Attributes:
        graph: of the model.
        clean: the metric of the whole model.
        ablated: the metric with every edge cut.
    """

    model: HookedModel
    graph: Graph
    tokens: Int[Tensor, "batch pos"]
    metric: Metric
    options: Mapping[str, Tensor]
    written: Float[Tensor, "writer batch pos d_model"]
    instead: Float[Tensor, "writer batch pos d_model"]
    scales: Mapping[str, Tensor]
    clean: float
    ablated: float

    @property
    def most_copies(self) -> int:
        """Copies of the batch that one forward may hold."""
        if has_hooks(self.model):
            return 1
        return max(1, WRITTEN_ENTRIES // self.written.numel())

    def difference(self) -> Float[Tensor, "writer batch pos d_model"]:
        """What an edge carries more when it is cut, by writer; in float32 at least, whatever the model's dtype."""
        precise = torch.promote_types(self.written.dtype, torch.float32)
        return self.instead.to(precise) - self.written.to(precise)

    @torch.no_grad()
    def metrics_when_cut(self, cut: Bool[Tensor, "copy writer reader #pos"]) -> Float[Tensor, " copy"]:
        """The metric of the model with some edges cut, for each of several choices; one forward holds them all."""
        n_copies = len(cut)
        tokens, options = self._copied(n_copies)
        read_now: dict[int, Tensor] = {}

        def note(act: Tensor, *, hook: Any, writing: _Writing) -> None:
            for offset, value in enumerate(_outputs(self.model, writing, act)):
                read_now[writing.start + offset] = value

        def reroute(act: Tensor, *, hook: Any, reading: _Reading) -> Tensor | None:
            here = cut[:, : reading.upstream, reading.start : reading.stop].to(act.device)
            concerned = here.flatten(2).any(dim=2).any(dim=0).nonzero().flatten().tolist()
            if not concerned:
                return None
            current = torch.stack([read_now[writer] for writer in concerned])
            change = repeat(self.instead[concerned], "w batch ... -> w (copy batch) ...", copy=n_copies) - current
            change = rearrange(change, "w (copy batch) pos d -> w copy batch pos d", copy=n_copies)
            weight = here[:, concerned].to(change.dtype).expand(-1, -1, -1, change.shape[3])
            moved = einsum(weight, change, "copy w read pos, w copy batch pos d -> copy batch pos read d")
            moved = rearrange(moved, "copy batch pos read d -> (copy batch) pos read d").to(act.dtype)
            return act + (moved if act.ndim == moved.ndim else moved.squeeze(2))

        hooks: list[tuple[str, Callable[..., Tensor | None]]]
        hooks = [(writing.point, partial(note, writing=writing)) for writing in self.graph.writings]
        hooks += [(reading.point, partial(reroute, reading=reading)) for reading in self.graph.readings]
        with self.model.hooks(fwd_hooks=[*hooks, *self.frozen(n_copies)]):
            logits = self.model(tokens, **options)
        return torch.stack([one_number(self.metric(copy)) for copy in torch.split(logits, len(self.tokens))])

    def frozen(self, n_copies: int = 1) -> list[tuple[str, Callable[..., Tensor]]]:
        """Hooks that give every norm the divisor that it had on the clean input; none if they are live."""

        def put(act: Tensor, *, hook: Any) -> Tensor:
            kept = repeat(self.scales[hook.name], "batch ... -> (copy batch) ...", copy=n_copies)
            return (kept.unsqueeze(2) if act.ndim > kept.ndim else kept).expand_as(act)

        return [(name, put) for name in self.scales]

    def _copied(self, n_copies: int) -> tuple[Tensor, dict[str, Tensor]]:
        tokens = self.tokens.repeat(n_copies, 1)
        return tokens, {name: value.repeat(n_copies, 1) for name, value in self.options.items()}


@contextmanager
def cutting(
    model: HookedModel,
    *,
    clean: Int[Tensor, "batch pos"],
    corrupted: Int[Tensor, "batch pos"] | None,
    metric: Metric,
    ablation: EdgeAblation,
    freeze_norms: bool,
    attention_mask: Shaped[Tensor, "batch pos"] | None = None,
) -> Iterator[CutModel]:
    """Make ready to cut a model's edges; hook points that readers need are on while the context is open.

    What is attached acts, but for edits of gradients: see `plateau_interp.interventions.derivatives`.

    Args:
        model: any HookedTransformer whose residual stream is the sum of its parts.
        clean: tokens.
        corrupted: tokens of the same shape, for ``ablation="resample"``.
        metric: of logits.
        ablation: what cut edges carry.
        freeze_norms: whether norms divide by what they divide by on the clean input.
        attention_mask: 1 for tokens, 0 for padding, the same for both.

    Raises:
        ValueError: for another ablation; without corrupted tokens where they are needed; if the residual stream is not
            the sum of its parts, or the metric not one finite number.
    """
    one_of(EdgeAblation, ablation=ablation)
    if corrupted is None and ablation == "resample":
        raise ValueError('ablation="resample" needs corrupted tokens: what cut edges carry')
    options = {} if attention_mask is None else {"attention_mask": attention_mask.to(clean.device).int()}
    with _gates_open(model), gradients_as_they_are():
        with torch.no_grad():
            cut = _measured(model, clean, corrupted, metric, ablation, freeze_norms=freeze_norms, options=options)
        yield cut


def _measured(
    model: HookedModel,
    clean: Tensor,
    corrupted: Tensor | None,
    metric: Metric,
    ablation: EdgeAblation,
    *,
    freeze_norms: bool,
    options: Mapping[str, Tensor],
) -> CutModel:
    """One forward on the clean tokens, and what else tells what cut edges carry and what comes of cutting them all."""
    graph, scales = graph_of(model), dict[str, Tensor]()
    points = [name for name in model.hook_dict if name.endswith(NORMS)] if freeze_norms else []
    with model.hooks(fwd_hooks=[(name, partial(_keep_scale, scales=scales)) for name in points]):
        written, value = _write(model, graph, clean, metric, options)
    ablated = float("nan")
    if ablation == "resample" and corrupted is not None:
        instead, ablated = _write(model, graph, corrupted, metric, options)
    elif ablation == "mean":
        instead = _means(written, options.get("attention_mask"))
    else:
        instead = torch.zeros_like(written)
    cut = CutModel(model, graph, clean, metric, options, written, instead, scales, value, ablated)
    if ablation != "resample" or freeze_norms:  # otherwise with every edge cut it reads the corrupted tokens
        cut.ablated = float(cut.metrics_when_cut(graph.edges[None, :, :, None])[0])
    return cut


@contextmanager
def _gates_open(model: HookedModel) -> Iterator[None]:
    """Have the model make an input for each reader; afterwards it is as it was."""
    before = {gate: getattr(model.cfg, gate) for gate in READER_FLAGS}
    try:
        for gate in READER_FLAGS:
            setattr(model.cfg, gate, True)
        yield
    finally:
        for gate, value in before.items():
            setattr(model.cfg, gate, value)


def _outputs(model: HookedModel, writing: _Writing, act: Tensor) -> Float[Tensor, "writer batch pos d_model"]:
    """What writers add to the residual stream, from the activation that tells it."""
    if writing.layer is None:
        return act[None]
    module: Any = model
    weight: Tensor = module.blocks[writing.layer].attn.W_O
    return einsum(act, weight, "batch pos head d_head, head d_head d_model -> head batch pos d_model")


def _write(
    model: HookedModel, graph: Graph, tokens: Tensor, metric: Metric, options: Mapping[str, Tensor]
) -> tuple[Tensor, float]:
    """What every writer adds in a forward, and the metric; the sum is compared with the residual stream."""
    outputs: dict[int, Tensor] = {}
    end: list[Tensor] = []

    def note(act: Tensor, *, hook: Any, writing: _Writing) -> None:
        for offset, value in enumerate(_outputs(model, writing, act)):
            outputs[writing.start + offset] = value.detach().expand(len(tokens), -1, -1)

    hooks: list[tuple[str, Callable[..., Any]]]
    hooks = [(writing.point, partial(note, writing=writing)) for writing in graph.writings]
    hooks.append((graph.readings[-1].point, lambda act, *, hook: end.append(act.detach())))
    with model.hooks(fwd_hooks=hooks):
        logits = model(tokens, **options)
    written = torch.stack([outputs[writer] for writer in range(len(graph.writers))])
    _check_sum(model, written, end[0])
    return written, float(one_number(metric(logits)))


def attention_biases(model: HookedModel) -> Float[Tensor, " d_model"]:
    """The biases of all attention layers: what is added to the residual stream and is no writer's."""
    module: Any = model
    return torch.stack([block.attn.b_O.detach() for block in module.blocks]).sum(dim=0)


def _check_sum(model: HookedModel, written: Tensor, end: Tensor) -> None:
    if not end.isfinite().all():
        raise ValueError("the model's hidden states are NaN or infinite: there are no edges to score")
    off = float((written.sum(dim=0) + attention_biases(model) - end).abs().max() / end.abs().max().clamp_min(1e-30))
    if not off <= SUM_TOLERANCE.get(end.dtype, 1e-3):
        raise ValueError(
            "the residual stream is not the sum of embeddings, heads and MLPs: it is off by a share of "
            f"{off:.2g}. Models that normalise what a layer adds (OLMo 2, Gemma 2 and 3) have no edges per head, nor "
            "has a model under an edit of the residual stream itself"
        )


def _means(
    written: Float[Tensor, "writer batch pos d_model"], attention_mask: Shaped[Tensor, "batch pos"] | None
) -> Float[Tensor, "writer batch pos d_model"]:
    """Each writer's mean over the batch, by position in each sequence; of padding what it writes there."""
    layout = None if attention_mask is None else layout_of(attention_mask.to(written.device))
    if layout is None:
        return written.mean(dim=1, keepdim=True).expand_as(written)
    act = rearrange(written, "writer batch pos d -> batch pos writer d")
    return rearrange(layout.placed(layout.mean(act), act), "batch pos writer d -> writer batch pos d")


def _keep_scale(act: Tensor, *, hook: Any, scales: dict[str, Tensor]) -> None:
    # On a clean input every head's copy of the residual stream has the same norm.
    scales[hook.name] = act.detach()[:, :, 0] if act.ndim == 4 else act.detach()


def one_number(measured: Any) -> Tensor:
    """What a metric gave, as a tensor without axes, in float32 at least.

    Raises:
        ValueError: if it is not one finite number.
    """
    try:
        value = torch.as_tensor(measured)
    except (TypeError, ValueError, RuntimeError):  # whatever torch makes no tensor of
        raise ValueError(f"the metric must be one number; got {shown(measured)}") from None
    if value.numel() != 1:
        raise ValueError(f"the metric must be one number; got {tuple(value.shape)}")
    if not value.isfinite():
        raise ValueError(f"the metric must be finite; got {value.item()}")
    return value.reshape(()).to(torch.promote_types(value.dtype, torch.float32))
