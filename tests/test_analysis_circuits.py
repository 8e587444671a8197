import copy
import warnings
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from reference.edges import forward
from torch import Tensor
from transformer_lens import HookedTransformer, HookedTransformerConfig
from typecheck import unchecked

from plateau_interp.analysis.circuits import Circuit, answer_difference, circuit, label_difference, task_roles
from plateau_interp.analysis.edges import cutting, graph_of
from plateau_interp.analysis.pruning import agreement
from plateau_interp.hooks import BiasAttention, ClipGradient, CosinePenalty, FrobeniusPenalty, ScaleGradient
from plateau_interp.interventions.attaching import intervening
from plateau_interp.models import toy_model
from plateau_interp.tasks import ModularArithmetic, MovingWindowSum

TASK = MovingWindowSum(n=4, p=5)
KINDS = list(product(("linear", "softmax"), (1, 2)))


def metric(logits: Tensor) -> Tensor:
    """Not linear in the logits, and of several rows."""
    return (logits[:, 3:, 1] - logits[:, 3:, 2]).tanh().mean()


def linear(logits: Tensor) -> Tensor:
    """Linear in the logits, of the same rows."""
    return (logits[:, 3:, 1] - logits[:, 3:, 2]).mean()


def pair(n: int = 3) -> tuple[Tensor, Tensor]:
    clean, corrupted = (TASK.sample(n, generator=torch.Generator().manual_seed(seed)).inputs for seed in (0, 1))
    return clean, corrupted


def model_of(attention: str, n_layers: int, *, dtype: torch.dtype = torch.float64) -> Any:
    model = toy_model(TASK, attention=attention, n_layers=n_layers, n_heads=2, d_model=12, dtype=dtype)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():  # large enough for every edge to matter, biases and gains among it
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.3
                parameter.copy_(noise + name.endswith(".w"))
    return model


def brute(model: Any, *, ablation: str, freeze_norms: bool) -> dict[tuple[str, str], float]:
    """Each edge's score, by the reference."""
    clean, corrupted = pair()
    weights = {name: value.detach() for name, value in model.state_dict().items()}
    sizes: Any = {"n_layers": model.cfg.n_layers, "n_heads": model.cfg.n_heads, "softmax": model.attention == "softmax"}
    logits, written, seen = forward(weights, clean, **sizes)
    other = forward(weights, corrupted, **sizes)[1]
    instead = {
        "resample": other,
        "mean": {name: value.mean(0, keepdim=True).expand_as(value) for name, value in written.items()},
        "zero": {name: torch.zeros_like(value) for name, value in written.items()},
    }[ablation]
    divisors = seen if freeze_norms else None
    whole = metric(logits)
    found = circuit(model, clean=clean, corrupted=corrupted, metric=metric, scoring="exact")
    edges = [(row.writer, row.reader) for row in found.table().itertuples()]
    return {
        edge: float(metric(forward(weights, clean, **sizes, cut={edge}, instead=instead, divisors=divisors)[0]) - whole)
        for edge in edges
    }


@pytest.mark.parametrize(("attention", "n_layers"), KINDS)
@pytest.mark.parametrize(
    ("ablation", "freeze_norms"), [("resample", False), ("resample", True), ("mean", False), ("zero", True)]
)
def test_exact_scores_are_those_of_parts_that_add_up_their_own_input(
    attention: str, n_layers: int, ablation: Any, freeze_norms: bool
) -> None:
    model = model_of(attention, n_layers)
    clean, corrupted = pair()
    settings: Any = {"ablation": ablation, "freeze_norms": freeze_norms, "scoring": "exact"}
    found = circuit(model, clean=clean, corrupted=corrupted, metric=metric, **settings)
    expected = brute(model, ablation=ablation, freeze_norms=freeze_norms)
    assert found.n_edges == len(expected) == {1: 21, 2: 61}[n_layers]
    for row in found.table().itertuples():
        assert row.score == pytest.approx(expected[row.writer, row.reader], abs=1e-9)
    single = model_of(attention, n_layers, dtype=torch.float32)
    close = circuit(single, clean=clean, corrupted=corrupted, metric=metric, **settings)
    torch.testing.assert_close(close.scores, found.scores, atol=1e-5, rtol=0, equal_nan=True)


@pytest.mark.parametrize(("attention", "n_layers"), KINDS)
def test_attributed_is_exact_where_the_model_is_linear_in_the_edge(attention: str, n_layers: int) -> None:
    model = model_of(attention, n_layers)
    clean, corrupted = pair()
    settings: Any = {"clean": clean, "corrupted": corrupted, "metric": linear, "freeze_norms": True}
    exact, attributed = (circuit(model, **settings, scoring=scoring) for scoring in ("exact", "attributed"))
    is_linear = torch.tensor([reader == "logits" for reader in exact.readers])
    torch.testing.assert_close(attributed.scores[:, is_linear], exact.scores[:, is_linear], atol=1e-9, rtol=0)
    assert not torch.allclose(attributed.scores.nan_to_num(), exact.scores.nan_to_num(), atol=1e-4)


@pytest.mark.parametrize("freeze_norms", [False, True])
@pytest.mark.parametrize(("attention", "n_layers"), KINDS)
def test_the_edges_of_a_writer_sum_to_what_it_does_to_first_order(
    attention: str, n_layers: int, freeze_norms: bool
) -> None:
    model = model_of(attention, n_layers)
    clean, corrupted = pair()
    asked: Any = {"clean": clean, "corrupted": corrupted, "metric": metric}
    found = circuit(model, **asked, freeze_norms=freeze_norms)
    with cutting(model, **asked, ablation="resample", freeze_norms=freeze_norms) as cut:
        more = cut.difference()
        frozen = cut.frozen()
    for writing in graph_of(model).writings:
        kept: list[Tensor] = []
        with model.hooks(fwd_hooks=[*frozen, (writing.point, lambda act, hook, kept=kept: kept.append(act))]):
            (slope,) = torch.autograd.grad(metric(model(clean)), kept)
        for writer in range(writing.start, writing.stop):
            if writing.layer is None:
                expected = (more[writer] * slope).sum()
            else:
                head = writer - writing.start
                change = torch.linalg.lstsq(model.blocks[writing.layer].attn.W_O[head].T, more[writer].flatten(0, 1).T)
                expected = (change.solution.T.reshape(slope[:, :, head].shape) * slope[:, :, head]).sum()
            assert found.scores[writer].nansum() == pytest.approx(expected.item(), abs=1e-9)


@pytest.mark.parametrize("ablation", ["resample", "mean", "zero"])
def test_the_logits_edges_of_frozen_norms_sum_to_the_whole_change(ablation: Any) -> None:
    """With every edge into the logits cut, they read what cut edges carry and nothing else."""
    model = model_of("softmax", 2)
    clean, corrupted = pair()
    asked: Any = {"clean": clean, "corrupted": corrupted, "metric": linear, "ablation": ablation, "freeze_norms": True}
    found = circuit(model, **asked, scoring="exact")
    with cutting(model, **asked) as cut:
        choice = torch.zeros(1, *found.scores.shape[:2], 1, dtype=torch.bool)
        choice[:, :, -1] = True
        together = float(cut.metrics_when_cut(choice)[0]) - cut.clean
    assert found.scores[:, -1].sum() == pytest.approx(together, abs=1e-9)


def test_integrated_scores_are_the_mean_of_gradients_along_the_embeddings() -> None:
    model = model_of("softmax", 2)
    clean, corrupted = pair()
    asked: Any = {"clean": clean, "corrupted": corrupted, "metric": metric}
    one = circuit(model, **asked, scoring="integrated", n_steps=1)
    torch.testing.assert_close(one.scores, circuit(model, **asked).scores, equal_nan=True, atol=1e-12, rtol=0)
    # A metric's change is the integral of its gradient along any way, so the embeddings' edges sum to all of it.
    missing = []
    for n_steps in (50, 100):
        found = circuit(model, **asked, scoring="integrated", n_steps=n_steps)
        missing.append(float(found.scores[:2].nansum()) - (found.ablated - found.clean))
    assert missing[0] / missing[1] == pytest.approx(2, rel=0.05)  # the error of a sum of right ends halves


def test_every_edge_cut_is_the_corrupted_forward() -> None:
    clean, corrupted = pair()
    for attention, n_layers in KINDS:
        model = model_of(attention, n_layers)
        found = circuit(model, clean=clean, corrupted=corrupted, metric=metric)
        assert found.clean == pytest.approx(metric(model(clean)).item(), abs=1e-12)
        assert found.ablated == pytest.approx(metric(model(corrupted)).item(), abs=1e-12)


@pytest.mark.parametrize("scoring", ["exact", "attributed"])
def test_roles_are_scored_apart(scoring: Any) -> None:
    model = model_of("linear", 1)
    clean, corrupted = pair()
    asked: Any = {"clean": clean, "corrupted": corrupted, "metric": linear, "scoring": scoring, "freeze_norms": True}
    whole = circuit(model, **asked)
    for roles, n_roles in ((task_roles(TASK), 3), ("positions", 8)):
        parts = circuit(model, **asked, roles=roles)
        assert parts.scores.shape == (*whole.scores.shape[:2], n_roles)
        # Nothing mixes positions but queries and keys: in front of the rest the parts add up.
        for reader in ("logits",) if scoring == "exact" else whole.readers:
            index = whole.readers.index(reader)
            torch.testing.assert_close(parts.scores[:, index].sum(1), whole.scores[:, index, 0], equal_nan=True)
    # The metric reads rows 3 and later alone.
    assert parts.scores[:, -1, :3].abs().max() < 1e-12


def planted() -> Any:
    """The first head of layer 1 moves the number at the first position to all; the logits read that alone."""
    model = toy_model(TASK, attention="linear", n_layers=2, n_heads=2, d_model=12, dtype=torch.float64)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(1.0 if name.endswith(".w") else 0.0)
        n = TASK.d_vocab
        model.embed.W_E[:, 0] = torch.arange(n) - 2.0  # the token's number
        model.embed.W_E[:, 1] = 2.0 - torch.arange(n)  # so that LayerNorm finds a mean of 0
        model.pos_embed.W_pos[0, 2], model.pos_embed.W_pos[0, 3] = 5.0, -5.0  # the first position
        attention = model.blocks[1].attn
        attention.b_Q[0, 0] = 1.0
        attention.W_K[0, 2, 0] = 1.0
        attention.W_V[0, 0, 1] = 1.0
        attention.W_O[0, 1, 4], attention.W_O[0, 1, 5] = 1.0, -1.0
        model.unembed.W_U[4, 1] = 1.0
    return model


def test_a_planted_circuit_is_found_edge_for_edge() -> None:
    clean, corrupted = pair(8)
    for scoring, ablation in product(("exact", "attributed"), ("resample", "zero")):
        found = circuit(
            planted(),
            clean=clean,
            corrupted=corrupted,
            metric=lambda logits: logits[:, -1, 1].sum(),
            scoring=scoring,
            ablation=ablation,
            freeze_norms=True,
        )
        edges = {(row.writer, row.reader) for row in found.table().itertuples() if abs(row.score) > 1e-12}
        assert edges == {("embed", "L1H0.v"), ("L1H0", "logits")} | (
            {("pos_embed", "L1H0.k")} if ablation == "zero" else set()
        )


NEOX = {"positional_embedding_type": "rotary", "parallel_attn_mlp": True}
GROUPED = {
    "positional_embedding_type": "rotary",
    "n_key_value_heads": 2,
    "normalization_type": "RMS",
    "gated_mlp": True,
}
SHAPES = {
    "parallel": NEOX,
    "grouped": GROUPED,
    "attention-only": {"attn_only": True},
    "no norms": {"normalization_type": None},
}


def host_model(**options: Any) -> HookedTransformer:
    settings: dict[str, Any] = {"n_layers": 2, "n_heads": 4, "d_model": 16, "d_head": 4, "n_ctx": 8, "d_vocab": 6}
    settings |= {"act_fn": "silu", "normalization_type": "LN", "seed": 3, "dtype": torch.float64, "d_mlp": 24}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        model = HookedTransformer(HookedTransformerConfig(**(settings | options)))
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.4)
    return model


@pytest.mark.parametrize("shape", SHAPES)
def test_other_models_of_the_host_library(shape: str) -> None:
    model = host_model(**SHAPES[shape])
    clean, corrupted = pair()
    before = copy.deepcopy(model.cfg)
    asked: Any = {"clean": clean, "corrupted": corrupted, "metric": linear, "freeze_norms": True}
    exact, attributed = (circuit(model, **asked, scoring=scoring) for scoring in ("exact", "attributed"))
    assert exact.ablated == pytest.approx(float(circuit(model, **(asked | {"freeze_norms": False})).ablated), abs=10)
    torch.testing.assert_close(attributed.scores[:, -1], exact.scores[:, -1], atol=1e-9, rtol=0)
    heads = 4 * 2
    keys = 2 * (2 if shape == "grouped" else 4)
    mlps = 0 if shape == "attention-only" else 2
    assert len(exact.readers) == heads + 2 * keys + mlps + 1
    assert len(exact.writers) == heads + mlps + 1 + (shape in ("attention-only", "no norms"))
    if shape == "parallel":
        assert exact.scores[exact.writers.index("L0H0"), exact.readers.index("MLP0")].isnan()
    if shape == "grouped":
        assert "L1KV1.v" in exact.readers
        assert "L1H3.q" in exact.readers
    assert model.cfg == before
    assert not any(point.fwd_hooks for point in model.hook_dict.values())
    live = circuit(model, clean=clean, corrupted=corrupted, metric=linear, scoring="exact")
    assert live.ablated == pytest.approx(linear(model(corrupted)).item(), abs=1e-9)


def test_a_task_of_one_answer_has_no_role_for_further_ones() -> None:
    assert list(task_roles(ModularArithmetic(p=5))) == ["prompt", "separator"]


def test_models_without_such_a_graph_are_refused() -> None:
    clean, corrupted = pair()
    model = host_model(use_normalization_before_and_after=True, normalization_type="RMS")
    with pytest.raises(ValueError, match="not the sum of embeddings, heads and MLPs"):
        circuit(model, clean=clean, corrupted=corrupted, metric=linear)
    assert not model.cfg.use_split_qkv_input
    with pytest.raises(ValueError, match="shortformer"):
        graph_of(host_model(positional_embedding_type="shortformer"))


def test_interventions_belong_to_the_model() -> None:
    model = model_of("linear", 1)
    clean, corrupted = pair()
    plain = circuit(model, clean=clean, corrupted=corrupted, metric=metric)
    with intervening(model, BiasAttention(factor=3.0)) as (receipt,):
        found = circuit(model, clean=clean, corrupted=corrupted, metric=metric, scoring="exact")
        assert found.clean == pytest.approx(metric(model(clean)).item(), abs=1e-12)
        assert found.ablated == pytest.approx(metric(model(corrupted)).item(), abs=1e-12)
    assert receipt.fired > 2
    assert found.clean != plain.clean


STREAM = "blocks.0.hook_resid_post"
EDITS_OF_GRADIENTS = (
    (ScaleGradient(0.0, at=STREAM),),
    (ClipGradient(1e-3, at="unembed.hook_in"), CosinePenalty(1.0)),
    (CosinePenalty(1.0, at=STREAM), ScaleGradient(2.0, where="*"), FrobeniusPenalty(0.1)),
)
"""They change no activation."""


@pytest.mark.parametrize("edits", EDITS_OF_GRADIENTS)
@pytest.mark.parametrize("scoring", ["attributed", "integrated"])
def test_edits_of_gradients_change_no_score_and_do_not_count_it(edits: Any, scoring: Any) -> None:
    model = model_of("linear", 2)
    clean, corrupted = pair()
    asked: Any = {"clean": clean, "corrupted": corrupted, "metric": metric, "scoring": scoring}
    plain = circuit(model, **asked)
    with intervening(model, *edits) as receipts:
        metric(model(clean)).backward()
        fired = [receipt.fired for receipt in receipts]
        found = circuit(model, **asked)
        assert torch.equal(found.scores.nan_to_num(), plain.scores.nan_to_num())
        assert [receipt.fired for receipt in receipts] == fired
        metric(model(clean)).backward()
        assert [receipt.fired for receipt in receipts] == [2 * before for before in fired]
    assert min(fired) > 0


def test_a_frozen_model_and_one_without_gradients_are_scored_as_others() -> None:
    model = model_of("linear", 1)
    clean, corrupted = pair()
    expected = circuit(model, clean=clean, corrupted=corrupted, metric=metric)
    model.requires_grad_(False)
    with torch.no_grad():
        found = circuit(model, clean=clean, corrupted=corrupted, metric=metric)
    torch.testing.assert_close(found.scores, expected.scores, equal_nan=True)
    model.requires_grad_(True)
    circuit(model, clean=clean, corrupted=corrupted, metric=metric)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_padding_changes_no_score() -> None:
    model = host_model(positional_embedding_type="rotary")
    clean, corrupted = pair()
    pad = torch.zeros(len(clean), 2, dtype=torch.long)
    mask = torch.cat([pad, torch.ones_like(clean)], dim=1)
    model.cfg.n_ctx = 8
    short = {"clean": clean[:, :6], "corrupted": corrupted[:, :6]}
    padded = {"clean": torch.cat([pad, clean[:, :6]], 1), "corrupted": torch.cat([pad, corrupted[:, :6]], 1)}

    def last(logits: Tensor) -> Tensor:
        return (logits[:, -2:, 1] - logits[:, -2:, 2]).tanh().mean()

    for scoring in ("exact", "attributed"):
        expected = circuit(model, **short, metric=last, scoring=scoring)
        found = circuit(model, **padded, metric=last, scoring=scoring, attention_mask=mask[:, :8])
        torch.testing.assert_close(found.scores, expected.scores, equal_nan=True, atol=1e-9, rtol=0)


def test_a_mask_of_any_type_is_the_same_mask() -> None:
    model, (clean, corrupted) = host_model(), pair()
    asked = {"clean": clean, "corrupted": corrupted, "metric": metric}
    expected = circuit(model, **asked)
    for mask in (torch.ones(clean.shape), torch.ones(clean.shape, dtype=torch.bool)):
        found = circuit(model, **asked, attention_mask=mask)
        assert torch.equal(found.scores.nan_to_num(), expected.scores.nan_to_num())


def test_half_precision_is_scored_in_float32() -> None:
    clean, corrupted = pair()
    half: Any = {"metric": metric, "ablation": "resample", "freeze_norms": False}
    with cutting(model_of("softmax", 1, dtype=torch.bfloat16), clean=clean, corrupted=corrupted, **half) as cut:
        assert cut.difference().dtype == torch.float32
    expected = circuit(model_of("softmax", 1, dtype=torch.float32), clean=clean, corrupted=corrupted, metric=metric)
    found = circuit(model_of("softmax", 1, dtype=torch.bfloat16), clean=clean, corrupted=corrupted, metric=metric)
    assert agreement(expected, found)["rank"] > 0.9


def test_a_table_and_the_largest_edges() -> None:
    scores = torch.tensor([[[1.0], [-3.0]], [[float("nan")], [2.0]]])
    found = Circuit(
        ("embed", "MLP0"),
        ("MLP0", "logits"),
        ("all",),
        scores,
        "exact",
        "zero",
        "live",
        1.0,
        0.0,
        2,
        torch.ones(1, 3) > 0,
    )
    assert found.table().values.tolist() == [
        ["embed", "logits", "all", -3.0],
        ["MLP0", "logits", "all", 2.0],
        ["embed", "MLP0", "all", 1.0],
    ]
    assert found.n_edges == 3
    assert found.largest(2).nonzero().tolist() == [[0, 1, 0], [1, 1, 0]]
    assert not found.largest(0).any()
    assert found.largest(3).equal(found.exists)
    with pytest.raises(ValueError, match="n must be at most 3"):
        found.largest(4)


def test_answers_that_differ_are_the_metric() -> None:
    generator = torch.Generator().manual_seed(0)
    clean = TASK.sample(4, generator=generator)
    corrupted = TASK.corrupt(clean, generator=generator)
    logits = torch.randn(4, 8, TASK.d_vocab, generator=generator)
    differences = [
        logits[sequence, row, clean.labels[sequence, row]] - logits[sequence, row, corrupted.labels[sequence, row]]
        for sequence, row in product(range(4), range(4, 8))
        if clean.labels[sequence, row] != corrupted.labels[sequence, row]
    ]
    assert float(answer_difference(TASK, clean, corrupted)(logits)) == pytest.approx(
        float(sum(differences) / len(differences))
    )
    with pytest.raises(ValueError, match="no answer of the corrupted sequences differs"):
        answer_difference(TASK, clean, clean)


def test_the_positions_of_a_role_may_be_given_in_several_ways() -> None:
    clean, corrupted = pair()
    asked = {"clean": clean, "corrupted": corrupted, "metric": metric}
    roles = {"one": 7, "some": np.array([1, 2]), "range": range(4), "slice": slice(-3, None), "set": {5, 3}}
    found = circuit(model_of("linear", 1), **asked, roles=roles)
    assert found.roles == tuple(roles)
    assert [row.nonzero().flatten().tolist() for row in found.positions] == [
        [7],
        [1, 2],
        [0, 1, 2, 3],
        [5, 6, 7],
        [3, 5],
    ]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"model": "x"}, "expected a model; got 'x'"),
        ({"clean": torch.zeros(2, 8)}, "clean must be"),
        (
            {"corrupted": torch.zeros(2, 7, dtype=torch.long)},
            r"clean and corrupted must have one shape; got \(3, 8\), \(2, 7\)",
        ),
        ({"corrupted": None}, 'ablation="resample" needs corrupted tokens'),
        ({"metric": 3}, "metric"),
        ({"metric": lambda logits: logits}, "the metric must be one number"),
        ({"metric": lambda logits: float("inf")}, "the metric must be finite"),
        ({"metric": lambda logits: logits.argmax().item()}, "the metric cannot be differentiated"),
        ({"scoring": "guessed"}, "scoring must be one of attributed, exact, integrated; got 'guessed'"),
        ({"ablation": "noise"}, "ablation must be one of resample, mean, zero; got 'noise'"),
        ({"roles": {}}, "roles must be positions by name"),
        ({"roles": {"end": [8]}}, "role 'end' must have positions from 0 to 7; got \\[8\\]"),
        ({"roles": {"end": []}}, "role 'end' must have positions"),
        ({"roles": {"end": 8}}, "role 'end' must have positions from 0 to 7; got \\[8\\]"),
        ({"roles": {"end": "01"}}, "^role 'end' must be a whole number, several, or a slice; got '01'$"),
        ({"roles": {"end": 1.5}}, "^role 'end' must be a whole number, several, or a slice; got 1.5$"),
        ({"roles": {"end": None}}, "^role 'end' must be a whole number, several, or a slice; got None$"),
        ({"roles": {"end": torch.ones(8, dtype=torch.bool)}}, "^role 'end' must be a whole number, several, or a sl"),
        ({"roles": {"end": slice(7, 9)}}, "^role 'end' must have positions from 0 to 7; got slice\\(7, 9, None\\)$"),
        ({"roles": {"end": slice(4, 4)}}, "^role 'end' must have positions from 0 to 7; got slice\\(4, 4, None\\)$"),
        ({"roles": {"end": slice("a")}}, "^role 'end' must be a whole number, several, or a slice; got slice"),
        ({"roles": {3: [7]}}, "^a role's name must be text; got 3$"),
        ({"roles": "positons"}, "roles must be positions by name, .* or \"positions\"; got 'positons'"),
        ({"roles": [3]}, "roles must be positions by name"),
        (
            {"roles": {"end": [7]}, "attention_mask": torch.tensor([[1] * 8, [0] + [1] * 7, [1] * 8])},
            "padding on the left moves each one's: pad right",
        ),
        ({"n_steps": 0}, "n_steps must be at least 1"),
        ({"attention_mask": torch.ones(3, 7, dtype=torch.long)}, "attention_mask must have the shape of the tokens"),
        ({"attention_mask": [[1] * 8] * 3}, "attention_mask must have the shape of the tokens"),
        (
            {"attention_mask": torch.full((3, 8), 2)},
            "attention_mask must be 1 where a token is real and 0 elsewhere; got ",
        ),
        (
            {"attention_mask": torch.tensor([[1] * 8, [0] * 8, [1] * 8])},
            "sequence 1 has no token that attention_mask calls real",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused(wrong: dict[str, Any], words: str) -> None:
    clean, corrupted = pair()
    asked: dict[str, Any] = {"model": model_of("linear", 1), "clean": clean, "corrupted": corrupted, "metric": metric}
    asked |= wrong
    with pytest.raises(ValueError, match=words):
        unchecked(circuit)(asked.pop("model"), **asked)


@pytest.mark.parametrize("made", [label_difference, partial(answer_difference, TASK)])
def test_a_difference_is_of_the_labels_as_they_were(made: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    clean = TASK.sample(4, generator=generator)
    corrupted = TASK.corrupt(clean, generator=generator)
    difference, logits = made(clean, corrupted), torch.randn(*clean.labels.shape, TASK.d_vocab, generator=generator)
    before = difference(logits)
    clean.labels.zero_(), corrupted.labels.fill_(1)
    assert torch.equal(difference(logits), before)


@pytest.mark.parametrize("scoring", ["attributed", "integrated"])
def test_a_metric_without_a_gradient_is_refused_and_gives_no_empty_circuit(scoring: Any) -> None:
    clean, corrupted = (TASK.sample(4, generator=torch.Generator().manual_seed(seed)).inputs for seed in (0, 1))

    def distance(logits: Tensor) -> Tensor:
        return (logits - logits.detach()).square().mean().sqrt()

    with pytest.raises(ValueError, match=r"^scores are no finite numbers: the metric .* has no finite gradient there$"):
        circuit(toy_model(TASK, d_model=16), clean=clean, corrupted=corrupted, metric=distance, scoring=scoring)
