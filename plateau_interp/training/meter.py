"""`Meter`: which measures, at which steps, read from which hook points.

A meter reads attention and hidden states from the training forward itself, through hooks that are the last at their
hook point: it sees what the interventions made of the tensor. Accuracy and repetition need answers, which are decoded
from sequences of their own random stream. Measuring never changes a run: the weights are bit for bit those of an
unmeasured one.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plateau_interp import metrics
from plateau_interp.checks import shown
from plateau_interp.decoding.answers import known_answers
from plateau_interp.interventions.hook_points import FINAL_STATE, OUTPUT, output_cap, pattern_name, resolve_hook_points
from plateau_interp.interventions.measuring import numbered
from plateau_interp.models.fitting import check_sequences, check_task
from plateau_interp.positions import answers_in, layer_targets, true_answers
from plateau_interp.training.settings import MeasuringOptions, MeasuringSettings
from plateau_interp.training.shares import answered_means, check_own_columns, column_word, group_means, group_names
from plateau_interp.types import IGNORE, Batch, HookedModel, Task, answer_rows, check_model, is_finite

__all__ = ["Meter", "MeterWarning", "unused_sequences"]


class MeterWarning(UserWarning):
    """Something that a meter was asked for comes to nothing."""


def unused_sequences(task: Task, n_sequences: int) -> str:
    """Why it comes to nothing how many sequences are to be decoded; empty where it does not, or is the default.

    Example:
        >>> from plateau_interp.tasks import MovingWindowSum, Text
        >>> unused_sequences(MovingWindowSum(), 200), unused_sequences(Text(), 200)
        ('', 'n_sequences=200 comes to nothing: Text has measures of its own')
    """
    if n_sequences == MeasuringSettings.n_sequences:
        return ""
    measures = getattr(type(task), "measures", None)
    why = ""
    if isinstance(task, Task) and Task in type(task).__mro__ and measures is not Task.measures:
        why = "has measures of its own"
    elif is_finite(task):
        why = "is measured on its whole sets"
    elif not task.lookahead:
        why = "is measured on the training batch"
    return f"n_sequences={n_sequences} comes to nothing: {type(task).__name__} {why}" if why else ""


class Meter:
    """Figure 2's measures of a model in training.

    | name | what | range |
    |---|---|---|
    | ``accuracy`` | token accuracy of greedy answers (`metrics.token_accuracy`) | 0 to 1 |
    | ``accuracy_j`` | the same at answer position j; NaN where it is never labelled | 0 to 1 |
    | ``accuracy_<kind>`` | the same over the answers of one of the task's `answer_kinds`; NaN where there is none | as
      above |
    | ``repetition``, ``repetition_truth`` | neighbours that are equal, in answers and in the truth | 0 to 1 |
    | ``entropy``, ``entropy_truth`` | of the tokens within an answer (`metrics.sequence_entropy`) | 0 to ln m nats |
    | ``copies_of_first`` | answer tokens that equal the answer's first, itself included | 1/m to 1 |
    | ``attention_progress`` | share of absolute attention on target positions, answer rows, mean over the layers that
      have a map (each as ``attention_progress_l`` when there are several) | 0 to 1 |
    | ``attention_separator``, ``attention_progress_without_separator`` | share of absolute attention on the separator,
      answer rows, mean over layers; progress of the attention that is not on it; both only for a task with a
      `separator_map` | 0 to 1 |
    | ``cosine`` | mean pairwise cosine of the final hidden states of the task's pairs of answer rows | -1 to 1 |
    | ``cosine@POINT``, ``norm@POINT`` | the same cosine, and the mean length of the states of answer rows, at each hook
      point of ``cosine_at`` | -1 to 1; above 0 |
    | ``<measure>_<group>`` | each of these measures, and ``loss``, over the sequences of one of the task's `groups`,
      such as ``accuracy_moving_window_sum``; NaN where the batch has none | as above |
    | ``validation_loss``, ``validation_accuracy`` | on the validation set of a finite task | the task's unit, 0 to 1 |

    A task with measures of its own (`Task.measures`) has those in the place of what is measured of greedy answers and
    their states; ``cosine@POINT`` is then that of the training batch's own tokens.

    Where sequences are filled in (`Task.lookahead` is 0) nothing is generated: ``accuracy`` is then the share of the
    scored tokens of the training batch (or of a finite task's training set) that are the likeliest, and there is no
    repetition or entropy. Where numbers are predicted there is no accuracy either.

    Of a finite task, ``accuracy`` is that of the whole training set, so that it and ``validation_accuracy`` are of one
    moment. A task whose answer is one token has none of the measures that compare answers or their states: no
    repetition, entropy or ``accuracy_j``, and no cosine; of ``cosine_at`` it has ``norm@POINT`` alone.

    Answers may be of several lengths: where the label is `IGNORE` nothing is right or wrong, repeats or is counted as a
    token, and measures are the means over the sequences with something to measure. Attention and states are those of
    all answer rows; which of their cells and pairs are measured, the task's maps and pairs say.

    Attention and cosine are those of the training batch, as in the paper; so is the time: the model after t updates on
    the batch of step t (the authors measure the same quantities after update t, which they log under index t).
    Accuracy and repetition are measured on ``n_sequences`` fresh sequences; the authors take train accuracy and
    ``idx{j}_check`` from the 256 training sequences, which here differ in nothing but the draw.

    Args:
        task: knows the answers, the target positions and the pairs.
        every: measure at steps divisible by this, by default the task's (`Task.defaults`).
        n_sequences: how many answers to decode at a measured step. A finite task's sets are taken whole, and a task
            with measures of its own has its own number: a warning then names it if it is not the default.
        cosine_at: hook points of shape ``[batch pos width]`` at which to measure collapse, too, such as
            ``blocks.0.hook_attn_out`` (figures 41 and 42).

    Raises:
        ValueError: if ``every`` or ``n_sequences`` is below 1, or two groups of the task would have one column; when it
            measures, if two groups or answer kinds would, or one that of an answer position; when it watches, for a
            hook point that is not there, or in the forward has another shape.

    Source: arXiv 2506.13688, figure 2; definitions in `plateau_interp.metrics`.

    Example:
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> from plateau_interp import toy_model, train
        >>> task = MovingWindowSum(n=4)
        >>> step = next(train(toy_model(task, d_model=32), task, steps=1, meter=Meter(task)))
        >>> 0 <= step.metrics["attention_progress"] <= 1
        True
    """

    def __init__(
        self,
        task: Task,
        *,
        every: int | None = None,
        n_sequences: int = MeasuringSettings.n_sequences,
        cosine_at: tuple[str, ...] = (),
    ) -> None:
        check_task(task)
        self.task = task
        self.settings: MeasuringSettings = MeasuringOptions(every, n_sequences, cosine_at).resolved(task)
        if unused := unused_sequences(task, n_sequences):
            warnings.warn(unused, MeterWarning, stacklevel=2)
        check_own_columns(group_names(task))
        self._seen: dict[str, Tensor] = {}
        self._placed: dict[tuple[str, torch.device], Tensor] = {}
        self._checked = False

    def __repr__(self) -> str:
        return f"Meter({self.task}, {self.settings})"

    @property
    def every(self) -> int:
        """Steps from one measurement to the next."""
        return self.settings.every

    @property
    def n_sequences(self) -> int:
        """How many answers it decodes at a measured step."""
        return self.settings.n_sequences

    @property
    def cosine_at(self) -> tuple[str, ...]:
        """The hook points at which it measures collapse, beside the final hidden states."""
        return self.settings.cosine_at

    def is_due(self, step: int) -> bool:
        """Whether this step is measured."""
        return step % self.every == 0

    @contextmanager
    def watching(self, model: HookedModel) -> Iterator[None]:
        """Keep what `measure` needs from the forward made in this context; the forward is not touched.

        The hooks are registered anew each time, so they come after every edit that is attached by now.
        """
        rows = answer_rows(self.task)
        for point in self.cosine_at:
            try:
                found = resolve_hook_points(model, point)
            except ValueError as error:
                raise ValueError(f"cosine_at: {error}") from None
            if found != (point,):
                raise ValueError(f"cosine_at takes hook points one by one; {shown(point)} stands for several")

        def keep_pattern(pattern: Tensor, *, hook: Any) -> None:
            self._seen[hook.name] = pattern.detach()[:, :, rows]

        def keep_state(state: Tensor, *, hook: Any) -> None:
            if state.ndim != 3:
                raise ValueError(f"cosine_at: {hook.name} holds {tuple(state.shape)}; expected [batch, pos, width]")
            self._seen[hook.name] = state.detach()[:, rows]

        cap = output_cap(model)

        def keep_output(output: Tensor, *, hook: Any) -> None:
            output = output.detach()
            self._seen[hook.name] = output if cap is None else cap * torch.tanh(output / cap)

        patterns = [(pattern_name(layer), keep_pattern) for layer in range(model.cfg.n_layers)]
        states = [(point, keep_state) for point in dict.fromkeys((FINAL_STATE, *self.cosine_at))]
        with model.hooks(fwd_hooks=[*patterns, *states, (OUTPUT, keep_output)]):
            yield

    @torch.no_grad()
    def measure(self, model: HookedModel, batch: Batch, *, generator: torch.Generator) -> dict[str, Float[Tensor, ""]]:
        """The measures, as scalars on the model's device.

        Args:
            model: as it was in the forward.
            batch: what the forward of `watching` was made on.
            generator: for the sequences whose answers are decoded.

        Raises:
            ValueError: for an argument that is none, and where no forward was watched since the last measure.
        """
        check_model(model)
        if not isinstance(batch, Batch):
            raise ValueError(f"batch must be a Batch(tokens, labels); got {shown(batch)}")
        if not isinstance(generator, torch.Generator):
            raise ValueError(f"generator must be a torch.Generator; got {shown(generator)}")
        if OUTPUT not in self._seen:
            raise ValueError("the meter saw no forward: make one in `with meter.watching(model):` before each measure")
        own = self.task.measures(model, generator=generator)
        answered, by_group = self._of_answers(model, batch, generator) if own is None else (own, {})
        watched = self._attention(batch, n_layers=model.cfg.n_layers)
        if self._several_answers:
            if own is None:
                watched["cosine"] = self._cosine(FINAL_STATE)
            watched |= {f"cosine@{point}": self._cosine(point) for point in self.cosine_at}
        watched |= {f"norm@{point}": _mean_length(self._seen[point]) for point in self.cosine_at}
        groups = self.task.groups(batch)
        check_own_columns([*groups])
        others = {
            **{name: values.mean() for name, values in watched.items()},
            **by_group,
            **self._group_losses("loss", self._seen[OUTPUT], batch, groups),
            **group_means(watched, groups),
            **self._validation(model, batch.tokens.device),
        }
        self._seen.clear()
        return {**(answered if own is None else numbered(own, taken=others)), **others}

    def _of_answers(
        self, model: HookedModel, batch: Batch, generator: torch.Generator
    ) -> tuple[dict[str, Float[Tensor, ""]], dict[str, Float[Tensor, ""]]]:
        """What is measured of answers: over all sequences, and over each of the task's groups."""
        if self.task.lookahead:
            return self._answered(model, batch, generator)
        drawn, output = batch, self._seen[OUTPUT]
        if is_finite(self.task) and len(batch) < len(self.task.train_set):
            drawn = self.task.train_set.to(batch.tokens.device)
            output = model(drawn.inputs)
        found, by_group = self._filled_in(output, drawn)
        truth = true_answers(self.task, drawn)
        by_kind = self._by_kind(answers_in(self.task, output), truth, drawn) if found else {}
        return {**found, **by_kind}, by_group

    def _by_kind(
        self, answers: Int[Tensor, "batch answer"], truth: Int[Tensor, "batch answer"], batch: Batch
    ) -> dict[str, Float[Tensor, ""]]:
        """The accuracy of each of the task's kinds of answers."""
        kinds = self.task.answer_kinds(batch)
        check_own_columns([*self.task.groups(batch)], [*kinds])
        labelled, right = truth != IGNORE, answers == truth
        return {
            f"accuracy_{column_word(kind)}": (right & those & labelled).sum() / (those & labelled).sum()
            for kind, those in kinds.items()
        }

    def _filled_in(
        self, output: Tensor, batch: Batch
    ) -> tuple[dict[str, Float[Tensor, ""]], dict[str, Float[Tensor, ""]]]:
        """Of tokens that are filled in, how many of a batch's and of its groups' are right; of numbers nothing."""
        truth = true_answers(self.task, batch)
        if truth.is_floating_point():
            return {}, {}
        labelled, right = truth != IGNORE, answers_in(self.task, output) == truth
        by_group = {
            f"accuracy_{column_word(group)}": (right & mask[:, None]).sum() / (labelled & mask[:, None]).sum()
            for group, mask in self.task.groups(batch).items()
        }
        return {"accuracy": right.sum() / labelled.sum()}, by_group

    def _answered(
        self, model: HookedModel, batch: Batch, generator: torch.Generator
    ) -> tuple[dict[str, Float[Tensor, ""]], dict[str, Float[Tensor, ""]]]:
        """What is measured of greedy answers: over all sequences, and over each of the task's groups."""
        task, device = self.task, batch.tokens.device
        drawn = task.train_set.to(device) if is_finite(task) else task.sample(self.n_sequences, generator=generator)
        if not self._checked:
            for given in (batch, drawn, *((task.validation_set,) if is_finite(task) else ())):
                check_sequences(task, given)
            self._checked = True
        answers, truth = self._answers(model, drawn), true_answers(task, drawn)
        decoded = {"accuracy": metrics.token_accuracy(answers, truth)}
        by_position = {}
        if self._several_answers:
            written = answers.masked_fill(truth == IGNORE, IGNORE)
            decoded["repetition"] = metrics.repetition_frequency(written)
            decoded["repetition_truth"] = metrics.repetition_frequency(truth)
            by_position = {f"accuracy_{j}": right for j, right in enumerate(metrics.position_accuracy(answers, truth))}
            decoded["entropy"] = metrics.sequence_entropy(written, d_vocab=max(task.d_vocab, model.cfg.d_vocab_out))
            decoded["entropy_truth"] = metrics.sequence_entropy(truth, d_vocab=task.d_vocab)
            decoded["copies_of_first"] = metrics.copies_of_first(written)
        means = {name: values.nanmean() for name, values in decoded.items()}
        by_kind = self._by_kind(answers, truth, drawn)
        return {**means, **by_position, **by_kind}, answered_means(decoded, task.groups(drawn))

    @property
    def _several_answers(self) -> bool:
        return bool(self.task.answer.stop - self.task.answer.start > 1)

    def _answers(self, model: HookedModel, batch: Batch, output: Tensor | None = None) -> Int[Tensor, "batch answer"]:
        """Greedy answers; one of a single token stands in the output of the prompt, if that is known already."""
        if self._several_answers:
            return known_answers(model, self.task, batch.tokens)
        output = model(batch.inputs) if output is None else output
        return answers_in(self.task, output)

    def _validation(self, model: HookedModel, device: torch.device) -> dict[str, Float[Tensor, ""]]:
        if not is_finite(self.task):
            return {}
        batch = self.task.validation_set.to(device)
        output = model(batch.inputs)
        groups = self.task.groups(batch)
        losses = {"validation_loss": self.task.loss(output, batch)}
        of_groups = self._group_losses("validation_loss", output, batch, groups)
        if not self.task.lookahead:
            found, by_group = self._filled_in(output, batch)
            filled_in = {f"validation_{name}": value for name, value in (found | by_group).items()}
            return losses | filled_in | of_groups
        accuracy = metrics.token_accuracy(self._answers(model, batch, output), true_answers(self.task, batch))
        by_group = answered_means({"validation_accuracy": accuracy}, groups)
        return losses | {"validation_accuracy": accuracy.nanmean()} | of_groups | by_group

    def _attention(self, batch: Batch, *, n_layers: int) -> dict[str, Float[Tensor, " batch"]]:
        rows = answer_rows(self.task)
        patterns = [self._seen[pattern_name(layer)] for layer in range(n_layers)]
        targets = {
            layer: target[:, rows]
            for layer, target in enumerate(layer_targets(self.task, batch, n_layers=n_layers))
            if target is not None
        }
        progress = {layer: metrics.attention_progress(patterns[layer], target) for layer, target in targets.items()}
        shares = {}
        if progress:
            shares["attention_progress"] = torch.stack(list(progress.values())).mean(dim=0)
        if len(progress) > 1:
            shares |= {f"attention_progress_{layer}": values for layer, values in progress.items()}
        separator = self.task.separator_map()
        if separator is not None:
            cells = self._on("separator", separator, patterns[0].device)[:, rows]
            on_it = [metrics.attention_progress(pattern, cells) for pattern in patterns]
            shares["attention_separator"] = torch.stack(on_it).mean(dim=0)
            without = [
                metrics.attention_progress(patterns[layer] * ~cells, target) for layer, target in targets.items()
            ]
            if without:
                shares["attention_progress_without_separator"] = torch.stack(without).mean(dim=0)
        return shares

    def _cosine(self, point: str) -> Float[Tensor, " batch"]:
        states = self._seen[point]
        return metrics.mean_pairwise_cosine(states, self._on("pairs", self.task.cosine_pairs(), states.device))

    def _on(self, name: str, what: Tensor, device: torch.device) -> Tensor:
        """One of the task's own tensors on a device: brought there once, since each time would wait for the device."""
        if what.device == device:
            return what
        if (name, device) not in self._placed:
            self._placed[name, device] = what.to(device)
        return self._placed[name, device]

    def _group_losses(
        self, name: str, output: Tensor, batch: Batch, groups: Mapping[str, Bool[Tensor, " batch"]]
    ) -> dict[str, Float[Tensor, ""]]:
        # Labels are hidden, not rows chosen: how many rows a group has, the device alone knows.
        return {
            f"{name}_{column_word(group)}": self.task.loss(output, batch.scoring(mask))
            for group, mask in groups.items()
        }


def _mean_length(states: Float[Tensor, "batch row width"]) -> Float[Tensor, " batch"]:
    """The mean length of states, in float32 at least: under mixed precision they are bfloat16."""
    precise = torch.promote_types(states.dtype, torch.float32)
    lengths: Tensor = torch.linalg.vector_norm(states, dim=-1, dtype=precise)
    return lengths.mean(dim=-1)
