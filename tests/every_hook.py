"""Every intervention of the package, on language models: for tests that must hold for each of them."""

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from hook_cases import enlarge_
from torch import Tensor
from transformer_lens import HookedTransformer, HookedTransformerConfig

from plateau_interp.hooks import (
    AblateActivation,
    AblateHeads,
    AddDirection,
    AmplifySlowGradient,
    BiasAttention,
    CapacityRegulariser,
    ClipGradient,
    ClipRows,
    CosinePenalty,
    During,
    FixAttention,
    FreezeWeights,
    FrobeniusPenalty,
    KeepNorm,
    MaskAttention,
    MixAttention,
    OrthogonalGradient,
    OutputTemperature,
    PatchActivation,
    PatchAttention,
    ScaleActivation,
    ScaleGradient,
    StableMax,
    TransplantWeights,
    When,
)
from plateau_interp.interventions.attached import Intervention
from plateau_interp.interventions.attaching import InterventionWarning, intervening
from plateau_interp.interventions.clock import advance

RESID, MLP, Z = "blocks.1.hook_resid_pre", "blocks.*.hook_mlp_out", "blocks.0.attn.hook_z"


def llama() -> HookedTransformer:
    """Untrained, with grouped queries and rotary positions, as SmolLM2 is."""
    cfg = HookedTransformerConfig(
        n_layers=2,
        n_heads=4,
        n_key_value_heads=2,
        d_model=16,
        d_head=4,
        d_mlp=32,
        n_ctx=16,
        d_vocab=11,
        act_fn="silu",
        gated_mlp=True,
        normalization_type="RMS",
        final_rms=True,
        positional_embedding_type="rotary",
        rotary_dim=4,
        init_weights=False,
        device="cpu",
    )
    model = HookedTransformer(cfg)
    enlarge_(model, seed=0)
    return model


def n_heads(model: Any) -> int:
    return int(model.cfg.n_heads)


def causal_map(n: int, *, seed: int = 0) -> Tensor:
    """Some keys of every row, its own among them."""
    some = torch.rand(n, n, generator=torch.Generator().manual_seed(seed)) > 0.6
    return (some | torch.eye(n, dtype=torch.bool)).tril()


def causal_pattern(*axes: int) -> Tensor:
    return torch.rand(*axes, generator=torch.Generator().manual_seed(5)).tril()


def later_repeats(tokens: Tensor, layer: int) -> Tensor:
    """Each row reads where its own token stood, as an induction head does, and itself."""
    return (tokens[:, :, None] == tokens[:, None, :]).tril()


def other(model: Any) -> Any:
    twin = copy.deepcopy(model)
    enlarge_(twin, seed=11)
    return twin


# name -> intervention for a model; alike for a padded batch and for a sequence alone
CASES: dict[str, Callable[[Any], Intervention]] = {
    "bias": lambda m: BiasAttention(5.0, targets=causal_map(16), rows=[1, 4, -1]),
    "bias every row": lambda m: BiasAttention(0.3, targets=causal_map(16), heads=[1]),
    "bias by tokens": lambda m: BiasAttention(5.0, targets=later_repeats, rows=[2, -2]),
    "fix": lambda m: FixAttention(targets=causal_map(16), rows=[0, 2, -1]),
    "fix weights": lambda m: FixAttention(targets=causal_pattern(16, 16), layers=[1]),
    "fix by tokens": lambda m: FixAttention(targets=later_repeats),
    "fix by name": lambda m: FixAttention(targets="last occurrence"),
    "fix on key 0": lambda m: FixAttention(targets=torch.eye(16, dtype=torch.bool)[:1].expand(16, -1)),
    "mask keys": lambda m: MaskAttention(keys=[0, 2, -1], rows=[-1, -2]),
    "mask a map": lambda m: MaskAttention(targets=causal_map(16, seed=2), rows=[1, 3, 4, 5, 6, 7]),
    "mix": lambda m: MixAttention(0.4, towards=FixAttention(targets=causal_map(16), rows=[2, -1])),
    "patch attention": lambda m: PatchAttention(causal_pattern(n_heads(m), 16, 16), rows=[1, -1]),
    "patch attention of one": lambda m: PatchAttention(causal_pattern(1, n_heads(m), 16, 16), heads=[0]),
    "patch attention by a map": lambda m: PatchAttention(causal_pattern(16, 16), layers=[1]),
    "patch attention by a model": lambda m: PatchAttention(other(m), rows=[0, 2, -1]),
    "zero heads": lambda m: AblateHeads([0]),
    "uniform heads": lambda m: AblateHeads([0, 1], by="uniform"),
    "zero": lambda m: AblateActivation(MLP, positions=[0, -1]) if m.cfg.d_mlp else AblateActivation(Z, positions=[0]),
    "zero heads' output": lambda m: AblateActivation(Z, positions=[1, -2], heads=[1]),
    "zero embeddings": lambda m: AblateActivation("hook_embed", positions=[1, -1]),
    "zero everywhere": lambda m: AblateActivation(Z),
    "scale": lambda m: ScaleActivation(RESID, 1.7, positions=[0, 2, -1]),
    "scale keys": lambda m: ScaleActivation("blocks.1.attn.hook_k", 1.7, positions=[0, 2, -1], heads=[0]),
    "add": lambda m: AddDirection(RESID, torch.linspace(-1, 1, m.cfg.d_model), positions=[0, -2]),
    "patch activation": lambda m: PatchActivation(RESID, causal_pattern(16, m.cfg.d_model)),
    "patch activation of one": lambda m: PatchActivation(
        RESID, causal_pattern(1, 16, m.cfg.d_model), positions=[1, -1]
    ),
    "patch activation by a model": lambda m: PatchActivation(RESID, other(m), positions=[0, 2, -1]),
    "during": lambda m: During(MaskAttention(keys=[1]), stop=10),
    "when": lambda m: When(FixAttention(targets=causal_map(16)), until="loss < 1"),
    "scale gradient": lambda m: ScaleGradient(0.5, at=Z),
    "clip gradient": lambda m: ClipGradient(0.5, where="attention"),
    "amplify slow gradient": lambda m: AmplifySlowGradient(),
    "capacity regulariser": lambda m: CapacityRegulariser(0.1),
    "Frobenius penalty": lambda m: FrobeniusPenalty(0.1, where="blocks.*.attn.W_Q"),
    "cosine penalty": lambda m: CosinePenalty(0.1),
    "orthogonal gradient": lambda m: OrthogonalGradient(),
    "keep norm": lambda m: KeepNorm(),
    "clip rows": lambda m: ClipRows(0.5),
    "temperature": lambda m: OutputTemperature(2.0),
    "stable max": lambda m: StableMax(),
    "freeze": lambda m: FreezeWeights("attention"),
    "transplant": lambda m: TransplantWeights(other(m), where="attention"),
}


SILENT = (
    *("scale gradient", "clip gradient", "amplify slow gradient", "orthogonal gradient", "keep norm", "clip rows"),
    *("Frobenius penalty", "capacity regulariser", "cosine penalty", "freeze"),
)
"""What changes no forward; and without a backward pass or an update it never acts."""


@contextmanager
def acting(model: Any, case: str) -> Iterator[tuple[Any, ...]]:
    """One of the interventions at work, at a step at which schedules let it act."""
    advance(model, step=1)
    with warnings.catch_warnings():
        if case in SILENT:
            warnings.simplefilter("ignore", InterventionWarning)
        with intervening(model, CASES[case](model)) as receipts:
            advance(model, step=1, metrics={"loss": 2.0})
            yield receipts
