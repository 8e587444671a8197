"""What `plateau list` tells: the plug-ins there are, and of each task an example, its alphabet, sizes and losses.

A task is described from its default values and a small fixed sample; no model is built. To load a plug-in use
`plateau_interp.plugins`.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import count, groupby
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Column, Table

from plateau_interp.cli.parsing import headline
from plateau_interp.plugins import PluginKind, plugin, plugins

if TYPE_CHECKING:
    from torch import Tensor

    from plateau_interp.types import Task

__all__ = ["describe", "listed_plugins", "tables"]

N_SEQUENCES = 256
"""Enough to meet practically every id; more ranges of ids than `MOST_RANGES` are told as one."""
MOST_RANGES = 3
OURS = "plateau-interp"


def listed_plugins(kind: PluginKind) -> list[dict[str, Any]]:
    """Plain data of every plug-in of a kind: ``name``, ``summary``, ``package``; of a task also what `describe` says.

    A plug-in that cannot be loaded says why in its summary.

    Example:
        >>> next(row["lengths"] for row in listed_plugins("tasks") if row["name"] == "moving-window-sum")
        {'prompt': 17, 'answer': 16}
    """
    rows = []
    for name, point in plugins(kind).items():
        row: dict[str, Any] = {"name": name, "summary": "", "package": point.dist.name if point.dist else ""}
        try:
            found = plugin(kind, name)
            row["summary"] = headline(found)
            if kind == "tasks":
                row |= describe(found())
        except Exception as error:  # a broken package must not hide the others
            row["summary"] = f"cannot be loaded: {shorten(f'{type(error).__name__}: {error}', 150)}"
        rows.append(row)
    return rows


def describe(task: "Task") -> dict[str, Any]:
    """Plain data of a task.

    Returns:
        ``example``, a sequence as text; ``vocabulary``, its size; ``ids``, those that occur in prompts and in answers;
        ``lengths`` of prompt and answer in tokens; ``levels``, the closed-form losses, None where
        unknown, and ``unit``, what they are in; ``training``, the defaults of ``plateau train``.

    Example:
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> describe(MovingWindowSum())["ids"]
        {'prompt': '1-17', 'answer': '0-16'}
    """
    import torch

    from plateau_interp.positions import true_answers
    from plateau_interp.types import IGNORE

    batch = task.sample(N_SEQUENCES, generator=torch.Generator().manual_seed(0))
    tokens = batch.tokens
    # What is filled in is part of the prompt.
    parts = {
        "prompt": tokens[:, : task.answer.start] if task.lookahead else tokens,
        "answer": true_answers(task, batch),
    }
    return {
        # Of a text, spaces are part of its tokens, and ends of lines would break the table.
        "example": " ".join(" ".join(task.tokens_to_text(tokens[0])).replace("\n", "↵").split()),
        "vocabulary": task.d_vocab,
        "ids": {name: _ids(part[part != IGNORE]) for name, part in parts.items()},
        "lengths": {name: part.shape[1] for name, part in parts.items()},
        "levels": dataclasses.asdict(task.levels),
        "unit": task.unit,
        "training": {name: _plain(value) for name, value in vars(task.defaults).items()},
    }


def tables(kind: PluginKind, rows: Sequence[Mapping[str, Any]]) -> list[Table]:
    """The rows of `listed_plugins`, to be read by a person; those of tasks fit into 80 columns."""
    if kind != "tasks":
        table = _table("name", "what it is", "package")
        for row in rows:
            table.add_row(row["name"], row["summary"], row["package"])
        return [table]
    described = [row for row in rows if "example" in row]
    numbers = _table("task", *map(_right, ("ids", "tokens", "initial", "plateau", "floor", "depth", "steps")))
    for row in described:
        lengths, levels, training = row["lengths"], row["levels"], row["training"]
        numbers.add_row(
            row["name"],
            str(row["vocabulary"]),
            f"{lengths['prompt']} + {lengths['answer']}",
            *("-" if level is None else f"{level:.3f}" for level in levels.values()),
            str(training["n_layers"]),
            str(training["steps"]),
        )
    examples = _table("task", "what it is, and an example")
    for row in rows:
        ids = f"ids {row['ids']['prompt']}; answer {row['ids']['answer']}" if row in described else ""
        origin = "" if row["package"] in ("", OURS) else f"from {row['package']}"
        left, right = (row["name"], ids, origin), (row["summary"], row.get("example", ""))
        examples.add_row(*("\n".join(filter(None, lines)) for lines in (left, right)))
    others = [f"; of {row['name']}: {row['unit']}" for row in described if row["unit"] != "nats"]
    numbers.caption = (
        f"tokens: prompt + answer; closed-form losses in nats a scored position{''.join(others)}; depth in layers and "
        "steps by default"
    )
    numbers.caption_justify = "left"
    return [numbers, examples]


def _ids(part: "Tensor") -> str:
    if part.is_floating_point():
        part = part[part.isfinite()]  # where nothing is scored a task of numbers may have none
        return f"{part.min():.4g} to {part.max():.4g}"
    return _ranges(sorted(set(part.tolist())))


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None  # no clipping
    return repr(value) if dataclasses.is_dataclass(value) else value


def _table(*columns: Column | str) -> Table:
    return Table(*columns, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)


def _right(header: str) -> Column:
    return Column(header, justify="right", no_wrap=True)


def _ranges(ids: Iterable[int]) -> str:
    """Ascending ids as text: ``0, 17-32``."""
    counter = count()
    runs = [list(run) for _, run in groupby(ids, key=lambda number: number - next(counter))]
    if len(runs) > MOST_RANGES:
        runs = [[runs[0][0], runs[-1][-1]]]
    return ", ".join(str(run[0]) if run[0] == run[-1] else f"{run[0]}-{run[-1]}" for run in runs)
