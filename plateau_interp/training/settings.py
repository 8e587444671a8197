"""How a model is trained and measured, as plain data: options as somebody gives them, settings as they are then.

An option that is None means the task's default. `resolved` is the one place that says what this is, for `train`,
`Meter`, recipes and the command line alike.
"""

from dataclasses import dataclass, field

from plateau_interp.checks import check_norm, check_whole, freeze_several, one_of, shown
from plateau_interp.training.optimizers import Adam, LearningRateSchedule
from plateau_interp.training.precision import Precision
from plateau_interp.types import Defaults, OptimizerSpec, Task

__all__ = ["MeasuringOptions", "MeasuringSettings", "TrainingOptions", "TrainingSettings"]


@dataclass(frozen=True)
class TrainingSettings:
    """How to train, in full: the fields of `TrainingOptions`, none of them left open.

    Raises:
        ValueError: for a number that cannot be.
    """

    steps: int
    batch_size: int
    optimizer: OptimizerSpec
    grad_clip: float
    schedule: LearningRateSchedule = field(default_factory=LearningRateSchedule)
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        check_whole(self, "steps", "batch_size", least=1)
        if isinstance(self.optimizer, type) or not isinstance(self.optimizer, OptimizerSpec):
            raise ValueError(f"optimizer must be plain data such as Adam(); got {shown(self.optimizer)}")
        if not isinstance(self.schedule, LearningRateSchedule):
            raise ValueError(f"schedule must be a LearningRateSchedule(); got {shown(self.schedule)}")
        check_norm(self, "grad_clip")
        one_of(Precision, precision=self.precision)

    def resolved(self, task: Task) -> "TrainingSettings":
        """Itself: nothing is left to the task."""
        return self


@dataclass(frozen=True)
class TrainingOptions:
    """How to train; None means the task's default.

    Args:
        steps: updates to make.
        batch_size: sequences a step, fresh ones or the next of an epoch.
        optimizer: one of `plateau list optimizers`, with its fields.
        grad_clip: largest norm of the whole gradient, ``math.inf`` for no clipping.
        schedule: of the learning rate; constant unless it says otherwise.
        precision: of the forward and its gradient; weights, optimiser and measures are float32. bfloat16-mixed pays on
            processors with AMX or AVX-512-BF16 and on CUDA, for wide models; tf32 is for CUDA alone.

    Raises:
        ValueError: for a number that cannot be.
    """

    steps: int | None = None
    batch_size: int | None = None
    optimizer: OptimizerSpec | None = None
    grad_clip: float | None = None
    schedule: LearningRateSchedule = field(default_factory=LearningRateSchedule)
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        self._over(Defaults())  # what cannot be is refused where it is written, whatever the task

    def resolved(self, task: Task) -> TrainingSettings:
        """With the task's defaults in the place of None.

        Raises:
            ValueError: if one of them cannot be.

        Example:
            >>> from plateau_interp.tasks import Histogram
            >>> TrainingOptions(steps=10).resolved(Histogram()).grad_clip
            1.0
        """
        return self._over(task.defaults)

    def _over(self, defaults: Defaults) -> TrainingSettings:
        optimizer = Adam(defaults.learning_rate) if defaults.optimizer is None else defaults.optimizer
        return TrainingSettings(
            steps=defaults.steps if self.steps is None else self.steps,
            batch_size=defaults.batch_size if self.batch_size is None else self.batch_size,
            optimizer=optimizer if self.optimizer is None else self.optimizer,
            grad_clip=defaults.grad_clip if self.grad_clip is None else self.grad_clip,
            schedule=self.schedule,
            precision=self.precision,
        )


@dataclass(frozen=True)
class MeasuringSettings:
    """What the meter does, in full: the fields of `MeasuringOptions`, none of them left open.

    Raises:
        ValueError: for a number that cannot be.
    """

    every: int
    n_sequences: int = 64
    cosine_at: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_whole(self, "every", "n_sequences", least=1)
        freeze_several(self, "cosine_at")

    def resolved(self, task: Task) -> "MeasuringSettings":
        """Itself: nothing is left to the task."""
        return self


@dataclass(frozen=True)
class MeasuringOptions:
    """What the meter does; None means the task's default.

    Args:
        every: steps from one measurement to the next.
        n_sequences: sequences to decode for accuracy and repetition.
        cosine_at: hook points at which to measure collapse, beside the final hidden states.

    Raises:
        ValueError: for a number that cannot be.
    """

    every: int | None = None
    n_sequences: int = MeasuringSettings.n_sequences
    cosine_at: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._over(Defaults())

    def resolved(self, task: Task) -> MeasuringSettings:
        """With the task's default in the place of None.

        Raises:
            ValueError: if that cannot be.
        """
        return self._over(task.defaults)

    def _over(self, defaults: Defaults) -> MeasuringSettings:
        every = defaults.measure_every if self.every is None else self.every
        return MeasuringSettings(every, self.n_sequences, self.cosine_at)
