"""plateau_interp.models against the plain GPT of tests/reference and against TransformerLens itself."""

import copy
import itertools
import math
import random
import warnings
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from gated_points import GATED, firings
from jaxtyping import Float
from reference.gpt import as_reference, copy_of
from torch import Tensor
from transformer_lens import HookedTransformer
from transformer_lens.cache.key_value_cache import TransformerLensKeyValueCache
from transformer_lens.components import TransformerBlock
from typecheck import unchecked

from plateau_interp.hooks import During, ScaleActivation
from plateau_interp.interventions.attaching import intervening, quietly
from plateau_interp.interventions.clock import advance
from plateau_interp.models import LinearAttention, ToyTransformer, toy_model
from plateau_interp.tasks import MovingWindowSum
from plateau_interp.training.loop import train
from plateau_interp.training.meter import Meter
from plateau_interp.types import Batch, Defaults, Task

TASK = MovingWindowSum(n=5, p=7)
KINDS = ("linear", "softmax")


def lively_model(*, attention="linear", n_layers=1, n_heads=2, dtype=torch.float32, seed=0) -> ToyTransformer:
    """A model with every parameter random and large enough that each matters, biases and gains included."""
    model = toy_model(TASK, attention=attention, n_layers=n_layers, n_heads=n_heads, d_model=16, dtype=dtype)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                noise = 0.25 * torch.randn(parameter.shape, generator=generator)
                parameter.copy_(noise + (1.0 if name.endswith(".w") else 0.0))
    return model


def batch_of(n: int = 6, seed: int = 1) -> Batch:
    return TASK.sample(n, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("n_heads", [1, 4])
@pytest.mark.parametrize("n_layers", [1, 2])
@pytest.mark.parametrize("attention", KINDS)
def test_agrees_with_the_plain_gpt(attention, n_layers, n_heads, dtype, tolerance):
    model = lively_model(attention=attention, n_layers=n_layers, n_heads=n_heads, dtype=dtype)
    reference = copy_of(model)
    batch = batch_of()
    close = {"rtol": tolerance, "atol": tolerance}

    logits, cache = model.run_with_cache(batch.inputs)
    expected_logits, expected_maps = reference(batch.inputs)
    torch.testing.assert_close(logits, expected_logits, **close)
    torch.testing.assert_close(model(batch.inputs), expected_logits, **close)
    for layer, expected_map in enumerate(expected_maps):
        torch.testing.assert_close(cache["pattern", layer], expected_map, **close)

    loss, expected_loss = TASK.loss(model(batch.inputs), batch), reference.loss(batch.tokens)
    torch.testing.assert_close(loss, expected_loss, **close)
    loss.backward()
    expected_loss.backward()
    gradients = as_reference({name: p.grad for name, p in model.named_parameters() if p.requires_grad})
    expected = {name: p.grad for name, p in reference.named_parameters()}
    assert gradients.keys() == expected.keys()
    assert all(gradient.abs().max() > 1e-4 for name, gradient in expected.items() if "key.bias" not in name)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name], **close, msg=lambda text, name=name: f"{name}: {text}")


def test_training_goes_the_plain_gpt_s_way():
    model = lively_model(dtype=torch.float64)
    reference = copy_of(model)
    parameters = [p for p in model.parameters() if p.requires_grad]
    ours, theirs = torch.optim.Adam(parameters, lr=1e-2), torch.optim.Adam(reference.parameters(), lr=1e-2)
    for step in range(20):
        batch = batch_of(16, seed=step)
        loss, expected = TASK.loss(model(batch.inputs), batch), reference.loss(batch.tokens)
        assert loss.item() == pytest.approx(expected.item(), abs=1e-9)
        for optimizer, value in ((ours, loss), (theirs, expected)):
            optimizer.zero_grad()
            value.backward()
            optimizer.step()


def test_softmax_model_is_a_plain_hooked_transformer():
    model = lively_model(attention="softmax", n_layers=2)
    plain = HookedTransformer(model.cfg, move_to_device=False)
    plain.load_state_dict(model.state_dict())
    torch.testing.assert_close(model(batch_of().inputs), plain(batch_of().inputs), rtol=1e-5, atol=1e-5)


@dataclass(frozen=True)
class Sized(Task):
    """Only sizes: enough to build a model for."""

    vocabulary: int
    context: int
    name: ClassVar[str] = "sized"
    defaults: ClassVar[Defaults] = Defaults()

    @property
    def d_vocab(self) -> int:
        return self.vocabulary

    @property
    def n_pos(self) -> int:
        return self.context

    @property
    def answer(self) -> slice:
        return slice(self.context - 1, self.context)

    def sample(self, n: int, *, generator: torch.Generator) -> Batch:
        tokens = torch.randint(self.vocabulary, (n, self.context), generator=generator)
        return Batch(tokens, tokens[:, 1:])


def trainable(model: ToyTransformer) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def test_default_model_is_the_paper_s():
    task = MovingWindowSum()
    model = toy_model(task)
    assert trainable(model) == 807_936
    assert isinstance(model, HookedTransformer)
    assert model.task is task
    assert model.attention == "linear"
    assert model.training
    assert (model.cfg.n_layers, model.cfg.n_heads, model.cfg.d_model, model.cfg.d_head) == (1, 1, 256, 256)
    assert (model.cfg.d_mlp, model.cfg.n_ctx, model.cfg.d_vocab, model.cfg.eps) == (1024, 33, 18, 1e-5)
    logits = model(task.sample(2, generator=torch.Generator().manual_seed(0)).inputs)
    assert logits.shape == (2, 32, 18)


@pytest.mark.parametrize(
    ("vocabulary", "context", "n_layers", "parameters"),
    [(18, 33, 1, 807_936), (17, 33, 1, 807_424), (12, 15, 1, 800_256), (17, 33, 2, 1_597_184), (33, 50, 2, 1_609_728)],
)
def test_parameters_of_the_paper_s_models(vocabulary, context, n_layers, parameters):
    assert trainable(toy_model(Sized(vocabulary, context), n_layers=n_layers)) == parameters


@pytest.mark.parametrize("attention", KINDS)
def test_the_second_paper_s_gpt_is_a_decoder(attention):
    """arXiv 2410.22244: 49 masked entries, a separator, 49 entries, in 405 tokens."""
    model = toy_model(Sized(405, 99), attention=attention, n_layers=2, n_heads=2, d_model=256)
    assert trainable(model) == 1_812_736
    assert trainable(model) - model.unembed.W_U.numel() == 1_709_056


@pytest.mark.parametrize("d_model", [16, 32])
@pytest.mark.parametrize("n_heads", [1, 4])
@pytest.mark.parametrize("n_layers", [1, 3])
def test_parameter_formula(n_layers, n_heads, d_model):
    d, vocabulary, context = d_model, TASK.d_vocab, TASK.n_pos
    block = 4 * (d * d + d) + (4 * d * d + 4 * d) + (4 * d * d + d) + 4 * d
    expected = 2 * vocabulary * d + context * d + n_layers * block + 2 * d
    assert trainable(toy_model(TASK, n_layers=n_layers, n_heads=n_heads, d_model=d_model)) == expected


def test_the_head_has_no_bias():
    model = toy_model(TASK, d_model=16)
    assert not model.unembed.b_U.requires_grad
    assert not model.unembed.b_U.any()


def test_sizes_are_arguments():
    model = toy_model(TASK, n_layers=2, n_heads=4, d_model=32, d_mlp=24, n_ctx=40)
    assert model.blocks[1].attn.W_Q.shape == (4, 32, 8)
    assert model.blocks[1].mlp.W_in.shape == (32, 24)
    assert model.pos_embed.W_pos.shape == (40, 32)


def test_depth_follows_the_task():
    @dataclass(frozen=True)
    class Deep(Sized):
        defaults: ClassVar[Defaults] = Defaults(n_layers=2)

    assert toy_model(Deep(5, 9), d_model=16).cfg.n_layers == 2
    assert toy_model(Deep(5, 9), d_model=16, n_layers=1).cfg.n_layers == 1


@pytest.mark.parametrize("n_layers", [1, 2])
def test_initial_weights_have_the_paper_s_spread(n_layers):
    model = toy_model(Sized(40, 40), n_layers=n_layers, n_heads=2, d_model=128)
    for name, parameter in model.named_parameters():
        kind = name.split(".")[-1]
        if kind.startswith("W_"):
            std = 0.02 / math.sqrt(2 * n_layers) if kind in ("W_O", "W_out") else 0.02
            error = std / math.sqrt(parameter.numel())
            assert parameter.std().item() == pytest.approx(std, abs=4 * error / math.sqrt(2)), name
            assert parameter.mean().item() == pytest.approx(0.0, abs=4 * error), name
        else:
            assert (parameter == (1.0 if kind == "w" else 0.0)).all(), name
    matrices = [p.flatten()[:100] for name, p in model.named_parameters() if ".W_" in name]
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(matrices, 2))


def state(**options) -> dict[str, Tensor]:
    return toy_model(TASK, d_model=16, **options).state_dict()


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def test_the_seed_fixes_the_weights():
    assert same(state(seed=3), state(seed=3))
    assert not same(state(seed=3), state(seed=4))
    assert same(state(seed=3, attention="linear"), state(seed=3, attention="softmax"))


def test_the_seed_fixes_the_weights_in_every_dtype():
    single, double = state(), state(dtype=torch.float64)
    assert double["blocks.0.attn.W_Q"].dtype == torch.float64
    assert all(torch.equal(single[name].double(), double[name].double()) for name in single)
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        assert same(single, state())
    finally:
        torch.set_default_dtype(before)


def test_building_leaves_the_global_randomness_alone():
    torch_state, numpy_state, python_state = torch.get_rng_state(), np.random.get_state(), random.getstate()
    toy_model(TASK, d_model=16, seed=5)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert str(np.random.get_state()) == str(numpy_state)
    assert random.getstate() == python_state


def test_building_is_silent(capfd):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        toy_model(TASK, d_model=16)
    assert [str(warning.message) for warning in caught] == []
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


def test_deepcopy_is_a_model_of_its_own():
    model = lively_model()
    twin = copy.deepcopy(model)
    tokens = batch_of().inputs
    assert torch.equal(model(tokens), twin(tokens))
    assert twin.task == model.task
    with torch.no_grad():
        twin.blocks[0].attn.W_Q.zero_()
    assert not torch.equal(model(tokens), twin(tokens))


def test_weights_load_into_another_toy_model():
    model, other = lively_model(), toy_model(TASK, n_heads=2, d_model=16, seed=9)
    other.load_state_dict(model.state_dict())
    assert torch.equal(model(batch_of().inputs), other(batch_of().inputs))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"n_layers": 0}, "n_layers must be at least 1; got 0"),
        ({"n_heads": 0}, "n_heads must be at least 1; got 0"),
        ({"d_model": 0}, "d_model must be at least 1; got 0"),
        ({"d_mlp": -1}, "d_mlp must be at least 1; got -1"),
        ({"n_heads": 3, "d_model": 16}, "n_heads must divide d_model; got n_heads=3 and d_model=16"),
        ({"n_ctx": 9}, "n_ctx must be at least 10, the task's input length; got 9"),
        ({"n_ctx": "x"}, "n_ctx must be a whole number; got 'x'"),
        ({"seed": "x"}, "seed must be a whole number; got 'x'"),
        ({"seed": 0.5}, "seed must be a whole number; got 0.5"),
        ({"dtype": "float32"}, "dtype must be that of real numbers, such as torch.float32; got 'float32'"),
        ({"dtype": torch.int64}, "dtype must be that of real numbers, such as torch.float32; got torch.int64"),
        ({"device": "tpux"}, "unknown device 'tpux'; expected cpu, cuda, cuda:1, ... or mps"),
        ({"device": None}, "unknown device None; expected cpu, cuda, cuda:1, ... or mps"),
    ],
)
def test_bad_sizes_are_refused(options, text):
    with pytest.raises(ValueError, match=f"^{text}$"):
        unchecked(toy_model)(TASK, **options)


@pytest.mark.parametrize("attention", KINDS)
def test_hook_points_are_transformerlens_s(attention):
    model = lively_model(attention=attention, n_layers=2)
    plain = HookedTransformer(model.cfg, move_to_device=False)
    assert model.hook_dict.keys() == plain.hook_dict.keys()
    assert all(point.name == name for name, point in model.hook_dict.items())


@pytest.mark.parametrize("attention", KINDS)
def test_every_hook_point_fires(attention):
    model = lively_model(attention=attention, n_layers=2)
    gated = {f"blocks.{layer}.{name}" for layer in (0, 1) for names in GATED.values() for name in names}
    counts = firings(model, batch_of().inputs)
    assert {name for name, count in counts.items() if count == 0} == gated
    assert {name for name, count in counts.items() if count > 1} == set()


@pytest.mark.parametrize("switch", GATED)
@pytest.mark.parametrize("attention", KINDS)
def test_switched_hook_points_fire_and_change_nothing(attention, switch):
    model = lively_model(attention=attention, n_layers=2)
    tokens = batch_of().inputs
    expected = model(tokens)
    getattr(model, switch)(True)
    torch.testing.assert_close(model(tokens), expected, rtol=1e-5, atol=1e-5)
    counts = firings(model, tokens)
    for layer, name in itertools.product((0, 1), GATED[switch]):
        assert counts[f"blocks.{layer}.{name}"] == 1
    ungated = {name for name in counts if not any(name.endswith(tail) for tails in GATED.values() for tail in tails)}
    assert all(counts[name] >= 1 for name in ungated)


@pytest.mark.parametrize(
    ("switch", "name"), [(switch, name) for switch, names in GATED.items() for name in names], ids=str
)
@pytest.mark.parametrize("attention", KINDS)
def test_switched_hook_points_can_be_edited(attention, switch, name):
    """An edit of head 0 acts as on TransformerLens's own block."""
    model = lively_model(attention=attention)
    plain = copy.deepcopy(model)
    plain.blocks[0].__class__ = TransformerBlock
    for each in (model, plain):
        getattr(each, switch)(True)

    def edit(activation, *, hook):
        edited = activation.clone()
        edited[:, :, 0] += torch.linspace(-1.0, 1.0, edited.shape[-1]) if edited.ndim == 4 else 1.0
        return edited

    hooks = [(f"blocks.0.{name}", edit)]
    tokens = batch_of().inputs
    edited = model.run_with_hooks(tokens, fwd_hooks=hooks)
    assert not torch.allclose(edited, model(tokens), atol=1e-3)
    torch.testing.assert_close(edited, plain.run_with_hooks(tokens, fwd_hooks=hooks), rtol=1e-5, atol=1e-5)


ATTENTION_POINTS = ("hook_q", "hook_k", "hook_v", "hook_attn_scores", "hook_pattern", "hook_z")


def replayed(attn: LinearAttention, acts: dict[str, Tensor]) -> Float[Tensor, "batch query d_model"]:
    """The attention output computed by hand from some of its own activations, later ones from earlier ones."""
    if "hook_z" in acts:
        z = acts["hook_z"]
        return torch.einsum("bqhe,hed->bqd", z, attn.W_O) + attn.b_O
    if "hook_attn_scores" in acts:  # without softmax, scores are the pattern
        pattern = acts["hook_attn_scores"]
    elif "hook_pattern" in acts:
        pattern = acts["hook_pattern"]
    else:
        q, k = acts["hook_q"], acts["hook_k"]
        scores = torch.einsum("bqhe,bkhe->bhqk", q, k) / math.sqrt(q.shape[-1])
        pattern = scores * torch.ones(scores.shape[-2:]).tril()
    z = torch.einsum("bhqk,bkhe->bqhe", pattern, acts["hook_v"])
    return replayed(attn, {"hook_z": z})


@pytest.mark.parametrize("name", ATTENTION_POINTS)
def test_edits_inside_linear_attention_take_effect(name):
    model = lively_model()
    tokens = batch_of().inputs
    _, cache = model.run_with_cache(tokens)
    kept = {"hook_attn_scores": ["hook_v"], "hook_pattern": ["hook_v"], "hook_z": []}.get(
        name, ["hook_q", "hook_k", "hook_v"]
    )
    acts = {point: cache[f"blocks.0.attn.{point}"] for point in kept}
    acts[name] = 2.0 * cache[f"blocks.0.attn.{name}"] + 0.5
    seen = {}
    model.run_with_hooks(
        tokens,
        fwd_hooks=[
            (f"blocks.0.attn.{name}", lambda act, *, hook: 2.0 * act + 0.5),
            ("blocks.0.hook_attn_out", lambda act, *, hook: seen.update(out=act)),
        ],
    )
    torch.testing.assert_close(seen["out"], replayed(model.blocks[0].attn, acts), rtol=1e-5, atol=1e-5)


def test_linear_pattern_is_causal_and_signed():
    model = lively_model()
    _, cache = model.run_with_cache(batch_of().inputs)
    pattern = cache["pattern", 0]
    assert torch.equal(pattern, cache["attn_scores", 0])
    assert not pattern.triu(1).any()
    assert (pattern < 0).any()
    assert not torch.allclose(pattern.sum(dim=-1), torch.ones(()))


@pytest.mark.parametrize("name", ["blocks.0.ln1", "blocks.0.ln2", "ln_final"])
@pytest.mark.parametrize("point", ["hook_scale", "hook_normalized"])
def test_looking_inside_a_layer_norm_changes_nothing(name, point):
    model = lively_model()
    tokens = batch_of().inputs
    seen = []
    hooked = model.run_with_hooks(tokens, fwd_hooks=[(f"{name}.{point}", lambda act, *, hook: seen.append(act.shape))])
    logits = model(tokens)
    assert torch.equal(hooked, logits)
    assert all(map(torch.equal, *(torch.autograd.grad(out.square().sum(), weights(model)) for out in (hooked, logits))))
    assert seen == [(6, 10, 1 if point == "hook_scale" else 16)]


def weights(model):
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def test_looking_inside_a_layer_norm_changes_no_bit_of_training():
    def trained(meter):
        model = toy_model(TASK, d_model=32)
        for _ in train(model, TASK, steps=4, batch_size=16, meter=meter):
            pass
        return model.state_dict()

    plain, often, seldom = (
        trained(meter)
        for meter in (
            None,
            *(Meter(TASK, every=every, n_sequences=2, cosine_at=("ln_final.hook_normalized",)) for every in (1, 3)),
        )
    )
    for name in plain:
        assert torch.equal(plain[name], often[name]), name
        assert torch.equal(plain[name], seldom[name]), name


@pytest.mark.parametrize("point", ["ln_final.hook_normalized", "blocks.0.ln1.hook_scale"])
@pytest.mark.parametrize(
    "make",
    [
        lambda point: ScaleActivation(point, 1.0),
        lambda point: ScaleActivation(point, 1.0, positions=[1]),
        lambda point: ScaleActivation(point, 5.0, positions=[10]),
        lambda point: During(ScaleActivation(point, 5.0), start=50),
    ],
)
def test_an_edit_of_nothing_inside_a_layer_norm_changes_no_bit(point, make):
    model = lively_model()
    advance(model, step=0)
    tokens = batch_of().inputs
    plain = model(tokens)
    with quietly(), intervening(model, make(point)):
        assert torch.equal(model(tokens), plain)


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_an_edit_in_place_inside_a_layer_norm_takes_effect(mode):
    """TransformerLens's users write to the activation and return it, or return nothing."""
    model = lively_model()
    tokens = batch_of().inputs

    def zero(act, *, hook):
        act[:, 3] = 0

    with mode():
        edited = model.run_with_hooks(tokens, fwd_hooks=[("ln_final.hook_normalized", zero)])
    torch.testing.assert_close(edited[:, 3], (model.ln_final.b @ model.unembed.W_U).expand_as(edited[:, 3]))


def test_a_tensor_kept_inside_a_layer_norm_gets_its_gradient():
    model = lively_model()
    kept = []

    def keep(act, *, hook):
        act.retain_grad()
        kept.append(act)

    model.run_with_hooks(batch_of().inputs, fwd_hooks=[("ln_final.hook_normalized", keep)]).sum().backward()
    expected = model.ln_final.w * model.unembed.W_U.sum(dim=1)
    torch.testing.assert_close(kept[0].grad, expected.expand_as(kept[0]))


def test_edits_inside_a_layer_norm_take_effect():
    model = lively_model()
    tokens = batch_of().inputs
    _, cache = model.run_with_cache(tokens)
    norm, head = model.ln_final, model.unembed.W_U

    edited = model.run_with_hooks(tokens, fwd_hooks=[("ln_final.hook_scale", lambda act, *, hook: 2.0 * act)])
    expected = (cache["ln_final.hook_normalized"] / 2.0 * norm.w + norm.b) @ head
    torch.testing.assert_close(edited, expected, rtol=1e-5, atol=1e-5)

    edited = model.run_with_hooks(tokens, fwd_hooks=[("ln_final.hook_normalized", lambda act, *, hook: 0.0 * act)])
    torch.testing.assert_close(edited, (norm.b @ head).expand_as(edited), rtol=1e-5, atol=1e-5)


def test_a_backward_hook_inside_a_layer_norm_sees_the_gradient():
    model = lively_model()
    batch = batch_of()
    seen = {}
    with model.hooks(bwd_hooks=[("ln_final.hook_normalized", lambda grad, *, hook: seen.update(grad=grad.clone()))]):
        logits = model(batch.inputs)
        TASK.loss(logits, batch).backward()
    probabilities = logits.detach().softmax(dim=-1)
    truth = torch.nn.functional.one_hot(batch.labels, TASK.d_vocab)
    expected = (probabilities - truth) / truth.sum() @ model.unembed.W_U.T * model.ln_final.w
    torch.testing.assert_close(seen["grad"], expected, rtol=1e-5, atol=1e-6)


def test_edits_of_the_mlp_take_effect():
    model = lively_model()
    tokens = batch_of().inputs
    seen = {}
    model.run_with_hooks(
        tokens,
        fwd_hooks=[
            ("blocks.0.mlp.hook_pre", lambda act, *, hook: torch.zeros_like(act)),
            ("blocks.0.hook_mlp_out", lambda act, *, hook: seen.update(out=act)),
        ],
    )
    torch.testing.assert_close(seen["out"], model.blocks[0].mlp.b_out.expand_as(seen["out"]))  # gelu(0) = 0


def test_hooks_leave_with_their_context():
    model = lively_model()
    tokens = batch_of().inputs
    before = model(tokens)

    def ablate(act, *, hook):
        return torch.zeros_like(act)

    with model.hooks(fwd_hooks=[("blocks.0.hook_mlp_out", ablate), ("ln_final.hook_normalized", ablate)]):
        assert not torch.equal(model(tokens), before)
    assert torch.equal(model(tokens), before)


@pytest.mark.parametrize("attention", KINDS)
def test_the_activation_cache_s_tools_work(attention):
    model = lively_model(attention=attention, n_layers=2)
    logits, cache = model.run_with_cache(batch_of().inputs)
    parts, labels = cache.decompose_resid(return_labels=True)
    assert labels == ["embed", "pos_embed", "0_attn_out", "0_mlp_out", "1_attn_out", "1_mlp_out"]
    final = cache["resid_post", 1]
    torch.testing.assert_close(parts.sum(dim=0), final, rtol=1e-5, atol=1e-5)
    heads = cache.stack_head_results(layer=2)
    attn_out = cache["attn_out", 0] + cache["attn_out", 1] - model.blocks[0].attn.b_O - model.blocks[1].attn.b_O
    torch.testing.assert_close(heads.sum(dim=0), attn_out, rtol=1e-5, atol=1e-5)
    normalised = cache.apply_ln_to_stack(parts).sum(dim=0)
    torch.testing.assert_close(normalised, cache["ln_final.hook_normalized"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(cache["unembed.hook_in"] @ model.unembed.W_U, logits, rtol=1e-5, atol=1e-5)


def test_forward_can_stop_and_start_at_a_layer():
    model = lively_model(n_layers=2)
    tokens = batch_of().inputs
    resid = model(tokens, stop_at_layer=1)
    assert torch.equal(model(resid, start_at_layer=1), model(tokens))


@pytest.mark.parametrize("prefill", [1, 4])
@pytest.mark.parametrize("n_layers", [1, 2])
@pytest.mark.parametrize("attention", KINDS)
def test_cached_forward_is_the_whole_forward(attention, n_layers, prefill):
    model = lively_model(attention=attention, n_layers=n_layers)
    tokens = batch_of().inputs
    expected, cache = model.run_with_cache(tokens)
    past = TransformerLensKeyValueCache.init_cache(model.cfg, model.cfg.device, len(tokens))
    rows = []

    def record(pattern, *, hook):
        assert pattern.shape[-1] == past[0].past_keys.shape[1]
        rows.append(pattern)

    pieces = [tokens[:, :prefill], *tokens[:, prefill:].split(1, dim=1)]
    with torch.no_grad(), model.hooks(fwd_hooks=[("blocks.0.attn.hook_pattern", record)]):
        logits = [model(piece, past_kv_cache=past, attention_mask=torch.ones_like(piece)) for piece in pieces]
    torch.testing.assert_close(torch.cat(logits, dim=1), expected, rtol=1e-5, atol=1e-5)
    n_query = tokens.shape[1]
    padded = [torch.nn.functional.pad(row, (0, n_query - row.shape[-1])) for row in rows]
    torch.testing.assert_close(torch.cat(padded, dim=2), cache["pattern", 0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("attention", KINDS)
def test_left_padding_changes_nothing(attention):
    model = lively_model(attention=attention, n_layers=2)
    tokens = batch_of().inputs
    n_pad = model.cfg.n_ctx - tokens.shape[1]
    assert n_pad > 0
    padded = torch.nn.functional.pad(tokens, (n_pad, 0), value=3)
    mask = torch.nn.functional.pad(torch.ones_like(tokens), (n_pad, 0))
    logits = model(padded, attention_mask=mask)
    torch.testing.assert_close(logits[:, n_pad:], model(tokens), rtol=1e-5, atol=1e-5)
    logits[:, n_pad:].square().mean().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("attention", KINDS)
def test_a_mask_of_ones_changes_nothing(attention):
    model = lively_model(attention=attention)
    tokens = batch_of().inputs
    torch.testing.assert_close(model(tokens, attention_mask=torch.ones_like(tokens)), model(tokens))


@pytest.mark.parametrize("argument", ["additive_attention_mask", "position_bias"])
def test_linear_attention_refuses_additive_masks(argument):
    attn = lively_model().blocks[0].attn
    x = torch.zeros(1, 3, 16)
    with pytest.raises(ValueError, match=r"^linear attention takes no additive mask or position bias"):
        attn(x, x, x, **{argument: torch.zeros(1, 1, 3, 3)})


def test_gradients_are_bit_identical_with_several_threads():
    task = MovingWindowSum()
    model = toy_model(task)
    batch = task.sample(64, generator=torch.Generator().manual_seed(0))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        runs = []
        for _ in range(6):
            model.zero_grad()
            task.loss(model(batch.inputs), batch).backward()
            runs.append({name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad})
    finally:
        torch.set_num_threads(threads)
    for run in runs[1:]:
        assert [name for name in run if not torch.equal(run[name], runs[0][name])] == []


def test_frozen_head_bias_gets_no_gradient():
    model = lively_model()
    TASK.loss(model(batch_of().inputs), batch_of()).backward()
    assert model.unembed.b_U.grad is None


def test_a_seed_and_a_dtype_of_the_wrong_type_are_refused() -> None:
    task = MovingWindowSum(n=4)
    with pytest.raises(ValueError, match="seed must be a whole number; got 'x'"):
        unchecked(toy_model)(task, seed="x")
    with pytest.raises(ValueError, match=r"dtype must be that of real numbers, .*; got 'float8'"):
        unchecked(toy_model)(task, dtype="float8")
