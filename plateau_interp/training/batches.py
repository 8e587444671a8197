"""Which sequences a training step sees: a pure function of seed and step, for endless tasks and finite ones.

The batch of any step can be drawn again without the ones before it, which is what makes resuming and forking bit-exact;
so can that of a finite task, which is trained on in epochs.
"""

import hashlib
import math
from functools import lru_cache

import torch
from jaxtyping import Int
from torch import Tensor

from plateau_interp.checks import seed_number, whole_number
from plateau_interp.training.settings import TrainingOptions
from plateau_interp.types import Batch, Task, is_finite

__all__ = ["TrainingBatches", "place_in_epoch", "samples_before", "stream_generator", "training_batch"]


def training_batch(
    task: Task, *, seed: int, step: int, batch_size: int | None = None, device: str | torch.device = "cpu"
) -> Batch:
    """The batch that `train` uses at a step, whenever it is asked for.

    Of a finite task it is a part of the training set: one epoch after the other, each in the order that seed and epoch
    give it; the whole set, as it is, if ``batch_size`` reaches its size. By default that is the task's, as in `train`.

    Raises:
        ValueError: for a number that cannot be.

    Example:
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> training_batch(MovingWindowSum(), seed=0, step=100).tokens.shape
        torch.Size([256, 33])
    """
    seed, step = seed_number(seed), whole_number("step", step, least=0)
    batch_size = TrainingOptions(batch_size=batch_size).resolved(task).batch_size
    return TrainingBatches(task, seed, batch_size, device).at(step)


class TrainingBatches:
    """`training_batch` for step after step: a finite task's training set is asked for once.

    Args:
        task: endless or finite.
        seed: of the batches.
        batch_size: sequences a step.
        device: of the batches.
    """

    def __init__(self, task: Task, seed: int, batch_size: int, device: str | torch.device) -> None:
        self._task, self._seed, self._size, self._device = task, seed, batch_size, device
        self._everything = task.train_set if is_finite(task) else None

    def at(self, step: int) -> Batch:
        """The batch of a step, in memory of its own."""
        everything = self._everything
        if everything is None:
            generator = stream_generator(self._seed, "training", step, self._device)
            return self._task.sample(self._size, generator=generator)
        if self._size >= len(everything):
            return everything.clone().to(self._device)
        epoch, rows = place_in_epoch(len(everything), step, self._size)
        return everything.take(_order(self._seed, epoch, len(everything))[rows]).to(self._device)

    def epoch(self, step: int) -> int | None:
        """How often the whole training set was seen before; None where every batch is fresh."""
        return None if self._everything is None else place_in_epoch(len(self._everything), step, self._size)[0]

    def samples_before(self, step: int) -> int:
        """As the function, for these batches."""
        return _samples_before(self._everything, step, self._size)


def samples_before(task: Task, *, step: int, batch_size: int) -> int:
    """Training sequences seen in the updates before a step.

    Example:
        >>> from plateau_interp.tasks import ModularArithmetic
        >>> task = ModularArithmetic(p=97, train_fraction=0.5)  # 4,656 equations: 9 batches of 512 and one of 48
        >>> [samples_before(task, step=step, batch_size=512) for step in (9, 10, 11)]
        [4608, 4656, 5168]
    """
    return _samples_before(task.train_set if is_finite(task) else None, step, batch_size)


def _samples_before(everything: Batch | None, step: int, batch_size: int) -> int:
    if everything is None:
        return step * batch_size
    epoch, rows = place_in_epoch(len(everything), step, batch_size)
    return epoch * len(everything) + int(rows.start)


def place_in_epoch(n: int, step: int, batch_size: int) -> tuple[int, slice]:
    """Of a step the epoch, and which of its n sequences are the batch."""
    epoch, index = divmod(step, math.ceil(n / batch_size))
    return epoch, slice(index * batch_size, (index + 1) * batch_size)


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, n: int) -> Int[Tensor, " row"]:
    return torch.randperm(n, generator=stream_generator(seed, "epoch", epoch))


def stream_generator(seed: int, stream: str, step: int, device: str | torch.device = "cpu") -> torch.Generator:
    """A generator whose state is a function of seed, stream name and step; different streams share nothing."""
    digest = hashlib.blake2b(f"{seed}/{stream}/{step}".encode(), digest_size=8).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest, "little") >> 1)
