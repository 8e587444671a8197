"""The maps of a report: answers that are grids, attention before, at and after the drop, and collapse, with captions.

Each checkpoint that is shown, in stills or in the view through training, is loaded and run once
(`plateau_interp.analysis.observing.Observations`). The figures are those of `plateau_interp.views.maps`, the views
those of `plateau_interp.views.attention_view`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float

from plateau_interp.analysis.answer_grids import OfGrids, grids_through_training
from plateau_interp.analysis.observing import N_EXAMPLES, Observations, shared_map
from plateau_interp.analysis.plateaus import Summary
from plateau_interp.positions import input_length
from plateau_interp.types import answer_rows
from plateau_interp.views.attention_views import N_READINGS, observed_view
from plateau_interp.views.grid_views import view_of_grids
from plateau_interp.views.maps import cosine_figure, grid_figure, pattern_figure
from plateau_interp.views.page import Page
from plateau_interp.views.readings import MAX_VALUES, MOST_VIEWS, affordable
from plateau_interp.views.saving import Draw

if TYPE_CHECKING:
    from plateau_interp.runs.run import Run

__all__ = ["Section", "map_sections", "moments"]

N_GRIDS = 6
"""Grids to choose from, where a task's answers are grids of numbers."""


@dataclass(frozen=True)
class Section:
    """A part of the page about one kind of map.

    Attributes:
        title: above it.
        name: of its picture's file.
        whole: draws all maps as one figure.
        stills: draw one map each.
        caption: below the stills.
        view: the views through training as HTML, or nothing.
        links: pages with more about it: what they are called, and where they lie from this page.
    """

    title: str
    name: str
    whole: Draw
    stills: Sequence[Draw]
    caption: str
    view: str = ""
    links: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Shown:
    """A run with checkpoints, its name on the page, and what was observed of it."""

    run: "Run"
    name: str
    seen: Observations


def map_sections(runs: "list[Run]", names: list[str], summaries: list[Summary]) -> list[Section]:
    """Of the first run with checkpoints: each layer's still maps and view through training, then its collapse."""
    there = [index for index, run in enumerate(runs) if run.checkpoints]
    if not there:
        return []
    first, run = there[0], runs[there[0]]
    shown = [Shown(runs[index], names[index], Observations(runs[index], cosines=index == first)) for index in there]
    of = f" of {names[first]}" if len(runs) > 1 else ""
    alone = " Shown are the weights by themselves: the run's interventions are not applied."
    alone = alone if run.recipe.interventions else ""
    times = moments(run, summaries[first])
    n_layers = run.recipe.model.n_layers
    sections = [_answers(shown, times, of=of, remark=alone)] if isinstance(run.task, OfGrids) else []
    for layer in range(n_layers if input_length(run.task) > 1 else 0):  # a single position has one thing to attend to
        title = f"Attention{f', layer {layer}' if n_layers > 1 else ''}{of}"
        sections.append(_attention_section(shown, layer, times, title=title, remark=alone))
    rows = answer_rows(run.task)
    if rows.stop - rows.start > 1:
        sections.append(_collapse(shown[0].seen, list(times), title=f"Collapse{of}", remark=alone))
    return sections


def _answers(shown: list[Shown], times: dict[int, str], *, of: str, remark: str) -> Section:
    """What the first run says of a grid of numbers beside what is right; and the first runs through training."""
    views, names = [], []
    for each in shown[:MOST_VIEWS]:
        checkpoints = each.run.checkpoints
        room = MAX_VALUES // (N_GRIDS * each.run.task.n_pos)
        steps = affordable(checkpoints, list(times) if each is shown[0] else checkpoints[-1:], room=room)
        grids = grids_through_training(each.run, steps=steps, n=N_GRIDS)
        views.append(view_of_grids(each.run, grids, title=f"What is right, and what {each.name} says"))
        names.append(each.name)
    first = views[0].grids
    some = [step for step in times if step in first.steps]
    titles = ["right", *(times[step] for step in some)]
    maps = [first.truth[0], *(first.said[first.steps.index(step), 0] for step in some)]
    asked = first.asked[0]
    whole = partial(grid_figure, torch.stack(maps), titles, asked=asked)
    most = float(torch.stack(maps).abs().max())
    stills = [
        partial(grid_figure, one[None], [title], asked=asked, most=most)
        for one, title in zip(maps, titles, strict=True)
    ]
    caption = f"What is right, and what the model says. Outlined: the cells that it cannot see.{remark}"
    if len(shown) > len(names):
        caption += f" Below: {' and '.join(names)}, of {len(shown)} runs with checkpoints."
    return Section(f"Answers{of}", "answers", whole, stills, caption, Page(views).fragment("answers"))


def _attention_section(shown: list[Shown], layer: int, times: dict[int, str], *, title: str, remark: str) -> Section:
    seen = shown[0].seen
    shares = seen.shares(layer, times)
    shared = shared_map(seen.targets(layer, min(times)))
    outlined = None if shared is None else shared.cpu().numpy()
    view, remarks = _view(shown, list(times), layer)
    whole, *stills = _stills(shares, outlined, times, answer_rows(seen.run.task))
    caption = " ".join([_caption_stills(shares, outlined, times) + remark, *remarks])
    return Section(title, f"attention-{layer}", whole, stills, caption, view)


def _collapse(seen: Observations, steps: list[int], *, title: str, remark: str) -> Section:
    matrices = np.stack([np.asarray(seen[step].cosines) for step in steps])
    stills = [partial(cosine_figure, one[None], [step]) for one, step in zip(matrices, steps, strict=True)]
    caption = f"Cosine between the final hidden states of each two answers, mean of {N_EXAMPLES} sequences."
    return Section(title, "collapse", partial(cosine_figure, matrices, steps), stills, caption + remark)


def moments(run: "Run", summary: Summary) -> dict[int, str]:
    """Checkpoints before, at and after the drop; first, middle and last where there is no drop."""
    steps = run.checkpoints
    last = steps[-1]
    if summary.drop_step is None or summary.drop_step > last:
        return {step: f"step {step}" for step in sorted({steps[0], steps[len(steps) // 2], last})}
    on_plateau = steps[0] if summary.start is None or summary.end is None else (summary.start + summary.end) // 2
    nearest = {min(steps, key=lambda other: abs(other - step)) for step in (on_plateau, summary.drop_step, last)}
    return {step: f"step {step}, {_where(step, summary, summary.drop_step)}" for step in sorted(nearest)}


def _where(step: int, summary: Summary, drop: int) -> str:
    """Where a step lies, since the nearest checkpoint may be far; the drop is as wide as it is behind the plateau."""
    width = 0 if summary.end is None else max(0, drop - summary.end)
    if summary.start is not None and summary.end is not None and summary.start <= step <= summary.end:
        return "on the plateau"
    if abs(step - drop) <= width:
        return "at the drop"
    return "before the drop" if step < drop else "after the drop"


def _view(shown: list[Shown], wanted: list[int], layer: int) -> tuple[str, list[str]]:
    """The views of the first runs as HTML, and what to say of them; of the first run some steps are wanted."""
    deep = [each for each in shown if each.run.recipe.model.n_layers > layer]
    views, remarks, names = [], [], []
    for each in deep[:MOST_VIEWS]:
        seen, checkpoints = each.seen, each.run.checkpoints
        shares = seen.shares(layer, checkpoints[-1:])
        steps = affordable(checkpoints, wanted, room=MAX_VALUES // (N_READINGS * shares.size))
        missing = [str(step) for step in wanted if step not in steps] if each is shown[0] else []
        if not steps:
            remarks.append(_too_large(shares, layer, f" of {each.name}" if len(shown) > 1 else ""))
            continue
        if missing:
            remarks.append(f"The view has no room for step{'s' * (len(missing) > 1)} {' and '.join(missing)}.")
        targets = seen.targets(layer, steps[-1])
        views.append(observed_view(seen, layer=layer, steps=steps, targets=targets, name=each.name))
        names.append(each.name)
    if names and len(shown) > len(names):
        remarks.append(f"Below: {' and '.join(names)}, of {len(shown)} runs with checkpoints.")
    return Page(views).fragment(f"attention-{layer}") if views else "", remarks


def _too_large(shares: Float[np.ndarray, "step head query key"], layer: int, of: str) -> str:
    """Why there is no view, and how to get one."""
    n_values = N_READINGS * shares[0].size
    small_heads = n_values // shares.shape[1] <= MAX_VALUES
    how = "heads=[0]) shows one head" if small_heads else "heads=[0], tokens=...) shows one head on a shorter input"
    return (
        f"There is no view{of}: a step has {n_values:,} values, a page has room for {MAX_VALUES:,}. "
        f"attention_view(run, layer={layer}, {how}."
    )


def _stills(
    shares: Float[np.ndarray, "step head query key"],
    outlined: Bool[np.ndarray, "query key"] | None,
    times: dict[int, str],
    rows: slice,
) -> list[Draw]:
    """One figure of all moments, then one of each; the answer rows alone, as a first query can read nothing else."""
    maps = shares.mean(axis=1)[:, rows]
    titles = list(times.values())
    groups = [(maps, titles), *((each[None], [title]) for each, title in zip(maps, titles, strict=True))]
    return [
        partial(
            pattern_figure,
            some,
            some_titles,
            targets=None if outlined is None else outlined[rows],
            label="share of attention",
            limit=float(maps.max()) or 1.0,
            first_query=rows.start,
        )
        for some, some_titles in groups
    ]


def _caption_stills(
    shares: Float[np.ndarray, "step head query key"],
    targets: Bool[np.ndarray, "query key"] | None,
    times: dict[int, str],
) -> str:
    """What is seen: how much of the attention lies on the outlined cells at each moment."""
    n_heads = shares.shape[1]
    heads = "" if n_heads == 1 else f" Mean of {n_heads} heads."
    basis = f"Share of each answer row's attention, mean of {N_EXAMPLES} sequences.{heads}"
    if targets is None:
        return basis
    rows = targets.any(axis=1)
    on_targets = (shares.mean(axis=1) * targets)[:, rows].sum(axis=(1, 2)) / rows.sum()
    path = ", ".join(f"{share:.2f} at step {step}" for share, step in zip(on_targets, times, strict=True))
    return f"{basis} Outlined: what the solution reads; it gets a share of {path}."
