"""What is measured after training, from a run's checkpoints or curves: the values of `Setting.adds`.

For what is too dear, or too special to one figure, to be measured at every training step. Each function takes
a run and gives a table: the column ``step``, measures beside it, one row a checkpoint up to the last measured step.
Behind it stands the `Added` that says how its columns are drawn.
Where sequences are drawn, they are the same for every run and checkpoint.
"""

from collections.abc import Iterator
from typing import Any

import pandas as pd
import torch

from plateau_interp import metrics
from plateau_interp.analysis.observing import Checkpointed, captured_at, captured_patterns
from plateau_interp.analysis.probing import probe
from plateau_interp.decoding import greedy_answers
from plateau_interp.interventions.hook_points import FINAL_STATE
from plateau_interp.reproductions.settings import Added
from plateau_interp.runs.run import Run
from plateau_interp.training.batches import stream_generator
from plateau_interp.types import Batch, HookedModel, Task, answer_rows
from plateau_interp.views.panels import COSINE, SHARE, Panel

__all__ = [
    "HALF_COLUMNS",
    "PROBE_COLUMNS",
    "SEGMENT_COLUMNS",
    "STRATEGY_COLUMNS",
    "TEXT_COLUMNS",
    "common_sequences",
    "copies_within_halves",
    "losses_above_unigram",
    "permutation_strategies",
    "probe_accuracies",
    "segment_cosines",
    "symbol_counts",
]

N_SAMPLED = 256


def probe_accuracies(run: Checkpointed) -> pd.DataFrame:
    """How well answers can be read from the attention output, after the paper's split and a larger one.

    Columns: ``probe_test`` and ``probe_train`` (fitted on 64 sequences), and at every fifth checkpoint
    ``probe_test_1024`` (fitted on 1024).

    Source: arXiv 2506.13688, figure 20.
    """
    rows = []
    for index, (step, model) in enumerate(_measured_models(run)):
        small = probe(model, run.task)
        row = {"step": step, "probe_test": small.test_accuracy, "probe_train": small.train_accuracy}
        if index % 5 == 0:
            row["probe_test_1024"] = probe(model, run.task, n_train_sequences=1024).test_accuracy
        rows.append(row)
    return pd.DataFrame(rows)


PROBE_COLUMNS = Added(
    probe_accuracies,
    {
        "probe_test": Panel("Probe fitted on 64 sequences, on unseen ones", "share of tokens read", SHARE),
        "probe_train": Panel("Probe fitted on 64 sequences, on these", "share of tokens read", SHARE),
        "probe_test_1024": Panel("Probe fitted on 1024 sequences, on unseen ones", "share of tokens read", SHARE),
    },
)


def segment_cosines(run: Checkpointed) -> pd.DataFrame:
    """Collapse of each segment of a concatenated task's answer.

    Columns ``cosine_segment_0`` and so on: the mean cosine of the final hidden states of those pairs of answer rows
    whose earlier row is in the segment, so pairs of a segment and a later one count to the earlier.

    Source: arXiv 2506.13688, figure 19, authors' code.
    """
    task: Any = run.task
    batch, rows = common_sequences(task), answer_rows(task)
    found = []
    for step, model in _measured_models(run):
        states = captured_at(model, batch.inputs, FINAL_STATE)[:, rows]
        cosines = [metrics.mean_pairwise_cosine(states, pairs) for pairs in task.segment_cosine_pairs()]
        means = {f"cosine_segment_{index}": float(cosine.mean()) for index, cosine in enumerate(cosines)}
        found.append({"step": step, **means})
    return pd.DataFrame(found)


SEGMENT_COLUMNS = Added(
    segment_cosines,
    {
        "cosine_segment_#": Panel("Similarity of hidden states, segment {}", "mean pairwise cosine", COSINE, first=1),
    },
)


def permutation_strategies(run: Checkpointed) -> pd.DataFrame:
    """How far a permutation model follows the other published solution, and whether its answers hold the right tokens.

    Columns: ``alternative_0``, the share of the first layer's absolute attention from the permutation's positions on
    the inputs they name; ``alternative_1``, that of the second layer's from answer rows on the permutation's positions
    (compare ``attention_progress_0`` and ``_1``); ``right_counts``, the share of symbols that occur as often in the
    decoded answer as in the true one, wherever they stand.

    Source: arXiv 2506.13688, figures 13 and 14, authors' code.
    """
    task: Any = run.task
    batch = common_sequences(run.task)
    first, second = task.alternative_attention(batch)
    places, answers = slice(task.n + 1, 2 * task.n + 1), answer_rows(task)
    symbols = torch.arange(task.n + 1, task.d_vocab)
    truth = symbol_counts(batch.tokens[:, task.answer], symbols)
    found = []
    for step, model in _measured_models(run):
        patterns = [captured_patterns(model, batch.inputs, layer=layer) for layer in (0, 1)]
        decoded = greedy_answers(model, task, batch.tokens)
        found.append(
            {
                "step": step,
                "alternative_0": _progress(patterns[0], first, places),
                "alternative_1": _progress(patterns[1], second, answers),
                "right_counts": float((symbol_counts(decoded, symbols) == truth).float().mean()),
            }
        )
    return pd.DataFrame(found)


STRATEGY_COLUMNS = Added(
    permutation_strategies,
    {
        "alternative_#": Panel("Alternative attention, layer {}", "share on its positions", SHARE),
        "right_counts": Panel("Right tokens in any order", "share of symbols", SHARE),
    },
)


def copies_within_halves(run: Checkpointed) -> pd.DataFrame:
    """How constant each half of the decoded answers is.

    Columns ``copies_in_half_0`` and ``copies_in_half_1``: the share of a half's tokens that equal its first, as
    ``copies_of_first`` is of the whole answer.

    Source: arXiv 2506.13688, figure 22, authors' code.
    """
    batch = common_sequences(run.task)
    found = []
    for step, model in _measured_models(run):
        halves = greedy_answers(model, run.task, batch.tokens).chunk(2, dim=1)
        copies = {f"copies_in_half_{i}": float(metrics.copies_of_first(half).mean()) for i, half in enumerate(halves)}
        found.append({"step": step, **copies})
    return pd.DataFrame(found)


HALF_COLUMNS = Added(
    copies_within_halves,
    {
        "copies_in_half_#": Panel("Copies of its first answer, half {}", "share of the half's tokens", SHARE, first=1),
    },
)


def losses_above_unigram(run: Run) -> pd.DataFrame:
    """The loss on held-out text, less the unigram entropy of the text that is trained on.

    Column ``above_unigram``, in nats a token: 0 for a model that knows how frequent each token is and nothing else.
    It is kept with the curves, so that they can be read without the corpus.
    """
    task: Any = run.task
    measured = run.metrics[["step", "validation_loss"]].dropna()
    return pd.DataFrame({"step": measured["step"], "above_unigram": measured["validation_loss"] - task.unigram_entropy})


TEXT_COLUMNS = Added(
    losses_above_unigram,
    {
        "above_unigram": Panel("Held-out loss above the unigram entropy", "nats a token"),
        "repetition": Panel("Repetition in continuations", "share of equal neighbours", SHARE),
        "distinct_tokens": Panel("Distinct tokens of continuations", "share", SHARE),
        "cosine_across_prompts": Panel("Likeness of different prompts", "mean cosine", COSINE),
    },
)


def _measured_models(run: Checkpointed) -> Iterator[tuple[int, HookedModel]]:
    """The checkpoints that have a row in the run's metrics."""
    steps = set(run.metrics["step"])
    for step in run.checkpoints:
        if step in steps:
            yield step, run.model(step)


def common_sequences(task: Task) -> Batch:
    """The sequences that every run and checkpoint of a task is measured on."""
    # The stream's name seeds it: published numbers hang on it.
    return task.sample(N_SAMPLED, generator=stream_generator(0, "afterwards", 0))


def _progress(pattern: torch.Tensor, target: torch.Tensor, rows: slice) -> float:
    return float(metrics.attention_progress(pattern[:, :, rows], target[:, rows]).mean())


def symbol_counts(tokens: torch.Tensor, symbols: torch.Tensor) -> torch.Tensor:
    """How often each symbol occurs in each sequence, ``[batch, symbol]``."""
    return (tokens[:, :, None] == symbols).sum(dim=1)
