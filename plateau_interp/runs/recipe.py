"""Recipes: the plain data that rebuilds a run, and the plug-ins that recipes name.

A recipe is written as JSON (or YAML) and read back with every field checked. Tasks, interventions and optimisers
appear under their entry-point names, so a third-party package's plug-ins work in recipes like ours do.
"""

import json
import math
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from plateau_interp.checks import as_path, check_whole, seed_number, shown, whole_number, whole_numbers
from plateau_interp.codec import RecipeError, decode_fields, encode_fields, expect_fields
from plateau_interp.interventions.attached import Intervention, check_interventions
from plateau_interp.interventions.attaching import intervening, quietly
from plateau_interp.models.base import ToyTransformer
from plateau_interp.models.fitting import check_batch_size, check_device, check_sequences, check_task
from plateau_interp.models.settings import ModelOptions, ModelSettings
from plateau_interp.models.toy import model_of
from plateau_interp.positions import layer_targets
from plateau_interp.runs.donors import InitFrom
from plateau_interp.runs.formats import RECIPE_FORMAT
from plateau_interp.runs.optimizer_state import BuiltGroups, optimizer_state
from plateau_interp.training.batches import training_batch
from plateau_interp.training.meter import Meter, MeterWarning
from plateau_interp.training.optimizers import check_takes_no_closure
from plateau_interp.training.precision import check_precision
from plateau_interp.training.settings import MeasuringOptions, MeasuringSettings, TrainingOptions, TrainingSettings
from plateau_interp.types import OptimizerSpec, Task

__all__ = ["Fork", "Recipe", "of_file", "read_fields"]


@dataclass(frozen=True)
class Fork:
    """Where a forked run comes from: the parent's recipe and the step at which the fork leaves it."""

    parent: "Recipe"
    step: int


@dataclass(frozen=True, init=False)
class Recipe:
    """All that a run depends on, apart from the machine.

    What is left to the task is filled in on construction, so a recipe says everything it does: it is made from
    `ModelOptions`, `TrainingOptions` and `MeasuringOptions`, and has settings, in which nothing is left open.

    Args:
        task: what to learn.
        model: the arguments of `toy_model`.
        training: steps, batch size, optimiser, clipping.
        interventions: attached for the whole run, in this order; wrap them in `During` or `When` to schedule them.
        measuring: what the `Meter` does.
        checkpoint_every: steps between checkpoints.
        checkpoint_at: further steps that are kept, such as the first powers of two, between which much happens. A run
            that is made, and ends before one of them, warns.
        seed: of the initial weights, the batches and the measuring, which use streams of their own.
        fork_of: for a run that goes on from another's step; `plateau_interp.runs.run.Run.fork` fills it in.
        state_every: the most steps that a fork has to make again, wherever it leaves. All checkpoints have the weights,
            but only the first, the last and as few between as this asks for keep the optimiser's state, which is twice
            their size; 1 for all of them.
        init_from: the run whose weights this one begins with, in the place of its drawn ones.

    Raises:
        RecipeError: for a task, options or interventions that are none, and for a number that cannot be.

    Example:
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> Recipe(MovingWindowSum()).training.steps
        400
    """

    task: Task
    model: ModelSettings
    training: TrainingSettings
    interventions: tuple[Intervention, ...]
    measuring: MeasuringSettings
    checkpoint_every: int
    seed: int
    fork_of: Fork | None
    checkpoint_at: tuple[int, ...] = ()
    state_every: int = 100
    init_from: InitFrom | None = None

    def __init__(
        self,
        task: Task,
        model: ModelOptions | ModelSettings = ModelOptions(),  # noqa: B008  # immutable
        training: TrainingOptions | TrainingSettings = TrainingOptions(),  # noqa: B008
        interventions: Sequence[Intervention] = (),
        measuring: MeasuringOptions | MeasuringSettings = MeasuringOptions(),  # noqa: B008
        checkpoint_every: int = 20,
        checkpoint_at: Sequence[int] = (),
        seed: int = 0,
        fork_of: Fork | None = None,
        state_every: int = 100,
        init_from: InitFrom | None = None,
    ) -> None:
        try:
            check_task(task)
            check_interventions(interventions)
            seed = seed_number(seed)
            steps = whole_numbers("checkpoint_at", checkpoint_at)
            checkpoint_at = tuple(sorted({whole_number("checkpoint_at", step, least=0) for step in steps}))
        except ValueError as error:
            raise RecipeError(str(error)) from None
        if not (fork_of is None or isinstance(fork_of, Fork)):
            raise RecipeError(f"fork_of must be a Fork(recipe, step) or None; got {shown(fork_of)}")
        if not (init_from is None or isinstance(init_from, InitFrom)):
            raise RecipeError(f"init_from must be an InitFrom('RUN@STEP') or None; got {shown(init_from)}")
        own = {"task": task, "interventions": tuple(interventions), "seed": seed, "fork_of": fork_of}
        own["init_from"] = init_from
        storing = {"checkpoint_every": checkpoint_every, "checkpoint_at": checkpoint_at, "state_every": state_every}
        for name, value in {**own, **storing}.items():
            object.__setattr__(self, name, value)
        for name, options, kinds in (
            ("model", model, (ModelOptions, ModelSettings)),
            ("training", training, (TrainingOptions, TrainingSettings)),
            ("measuring", measuring, (MeasuringOptions, MeasuringSettings)),
        ):
            if not isinstance(options, kinds):
                raise RecipeError(f"{name} must be {kinds[0].__name__}(); got {shown(options)}")
            try:
                object.__setattr__(self, name, options.resolved(task))
            except ValueError as error:
                raise RecipeError(f"{name}.{error}") from None
        try:
            check_precision(self.training.precision, getattr(torch, self.model.dtype))
        except ValueError as error:
            raise RecipeError(f"training.{error}") from None
        try:
            check_whole(self, "checkpoint_every", "state_every", least=1)
        except ValueError as error:
            raise RecipeError(str(error)) from None

    def keeps(self, step: int) -> bool:
        """Whether there is to be a checkpoint after so many updates.

        Example:
            >>> from plateau_interp.tasks import MovingWindowSum
            >>> recipe = Recipe(MovingWindowSum(), checkpoint_every=100, checkpoint_at=[1, 2, 4])
            >>> [step for step in range(401) if recipe.keeps(step)]
            [0, 1, 2, 4, 100, 200, 300, 400]
        """
        return step % self.checkpoint_every == 0 or step in self.checkpoint_at or step == self.steps

    @property
    def steps(self) -> int:
        """Training steps."""
        return self.training.steps

    @property
    def batch_size(self) -> int:
        """Sequences a step."""
        return self.training.batch_size

    @property
    def measure_every(self) -> int:
        """Steps from one measurement to the next."""
        return self.measuring.every

    @property
    def optimizer(self) -> OptimizerSpec:
        """The optimiser's plain data."""
        return self.training.optimizer

    def build_model(self, *, device: str | torch.device = "cpu") -> ToyTransformer:
        """The model as it is drawn: at step 0, before `init_from` brings in others' weights."""
        check_device(device)
        dtype = getattr(torch, self.model.dtype)
        return model_of(self.task, self.model, n_ctx=self.task.n_pos, seed=self.seed, dtype=dtype, device=device)

    def check_device(self, device: str | torch.device) -> None:
        """Refuse a device that is not here, or that has not the precision of this recipe.

        Raises:
            ValueError: with torch's reason, or naming both.
        """
        check_device(device)
        check_precision(self.training.precision, getattr(torch, self.model.dtype), device)

    def build_meter(self) -> Meter:
        """The meter of the run."""
        options = self.measuring
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MeterWarning)  # told when the run was made
            return Meter(self.task, every=options.every, n_sequences=options.n_sequences, cosine_at=options.cosine_at)

    def rehearse(self) -> None:
        """Build everything once, in small, so that what cannot be trained is refused before anything is written.

        Raises:
            ValueError: for sizes, hook points, heads and the like that cannot be, for what needs more memory than
                there is, where nothing would be trained at the first step, and for an optimiser that training cannot
                use, or no checkpoint keep.
        """
        batch = training_batch(self.task, seed=self.seed, step=0, batch_size=1)  # lists a finite task's sequences
        check_sequences(self.task, batch)
        model = self.build_model()
        layer_targets(self.task, batch, n_layers=model.cfg.n_layers)
        check_batch_size(self.task, self.batch_size, name="batch_size", model=model)
        check_batch_size(self.task, self.measuring.n_sequences, name="n_sequences")
        # No forward in here, so none of them acts: a `Capture` would write it down.
        with quietly(), intervening(model, *self.interventions):
            frozen = not any(parameter.requires_grad for parameter in model.parameters())
        if frozen:
            raise ValueError("nothing is trained at step 0: the interventions freeze every parameter")
        with self.build_meter().watching(model), torch.no_grad():
            model(batch.inputs)
        optimizer = self.optimizer.build(model.named_parameters())
        check_takes_no_closure(optimizer)
        optimizer_state(optimizer, model, BuiltGroups.of(optimizer))

    def to_dict(self) -> dict[str, Any]:
        """Plain data: strings, numbers, lists, dicts and None."""
        return {"format": RECIPE_FORMAT, **self._fields()}

    def _fields(self) -> dict[str, Any]:
        data = encode_fields(self)
        if self.training.grad_clip == self.task.defaults.grad_clip == math.inf:
            # JSON has no infinity, and None reads back as it; recipes of such tasks always said so.
            data["training"]["grad_clip"] = None
        if self.fork_of is not None:
            data["fork_of"]["parent"] = self.fork_of.parent._fields()
        return data

    def to_json(self) -> str:
        """Indented JSON, the same text for equal recipes."""
        return json.dumps(self.to_dict(), indent=2) + "\n"

    @staticmethod
    def from_dict(data: Mapping[Any, Any]) -> "Recipe":
        """Read what `to_dict` wrote, or a person did; fields with defaults may be missing.

        Raises:
            RecipeError: naming the path of the first field that is unknown, missing or of the wrong type.
        """
        data = dict(data)
        version = data.pop("format", RECIPE_FORMAT)
        if version != RECIPE_FORMAT:
            raise RecipeError(f"format: this version reads recipes of format {RECIPE_FORMAT}; got {shown(version)}")
        try:
            return decode_fields(Recipe, data, path="")
        except RecursionError:
            raise RecipeError(f"recipe: {TOO_DEEP}") from None

    @staticmethod
    def from_json(text: str) -> "Recipe":
        """Read JSON text; see `from_dict`."""
        return Recipe.from_dict(_fields_of_json(text))

    @staticmethod
    def read(path: str | Path) -> "Recipe":
        """Read a recipe from a ``.json``, ``.yaml`` or ``.yml`` file; see `from_dict`.

        Raises:
            RecipeError: for a file that is not there or is no such text, and as `from_dict`; the file is named.
        """
        data = read_fields(path)
        with of_file(path):
            return Recipe.from_dict(data)


@contextmanager
def of_file(path: str | Path) -> Iterator[None]:
    """The file that plain data came from is named by what is wrong in them, before the field.

    Raises:
        RecipeError: of the kind that it was.

    Example:
        >>> with of_file("mine.yaml"):
        ...     Recipe.from_dict({"task": {"name": "copy", "n": "many"}})
        Traceback (most recent call last):
        plateau_interp.codec.RecipeError: mine.yaml: task.n: expected a whole number; got 'many'
    """
    try:
        yield
    except RecipeError as error:
        raise type(error)(f"{path}: {error}") from None


def read_fields(path: Any, what: str = "recipe") -> Mapping[Any, Any]:
    """The plain data of a ``.json``, ``.yaml`` or ``.yml`` file, of whatever fields; no field twice.

    Args:
        path: of the file.
        what: it is to be, for messages.

    Raises:
        RecipeError: for a file that is not there or is no such text, beginning with its path.
    """
    try:
        path = as_path(path, f"the path of a {what}, such as '{what}.yaml'")
    except ValueError as error:
        raise RecipeError(str(error)) from None
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise RecipeError(f"{path}: {error.strerror}; expected a {what}, a .json or .yaml file") from None
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: no UTF-8 text: {error.reason} at byte {error.start}") from None
    with of_file(path):
        return _fields_of_yaml(text, what) if path.suffix in (".yaml", ".yml") else _fields_of_json(text, what)


TOO_DEEP = "nested too deeply"
BYTE_ORDER_MARK = "\ufeff"
"""With which some editors begin a file; YAML's reader leaves it out, too."""
MOST_DIGITS = 1000
"""Of a whole number; fields take fewer, and say so by name. Python reads no more than 4,300."""


def _fields_of_json(text: str, what: str = "recipe") -> Mapping[Any, Any]:
    try:
        data = json.loads(text.removeprefix(BYTE_ORDER_MARK), object_pairs_hook=_once_each, parse_int=_whole)
    except RecursionError:
        raise RecipeError(f"{what}: {TOO_DEEP}") from None
    except RecipeError:
        raise
    except ValueError as error:
        raise RecipeError(f"not valid JSON: {error}") from None
    return expect_fields(data, path=what)


def _fields_of_yaml(text: str, what: str) -> Mapping[Any, Any]:
    try:
        data = yaml.load(text, Loader=_YamlLoader)
    except RecursionError:
        raise RecipeError(f"{what}: {TOO_DEEP}") from None
    except RecipeError:
        raise
    except (yaml.YAMLError, ValueError) as error:  # a date that is none is a ValueError
        told = " ".join(str(error).replace('in "<unicode string>", line', "in line").split())
        raise RecipeError(f"not valid YAML: {told}") from None
    return expect_fields(data, path=what)


def _whole(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise RecipeError(f"a whole number of {len(digits):,} digits is too large for any field: {digits[:20]}…")
    return int(digits)


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The fields of a JSON object; Python would forget all but the last of those that have one name."""
    twice = [name for name, times in Counter(name for name, _ in pairs).items() if times > 1]
    if twice:
        raise RecipeError(f"the field {shown(twice[0])} is given twice")
    return dict(pairs)


class _YamlLoader(yaml.SafeLoader):
    """YAML as people write it: ``1e-4`` is a number (YAML 1.1 wants ``1.0e-4``); no field twice.

    What looks like another number than YAML 1.1 takes it for, ``010`` or ``1:30``, is none.
    """

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        if len(node.value) > MOST_DIGITS:
            return _whole(node.value)
        number = super().construct_yaml_int(node)
        digits = node.value.replace("_", "").lstrip("+-")
        if ":" in digits or (digits.isdecimal() and int(digits) != abs(number)):
            raise _misread(node, number)
        return number

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        number = super().construct_yaml_float(node)
        if ":" in node.value:
            raise _misread(node, number)
        return number

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [(key.value, None) for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        _once_each(names)  # before what ``<<`` brings in, which a field may replace
        return super().construct_mapping(node, deep=deep)


def _misread(node: yaml.ScalarNode, number: float) -> RecipeError:
    return RecipeError(f"{node.value} is {number} in YAML: write the number that is meant, or quotes around a text")


_YamlLoader.add_constructor("tag:yaml.org,2002:int", _YamlLoader.construct_yaml_int)
_YamlLoader.add_constructor("tag:yaml.org,2002:float", _YamlLoader.construct_yaml_float)
_YamlLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+"), "-+0123456789"
)
