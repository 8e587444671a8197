"""Recipes as people and other programs write them, with something wrong in one place, as JSON and as YAML."""

import copy
import json
import random
from pathlib import Path
from typing import Any

import yaml

from fuzz.harness import Finding, command, contents, must_be_good
from plateau_interp import Recipe
from plateau_interp.hooks import BiasAttention, During, FreezeWeights
from plateau_interp.tasks import MovingWindowSum

JUNK: list[Any] = [
    None, True, 0, -1, 3, 2.5, 1e308, 10**400, "", "x", "mlp", "None", [], [0], ["a"], {}, {"name": "fix-attention"},
    {"name": "moving-window-sum"}, {"name": 3}, {"name": None}, {"name": "adam"}, {"a": 1}, "x" * 5000, "\u0000", "<b>",
    [[[]]],
    float("nan"), float("inf"), {"name": "bias-attention", "factor": {"name": "adam"}},
]  # fmt: skip
TEXTS = [
    "", "[]", "3", '"x"', "null", "{", "[" * 3000, '{"a": 1, "a": 2}',
    "task: {name: moving-window-sum}\ntask: {name: copy}",
    "a: &a [x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a]\nc: &c [*b, *b, *b, *b, *b, *b, *b, *b]\n"
    "task: [*c, *c, *c, *c, *c, *c, *c, *c]", "1: 2", "null: 3", "true: 1", "task: 2026-11-26", "task: !!binary aGk=",
    "task: !!set {a, b}", "? [a]\n: b", "task: *nowhere", "- a\n- b", "\ufefftask: {name: copy}",
    "task: !!python/object:os.system {}",
    "task: {<<: {name: copy}}", "\t", "task:\n\t- x", "%YAML 1.1\n---\ntask: {name: copy}\n---\ntask: {name: copy}",
]  # fmt: skip


def fuzz(rng: random.Random, folder: Path) -> str:
    """Train from one broken recipe.

    Raises:
        Finding: if it ends with anything but work or one line.
    """
    suffix = rng.choice(["json", "yaml", "yml"])
    file = folder / f"recipe.{suffix}"
    if rng.random() < 0.3:
        text = rng.choice(TEXTS)
        text = text if rng.random() < 0.7 else text[: rng.randrange(len(text) + 1)]
    else:
        data = _broken(rng)
        text = json.dumps(data) if suffix == "json" else yaml.safe_dump(data, allow_unicode=rng.random() < 0.5)
    file.write_text(text, encoding="utf-8")
    before = contents(folder)
    outcome = must_be_good(command("train", file, "--out", folder / "run"))
    if outcome.refused and contents(folder) != before:
        raise Finding(f"{text[:2000]}\nwas refused ({outcome.err.strip()[-300:]}), and something was written")
    return "refused" if outcome.refused else "done"


def _broken(rng: random.Random) -> dict[str, Any]:
    interventions = (During(BiasAttention(factor=2.0), start=1), FreezeWeights("mlp"))
    sizes = {"training": {"steps": 2, "batch_size": 4}, "model": {"d_model": 8}, "measuring": {"n_sequences": 2}}
    whole = Recipe(MovingWindowSum(n=3), interventions=interventions).to_dict()
    data = {**whole, **{part: {**whole[part], **fields} for part, fields in sizes.items()}}
    data = copy.deepcopy(data)
    for _ in range(rng.choice([1, 1, 1, 2])):
        holder, key = rng.choice([*_places(data)])
        action = rng.random()
        if action < 0.7:
            holder[key] = copy.deepcopy(rng.choice(JUNK))
        elif action < 0.85:
            del holder[key]
        elif isinstance(holder, dict):
            holder[rng.choice(["nmae", "", "stepz", "name", "0"])] = rng.choice(JUNK)
        else:
            holder.append(rng.choice(JUNK))
    return data


def _places(data: Any) -> Any:
    """Every holder and key in nested plain data."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in [*items]:
        yield data, key
        yield from _places(value)
