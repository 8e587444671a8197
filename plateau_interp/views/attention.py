"""Attention maps to look at: of a tensor, a cache, or a run through training; in notebooks and as one offline file.

Maps of up to 128 tokens are CircuitsVis's attention pattern, framed by our own page: heads to click, a slider over the
checkpoints of a run next to its loss, target positions outlined, a legend that states the range of the colours. For
still pictures in a paper use `plateau_interp.views.curves.pattern_figure`.
"""

import base64
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plateau_interp.checks import as_index
from plateau_interp.interventions.capturing import Captured
from plateau_interp.types import Batch, HookedModel, Task, layer_targets
from plateau_interp.views.page import Page

__all__ = ["MAX_VALUES", "AttentionSource", "AttentionView", "Reading", "attention_view", "captured_patterns"]

MAX_VALUES = 400_000
"""Most attention values in a view: about 1 MB of the page, and what a browser draws in a moment."""
N_READINGS = 2
"""Ways in which a view shows a run: each has a value for each step, head, query and key."""
N_EXAMPLES = 64
"""Sequences of a run's fixed batch that the mean is taken over."""
CURVE_POINTS = 500
SHARE = "share of attention"


class AttentionSource(Protocol):
    """What a view needs of a run; `plateau_interp.runs.run.Run` is one."""

    @property
    def task(self) -> Task:
        """What the run learns."""
        ...

    @property
    def checkpoints(self) -> list[int]:
        """Steps whose weights are there, in order."""
        ...

    @property
    def metrics(self) -> pd.DataFrame:
        """At least ``step`` and ``loss``; may be empty."""
        ...

    def model(self, step: int | None = None) -> HookedModel:
        """The model at a step; None for the last."""
        ...


@dataclass(frozen=True, eq=False)
class Reading:
    """One way to look at the maps: the mean over a batch, or one sequence.

    Attributes:
        name: what the values are, in a few words.
        values: finite; above the diagonal they are shown if any of them is not 0.
        tokens: one text a position.
        targets: positions to outline, or None.
        kind: what a value measures; on a page, readings of one kind have one colour scale.
    """

    name: str
    values: Float[np.ndarray, "step head query key"] = field(repr=False)
    tokens: tuple[str, ...] = field(repr=False)
    targets: Bool[np.ndarray, "query key"] | None = field(default=None, repr=False)
    kind: str = "attention"

    def spec(self) -> dict[str, Any]:
        """Plain data: values as integers of at least four decimals, in base64; what is below 1e-300 is 0."""
        most = float(np.abs(self.values).max(initial=0.0))
        decimals = min(max(4, 3 - math.floor(math.log10(most))), 300) if most else 4  # 10.0**309 overflows
        whole = np.rint(self.values * 10.0**decimals)
        small = np.abs(whole).max(initial=0) <= np.iinfo(np.int16).max
        outlined = [] if self.targets is None else np.argwhere(self.targets).tolist()
        return {
            "name": self.name,
            "kind": self.kind,
            "tokens": list(self.tokens),
            "targets": outlined,
            "data": base64.b64encode(whole.astype("<i2" if small else "<i4").tobytes()).decode(),
            "bits": 16 if small else 32,
            "decimals": decimals,
            "range": round(most, decimals),
            "negative": bool((whole < 0).any()),
            "upper": bool(np.triu(self.values, 1).any()),
            "hint": "Hover or tap a cell." + (" Outlined: what the solution reads." if outlined else ""),
        }


@dataclass(frozen=True, eq=False)
class AttentionView:
    """An attention view; shows itself in Jupyter, VS Code and Colab. Made by `attention_view`.

    Attributes:
        title: first line.
        note: what is shown and how it was made.
        heads: a name for each head.
        readings: one or several ways to look, of the same steps and heads.
        steps: training steps, or None where there is no time.
        curve: step and loss of the run, levels by name, for the curve beside the slider; or None.
    """

    title: str
    note: str
    heads: tuple[str, ...]
    readings: tuple[Reading, ...] = field(repr=False)
    steps: tuple[int, ...] | None = None
    curve: Mapping[str, Any] | None = field(default=None, repr=False)

    @property
    def html(self) -> str:
        """One whole page that works with no network."""
        return Page([self], title=self.title).html

    def save(self, path: str | Path) -> Path:
        """Write the view as one HTML file that works with no network; returns its path."""
        return Page([self], title=self.title).save(path)

    def _repr_html_(self) -> str:
        return Page([self])._repr_html_()

    def relative_to(self, step: int) -> "AttentionView":
        """The same view of the changes since a step: each map minus the map at that step.

        Raises:
            ValueError: if the step is not in the view.
        """
        steps = self.steps or ()
        if step not in steps:
            raise ValueError(f"the view has no step {step}; it has {_listed(steps)}")
        at = steps.index(step)
        readings = tuple(
            replace(
                reading,
                name=f"{reading.name}, change since step {step}",
                kind=f"change of {reading.kind}",
                values=reading.values - reading.values[at],
            )
            for reading in self.readings
        )
        return replace(self, title=f"{self.title}: change since step {step}", readings=readings)

    def spec(self) -> dict[str, Any]:
        """The plain data that attention.js draws."""
        return {
            "title": self.title,
            "note": self.note,
            "heads": list(self.heads),
            "steps": None if self.steps is None else list(self.steps),
            "readings": [reading.spec() for reading in self.readings],
            "curve": self.curve,
        }

    def still(self) -> str:
        """The first head at the last step as a small picture, for where no script runs."""
        reading = self.readings[0]
        what = f"{self.title}, {self.heads[0]}" + (f", step {self.steps[-1]}" if self.steps else "")
        if not reading.tokens:
            return f"<p>{escape(what)}: no tokens</p>"
        source = base64.b64encode(_png(reading.values[-1, 0])).decode()
        return (
            f'<p>{escape(what)}</p><img class="pv-still" width="260" alt="attention map" '
            f'src="data:image/png;base64,{source}"><p><small>Still picture. The interactive view needs scripts and the '
            "output of the cell that drew the first view of this notebook: restart the kernel and run again if that "
            "cell is gone.</small></p>"
        )


def attention_view(
    source: Any,
    *,
    layer: int = 0,
    heads: int | Iterable[int] | None = None,
    steps: int | Iterable[int] | None = None,
    tokens: Sequence[str | int] | Int[Tensor, " query"] | None = None,
    run: AttentionSource | None = None,
) -> AttentionView:
    """Look at attention: of a tensor, a cache, or a run at one or many steps of its training.

    A run is shown on a fixed batch of 64 sequences in two ways: the mean share ``|A| / sum over keys |A|`` of each
    query's attention, which compares linear with softmax attention and early with late steps, and the pattern of the
    first sequence as it is, with signs. The weights are the checkpoint's; interventions of the run are not applied.
    What a `Capture` recorded is shown in the same two ways, on the training batch of each step, as it was recorded:
    after the interventions that came before the capture.

    Args:
        source: a `Run`, `Captured` steps, an `ActivationCache` (its first sequence is shown), or a pattern
            ``[head, query, key]`` or ``[layer, head, query, key]``.
        layer: which layer.
        heads: which head or heads; all by default.
        steps: of a run or of captured steps: which to show, with a slider if there are several; the last by default.
        tokens: for a tensor or cache, a text for each position (the positions by default); for a run, token ids of
            one input to show in place of the fixed batch.
        run: of captured steps: the run they were captured in, for its loss beside the slider and its target positions.

    Returns:
        A view that shows itself in notebooks; ``save(path)`` writes it as one file.

    Raises:
        ValueError: for a shape that is no pattern, values that are complex, NaN or infinite, a layer, head or step
            that does not exist or is no whole number, the wrong number of tokens, captured patterns of another size
            than the run's, or more than `MAX_VALUES` values.

    Example:
        >>> view = attention_view(torch.rand(2, 4, 4).tril(), tokens=["a", "b", "c", "d"])
        >>> view.heads
        ('head 0', 'head 1')
        >>> path = view.save("attention.html")  # doctest: +SKIP
    """
    layer = _whole_number("layer", layer)
    heads = None if heads is None else whole_numbers("heads", heads)
    steps = None if steps is None else whole_numbers("steps", steps)
    if all(hasattr(source, name) for name in ("checkpoints", "model", "task")):
        return _of_run(source, layer=layer, heads=heads, steps=steps, tokens=tokens)
    listed = tokens.tolist() if isinstance(tokens, Tensor) else tokens
    texts = None if listed is None else [str(token) for token in listed]
    if isinstance(source, Captured):
        return _of_captured(source, layer=layer, heads=heads, steps=steps, tokens=texts, run=run)
    for name, given in (("steps", steps), ("run", run)):
        if given is not None:
            raise ValueError(f"{name} needs a run or captured steps as the source; got a {type(source).__name__}")
    note = "Rows are queries, columns keys."
    if not isinstance(source, Tensor):
        source, sequences = _from_cache(source, layer)
        note += f" First of {sequences} sequences." if sequences > 1 else ""
    elif source.ndim == 4:
        _check_index("layer", layer, len(source))
        source = source[layer]
    elif source.ndim != 3:
        raise ValueError(
            f"a pattern is [head, query, key] or [layer, head, query, key]; got shape {tuple(source.shape)}"
        )
    elif layer != 0:
        raise ValueError(f"layer={layer} needs a pattern [layer, head, query, key]; got shape {tuple(source.shape)}")
    chosen = _chosen(heads, source.shape[0])
    reading = _reading("as it is", [source[chosen]], texts)
    return _checked(
        AttentionView(f"Attention, layer {layer}", note, tuple(f"head {head}" for head in chosen), (reading,))
    )


def captured_patterns(
    model: HookedModel, tokens: Int[Tensor, "batch query"], *, layer: int = 0
) -> Float[Tensor, "batch head query key"]:
    """A layer's attention pattern on some inputs, under whatever hooks the model has.

    Example:
        >>> from plateau_interp.models import toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> captured_patterns(toy_model(MovingWindowSum(), d_model=16), torch.ones(2, 5, dtype=torch.long)).shape
        torch.Size([2, 1, 5, 5])
    """
    _check_index("layer", layer, model.cfg.n_layers)
    return captured_at(model, tokens, f"blocks.{layer}.attn.hook_pattern")


def mean_shares(
    run: AttentionSource, steps: Iterable[int], *, layer: int = 0
) -> tuple[Float[np.ndarray, "step head query key"], Bool[np.ndarray, "query key"] | None]:
    """The share of attention that a view of a run shows, of any size, and the positions to outline.

    Args:
        run: its checkpoints are read; its interventions are not applied.
        steps: checkpoints.
        layer: which layer.

    Returns:
        ``|A| / sum over keys |A|``, mean over the fixed batch; and the target positions, if all sequences share them.
    """
    inputs, targets = _inputs(run, layer, None)
    shares = [_mean_share(captured_patterns(run.model(step), inputs, layer=layer)) for step in steps]
    outlined = _shared_map(targets)
    return torch.stack(shares).double().cpu().numpy(), None if outlined is None else outlined.cpu().numpy()


def captured_at(model: HookedModel, tokens: Int[Tensor, "batch query"], name: str) -> Tensor:
    """What one hook point sees of some inputs, under whatever hooks the model has."""
    seen: list[Tensor] = []

    def keep(act: Tensor, hook: object) -> None:
        seen.append(act.detach())

    with torch.no_grad(), model.hooks(fwd_hooks=[(name, keep)]):
        model(tokens)
    return seen[0]


def _of_run(
    run: AttentionSource,
    *,
    layer: int,
    heads: Sequence[int] | None,
    steps: Sequence[int] | None,
    tokens: Sequence[str | int] | Tensor | None,
) -> AttentionView:
    if not run.checkpoints:
        raise ValueError(f"{run!r} has no checkpoint yet: there are no weights to look at")
    at_steps = chosen_steps(steps, run.checkpoints, "checkpoint of step")
    inputs, targets = _inputs(run, layer, tokens)
    shares: list[Tensor] = []
    firsts: list[Tensor] = []
    chosen, kind = [0], "linear"
    for step in at_steps:
        model = run.model(step)
        kind = getattr(model, "attention", "softmax")
        pattern = captured_patterns(model, inputs, layer=layer)
        chosen = _chosen(heads, pattern.shape[1])
        firsts.append(pattern[0, chosen])
        shares.append(_mean_share(pattern)[chosen])
    texts = run.task.tokens_to_text(inputs[0])
    name = "first sequence, as it is" if len(inputs) > 1 else "this input"
    one = _reading(name, firsts, texts, _first_map(targets))
    readings = [one]
    note = f"{kind.capitalize()} attention of {type(run.task).__name__}, weights of the checkpoint. "
    if len(inputs) > 1:
        outlined = _shared_map(targets)
        share = _reading(f"share of attention, mean of {len(inputs)}", shares, None, outlined, kind=SHARE)
        readings = [share, one]
        note += _explained(f"{len(inputs)} fixed sequences")
    if getattr(getattr(run, "recipe", None), "interventions", ()):
        note += "The interventions of the run are not applied. "
    return _checked(
        AttentionView(
            title=_title(run, layer, through_training=len(at_steps) > 1),
            note=note + "Rows are queries, columns keys.",
            heads=tuple(f"head {head}" for head in chosen),
            readings=tuple(readings),
            steps=tuple(at_steps),
            curve=_curve(run) if len(at_steps) > 1 else None,
        )
    )


def _of_captured(
    captured: Captured,
    *,
    layer: int,
    heads: Sequence[int] | None,
    steps: Sequence[int] | None,
    tokens: Sequence[str] | None,
    run: AttentionSource | None,
) -> AttentionView:
    name = f"blocks.{layer}.attn.hook_pattern"
    recorded = [step for step in captured.steps if name in captured.names(step)]
    if not recorded:
        there = sorted({name for step in captured.steps for name in captured.names(step)})
        raise ValueError(f"{captured.path} holds no {name}; it holds {', '.join(there) or 'nothing'}")
    at_steps = chosen_steps(steps, recorded, "captured step")
    shares: list[Tensor] = []
    firsts: list[Tensor] = []
    shape = captured[at_steps[0], name].shape
    chosen = _chosen(heads, shape[1])
    sizes = set()
    for step in at_steps:
        pattern = captured[step, name]
        sizes.add(len(pattern))
        if pattern.shape[1:] != shape[1:]:  # the batch may differ: the last of an epoch is smaller
            raise ValueError(
                f"the captured patterns differ in shape: {tuple(shape)} at step {at_steps[0]}, "
                f"{tuple(pattern.shape)} at step {step}"
            )
        firsts.append(pattern[0, chosen])
        shares.append(_mean_share(pattern)[chosen])
    targets = None
    if run is not None:
        n_inputs = fixed_batch(run.task).inputs.shape[1]
        if shape[2:] != (n_inputs, n_inputs):
            raise ValueError(
                f"the captured patterns are {tuple(shape[2:])} [query, key], those of the run {(n_inputs, n_inputs)}: "
                "it is not the run that they were captured in"
            )
    if run is not None and run.checkpoints:
        targets = _shared_map(_inputs(run, layer, None)[1])
    size = " to ".join(str(size) for size in sorted({min(sizes), max(sizes)}))
    readings = (
        _reading(f"share of attention, mean of {size}", shares, tokens, targets, kind=SHARE),
        _reading("first sequence, as it is", firsts, tokens, targets),
    )
    return _checked(
        AttentionView(
            title=f"{captured.path.name}: captured attention, layer {layer}",
            note=f"Captured in training, after the edits that came before. {_explained(f'{size} sequences')}"
            "Each step has sequences of its own. Rows are queries, columns keys.",
            heads=tuple(f"head {head}" for head in chosen),
            readings=readings,
            steps=tuple(at_steps),
            curve=_curve(run) if run is not None and len(at_steps) > 1 else None,
        )
    )


def _mean_share(pattern: Float[Tensor, "batch head query key"]) -> Float[Tensor, "head query key"]:
    """Mean over the sequences of |A| over its sum along the keys; 0 for a query without attention."""
    total = pattern.abs().sum(dim=-1, keepdim=True)
    return (pattern.abs() / total.clamp(min=torch.finfo(pattern.dtype).tiny)).mean(dim=0)


def _explained(sequences: str) -> str:
    return (
        f"Share of attention: |A| divided by its sum over the keys of a query, mean over {sequences}. "
        "First sequence: A of the first of them, as it is. "
    )


def fixed_batch(task: Task) -> Batch:
    """The sequences that a run is shown on."""
    return task.sample(N_EXAMPLES, generator=torch.Generator().manual_seed(0))


def _inputs(
    run: AttentionSource, layer: int, tokens: Sequence[str | int] | Tensor | None
) -> tuple[Int[Tensor, "batch query"], Bool[Tensor, "#batch query key"] | None]:
    """What the model reads, and the target positions of the layer."""
    task = run.task
    n_layers = run.model(run.checkpoints[-1]).cfg.n_layers
    _check_index("layer", layer, n_layers)
    if tokens is None:
        batch = fixed_batch(task)
        return batch.inputs, layer_targets(task, batch, n_layers=n_layers)[layer]
    if not isinstance(tokens, Tensor) or tokens.ndim != 1 or tokens.is_floating_point():
        raise ValueError("tokens of a run are the token ids of one input, an integer tensor [query]")
    if not 1 <= len(tokens) <= task.n_pos:
        raise ValueError(f"tokens must hold 1 to {task.n_pos} ids, the task's positions; got {len(tokens)}")
    if tokens.min() < 0 or tokens.max() >= task.d_vocab:
        raise ValueError(f"token ids must be between 0 and {task.d_vocab - 1}; got {tokens.tolist()}")
    targets = None
    if len(tokens) == task.n_pos:
        targets = layer_targets(task, Batch(tokens[None], tokens[None, 1:]), n_layers=n_layers)[layer]
        tokens = tokens[:-1]
    return tokens[None], targets


def _from_cache(cache: Any, layer: int) -> tuple[Float[Tensor, "head query key"], int]:
    """The layer's pattern of the first sequence, and how many sequences there are."""
    name = f"blocks.{layer}.attn.hook_pattern"
    try:
        pattern = cache[name]
    except (KeyError, TypeError, IndexError):
        keys = [str(key) for key in cache] if isinstance(cache, Iterable) else []
        there = [key for key in keys if key.endswith("hook_pattern")]
        raise ValueError(
            f"no {name} in a {type(cache).__name__}; patterns there: {', '.join(there) or 'none'}. A source is a run, "
            "a cache or a tensor [head, query, key]"
        ) from None
    if pattern.ndim == 3:
        return pattern, 1
    if pattern.ndim != 4 or not len(pattern):
        raise ValueError(f"{name} should be [batch, head, query, key]; got shape {tuple(pattern.shape)}")
    return pattern[0], len(pattern)


def _reading(
    name: str,
    maps: Sequence[Tensor],
    tokens: Sequence[str] | None,
    targets: Bool[Tensor, "query key"] | None = None,
    *,
    kind: str = "attention",
) -> Reading:
    """A reading of one map a step, checked."""
    shape = tuple(maps[0].shape)
    if len(shape) != 3 or shape[1] != shape[2]:
        raise ValueError(f"a pattern is [head, query, key] with as many queries as keys; got shape {shape}")
    n_values = len(maps) * math.prod(shape)
    if n_values > MAX_VALUES:
        raise ValueError(
            f"{n_values:,} attention values are too many for a page (at most {MAX_VALUES:,}): choose heads=[...], "
            "fewer steps, or a part of the tokens"
        )
    if maps[0].is_complex():
        raise ValueError(f"a pattern must be real; got {maps[0].dtype}: show its absolute value or one of its parts")
    values = torch.stack([pattern.detach().double().cpu() for pattern in maps]).numpy()
    if not np.isfinite(values).all():
        _step, head, query, key = np.argwhere(~np.isfinite(values))[0]
        raise ValueError(
            f"a pattern must be finite; head {head}, query {query}, key {key} is {values[_step, head, query, key]}"
        )
    if np.abs(values).max(initial=0.0) > 1e5:
        raise ValueError(f"values up to {np.abs(values).max():.3g} are no attention pattern; are these raw scores?")
    texts = tuple(str(position) for position in range(shape[1])) if tokens is None else tuple(tokens)
    if len(texts) != shape[1]:
        raise ValueError(f"a pattern of {shape[1]} positions needs {shape[1]} tokens; got {len(texts)}")
    return Reading(name, values, texts, None if targets is None else targets.cpu().numpy(), kind)


def _checked(view: AttentionView) -> AttentionView:
    n_values = sum(reading.values.size for reading in view.readings)
    if n_values > MAX_VALUES:
        raise ValueError(
            f"{n_values:,} attention values are too many for a page (at most {MAX_VALUES:,}): choose heads=[...] or "
            "fewer steps"
        )
    return view


def chosen_steps(steps: Sequence[int] | None, there: Sequence[int], what: str) -> list[int]:
    """The steps asked for, the last one for None; a ValueError names the nearest if one is not there."""
    chosen = [there[-1]] if steps is None else list(steps)
    if not chosen:
        raise ValueError("steps is empty; leave it out for the last step there is")
    for step in chosen:
        if step not in there:
            nearest = min(there, key=lambda other: abs(other - step))
            raise ValueError(f"there is no {what} {step}; the nearest is {nearest}")
    return chosen


def whole_numbers(name: str, given: Any) -> list[int]:
    """One number or several as a list of int; a ValueError for what is no whole number."""
    if isinstance(given, Iterable) and not isinstance(given, str) and getattr(given, "ndim", None) != 0:
        return [_whole_number(name, number) for number in given]
    return [_whole_number(name, given)]


def _whole_number(name: str, number: Any) -> int:
    """An int, also from NumPy or PyTorch; a truth value is none."""
    try:
        return as_index(number)
    except TypeError:
        raise ValueError(f"{name} must be given in whole numbers; got {number!r}") from None


def _chosen(heads: Sequence[int] | None, n_heads: int) -> list[int]:
    chosen = list(range(n_heads)) if heads is None else list(heads)
    if not chosen:
        raise ValueError("there is no head to show" if heads is None else "heads is empty; leave it out for all heads")
    for head in chosen:
        _check_index("head", head, n_heads)
    return chosen


def _check_index(name: str, index: int, size: int) -> None:
    if not 0 <= index < size:
        raise ValueError(f"{name} {index} does not exist; there are {name}s 0 to {size - 1}")


def _first_map(targets: Tensor | None) -> Tensor | None:
    return None if targets is None else targets[0]


def _shared_map(targets: Tensor | None) -> Tensor | None:
    """The target positions, unless they differ between the sequences."""
    return targets[0] if targets is not None and len(targets) == 1 else None


def _curve(run: AttentionSource) -> dict[str, Any] | None:
    metrics = run.metrics
    if metrics.empty:
        return None
    thinned = metrics.iloc[:: max(1, math.ceil(len(metrics) / CURVE_POINTS))]
    levels = run.task.levels
    named = (("plateau", levels.plateau), ("floor", levels.floor))
    return {
        "step": [int(step) for step in thinned["step"]],
        "loss": [round(float(loss), 4) for loss in thinned["loss"]],
        "levels": [[name, round(level, 4)] for name, level in named if level is not None],
    }


def _title(run: AttentionSource, layer: int, *, through_training: bool) -> str:
    path = getattr(run, "path", None)
    name = f"{path.name}: attention" if isinstance(path, Path) else "Attention"
    return f"{name}{' through training' if through_training else ''}, layer {layer}"


def _listed(steps: Sequence[int]) -> str:
    return ", ".join(map(str, steps)) or "none"


def _png(pattern: Float[np.ndarray, "query key"]) -> bytes:
    """A map as a PNG of one pixel a cell: white is 0, blue positive, red negative."""
    import matplotlib.image

    share = pattern / (np.abs(pattern).max(initial=0.0) or 1.0)
    ends = np.where(share[..., None] >= 0, np.array([10, 92, 158]), np.array([194, 65, 12])) / 255.0
    pixels = 1.0 - np.abs(share)[..., None] * (1.0 - ends)
    buffer = io.BytesIO()
    matplotlib.image.imsave(buffer, pixels, format="png")
    return buffer.getvalue()
