"""The encoder against transformers' BertModel, and what TransformerLens does with any model."""

import copy
from dataclasses import replace

import pytest
import torch
import transformers
from einops import rearrange
from filled import FilledNumbers, FilledTokens
from gated_points import GATED, assert_every_point_fires_once, assert_switched_points_can_be_edited

from plateau_interp.hooks import PatchActivation
from plateau_interp.interventions.attaching import intervening
from plateau_interp.interventions.hook_points import FINAL_STATE
from plateau_interp.models import ToyTransformer, toy_model
from plateau_interp.tasks import MovingWindowSum
from plateau_interp.training.loop import train
from plateau_interp.training.optimizers import SGD, AdamW
from plateau_interp.types import Defaults

TASK = FilledNumbers()


def tokens_of(n: int = 5, seed: int = 1):
    return TASK.sample(n, generator=torch.Generator().manual_seed(seed)).inputs


def lively_model(**options) -> ToyTransformer:
    """A model in which every parameter matters, biases and gains included."""
    model = toy_model(TASK, **options)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = 0.15 * torch.randn(parameter.shape, generator=generator)
            parameter.copy_(noise + (1.0 if name.endswith(".w") else 0.0))
        model.embed.W_E[TASK.mask_token] = 0
    return model


def bert_of(model: ToyTransformer) -> tuple[transformers.BertModel, torch.nn.Linear, dict[str, str]]:
    """transformers' model with the same weights, the read-out, and our name of each of its parameters."""
    cfg = model.cfg
    config = transformers.BertConfig(
        vocab_size=cfg.d_vocab,
        hidden_size=cfg.d_model,
        num_hidden_layers=cfg.n_layers,
        num_attention_heads=cfg.n_heads,
        intermediate_size=cfg.d_mlp,
        hidden_dropout_prob=0,
        attention_probs_dropout_prob=0,
        max_position_embeddings=cfg.n_ctx,
        attn_implementation="eager",
    )
    bert = transformers.BertModel(config, add_pooling_layer=False).to(cfg.dtype)
    read_out = torch.nn.Linear(cfg.d_model, cfg.d_vocab_out).to(cfg.dtype)
    names = {
        "embeddings.word_embeddings.weight": "embed.W_E",
        "embeddings.position_embeddings.weight": "pos_embed.W_pos",
        "embeddings.LayerNorm.weight": "ln_embed.w",
        "embeddings.LayerNorm.bias": "ln_embed.b",
    }
    for layer in range(cfg.n_layers):
        theirs, ours = f"encoder.layer.{layer}.", f"blocks.{layer}."
        for kind, letter in (("query", "Q"), ("key", "K"), ("value", "V")):
            names[f"{theirs}attention.self.{kind}.weight"] = f"{ours}attn.W_{letter}"
            names[f"{theirs}attention.self.{kind}.bias"] = f"{ours}attn.b_{letter}"
        for module, weight, bias in (
            ("attention.output.dense", "attn.W_O", "attn.b_O"),
            ("attention.output.LayerNorm", "ln1.w", "ln1.b"),
            ("intermediate.dense", "mlp.W_in", "mlp.b_in"),
            ("output.dense", "mlp.W_out", "mlp.b_out"),
            ("output.LayerNorm", "ln2.w", "ln2.b"),
        ):
            names[f"{theirs}{module}.weight"], names[f"{theirs}{module}.bias"] = ours + weight, ours + bias
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, parameter in bert.named_parameters():
            if name == "embeddings.token_type_embeddings.weight":
                parameter.zero_()
            else:
                parameter.copy_(as_theirs(names[name], parameters[names[name]]))
        read_out.weight.copy_(model.unembed.W_U.T)
        read_out.bias.copy_(model.unembed.b_U)
    return bert, read_out, names


def as_theirs(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """A parameter, or its gradient, in the layout of a linear layer."""
    kind = name.rsplit(".", 1)[-1]
    if kind in ("W_Q", "W_K", "W_V"):
        return rearrange(tensor, "head d_model d_head -> (head d_head) d_model")
    if kind == "W_O":
        return rearrange(tensor, "head d_head d_model -> d_model (head d_head)")
    return tensor.T if kind in ("W_in", "W_out") else tensor.reshape(-1) if kind.startswith("b_") else tensor


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("is_lively", [False, True])
def test_agrees_with_transformers_bert(dtype, tolerance, is_lively):
    model = (lively_model if is_lively else lambda **options: toy_model(TASK, **options))(dtype=dtype)
    bert, read_out, names = bert_of(model)
    tokens = tokens_of()
    output, cache = model.run_with_cache(tokens)
    theirs = bert(tokens, output_hidden_states=True)
    states = ["hook_full_embed", *(f"blocks.{layer}.hook_normalized_resid_post" for layer in (0, 1))]
    exactly = {"rtol": tolerance, "atol": tolerance}
    for name, state in zip(states, theirs.hidden_states, strict=True):
        torch.testing.assert_close(cache[name], state, **exactly)
    torch.testing.assert_close(output, read_out(theirs.last_hidden_state), **exactly)
    output.square().mean().backward()
    read_out(theirs.last_hidden_state).square().mean().backward()
    ours = dict(model.named_parameters())
    for name, parameter in bert.named_parameters():
        if name in names:
            torch.testing.assert_close(as_theirs(names[name], ours[names[name]].grad), parameter.grad, **exactly)
    assert len(names) == len(ours) - 2
    torch.testing.assert_close(model.unembed.b_U.grad, read_out.bias.grad, **exactly)


@pytest.mark.parametrize(("n_ctx", "parameters"), [(512, 30_284_545), (None, 29_928_961)])
def test_parameters_of_the_paper_s_model(n_ctx, parameters):
    paper_s = Defaults(architecture="encoder", n_layers=4, n_heads=8, d_model=768, mask_embedding="zero")

    class Sized(FilledNumbers):
        defaults = paper_s

    model = toy_model(Sized(n=49, d_vocab=2002), n_ctx=n_ctx)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert model.embed.W_E.std().item() == pytest.approx(0.02, rel=0.01)
    assert model.unembed.W_U.abs().max().item() == pytest.approx(768**-0.5, rel=0.02)
    assert 0 < abs(model.unembed.b_U.item()) <= 768**-0.5
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_the_state_that_is_read_is_normalised_at_the_start():
    state = toy_model(TASK).run_with_cache(tokens_of())[1][FINAL_STATE]
    torch.testing.assert_close(state.mean(dim=-1), torch.zeros(5, 6), atol=1e-6, rtol=0)
    torch.testing.assert_close(state.var(dim=-1, unbiased=False), torch.ones(5, 6))


@pytest.mark.parametrize("optimizer", [None, SGD(0.1, momentum=0.9), AdamW(weight_decay=1.0)], ids=repr)
def test_the_mask_s_embedding_stays_zero(optimizer):
    model = toy_model(TASK)
    list(train(model, TASK, optimizer=optimizer))
    assert model.embed.W_E[TASK.mask_token].abs().max() == 0
    assert model.embed.W_E[1].abs().max() > 0


def test_the_mask_s_embedding_is_learnt_if_asked():
    model = toy_model(TASK, mask_embedding="trained")
    before = model.embed.W_E[TASK.mask_token].clone()
    assert before.abs().max() > 0
    list(train(model, TASK))
    assert not torch.equal(model.embed.W_E[TASK.mask_token], before)


def test_a_decoder_may_have_a_mask_of_zero_too():
    model = toy_model(TASK, architecture="decoder")
    assert model.attention == "linear"
    list(train(model, TASK))
    assert model.embed.W_E[TASK.mask_token].abs().max() == 0


def test_positions_may_be_permuted():
    model, tokens, order = lively_model(dtype=torch.float64), tokens_of(), torch.tensor([3, 0, 5, 1, 4, 2])
    expected = model(tokens)[:, order]
    with torch.no_grad():
        model.pos_embed.W_pos.copy_(model.pos_embed.W_pos[order])
    torch.testing.assert_close(model(tokens[:, order]), expected)


def test_every_position_reads_every_other():
    model, tokens = lively_model(), tokens_of()
    pattern = model.run_with_cache(tokens)[1]["pattern", 0]
    assert (pattern > 0).all()
    torch.testing.assert_close(pattern.sum(dim=-1), torch.ones(5, 4, 6))


@pytest.mark.parametrize("layer", [0, 1])
def test_heads_before_the_projection_are_all_that_a_masked_position_sees(layer):
    """Patched in every layer, a masked position's output is that of the run the heads come from (sheet, 4.3)."""
    model, tokens = lively_model(), tokens_of()
    other = torch.where(tokens == 0, 0, TASK.d_vocab - tokens)
    expected, cache = model.run_with_cache(tokens)
    points = [f"blocks.{each}.attn.hook_z" for each in (0, 1)]
    patches = [PatchActivation(at=point, source=cache) for point in points]
    with intervening(model, *patches):
        patched = model(other)
    masked = tokens == 0
    assert torch.equal(patched[masked], expected[masked])
    with intervening(model, patches[layer]):
        assert not torch.allclose(model(other)[masked], expected[masked])
    assert not torch.allclose(patched[~masked], expected[~masked])


def test_every_hook_point_fires_once():
    assert_every_point_fires_once(lively_model(), tokens_of())


@pytest.mark.parametrize("switch", GATED)
def test_switched_hook_points_fire_change_nothing_and_can_be_edited(switch):
    assert_switched_points_can_be_edited(lively_model(), tokens_of(), switch)


def test_an_attention_mask_hides_padding():
    model, tokens = lively_model(), tokens_of()
    padded = torch.cat([tokens[:, :4], torch.full((5, 2), 7)], dim=1)
    mask = torch.tensor([1, 1, 1, 1, 0, 0]).expand(5, -1)
    torch.testing.assert_close(model(padded, attention_mask=mask)[:, :4], model(tokens[:, :4]))
    left, left_mask = padded.roll(2, dims=1), mask.roll(2, dims=1)
    torch.testing.assert_close(model(left, attention_mask=left_mask)[:, 2:], model(tokens[:, :4]))


def test_a_mask_of_ones_changes_nothing():
    model, tokens = lively_model(), tokens_of()
    torch.testing.assert_close(model(tokens, attention_mask=torch.ones_like(tokens)), model(tokens))


def test_gradients_are_finite_under_a_mask():
    model, tokens = lively_model(), tokens_of()
    mask = torch.ones_like(tokens)
    mask[0, :3] = mask[1, 4:] = 0
    model(tokens, attention_mask=mask)[mask != 0].square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_what_makes_no_sense_of_an_encoder_is_refused():
    model, tokens = toy_model(TASK), tokens_of()
    for process in (model.process_weights_, model.fold_layer_norm, model.center_writing_weights, model.center_unembed):
        with pytest.raises(ValueError, match="post-LayerNorm model cannot be folded or centred"):
            process({})
    with pytest.raises(ValueError, match="post-LayerNorm model cannot be folded or centred"):
        model.load_and_process_state_dict(model.state_dict())
    with pytest.raises(ValueError, match="predicts no next token"):
        model(tokens, return_type="loss")
    with pytest.raises(ValueError, match=r"^attention of an encoder must be softmax; got linear$"):
        toy_model(TASK, attention="linear")
    with pytest.raises(ValueError, match="sees what it would have to predict of moving-window-sum"):
        toy_model(MovingWindowSum(), architecture="encoder")
    with pytest.raises(ValueError, match=r"^init_std must be a positive number; got 0$"):
        toy_model(TASK, init_std=0)


def test_a_key_value_cache_is_refused():
    from transformer_lens.cache.key_value_cache import TransformerLensKeyValueCache

    model = toy_model(TASK)
    cache = TransformerLensKeyValueCache.init_cache(model.cfg, "cpu", 5)
    with pytest.raises(ValueError, match="no use for a key/value cache"):
        model(tokens_of(), past_kv_cache=cache, attention_mask=torch.ones(5, 6, dtype=torch.long))


def test_the_read_out_has_as_many_numbers_as_the_task_asks_for():
    assert toy_model(TASK)(tokens_of()).shape == (5, 6, 1)
    assert toy_model(FilledTokens())(tokens_of()).shape == (5, 6, 9)


def test_a_forward_may_stop_and_start_at_a_layer_and_a_copy_is_a_model_of_its_own():
    model, tokens = lively_model(), tokens_of()
    state = model(tokens, stop_at_layer=1)
    torch.testing.assert_close(copy.deepcopy(model)(state, start_at_layer=1), model(tokens))


def test_the_seed_fixes_the_weights():
    first, same, other = (toy_model(TASK, seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["unembed.b_U"], other["unembed.b_U"])
    spread = toy_model(replace(TASK, d_vocab=2000), init_std=0.5).embed.W_E.std()
    assert spread.item() == pytest.approx(0.5, rel=0.02)
