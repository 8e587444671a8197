"""plateau_interp.models.post_norm: the post-norm decoder against PyTorch's TransformerEncoder under a causal mask."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from einops import rearrange
from gated_points import GATED, assert_every_point_fires_once, assert_switched_points_can_be_edited
from torch import nn

from plateau_interp.analysis.direct_attribution import direct_attribution
from plateau_interp.decoding.answers import greedy_answers
from plateau_interp.models import ToyTransformer, toy_model
from plateau_interp.models.flops import model_flops, training_flops
from plateau_interp.models.initializers import PaperDraw, PyTorchDefault, initialise_
from plateau_interp.models.matrix_draws import Dense, Small, Sparse
from plateau_interp.models.parameters import parameters_where
from plateau_interp.models.settings import ModelOptions
from plateau_interp.runs.recipe import Recipe
from plateau_interp.runs.run import Run
from plateau_interp.tasks import ModularArithmetic, MovingWindowSum
from plateau_interp.training.optimizers import AdamW
from plateau_interp.training.settings import MeasuringOptions, TrainingOptions

TASK = ModularArithmetic(p=97)
SIZES = {"n_layers": 2, "n_heads": 4, "d_model": 128}
"""The poster's; the MLP has 512 by default."""
SMALL = {"n_layers": 2, "n_heads": 4, "d_model": 16}


def net(task=TASK, **options) -> ToyTransformer:
    return toy_model(task, architecture="post-norm", **{**SMALL, **options})


def lively_net(task=TASK, **options) -> ToyTransformer:
    """A model in which every parameter matters, biases and gains included, and no two layers are alike."""
    model = net(task, **options)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = 0.15 * torch.randn(parameter.shape, generator=generator)
            parameter.copy_(noise + (1.0 if name.endswith(".w") else 0.0))
    return model


def tokens_of(n: int = 5):
    return TASK.sample(n, generator=torch.Generator().manual_seed(1)).inputs


class Theirs(nn.Module):
    """The same of PyTorch's parts, which is what the poster's is made of."""

    def __init__(self, model: ToyTransformer) -> None:
        super().__init__()
        cfg = model.cfg
        self.tokens, self.positions = nn.Embedding(cfg.d_vocab, cfg.d_model), nn.Embedding(cfg.n_ctx, cfg.d_model)
        layer = nn.TransformerEncoderLayer(
            cfg.d_model, cfg.n_heads, cfg.d_mlp, dropout=0.0, activation="relu", batch_first=True, norm_first=False
        )
        self.encoder = nn.TransformerEncoder(layer, cfg.n_layers, enable_nested_tensor=False)
        self.head = nn.Linear(cfg.d_model, cfg.d_vocab_out)
        self.to(cfg.dtype)

    def states(self, tokens):
        """What each layer begins with, and what the last leaves."""
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1], dtype=self.head.weight.dtype)
        states = [self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1]))]
        for layer in self.encoder.layers:
            states.append(layer(states[-1], src_mask=mask, is_causal=True))
        return states

    def forward(self, tokens):
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1], dtype=self.head.weight.dtype)
        state = self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1]))
        return self.head(self.encoder(state, mask=mask, is_causal=True))


def names_of(cfg) -> dict[str, tuple[str, ...]]:
    """By PyTorch's name of a parameter ours, several where it packs them."""
    names: dict[str, tuple[str, ...]] = {
        "tokens.weight": ("embed.W_E",),
        "positions.weight": ("pos_embed.W_pos",),
        "head.weight": ("unembed.W_U",),
        "head.bias": ("unembed.b_U",),
    }
    for layer in range(cfg.n_layers):
        theirs, ours = f"encoder.layers.{layer}.", f"blocks.{layer}."
        names[f"{theirs}self_attn.in_proj_weight"] = tuple(f"{ours}attn.W_{letter}" for letter in "QKV")
        names[f"{theirs}self_attn.in_proj_bias"] = tuple(f"{ours}attn.b_{letter}" for letter in "QKV")
        for module, weight, bias in (
            ("self_attn.out_proj", "attn.W_O", "attn.b_O"),
            ("linear1", "mlp.W_in", "mlp.b_in"),
            ("linear2", "mlp.W_out", "mlp.b_out"),
            ("norm1", "ln1.w", "ln1.b"),
            ("norm2", "ln2.w", "ln2.b"),
        ):
            names[f"{theirs}{module}.weight"], names[f"{theirs}{module}.bias"] = (ours + weight,), (ours + bias,)
    return names


def as_theirs(names: tuple[str, ...], tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    """Parameters of ours, or their gradients, as PyTorch lays them out."""

    def one(name: str) -> torch.Tensor:
        kind, tensor = name.rsplit(".", 1)[-1], tensors[name]
        if kind in ("W_Q", "W_K", "W_V"):
            return rearrange(tensor, "head d_model d_head -> (head d_head) d_model")
        if kind == "W_O":
            return rearrange(tensor, "head d_head d_model -> d_model (head d_head)")
        return tensor.T if kind in ("W_in", "W_out", "W_U") else tensor.flatten() if kind[:2] == "b_" else tensor

    return torch.cat([one(name) for name in names])


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("made", [net, lively_net])
def test_it_is_pytorch_s_own_transformer(dtype, tolerance, made):
    model = made(dtype=dtype, d_mlp=40)
    theirs, names = Theirs(model), names_of(model.cfg)
    ours = dict(model.named_parameters())
    assert sorted(itertools.chain(*names.values())) == sorted(ours)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            parameter.copy_(as_theirs(names[name], ours))
    tokens = tokens_of()
    output, cache = model.run_with_cache(tokens)
    exactly = {"rtol": tolerance, "atol": tolerance}
    points = ["blocks.0.hook_resid_pre", *(f"blocks.{layer}.hook_normalized_resid_post" for layer in (0, 1))]
    for point, state in zip(points, theirs.states(tokens), strict=True):
        torch.testing.assert_close(cache[point], state, **exactly)
    torch.testing.assert_close(output, theirs(tokens), **exactly)
    output[:, -1].square().mean().backward()
    theirs(tokens)[:, -1].square().mean().backward()
    gradients = {name: parameter.grad for name, parameter in ours.items()}
    for name, parameter in theirs.named_parameters():
        torch.testing.assert_close(as_theirs(names[name], gradients), parameter.grad, **exactly)


def test_it_has_the_poster_s_number_of_parameters_and_no_norm_at_either_end():
    model = toy_model(TASK, architecture="post-norm", n_ctx=5, **SIZES)
    assert sum(parameter.numel() for parameter in model.parameters()) == 422_627
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any("ln_" in name for name, _ in model.named_parameters())
    assert {module.eps for name, module in model.named_modules() if name.endswith(("ln1", "ln2"))} == {1e-5}


def test_operations_are_counted_at_every_position():
    settings = ModelOptions(architecture="post-norm", **SIZES).resolved(TASK)
    of_a_layer = 4 * 128 * 128 * 2 + 4 * 4 * 128 + 4 * 128 * 512
    forward = 4 * (2 * of_a_layer + 2 * 128 * 99)
    assert training_flops(TASK, settings) == 3 * forward
    assert model_flops(toy_model(TASK, architecture="post-norm", **SIZES), n_positions=4) == forward


def test_weights_begin_as_pytorch_s_of_the_same_layers():
    model = toy_model(TASK, architecture="post-norm", seed=3, **SIZES)
    parameters = dict(model.named_parameters())
    packed = math.sqrt(6 / (128 + 3 * 128))
    bounds = {"W_Q": packed, "W_K": packed, "W_V": packed, "W_O": 128**-0.5, "W_in": 128**-0.5, "b_in": 128**-0.5}
    bounds |= {"W_out": 512**-0.5, "b_out": 512**-0.5, "W_U": 128**-0.5, "b_U": 128**-0.5}
    for name, parameter in parameters.items():
        kind = name.rsplit(".", 1)[-1]
        if kind in bounds:
            assert 0.95 * bounds[kind] < parameter.abs().max() <= bounds[kind], name
            spread = bounds[kind] / math.sqrt(3)
            # Of n uniform numbers the mean is off by spread / sqrt(n), the deviation by less: four times that at most.
            tolerance = 4 * spread / math.sqrt(parameter.numel())
            assert abs(parameter.mean().item()) < tolerance, name
            assert abs(parameter.std().item() - spread) < tolerance, name
        elif kind in ("W_E", "W_pos"):
            assert parameter.std().item() == pytest.approx(1.0, abs=4 / math.sqrt(2 * parameter.numel())), name
        else:
            assert parameter.eq(1.0 if kind == "w" else 0.0).all(), name
    # What PyTorch itself draws is bounded alike.
    drawn = dict(Theirs(model).named_parameters())
    for name, ours in names_of(model.cfg).items():
        expected = as_theirs(ours, parameters)
        assert drawn[name].shape == expected.shape
        if "norm" not in name and drawn[name].any():
            assert drawn[name].std().item() == pytest.approx(expected.std().item(), rel=0.25), name


def test_both_layers_begin_alike_and_a_seed_is_a_draw():
    model, same, other = (net(seed=seed) for seed in (3, 3, 4))
    parameters = dict(model.named_parameters())
    for name, parameter in parameters.items():
        if name.startswith("blocks.1."):
            assert parameter.equal(parameters[name.replace("blocks.1.", "blocks.0.")]), name
    assert all(map(torch.equal, model.parameters(), same.parameters()))
    assert not model.W_Q.equal(other.W_Q)
    assert not model.W_Q[0, 0].equal(model.W_Q[0, 1])
    assert not model.W_Q.equal(model.W_K)


def test_the_first_layer_is_that_of_pytorch_s_draw_and_the_paper_s_can_be_had_back():
    model, drawn = net(seed=3), net(seed=3, init=[PyTorchDefault()])
    differing = {name for name, parameter in drawn.named_parameters() if not parameter.equal(model.get_parameter(name))}
    assert differing
    assert all(name.startswith("blocks.1.") for name in differing)
    initialise_(drawn, Sparse(0.9), PaperDraw(), seed=3)
    assert all(map(torch.equal, model.parameters(), drawn.parameters()))


@pytest.mark.parametrize("initializer", [Sparse(0.9), Small(0.01), Dense()])
def test_initial_weights_of_the_poster_are_seven_tensors_and_their_biases(initializer):
    plain, drawn = (toy_model(TASK, architecture="post-norm", init=init, **SIZES) for init in ((), [initializer]))
    differing = {name for name, parameter in drawn.named_parameters() if not parameter.equal(plain.get_parameter(name))}
    layers = [f"blocks.{layer}.{kind}" for layer in (0, 1) for kind in ("attn.W_O", "mlp.W_in", "mlp.W_out")]
    weights = {*layers, "unembed.W_U"}
    assert {name for name in differing if ".W_" in name} == weights
    for name in weights:
        bias = drawn.get_parameter(name.replace("W_", "b_"))
        assert not bias.any()
        assert not drawn.get_parameter(name).equal(plain.get_parameter(name))


@pytest.mark.parametrize(
    ("where", "kinds"),
    [
        ("mlp", {"W_in", "b_in", "W_out", "b_out", "ln2.w", "ln2.b", "W_U", "b_U"}),
        ("norms", {"ln1.w", "ln1.b", "ln2.w", "ln2.b"}),
        ("embeddings", {"W_E", "W_pos", "W_U", "b_U"}),
        ("attention map", {"W_Q", "b_Q", "W_K", "b_K", "W_E", "W_pos", "ln1.w", "ln1.b"}),
        ("linear layers", {"W_O", "b_O", "W_in", "b_in", "W_out", "b_out", "W_U", "b_U"}),
    ],
)
def test_groups_mean_what_it_has(where, kinds):
    names = parameters_where(net(), where)
    assert {".".join(name.split(".")[-2:]) if ".ln" in name else name.split(".")[-1] for name in names} == kinds


def test_every_hook_point_fires_once():
    assert_every_point_fires_once(lively_net(), tokens_of())


@pytest.mark.parametrize("switch", GATED)
def test_switched_hook_points_fire_change_nothing_and_can_be_edited(switch):
    assert_switched_points_can_be_edited(lively_net(), tokens_of(), switch)


def test_no_position_reads_a_later_one_and_rows_sum_to_one():
    model, tokens = lively_net(), tokens_of()
    output, cache = model.run_with_cache(tokens)
    pattern = cache["pattern", 1]
    assert not pattern.triu(1).any()
    torch.testing.assert_close(pattern.sum(dim=-1), torch.ones(5, 4, 4))
    changed = tokens.clone()
    changed[:, -1] = 5
    assert model(changed)[:, :-1].equal(output[:, :-1])


def test_padding_on_the_left_is_heeded():
    model, tokens = lively_net(n_ctx=7), tokens_of()
    padded = torch.cat([torch.full((5, 2), 7), tokens], dim=1)
    mask = torch.tensor([0, 0, 1, 1, 1, 1]).expand(5, -1)
    torch.testing.assert_close(model(padded, attention_mask=mask)[:, 2:], model(tokens))


def test_a_cache_of_keys_and_values_changes_no_answer():
    from transformer_lens.cache.key_value_cache import TransformerLensKeyValueCache

    task = MovingWindowSum(n=4, p=7)
    model = lively_net(task)
    tokens = task.sample(3, generator=torch.Generator().manual_seed(0)).inputs
    cache = TransformerLensKeyValueCache.init_cache(model.cfg, "cpu", 3)
    first = model(tokens[:, :3], past_kv_cache=cache, attention_mask=torch.ones(3, 3, dtype=torch.long))
    n_rest = tokens.shape[1] - 3
    rest = model(tokens[:, 3:], past_kv_cache=cache, attention_mask=torch.ones(3, n_rest, dtype=torch.long))
    torch.testing.assert_close(torch.cat([first, rest], dim=1), model(tokens), rtol=1e-5, atol=1e-6)
    answers = greedy_answers(model, task, tokens[:, : task.answer.start])
    assert answers.shape == (3, 4)


def test_what_makes_no_sense_of_it_is_refused():
    model = net()
    for process in (model.process_weights_, model.fold_layer_norm, model.center_writing_weights, model.center_unembed):
        with pytest.raises(ValueError, match="post-LayerNorm model cannot be folded or centred"):
            process({})
    with pytest.raises(ValueError, match="post-LayerNorm model cannot be folded or centred"):
        model.load_and_process_state_dict(model.state_dict())
    with pytest.raises(ValueError, match=r"^attention of a post-norm decoder must be softmax; got linear$"):
        net(attention="linear")
    # Its residual stream is no sum of what is written to it.
    with pytest.raises(ValueError, match="normalis"):
        direct_attribution(lively_net(), tokens_of(), lambda logits: logits[:, -1, 3].mean())


RECIPE = Recipe(
    ModularArithmetic(p=7),
    model=ModelOptions(architecture="post-norm", **SMALL),
    training=TrainingOptions(steps=12, batch_size=8, optimizer=AdamW(1e-2, weight_decay=1e-3, decays="all")),
    measuring=MeasuringOptions(every=5),
    checkpoint_every=5,
)


def files(run: Run, *, after: int) -> dict[str, bytes]:
    """The metrics and every checkpoint behind a step, but whose recipe it is of."""
    later = [folder for folder in (run.path / "checkpoints").iterdir() if int(folder.name) > after]
    found = [run.path / "metrics.jsonl", *(file for folder in later for file in folder.iterdir())]
    return {str(file.relative_to(run.path)): file.read_bytes() for file in found if file.name != "state.json"}


def test_a_run_learns_stops_and_forks_bit_for_bit(tmp_path):
    whole, stopped = Run.create(tmp_path / "whole", RECIPE), Run.create(tmp_path / "stopped", RECIPE)
    losses = [step.loss for step in whole.train()]
    assert losses[-1] < 0.8 * losses[0]
    steps = stopped.train()
    for _ in range(7):
        next(steps)
    steps.close()
    list(Run(stopped.path).train())
    assert files(stopped, after=-1) == files(whole, after=-1)
    fork = whole.fork(at=7)
    list(fork.train())
    assert files(fork, after=7) == files(whole, after=7)
    assert Recipe.from_json(RECIPE.to_json()) == RECIPE
    assert replace(RECIPE, seed=1).build_model().W_E.ne(RECIPE.build_model().W_E).any()
