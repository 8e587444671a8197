"""Attention of a series' checkpoints on its first prompt, as it was kept with them; nothing is loaded or run.

`plateau_interp.views.attention_view` calls `series_attention_view` for a layer; the report of a series shows several
layers of up to two series, as many as there is room for.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from plateau_interp.checks import listed, there_steps
from plateau_interp.interventions.hook_points import resolve_indices
from plateau_interp.series.attention import KeptAttention
from plateau_interp.series.folder import Record, SeriesFolder
from plateau_interp.views.page import Page
from plateau_interp.views.readings import (
    MAX_VALUES,
    MOST_VIEWS,
    ROWS,
    AttentionView,
    affordable,
    checked_view,
    head_names,
    reading,
)
from plateau_interp.views.series_figures import drawn_rows

__all__ = ["attention_section", "series_attention_view"]

WANTED_STEPS = 16
"""Of a report's view: layers are left out before fewer checkpoints than these are shown."""


def series_attention_view(
    series: SeriesFolder,
    *,
    layers: Iterable[int] | None = None,
    heads: Iterable[int] | None = None,
    steps: Iterable[int] | None = None,
) -> AttentionView:
    """Attention on the first prompt at one or several checkpoints, a layer at a time.

    Checkpoints that have the very same weights as another are not shown.

    Args:
        series: measured since attention is kept.
        layers: to choose among; all by default.
        heads: all by default.
        steps: the last by default.

    Raises:
        ValueError: if no attention was kept, of a step or at all; for a layer or head that the model does not have; if
            the checkpoints do not read the prompt alike; or for more than `MAX_VALUES` values.
        SeriesError: if a file is missing or damaged.

    Example:
        >>> series_attention_view(SeriesFolder("series/14m"), layers=[3], steps=[1, 512])  # doctest: +SKIP
        AttentionView(title='EleutherAI/pythia-14m: attention through pretraining, layer 3', ...)
    """
    records = _kept(series)
    if not records:
        raise ValueError(f"{series.path} has no attention of a checkpoint that is data: none was kept")
    last = sorted(records)[-1:]
    at_steps = there_steps(last if steps is None else steps, sorted(records), "attention kept of step")
    kept = {step: _attention(series, records[step]) for step in at_steps}
    like = kept[at_steps[-1]]
    if other := [str(step) for step in at_steps if not _is_like(kept[step], like)]:
        raise ValueError(
            f"step {listed(other)} reads the prompt as other tokens than step {at_steps[-1]}, or is another model"
        )
    return _view(series, kept, layers=layers, heads=heads)


def attention_section(folders: Mapping[str, SeriesFolder]) -> tuple[str, list[str]]:
    """The views of the first two series of which attention was kept, as HTML, and what to say of them.

    Args:
        folders: by the names that they have on the page.

    Example:
        >>> attention_section({})
        ('', [])
    """
    views: list[AttentionView] = []
    remarks: list[str] = []
    kept = [(name, folder) for name, folder in folders.items() if _kept(folder)]
    if left_out := [name for name, _ in kept[MOST_VIEWS:]]:
        remarks.append(f"A page has room for the attention of {MOST_VIEWS} series: {listed(left_out)} left out.")
    for name, folder in kept[:MOST_VIEWS]:
        view, told = _affordable_view(folder, name)
        views += [] if view is None else [view]
        remarks += [f"{name}: {each}" if len(folders) > 1 else each for each in told]
    return Page(views).fragment("attention") if views else "", remarks


def _affordable_view(series: SeriesFolder, name: str) -> tuple[AttentionView | None, list[str]]:
    """As many layers and checkpoints as a page has room for; and what is left out."""
    records = _kept(series)
    steps = sorted(records)
    like = _attention(series, records[steps[-1]])
    n_layers, n_values = len(like.patterns), like.patterns[0].numel()
    n_shown = max(1, min(n_layers, MAX_VALUES // (n_values * min(len(steps), WANTED_STEPS))))
    layers = sorted({round(at) for at in np.linspace(0, n_layers - 1, n_shown)}) if n_shown > 1 else [n_layers - 1]
    rows = drawn_rows(series.metrics(), "cosine")
    peak = [int(rows["step"].iloc[int(rows["cosine"].argmax())])] if len(rows) else []
    chosen = affordable(steps, [*peak, steps[-1]], room=MAX_VALUES // (n_values * len(layers)))
    kept = {step: _attention(series, records[step]) for step in chosen}
    shown = {step: one for step, one in kept.items() if _is_like(one, like) and bool(one.patterns.isfinite().all())}
    told = []
    if len(layers) < n_layers:
        numbers, are = listed([str(layer) for layer in layers]), "is" if len(layers) == 1 else "are"
        told.append(f"Of {n_layers} layers {numbers} {are} shown; attention_view(series, layer=...) shows any.")
    if len(chosen) < len(steps):
        told.append(f"{len(chosen)} of {len(steps)} checkpoints are shown.")
    if left := [f"{step:,}" for step in kept if step not in shown]:
        told.append(f"Not shown is step {listed(left)}: no finite numbers, or other tokens.")
    return (_view(series, shown, layers=layers, name=name) if shown else None), told


def _view(
    series: SeriesFolder,
    kept: Mapping[int, KeptAttention],
    *,
    layers: Iterable[int] | None,
    heads: Iterable[int] | None = None,
    name: str | None = None,
) -> AttentionView:
    """The view; it is called by the name of the model, or by another that tells it from those beside it."""
    like = next(iter(kept.values()))
    n_layers, n_heads = like.patterns.shape[:2]
    chosen = list(resolve_indices("head", None if heads is None else list(heads), n_heads))
    at_layers = list(resolve_indices("layer", None if layers is None else list(layers), n_layers))
    readings = tuple(
        reading(f"layer {layer}", [one.patterns[layer, chosen] for one in kept.values()], like.tokens)
        for layer in at_layers
    )
    title = f"{name or series.settings['source']}: attention through pretraining"
    acting = "under the interventions of the series, " if series.settings["interventions"] else ""
    where = f"On the first {len(like.tokens)} tokens of “{series.prompts[0]}”, {acting}before anything is written. "
    return checked_view(
        AttentionView(
            title=f"{title}, layer {at_layers[0]}" if len(at_layers) == 1 else title,
            note=where + ROWS,
            heads=head_names(chosen),
            readings=readings,
            steps=tuple(kept),
            curve=_curve(series) if len(kept) > 1 else None,
        )
    )


def _kept(series: SeriesFolder) -> dict[int, Record]:
    """The checkpoints that are data and of which attention was kept, by step."""
    table = series.metrics()
    if not len(table):
        return {}
    data = set(table["step"][~table["duplicate"]])
    return {record.step: record for record in series.records() if record.attention and record.step in data}


def _attention(series: SeriesFolder, record: Record) -> KeptAttention:
    kept = series.attention(record)
    assert kept is not None
    return kept


def _is_like(one: KeptAttention, other: KeptAttention) -> bool:
    return one.tokens == other.tokens and one.patterns.shape == other.patterns.shape


def _curve(series: SeriesFolder) -> dict[str, Any] | None:
    """The cosine against the step, for the place beside the slider."""
    rows = drawn_rows(series.metrics(), "cosine")
    if not len(rows):
        return None
    values = [round(float(value), 4) for value in rows["cosine"]]
    return {
        "title": "cosine of the states of new tokens",
        "log": True,
        "step": [int(step) for step in rows["step"]],
        "values": values,
        "levels": [["", max(values)], ["", min(values)]],  # the axis says how high; a name would lie on the curve
    }
