"""Attention maps to look at: of a tensor, a cache, a model, a run through training, or a series of checkpoints.

`attention_view` is the one function; each kind of source has its part below. Maps of up to 128 tokens are CircuitsVis's
attention pattern, framed by our own page: heads to click, a slider over the checkpoints of a run next to its loss,
target positions outlined, a legend that states the range of the colours. For still pictures in a paper use
`plateau_interp.views.pattern_figure`; for the numbers `plateau_interp.analysis.observing`.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plateau_interp.analysis.observing import (
    Checkpointed,
    Observations,
    captured_patterns,
    fixed_batch,
    mean_share,
    shared_map,
)
from plateau_interp.checks import there_steps, whole_number, whole_numbers
from plateau_interp.files import readable
from plateau_interp.interventions.capturing import Captured
from plateau_interp.interventions.hook_points import pattern_name, resolve_indices
from plateau_interp.positions import layer_targets, read_length
from plateau_interp.series.folder import SeriesFolder
from plateau_interp.types import Batch, HookedModel, OfText, Reader, Task
from plateau_interp.views.panels import loss_curve
from plateau_interp.views.readings import ROWS, AttentionView, checked_view, head_names, reading
from plateau_interp.views.series_attention import series_attention_view

__all__ = ["N_READINGS", "attention_view", "observed_view"]

N_READINGS = 2
"""Ways in which a view shows a run: each has a value for each step, head, query and key."""
SHARE_KIND = "share of attention"

Tokens = str | Sequence[str | int] | Int[Tensor, "..."]


@runtime_checkable
class RunToView(Protocol):
    """What a view tells of a run that is a folder with a recipe; `plateau_interp.runs.run.Run` is one."""

    path: Path
    recipe: Any


@runtime_checkable
class Hooked(Protocol):
    """A TransformerLens model, by what a view needs of it."""

    hook_dict: Any


def attention_view(
    source: Any,
    tokens: Tokens | None = None,
    *,
    layer: int = 0,
    heads: int | Iterable[int] | None = None,
    steps: int | Iterable[int] | None = None,
    run: Checkpointed | None = None,
) -> AttentionView:
    """Look at attention: of a tensor, a cache, a model, or a run at one or many steps of its training.

    A run is shown on a fixed batch of 64 sequences in two ways: the mean share ``|A| / sum over keys |A|`` of each
    query's attention, which compares linear with softmax attention and early with late steps, and the pattern of the
    first sequence as it is, with signs. The weights are the checkpoint's; interventions of the run are not applied.
    What a `Capture` recorded is shown in the same two ways, on the training batch of each step, as it was recorded:
    after the interventions that came before the capture. Of a `SeriesFolder` it is what was kept of the first prompt.

    Args:
        source: a `Run`, a `SeriesFolder`, `Captured` steps, a model, an `ActivationCache` (its first sequence is
            shown), or a pattern ``[head, query, key]`` or ``[layer, head, query, key]``.
        tokens: for a model, the token ids ``[query]`` or ``[batch, query]`` to run it on (the first sequence is shown),
            or a text if it has a tokenizer; what is attached to the model acts. For a tensor or cache, a text for
            each position (the positions by default); for a run, token ids of one input to show in place of the fixed
            batch, or of a run on text a text.
        layer: which layer.
        heads: which head or heads; all by default.
        steps: of a run, a series or captured steps: which to show, with a slider if several; the last by default.
        run: of captured steps: the run they were captured in, for its loss beside the slider and its target positions.

    Returns:
        A view that shows itself in notebooks; ``save(path)`` writes it as one file.

    Raises:
        ValueError: for a shape that is no pattern, values that are complex, NaN or infinite, a layer, head or step
            that does not exist or is no whole number, the wrong number of tokens, tokens that the model cannot read,
            captured patterns of another size than the run's, or more than `readings.MAX_VALUES` values.

    Example:
        >>> view = attention_view(torch.rand(2, 4, 4).tril(), tokens=["a", "b", "c", "d"])
        >>> view.heads
        ('head 0', 'head 1')
        >>> path = view.save("attention.html")  # doctest: +SKIP
    """
    layer = whole_number("layer", layer)
    heads = None if heads is None else whole_numbers("heads", heads)
    steps = None if steps is None else whole_numbers("steps", steps)
    if isinstance(source, Checkpointed):
        return _of_run(source, tokens, layer=layer, heads=heads, steps=steps)
    if isinstance(source, Captured):
        return _captured_view(source, _texts(tokens), layer=layer, heads=heads, steps=steps, run=run)
    if isinstance(source, SeriesFolder):
        if tokens is not None or run is not None:
            raise ValueError("of a series attention is shown on its first prompt; tokens and run are for other sources")
        return series_attention_view(source, layers=[layer], heads=heads, steps=steps)
    for name, given in (("steps", steps), ("run", run)):
        if given is not None:
            raise ValueError(
                f"{name} needs a run, a series or captured steps as the source; got a {type(source).__name__}"
            )
    if isinstance(source, torch.nn.Module):
        patterns, texts = _run_once(source, tokens, layer)
    else:
        patterns = _of_layer(source, layer) if isinstance(source, Tensor) else _from_cache(source, layer)
        texts = _texts(tokens)
    chosen = _chosen(heads, patterns.shape[1])
    shown = reading("as it is", [patterns[0, chosen]], texts)
    note = ROWS + (f" First of {len(patterns)} sequences." if len(patterns) > 1 else "")
    return checked_view(AttentionView(f"Attention, layer {layer}", note, head_names(chosen), (shown,)))


def observed_view(
    seen: Observations,
    *,
    layer: int,
    steps: Sequence[int],
    heads: Sequence[int] | None = None,
    targets: Bool[Tensor, "#batch query key"] | None = None,
    name: str | None = None,
) -> AttentionView:
    """The view of a run from what was observed of it already.

    Args:
        seen: of the run, this layer included.
        layer: which layer.
        steps: checkpoints.
        heads: which heads; all by default.
        targets: positions to outline: those of the first sequence in its own reading, and in that of the mean if they
            are the same for all.
        name: of the run in the title; by default that of its folder.

    Example:
        >>> from plateau_interp import Run
        >>> seen = Observations(Run("runs/mws"))  # doctest: +SKIP
        >>> observed_view(seen, layer=0, steps=[0, 100], targets=seen.targets(0, 0))  # doctest: +SKIP
    """
    run, inputs, several = seen.run, seen.batch.inputs, len(steps) > 1
    shares = [seen[step].shares[layer] for step in steps]
    chosen = _chosen(heads, len(shares[0]))
    as_it_is = "first sequence, as it is" if len(inputs) > 1 else "this input"
    firsts, tokens = [seen[step].firsts[layer][chosen] for step in steps], run.task.tokens_to_text(inputs[0])
    readings = [reading(as_it_is, firsts, tokens, None if targets is None else targets[0])]
    kind = _attention_kind(seen[steps[-1]].model)
    note = f"{kind} attention of {type(run.task).__name__}, weights of the checkpoint. "
    if len(inputs) > 1:
        of_all = f"share of attention, mean of {len(inputs)}"
        shares = [each[chosen] for each in shares]
        readings.insert(0, reading(of_all, shares, None, shared_map(targets), kind=SHARE_KIND))
        note += _explained(f"{len(inputs)} fixed sequences")
    title = f"{name or readable(run.path.name)}: attention" if isinstance(run, RunToView) else "Attention"
    title += f"{' through training' if several else ''}, layer {layer}"
    if isinstance(run, RunToView) and run.recipe.interventions:
        note += "The interventions of the run are not applied. "
        title += ", without its interventions"
    return checked_view(
        AttentionView(
            title=title,
            note=note + ROWS,
            heads=head_names(chosen),
            readings=tuple(readings),
            steps=tuple(steps),
            curve=loss_curve(run) if several else None,
            layer=layer,
        )
    )


def _of_run(
    run: Checkpointed,
    tokens: Any,
    *,
    layer: int,
    heads: Sequence[int] | None,
    steps: Sequence[int] | None,
) -> AttentionView:
    if not run.checkpoints:
        raise ValueError(f"{run!r} has no checkpoint yet: there are no weights to look at")
    at_steps = there_steps(run.checkpoints[-1:] if steps is None else steps, run.checkpoints, "checkpoint of step")
    batch, whole = (fixed_batch(run.task), True) if tokens is None else _one_input(run.task, tokens)
    seen = Observations(run, batch=batch, layers=[layer])
    targets = seen.targets(layer, at_steps[-1]) if whole else None
    return observed_view(seen, layer=layer, steps=at_steps, heads=heads, targets=targets)


def _one_input(task: Task, tokens: Any) -> tuple[Batch, bool]:
    """A batch of one input, and whether its answer is known: then there are target positions."""
    if isinstance(tokens, str) and isinstance(task, OfText):
        tokens = torch.tensor(task.tokenizer(tokens)["input_ids"], dtype=torch.long)
    if not isinstance(tokens, Tensor) or tokens.ndim != 1 or tokens.is_floating_point():
        raise ValueError("tokens of a run are the token ids of one input, an integer tensor [query]")
    if not 1 <= len(tokens) <= task.n_pos:
        raise ValueError(f"tokens must hold 1 to {task.n_pos} ids, the task's positions; got {len(tokens)}")
    if tokens.min() < 0 or tokens.max() >= task.d_vocab:
        raise ValueError(f"token ids must be between 0 and {task.d_vocab - 1}; got {tokens.tolist()}")
    whole = len(tokens) == task.n_pos
    if not whole:
        tokens = torch.cat([tokens, tokens[-1:].repeat(task.lookahead)])  # those that a batch's inputs leave out
    return Batch(tokens[None], tokens[None, task.lookahead :]), whole


def _captured_view(
    captured: Captured,
    texts: Sequence[str] | None,
    *,
    layer: int,
    heads: Sequence[int] | None,
    steps: Sequence[int] | None,
    run: Checkpointed | None,
) -> AttentionView:
    name = pattern_name(layer)
    recorded = [step for step in captured.steps if name in captured.names(step)]
    if not recorded:
        raise ValueError(_not_captured(captured, name))
    at_steps = there_steps(recorded[-1:] if steps is None else steps, recorded, "captured step")
    shape = captured[at_steps[0], name].shape
    chosen = _chosen(heads, shape[1])
    shares: list[Tensor] = []
    firsts: list[Tensor] = []
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
        shares.append(mean_share(pattern)[chosen])
    targets = None if run is None else _targets_of(run, layer, (shape[2], shape[3]))
    label = "" if captured.label is None else f" ({captured.label})"
    size = " to ".join(str(size) for size in sorted({min(sizes), max(sizes)}))
    readings = (
        reading(f"share of attention, mean of {size}", shares, texts, targets, kind=SHARE_KIND),
        reading("first sequence, as it is", firsts, texts, targets),
    )
    return checked_view(
        AttentionView(
            title=f"{readable(captured.path.name)}: captured attention{label}, layer {layer}",
            note=f"Captured in training, after the edits that came before. {_explained(f'{size} sequences')}"
            f"Each step has sequences of its own. {ROWS}",
            heads=head_names(chosen),
            readings=readings,
            steps=tuple(at_steps),
            curve=loss_curve(run) if run is not None and len(at_steps) > 1 else None,
            layer=layer,
        )
    )


def _not_captured(captured: Captured, name: str) -> str:
    """That a hook point was not recorded under the label that was asked for, and what was."""
    there = ", ".join(sorted({name for step in captured.steps for name in captured.names(step)})) or "nothing"
    if captured.label is not None:
        which, with_it = f" labelled {captured.label!r}", "with that label it holds"
    elif captured.labels:
        which, with_it = " without a label", "without one it holds"
    else:
        return f"{captured.path} holds no {name}; it holds {there}"
    return f"{captured.path} holds no {name}{which}; {with_it} {there}; labels are {captured.labels}"


def _targets_of(run: Checkpointed, layer: int, size: tuple[int, int]) -> Bool[Tensor, "query key"] | None:
    """The target positions of the run that patterns were captured in, if all sequences share them."""
    batch = fixed_batch(run.task)
    n_inputs = batch.inputs.shape[1]
    if size != (n_inputs, n_inputs):
        raise ValueError(
            f"the captured patterns are {size} [query, key], those of the run {(n_inputs, n_inputs)}: "
            "it is not the run that they were captured in"
        )
    if not run.checkpoints:
        return None
    n_layers = run.model(run.checkpoints[-1]).cfg.n_layers
    return shared_map(layer_targets(run.task, batch, n_layers=n_layers)[layer])


def _run_once(
    model: torch.nn.Module, tokens: Any, layer: int
) -> tuple[Float[Tensor, "batch head query key"], Sequence[str] | None]:
    """The layer's patterns of one forward, and a text for each position of the first sequence."""
    if not isinstance(model, Hooked):
        raise ValueError(f"a {type(model).__name__} has no hook points; attention is shown of TransformerLens models")
    hooked: Any = model
    ids = _token_ids(hooked, tokens)
    patterns = captured_patterns(hooked, ids, layer=layer)
    reader = isinstance(hooked, Reader) and hooked.tokenizer is not None
    return patterns, hooked.to_str_tokens(ids[0]) if reader else [str(token) for token in ids[0].tolist()]


def _token_ids(model: HookedModel, tokens: Any) -> Int[Tensor, "batch query"]:
    """What a model is to be run on, checked."""
    if tokens is None:
        raise ValueError("a model is shown on tokens: attention_view(model, tokens)")
    if isinstance(tokens, str) and isinstance(model, Reader) and model.tokenizer is not None:
        # TransformerLens pads even a single text, for which a tokenizer may have no token: where it would neither add a
        # start token nor take one away, that is all it does.
        as_saved = model.cfg.default_prepend_bos == model.cfg.tokenizer_prepends_bos
        tokens = model.tokenizer(tokens)["input_ids"] if as_saved else model.to_tokens(tokens)
    if not isinstance(tokens, Tensor):
        try:
            tokens = torch.tensor(whole_numbers("tokens", tokens), dtype=torch.long)
        except ValueError:
            raise ValueError(f"tokens of a model without a tokenizer are token ids; got {tokens!r}") from None
    if tokens.ndim not in (1, 2) or tokens.is_floating_point() or tokens.dtype == torch.bool:
        got = f"{str(tokens.dtype).removeprefix('torch.')} of shape {tuple(tokens.shape)}"
        raise ValueError(f"tokens of a model are whole numbers [query] or [batch, query]; got {got}")
    if not tokens.numel():
        raise ValueError("tokens must hold at least one token")
    if tokens.shape[-1] > (most := read_length(model)):
        raise ValueError(f"the model reads 1 to {most} tokens; got {tokens.shape[-1]}")
    for token in (int(tokens.min()), int(tokens.max())):
        if not 0 <= token < model.cfg.d_vocab:
            raise ValueError(f"token ids must be between 0 and {model.cfg.d_vocab - 1}; got {token}")
    ids: Tensor = tokens if tokens.ndim == 2 else tokens[None]
    return ids.to(next(model.parameters()).device)


def _of_layer(pattern: Tensor, layer: int) -> Tensor:
    """A layer of a tensor of patterns, ``[1, head, query, key]``; of any kind of number, which `reading` checks."""
    if pattern.ndim == 4:
        resolve_indices("layer", [layer], len(pattern))
        return pattern[layer][None]
    if pattern.ndim != 3:
        raise ValueError(
            f"a pattern is [head, query, key] or [layer, head, query, key]; got shape {tuple(pattern.shape)}"
        )
    if layer != 0:
        raise ValueError(f"layer={layer} needs a pattern [layer, head, query, key]; got shape {tuple(pattern.shape)}")
    return pattern[None]


def _from_cache(cache: Any, layer: int) -> Any:
    """The layer's patterns ``[batch, head, query, key]`` in a cache, or in anything that has them by name."""
    name = pattern_name(layer)
    try:
        pattern = cache[name]
    except (KeyError, TypeError, IndexError):
        keys = [str(key) for key in cache] if isinstance(cache, Iterable) else []
        there = [key for key in keys if key.endswith("hook_pattern")]
        raise ValueError(
            f"no {name} in a {type(cache).__name__}; patterns there: {', '.join(there) or 'none'}. A source is a run, "
            "a model with tokens, a cache or a tensor [head, query, key]"
        ) from None
    if pattern.ndim == 3:
        return pattern[None]
    if pattern.ndim != 4 or not len(pattern):
        raise ValueError(f"{name} should be [batch, head, query, key]; got shape {tuple(pattern.shape)}")
    return pattern


def _texts(tokens: Any) -> list[str] | None:
    """A text for each position, of what was given as such: a sequence, a tensor or an array."""
    listed = tokens.tolist() if isinstance(tokens, Tensor) else tokens
    return None if listed is None else [str(token) for token in listed]


def _chosen(heads: Sequence[int] | None, n_heads: int) -> list[int]:
    if not n_heads:
        raise ValueError("there is no head to show")
    return list(resolve_indices("head", heads, n_heads))


def _attention_kind(model: HookedModel) -> str:
    # Imported here: TransformerLens, which a view of a tensor does not need, takes seconds.
    from plateau_interp.models import ToyTransformer

    return (model.attention if isinstance(model, ToyTransformer) else "softmax").capitalize()


def _explained(sequences: str) -> str:
    return (
        f"Share of attention: |A| divided by its sum over the keys of a query, mean over {sequences}. "
        "First sequence: A of the first of them, as it is. "
    )
