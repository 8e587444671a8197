"""What an attention view holds: maps by step and head as checked numbers, and the plain data that the page draws.

`plateau_interp.views.attention_view` makes an `AttentionView` from what users have; this module knows no run and no
model. The page around it is `plateau_interp.views.page`, the drawing `attention.js`.
"""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from plateau_interp.views.page import View, packed
from plateau_interp.views.theme import LIGHT

__all__ = [
    "MAX_VALUES",
    "MOST_VIEWS",
    "ROWS",
    "AttentionView",
    "Reading",
    "affordable",
    "checked_view",
    "head_names",
    "reading",
]

MAX_VALUES = 400_000
"""Most attention values in a view: about 1 MB of the page, and what a browser draws in a moment."""
MOST_VIEWS = 2
"""Runs, or series, whose view through training is in a report, side by side."""
MAX_VALUE = 1e5
"""Larger values are no attention but scores; a page would show them as one colour."""
ROWS = "Rows are queries, columns keys."
"""Said below every view."""


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
        """Plain data that attention.js draws."""
        numbers = packed(self.values)
        outlined = [] if self.targets is None else np.argwhere(self.targets).tolist()
        return {
            "name": self.name,
            "kind": self.kind,
            "tokens": list(self.tokens),
            "targets": outlined,
            **numbers,
            "range": round(float(np.abs(self.values).max(initial=0.0)), numbers["decimals"]),
            "negative": bool((np.rint(self.values * 10.0 ** numbers["decimals"]) < 0).any()),
            "upper": bool(np.triu(self.values, 1).any()),
            "hint": "Hover or tap a cell." + (" Outlined: what the solution reads." if outlined else ""),
        }


@dataclass(frozen=True, eq=False)
class AttentionView(View):
    """An attention view; shows itself in Jupyter, VS Code and Colab. Made by `attention_view`.

    Attributes:
        title: first line.
        note: what is shown and how it was made.
        heads: a name for each head.
        readings: one or several ways to look, of the same steps and heads.
        steps: training steps, or None where there is no time.
        curve: of the curve beside the slider the title, whether its axis is logarithmic, steps, values and levels by
            name; or None.
        layer: which layer it shows, so that a click on a head of a circuit leads here; None where there is no one.
    """

    title: str
    note: str
    heads: tuple[str, ...]
    readings: tuple[Reading, ...] = field(repr=False)
    steps: tuple[int, ...] | None = None
    curve: Mapping[str, Any] | None = field(default=None, repr=False)
    layer: int | None = None

    def relative_to(self, step: int) -> "AttentionView":
        """The same view of the changes since a step: each map minus the map at that step.

        Raises:
            ValueError: if the step is not in the view.
        """
        steps = self.steps or ()
        if step not in steps:
            raise ValueError(f"the view has no step {step}; it has {', '.join(map(str, steps)) or 'none'}")
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
            "layer": self.layer,
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
            f'src="data:image/png;base64,{source}"><p><small>Still picture. The interactive view needs scripts; in a '
            "notebook, the output of the cell that drew its first view, too: restart the kernel and run again if that "
            "cell is gone.</small></p>"
        )


def reading(
    name: str,
    maps: Sequence[Tensor],
    tokens: Sequence[str] | None,
    targets: Bool[Tensor, "query key"] | None = None,
    *,
    kind: str = "attention",
) -> Reading:
    """A reading of one map a step, checked.

    Args:
        name: what the values are, in a few words.
        maps: one a step.
        tokens: one text a position; the positions by default.
        targets: positions to outline.
        kind: what a value measures.

    Raises:
        ValueError: for a shape that is no pattern, values that are complex, NaN, infinite or beyond `MAX_VALUE`, the
            wrong number of tokens, or more than `MAX_VALUES` values.

    Example:
        >>> reading("as it is", [torch.eye(3)[None]], None).tokens
        ('0', '1', '2')
    """
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
    if np.abs(values).max(initial=0.0) > MAX_VALUE:
        raise ValueError(f"values up to {np.abs(values).max():.3g} are no attention pattern; are these raw scores?")
    texts = tuple(str(position) for position in range(shape[1])) if tokens is None else tuple(tokens)
    if len(texts) != shape[1]:
        raise ValueError(f"a pattern of {shape[1]} positions needs {shape[1]} tokens; got {len(texts)}")
    return Reading(name, values, texts, None if targets is None else targets.cpu().numpy(), kind)


def checked_view(view: AttentionView) -> AttentionView:
    """The same view; a ValueError if it has more than `MAX_VALUES` values in all its readings."""
    n_values = sum(reading.values.size for reading in view.readings)
    if n_values > MAX_VALUES:
        raise ValueError(
            f"{n_values:,} attention values are too many for a page (at most {MAX_VALUES:,}): choose heads=[...] or "
            "fewer steps"
        )
    return view


def affordable(checkpoints: Sequence[int], wanted: Sequence[int], *, room: int) -> list[int]:
    """At most ``room`` checkpoints: of those wanted the last, the first and those between; then some evenly spaced."""
    if room >= len(checkpoints):
        return list(checkpoints)
    there = [step for step in wanted if step in checkpoints]
    kept = [*there[-1:], *there[:-1]][:room]
    n_spaced = min(room - len(kept), len(checkpoints))
    return sorted({*kept, *(checkpoints[round(at)] for at in np.linspace(0, len(checkpoints) - 1, n_spaced))})


def head_names(heads: Sequence[int]) -> tuple[str, ...]:
    """What heads are called on a page.

    Example:
        >>> head_names([0, 3])
        ('head 0', 'head 3')
    """
    return tuple(f"head {head}" for head in heads)


def _png(pattern: Float[np.ndarray, "query key"]) -> bytes:
    """A map as a PNG of one pixel a cell: white is 0, blue positive, red negative."""
    import matplotlib.image
    from matplotlib.colors import to_rgb

    share = pattern / (np.abs(pattern).max(initial=0.0) or 1.0)
    ends = np.where(share[..., None] >= 0, to_rgb(LIGHT.accent), to_rgb(LIGHT.other))
    pixels = 1.0 - np.abs(share)[..., None] * (1.0 - ends)
    buffer = io.BytesIO()
    matplotlib.image.imsave(buffer, pixels, format="png")
    return buffer.getvalue()
