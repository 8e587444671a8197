import pytest
import torch
from every_hook import llama
from hook_cases import gpt_neox, toy

from plateau_interp.checks import listed, nearest
from plateau_interp.interventions.hook_points import (
    attention_points,
    check_positions,
    head_count,
    output_cap,
    positions_within,
    resolve_heads,
    resolve_hook_points,
    resolve_indices,
)


def test_names_and_patterns_in_the_order_asked_for() -> None:
    model = toy(n_layers=2)
    both = ("blocks.0.hook_mlp_out", "blocks.1.hook_mlp_out")
    assert resolve_hook_points(model, "blocks.*.hook_mlp_out") == both
    assert resolve_hook_points(model, ["blocks.1.hook_mlp_out", "*.hook_mlp_out", "hook_embed"]) == (
        *both[::-1],
        "hook_embed",
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "blocks.0.attn.hook_patern",
            "no hook point 'blocks.0.attn.hook_patern'; the nearest are blocks.0.attn.hook_pattern",
        ),
        ("blocks.5.*", r"no hook point 'blocks.5.\*'"),
        ("zzz", "no hook point 'zzz'; there are hook_embed, hook_pos_embed"),
    ],
)
def test_what_does_not_exist_is_an_error_with_near_names(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolve_hook_points(toy(), name)


@pytest.mark.parametrize("model", [toy(), gpt_neox()], ids=["toy", "rotary"])
def test_what_is_refused_is_exactly_what_never_fires(model) -> None:
    fired = set(model.run_with_cache(model.W_E.new_zeros(1, 3).long())[1])
    for name in model.hook_dict:
        if name in fired:
            assert resolve_hook_points(model, name) == (name,)
        else:
            with pytest.raises(ValueError, match=f"'{name}' does not fire while cfg.use_"):
                resolve_hook_points(model, name)


@pytest.mark.parametrize(
    ("flag", "points"),
    [
        ("attn_result", ["attn.hook_result"]),
        ("split_qkv_input", ["hook_q_input", "hook_k_input", "hook_v_input"]),
        ("attn_in", ["hook_attn_in"]),
        ("hook_mlp_in", ["hook_mlp_in"]),
    ],
)
def test_the_remedy_in_the_message_works(flag: str, points: list[str]) -> None:
    model = toy()
    for point in points:
        with pytest.raises(ValueError, match=rf"call model.set_use_{flag}\(True\) first"):
            resolve_hook_points(model, f"blocks.0.{point}")
    getattr(model, f"set_use_{flag}")(True)
    fired = model.run_with_cache(model.W_E.new_zeros(1, 3).long())[1]
    for point in points:
        assert resolve_hook_points(model, f"blocks.0.{point}") == (f"blocks.0.{point}",)
        assert f"blocks.0.{point}" in list(fired)


def test_indices() -> None:
    assert resolve_indices("head", None, 3) == (0, 1, 2)
    assert resolve_indices("head", [2, 0], 3) == (2, 0)
    with pytest.raises(ValueError, match="there is no head 3: the model has 0 to 2; the nearest is 2"):
        resolve_indices("head", [0, 3], 3)
    with pytest.raises(ValueError, match="there is no layer -2: the model has 0 to 2; the nearest is 0"):
        resolve_indices("layer", [-2], 3)
    with pytest.raises(ValueError, match="no row is given; leave the argument out to mean every row"):
        resolve_indices("row", [], 3)


def test_keys_and_values_that_heads_share_have_heads_of_their_own() -> None:
    model = llama()
    assert resolve_heads(model, "blocks.0.attn.hook_k", None) == (0, 1)
    assert resolve_heads(model, "blocks.0.attn.hook_q", None) == (0, 1, 2, 3)
    with pytest.raises(ValueError, match="there is no key/value head 2: the model has 0 to 1"):
        resolve_heads(model, "blocks.0.attn.hook_v", [2])
    with pytest.raises(ValueError, match="there is no head 4: the model has 0 to 3"):
        resolve_heads(model, "blocks.0.attn.hook_z", [4])


def test_ungrouped_keys_and_values_have_a_head_for_each_query_head() -> None:
    model = llama()
    model.set_ungroup_grouped_query_attention(True)
    _, cache = model.run_with_cache(torch.tensor([[1, 2, 3]]))
    for kind in ("hook_q", "hook_k", "hook_v", "hook_z"):
        assert head_count(model, f"blocks.0.attn.{kind}") == cache[f"blocks.0.attn.{kind}"].shape[2] == 4
    assert resolve_heads(model, "blocks.0.attn.hook_v", [3]) == (3,)


def test_positions_count_from_both_ends() -> None:
    check_positions("row", [0, 7, -1, -8], 8)
    with pytest.raises(ValueError, match="there is no row 8: the model has 0 to 7; the nearest is 7"):
        check_positions("row", [8], 8)
    with pytest.raises(ValueError, match="there is no key -9: from the end the model has -1 to -8; the nearest is -8"):
        check_positions("key", [0, -9], 8)
    with pytest.raises(ValueError, match="no position is given"):
        check_positions("position", [], 8)


def test_positions_within_a_forward() -> None:
    assert positions_within([0, 3, 5], start=0, stop=4) == [0, 3]
    assert positions_within([-1, -3, 0], start=2, stop=4) == [1]  # of four positions, the last two are shown
    assert positions_within([-5], start=0, stop=4) == []  # a sequence too short to have it


def test_points_of_attention() -> None:
    model = toy(n_layers=2, attention="softmax")
    points = {"blocks.0.attn.hook_attn_scores": 0, "blocks.1.attn.hook_attn_scores": 1}
    assert attention_points(model, None, "scores") == points
    assert attention_points(model, [1]) == {"blocks.1.attn.hook_pattern": 1}
    with pytest.raises(ValueError, match="there is no layer 2"):
        attention_points(model, [2])


def test_words_for_messages() -> None:
    assert nearest("attention", ["attentions", "mlp"]) == "the nearest is attentions"
    assert nearest("qqq", ["a", "b"]) == "there are a, b"
    assert listed(list("abcdef")) == "a, b, c, d and 2 more"
    assert listed(list("abcd")) == "a, b, c, d"


@pytest.mark.parametrize(("said", "cap"), [(None, None), (-1.0, None), (0.0, None), (0.5, 0.5), (30, 30.0)])
def test_a_cap_of_the_logits_is_a_positive_number_or_none(said: float | None, cap: float | None) -> None:
    model = toy()
    model.cfg.output_logits_soft_cap = said
    assert output_cap(model) == cap
