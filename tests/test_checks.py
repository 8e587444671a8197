"""What interventions refuse to be constructed with; each wrong type would otherwise crash later, or pass unnoticed."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hook_cases import gpt_neox, recheck, tokens_for, toy
from typecheck import unchecked

from plateau_interp import hooks
from plateau_interp.checks import (
    check_fraction,
    check_memory,
    check_norm,
    check_not_negative,
    check_positive,
    check_weight,
    nearest,
    shown,
)
from plateau_interp.interventions.attaching import intervening
from plateau_interp.interventions.capturing import Capture
from plateau_interp.models.parameters import parameters_where
from plateau_interp.training.optimizers import SGD, Adam, AdamW, LearningRateSchedule, Muon

RESID = "blocks.0.hook_resid_pre"
EYE = torch.eye(8)

INDICES = "must be whole numbers, such as"
NO_INTERVENTION = "expected interventions such as"
NO_SOURCE = "source must be a model, a run"
NO_WHERE = "where must be a group"
NO_NAMES = "at must be a hook point or several"


@pytest.mark.parametrize(
    ("value", "fields", "message"),
    [
        (hooks.AblateHeads([0]), {"heads": 0}, f"heads {INDICES}"),
        (hooks.AblateHeads([0]), {"heads": None}, f"heads {INDICES}"),
        (hooks.AblateHeads([0]), {"heads": "0"}, f"heads {INDICES}"),
        (hooks.AblateHeads([0]), {"heads": [0.5]}, rf"heads {INDICES} \[0, 2\]; got \[0.5\]"),
        (hooks.AblateHeads([0]), {"heads": [True]}, f"heads {INDICES}"),
        (hooks.AblateHeads([0]), {"heads": torch.tensor([False, True])}, f"heads {INDICES}"),
        (hooks.AblateHeads([0]), {"heads": np.array([False, True])}, f"heads {INDICES}"),
        (hooks.AblateActivation(RESID), {"positions": torch.ones(8, dtype=torch.bool)}, f"positions {INDICES}"),
        (hooks.AblateHeads([0]), {"layers": 1}, f"layers {INDICES}"),
        (hooks.BiasAttention(), {"layers": 0}, f"layers {INDICES}"),
        (hooks.MaskAttention(keys=[0]), {"keys": [1.0]}, f"keys {INDICES}"),
        (hooks.PatchAttention(EYE), {"rows": [1.0]}, f"rows {INDICES}"),
        (hooks.AblateActivation(RESID), {"positions": [1.0]}, f"positions {INDICES}"),
        (hooks.AblateActivation(RESID), {"positions": 3}, f"positions {INDICES}"),
        (hooks.BiasAttention(), {"factor": "10"}, "factor must be a number; got '10'"),
        (hooks.BiasAttention(), {"factor": torch.tensor(2.0)}, "factor must be a number"),
        (hooks.BiasAttention(), {"factor": True}, "factor must be a number; got True"),
        (hooks.FixAttention(), {"total": None}, "total must be a number"),
        (hooks.MixAttention(), {"weight": "1"}, "weight must be a number"),
        (hooks.ScaleActivation(RESID, 1.0), {"factor": "2"}, "factor must be a number"),
        (hooks.AddDirection(RESID, torch.ones(16)), {"scale": "2"}, "scale must be a number"),
        (hooks.AddDirection(RESID, torch.ones(16)), {"direction": [1.0] * 16}, "direction must be a tensor"),
        (hooks.ScaleGradient(1.0), {"factor": "a"}, "factor must be a number"),
        (hooks.ClipGradient(1.0), {"max_norm": "1"}, "max_norm must be a number"),
        (hooks.AmplifySlowGradient(), {"decay": "0.9"}, "decay must be a number"),
        (hooks.AmplifySlowGradient(), {"gain": None}, "gain must be a number"),
        (hooks.AblateActivation(RESID), {"seed": 0.5}, "seed must be a whole number"),
        (hooks.During(hooks.BiasAttention()), {"start": 0.5}, "start must be a whole number; got 0.5"),
        (hooks.During(hooks.BiasAttention()), {"stop": "9"}, "stop must be a whole number"),
        (hooks.During(hooks.BiasAttention()), {"every": 1.5}, "every must be a whole number"),
        (hooks.During(hooks.BiasAttention()), {"ramp": None}, "ramp must be a whole number"),
        (Capture((RESID,), out="x"), {"every": 1.5}, "every must be a whole number; got 1.5"),
        (Capture((RESID,), out="x"), {"sequences": "3"}, "sequences must be a whole number"),
        (Capture((RESID,), out="x"), {"sequences": 0}, "sequences must be at least 1; got 0"),
        (Capture((RESID,), out="x"), {"names": (3,)}, "names must be a hook point or several"),
        (hooks.When(hooks.BiasAttention(), "loss < 1"), {"ramp": 2.0}, "ramp must be a whole number"),
        (hooks.When(hooks.BiasAttention(), "loss < 1"), {"condition": 5}, "expected a condition such as"),
        (hooks.When(hooks.BiasAttention(), "loss < 1"), {"intervention": hooks.BiasAttention}, NO_INTERVENTION),
        (hooks.During(hooks.BiasAttention()), {"intervention": hooks.BiasAttention}, NO_INTERVENTION),
        (hooks.During(hooks.BiasAttention()), {"intervention": None}, NO_INTERVENTION),
        (hooks.MixAttention(), {"towards": None}, NO_INTERVENTION),
        (hooks.MixAttention(), {"towards": hooks.FixAttention}, NO_INTERVENTION),
        (hooks.FreezeWeights("mlp"), {"where": None}, NO_WHERE),
        (hooks.FreezeWeights("mlp"), {"where": ["mlp", "embeddings"]}, NO_WHERE),
        (hooks.TransplantWeights({}, "mlp"), {"where": None}, NO_WHERE),
        (hooks.ScaleGradient(1.0), {"where": 3}, NO_WHERE),
        (hooks.AmplifySlowGradient(), {"where": ["mlp"]}, NO_WHERE),
        (hooks.TransplantWeights({}, "mlp"), {"source": None}, NO_SOURCE),
        (hooks.PatchAttention(EYE), {"source": None}, NO_SOURCE),
        (hooks.PatchAttention(EYE), {"source": [1]}, NO_SOURCE),
        (hooks.PatchAttention(EYE), {"source": np.eye(8)}, NO_SOURCE),
        (hooks.PatchAttention(EYE), {"source": dict}, NO_SOURCE),
        (hooks.PatchActivation(RESID, EYE), {"source": None}, NO_SOURCE),
        (hooks.AblateActivation(RESID), {"at": []}, NO_NAMES),
        (hooks.AblateActivation(RESID), {"at": 3}, NO_NAMES),
        (hooks.ScaleGradient(1.0), {"at": []}, NO_NAMES),
        (hooks.ScaleGradient(1.0), {"at": [3]}, NO_NAMES),
        (
            hooks.FixAttention(),
            {"targets": np.eye(8, dtype=bool)},
            "targets must be a tensor or a function .* got ndarray",
        ),
        (hooks.FixAttention(), {"targets": lambda: 5}, r"^targets must take \(tokens, layer\); it takes \(\)$"),
        (hooks.FreezeWeights("mlp"), {"where": lambda: True}, r"^where must take \(name\); it takes \(\)$"),
        (hooks.FixAttention(), {"targets": [[True]]}, "targets must be a tensor or a function .* got list"),
        (hooks.BiasAttention(), {"targets": EYE}, "targets must be a Bool map: .* got torch.float32"),
        (hooks.BiasAttention(), {"targets": EYE.long()}, "targets must be a Bool map"),
        (hooks.MaskAttention(), {"targets": EYE}, "targets must be a Bool map"),
        (
            hooks.FixAttention(),
            {"targets": EYE[None, None]},
            r"\[query, key\] or \[batch, query, key\]; got \(1, 1, 8, 8\)",
        ),
    ],
)
def test_a_wrong_type_is_refused_at_construction(value: Any, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        recheck(value, **fields)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            hooks.FixAttention(targets=lambda tokens, layer: None),
            r"targets\(tokens, layer=0\) must give a map; got NoneType",
        ),
        (hooks.FixAttention(targets=lambda tokens, layer: EYE[None, None]), r"layer=0\) must be \[query, key\]"),
        (hooks.FixAttention(targets=lambda tokens, layer: -EYE), r"layer=0\) must not be negative"),
        (hooks.FixAttention(targets=lambda tokens, layer: EYE[:4, :4]), "covers 4 positions, but the forward has 8"),
        (
            hooks.FixAttention(targets=lambda tokens, layer: EYE.expand(3, 8, 8)),
            "is for 3 sequences, but the forward has 5",
        ),
        (hooks.BiasAttention(targets=lambda tokens, layer: EYE), r"layer=0\) must be a Bool map"),
        (hooks.MaskAttention(targets=lambda tokens, layer: EYE), r"layer=0\) must be a Bool map"),
    ],
)
def test_a_function_that_gives_no_map_is_refused_in_the_forward(edit: Any, message: str) -> None:
    model = toy()
    with pytest.raises(ValueError, match=message), intervening(model, edit):
        model(tokens_for(model))


def test_a_map_longer_than_the_context_counts_as_far_as_it_goes() -> None:
    model = gpt_neox()
    tokens, long = tokens_for(model), torch.eye(40, dtype=torch.bool)
    outputs = []
    for targets in (long, lambda tokens, layer: long):
        with intervening(model, hooks.BiasAttention(factor=3.0, targets=targets)):
            outputs.append(model(tokens))
    assert torch.equal(*outputs)


def test_what_is_meant_well_is_taken() -> None:
    listed = Capture((RESID,), out="x")
    recheck(listed, names=[RESID])
    assert listed.names == (RESID,)
    recheck(listed, every=np.int64(5))
    assert type(listed.every) is int
    assert hooks.BiasAttention(rows=range(3)).rows == (0, 1, 2)
    ablate = hooks.AblateHeads([0])
    recheck(ablate, heads=torch.tensor([0, 2]))
    assert ablate.heads == (0, 2)
    assert hooks.AblateActivation([RESID]).at == (RESID,)
    assert math.isclose(hooks.BiasAttention(factor=np.float64(2.0)).factor, 2.0)


def test_parameters_are_not_looked_for_by_a_list() -> None:
    with pytest.raises(ValueError, match=NO_WHERE):
        unchecked(parameters_where)(toy(), ["mlp"])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("x" * 10_000, "'xxxxxxxxxxxxxxxxxxxxxxxxxxx...xxxxxxxxxxxxxxxxxxxxxxxxxxxx'"),
        (10**6000, "a whole number of 6001 digits"),
        (list(range(10_000)), "[0, 1, 2, 3, 4, 5, ...]"),
        ({"a": {"b": {"c": {"d": 1}}}}, "{'a': {'b': {'c': {...}}}}"),
        ("a\nb", r"'a\nb'"),
        (torch.zeros(2, 2), "tensor([[0., 0.], [0., 0.]])"),
    ],
    ids=["text", "huge", "list", "nested", "lines", "tensor"],
)
def test_a_value_in_a_message_is_one_short_line(value: Any, text: str) -> None:
    assert shown(value) == text


def test_what_stands_for_more_than_can_be_written_is_cut_without_being_walked() -> None:
    value: Any = ["x"]
    for _ in range(60):
        value = [value] * 10
    assert len(shown(value)) == 100


def test_as_many_names_as_wanted_are_near() -> None:
    names = ["steps", "step", "stops"]
    assert nearest("stepps", names) == "the nearest are steps, step, stops"
    assert nearest("stepps", names, most=1) == "the nearest is steps"


def test_memory_is_asked_for_in_bytes_and_refused_with_both_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plateau_interp.checks.machine_memory", lambda: 1000)
    check_memory(1000, "a thousand bytes")
    with pytest.raises(ValueError, match=r"^not enough memory: n=9 would need 1,001 bytes; this machine has 1,000$"):
        check_memory(1001, "n=9")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": "x"}, "learning_rate must be a number; got 'x'"),
        ({"learning_rate": None}, "learning_rate must be a number; got None"),
        ({"learning_rate": math.inf}, "learning_rate must be a positive number; got inf"),
        ({"learning_rate": math.nan}, "learning_rate must be a positive number; got nan"),
        ({"beta1": "x"}, "beta1 must be a number; got 'x'"),
        ({"beta2": 1}, "beta2 must be from 0 to below 1; got 1"),
        ({"eps": True}, "eps must be a number; got True"),
        ({"eps": -1e-8}, "eps must be at least 0; got -1e-08"),
    ],
)
def test_an_optimiser_refuses_what_is_no_number_in_our_words(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        recheck(Adam(), **changes)


@pytest.mark.parametrize(
    ("value", "changes", "message"),
    [
        (LearningRateSchedule(), {"warm_up": "x"}, "warm_up must be a whole number; got 'x'"),
        (LearningRateSchedule(), {"cosine_until": 1.5}, "cosine_until must be a whole number; got 1.5"),
        (Muon(), {"iterations": 1.5}, "iterations must be a whole number; got 1.5"),
        (Muon(), {"precision": "half"}, "precision must be one of bfloat16, float32; got 'half'"),
        (SGD(), {"momentum": "x"}, "momentum must be a number; got 'x'"),
        (AdamW(), {"weight_decay": "x"}, "weight_decay must be a number; got 'x'"),
    ],
)
def test_so_do_the_others(value: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        recheck(value, **changes)


@pytest.mark.parametrize(
    ("check", "taken", "refused", "range_"),
    [
        (check_positive, (0.01, 1e300), (0, -1, math.inf, math.nan), "a positive number"),
        (check_not_negative, (0, 0.5, 1e300), (-0.01, math.inf), "at least 0"),
        (check_fraction, (0, 0.99), (-0.01, 1), "from 0 to below 1"),
        (check_weight, (0, 0.5, 1), (-0.01, 1.01, math.nan), "between 0 and 1"),
        (check_norm, (0.5, math.inf), (0, -1), "positive"),
    ],
)
def test_a_range_is_kept_to_its_ends(check, taken, refused, range_):
    for number in taken:
        check(SimpleNamespace(x=number), "x")
    for number in refused:
        with pytest.raises(ValueError, match=f"x .*{range_}"):
            check(SimpleNamespace(x=number), "x")
