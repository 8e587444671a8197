"""Probing: how well the answer can be read off the activations of a hook point at the answer rows.

A probe says what is there, not whether the model uses it. For what a change of an activation does to the output use
`plateau_interp.hooks.PatchActivation`.
"""

import random
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from plateau_interp.checks import listed, whole_number
from plateau_interp.interventions.hook_points import has_hooks, resolve_hook_points
from plateau_interp.models.fitting import check_fits, check_task
from plateau_interp.positions import true_answers
from plateau_interp.training.batches import stream_generator
from plateau_interp.types import IGNORE, HookedModel, Task, answer_rows, check_model

__all__ = ["ProbeResult", "probe"]

CHUNK = 256
"""Sequences a forward of a model that nothing is attached to: bounds the memory, changes nothing else."""


@dataclass(frozen=True)
class ProbeResult:
    """How well a probe reads the answer."""

    train_accuracy: float
    """Share of the answer tokens it was fitted on that it names, 0 to 1."""
    test_accuracy: float
    """The same on sequences it has not seen."""
    iterations: int
    """Passes over the training tokens."""
    converged: bool
    """Whether fitting stopped by itself, and not at ``max_iterations``."""


def probe(
    model: HookedModel,
    task: Task,
    *,
    hook_point: str = "blocks.0.hook_attn_out",
    n_sequences: int = 2048,
    n_train_sequences: int = 64,
    max_iterations: int = 2000,
    seed: int = 0,
) -> ProbeResult:
    """Fit a small MLP that names each answer token from the activation at its row, and score it on other sequences.

    The classifier is scikit-learn's `MLPClassifier` as in the paper: one hidden ReLU layer of 256, Adam at 1e-3, L2
    1e-4, activations as they are (not standardised). One classifier serves all rows, and rows count alike (those
    whose label is `IGNORE` not at all). The model
    reads the true sequences, and interventions that are attached to it act; as these may look at the whole batch, all
    sequences then go through the model in one forward.

    The sequences are fresh ones of a random stream of their own; the first ``n_train_sequences`` of them train the
    probe. (A task with few different sequences may draw the same one for both sets.)

    The published script takes as training set the first n_sequences / 2 *tokens* of the sequences laid end to end,
    which was probably to be half of the *sequences*. With 2048 sequences of 16 answers that is 1024 tokens, the whole
    of the first 64 sequences: nothing leaks from one set to the other, but the probe is fitted on 3 % of the data and
    not on 50 %. The default is that split; ``n_train_sequences=1024`` is the one that was probably meant. (Where the
    answer's length does not divide n_sequences / 2, the published split would also cut a sequence in two.)

    Args:
        model: left as it is.
        task: of the sequences and answers.
        hook_point: one whose activations are ``[batch, query, ...]``; by default the first layer's attention output,
            behind the output projection and before the residual stream.
        n_sequences: sequences in all.
        n_train_sequences: those that the probe is fitted on; the others test it.
        max_iterations: passes over the training tokens after which fitting ends; the result says if that happened.
        seed: of the sequences and the probe's initial weights and batches.

    Raises:
        ValueError: for what is no model or task; for a hook point that does not exist, is several, does not fire or has
            no query axis; for a split that leaves a set without sequences, or without labelled answers; for
            ``max_iterations`` below 1; for a model too small for the task, and a task whose answers are no tokens.

    Source: arXiv 2506.13688, figure 20, authors' code.

    Example:
        >>> from plateau_interp.models import toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> task = MovingWindowSum(n=4)
        >>> result = probe(toy_model(task, d_model=16), task, n_sequences=40, n_train_sequences=20, max_iterations=5)
        >>> 0 <= result.test_accuracy <= 1, result.converged
        (True, False)
    """
    check_model(model)
    check_task(task)
    sizes = {"n_sequences": n_sequences, "n_train_sequences": n_train_sequences, "max_iterations": max_iterations}
    for name, number in sizes.items():
        whole_number(name, number)
    if not 0 < n_train_sequences < n_sequences:
        raise ValueError(
            f"n_train_sequences must be from 1 to n_sequences - 1 = {n_sequences - 1}; got {n_train_sequences}"
        )
    if max_iterations < 1:
        raise ValueError(f"max_iterations must be at least 1; got {max_iterations}")
    check_fits(model, task)
    if task.d_output != task.d_vocab:
        raise ValueError(f"a probe reads off tokens, but the answers of {task.name} are no tokens")
    # Imported here because it takes seconds and nothing else needs it; that import draws from Python's generator.
    everybodys = random.getstate()
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    random.setstate(everybodys)

    generator = stream_generator(seed, "probing", 0, next(model.parameters()).device)
    batch = task.sample(n_sequences, generator=generator)
    activations = _answer_activations(model, task, batch.inputs, hook_point=_one_hook_point(model, hook_point))
    if not activations.isfinite().all():
        raise ValueError(f"the activations at {hook_point} are NaN or infinite: there is nothing to read off")
    answers = true_answers(task, batch)

    def flat(sequences: slice) -> tuple[Any, Any]:
        features = rearrange(activations[sequences], "sequence row feature -> (sequence row) feature")
        tokens = answers[sequences].flatten()
        is_one = tokens != IGNORE
        return features[is_one].float().cpu().numpy(), tokens[is_one].cpu().numpy()

    seen, unseen = flat(slice(n_train_sequences)), flat(slice(n_train_sequences, None))
    for (_, tokens), which in ((seen, "to train on"), (unseen, "to test on")):
        if not len(tokens):
            raise ValueError(f"no answer of the sequences {which} is labelled: there is nothing to read off")
    classifier = MLPClassifier(hidden_layer_sizes=(256,), max_iter=max_iterations, random_state=seed % 2**32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # `converged` says it
        classifier.fit(*seen)
    return ProbeResult(
        train_accuracy=float(classifier.score(*seen)),
        test_accuracy=float(classifier.score(*unseen)),
        iterations=int(classifier.n_iter_),
        converged=classifier.n_iter_ < max_iterations,
    )


def _one_hook_point(model: HookedModel, name: str) -> str:
    names = resolve_hook_points(model, name)
    if len(names) > 1:
        raise ValueError(f"hook_point must be one hook point; {name!r} is {listed(names)}")
    return names[0]


@torch.no_grad()
def _answer_activations(
    model: HookedModel, task: Task, inputs: Int[Tensor, "sequence query"], *, hook_point: str
) -> Float[Tensor, "sequence row feature"]:
    """What stands at a hook point in the answer rows, heads side by side."""
    found: list[Tensor] = []
    last: list[Tensor] = []

    def keep(act: Tensor, *, hook: Any) -> None:
        if act.ndim < 3 or act.shape[1] != inputs.shape[1] or hook.name.endswith(("_scores", "_pattern")):
            raise ValueError(f"{hook.name} holds {tuple(act.shape)}: a probe needs [batch, query, ...]")
        last[:] = [rearrange(act[:, answer_rows(task)], "batch row ... -> batch row (...)")]

    for chunk in torch.split(inputs, len(inputs) if has_hooks(model) else CHUNK):
        with model.hooks(fwd_hooks=[(hook_point, keep)]):
            model(chunk)
        found += last  # TransformerLens normalises for queries, keys and values in turn: one of them is enough
    return torch.cat(found)
