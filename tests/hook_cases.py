"""Models, checks and a task with data-dependent attention, for the tests of the interventions."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from transformer_lens import HookedTransformer, HookedTransformerConfig
from transformer_lens.cache.key_value_cache import TransformerLensKeyValueCache
from typecheck import unchecked

from plateau_interp.interventions.attached import Intervention
from plateau_interp.interventions.attaching import intervening
from plateau_interp.models import ToyTransformer, toy_model
from plateau_interp.tasks import MovingWindowSum
from plateau_interp.types import Batch, Defaults, Task

TASK = MovingWindowSum(n=4, p=7)

KINDS: list[dict[str, Any]] = [
    {
        "attention": ("linear", "softmax")[a],
        "n_layers": (1, 2)[b],
        "n_heads": (1, 4)[c],
        "dtype": (torch.float32, torch.float64)[d],
    }
    for a, b, c, d in itertools.product((0, 1), repeat=4)
]
"""All combinations of the properties that an intervention may trip over."""

OMEGA = torch.zeros(8, 8, dtype=torch.bool)
"""The solution of a moving-window sum with n=4, k=2, written out."""
for query, keys in {4: [0], 5: [0, 1], 6: [1, 2], 7: [2, 3]}.items():
    OMEGA[query, keys] = True

BIASED = OMEGA.clone()
BIASED[4] = False


def kind_name(kind: dict[str, Any]) -> str:
    return "-".join(str(value).removeprefix("torch.") for value in kind.values())


every_kind = pytest.mark.parametrize("kind", KINDS, ids=kind_name)


def toy(**options: Any) -> ToyTransformer:
    """A toy model with weights large enough for attention to matter, which at initialisation it does not."""
    options = {"d_model": 16, "seed": 3, **options}
    model = toy_model(options.pop("task", TASK), **options)
    enlarge_(model, seed=options["seed"])
    return model


def gpt_neox(*, seed: int = 0) -> HookedTransformer:
    """Untrained, with rotary positions and parallel attention and MLP, as Pythia is."""
    cfg = HookedTransformerConfig(
        n_layers=2,
        n_heads=4,
        d_model=16,
        d_head=4,
        d_mlp=32,
        n_ctx=16,
        d_vocab=11,
        act_fn="gelu",
        normalization_type="LN",
        positional_embedding_type="rotary",
        rotary_dim=2,
        parallel_attn_mlp=True,
        init_weights=False,
        device="cpu",
    )
    model = HookedTransformer(cfg)
    enlarge_(model, seed=seed)
    return model


def local_softmax(*, window: int = 3, seed: int = 0) -> HookedTransformer:
    """Two layers, of which the second has local attention, as GPT-Neo's do in turn."""
    cfg = HookedTransformerConfig(
        n_layers=2,
        n_heads=2,
        d_model=16,
        d_head=8,
        n_ctx=12,
        d_vocab=11,
        act_fn="gelu",
        normalization_type="LN",
        use_local_attn=True,
        attn_types=["global", "local"],
        window_size=window,
        init_weights=False,
        device="cpu",
    )
    model = HookedTransformer(cfg)
    enlarge_(model, seed=seed)
    return model


@torch.no_grad()
def enlarge_(model: HookedTransformer, *, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator).to(parameter.dtype)
        is_gain = name.endswith("w") and ".ln" in f".{name}"
        parameter.copy_(1 + 0.1 * noise if is_gain else 0.3 * noise)


def tokens_for(model: Any, *, n: int = 5, seed: int = 0) -> Tensor:
    if hasattr(model, "task"):
        return model.task.sample(n, generator=torch.Generator().manual_seed(seed)).inputs
    return torch.randint(0, model.cfg.d_vocab, (n, 8), generator=torch.Generator().manual_seed(seed))


def padded(tokens: Tensor) -> Tensor:
    """A mask under which the first sequence begins at its fourth token."""
    mask = torch.ones_like(tokens)
    mask[0, :3] = 0
    return mask


def pattern_name(layer: int) -> str:
    return f"blocks.{layer}.attn.hook_pattern"


def activation(model: Any, tokens: Tensor, name: str) -> Tensor:
    """One activation of a run, as the last hook sees it; everything else runs as without a cache."""
    return model.run_with_cache(tokens, names_filter=name)[1][name]


def last_layer(model: Any) -> int:
    return model.cfg.n_layers - 1


def edited_and_not(model: Any, *interventions: Intervention) -> tuple[Tensor, Tensor]:
    """The last layer's pattern under interventions there, and without."""
    tokens, name = tokens_for(model), pattern_name(last_layer(model))
    before = activation(model, tokens, name)
    with intervening(model, *interventions):
        return activation(model, tokens, name), before


def cached_logits(model: Any, tokens: Tensor, *, prompt: int = 3) -> Tensor:
    """Logits with a key/value cache: the prompt at once, then token by token."""
    cache = TransformerLensKeyValueCache.init_cache(model.cfg, "cpu", len(tokens))
    pieces = [tokens[:, :prompt], *tokens[:, prompt:].split(1, dim=1)]
    return torch.cat([model(p, past_kv_cache=cache, attention_mask=torch.ones_like(p)) for p in pieces], dim=1)


def gradients(model: Any, tokens: Tensor) -> dict[str, Tensor]:
    """The gradient of a loss that every logit has a part in, by parameter name; parameters are left without."""
    model.zero_grad()
    torch.nn.functional.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten()).backward()
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def recheck(value: Any, **fields: Any) -> None:
    """Check a value again with fields of a type that its constructor would refuse in a type-checked test run."""
    for name, content in fields.items():
        object.__setattr__(value, name, content)
    unchecked(type(value).__post_init__)(value)


def assert_untouched(model: Any) -> None:
    """No hook of any sort is left, on any module or parameter."""
    for name, point in model.hook_dict.items():
        assert not point.fwd_hooks, name
        assert not point.bwd_hooks, name
    for name, module in model.named_modules():
        assert not module._forward_hooks, name
        assert not module._forward_pre_hooks, name
        assert not module._backward_hooks, name
    for name, parameter in model.named_parameters():
        assert not parameter._backward_hooks, name
        assert parameter.requires_grad == (name != "unembed.b_U" or not hasattr(model, "task")), name


@dataclass(frozen=True)
class Pointer(Task):
    """``i x_0 … x_3 SEP x_i x_i``: the answer rows read where the first token points, in the second layer."""

    name: ClassVar[str] = "pointer"
    defaults: ClassVar[Defaults] = Defaults(n_layers=2)

    d_vocab = 6
    n_pos = 8
    answer = slice(6, 8)

    def sample(self, n: int, *, generator: torch.Generator) -> Batch:
        numbers = torch.randint(0, 4, (n, 5), generator=generator)
        separator = torch.full((n, 1), 5)
        target = numbers[:, 1:].gather(1, numbers[:, :1])
        tokens = torch.cat([numbers, separator, target, target], dim=1)
        return Batch(tokens, tokens[:, 1:])

    def optimal_attention(self, batch: Batch) -> Sequence[Tensor | None]:
        target = torch.zeros(len(batch), 7, 7, dtype=torch.bool)
        for sequence, pointer in enumerate(batch.tokens[:, 0].tolist()):
            target[sequence, 5:, 1 + pointer] = True
        return [None, target]
