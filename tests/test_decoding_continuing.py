"""Continuing texts: as transformers does it one by one, whatever else is in the batch.

So is plateau_interp.decoding.prompts, .choosing and .cache, which serve it alone.
"""

import math
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from reference.published import by_transformers
from test_models_pretrained import hugging_face
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from torch import Tensor
from transformers import PreTrainedTokenizerFast
from typecheck import unchecked

from plateau_interp.decoding import Continuation, continued
from plateau_interp.hooks import AblateHeads, AddDirection
from plateau_interp.interventions.attaching import intervening
from plateau_interp.models import pretrained_model, toy_model
from plateau_interp.tasks import MovingWindowSum, Text

CASES = [
    "GPT-2",
    "GPT-NeoX",
    "Llama",
    "Llama, grouped",
    "Llama 3's positions",
    "OLMo",
    "OLMo-2, grouped",
    "Qwen2, not grouped, tied, windows",
    "Qwen3, grouped",
    "Mistral, grouped, window",
    "Gemma 2, grouped",
    "Gemma 3, grouped",
]
PROMPTS = [[7, 3, 3, 11, 40, 5, 26, 9, 31], [4], [12, 49, 8, 20], [33, 6, 0, 17, 17, 2, 45]]
"""Of unequal length; token 0, which is what padding is, stands in one of them, and so does the end of text, 2."""
N_NEW = 8


def lively(case: str) -> Any:
    """A random model whose next token depends on the whole text: not on its biases or on the last token alone."""
    model = hugging_face(case)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.mul_(0.1)
            elif any(word in name for word in ("embed_tokens", "embed_in", "wte")):
                parameter.mul_(0.3)
            elif parameter.ndim > 1:
                parameter.mul_(3)
    return model


def llama(**options: Any):
    return pretrained_model(lively("Llama, grouped"), **options)


def agree(one: Continuation, other: Continuation) -> None:
    assert torch.equal(one.tokens, other.tokens)
    assert torch.equal(one.mask, other.mask)
    torch.testing.assert_close(one.states, other.states, atol=1e-4, rtol=1e-4)


def only(prompt: int, of: Continuation) -> Continuation:
    """One prompt's part, as if it had been alone."""
    real = of.prompt_mask[prompt]
    assert of.states is not None
    own = [part[prompt][None] for part in (of.tokens, of.mask, of.states)]
    return Continuation(of.prompts[prompt][real][None], real[real][None], *own, of.states_at)


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_tokens_and_states_are_those_of_transformers_one_by_one(case: str, cached: bool) -> None:
    theirs = lively(case)
    model = pretrained_model(theirs)
    written = continued(model, PROMPTS, N_NEW, never=[2], cached=cached)
    assert len(written.tokens.unique()) > 5
    for index, prompt in enumerate(PROMPTS):
        tokens, states = by_transformers(theirs, prompt, n_new=N_NEW)
        assert written.tokens[index].tolist() == tokens
        torch.testing.assert_close(written.states[index], states, atol=1e-4, rtol=1e-4)
        agree(continued(model, [prompt], N_NEW, never=[2], cached=cached), only(index, written))


def test_transformers_own_batch_and_cache_write_the_same() -> None:
    theirs = lively("GPT-NeoX")
    written = continued(pretrained_model(theirs), PROMPTS, N_NEW, never=[2])
    options = {"max_new_tokens": N_NEW, "min_new_tokens": N_NEW, "do_sample": False, "pad_token_id": 0}
    sequences = theirs.generate(written.prompts, attention_mask=written.prompt_mask.long(), **options)
    assert torch.equal(sequences[:, 9:], written.tokens)


# Prompts


def test_padding_is_on_the_left_and_marked() -> None:
    written = continued(llama(), PROMPTS, 1)
    assert written.prompts.shape == (4, 9)
    assert [row[real].tolist() for row, real in zip(written.prompts, written.prompt_mask, strict=True)] == PROMPTS
    assert written.prompt_mask.int().diff(dim=1).min() == 0
    assert not written.prompts[~written.prompt_mask].any()
    assert len(written) == 4


@pytest.mark.parametrize("kind", [torch.bool, torch.int64, torch.uint8])
def test_a_tensor_with_a_mask_is_the_same_whatever_its_padding(kind: torch.dtype) -> None:
    model, expected = llama(), continued(llama(), PROMPTS, N_NEW)
    for padding in (-100, 7, 10**9):
        tokens = torch.full((4, 12), padding)
        mask = torch.zeros(4, 12, dtype=kind)
        for index, prompt in enumerate(PROMPTS):
            tokens[index, -len(prompt) :] = torch.tensor(prompt)
            mask[index, -len(prompt) :] = 1
        written = continued(model, tokens, N_NEW, mask=mask)
        agree(written, expected)
        assert torch.equal(written.prompts, expected.prompts)  # columns of padding alone are left out


def test_what_was_written_shares_no_memory_with_what_was_given() -> None:
    prompts = torch.tensor([[3, 1, 4], [1, 5, 9]])
    real = torch.ones_like(prompts, dtype=torch.bool)
    written = continued(llama(), prompts, 2, mask=real)
    prompts.zero_(), real.zero_()
    assert written.prompts.tolist() == [[3, 1, 4], [1, 5, 9]]
    assert written.prompt_mask.all()


def test_tokens_may_be_tensors_of_any_whole_numbers() -> None:
    model = llama()
    expected = continued(model, PROMPTS, 3)
    agree(continued(model, [torch.tensor(prompt, dtype=torch.int16) for prompt in PROMPTS], 3), expected)
    agree(continued(model, torch.tensor(PROMPTS[:1], dtype=torch.int32), 3), only(0, expected))


def words(**special: str) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(WordLevel({"<s>": 0, "</s>": 1, "to": 2, "be": 3, "or": 4, "not": 5, "?": 6}, unk_token="?"))
    tokenizer.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="?", **special)


def test_texts_are_read_by_the_model_s_tokenizer() -> None:
    model = llama()
    model.tokenizer = words(eos_token="</s>", pad_token="</s>")
    agree(continued(model, ["to be or not", "be"], 4), continued(model, [[2, 3, 4, 5], [3]], 4))


def test_the_new_tokens_can_be_given_to_a_tokenizer() -> None:
    model = llama()
    written = continued(model, PROMPTS, 5, stop=[int(continued(model, PROMPTS, 5).tokens[0, 2])])
    assert written.lists()[0] == written.tokens[0, :3].tolist()
    assert [len(one) for one in written.lists()] == written.mask.sum(dim=1).tolist()


# Stopping


def test_the_batch_goes_on_until_all_are_finished_and_no_longer() -> None:
    model = llama()
    lengths = {4: 2, 9: 3}  # by the length of the prompt
    forwards = 0

    def count(act: Tensor, *, hook: Any) -> None:
        nonlocal forwards
        forwards += 1

    def enough(new: Tensor) -> Tensor:
        return torch.tensor([new.shape[1] >= lengths[n] for n in (9, 4)])

    with model.hooks(fwd_hooks=[("blocks.0.hook_resid_pre", count)]):
        written = continued(model, [PROMPTS[0], PROMPTS[2]], 20, stop=[enough])
    assert written.tokens.shape == (2, 20)
    assert written.mask.sum(dim=1).tolist() == [3, 2]
    assert forwards == 3


# Choosing


# States, and what is attached


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize(
    "point", ["blocks.1.hook_resid_post", "hook_embed", "ln_final.hook_normalized", "unembed.hook_out"]
)
def test_states_are_of_the_position_before_the_token(point: str, cached: bool) -> None:
    model = llama()
    written = continued(model, PROMPTS, 4, states_at=point, cached=cached)
    assert written.states_at == point
    for prompt, tokens, states in zip(PROMPTS, written.tokens, written.states, strict=True):
        whole = torch.cat([torch.tensor(prompt), tokens])[None, :-1]
        _, cache = model.run_with_cache(whole, names_filter=point)
        torch.testing.assert_close(states, cache[point][0, -4:], atol=1e-4, rtol=1e-4)


def test_no_states_are_kept_if_none_are_asked_for() -> None:
    written = continued(llama(), PROMPTS, 4, states_at=None)
    assert written.states is None
    assert written.states_at is None
    assert torch.equal(written.tokens, continued(llama(), PROMPTS, 4).tokens)


@pytest.mark.parametrize("cached", [True, False])
def test_interventions_act_at_every_token_and_states_are_as_they_leave_them(cached: bool) -> None:
    model = llama()
    direction = torch.randn(32, generator=torch.Generator().manual_seed(0))
    edits = (AblateHeads([1, 3], layers=[0]), AddDirection("unembed.hook_in", direction))
    free = continued(model, PROMPTS, N_NEW)
    with intervening(model, *edits):
        written = continued(model, PROMPTS, N_NEW, cached=cached)
        tokens = torch.tensor(PROMPTS[:1])
        for step in range(N_NEW):
            logits, cache = model.run_with_cache(tokens, names_filter="unembed.hook_in")
            last = cache["unembed.hook_in"][0, -1]  # recorded after the edit
            torch.testing.assert_close(written.states[0, step], last, atol=1e-4, rtol=1e-4)
            tokens = torch.cat([tokens, logits[:, -1:].argmax(dim=-1)], dim=1)
    assert written.tokens[0].tolist() == tokens[0, 9:].tolist()
    assert not torch.equal(written.tokens, free.tokens)
    assert torch.equal(continued(model, PROMPTS, N_NEW).tokens, free.tokens)


def test_only_the_last_position_is_unembedded_unless_somebody_looks_at_the_logits() -> None:
    model, shapes = llama(), []
    handle = model.unembed.register_forward_hook(lambda module, args, output: shapes.append(tuple(output.shape)))
    free = continued(model, PROMPTS, 3)
    assert shapes == [(4, 1, 50)] * 3
    shapes.clear()
    looked_at: list[tuple[int, ...]] = []

    def look(act: Tensor, *, hook: Any) -> None:
        looked_at.append((*act.shape,))

    with model.hooks(fwd_hooks=[("unembed.hook_out", look), ("unembed.hook_in", look)]):
        agree(continued(model, PROMPTS, 3), free)
    handle.remove()
    assert looked_at == [(4, 9, 32), (4, 9, 50), *[(4, 1, 32), (4, 1, 50)] * 2]


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_the_model_is_left_as_it_was(mode: bool, fails: bool) -> None:
    model = llama().train(mode)

    def rule(new: Tensor) -> Tensor:
        if fails:
            raise KeyError("a mistake in the rule")
        return torch.zeros(len(new), dtype=torch.bool)

    with pytest.raises(KeyError) if fails else nullcontext():
        continued(model, PROMPTS, 2, stop=[rule])
    assert model.training is mode
    assert torch.is_grad_enabled()
    assert not any(point.fwd_hooks for point in model.hook_dict.values())


def test_ungrouped_queries_have_no_cache() -> None:
    model = llama()
    model.set_ungroup_grouped_query_attention(True)
    with pytest.raises(ValueError, match="no cache for grouped queries that were ungrouped: give cached=False"):
        continued(model, PROMPTS, N_NEW)
    agree(continued(model, PROMPTS, N_NEW, cached=False), continued(llama(), PROMPTS, N_NEW))


def test_half_precision_is_kept() -> None:
    written = continued(llama(dtype=torch.bfloat16), PROMPTS, 3)
    assert written.states.dtype == torch.bfloat16


def test_the_longest_prompt_may_fill_the_context() -> None:
    theirs = lively("GPT-2")
    model, prompt = pretrained_model(theirs), list(range(3, 28))
    tokens, _ = by_transformers(theirs, prompt, n_new=N_NEW)
    assert continued(model, [prompt, [5]], N_NEW, never=[2]).tokens[0].tolist() == tokens
    told = r"has 25 tokens and with 9 new ones needs n_ctx >= 33; got 32$"
    with pytest.raises(ValueError, match=f"^prompt 0 {told}"):
        continued(model, [prompt, [5]], N_NEW + 1)
    padded = torch.tensor([[0] * 20 + [5] * 5, prompt])
    with pytest.raises(ValueError, match=f"^prompt 1 {told}"):
        continued(model, padded, N_NEW + 1, mask=torch.tensor([[0] * 20 + [1] * 5, [1] * 25]))


def test_a_position_that_is_never_trained_is_beyond_the_context() -> None:
    task = Text(n=8)
    model = toy_model(task, d_model=8, n_heads=1, n_layers=1)
    assert continued(model, [[3] * 6], 3).tokens.shape == (1, 3)
    told = "has 6 tokens and with 4 new ones needs n_ctx >= 9; got 9, whose last position is never trained"
    with pytest.raises(ValueError, match=f"^prompt 0 {told}$"):
        continued(model, [[3] * 6], 4)


def test_a_text_among_prompts_is_told_by_its_number_and_how_it_begins() -> None:
    task = Text(n=40)
    model = toy_model(task, d_model=8, n_heads=1, n_layers=1, n_ctx=40)
    texts = ["To be", "Not to be, that is the question " * 9]
    n_tokens = len(task.tokenizer(texts[1])["input_ids"])
    told = f"has {n_tokens} tokens and with 2 new ones needs n_ctx >= {n_tokens + 1}; got 40"
    with pytest.raises(ValueError, match=rf"^prompt 1 \('Not to be, .*\.\.\.'?\) {told}$"):
        continued(model, texts, 2)
    model.cfg.d_vocab = 3
    with pytest.raises(ValueError, match=r"^prompt 0 \('To be'\) holds the token \d+; the model has 0 to 2$"):
        continued(model, texts, 2)


# What is refused

MASK = torch.ones(2, 3, dtype=torch.bool)


def masked(*rows: list[int]) -> dict[str, Any]:
    return {"prompts": torch.ones(len(rows), 3, dtype=torch.long), "mask": torch.tensor(rows)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_new": 0}, "n_new must be at least 1; got 0"),
        ({"n_new": 2.0}, "n_new must be a whole number; got 2.0"),
        ({"prompts": []}, "nothing to continue: no prompt is given"),
        ({"prompts": "to be"}, r"prompts must be several, such as \['a text'\] or \[\[3, 1, 4\]\]; got 'to be'"),
        ({"prompts": ["to be"]}, "no tokenizer to read texts with: give prompts as tokens"),
        ({"prompts": ["to be", [3]]}, "prompts must be texts or tokens; got both"),
        ({"prompts": [3, 1, 4]}, r"several sequences of tokens, such as \[\[3, 1, 4\]\]; got 3 as one"),
        ({"prompts": [[3], []]}, "prompt 1 is empty"),
        ({"prompts": [[3], [3, 1.5]]}, "a token of prompt 1 must be a whole number; got 1.5"),
        ({"prompts": [[3], [3, 50]]}, "prompt 1 holds the token 50; the model has 0 to 49"),
        ({"prompts": [[2**70]]}, f"prompt 0 holds the token {2**70}; the model has 0 to 49"),
        ({"prompts": torch.tensor([[3, -1]])}, "prompt 0 holds the token -1; the model has 0 to 49"),
        ({"prompts": torch.ones(2, 3)}, "prompts must be token ids; got a tensor of torch.float32"),
        ({"prompts": MASK}, "prompts must be token ids; got a tensor of torch.bool"),
        (
            {"prompts": torch.tensor([3, 1])},
            r"prompts must be \[batch, pos\], one prompt \[1, pos\]; got the shape \(2,\)",
        ),
        ({"prompts": torch.ones(2, 0, dtype=torch.long)}, r"nothing to continue: prompts have the shape \(2, 0\)"),
        ({"mask": MASK}, "a mask is for prompts in one tensor"),
        ({**masked([1, 1, 1]), "mask": MASK}, r"mask must have the shape of the prompts, \(1, 3\); got \(2, 3\)"),
        ({**masked([1, 1, 1]), "mask": [[1, 1, 1]]}, r"the shape of the prompts, \(1, 3\); got \[\[1, 1, 1\]\]"),
        (masked([0, 2, 1]), "mask must be True, or 1, where a token is real"),
        ({**masked([1, 1, 1]), "mask": torch.ones(1, 3)}, "mask must be True, or 1, where a token is real"),
        (masked([1, 1, 1], [0, 0, 0]), "prompt 1 has no token that the mask calls real"),
        (masked([0, 1, 1], [1, 1, 0]), "prompt 1 ends in padding: padding must be on the left"),
        (masked([1, 0, 1]), "prompt 0 has padding between its tokens: padding must be on the left"),
        ({"states_at": 5}, "^states_at must be the name of a hook point, or None; got 5$"),
        ({"cached": "x"}, "^cached must be True or False; got 'x'$"),
        ({"stop": [lambda: True]}, r"^a rule to stop must take \(new\); it takes \(\)$"),
        ({"temperature": -1.0}, "temperature must be 0, for the most likely token, or a positive number; got -1.0"),
        ({"temperature": math.nan}, "temperature must be 0, .* got nan"),
        ({"temperature": math.inf}, "temperature must be 0, .* got inf"),
        ({"temperature": True}, "temperature must be 0, .* got True"),
        ({"temperature": "hot"}, "temperature must be 0, .* got 'hot'"),
        ({"seed": -1}, "seed must be at least 0; got -1"),
        ({"seed": [1, 2]}, "seed must be one whole number, or one a prompt; got 2 for 4 prompts"),
        ({"seed": "7"}, "seed must be a whole number; got '7'"),
        ({"stop": "end of text"}, r"stop must be several, such as \['end of text', 13\]; got 'end of text'"),
        ({"stop": 3}, "stop must be several, .*; got 3"),
        ({"stop": ["end of text"]}, "the model has no tokenizer: give the id of the token to stop at"),
        ({"stop": ["."]}, r"a token to stop at is an id or 'end of text'; got '\.'"),
        ({"stop": [50]}, "there is no token 50 to stop at: the model has 0 to 49"),
        ({"stop": [1.5]}, "a token to stop at must be a whole number; got 1.5"),
        ({"stop": [lambda new: True]}, r"a rule to stop must give a truth value a sequence, bool \[4\]; got True"),
        ({"stop": [lambda new: new == 3]}, r"a rule to stop must give a truth value a sequence, bool \[4\]"),
        ({"never": [-1]}, "there is no token -1 to leave out: the model has 0 to 49"),
        ({"never": list(range(50))}, "never leaves no token to choose"),
        ({"states_at": "unembed.hook_im"}, "no hook point 'unembed.hook_im'; the nearest"),
        ({"states_at": "blocks.*.hook_resid_post"}, "states_at must be one hook point; 'blocks"),
        (
            {"states_at": "blocks.0.attn.hook_pattern"},
            r"hook_pattern holds \(4, 4, 9, 9\); expected states \[batch, pos, width\]",
        ),
        ({"states_at": "blocks.0.attn.hook_result"}, "does not fire while cfg.use_attn_result is off"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(changes: dict[str, Any], message: str) -> None:
    arguments = {"prompts": PROMPTS, "n_new": 2, **changes}
    prompts, n_new = arguments.pop("prompts"), arguments.pop("n_new")
    model = llama()
    with pytest.raises(ValueError, match=message) as refused:
        unchecked(continued)(model, prompts, n_new, **arguments)
    assert "\n" not in str(refused.value)
    assert not any(point.fwd_hooks for point in model.hook_dict.values())


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^expected a model; got 'm'$"):
        unchecked(continued)("m", PROMPTS, 2)


def test_a_model_that_looks_both_ways_cannot_go_on() -> None:
    model = toy_model(MovingWindowSum(n=4), d_model=16)
    model.cfg.attention_dir = "bidirectional"
    with pytest.raises(ValueError, match="only causal attention can go on from a text; the model's is bidirectional"):
        continued(model, [[1, 2]], 2)
