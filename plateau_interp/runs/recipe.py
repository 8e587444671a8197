"""Recipes: the plain data that rebuilds a run, and the plug-ins that recipes name.

A recipe is written as JSON (or YAML) and read back with every field checked. Tasks, interventions and optimisers
appear under their entry-point names, so a third-party package's plug-ins work in recipes like ours do.
"""

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
import yaml

from plateau_interp.codec import RecipeError, decode_fields, encode_fields, expect_dict
from plateau_interp.interventions.attached import Intervention
from plateau_interp.models.toy import ToyTransformer, toy_model
from plateau_interp.runs.formats import RECIPE_FORMAT
from plateau_interp.training.meter import Meter
from plateau_interp.training.optimizers import Adam, LearningRateSchedule
from plateau_interp.types import AttentionKind, OptimizerSpec, Task

__all__ = [
    "Fork",
    "MeasuringOptions",
    "ModelOptions",
    "Recipe",
    "TrainingOptions",
]

T = TypeVar("T")


@dataclass(frozen=True)
class ModelOptions:
    """The arguments of `toy_model`; None means its default for the task.

    Args:
        attention: without softmax (the paper's) or with.
        n_layers: blocks.
        n_heads: attention heads a layer.
        d_model: width of the residual stream.
        d_mlp: width of the MLP, by default 4 d_model.
        dtype: of parameters and activations.
    """

    attention: AttentionKind | None = None
    n_layers: int | None = None
    n_heads: int | None = None
    d_model: int | None = None
    d_mlp: int | None = None
    dtype: Literal["float32", "float64"] = "float32"


@dataclass(frozen=True)
class TrainingOptions:
    """How to train; None means the task's default.

    Args:
        steps: updates to make.
        batch_size: sequences a step, fresh ones or the next of an epoch.
        optimizer: one of `plateau list optimizers`, with its fields.
        grad_clip: largest norm of the whole gradient, None for no clipping.
        schedule: of the learning rate; constant unless it says otherwise.
    """

    steps: int | None = None
    batch_size: int | None = None
    optimizer: OptimizerSpec | None = None
    grad_clip: float | None = None
    schedule: LearningRateSchedule = field(default_factory=LearningRateSchedule)


@dataclass(frozen=True)
class MeasuringOptions:
    """What the meter does; None means the task's default.

    Args:
        every: steps from one measurement to the next.
        n_sequences: sequences to decode for accuracy and repetition.
        cosine_at: hook points at which to measure collapse, beside the final hidden states.
    """

    every: int | None = None
    n_sequences: int = 64
    cosine_at: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fork:
    """Where a forked run comes from: the parent's recipe and the step at which the fork leaves it."""

    parent: "Recipe"
    step: int


@dataclass(frozen=True)
class Recipe:
    """All that a run depends on, apart from the machine.

    What a task has defaults for is filled in on construction, so a recipe says everything it does.

    Args:
        task: what to learn.
        model: the arguments of `toy_model`.
        training: steps, batch size, optimiser, clipping.
        interventions: attached for the whole run, in this order; wrap them in `During` or `When` to schedule them.
        measuring: what the `Meter` does.
        checkpoint_every: steps between checkpoints.
        seed: of the initial weights, the batches and the measuring, which use streams of their own.
        fork_of: for a run that goes on from another's step; `plateau_interp.runs.run.Run.fork` fills it in.

    Raises:
        RecipeError: for a number that cannot be.

    Example:
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> Recipe(MovingWindowSum()).training.steps
        400
    """

    task: Task
    model: ModelOptions = field(default_factory=ModelOptions)
    training: TrainingOptions = field(default_factory=TrainingOptions)
    interventions: tuple[Intervention, ...] = ()
    measuring: MeasuringOptions = field(default_factory=MeasuringOptions)
    checkpoint_every: int = 20
    seed: int = 0
    fork_of: Fork | None = None

    def __post_init__(self) -> None:
        defaults = self.task.defaults
        filled = {
            "model": _fill(
                self.model,
                attention=defaults.attention,
                n_layers=defaults.n_layers,
                n_heads=defaults.n_heads,
                d_model=defaults.d_model,
            ),
            "training": _fill(
                self.training,
                steps=defaults.steps,
                batch_size=defaults.batch_size,
                optimizer=Adam(defaults.learning_rate) if defaults.optimizer is None else defaults.optimizer,
                grad_clip=defaults.grad_clip,
            ),
            "measuring": _fill(self.measuring, every=defaults.measure_every),
        }
        for name, options in filled.items():
            object.__setattr__(self, name, options)
        for name, number in {
            "training.steps": self.steps,
            "training.batch_size": self.batch_size,
            "measuring.every": self.measure_every,
            "measuring.n_sequences": self.measuring.n_sequences,
            "checkpoint_every": self.checkpoint_every,
        }.items():
            if number < 1:
                raise RecipeError(f"{name} must be at least 1; got {number}")
        if self.training.grad_clip is not None and not self.training.grad_clip > 0:
            raise RecipeError(f"training.grad_clip must be positive; got {self.training.grad_clip}")
        if not 0 <= self.seed < 2**63:
            raise RecipeError(f"seed must be from 0 to 2**63 - 1; got {self.seed}")

    @property
    def steps(self) -> int:
        """Training steps, never None."""
        assert self.training.steps is not None
        return self.training.steps

    @property
    def batch_size(self) -> int:
        """Sequences a step, never None."""
        assert self.training.batch_size is not None
        return self.training.batch_size

    @property
    def measure_every(self) -> int:
        """Steps from one measurement to the next, never None."""
        assert self.measuring.every is not None
        return self.measuring.every

    @property
    def optimizer(self) -> OptimizerSpec:
        """The optimiser's plain data, never None."""
        assert self.training.optimizer is not None
        return self.training.optimizer

    def build_model(self, *, device: str | torch.device = "cpu") -> ToyTransformer:
        """The model at step 0."""
        options = self.model
        return toy_model(
            self.task,
            attention=options.attention,
            n_layers=options.n_layers,
            n_heads=options.n_heads,
            d_model=options.d_model,
            d_mlp=options.d_mlp,
            seed=self.seed,
            dtype=getattr(torch, options.dtype),
            device=device,
        )

    def build_meter(self) -> Meter:
        """The meter of the run."""
        options = self.measuring
        return Meter(self.task, every=self.measure_every, n_sequences=options.n_sequences, cosine_at=options.cosine_at)

    def to_dict(self) -> dict[str, Any]:
        """Plain data: strings, numbers, lists, dicts and None."""
        return {"format": RECIPE_FORMAT, **encode_fields(self)}

    def to_json(self) -> str:
        """Indented JSON, the same text for equal recipes."""
        return json.dumps(self.to_dict(), indent=2) + "\n"

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> "Recipe":
        """Read what `to_dict` wrote, or a person did; fields with defaults may be missing.

        Raises:
            RecipeError: naming the path of the first field that is unknown, missing or of the wrong type.
        """
        data = dict(data)
        version = data.pop("format", RECIPE_FORMAT)
        if version != RECIPE_FORMAT:
            raise RecipeError(f"format: this version reads recipes of format {RECIPE_FORMAT}; got {version!r}")
        return decode_fields(Recipe, data, path="")

    @staticmethod
    def from_json(text: str) -> "Recipe":
        """Read JSON text; see `from_dict`."""
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise RecipeError(f"not valid JSON: {error}") from None
        return Recipe.from_dict(expect_dict(data, path=""))

    @staticmethod
    def read(path: str | Path) -> "Recipe":
        """Read a recipe from a ``.json``, ``.yaml`` or ``.yml`` file; see `from_dict`."""
        path = Path(path)
        text = path.read_text(encoding="utf-8")
        if path.suffix not in (".yaml", ".yml"):
            return Recipe.from_json(text)
        try:
            data = yaml.load(text, Loader=_YamlLoader)
        except yaml.YAMLError as error:
            raise RecipeError(f"not valid YAML: {error}") from None
        return Recipe.from_dict(expect_dict(data, path=""))


def _fill(options: T, **defaults: Any) -> T:
    """Options with a default for each field that is None."""
    unset = {name: value for name, value in defaults.items() if getattr(options, name) is None}
    return dataclasses.replace(options, **unset)  # type: ignore[type-var]  # a dataclass, as all options are


class _YamlLoader(yaml.SafeLoader):
    """YAML as people write it: ``1e-4`` is a number (YAML 1.1 wants ``1.0e-4``)."""


_YamlLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+"), "-+0123456789"
)
