"""What is kept of attention: that of the model under its interventions, in bounded size, and read again or refused."""

import pytest
import torch
from typecheck import unchecked

from plateau_interp.decoding.prompts import as_tensors
from plateau_interp.hooks import AblateHeads, FixAttention, MaskAttention
from plateau_interp.interventions.attaching import intervening
from plateau_interp.models import toy_model
from plateau_interp.series import attention
from plateau_interp.series.attention import MOST_SHOWN_TOKENS, KeptAttention, attention_on
from plateau_interp.tasks import MovingWindowSum, Text

PROMPT = "Why is the sky blue?"


@pytest.fixture(scope="module")
def model():
    return toy_model(Text(), n_layers=2, d_model=32, n_heads=2, seed=3)


def test_it_is_the_models_own(model):
    kept = attention_on(model, PROMPT)
    cache = model.run_with_cache(torch.tensor([model.tokenizer(PROMPT)["input_ids"]]))[1]
    for layer in range(2):
        assert torch.equal(kept.patterns[layer], cache["pattern", layer][0])
    assert "".join(kept.tokens) == PROMPT
    assert not kept.patterns.requires_grad


def test_it_is_as_interventions_leave_it(model):
    with intervening(model, MaskAttention(keys=[0], rows=[3], at="pattern")):
        assert attention_on(model, PROMPT).patterns[:, :, 3, 0].abs().max() == 0
    assert attention_on(model, PROMPT).patterns[:, :, 3, 0].min() > 0
    n_tokens = len(attention_on(model, PROMPT).tokens)
    with intervening(model, FixAttention(targets=torch.eye(n_tokens, dtype=torch.bool))):
        assert torch.equal(attention_on(model, PROMPT).patterns[1, 1], torch.eye(n_tokens))


@pytest.mark.parametrize("others", [["Is it so blue", "Or is it not, and why"], ["Wyh is teh sky bleu?"]])
def test_it_is_as_interventions_that_look_at_the_whole_batch_leave_it(model, others):
    kept = attention_on(model, PROMPT, beside=others)
    torch.testing.assert_close(kept.patterns, attention_on(model, PROMPT).patterns, rtol=1e-4, atol=1e-6)
    assert "".join(kept.tokens) == PROMPT
    tokens, mask = as_tensors(model, [PROMPT, *others], None)
    with intervening(model, AblateHeads([0], by="mean")):
        kept = attention_on(model, PROMPT, beside=others)
        cache = model.run_with_cache(tokens, attention_mask=mask.int())[1]
        alone = attention_on(model, PROMPT)
    start = int((~mask[0]).sum())
    for layer in range(2):
        assert torch.equal(kept.patterns[layer], cache["pattern", layer][0][:, start:, start:])
    assert not torch.allclose(alone.patterns, kept.patterns, rtol=1e-4, atol=1e-6)


def test_of_a_long_prompt_the_first_tokens_are_kept_as_all_of_it_is_read(model, monkeypatch):
    long = " ".join([PROMPT] * 12)[:120]
    whole = attention_on(model, long)
    assert 20 < len(whole.tokens) <= MOST_SHOWN_TOKENS
    monkeypatch.setattr(attention, "MOST_VALUES", 2 * 2 * 7**2 + 5)
    with intervening(model, MaskAttention(keys=[-1], rows=[-1], at="pattern")):  # far behind what is kept
        kept = attention_on(model, long)
    assert kept.patterns.shape == (2, 2, 7, 7)
    assert kept.tokens == whole.tokens[:7]
    assert torch.equal(kept.patterns, whole.patterns[..., :7, :7])
    monkeypatch.setattr(attention, "MOST_SHOWN_TOKENS", 3)
    assert attention_on(model, long).tokens == whole.tokens[:3]
    monkeypatch.setattr(attention, "MOST_VALUES", 1)
    assert attention_on(model, long).patterns.shape == (2, 2, 1, 1)
    assert len(attention_on(model, long).to_bytes()) < 400


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_kept_in_float32(dtype):
    kept = attention_on(toy_model(Text(), n_layers=1, d_model=16, dtype=dtype), PROMPT)
    assert kept.patterns.dtype == torch.float32


def test_it_is_read_again_as_it_was_and_nothing_else_is():
    kept = KeptAttention(("</script>", "\n", ""), torch.rand(2, 1, 3, 3))
    content = kept.to_bytes()
    again = KeptAttention.from_bytes(content)
    assert again.tokens == kept.tokens
    assert torch.equal(again.patterns, kept.patterns)
    for wrong in (
        b"",
        b"mine",
        content[:-4],
        content.replace(b"tokens", b"tokenz"),
        content.replace(b"patterns", b"patternz"),
    ):
        with pytest.raises(ValueError, match="no attention that was kept: "):
            KeptAttention.from_bytes(wrong)
    with pytest.raises(ValueError, match=r"patterns of 2 tokens must be \[layer, head, query, key\]; got shape"):
        unchecked(KeptAttention)(("a", "b"), torch.rand(2, 1, 3, 3))


def test_a_model_without_a_tokenizer_is_refused():
    with pytest.raises(ValueError, match="the model has no tokenizer to read 'Why' with"):
        attention_on(toy_model(MovingWindowSum(n=4), d_model=16), "Why")


def test_a_prompt_without_tokens_is_refused(model):
    with pytest.raises(ValueError, match="prompt 0 is empty: ''"):
        attention_on(model, "")
