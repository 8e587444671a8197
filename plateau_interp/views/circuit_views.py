"""Circuits to look at: one model's, or how it forms through training.

`circuit_view` draws parts from the embeddings to the logits and the largest edges between them, with a slider for how
many and, through training, one for the step. On a page with attention views, `circuit_page`, a click on a head leads to
its attention. For still pictures use `plateau_interp.views.circuit_figure`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from plateau_interp.analysis.circuits import Circuit
from plateau_interp.analysis.forming import Forming
from plateau_interp.analysis.observing import Checkpointed
from plateau_interp.checks import shown, whole_number
from plateau_interp.views.attention_views import N_READINGS, attention_view
from plateau_interp.views.circuit_figures import N_DRAWN, circuit_figure, placed_parts
from plateau_interp.views.page import Page, View, packed
from plateau_interp.views.panels import loss_curve
from plateau_interp.views.readings import MAX_VALUES, affordable
from plateau_interp.views.saving import themed_svg

__all__ = ["CircuitView", "circuit_page", "circuit_view"]

MOST_EDGES = 2000
"""Edges that a view holds; of a model with more, the largest at any step."""


@dataclass(frozen=True, eq=False)
class CircuitView(View):
    """A circuit on a page; shows itself in Jupyter, VS Code and Colab. Made by `circuit_view`.

    Attributes:
        title: first line.
        note: what is shown and how it was measured.
        circuit: the last one.
        scores: of its edges at each step.
        steps: training steps, or None where there is no time.
        kept: which edges the view holds, in the order of `plateau_interp.analysis.circuits.Circuit.exists`.
        curve: what is drawn beside the slider, as in `plateau_interp.views.readings.AttentionView`; or None.
    """

    title: str
    note: str
    circuit: Circuit = field(repr=False)
    scores: Float[np.ndarray, "step edge"] = field(repr=False)
    steps: tuple[int, ...] | None
    kept: Int[np.ndarray, " kept"] = field(repr=False)
    curve: Mapping[str, Any] | None = field(default=None, repr=False)

    def spec(self) -> dict[str, Any]:
        """The plain data that circuit.js draws."""
        last = self.circuit
        places = placed_parts(last)
        index = {part.name: number for number, part in enumerate(places)}
        edges = []
        for writer, reader, role in last.exists.nonzero()[self.kept].tolist():
            name, _, entry = last.readers[reader].partition(".")
            edges.append([index[last.writers[writer]], index[name], entry, role])
        return {
            "kind": "circuit",
            "title": self.title,
            "note": self.note,
            "steps": None if self.steps is None else list(self.steps),
            "parts": [{"name": part.name, "row": part.row, **_place_in_model(part.name)} for part in places],
            "roles": list(last.roles),
            "edges": edges,
            "total": last.n_edges,
            "shown": min(N_DRAWN, len(edges)),
            "widest": float(np.abs(self.scores).max(initial=0.0)),
            "curve": self.curve,
            "readings": [],
            **packed(self.scores[:, self.kept]),
        }

    def still(self) -> str:
        """The figure of the last step."""
        return themed_svg(partial(circuit_figure, self.circuit, title=self.title), "circuit")


def circuit_view(
    found: Circuit | Forming, *, title: str = "Circuit", run: Checkpointed | None = None, most: int = MOST_EDGES
) -> CircuitView:
    """Look at a circuit, or at circuits through training.

    Args:
        found: what `circuit` or `circuits` gave.
        title: first line.
        run: of circuits through training: the run, for its loss beside the slider.
        most: edges that the view holds; of more, the largest at any step, and the view says of how many.

    Returns:
        A view that shows itself in notebooks; ``save(path)`` writes it as one file that works with no network.

    Raises:
        ValueError: for what is no circuit, or a run beside a circuit without steps.

    Example:
        >>> import torch
        >>> from plateau_interp import circuit, toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> task = MovingWindowSum(n=4)
        >>> clean, corrupted = (task.sample(4, generator=torch.Generator().manual_seed(s)).inputs for s in (0, 1))
        >>> asked = {"clean": clean, "corrupted": corrupted, "metric": lambda logits: logits[:, -1, 0].mean()}
        >>> view = circuit_view(circuit(toy_model(task, d_model=16), **asked))
        >>> path = view.save("circuit.html")  # doctest: +SKIP
    """
    if not isinstance(found, Circuit | Forming):
        raise ValueError(f"expected what circuit(model, ...) or circuits(run) gives; got {shown(found)}")
    if run is not None and isinstance(found, Circuit):
        raise ValueError("run needs circuits through training, as circuits(run) gives; got those of one model")
    forming = found if isinstance(found, Forming) else Forming((0,), (found,))
    steps = forming.steps if isinstance(found, Forming) and len(forming.steps) > 1 else None
    largest = np.abs(forming.scores).max(axis=0)
    kept = np.sort(np.argsort(-largest, kind="stable")[: whole_number("most", most, least=1)])
    last = forming.circuits[-1]
    left_out = last.n_edges - len(kept)
    note = f"{last}. An edge's width is what the metric changes by when that edge alone is cut. " + (
        f"{left_out:,} smaller edges are left out. " if left_out else ""
    )
    curve = loss_curve(run) if run is not None and steps is not None else None
    alone = "" if run is None else " Measured are the run's weights by themselves: interventions are not applied."
    return CircuitView(title, note + _explained(last) + alone, last, forming.scores, steps, kept, curve)


def circuit_page(
    run: Checkpointed,
    found: Forming,
    *,
    title: str = "Circuit",
    layers: Iterable[int] | None = None,
) -> Page:
    """A run's circuits through training, and the attention of its layers: a click on a head leads to its map.

    Args:
        run: with checkpoints.
        found: what `circuits` gave for it.
        title: of the page.
        layers: whose attention is shown; by default of every layer. Of many maps a page has no room for all steps.

    Raises:
        ValueError: as `circuit_view` and `attention_view`.
    """
    places = [_place_in_model(writer) for writer in found.circuits[-1].writers]
    heads = [place["layer"] for place in places if place]
    chosen = sorted(set(heads)) if layers is None else [*layers]
    n_queries = run.task.n_pos - run.task.lookahead
    n_values = N_READINGS * sum(layer in chosen for layer in heads) * n_queries**2
    there = [step for step in found.steps if step in run.checkpoints]
    steps = affordable(there, there[-1:], room=MAX_VALUES // max(n_values, 1))
    maps = [attention_view(run, layer=layer, steps=steps) for layer in chosen] if steps else []
    return Page([circuit_view(found, title=title, run=run), *maps], title=title)


def _place_in_model(name: str) -> dict[str, int]:
    """Layer and head of a head, so that its attention can be found."""
    match = re.fullmatch(r"L(\d+)H(\d+)", name)
    return {"layer": int(match[1]), "head": int(match[2])} if match else {}


def _explained(found: Circuit) -> str:
    carries = {
        "resample": "the value of the corrupted input",
        "mean": "its mean over the clean inputs",
        "zero": "zero",
    }[found.ablation]
    return f"A cut edge carries {carries}."
