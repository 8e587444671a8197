import fnmatch
import itertools
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from filled import FilledNumbers
from hook_cases import TASK, assert_untouched, gpt_neox, tokens_for, toy
from torch import Tensor
from transformer_lens import HookedTransformer, HookedTransformerConfig
from two_texts import two_texts

from plateau_interp.hooks import BiasAttention, During, FreezeWeights, TransplantWeights, When, transplant_weights_
from plateau_interp.interventions.attached import attached_state, load_attached_state
from plateau_interp.interventions.attaching import InterventionWarning, attaching, intervening
from plateau_interp.interventions.clock import advance
from plateau_interp.models import toy_model
from plateau_interp.models.parameters import parameters_where
from plateau_interp.tasks import MatrixCompletion, MovingWindowSum
from plateau_interp.training.loop import train

SHEET = {
    # figure 5: the copied and frozen groups, the authors' names in TransformerLens's
    "attention map": ["*.attn.?_Q", "*.attn.?_K", "embed.W_E", "pos_embed.W_pos", "*.ln1.?"],
    "attention": ["*.attn.?_[QKVO]", "embed.W_E", "pos_embed.W_pos", "*.ln1.?"],
    "mlp": ["*.mlp.?_in", "*.mlp.?_out", "*.ln2.?", "ln_final.?", "unembed.?_U"],
    "embeddings": ["embed.W_E", "pos_embed.W_pos", "unembed.?_U", "ln_final.?"],
    # figure 8 of the second paper
    "token embedding": ["embed.W_E"],
    "position embedding": ["pos_embed.W_pos"],
    "attention layers": ["*.attn.?_[QKVO]", "*.ln1.?"],
    "mlp layers": ["*.mlp.?_in", "*.mlp.?_out", "*.ln2.?"],
    "norms": ["*ln1.?", "*ln2.?", "ln_final.?", "ln_embed.?"],
    "read-out": ["unembed.?_U"],
}

OPTIMIZERS = {
    "sgd with momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
    "adam": lambda p: torch.optim.Adam(p, lr=1e-2),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.5),
}


def weights(model: Any) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


def steps(model: Any, optimizer: torch.optim.Optimizer, n: int, *, set_to_none: bool = True) -> Iterator[int]:
    """A training loop that somebody else wrote."""
    for step in range(n):
        batch = TASK.sample(4, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad(set_to_none=set_to_none)
        TASK.loss(model(batch.inputs), batch).backward()
        optimizer.step()
        yield step


@pytest.mark.parametrize("group", SHEET)
def test_the_groups_of_an_encoder(group: str) -> None:
    model = toy_model(FilledNumbers())
    names = [name for name, _ in model.named_parameters()]
    expected = [name for name in names if any(fnmatch.fnmatch(name, pattern) for pattern in SHEET[group])]
    assert list(parameters_where(model, group)) == expected


@pytest.mark.parametrize("n_layers", [1, 2])
@pytest.mark.parametrize("attention", ["linear", "softmax"])
@pytest.mark.parametrize("group", SHEET)
def test_the_groups_are_those_of_the_paper(group: str, attention: str, n_layers: int) -> None:
    model = toy(attention=attention, n_layers=n_layers, n_heads=4)
    names = [name for name, _ in model.named_parameters()]
    expected = [name for name in names if any(fnmatch.fnmatch(name, pattern) for pattern in SHEET[group])]
    assert list(parameters_where(model, group)) == expected
    of_decoders = [pattern for pattern in SHEET[group] if pattern != "ln_embed.?"]
    assert all(any(fnmatch.fnmatch(name, pattern) for name in names) for pattern in of_decoders)


def test_groups_on_a_rotary_model() -> None:
    model = gpt_neox()
    assert "pos_embed.W_pos" not in parameters_where(model, "embeddings")
    assert set(parameters_where(model, "attention map")) == {
        "embed.W_E",
        *(f"blocks.{i}.{name}" for i in (0, 1) for name in ("attn.W_Q", "attn.b_Q", "attn.W_K", "attn.b_K")),
        *(f"blocks.{i}.ln1.{name}" for i in (0, 1) for name in "wb"),
    }


def test_groups_on_a_model_of_attention_alone() -> None:
    cfg = HookedTransformerConfig(
        n_layers=1, d_model=8, d_head=4, n_ctx=8, d_vocab=11, attn_only=True, normalization_type="LN", device="cpu"
    )
    model = HookedTransformer(cfg)
    with intervening(model, FreezeWeights("mlp")) as (receipt,):
        assert receipt.sites == ("ln_final.w", "ln_final.b", "unembed.W_U", "unembed.b_U")
    assert "blocks.0.attn.W_Q" in parameters_where(model, "attention map")


def test_patterns_and_functions_of_the_name() -> None:
    model = toy(n_layers=2)
    assert list(parameters_where(model, "blocks.1.mlp.W_in")) == ["blocks.1.mlp.W_in"]
    assert list(parameters_where(model, "blocks.1.ln?.w")) == ["blocks.1.ln1.w", "blocks.1.ln2.w"]
    assert list(parameters_where(model, lambda name: name.endswith("W_E"))) == ["embed.W_E"]


def test_all_but_a_group_or_a_pattern() -> None:
    model = toy_model(FilledNumbers())
    everything = dict(model.named_parameters())
    for meant in ("mlp layers", "blocks.0.attn.*", "embed.W_E"):
        others = parameters_where(model, f"all but {meant}")
        assert list(others) == [name for name in everything if name not in parameters_where(model, meant)]
    with pytest.raises(ValueError, match="'all but \\*' means no parameter of the model"):
        parameters_where(model, "all but *")
    with pytest.raises(ValueError, match="the nearest are mlp layers"):
        parameters_where(model, "all but mlp layer")


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("atention map", "'atention map' means no parameter of the model; the nearest are attention map, attention"),
        ("blocks.0.attn.q", "'blocks.0.attn.q' means no parameter of the model; the nearest are blocks.0.attn."),
        (lambda name: "attn.q" in name, "means no parameter of the model; there are embed.W_E, pos_embed.W_pos"),
    ],
)
def test_what_matches_nothing_is_an_error_that_shows_names(where: Any, message: str) -> None:
    model = toy()
    for intervention in (FreezeWeights(where), TransplantWeights(toy(seed=8), where)):
        with pytest.raises(ValueError, match=message), intervening(model, intervention):
            pass
    assert_untouched(model)


def test_a_group_that_would_silently_match_less_is_an_error() -> None:
    """A trap: a rule that finds embeddings and norms, and no queries."""
    model = toy(n_layers=2)
    attn = model.blocks[1].attn
    attn.lower_case_q, attn.other_b = attn.W_Q, attn.b_Q
    del attn.W_Q, attn.b_Q
    for group in ("attention map", "attention"):
        with pytest.raises(
            ValueError, match=f"group '{group}' needs queries, but the model has none in layer 1; it has "
        ):
            parameters_where(model, group)
    assert parameters_where(model, "mlp")


def test_what_a_model_should_have_is_missed_in_a_decoder_and_in_an_encoder() -> None:
    decoder = toy()
    decoder.ln_final = torch.nn.Identity()
    with pytest.raises(ValueError, match="group 'mlp' needs final norm, but the model has none; it has "):
        parameters_where(decoder, "mlp")
    encoder = toy_model(MatrixCompletion(shapes=((2, 2),), grid_step=0.5), d_model=16, n_layers=1)
    assert "ln_final.w" not in parameters_where(encoder, "mlp")
    del encoder.unembed.W_U, encoder.unembed.b_U
    with pytest.raises(ValueError, match="group 'read-out' needs unembedding, but the model has none; it has "):
        parameters_where(encoder, "read-out")


@pytest.mark.parametrize("set_to_none", [True, False])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("start", [0, 3])
def test_frozen_means_frozen_to_the_bit(optimizer: str, set_to_none: bool, start: int) -> None:
    model = toy(attention="linear")
    live = OPTIMIZERS[optimizer](model.parameters())
    frozen = set(parameters_where(model, "attention"))
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    history = [weights(model)]
    loop = steps(model, live, 9, set_to_none=set_to_none)
    for _ in range(start):
        next(loop)
        history.append(weights(model))
    with intervening(model, FreezeWeights("attention")) as (receipt,):
        for _ in range(start, start + 3):
            next(loop)
            history.append(weights(model))
            assert moved(history[-2], history[-1]) == trained - frozen
    assert_untouched(model)
    for _ in loop:
        history.append(weights(model))
        assert moved(history[-2], history[-1]) == trained, "released parameters are trained again"
    assert len(history) == 10
    assert set(receipt.sites) == frozen
    assert receipt.fired == 1
    assert receipt.entries == sum(history[0][name].numel() for name in frozen)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_freeze_leaves_no_mark_on_the_others(optimizer: str) -> None:
    """They are trained as if the frozen ones were constants: the same as in a loop without those in the optimiser."""
    by_hand, model = toy(), toy()
    for name, parameter in by_hand.named_parameters():
        parameter.requires_grad_(parameter.requires_grad and name not in parameters_where(model, "mlp"))
    live = OPTIMIZERS[optimizer]([p for p in by_hand.parameters() if p.requires_grad])
    assert list(steps(by_hand, live, 4)) == [0, 1, 2, 3]
    with intervening(model, FreezeWeights("mlp")):
        assert list(steps(model, OPTIMIZERS[optimizer](model.parameters()), 4)) == [0, 1, 2, 3]
    assert not moved(weights(by_hand), weights(model))


def test_training_with_everything_frozen_is_refused() -> None:
    plan = (FreezeWeights("attention"), FreezeWeights("mlp"))
    model = toy()
    with pytest.raises(ValueError, match=r"nothing is trained at step 0: no parameter .* requires a gradient"):
        next(train(model, TASK, steps=2, batch_size=4, interventions=plan))
    assert_untouched(model)


def test_freezing_under_a_schedule_in_train() -> None:
    model = toy()
    history = [weights(model)]
    freeze = During(FreezeWeights("embeddings"), start=2, stop=4)
    for _ in train(model, TASK, steps=6, batch_size=4, interventions=(freeze,)):
        history.append(weights(model))
    still = ["embed.W_E" not in moved(*pair) for pair in itertools.pairwise(history)]
    assert still == [False, False, True, True, False, False]
    assert_untouched(model)


def test_freezes_may_overlap_and_end_in_any_order() -> None:
    model = toy()
    one, other = ExitStack(), ExitStack()
    one.enter_context(intervening(model, FreezeWeights("attention")))
    other.enter_context(intervening(model, FreezeWeights("embeddings")))
    one.close()
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == set(parameters_where(model, "embeddings"))
    other.close()
    assert_untouched(model)


def test_what_was_frozen_before_stays_so() -> None:
    model = toy()
    model.blocks[0].mlp.b_in.requires_grad_(False)
    with intervening(model, FreezeWeights("mlp")):
        pass
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == ["blocks.0.mlp.b_in", "unembed.b_U"]


def test_an_exception_releases() -> None:
    model = toy()
    try:
        with intervening(model, FreezeWeights("mlp"), TransplantWeights(toy(seed=8), "attention")):
            raise KeyError
    except KeyError:
        pass
    assert_untouched(model)
    assert not moved(weights(toy()), weights(model))


def test_somebody_who_thaws_is_reported() -> None:
    model = toy()
    with (
        pytest.warns(InterventionWarning, match="did not hold embed.W_E"),
        intervening(model, FreezeWeights("embed.W_E")),
    ):
        model.embed.W_E.requires_grad_(True)


@pytest.mark.parametrize("group", SHEET)
def test_a_transplant_copies_the_group_and_nothing_else_and_puts_it_back(group: str) -> None:
    model, other = toy(n_layers=2), toy(n_layers=2, seed=8)
    before = weights(model)
    for source in (other, weights(other)):
        with intervening(model, TransplantWeights(source, group)) as (receipt,):
            inside = weights(model)
            model(tokens_for(model))
        assert set(receipt.sites) == set(parameters_where(model, group))
        for name, value in inside.items():
            assert torch.equal(value, weights(other)[name] if name in receipt.sites else before[name]), name
        assert receipt.fired == 1
        assert not moved(before, weights(model))


def test_everything_transplanted_is_the_other_model() -> None:
    model, other = toy(n_heads=4), toy(n_heads=4, seed=8)
    with intervening(model, TransplantWeights(other, "*")):
        assert torch.equal(model(tokens_for(model)), other(tokens_for(model)))


def test_transplant_and_freeze_is_figure_5() -> None:
    model, other = toy(), toy(seed=8)
    group = (TransplantWeights(other, "attention map"), FreezeWeights("attention map"))
    names = set(parameters_where(model, "attention map"))
    before = weights(model)
    for _ in train(model, TASK, steps=3, batch_size=4, interventions=group):
        now = weights(model)
        assert all(torch.equal(now[name], weights(other)[name]) for name in names)
        assert moved(before, now) >= {"blocks.0.attn.W_V", "blocks.0.mlp.W_in", "unembed.W_U"}
    assert not moved(before, weights(model)) & names, "restored, and without a warning: nothing was trained there"


def test_training_that_is_undone_is_reported() -> None:
    model = toy()
    before = weights(model)
    with pytest.warns(InterventionWarning, match="undid training of blocks.0.mlp.W_in"):
        for _ in train(model, TASK, steps=2, batch_size=4, interventions=(TransplantWeights(toy(seed=8), "*.W_in"),)):
            pass
    assert "blocks.0.mlp.W_in" not in moved(before, weights(model))


def test_one_that_keeps_puts_nothing_back() -> None:
    model, other = toy(), toy(seed=8)
    with attaching(model, During(TransplantWeights(other, "*.W_in"))) as (attached,):
        list(train(model, TASK, steps=2, batch_size=4))
        trained_there = model.W_in.clone()
        attached.keep()
        assert not attached_state([attached])
    assert torch.equal(model.W_in, trained_there)


def test_a_transplant_for_good() -> None:
    model, other = toy(), toy(seed=8)
    before = weights(model)
    names = transplant_weights_(model, other, where="mlp")
    assert set(names) == set(parameters_where(model, "mlp"))
    assert moved(before, weights(model)) == set(names)
    transplant_weights_(model, before, where="*")
    assert not moved(before, weights(model))


def test_the_source_is_read_on_entry() -> None:
    model, other = toy(), toy(seed=8)
    value = weights(other)["embed.W_E"]
    with intervening(model, During(TransplantWeights(other, "embed.W_E"), start=1)):
        with torch.no_grad():
            other.embed.W_E.zero_()
        advance(model, step=0, metrics={})
        assert not torch.equal(model.embed.W_E, value)
        advance(model, step=1, metrics={})
        assert torch.equal(model.embed.W_E, value)
        assert not model.embed.W_E.is_set_to(other.embed.W_E)


def test_a_source_of_another_dtype_is_converted() -> None:
    model = toy(dtype=torch.float64)
    with intervening(model, TransplantWeights(toy(seed=8), "mlp")):
        assert model.W_in.dtype == torch.float64


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"embed.W": torch.zeros(1)}, "the source has no parameter embed.W_E; the nearest is embed.W"),
        ({"embed.W_E": torch.zeros(3, 16)}, r"embed.W_E has shape \(8, 16\) in the model, but \(3, 16\) in the source"),
        (torch.zeros(8, 16), "expected a model, a run or tensors by parameter name; got a tensor"),
        ({"embed.W_E": 3}, "the source's embed.W_E must be a tensor; got 3"),
    ],
)
def test_a_source_that_does_not_fit_is_refused(source: Any, message: str) -> None:
    model = toy()
    before = weights(model)
    with pytest.raises(ValueError, match=message), intervening(model, TransplantWeights(source, "embed.W_E")):
        pass
    assert not moved(before, weights(model))


@pytest.mark.parametrize("first", [0, 2])
def test_a_transplant_s_state_keeps_a_resumed_run_from_transplanting_again(first: int) -> None:
    """Transplant at a step, train on, stop after step 4, go on: the same weights as without the stop."""
    transplant = TransplantWeights(toy(seed=8), "mlp")
    plan = During(transplant, start=first) if first else transplant

    def run(start: int, stop: int, saved: tuple[Any, Any] | None) -> tuple[Any, Any, dict[str, Tensor]]:
        model, stack = toy(), ExitStack()
        attached = stack.enter_context(attaching(model, plan))
        if saved is not None:
            model.load_state_dict(saved[0])
            load_attached_state(attached, saved[1])
        live = torch.optim.SGD(model.parameters(), 0.1)
        assert len(list(train(model, TASK, steps=stop, start=start, batch_size=4, optimizer=live))) == stop - start
        inside = {name: value.clone() for name, value in model.state_dict().items()}
        state = attached_state(attached)
        with pytest.warns(InterventionWarning, match="undid training"):
            stack.close()
        return inside, state, weights(model)

    whole, _, left = run(0, 6, None)
    rest, _, left_resumed = run(4, 6, run(0, 4, None)[:2])
    assert not moved(whole, rest)
    assert not moved(left, left_resumed), "what is put back on exit is what was there before the transplant"


def trained(plan: tuple[Any, ...], start: int, stop: int, saved: Any = None) -> Any:
    """Weights and memory after training under a plan, from the start or from what an earlier call gave."""
    model = toy()
    with warnings.catch_warnings(), attaching(model, *plan) as attached:
        warnings.simplefilter("ignore", InterventionWarning)  # that the end undoes training is tested elsewhere
        if saved is not None:
            model.load_state_dict(saved[0])
            load_attached_state(attached, saved[1])
        live = torch.optim.SGD(model.parameters(), 0.1)
        for _ in train(model, TASK, steps=stop, start=start, batch_size=4, optimizer=live):
            pass
        memory = {name: value.clone() for name, value in attached_state(attached).items()}
        return {name: value.clone() for name, value in model.state_dict().items()}, memory


@pytest.mark.parametrize(
    "nested",
    [
        lambda inner: During(During(inner, start=1), stop=9),
        lambda inner: During(When(inner, since="loss > 0"), stop=9),
        lambda inner: When(During(inner, start=1), until="loss < 0"),
        lambda inner: When(When(inner, since="loss > 0"), until="loss < 0"),
    ],
    ids=["during-during", "during-when", "when-during", "when-when"],
)
def test_a_transplant_in_nested_schedules_goes_on_where_it_was(nested: Any) -> None:
    plan = (nested(TransplantWeights(toy(seed=8), "mlp")),)
    whole = trained(plan, 0, 8)
    rest = trained(plan, 5, 8, trained(plan, 0, 5))
    assert not moved(whole[0], rest[0])
    assert not moved(whole[1], rest[1])


@pytest.mark.parametrize("stop", [2, 4, 6, 8])
def test_overlapping_transplants_go_on_in_the_order_in_which_they_acted(stop: int) -> None:
    """The first in the list acts last, and lays down first."""
    one, other = TransplantWeights(toy(seed=8), "mlp"), TransplantWeights(toy(seed=9), "*")
    for plan in (
        (During(one, start=3, stop=7), other),
        (During(one, start=3, stop=5), During(other, stop=7)),
        (During(one, start=5), During(other, start=3, stop=7), BiasAttention()),
    ):
        whole = trained(plan, 0, 9)
        rest = trained(plan, stop, 9, trained(plan, 0, stop))
        assert not moved(whole[0], rest[0])
        assert whole[1].keys() == rest[1].keys()
        assert not moved(whole[1], rest[1])


def test_the_memory_of_a_transplant_may_come_from_before_there_were_ranks() -> None:
    plan = (TransplantWeights(toy(seed=8), "mlp"),)
    whole, (model, memory) = trained(plan, 0, 4), trained(plan, 0, 2)
    rest = trained(plan, 2, 4, (model, {name: value for name, value in memory.items() if name != "0.rank"}))
    assert memory.keys() - {"0.rank"} < memory.keys()
    assert not moved(whole[0], rest[0])


def test_memory_of_a_transplant_is_older_than_one_that_acts_now() -> None:
    """As in a fork: the new transplant is listed first, attached first, and acts last."""
    model, one, other = toy(), toy(seed=8), toy(seed=9)
    before = weights(model)
    with attaching(model, TransplantWeights(one, "mlp")) as attached:
        memory = {name: value.clone() for name, value in attached_state(attached).items()}
    with attaching(model, TransplantWeights(other, "mlp"), During(TransplantWeights(one, "mlp"), stop=2)) as attached:
        load_attached_state(attached[1:], memory)
        transplant_weights_(model, other, where="mlp")
        advance(model, step=2, metrics={})
        assert torch.equal(model.W_in, other.W_in), "the older one ended under the newer"
    assert not moved(before, weights(model))


def test_transplants_may_overlap_and_end_in_any_order() -> None:
    for order in itertools.permutations(range(3)):
        model, others = toy(), [toy(seed=seed) for seed in (7, 8, 9)]
        before = weights(model)
        groups = ["attention map", "*", "embeddings"]
        contexts = [ExitStack() for _ in others]
        for context, other, group in zip(contexts, others, groups, strict=True):
            context.enter_context(intervening(model, TransplantWeights(other, group)))
        left = [0, 1, 2]
        for which in order:
            contexts[which].close()
            left.remove(which)
            for name, value in weights(model).items():
                holders = [i for i in left if name in parameters_where(model, groups[i])]
                expected = weights(others[holders[-1]])[name] if holders else before[name]
                assert torch.equal(value, expected), (order, which, name)


def test_what_has_not_begun_touches_nothing() -> None:
    """Neither gradients that are there on entry nor parameters that a pending backward pass needs."""
    model = toy()
    model(tokens_for(model)).square().sum().backward()
    held = {name: p.grad for name, p in model.named_parameters()}
    pending = model(tokens_for(model)).square().sum()
    plan = (
        During(FreezeWeights("mlp"), start=50),
        During(TransplantWeights(toy(seed=8), "attention"), start=50),
        When(FreezeWeights("embeddings"), "loss < 1"),
        During(During(FreezeWeights("embeddings")), start=50),
    )
    with intervening(model, *plan) as receipts:
        assert all(p.grad is held[name] for name, p in model.named_parameters())
    pending.backward()
    assert [receipt.fired for receipt in receipts] == [0, 0, 0, 0]


def test_weights_and_activations_compose() -> None:
    model, other = toy(attention="linear"), toy(attention="linear", seed=8)
    with intervening(other, BiasAttention()):
        expected = other(tokens_for(model))
    with intervening(model, TransplantWeights(other, "*"), BiasAttention()):
        assert torch.equal(model(tokens_for(model)), expected)


@pytest.mark.parametrize("where", ["token embedding", "read-out", "*", "embeddings"])
def test_embeddings_of_other_tokens_are_refused(where: str, tmp_path: Path) -> None:
    sea, sky = two_texts(tmp_path)
    model, source = (toy_model(task, d_model=8, n_heads=1, n_layers=1) for task in (sea, sky))
    before = weights(model)
    told = r"^(un)?embed\.\w+: the vocabularies of the model and of the source differ: token 256 is '.*' and '.*'$"
    with pytest.raises(ValueError, match=told), intervening(model, TransplantWeights(source, where)):
        pytest.fail("entered")
    with pytest.raises(ValueError, match=told):
        transplant_weights_(model, source, where=where)
    assert not moved(before, weights(model))


def test_what_hangs_on_no_vocabulary_is_taken_all_the_same(tmp_path: Path) -> None:
    sea, sky = two_texts(tmp_path)
    model, source = (
        toy_model(task, d_model=8, n_heads=1, n_layers=1, seed=seed) for seed, task in enumerate((sea, sky))
    )
    for where in ("attention layers", "mlp layers", "position embedding", "norms"):
        assert transplant_weights_(model, source, where=where)
    same = toy_model(sea, d_model=8, n_heads=1, n_layers=1, seed=2)
    assert transplant_weights_(model, same, where="*")
    # Nobody says what a toy task's tokens mean: sums modulo 260 and 260 pieces of text are for the user to compare.
    numbers = toy_model(MovingWindowSum(p=259), d_model=8, n_heads=1, n_layers=1)
    assert numbers.cfg.d_vocab == 260
    assert transplant_weights_(model, numbers, where="token embedding")
