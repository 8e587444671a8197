"""plateau_interp.tasks._separators: what a task of a mixture may draw, and what it is told when it may not."""

import pytest
import torch

from plateau_interp.tasks._separators import Separator, ids_elsewhere
from plateau_interp.types import IGNORE, Batch

FIT = Batch(torch.tensor([[1, 2, 9, 3, 4]]), torch.tensor([[IGNORE, IGNORE, 3, 4]]))
"""Two numbers, the separator 9 at position 2, and the answer 3, 4; the mixture's separators begin at 20."""


def changed(*, tokens: dict[int, int] | None = None, labels: dict[int, int] | None = None) -> Batch:
    """`FIT` with other tokens or labels at some places."""
    batch = Batch(FIT.tokens.clone(), FIT.labels.clone())
    for tensor, values in ((batch.tokens, tokens), (batch.labels, labels)):
        for place, value in (values or {}).items():
            tensor[0, place] = value
    return batch


def test_ids_elsewhere_are_all_but_the_separator_and_what_foretells_it() -> None:
    foretold = changed(labels={0: 2, 1: 9})
    assert ids_elsewhere(foretold, 2).tolist() == [[1, 2, 3, 4, 2, 3, 4]]


@pytest.mark.parametrize("scores_prompts", [False, True])
@pytest.mark.parametrize(
    ("batch", "told"),
    [
        (changed(tokens={0: 20}), "the id 20, but separators have those from 20 on: make d_vocab larger"),
        (changed(labels={3: 21}), "the id 21, but separators have those from 20 on: make d_vocab larger"),
        (changed(tokens={2: 8}), "the id 8 at the end of a prompt, which is the separator 9 otherwise"),
    ],
)
def test_a_separators_id_and_another_end_of_a_prompt_are_unfit(batch: Batch, told: str, scores_prompts: bool) -> None:
    separator = Separator(at=2, own=9, first=20, scores_prompts=scores_prompts)
    if scores_prompts:
        batch = Batch(batch.tokens, batch.labels.clone())
        batch.labels[:, 1] = 9
    both = Batch(torch.cat([FIT.tokens, batch.tokens]), torch.cat([FIT.labels, batch.labels]))
    both.labels[0, 1] = 9 if scores_prompts else IGNORE
    assert separator.is_unfit(both).tolist() == [False, True]
    assert separator.oddity(both.take(torch.tensor([1]))) == told


def test_a_prompt_may_have_labels_only_where_the_mixture_scores_them_and_the_last_is_the_separator() -> None:
    unscored, scored = (Separator(2, 9, 20, scores_prompts=scores) for scores in (False, True))
    foretold, other = changed(labels={0: 2, 1: 9}), changed(labels={0: 2, 1: 7})
    assert unscored.is_unfit(foretold).tolist() == [True]
    assert unscored.oddity(foretold) == "a prompt that is scored"
    assert scored.is_unfit(foretold).tolist() == [False]
    assert scored.is_unfit(FIT).tolist() == [False]  # a task of the mixture that scores none
    assert scored.is_unfit(other).tolist() == [True]
    assert scored.oddity(other) == "the label 7 for the end of a prompt, which is the separator 9"
