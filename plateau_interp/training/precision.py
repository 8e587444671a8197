"""In which precision a training step multiplies matrices: what `train`, recipes and ``--precision`` name by a word.

Weights, the optimiser's state, the loss and every measure are float32 whatever the word; it says how the forward and
its gradient are computed.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from plateau_interp.checks import one_of
from plateau_interp.types import Batch, HookedModel, Task

__all__ = ["Precision", "check_precision", "has_bfloat16", "multiplying", "output_of", "time_gained"]

Precision = Literal["float32", "tf32", "bfloat16-mixed"]
"""``float32``: as the weights are. ``tf32``: products of float32 matrices with 10 bits of mantissa, sums in float32; on
CUDA alone. ``bfloat16-mixed``: the forward under autocast, products of bfloat16 matrices, weights in float32."""

TIMED = 3
"""Steps of each kind that are timed; the fastest counts."""


def check_precision(precision: Any, dtype: torch.dtype, device: str | torch.device | None = None) -> None:
    """Refuse a precision that a model's weights or its device do not have.

    Args:
        precision: one of `Precision`.
        dtype: of the weights.
        device: where they are; None asks for the weights alone.

    Raises:
        ValueError: for an unknown word, with the nearest; for weights that are not float32, or tf32 without CUDA.
    """
    one_of(Precision, precision=precision)
    if precision == "float32":
        return
    if dtype != torch.float32:
        name = str(dtype).removeprefix("torch.")
        raise ValueError(f"precision {precision} is for models whose dtype is float32; got {name}")
    if precision == "tf32" and device is not None and torch.device(device).type != "cuda":
        raise ValueError(f"precision tf32 is that of CUDA devices; got device {str(device)!r}")


@contextmanager
def multiplying(precision: Precision, device: torch.device) -> Iterator[None]:
    """Products of float32 matrices on a CUDA device as ``precision`` says, forward and backward; then as before.

    Whatever somebody set for the whole process does not count in here, so that a recipe says what was computed.
    """
    if device.type != "cuda":
        yield
        return
    products = torch.backends.cuda.matmul
    before = products.fp32_precision
    products.fp32_precision = "tf32" if precision == "tf32" else "ieee"
    try:
        yield
    finally:
        products.fp32_precision = before


def output_of(model: HookedModel, batch: Batch, precision: Precision) -> Float[Tensor, "batch pos d_output"]:
    """The model's output in a precision, itself always in the dtype of the weights."""
    mixed = precision == "bfloat16-mixed"
    with torch.autocast(batch.tokens.device.type, dtype=torch.bfloat16, enabled=mixed):
        output: Tensor = model(batch.inputs)
    return output.float() if mixed else output


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 matrices itself: any but a processor without AMX and AVX-512-BF16.

    Example:
        >>> has_bfloat16(torch.device("cpu")) in (True, False)
        True
    """
    if device.type != "cpu":
        return True
    has = torch.cpu.get_capabilities()
    return bool(has.get("amx_bf16") or has.get("avx512_bf16"))


def time_gained(precision: Precision, model: HookedModel, task: Task, batch: Batch) -> float:
    """How many times as long a forward and a backward take in float32: above 1 where a precision pays.

    Timed on this machine, now, alternately, `TIMED` of each after one that does not count; the fastest of each kind is
    compared. Weights stay as they are, gradients are cleared.

    Example:
        >>> from plateau_interp.models import toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> from plateau_interp.training.batches import training_batch
        >>> task = MovingWindowSum(n=4)
        >>> batch = training_batch(task, seed=0, step=0, batch_size=8)
        >>> time_gained("bfloat16-mixed", toy_model(task, d_model=32), task, batch) > 0
        True
    """
    device = batch.tokens.device

    def seconds(kind: Precision) -> float:
        began = time.perf_counter()
        with multiplying(kind, device):
            task.loss(output_of(model, batch, kind), batch).backward()  # type: ignore[no-untyped-call]
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken = time.perf_counter() - began
        for parameter in model.parameters():
            parameter.grad = None
        return taken

    pairs = [(seconds("float32"), seconds(precision)) for _ in range(1 + TIMED)][1:]
    plain, other = (min(kind) for kind in zip(*pairs, strict=True))
    return float(plain / other)
