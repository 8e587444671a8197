"""`Meter`: which measures, at which steps, read from which hook points.

A meter reads attention and hidden states from the training forward itself, through hooks that are the last at their
hook point: it sees what the interventions made of the tensor. Accuracy and repetition need answers, which are decoded
from sequences of their own random stream. Measuring never changes a run: the weights are bit for bit those of an
unmeasured one.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from plateau_interp import metrics
from plateau_interp.decoding import greedy_answers
from plateau_interp.types import Batch, HookedModel, Task, answer_rows, layer_targets

__all__ = ["Meter"]

FINAL_STATE = "unembed.hook_in"
"""The hidden state of the collapse measure: the final LayerNorm's output with gain and bias (`pre_lm_h`)."""


@dataclass(eq=False)
class Meter:
    """Figure 2's measures of a model in training.

    | name | what | range |
    |---|---|---|
    | ``accuracy`` | token accuracy of greedy answers (`metrics.token_accuracy`) | 0 to 1 |
    | ``accuracy_j`` | the same at answer position j | 0 to 1 |
    | ``repetition``, ``repetition_truth`` | neighbours that are equal, in answers and in the truth | 0 to 1 |
    | ``attention_progress`` | share of absolute attention on target positions, answer rows, mean over the layers that
      have a map (each as ``attention_progress_l`` when there are several) | 0 to 1 |
    | ``cosine`` | mean pairwise cosine of the final hidden states of the task's pairs of answer rows | -1 to 1 |

    Attention and cosine are those of the training batch, as in the paper; so is the time: the model after t updates on
    the batch of step t (the authors measure the same quantities after update t, which they log under index t).
    Accuracy and repetition are measured on ``n_sequences`` fresh sequences; the authors take train accuracy and
    ``idx{j}_check`` from the 256 training sequences, which here differ in nothing but the draw.

    Args:
        task: knows the answers, the target positions and the pairs.
        every: measure at steps divisible by this.
        n_sequences: how many answers to decode at a measured step.

    Raises:
        ValueError: if ``every`` or ``n_sequences`` is below 1.

    Source: arXiv 2506.13688, figure 2; definitions in `plateau_interp.metrics`.

    Example:
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> from plateau_interp import toy_model, train
        >>> task = MovingWindowSum(n=4)
        >>> step = next(train(toy_model(task, d_model=32), task, steps=1, meter=Meter(task)))
        >>> 0 <= step.metrics["attention_progress"] <= 1
        True
    """

    task: Task
    every: int = 1
    n_sequences: int = 64
    _seen: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"every must be at least 1; got {self.every}")
        if self.n_sequences < 1:
            raise ValueError(f"n_sequences must be at least 1; got {self.n_sequences}")

    def is_due(self, step: int) -> bool:
        """Whether this step is measured."""
        return step % self.every == 0

    @contextmanager
    def watching(self, model: HookedModel) -> Iterator[None]:
        """Keep what `measure` needs from the forward made in this context; the forward is not touched.

        The hooks are registered anew each time, so they come after every edit that is attached by now.
        """
        rows = answer_rows(self.task)

        def keep_pattern(pattern: Tensor, *, hook: Any) -> None:
            self._seen[hook.name] = pattern.detach()[:, :, rows]

        def keep_state(state: Tensor, *, hook: Any) -> None:
            self._seen[hook.name] = state.detach()[:, rows]

        patterns = [(_pattern_name(layer), keep_pattern) for layer in range(model.cfg.n_layers)]
        with model.hooks(fwd_hooks=[*patterns, (FINAL_STATE, keep_state)]):
            yield

    @torch.no_grad()
    def measure(self, model: HookedModel, batch: Batch, *, generator: torch.Generator) -> dict[str, Float[Tensor, ""]]:
        """The measures, as scalars on the model's device.

        Args:
            model: as it was in the forward.
            batch: what the forward of `watching` was made on.
            generator: for the sequences whose answers are decoded.
        """
        attention = self._attention(batch, n_layers=model.cfg.n_layers)
        measured = {**self._answers(model, generator), **attention, "cosine": self._cosine()}
        self._seen.clear()
        return measured

    def _answers(self, model: HookedModel, generator: torch.Generator) -> dict[str, Tensor]:
        tokens = self.task.sample(self.n_sequences, generator=generator).tokens
        truth = tokens[:, self.task.answer]
        answers = greedy_answers(model, self.task, tokens)
        by_position = metrics.position_accuracy(answers, truth)
        return {
            "accuracy": metrics.token_accuracy(answers, truth).mean(),
            **{f"accuracy_{index}": value for index, value in enumerate(by_position)},
            "repetition": metrics.repetition_frequency(answers).mean(),
            "repetition_truth": metrics.repetition_frequency(truth).mean(),
        }

    def _attention(self, batch: Batch, *, n_layers: int) -> dict[str, Tensor]:
        rows = answer_rows(self.task)
        progress = {
            layer: metrics.attention_progress(self._seen[_pattern_name(layer)], target[:, rows]).mean()
            for layer, target in enumerate(layer_targets(self.task, batch, n_layers=n_layers))
            if target is not None
        }
        if not progress:
            return {}
        mean = torch.stack(list(progress.values())).mean()
        each = {f"attention_progress_{layer}": value for layer, value in progress.items()} if len(progress) > 1 else {}
        return {"attention_progress": mean, **each}

    def _cosine(self) -> Tensor:
        states = self._seen[FINAL_STATE]
        return metrics.mean_pairwise_cosine(states, self.task.cosine_pairs().to(states.device)).mean()


def _pattern_name(layer: int) -> str:
    return f"blocks.{layer}.attn.hook_pattern"
