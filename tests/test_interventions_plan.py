import json
from typing import Any

import pytest
import torch
from hook_cases import assert_untouched, recheck, tokens_for, toy

from plateau_interp import hooks
from plateau_interp.checks import listed
from plateau_interp.codec import RecipeError
from plateau_interp.interventions.attached import Intervention
from plateau_interp.interventions.attaching import intervening
from plateau_interp.interventions.plan import Plan, brief
from plateau_interp.plugins import plugin, plugins
from plateau_interp.runs.recipe import Recipe
from plateau_interp.tasks import MovingWindowSum

PLAIN: list[Intervention] = [
    hooks.BiasAttention(factor=2.5, layers=[0], rows=range(5, 8), at="scores"),
    hooks.FixAttention(total=0.5, heads=[1]),
    hooks.MixAttention(0.3, hooks.PatchAttention("runs/a@20", layers=[0])),
    hooks.PatchAttention("runs/a", rows=[1, 2]),
    hooks.AblateHeads([0, 2], by="mean"),
    hooks.CapacityRegulariser(0.01, of="capacity"),
    hooks.CosinePenalty(0.1),
    hooks.FrobeniusPenalty(0.01),
    hooks.QueryKeyCapacity(),
    hooks.VillaniDiagnostic(step_size=0.1),
    hooks.MaskAttention(keys=[0]),
    hooks.PatchActivation("blocks.0.hook_resid_pre", "runs/a", positions=[3]),
    hooks.AblateActivation(["hook_embed", "blocks.*.hook_mlp_out"], "resample", seed=3),
    hooks.ScaleActivation("hook_embed", 2.0),
    hooks.FreezeWeights("attention map"),
    hooks.TransplantWeights("runs/a@3", "mlp"),
    hooks.ScaleGradient(0.0, where="mlp"),
    hooks.ClipGradient(1.0, at="hook_embed"),
    hooks.AmplifySlowGradient(decay=0.9),
    hooks.OrthogonalGradient(where="mlp"),
    hooks.KeepNorm(),
    hooks.ClipRows(1.5, where="mlp"),
    hooks.OutputTemperature(2.0),
    hooks.StableMax(),
    hooks.During(hooks.BiasAttention(factor=10.0), start=50, ramp=3),
    hooks.When(hooks.During(hooks.FixAttention(), stop=9), since="cosine > 0.8", until="attention_progress > 0.5"),
]


def kebab(name: str) -> str:
    return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in name).removeprefix("-")


@pytest.mark.parametrize("wrong", [hooks.FixAttention(), (3,), [hooks.FixAttention]])
def test_what_is_no_list_of_interventions_is_no_plan(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"^(interventions must be a list,|expected interventions) such as "):
        recheck(Plan(()), interventions=wrong)


def test_every_public_intervention_is_registered_under_its_name() -> None:
    classes = [name for name in hooks.__all__ if name[0].isupper()]
    assert hooks.__all__ == sorted(hooks.__all__)
    for name in classes:
        assert plugin("hooks", kebab(name)) is getattr(hooks, name)
    assert {type(value).__name__ for value in PLAIN} == {*classes} - {"AddDirection"}, "its direction is a tensor"
    assert {*plugins("hooks")} >= {kebab(name) for name in classes}


@pytest.mark.parametrize("value", PLAIN, ids=lambda value: type(value).__name__)
def test_plain_data_and_back(value: Intervention) -> None:
    plan = Plan((value, hooks.BiasAttention()))
    data = json.loads(json.dumps(plan.to_data()))
    again = Plan.from_data(data)
    assert again == plan
    assert hash(again) == hash(plan)
    assert again.fingerprint == plan.fingerprint
    assert len(plan.fingerprint) == 16
    assert again.describe() == plan.describe()
    assert next(iter(again)) is not value
    recipe = Recipe(MovingWindowSum(), interventions=tuple(plan))
    assert Plan(Recipe.from_json(recipe.to_json()).interventions) == plan


def test_plans_differ_by_any_field_and_by_order() -> None:
    bias, freeze = hooks.BiasAttention(factor=2.0), hooks.FreezeWeights("mlp")
    plan = Plan((bias, freeze))
    others = [
        Plan((freeze, bias)),
        Plan((bias,)),
        Plan((bias, freeze, freeze)),
        Plan((hooks.BiasAttention(factor=3.0), freeze)),
        Plan((hooks.BiasAttention(factor=2.0, rows=[1]), freeze)),
        Plan((hooks.BiasAttention(factor=2.0), hooks.FreezeWeights("attention"))),
        Plan((hooks.During(bias), freeze)),
        Plan((hooks.During(bias, start=1), freeze)),
    ]
    assert len({plan, *others}) == 1 + len(others)
    assert len({p.fingerprint for p in (plan, *others)}) == 1 + len(others)
    assert plan != (bias, freeze)
    assert len(plan) == 2


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            hooks.FixAttention(targets=torch.eye(8)),
            r"interventions\[0\].targets: a recipe holds plain data, not Tensor",
        ),
        (hooks.During(hooks.PatchAttention(torch.eye(8))), r"interventions\[0\].intervention.source: .* not Tensor"),
        (hooks.FreezeWeights(lambda name: True), r"interventions\[0\].where: a recipe holds plain data, not function"),
        (hooks.AddDirection("hook_embed", torch.ones(16)), r"direction: .* not Tensor"),
    ],
)
def test_what_is_not_plain_says_so(value: Any, message: str) -> None:
    for use in (lambda plan: plan.to_data(), lambda plan: plan.fingerprint):
        with pytest.raises(RecipeError, match=message):
            use(Plan((value,)))
    assert Plan((value,)) == Plan((value,)), "but it can be compared with itself"
    assert Plan((value,)) in {Plan((value,))}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([{"name": "bias-atention"}], r"interventions\[0\].name: no hook is called 'bias-atention'; the nearest"),
        ([{"name": "bias-attention", "facto": 1.0}], r"interventions\[0\].facto: unknown field; the nearest is factor"),
        ([{"name": "bias-attention", "factor": "much"}], r"interventions\[0\].factor: .*; got 'much'"),
        ([{"name": "bias-attention", "targets": [[1]]}], r"interventions\[0\].targets: .*; got \[\[1\]\]"),
        ([{"name": "freeze-weights"}], r"interventions\[0\].where: missing"),
        (
            [{"name": "during", "intervention": {"name": "ablate-heads"}}],
            r"interventions\[0\].intervention.heads: missing",
        ),
        (
            [{"name": "during", "intervention": {"name": "fix-attention"}, "start": -1}],
            "start must be at least 0; got -1",
        ),
        ([{"name": "add-direction", "at": "hook_embed", "direction": [1]}], "direction: no plain data can be a Tensor"),
    ],
)
def test_bad_data_names_the_field(data: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Plan.from_data(data)


def test_a_description_says_what_acts_where_in_order_and_attaches_nothing() -> None:
    model = toy(n_layers=2, n_heads=4)
    grads = torch.ones_like(model.embed.W_E)
    model.embed.W_E.grad = grads
    plan = Plan(
        (
            hooks.During(hooks.BiasAttention(factor=2.5), start=50),
            hooks.AblateHeads([1], by="mean"),
            hooks.FreezeWeights("embeddings"),
            hooks.AddDirection("blocks.*.hook_mlp_out", torch.ones(16), positions=[2]),
        )
    )
    assert plan.describe(model) == (
        "1. During(BiasAttention(factor=2.5), start=50)\n"
        "   at blocks.1.attn.hook_pattern\n"
        "2. AblateHeads((1,), by='mean')\n"
        "   at blocks.0.attn.hook_pattern, blocks.1.attn.hook_pattern\n"
        "3. FreezeWeights('embeddings')\n"
        "   at embed.W_E, pos_embed.W_pos, ln_final.w, ln_final.b, unembed.W_U, unembed.b_U\n"
        "4. AddDirection('blocks.*.hook_mlp_out', <tensor 16>, positions=(2,))\n"
        "   at blocks.0.hook_mlp_out, blocks.1.hook_mlp_out"
    )
    assert model.embed.W_E.grad is grads
    assert_untouched(model)
    with pytest.raises(ValueError, match="there is no layer 4"):
        Plan((hooks.BiasAttention(layers=[4]),)).describe(model)


@pytest.mark.parametrize(
    "value", [*PLAIN[:2], hooks.AblateHeads([0]), hooks.FreezeWeights("mlp"), hooks.AmplifySlowGradient()]
)
def test_sites_are_where_it_is_attached(value: Any) -> None:
    model = toy(attention="softmax", n_heads=4)
    with intervening(model, value) as (receipt,):
        assert f"at {listed(receipt.sites, most=16)}" in Plan((hooks.During(value),)).describe(model)
        model(tokens_for(model)).square().mean().backward()


def test_a_whole_number_for_a_float_is_the_same_plan() -> None:
    whole, plan = (
        Plan((hooks.During(hooks.BiasAttention(factor=4), start=2),)),
        Plan((hooks.During(hooks.BiasAttention(factor=4.0), start=2),)),
    )
    assert whole == plan == Plan.from_data(whole.to_data())
    assert len({whole, plan}) == 1
    assert whole.fingerprint == plan.fingerprint
    assert brief(hooks.BiasAttention(factor=10)) == brief(hooks.BiasAttention(factor=10.0)) == "BiasAttention()"


def test_a_plan_is_attached_in_order() -> None:
    model = toy(attention="linear")
    tokens = tokens_for(model)
    pair = (hooks.BiasAttention(factor=3.0), hooks.FixAttention())
    with intervening(model, *pair):
        expected = model(tokens)
    with intervening(model, *Plan(pair)):
        assert torch.equal(model(tokens), expected)


def test_brief() -> None:
    assert brief(hooks.BiasAttention()) == "BiasAttention()"
    assert brief(hooks.FreezeWeights(len)) == "FreezeWeights(<len>)"
    assert brief(hooks.PatchAttention(toy())) == "PatchAttention(<ToyDecoder>)"
    assert brief(hooks.When(hooks.BiasAttention(), "loss < 2")) == "When(BiasAttention(), condition='loss < 2')"
