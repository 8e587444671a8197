from typing import Any

import pytest
import torch
from test_analysis_circuits import EDITS_OF_GRADIENTS, KINDS, SHAPES, host_model, linear, metric, model_of, pair

from plateau_interp.analysis.direct_attribution import direct_attribution
from plateau_interp.hooks import CosinePenalty
from plateau_interp.interventions.attaching import intervening


@pytest.mark.parametrize(("attention", "n_layers"), KINDS)
def test_parts_add_up_to_the_metric(attention: str, n_layers: int) -> None:
    model = model_of(attention, n_layers)
    tokens, _ = pair()
    found = direct_attribution(model, tokens, linear)
    assert found.metric == pytest.approx(linear(model(tokens)).item(), abs=1e-12)
    assert found.parts.sum() == pytest.approx(found.metric, abs=1e-10)
    assert abs(found.rest) < 1e-10
    assert list(found.parts.index[-2:]) == [f"MLP{n_layers - 1}", "biases"]


@pytest.mark.parametrize("shape", SHAPES)
def test_parts_add_up_in_other_models(shape: str) -> None:
    model = host_model(**SHAPES[shape])
    tokens, _ = pair()
    assert abs(direct_attribution(model, tokens, linear).rest) < 1e-10


def test_a_part_is_what_is_missing_without_it_while_the_norm_divides_as_before() -> None:
    model = model_of("linear", 1)
    tokens, _ = pair()
    found = direct_attribution(model, tokens, linear)
    _, cache = model.run_with_cache(tokens)
    scale = cache["ln_final.hook_scale"]
    point = f"blocks.{model.cfg.n_layers - 1}.hook_resid_post"

    def without(act: torch.Tensor, hook: Any) -> torch.Tensor:
        return act - cache["blocks.0.hook_mlp_out"]

    with model.hooks(fwd_hooks=[(point, without), ("ln_final.hook_scale", lambda act, hook: scale)]):
        less = linear(model(tokens)).item()
    assert found.parts["MLP0"] == pytest.approx(found.metric - less, abs=1e-10)


def test_a_metric_that_is_not_linear_is_refused() -> None:
    model = model_of("linear", 1)
    tokens, _ = pair()
    with pytest.raises(ValueError, match=r"the parts add up to .* the metric must be linear in the logits"):
        direct_attribution(model, tokens, lambda logits: 5 * metric(logits))
    with pytest.raises(ValueError, match="the metric cannot be differentiated"):
        direct_attribution(model, tokens, lambda logits: logits.argmax().item())


def test_it_says_what_is_left_over() -> None:
    tokens, _ = pair()
    words = repr(direct_attribution(model_of("linear", 1), tokens, linear))
    assert words.startswith("DirectAttribution of ")
    assert "to 6 parts" in words


@pytest.mark.parametrize("edits", [EDITS_OF_GRADIENTS[1], (CosinePenalty(1.0, at="ln_final.hook_normalized"),)])
def test_edits_of_gradients_change_no_part_and_do_not_count_it(edits: Any) -> None:
    model = model_of("linear", 2)
    tokens, _ = pair()
    plain = direct_attribution(model, tokens, linear)
    with intervening(model, *edits) as receipts:
        linear(model(tokens)).backward()
        fired = [receipt.fired for receipt in receipts]
        found = direct_attribution(model, tokens, linear)
        assert [receipt.fired for receipt in receipts] == fired
    assert found.parts.to_dict() == plain.parts.to_dict()
