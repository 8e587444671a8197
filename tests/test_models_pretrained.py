"""plateau_interp.models.pretrained against transformers: small random models of every mapped architecture.

So are plateau_interp.models.architectures, plateau_interp.models.configurations, plateau_interp.models.conversions and
plateau_interp.models.checkpoint_files, which serve it alone.
"""

import copy
import gc
import json
import re
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
import transformers
from einops import rearrange
from hub_server import serving
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from smollm2 import smollm2_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedModel, PreTrainedTokenizerFast
from typecheck import unchecked

from plateau_interp import checks
from plateau_interp.hooks import AblateHeads, PatchAttention
from plateau_interp.interventions.attaching import intervening
from plateau_interp.models import pretrained_model
from plateau_interp.models.architectures import ARCHITECTURES, architecture_of

WEIGHTS = "model.safetensors"
GPT2 = {"vocab_size": 50, "n_positions": 32, "n_embd": 16, "n_layer": 2, "n_head": 4}
SIZES = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
GROUPED = {**SIZES, "num_key_value_heads": 2, "head_dim": 8}
MARKS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
LINEAR = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}
GEMMA3_ROPE = {
    "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
    "full_attention": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0},
}
ALTERNATING = ["sliding_attention", "full_attention", "sliding_attention"]

CASES = {
    "GPT-2": ("GPT2", GPT2),
    "GPT-2, scaled by layer, own width": ("GPT2", {**GPT2, "scale_attn_by_inverse_layer_idx": True, "n_inner": 24}),
    "GPT-2, untied": ("GPT2", {**GPT2, "tie_word_embeddings": False, "activation_function": "relu"}),
    "GPT-NeoX": ("GPTNeoX", SIZES),
    "GPT-NeoX, sequential, without biases": (
        "GPTNeoX",
        {**SIZES, "use_parallel_residual": False, "attention_bias": False, "tie_word_embeddings": True},
    ),
    "Llama": ("Llama", {**SIZES, "num_key_value_heads": 4}),
    "Llama, grouped": ("Llama", GROUPED),
    "Llama, grouped, tied": ("Llama", {**GROUPED, "tie_word_embeddings": True}),
    "Llama, biases, wide heads": ("Llama", {**GROUPED, "attention_bias": True, "head_dim": 16}),
    "Llama 3's positions": ("Llama", {**GROUPED, "rope_parameters": LLAMA3}),
    "Llama, linear positions": ("Llama", {**GROUPED, "rope_parameters": LINEAR}),
    "OLMo": ("Olmo", {**SIZES, "num_key_value_heads": 4, "clip_qkv": 0.5}),
    "OLMo, grouped, tied": ("Olmo", {**SIZES, "num_key_value_heads": 2, "tie_word_embeddings": True}),
    "OLMo-2": ("Olmo2", {**SIZES, "num_key_value_heads": 4}),
    "OLMo-2, a clip that it does not know": ("Olmo2", {**SIZES, "num_key_value_heads": 4, "clip_qkv": 0.5}),
    "OLMo-2, grouped": ("Olmo2", {**SIZES, "num_key_value_heads": 2}),
    "OLMo-2, grouped, tied": ("Olmo2", {**SIZES, "num_key_value_heads": 2, "tie_word_embeddings": True}),
    "Qwen2, grouped": ("Qwen2", {**SIZES, "num_key_value_heads": 2}),
    "Qwen2, grouped, tied": ("Qwen2", {**SIZES, "num_key_value_heads": 2, "tie_word_embeddings": True}),
    "Qwen2, not grouped, tied, windows": (
        "Qwen2",
        {
            **SIZES,
            "num_key_value_heads": 4,
            "tie_word_embeddings": True,
            "use_sliding_window": True,
            "sliding_window": 5,
            "max_window_layers": 1,
        },
    ),
    "Qwen3, grouped": ("Qwen3", GROUPED),
    "Qwen3, grouped, tied": ("Qwen3", {**GROUPED, "tie_word_embeddings": True}),
    "Qwen3, not grouped, tied": ("Qwen3", {**GROUPED, "num_key_value_heads": 4, "tie_word_embeddings": True}),
    "Mistral, grouped, window": ("Mistral", {**GROUPED, "sliding_window": 5}),
    "Mistral, grouped, tied": ("Mistral", {**GROUPED, "sliding_window": None, "tie_word_embeddings": True}),
    "Mistral, not grouped": ("Mistral", {**GROUPED, "num_key_value_heads": 4, "sliding_window": None}),
    "Gemma 2, grouped": (
        "Gemma2",
        {
            **GROUPED,
            "layer_types": ALTERNATING,
            "sliding_window": 5,
            "query_pre_attn_scalar": 32,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 1.0,
        },
    ),
    "Gemma 3, grouped": (
        "Gemma3",
        {
            **GROUPED,
            "layer_types": ALTERNATING,
            "sliding_window": 5,
            "query_pre_attn_scalar": 32,
            "rope_parameters": GEMMA3_ROPE,
        },
    ),
    "Gemma 3, a soft cap of scores that it does not apply": (
        "Gemma3",
        {**GROUPED, "sliding_window": 5, "attn_logit_softcapping": 1.0, "final_logit_softcapping": 1.0},
    ),
}


def hugging_face(case: str, *, dtype=torch.float32) -> PreTrainedModel:
    """A case's model, every parameter random and large enough that each matters, gains and biases included."""
    family, sizes = CASES[case]
    config = getattr(transformers, f"{family}{'Text' if family == 'Gemma3' else ''}Config")(**sizes, **MARKS)
    model_class = getattr(transformers, f"{family}{'LMHeadModel' if family == 'GPT2' else 'ForCausalLM'}")
    config._attn_implementation = "eager"  # of transformers' kernels the one that knows soft caps
    return at_random(model_class, config).to(dtype)


def at_random(model_class: type[PreTrainedModel], config) -> PreTrainedModel:
    gain = 0.0 if "Gemma" in model_class.__name__ else 1.0  # Gemma stores its gains less 1
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        model = model_class(config)
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2 + (gain if "norm" in name or ".ln_" in name else 0.0))
    return model.eval()


ROWS = {
    "W_Q": "head d_model d_head -> (head d_head) d_model",
    "W_K": "head d_model d_head -> (head d_head) d_model",
    "W_V": "head d_model d_head -> (head d_head) d_model",
    "W_O": "head d_head d_model -> d_model (head d_head)",
    "W_in": "d_model d_mlp -> d_mlp d_model",
    "W_gate": "d_model d_mlp -> d_mlp d_model",
    "W_out": "d_mlp d_model -> d_model d_mlp",
    "W_U": "d_model d_vocab -> d_vocab d_model",
}
"""What TransformerLens's forward makes contiguous of each matrix before it multiplies."""


@pytest.mark.parametrize("name", ["Llama, grouped", "GPT-NeoX"])
def test_matrices_lie_in_memory_as_they_are_multiplied(name):
    """So that a forward copies none of them; a copy and another dtype lie so, too."""
    model = pretrained_model(hugging_face(name))
    seen = set()
    for whole, there in model.named_parameters():
        matrix = whole.rsplit(".", 1)[1].lstrip("_")
        if matrix not in ROWS or (".mlp." in whole and not model.cfg.gated_mlp):
            continue
        seen.add(matrix)
        for one in (there, dict(copy.deepcopy(model).named_parameters())[whole], there.detach().to(torch.float64)):
            rows = rearrange(one, ROWS[matrix])
            assert rows.is_contiguous()
            assert rows.data_ptr() == one.data_ptr()
    assert seen == (set(ROWS) if model.cfg.gated_mlp else set(ROWS) - {"W_in", "W_gate", "W_out"})
    model(some_tokens()).sum().backward()
    assert all(parameter.grad.shape == parameter.shape for parameter in model.parameters() if parameter.requires_grad)


@pytest.fixture
def folder(tmp_path) -> Path:
    """A grouped, tied Llama as transformers saves it."""
    hugging_face("Llama, grouped, tied").save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def change_config(folder: Path, **changes) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def change_tensors(folder: Path, change) -> None:
    file = folder / WEIGHTS
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})


def some_tokens(n: int = 3, length: int = 20) -> torch.Tensor:
    return torch.randint(3, 50, (n, length), generator=torch.Generator().manual_seed(1))


def differences(model, theirs) -> tuple[float, float]:
    """Largest difference of the logits, and of the last hidden states at `unembed.hook_in`."""
    tokens = some_tokens()
    with torch.no_grad():
        logits, cache = model.run_with_cache(tokens, names_filter="unembed.hook_in")
        expected = theirs(tokens, output_hidden_states=True)
    assert expected.logits.abs().max() > 0.5
    states = expected.hidden_states[-1]
    return float((logits - expected.logits).abs().max()), float((cache["unembed.hook_in"] - states).abs().max())


@pytest.mark.slow
def test_a_real_model_agrees_with_transformers():
    """SmolLM2 of 135 million parameters, from a package that is there only where somebody has installed it."""
    folder, load = smollm2_file()
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **load)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **load)
    model, tokens = pretrained_model(theirs), tokenizer("The capital of France is", return_tensors="pt").input_ids
    with torch.no_grad():
        logits, cache = model.run_with_cache(tokens, names_filter="unembed.hook_in")
        expected = theirs(tokens, output_hidden_states=True)
    assert torch.allclose(logits, expected.logits, atol=1e-4, rtol=0)
    assert torch.allclose(cache["unembed.hook_in"], expected.hidden_states[-1], atol=1e-4, rtol=0)
    assert tokenizer.decode(logits[0, -1].argmax()) == " Paris"


def test_every_mapped_architecture_is_tried():
    assert {type(hugging_face(case)).__name__ for case in CASES} == {*ARCHITECTURES}


@pytest.mark.parametrize("case", CASES)
def test_agrees_with_transformers(case, tmp_path):
    theirs = hugging_face(case)
    theirs.save_pretrained(tmp_path)
    for source in (theirs, str(tmp_path)):
        model = pretrained_model(source)
        of_logits, of_states = differences(model, theirs)
        assert of_logits <= 1e-5
        assert of_states <= 1e-5


def test_nothing_is_processed(folder):
    state = pretrained_model(folder).state_dict()
    saved = load_file(folder / WEIGHTS)
    assert torch.equal(state["embed.W_E"], saved["model.embed_tokens.weight"])
    assert torch.equal(state["unembed.W_U"], saved["model.embed_tokens.weight"].T)
    assert torch.equal(state["ln_final.w"], saved["model.norm.weight"])


@pytest.mark.parametrize("name", ["llama-bert", "gpt2", "t5-gemma"])
def test_the_name_of_a_folder_means_nothing(name, tmp_path, monkeypatch):
    theirs = hugging_face("OLMo-2, grouped")
    theirs.save_pretrained(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    for source in (name, tmp_path / name, f"./{name}"):
        assert max(differences(pretrained_model(source), theirs)) <= 1e-5


def test_a_model_in_memory_is_copied():
    theirs = hugging_face("GPT-2")
    before = {name: tensor.clone() for name, tensor in theirs.state_dict().items()}
    model = pretrained_model(theirs)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert all(torch.equal(tensor, before[name]) for name, tensor in theirs.state_dict().items())
    assert model.tokenizer is None


def test_hugging_face_s_copy_is_gone_afterwards(folder, monkeypatch):
    made, original = [], transformers.LlamaForCausalLM.from_pretrained

    def watched(*args, **kwargs):
        loaded, told = original(*args, **kwargs)
        made.append(weakref.ref(loaded))
        return loaded, told

    monkeypatch.setattr(transformers.LlamaForCausalLM, "from_pretrained", watched)
    model = pretrained_model(folder)
    gc.collect()
    assert model is not None
    assert [reference() for reference in made] == [None]


def test_checkpoints_as_older_versions_wrote_them(tmp_path):
    """GPT-2 of the hub has no prefix and its masks among the weights, Pythia its masks and frequencies."""
    theirs, folder = hugging_face("GPT-2"), tmp_path / "gpt2"
    theirs.save_pretrained(folder)
    tensors = {name.removeprefix("transformer."): value for name, value in load_file(folder / WEIGHTS).items()}
    masks = {f"h.{layer}.attn.bias": torch.ones(1, 1, 32, 32) for layer in range(2)}
    save_file({**tensors, **masks}, folder / WEIGHTS, metadata={"format": "pt"})
    assert max(differences(pretrained_model(folder), theirs)) <= 1e-5
    theirs, folder = hugging_face("GPT-NeoX"), tmp_path / "neox"
    theirs.save_pretrained(folder)
    attention = "gpt_neox.layers.0.attention"
    old = {f"{attention}.bias": torch.ones(1, 1, 64, 64), f"{attention}.masked_bias": torch.tensor(-1e9)}
    old[f"{attention}.rotary_emb.inv_freq"] = torch.ones(1)
    tensors = {name.replace("lm_head", "embed_out"): value for name, value in load_file(folder / WEIGHTS).items()}
    save_file({**tensors, **old}, folder / WEIGHTS, metadata={"format": "pt"})
    assert max(differences(pretrained_model(folder), theirs)) <= 1e-5


OLD = {
    "Pythia": ("GPTNeoX", {"rotary_pct": 0.5, "rotary_emb_base": 500}),
    "Llama 3.1": (
        "Llama",
        {"rope_theta": 500.0, "rope_scaling": {k: v for k, v in LLAMA3.items() if k != "rope_theta"}},
    ),
    "Gemma 3": ("Gemma3Text", {"rope_theta": 5000.0, "rope_local_base_freq": 50.0, "sliding_window_pattern": 2}),
}
"""Rotary positions as configurations said them before transformers 5."""


@pytest.mark.parametrize("name", OLD)
def test_configurations_as_older_versions_wrote_them(name, tmp_path):
    family, changes = OLD[name]
    config_class = getattr(transformers, f"{family}Config")
    model_class = getattr(transformers, f"{family.removesuffix('Text')}ForCausalLM")
    sizes = SIZES if family == "GPTNeoX" else GROUPED
    at_random(model_class, config_class(**sizes, **MARKS)).save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    kept = {k: v for k, v in json.loads(file.read_text()).items() if k not in ("rope_parameters", "layer_types")}
    file.write_text(json.dumps({**kept, **changes}))
    theirs = model_class.from_pretrained(tmp_path, attn_implementation="eager")
    model = pretrained_model(tmp_path)
    assert model.cfg.rotary_base == next(
        value for key, value in changes.items() if key in ("rotary_emb_base", "rope_theta")
    )
    assert max(differences(model, theirs)) <= 1e-5


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_a_half_precision_folder_is_loaded_as_float32(half, tmp_path):
    hugging_face("Llama, grouped", dtype=half).save_pretrained(tmp_path)
    model = pretrained_model(tmp_path)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    theirs = transformers.LlamaForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert max(differences(model, theirs)) <= 1e-5


def test_another_dtype_when_asked(folder):
    model = pretrained_model(folder, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert model(some_tokens()).dtype == torch.bfloat16
    assert next(pretrained_model(folder, dtype=torch.float64).parameters()).dtype == torch.float64
    for wrong in (torch.int8, "float32"):
        with pytest.raises(ValueError, match="dtype must be a floating-point dtype"):
            unchecked(pretrained_model)(folder, dtype=wrong)


def test_learned_positions_can_be_cut_and_not_added():
    theirs = hugging_face("GPT-2")
    short = pretrained_model(theirs, n_ctx=20)
    assert short.cfg.n_ctx == 20
    assert max(differences(short, theirs)) <= 1e-5
    assert pretrained_model(theirs).cfg.n_ctx == 32
    with pytest.raises(ValueError, match="n_ctx=33 is more than the 32 positions that the model has learned"):
        pretrained_model(theirs, n_ctx=33)
    assert pretrained_model(theirs, n_ctx=1).cfg.n_ctx == 1
    for wrong in (0, -1):
        with pytest.raises(ValueError, match="n_ctx must be at least 1"):
            pretrained_model(theirs, n_ctx=wrong)


def test_a_long_context_costs_no_memory():
    theirs = hugging_face("Llama, grouped")
    before = psutil.Process().memory_info().rss
    model = pretrained_model(theirs, n_ctx=100_000)
    assert psutil.Process().memory_info().rss - before < 50e6
    assert model.cfg.n_ctx == 100_000
    assert max(differences(model, theirs)) <= 1e-5


# The tokenizer


def save_tokenizer(folder: Path, **special: str) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(WordLevel({"<s>": 0, "</s>": 1, "to": 2, "be": 3, "<unk>": 4}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", **special)
    fast.save_pretrained(folder)
    return fast


def test_the_tokenizer_is_kept(folder):
    saved = save_tokenizer(folder, bos_token="<s>", eos_token="</s>", padding_side="left")
    model = pretrained_model(folder)
    assert model.tokenizer.get_vocab() == saved.get_vocab()
    assert model.to_tokens("to be").tolist() == [saved("to be").input_ids] == [[2, 3]]
    assert model.to_tokens(["to be", "be"]).tolist() == [[2, 3], [3, 1]]
    assert model.to_tokens("to be", prepend_bos=True).tolist() == [[0, 2, 3]]
    # Tokens that look like padding are read like any others.
    tokens = torch.tensor([[1, 2, 3]])
    without = pretrained_model(transformers.LlamaForCausalLM.from_pretrained(folder))
    assert torch.equal(model(tokens), without(tokens))


def test_a_tokenizer_that_begins_with_a_start_token_keeps_doing_so(folder):
    saved = save_tokenizer(folder, bos_token="<s>", eos_token="</s>")
    saved.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    saved.save_pretrained(folder)
    model = pretrained_model(folder)
    assert model.to_tokens("to be").tolist() == [saved("to be").input_ids] == [[0, 2, 3]]
    assert model.to_tokens("to be", prepend_bos=False).tolist() == [[2, 3]]


def test_no_tokenizer_is_none(folder):
    assert pretrained_model(folder).tokenizer is None


def test_a_tokenizer_that_cannot_be_read_is_told(folder):
    save_tokenizer(folder)
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match="transformers cannot read its tokenizer"):
        pretrained_model(folder)


# What is refused


def drop(name):
    return lambda tensors: tensors.pop(name)


def test_a_missing_tensor_is_named(folder):
    change_tensors(folder, drop("model.layers.1.mlp.up_proj.weight"))
    with pytest.raises(ValueError, match=r"missing: tensor model\.layers\.1\.mlp\.up_proj\.weight$"):
        pretrained_model(folder)


def test_a_missing_output_matrix_is_named(tmp_path):
    hugging_face("Llama, grouped").save_pretrained(tmp_path)
    change_tensors(tmp_path, drop("lm_head.weight"))
    with pytest.raises(ValueError, match=r"missing: tensor lm_head\.weight$"):
        pretrained_model(tmp_path)


def test_a_left_over_tensor_is_named(folder):
    change_tensors(folder, lambda tensors: tensors.update({"model.layers.0.adapter.weight": torch.ones(2)}))
    with pytest.raises(ValueError, match=r"left over: tensor model\.layers\.0\.adapter\.weight$"):
        pretrained_model(folder)


def test_a_misshapen_tensor_is_named(folder):
    change_tensors(folder, lambda tensors: tensors.update({"model.norm.weight": torch.ones(7)}))
    with pytest.raises(ValueError, match=r"model\.norm\.weight has the shape \(7,\); config\.json asks for \(32,\)$"):
        pretrained_model(folder)


def test_a_tensor_that_transformerlens_has_no_place_for_is_named():
    config = transformers.LlamaConfig(**GROUPED, **MARKS, mlp_bias=True)
    with pytest.raises(ValueError, match=r"has no place for tensors model\.layers\.0\.mlp\.gate_proj\.bias, "):
        pretrained_model(transformers.LlamaForCausalLM(config))
    config = transformers.GPT2Config(**GPT2, add_cross_attention=True, **MARKS)
    with pytest.raises(ValueError, match=r"no place for tensors transformer\.h\.0\.crossattention"):
        pretrained_model(transformers.GPT2LMHeadModel(config))


def test_a_tensor_of_another_shape_than_transformerlens_has_is_named():
    config = transformers.Olmo2Config(**SIZES, num_key_value_heads=2, **MARKS)
    config.head_dim = 16
    told = r"blocks\.0\.attn\.q_norm\.w has the shape \(64,\); TransformerLens has \(32,\)$"
    with pytest.raises(ValueError, match=told):
        pretrained_model(transformers.Olmo2ForCausalLM(config))


@pytest.mark.parametrize(
    ("converted", "words"),
    [
        ({}, r"nothing was found for tensors embed\.W_E, "),
        ({"embed.W_F": torch.ones(1)}, r"embed\.W_F has the shape \(1,\); TransformerLens has no such parameter"),
    ],
)
def test_a_mapping_that_forgets_or_invents_is_told(converted, words, monkeypatch):
    known = ARCHITECTURES["GPT2LMHeadModel"]
    wrong = replace(known, convert=lambda weights, cfg: converted)
    monkeypatch.setitem(ARCHITECTURES, "GPT2LMHeadModel", wrong)
    with pytest.raises(ValueError, match=words):
        pretrained_model(hugging_face("GPT-2"))


def test_a_missing_shard_is_named(folder):
    hugging_face("Llama, grouped, tied").save_pretrained(folder, max_shard_size="20KB")
    (folder / WEIGHTS).unlink(missing_ok=True)
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 1
    assert pretrained_model(folder).cfg.n_layers == 3
    shards[1].unlink()
    with pytest.raises(ValueError, match=rf"is not whole: model\.safetensors\.index\.json lists {shards[1].name}"):
        pretrained_model(folder)
    (folder / "model.safetensors.index.json").write_text("[]")
    with pytest.raises(ValueError, match=r"index\.json cannot be read"):
        pretrained_model(folder)


def test_a_truncated_file_is_told(folder):
    file = folder / WEIGHTS
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match="transformers cannot read it: ") as refused:
        pretrained_model(folder)
    assert "\n" not in str(refused.value)


def test_pickles_alone_are_refused(folder):
    (folder / WEIGHTS).unlink()
    with pytest.raises(ValueError, match=r"has no weights: neither model\.safetensors nor "):
        pretrained_model(folder)
    (folder / "pytorch_model.bin").write_bytes(b"anything")
    with pytest.raises(ValueError, match=r"pickle files alone \(pytorch_model\.bin\), which can run any code: load"):
        pretrained_model(folder)


def test_what_is_not_mapped_says_what_is(folder):
    bert = transformers.BertForMaskedLM(transformers.BertConfig(vocab_size=9, hidden_size=8, num_attention_heads=2))
    known = "BertForMaskedLM is not mapped; mapped are GPT2LMHeadModel, GPTNeoXForCausalLM, .*Qwen3ForCausalLM$"
    with pytest.raises(ValueError, match=known):
        pretrained_model(bert)
    change_config(folder, architectures=["LlamaForSequenceClassification"])
    with pytest.raises(ValueError, match="architecture LlamaForSequenceClassification is not mapped"):
        pretrained_model(folder)
    change_config(folder, architectures=None)
    with pytest.raises(ValueError, match="names no architecture"):
        pretrained_model(folder)
    change_config(folder, model_type="nonsense")
    with pytest.raises(ValueError, match=r"makes nothing of config\.json: ") as refused:
        pretrained_model(folder)
    assert "\n" not in str(refused.value)
    with pytest.raises(ValueError, match="is not mapped"):
        architecture_of("nonsense")


YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 16}
UNHOLDABLE = {
    "kind 'yarn'; held are default, linear and llama3": ("Llama", {"rope_parameters": YARN}),
    "kind 'dynamic'; held are": (
        "GPTNeoX",
        {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}},
    ),
    "does not scale rotary positions in layers with a sliding": (
        "Mistral",
        {"rope_parameters": LINEAR, "sliding_window": 5},
    ),
    "no activation function 'mish'; it has gelu": ("Llama", {"hidden_act": "mish"}),
    "bidirectional": ("Gemma3Text", {"use_bidirectional_attention": True}),
    "in a sliding window and llama3 elsewhere": (
        "Gemma3Text",
        {"rope_parameters": {**GEMMA3_ROPE, "full_attention": LLAMA3}},
    ),
    "a part of each head (partial_rotary_factor": (
        "Llama",
        {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}},
    ),
    "rotary positions are linear in a sliding window": (
        "Gemma3Text",
        {"rope_parameters": {**GEMMA3_ROPE, "sliding_attention": LINEAR}},
    ),
    "layers of the kind chunked_attention": ("Qwen2", {"layer_types": ["chunked_attention"] * 3}),
}


@pytest.mark.parametrize("words", UNHOLDABLE)
def test_what_transformerlens_cannot_hold_is_refused_before_weights_are_read(words, tmp_path):
    family, changes = UNHOLDABLE[words]
    name = f"{family.removesuffix('Text')}ForCausalLM"
    getattr(transformers, f"{family}Config")(**GROUPED, **MARKS, architectures=[name]).save_pretrained(tmp_path)
    change_config(tmp_path, **changes)
    (tmp_path / "model.safetensors").write_bytes(b"not read")
    with pytest.raises(ValueError, match=re.escape(words)):
        pretrained_model(tmp_path)


def test_a_model_that_no_memory_holds_is_refused_before_weights_are_read(folder, monkeypatch):
    n_parameters = sum(p.numel() for name, p in pretrained_model(folder).named_parameters() if "W_" in name)
    (folder / WEIGHTS).write_bytes(b"not read")
    monkeypatch.setattr(checks, "machine_memory", lambda: 4 * n_parameters - 1)
    told = f"a model of {n_parameters:,} parameters would need {4 * n_parameters:,} bytes; this machine has"
    with pytest.raises(ValueError, match=told):
        pretrained_model(folder)
    monkeypatch.setattr(checks, "machine_memory", lambda: 4 * n_parameters)
    with pytest.raises(ValueError, match="transformers cannot read it"):
        pretrained_model(folder)


def test_weights_that_are_not_there_are_refused(folder):
    with torch.device("meta"):
        absent = transformers.GPT2LMHeadModel(transformers.GPT2Config(**GPT2, **MARKS))
    with pytest.raises(ValueError, match=r"not in memory \(tensors transformer\.wte\.weight, .* on the device meta"):
        pretrained_model(absent)
    packed = hugging_face("GPT-2")
    packed.lm_head.weight = torch.nn.Parameter(torch.ones(50, 16, dtype=torch.int8), requires_grad=False)
    with pytest.raises(ValueError, match=r"the model is quantised \(tensor lm_head\.weight\)"):
        pretrained_model(packed)
    change_config(folder, quantization_config={"quant_method": "gptq", "bits": 4})
    with pytest.raises(ValueError, match=r"the model is quantised \(quantization_config\)"):
        pretrained_model(folder)


def test_sources_that_are_none_are_refused(folder, tmp_path):
    wrong = {
        "no name on the hub": [tmp_path / "nowhere", str(tmp_path / "nowhere"), "./nowhere", "a/b/c"],
        "is a file: give its folder": [folder / WEIGHTS],
        "has no config.json": [tmp_path],
        "can be no name on the hub": ["no name", "a--b"],
        "source must be a name, a folder or a Hugging Face model; got 3": [3],
    }
    for words, sources in wrong.items():
        for source in sources:
            with pytest.raises(ValueError, match=words):
                unchecked(pretrained_model)(source)
    for source in (folder, hugging_face("GPT-2")):
        with pytest.raises(ValueError, match="a revision is of a model on the hub; got revision='step1'"):
            pretrained_model(source, revision="step1")


# The hub


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache of the hub's, which cannot be reached."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


@pytest.fixture
def hub(cache, folder, monkeypatch) -> Iterator[Path]:
    """A hub on this machine; the folder that it serves."""
    with serving(dict.fromkeys(("main", "step8", "x"), folder), set()) as address:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", address)
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield folder


def test_files_are_fetched_once(hub, monkeypatch):
    (hub / "pytorch_model.bin").write_bytes(b"never fetched")
    theirs = transformers.LlamaForCausalLM.from_pretrained(hub)
    assert max(differences(pretrained_model("someone/llama"), theirs)) <= 1e-5
    fetched = {file.name for file in Path(constants.HF_HUB_CACHE).glob("*/snapshots/*/*")}
    assert {"config.json", "model.safetensors"} <= fetched
    assert "pytorch_model.bin" not in fetched
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert max(differences(pretrained_model("someone/llama"), theirs)) <= 1e-5


def test_pickles_on_the_hub_are_named(hub):
    (hub / "model.safetensors").rename(hub / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"pickle files alone \(pytorch_model\.bin\)"):
        pretrained_model("someone/llama")


@pytest.mark.parametrize(
    ("name", "revision", "words"),
    [
        (
            "someone/gated",
            None,
            r"someone/gated is gated: accept its licence at http.*/someone/gated, where its owner",
        ),
        ("someone/absent", None, "no folder someone/absent here, and no model someone/absent on the hub that you may"),
        ("someone/hangs-up", None, "someone/hangs-up: fetching its files failed: .*; a local folder or"),
        ("someone/llama", "step9", "someone/llama has no revision 'step9'; the nearest is step8"),
        (
            "someone/broken",
            None,
            r"not in the cache .* and the hub cannot be reached \(.*418.*\); of someone/broken the cache has nothing",
        ),
    ],
)
def test_what_the_hub_refuses_is_told_in_a_line(name, revision, words, hub):
    with pytest.raises(ValueError, match=words) as refused:
        pretrained_model(name, revision=revision)
    assert "\n" not in str(refused.value)


def test_a_hub_that_cannot_be_reached_is_told(cache, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ValueError, match=r"are not in the cache .* and the hub cannot be reached \(.*refused"):
        pretrained_model("someone/llama")


def test_a_cache_that_cannot_be_written_is_told(hub):
    Path(constants.HF_HUB_CACHE).write_text("a file")
    with pytest.raises(
        ValueError, match=r"someone/llama: fetching its files of revision 'x' failed: .*; a local folder"
    ):
        pretrained_model("someone/llama", revision="x")


# Interventions


def test_interventions_work_on_grouped_queries():
    model = pretrained_model(hugging_face("Llama, grouped"))
    tokens, last = some_tokens(), model.cfg.n_layers - 1
    before = model(tokens)
    _, cache = model.run_with_cache(tokens, names_filter="blocks.0.attn.hook_z")
    z = cache["blocks.0.attn.hook_z"].clone()
    z[:, :, [1, 3]] = 0
    by_hand = model.run_with_hooks(tokens, fwd_hooks=[("blocks.0.attn.hook_z", lambda value, hook: z)])
    with intervening(model, AblateHeads([1, 3], layers=[0])):
        assert torch.allclose(model(tokens), by_hand, atol=1e-6)
    pattern = torch.eye(20).tril().expand(4, 20, 20)
    with intervening(model, PatchAttention(pattern, layers=[last])):
        _, cache = model.run_with_cache(tokens, names_filter=f"blocks.{last}.attn.hook_pattern")
        assert torch.equal(cache[f"blocks.{last}.attn.hook_pattern"], pattern.expand(3, 4, 20, 20))
        patched = model(tokens)
    assert not torch.allclose(patched, before, atol=1e-3)
    assert torch.equal(model(tokens), before)
