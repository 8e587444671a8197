"""Activation caching while training: named hook points at chosen steps, streamed to disk and read back lazily.

For a single forward in memory use TransformerLens's ``run_with_cache``; this is for tensors through time, of which no
two are in memory at once.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from plateau_interp.checks import check_whole, freeze_names
from plateau_interp.files import write_atomically
from plateau_interp.interventions.attaching import hooking
from plateau_interp.interventions.clock import listening
from plateau_interp.interventions.hook_points import resolve_hook_points
from plateau_interp.types import HookedModel

__all__ = ["Capture", "CaptureReceipt", "Captured"]


@dataclass(eq=False)
class CaptureReceipt:
    """How often a capture recorded a tensor, and how many bytes it wrote."""

    fired: int = 0
    n_bytes: int = 0
    was_due: bool = False

    def complaints(self) -> list[str]:
        """A recording that was due and never came; a step that was not due is no complaint."""
        return ["never recorded: no forward reached its hook points"] if self.was_due and not self.fired else []


@dataclass(frozen=True)
class Capture:
    """Record activations of the training forward to disk; changes nothing.

    Attach it with `intervening`, or give it to `train`, among edits: one that comes before an edit of the same hook
    point records the tensor as it was, one that comes after it the edited one. Of each due step the first forward is
    recorded, in training the one on the training batch; the meter's decoding is not.

    Args:
        names: hook points; a ``*`` stands for anything, as in ``blocks.*.attn.hook_pattern``.
        out: the folder to write to; an older recording of the same step is replaced.
        every: record at steps divisible by this.
        sequences: record only the first so many sequences of a batch; None for all.

    Raises:
        ValueError: on construction, for a number that is not whole or below 1, or no name; on attaching, for a hook
            point that is not there.

    Example:
        >>> capture = Capture(("blocks.0.attn.hook_pattern",), out="runs/patterns", every=10, sequences=4)
        >>> for step in train(model, task, steps=400, interventions=(capture,)): ...  # doctest: +SKIP
        >>> Captured("runs/patterns")[100, "blocks.0.attn.hook_pattern"].shape  # doctest: +SKIP
        torch.Size([4, 1, 32, 32])
    """

    names: tuple[str, ...]
    out: str
    every: int = 1
    sequences: int | None = None

    name: ClassVar[str] = "capture"

    def __post_init__(self) -> None:
        if isinstance(self.names, str):
            raise ValueError(f"names must be several hook points, such as ({self.names!r},); got one string")
        freeze_names(self, "names")
        check_whole(self, "every", least=1)
        if self.sequences is not None:
            check_whole(self, "sequences", least=1)

    @contextmanager
    def attach(self, model: HookedModel) -> Iterator[CaptureReceipt]:
        """Record while the context is open."""
        names = resolve_hook_points(model, self.names)
        receipt = CaptureReceipt()
        folder = Path(self.out)
        now, missing = [0], set[str]()
        told: list[int] = []

        def begin(step: int, metrics: Mapping[str, float]) -> None:
            now[0] = step
            is_due = step % self.every == 0
            missing.clear()
            missing.update(names if is_due else ())
            # Whether the step before the first `advance` was due counts only if that never comes.
            receipt.was_due = is_due or (receipt.was_due and len(told) > 1)
            told.append(step)

        def record(act: Tensor, *, hook: Any) -> None:
            if hook.name not in missing:
                return
            missing.discard(hook.name)
            content = safetensors.torch.save({"activation": act.detach()[: self.sequences].contiguous()})
            write_atomically(folder / str(now[0]) / f"{hook.name}.safetensors", content)
            receipt.fired += 1
            receipt.n_bytes += len(content)

        with listening(model, begin) as step, hooking(model, dict.fromkeys(names, record)):
            begin(step, {})
            yield receipt


class Captured(Mapping[tuple[int, str], Tensor]):
    """What a `Capture` wrote: a mapping from (step, hook point) to the activation, read from disk when asked for.

    Raises:
        ValueError: if the folder is not there.
        KeyError: for a step or hook point that was not recorded; the message says what was.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            raise ValueError(f"{self.path} is not a folder; a Capture makes one")

    @property
    def steps(self) -> list[int]:
        """Recorded steps, in order."""
        return sorted(int(child.name) for child in self.path.iterdir() if child.name.isdigit())

    def names(self, step: int) -> list[str]:
        """Hook points recorded at a step, sorted."""
        return sorted(
            file.name.removesuffix(".safetensors") for file in (self.path / str(step)).glob("[!.]*.safetensors")
        )

    def __getitem__(self, key: tuple[int, str]) -> Tensor:
        step, name = key
        file = self.path / str(step) / f"{name}.safetensors"
        if not file.exists():
            raise KeyError(
                f"{name} at step {step} is not recorded; steps are {self.steps}, of step {step} {self.names(step)}"
            )
        try:
            return safetensors.torch.load_file(file)["activation"]
        except SafetensorError as error:
            raise ValueError(f"{file} is damaged: {error}") from None

    def __iter__(self) -> Iterator[tuple[int, str]]:
        return ((step, name) for step in self.steps for name in self.names(step))

    def __len__(self) -> int:
        return sum(1 for _ in self)
