import copy
import gc
import shutil
import subprocess
import sys
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hook_cases import (
    KINDS,
    TASK,
    activation,
    assert_untouched,
    cached_logits,
    gradients,
    kind_name,
    pattern_name,
    tokens_for,
    toy,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from typecheck import unchecked

from plateau_interp import hooks
from plateau_interp.decoding import greedy_answers
from plateau_interp.hooks import AblateHeads, ScaleActivation
from plateau_interp.interventions.attached import Intervention, entering
from plateau_interp.interventions.attaching import (
    InterventionWarning,
    attaching,
    editing,
    hooking,
    intervening,
)
from plateau_interp.interventions.capturing import Capture
from plateau_interp.interventions.clock import advance
from plateau_interp.models import toy_model
from plateau_interp.tasks import DepthTwoNet, OneHotArithmetic
from plateau_interp.training.loop import train
from plateau_interp.types import HookedModel

PATTERN = pattern_name(0)
RESID = "blocks.0.hook_resid_pre"


@dataclass(frozen=True, eq=False)
class Plus:
    """A third party's intervention, from the public parts: adds a number, and notes who acted."""

    number: float
    at: str = RESID
    log: list[float] | None = None

    def __call__(self, act: Tensor, *, hook: Any) -> Tensor:
        if self.log is not None:
            self.log.append(self.number)
        return act + self.number

    def attach(self, model: HookedModel) -> Any:
        return editing(model, self, {self.at: self})


def test_receipts_come_in_order_and_stay_readable() -> None:
    model = toy()
    tokens = tokens_for(model)
    before = activation(model, tokens, RESID)
    with intervening(model, Plus(1.0), hooks.BiasAttention(factor=3.0), Plus(0.5)) as receipts:
        assert torch.equal(activation(model, tokens, RESID), (before + 1.0) + 0.5)
        model(tokens)
    assert [receipt.fired for receipt in receipts] == [2, 2, 2]
    assert [receipt.sites for receipt in receipts] == [(RESID,), (PATTERN,), (RESID,)]
    first, bias, _ = receipts
    assert (first.rows, first.heads, first.entries) == (8, 0, 2 * before.numel())
    assert first.change == pytest.approx(1.0, rel=1e-5)
    assert (bias.rows, bias.heads, bias.entries) == (3, 1, 2 * 5 * 6)
    assert first.describe() == (
        "Plus(number=1.0, at='blocks.0.hook_resid_pre', log=None) fired 2 times at blocks.0.hook_resid_pre: "
        "8 rows, 0 heads, 1280 entries, root-mean-square change 1"
    )


def test_outer_contexts_act_before_inner_ones() -> None:
    model, log = toy(), []
    with intervening(model, Plus(1.0, log=log)), intervening(model, Plus(2.0, log=log), Plus(3.0, log=log)):
        model(tokens_for(model))
    assert log == [1.0, 2.0, 3.0]


def test_contexts_may_close_out_of_order() -> None:
    """As those of a training generator and of the loop around it do."""
    model, log = toy(), []
    contexts = [ExitStack() for _ in range(3)]
    for number, context in enumerate(contexts):
        context.enter_context(intervening(model, Plus(float(number), log=log)))
    for closing, expected in ((0, [0, 1, 2]), (2, [1, 2]), (1, [1])):
        log.clear()
        model(tokens_for(model))
        assert log == expected
        contexts[closing].close()
    assert_untouched(model)


def test_entering_and_leaving_while_a_generator_trains() -> None:
    plain, model = toy(attention="linear"), toy(attention="linear")
    losses = [step.loss for step in train(plain, TASK, steps=6, batch_size=4)]
    steps = train(model, TASK, steps=6, batch_size=4)
    seen = [next(steps).loss, next(steps).loss]
    with intervening(model, hooks.FixAttention()):
        seen += [next(steps).loss, next(steps).loss]
    seen += [step.loss for step in steps]
    assert seen[:2] == losses[:2]
    assert all(one != other for one, other in zip(seen[2:], losses[2:], strict=True))
    assert_untouched(model)


def test_the_same_value_may_be_attached_twice() -> None:
    model = toy()
    tokens = tokens_for(model)
    before, plus = activation(model, tokens, RESID), Plus(1.0)
    with intervening(model, plus, plus) as receipts:
        assert torch.equal(activation(model, tokens, RESID), before + 1.0 + 1.0)
    assert [receipt.fired for receipt in receipts] == [1, 1]


def test_hooks_of_others_stay_where_they_are() -> None:
    model, log = toy(), []
    model.add_hook(RESID, lambda act, hook: log.append("mine"))
    model.add_perma_hook(RESID, lambda act, hook: log.append("permanent"))
    with intervening(model, Plus(1.0)), model.hooks(fwd_hooks=[(RESID, lambda act, hook: log.append("inner"))]):
        model(tokens_for(model))
    model(tokens_for(model))
    assert log == ["mine", "permanent", "inner", "mine", "permanent"]
    assert len(model.hook_dict[RESID].fwd_hooks) == len(model.hook_dict[RESID]._forward_hooks) == 2


def test_a_hook_attached_later_sees_the_edited_tensor_an_earlier_one_does_not() -> None:
    model, kept = toy(), []
    tokens = tokens_for(model)
    with model.hooks(fwd_hooks=[(RESID, lambda act, hook: kept.append(act))]), intervening(model, Plus(1.0)):
        edited = activation(model, tokens, RESID)
    assert torch.equal(edited, kept[0] + 1.0)


# What is reported


def warnings_of(function: Callable[[], Any]) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with suppress(KeyError):
            function()
    assert all(warning.category is InterventionWarning for warning in caught)
    assert all(warning.filename == __file__ for warning in caught), "a warning points at the with statement"
    return [str(warning.message) for warning in caught]


def test_one_that_never_fired_is_reported_by_name() -> None:
    model = toy()

    def run() -> None:
        with intervening(model, Plus(1.0), Plus(2.0, at="unembed.hook_out")):
            model(tokens_for(model), stop_at_layer=1)

    (message,) = warnings_of(run)
    assert message.startswith("Plus(number=2.0, at='unembed.hook_out', log=None) never fired: nothing reached unembed")


LONG, SHORT = TASK.n_pos - 1, -TASK.n_pos
"""Positions that the model has and no forward of the task: the last token is predicted, not read."""


@pytest.mark.parametrize(
    ("intervention", "places"),
    [
        (hooks.AddDirection(RESID, direction=torch.ones(16), positions=[LONG]), f"positions [{LONG}]"),
        (hooks.AblateActivation("blocks.0.hook_mlp_out", positions=[SHORT]), f"positions [{SHORT}]"),
        (hooks.MaskAttention(keys=[LONG]), f"keys [{LONG}]"),
        (hooks.FixAttention(rows=[SHORT]), f"rows [{SHORT}]"),
        (hooks.PatchAttention(source=torch.zeros(TASK.n_pos, TASK.n_pos), rows=[LONG]), f"rows [{LONG}]"),
        (hooks.During(hooks.MaskAttention(keys=[LONG]), start=0), f"keys [{LONG}]"),
    ],
    ids=["add-direction", "ablate-activation", "mask-attention", "fix-attention", "patch-attention", "during"],
)
def test_a_position_that_no_forward_has_is_reported(intervention: Intervention, places: str) -> None:
    model = toy(attention="linear")
    tokens = tokens_for(model)
    plain = model(tokens)
    with warnings.catch_warnings(record=True) as warned, intervening(model, intervention):
        warnings.simplefilter("always")
        assert torch.equal(model(tokens), plain)
        model(tokens)
    (message,) = [str(each.message) for each in warned]
    assert message.endswith(f" changed nothing in 2 firings: perhaps no forward has {places}")


def test_a_position_that_one_forward_has_is_not_reported() -> None:
    model = toy(attention="linear")
    tokens = tokens_for(model)
    with intervening(model, hooks.AblateActivation("blocks.0.hook_mlp_out", positions=[5])) as (receipt,):
        model(tokens[:, :3])
        assert receipt.is_idle
        model(tokens)
    assert not receipt.is_idle


def test_nothing_is_reported_while_an_exception_is_on_its_way() -> None:
    model = toy()

    def run() -> None:
        with intervening(model, Plus(1.0)):
            model.reset_hooks()
            raise KeyError

    assert warnings_of(run) == []
    assert_untouched(model)


def test_a_stray_reset_is_noticed() -> None:
    model = toy()

    def run() -> None:
        with intervening(model, Plus(1.0), hooks.BiasAttention()):
            model(tokens_for(model))
            model.reset_hooks()
            model(tokens_for(model))

    first, second = warnings_of(run)
    assert f"lost its hooks at {RESID}, perhaps to a stray model.reset_hooks()" in first
    assert f"lost its hooks at {PATTERN}" in second
    assert_untouched(model)


def test_a_stray_reset_in_one_context_is_noticed_by_all() -> None:
    model = toy()

    def run() -> None:
        with intervening(model, Plus(1.0)), intervening(model, Plus(2.0)):
            model(tokens_for(model))
            model.reset_hooks()

    assert len(warnings_of(run)) == 2


def test_what_a_copy_made_inside_keeps_is_as_the_page_on_traps_says() -> None:
    """docs/background/traps.md: a reset takes the edits away, the weights stay frozen; a new model has neither."""
    model = toy()
    tokens, free = tokens_for(model), requiring_gradients(model)
    plain = model(tokens)
    with intervening(model, Plus(1.0), hooks.FreezeWeights("embeddings")):
        copied, new = copy.deepcopy(model), toy(seed=8)
        new.load_state_dict(model.state_dict())
        assert torch.equal(copied(tokens), model(tokens))
        assert torch.equal(new(tokens), plain)
        assert_untouched(new)
    assert_untouched(model)
    assert not torch.equal(copied(tokens), plain)
    copied.reset_hooks()
    assert torch.equal(copied(tokens), plain)
    held = {"embed.W_E", "pos_embed.W_pos", "ln_final.w", "ln_final.b", "unembed.W_U"}
    assert free - requiring_gradients(copied) == held & free


def requiring_gradients(model: Any) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


# Bad input


@pytest.mark.parametrize("arguments", [(), (hooks.BiasAttention(),), ("a model",)])
def test_the_model_forgotten_is_an_error(arguments: tuple[Any, ...]) -> None:
    for context in (intervening, attaching):
        with pytest.raises(ValueError, match=r"expected a model first, as in intervening\(model, intervention\); got "):
            unchecked_context(context, hooks.AblateHeads([0]), *arguments).__enter__()
    with pytest.raises(ValueError, match=r"expected a model first.*got None"):
        unchecked_context(intervening, None, hooks.BiasAttention()).__enter__()


def test_a_list_of_interventions_is_an_error_that_says_how() -> None:
    with pytest.raises(ValueError, match=r"one by one, as in intervening\(model, \*plan\); got \[Bias"):
        unchecked_intervening(toy(), [hooks.BiasAttention()]).__enter__()


def test_an_empty_plan_is_attached_and_changes_nothing() -> None:
    model = toy()
    with intervening(model) as receipts:
        assert receipts == ()
    assert_untouched(model)


def unchecked_context(context: Any, *arguments: Any) -> Any:
    return contextmanager(unchecked(context))(*arguments)


@contextmanager
def unchecked_intervening(model: Any, *wrong: Any) -> Iterator[Any]:
    with contextmanager(unchecked(intervening))(model, *wrong) as receipts:
        yield receipts


def test_when_the_second_cannot_be_attached_the_first_is_detached() -> None:
    model = toy()
    with pytest.raises(ValueError, match="there is no layer 9"):
        intervening(model, hooks.FreezeWeights("mlp"), Plus(1.0), hooks.BiasAttention(layers=[9])).__enter__()
    assert_untouched(model)


def test_an_edit_keeps_shape_and_dtype() -> None:
    class Wrong(Plus):
        def __call__(self, act: Tensor, *, hook: Any) -> Tensor:
            return act[:, :1] if self.number else act.double()

    model = toy()
    for number, message in (
        (1.0, r"\(5, 1, 16\) of torch.float32 \(5, 8, 16\) at blocks.0.hook_resid_pre"),
        (0.0, "float64"),
    ):
        with pytest.raises(ValueError, match=message), intervening(model, Wrong(number)):
            model(tokens_for(model))
    assert_untouched(model)


@pytest.mark.parametrize("edits", [5, None, [lambda act, hook: act]])
def test_edits_that_name_no_hook_points_are_refused(edits: Any) -> None:
    with pytest.raises(ValueError, match=r"^edits must be functions by hook point, such as .*; got "):
        contextmanager(unchecked(editing))(toy(), "mine", edits).__enter__()


def test_an_edit_that_forgets_to_return_is_named() -> None:
    class Forgetful(Plus):
        def __call__(self, act: Tensor, *, hook: Any) -> Any:
            act + self.number

    model = toy()
    message = r"Forgetful.* gave None at blocks.0.hook_resid_pre; an edit returns the new activation"
    with pytest.raises(ValueError, match=message), intervening(model, Forgetful(1.0)):
        model(tokens_for(model))


# advance and listening


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda act: act, r" must take \(act, \*, hook\); it takes \(act\)$"),
        (lambda act, hook, more: act, r" must take \(act, \*, hook\); it takes \(act, hook, more\)$"),
        (3, r" must be a function of \(act, \*, hook\); got 3$"),
    ],
)
def test_an_edit_that_could_not_be_called_is_refused_when_it_is_attached(edit: Any, message: str) -> None:
    with (
        pytest.raises(ValueError, match=f"^the edit of 'mine' at hook_embed{message}"),
        contextmanager(unchecked(editing))(toy(), "mine", {"hook_embed": edit}),
    ):
        pass
    with (
        pytest.raises(ValueError, match=f"^the hook function at hook_embed{message}"),
        contextmanager(unchecked(hooking))(toy(), {"hook_embed": edit}),
    ):
        pass


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "blocks.0.hook_resid_pots",
            r"^the model has no hook point 'blocks.0.hook_resid_pots'; the nearest are ",
        ),
        ("blocks.*.hook_resid_post", r"^'blocks.\*.hook_resid_post' stands for blocks.0.hook_resid_post.*first$"),
    ],
)
def test_an_edit_of_a_hook_point_that_is_not_one_is_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message), editing(toy(), "mine", {name: lambda act, hook: act}):
        pass


def test_an_attach_that_forgets_the_model_is_refused() -> None:
    class Forgetful:
        def attach(self) -> None: ...

    message = r"attach must take the model, as in attach\(self, model\): too many positional arguments$"
    with pytest.raises(ValueError, match=message), contextmanager(unchecked(entering))(toy(), Forgetful()):
        pass


def test_a_model_that_was_told_steps_can_be_collected() -> None:
    model = toy()
    advance(model, step=3, metrics={})
    with intervening(
        model,
        hooks.During(hooks.BiasAttention()),
        hooks.FreezeWeights("mlp"),
        hooks.TransplantWeights(toy(seed=8), "embed.*"),
    ):
        advance(model, step=3, metrics={})
        model(tokens_for(model))
    ghost = weakref.ref(model)
    del model
    gc.collect()
    assert ghost() is None


def test_a_script_that_ends_in_the_middle_of_training_ends_quietly() -> None:
    code = """if True:
        from plateau_interp import hooks, toy_model, train
        from plateau_interp.tasks import MovingWindowSum
        task = MovingWindowSum(n=4)
        model, other = (toy_model(task, d_model=16) for _ in range(2))
        interventions = (hooks.BiasAttention(), hooks.TransplantWeights(other, "mlp"), hooks.PatchAttention(other))
        steps = train(model, task, steps=9, batch_size=4, interventions=interventions)
        print(next(steps).step)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_hooking_says_what_was_lost() -> None:
    model, seen = toy(), []
    with hooking(model, {RESID: lambda act, hook: seen.append(act), PATTERN: lambda act, hook: None}) as lost:
        model(tokens_for(model))
        model.hook_dict[PATTERN].remove_hooks()
        assert lost == []
    assert lost == [PATTERN]
    assert len(seen) == 1
    assert_untouched(model)


def test_half_attached_hooks_are_taken_back() -> None:
    model = toy()
    with pytest.raises(ValueError, match=r"^the model has no hook point 'nowhere'"):
        hooking(model, {RESID: lambda act, hook: None, "nowhere": lambda act, hook: None}).__enter__()
    assert_untouched(model)


# Any composition

BIASED = torch.zeros(8, 8, dtype=torch.bool)
for query, keys in {5: [0, 1], 6: [1, 2], 7: [2, 3]}.items():
    BIASED[query, keys] = True
OMEGA = BIASED.clone()
OMEGA[4, 0] = True
SOURCE = torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(2)).tril()


def fixed(pattern: Tensor) -> Tensor:
    rows = (OMEGA / OMEGA.sum(dim=-1, keepdim=True).clamp(min=1)).to(pattern)
    return torch.where(OMEGA.any(dim=-1, keepdim=True), rows, pattern)


def without_heads(pattern: Tensor, heads: list[int], new: Tensor) -> Tensor:
    by_hand = pattern.clone()
    by_hand[:, heads] = new[:, heads].to(pattern)
    return by_hand


POOL: dict[str, tuple[Intervention, Callable[[Tensor], Tensor]]] = {
    # name: (the intervention, what it makes of the pattern of the only layer)
    "bias": (hooks.BiasAttention(factor=3.0), lambda p: torch.where(BIASED, 3.0 * p, p)),
    "weaken": (hooks.BiasAttention(factor=0.5, rows=range(8)), lambda p: torch.where(OMEGA, 0.5 * p, p)),
    "fix": (hooks.FixAttention(), fixed),
    "mix": (hooks.MixAttention(0.25), lambda p: p + 0.25 * (fixed(p) - p)),
    "mask": (hooks.MaskAttention(keys=[1]), lambda p: torch.where(torch.arange(8) == 1, 0.0, p)),
    "patch": (hooks.PatchAttention(SOURCE, heads=[3]), lambda p: without_heads(p, [3], SOURCE.expand_as(p))),
    "zero": (hooks.AblateHeads([0, 2]), lambda p: without_heads(p, [0, 2], torch.zeros_like(p))),
    "mean": (hooks.AblateHeads([1], by="mean"), lambda p: without_heads(p, [1], p.mean(0, keepdim=True).expand_as(p))),
    "inactive": (hooks.During(hooks.FixAttention(), start=99), lambda p: p),
    "ramp": (hooks.During(hooks.FixAttention(), ramp=4), lambda p: p + 0.25 * (fixed(p) - p)),
    "later": (hooks.ScaleActivation("blocks.0.hook_resid_post", -2.0), lambda p: p),
    "direction": (hooks.AddDirection("unembed.hook_in", torch.ones(16), positions=[5]), lambda p: p),
    "freeze": (hooks.FreezeWeights("attention"), lambda p: p),
    "freeze embeddings": (hooks.FreezeWeights("embeddings"), lambda p: p),
    "transplant": (hooks.TransplantWeights(toy(n_heads=4, seed=8), "mlp"), lambda p: p),
    "gradient": (hooks.ScaleGradient(-1.0), lambda p: p),
    "gradient at": (hooks.ScaleGradient(0.5, at="blocks.0.hook_resid_mid"), lambda p: p),
    "clip": (hooks.ClipGradient(0.1), lambda p: p),
    "clip at": (hooks.ClipGradient(0.1, at="blocks.0.hook_mlp_out"), lambda p: p),
    "slow": (hooks.AmplifySlowGradient(), lambda p: p),
    "when": (hooks.When(hooks.FixAttention(), "loss < 9"), fixed),
    "when not": (hooks.When(hooks.FixAttention(), "loss < 0"), lambda p: p),
    "patch activation": (
        hooks.PatchActivation("blocks.0.hook_mlp_out", toy(n_heads=4, seed=8), positions=[5]),
        lambda p: p,
    ),
    "ablate activation": (hooks.AblateActivation("blocks.0.attn.hook_z", "mean", heads=[1]), lambda p: p),
    "capture": (Capture((PATTERN,), out="captured", sequences=1), lambda p: p),
}

FROZEN_BY = {"freeze": hooks.FreezeWeights("attention"), "freeze embeddings": hooks.FreezeWeights("embeddings")}

names = st.lists(st.sampled_from(sorted(POOL)), min_size=1, max_size=3)


class Thrown(Exception):
    """The exception that hypothesis throws inside a context."""


@pytest.fixture(scope="module", autouse=True)
def _captures_elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("captures"))
        yield


def throw(act: Tensor, *, hook: Any) -> None:
    raise Thrown


WEIGHTS_GRADIENTS_SCHEDULES: dict[str, Callable[[dict[str, Any]], Intervention]] = {
    "freeze": lambda kind: hooks.FreezeWeights("attention"),
    "transplant": lambda kind: hooks.TransplantWeights(toy(**kind, seed=8), "attention map"),
    "slow": lambda kind: hooks.AmplifySlowGradient(),
    "during": lambda kind: hooks.During(hooks.BiasAttention(factor=4.0), ramp=4),
    "when": lambda kind: hooks.When(hooks.FixAttention(), "loss < 9", ramp=2),
}


@pytest.mark.parametrize("kind", KINDS, ids=kind_name)
@pytest.mark.parametrize("name", WEIGHTS_GRADIENTS_SCHEDULES)
def test_rule_33_holds_for_weights_gradients_and_schedules(kind: dict[str, Any], name: str) -> None:
    model = toy(**kind)
    tokens = tokens_for(model)
    plain, grads = model(tokens), gradients(model, tokens)
    with intervening(model, WEIGHTS_GRADIENTS_SCHEDULES[name](kind)) as (receipt,):
        advance(model, step=0, metrics={"loss": 1.0})
        edited, found = model(tokens), gradients(model, tokens)
        assert edited.dtype == plain.dtype
        assert torch.equal(edited, plain) == (name in ("freeze", "slow"))
        torch.testing.assert_close(cached_logits(model, tokens), edited)
        assert all(gradient.isfinite().all() for gradient in found.values())
        if name == "freeze":
            assert found.keys() == grads.keys() - set(receipt.sites)
            before = {site: model.get_parameter(site).detach().clone() for site in receipt.sites}
            list(train(model, TASK, steps=1, batch_size=4))
            assert all(torch.equal(model.get_parameter(site), before[site]) for site in before)
        if name == "slow":
            assert all(torch.allclose(found[site], 3.0 * grads[site]) for site in grads), "at first m = g: g + 2 g"
    assert receipt.fired > 0
    assert_untouched(model)
    if name != "freeze":
        assert torch.equal(model(tokens), plain)
        with suppress(Thrown), intervening(model, WEIGHTS_GRADIENTS_SCHEDULES[name](kind)):
            raise Thrown
        assert_untouched(model)
        assert torch.equal(model(tokens), plain)


def with_one_capture(groups: list[list[str]]) -> list[list[str]]:
    """Of captures into one folder the first, and nothing that another model captured there."""
    shutil.rmtree("captured", ignore_errors=True)
    seen: set[str] = set()
    return [[name for name in group if name != "capture" or not (name in seen or seen.add(name))] for group in groups]


@pytest.mark.parametrize("attention", ["linear", "softmax"])
@settings(max_examples=20)
@given(groups=st.lists(names, min_size=1, max_size=3), data=st.data())
def test_any_composition_acts_in_order_and_leaves_nothing(
    attention: str, groups: list[list[str]], data: st.DataObject
) -> None:
    model = toy(attention=attention, n_heads=4)
    tokens = tokens_for(model)
    weights = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    logits, grads, expected = model(tokens), gradients(model, tokens), activation(model, tokens, PATTERN)
    throws = data.draw(st.sampled_from(["nowhere", "between forwards", "inside a forward"]), label="throws")
    order = data.draw(st.permutations(range(len(groups))), label="contexts close in this order")
    groups = with_one_capture(groups)
    contexts = [ExitStack() for _ in groups]
    used = [name for group in groups for name in group]

    def use() -> None:
        nonlocal expected
        advance(model, step=0, metrics={"loss": 1.0})
        for name in used:
            expected = POOL[name][1](expected)
        torch.testing.assert_close(activation(model, tokens, PATTERN), expected)
        edited = model(tokens)
        torch.testing.assert_close(cached_logits(model, tokens), edited, atol=1e-5, rtol=1e-4)
        cached = greedy_answers(model, TASK, tokens)
        assert torch.equal(cached, greedy_answers(model, TASK, tokens, cached=False))
        found = gradients(model, tokens)
        assert all(gradient.isfinite().all() for gradient in found.values())
        frozen = {site for name in used if name in FROZEN_BY for site in FROZEN_BY[name].sites(model)}
        assert found.keys() == grads.keys() - frozen
        if throws == "between forwards":
            raise Thrown
        if throws == "inside a forward":
            with model.hooks(fwd_hooks=[("blocks.0.hook_resid_post", throw)]):
                model(tokens)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InterventionWarning)
        try:
            for context, group in zip(contexts, groups, strict=True):
                context.enter_context(intervening(model, *(POOL[name][0] for name in group)))
            use()
        except Thrown as thrown:
            for which in order:
                contexts[which].__exit__(Thrown, thrown, None)
        else:
            for which in order:
                contexts[which].close()
    assert_untouched(model)
    assert all(torch.equal(parameter, weights[name]) for name, parameter in model.named_parameters())
    assert torch.equal(model(tokens), logits)
    again = gradients(model, tokens)
    assert again.keys() == grads.keys()
    assert all(torch.equal(again[name], grads[name]) for name in grads)


@settings(max_examples=25)
@given(used=st.lists(st.sampled_from(sorted(POOL)), min_size=1, max_size=4, unique=True), stop=st.integers(0, 3))
def test_any_composition_in_training_moves_only_what_it_may(used: list[str], stop: int) -> None:
    """The loop is left by an exception at some step; frozen parameters stay, transplanted ones are put back."""
    (used,) = with_one_capture([used])
    model = toy(attention="linear", n_heads=4)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    frozen = {site for name in used if name in FROZEN_BY for site in FROZEN_BY[name].sites(model)}
    transplanted = {
        n for n in before if "transplant" in used and n in hooks.TransplantWeights(model, "mlp").sites(model)
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InterventionWarning)
        steps = train(model, TASK, steps=4, batch_size=4, interventions=tuple(POOL[name][0] for name in used))
        with suppress(Thrown):
            for step in steps:
                if step.step == stop:
                    steps.throw(Thrown())
    assert_untouched(model)
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved <= trained - frozen - transplanted
    # What is downstream of everything always moves; other parameters may have lost their gradient to an edit.
    assert moved >= {"unembed.W_U", "ln_final.w"} - frozen - transplanted


@pytest.mark.parametrize("task", [DepthTwoNet(d=3, n=8), OneHotArithmetic(p=5)], ids=lambda task: task.name)
@pytest.mark.parametrize(
    "edit", [AblateHeads([0]), ScaleActivation("blocks.0.hook_attn_out", 2.0)], ids=lambda e: e.name
)
def test_an_edit_of_attention_that_gives_nothing_is_refused(task, edit):
    """It would be counted as fired, and change no number."""
    with (
        pytest.raises(ValueError, match=r"edits blocks\.0\..*, and the attention of an MLP gives nothing"),
        intervening(toy_model(task, d_mlp=8), edit),
    ):
        pass
