"""plateau_interp.hooks.named_maps: maps of attention that recipes and the command line can hold."""

import pytest
import torch
from hook_cases import cached_logits, gpt_neox, padded, recheck, tokens_for, toy

from plateau_interp.cli.words import read_plugin
from plateau_interp.hooks import BiasAttention, FixAttention, MaskAttention
from plateau_interp.hooks.named_maps import NAMED_MAPS, last_occurrence, previous_token
from plateau_interp.interventions.attaching import intervening
from plateau_interp.runs.identity import recipe_digest
from plateau_interp.runs.recipe import Recipe
from plateau_interp.tasks import MovingWindowSum


def slowly(name, tokens):
    found = torch.zeros(len(tokens), tokens.shape[1], tokens.shape[1], dtype=torch.bool)
    for sequence, row in enumerate(tokens.tolist()):
        for query, token in enumerate(row):
            if name == "previous token":
                places = [query - 1] if query else []
            else:
                places = [key for key in range(query) if row[key] == token][-1:]
            for key in places:
                found[sequence, query, key] = True
    return found


@pytest.mark.parametrize("name", NAMED_MAPS)
def test_the_maps_are_what_a_loop_says(name):
    tokens = torch.randint(0, 4, (5, 12), generator=torch.Generator().manual_seed(0))
    found = NAMED_MAPS[name](tokens, 1)
    assert torch.equal(found.expand(5, -1, -1), slowly(name, tokens))
    assert found.dtype == torch.bool


def test_a_token_that_is_new_and_the_first_row_have_no_target():
    tokens = torch.tensor([[1, 2, 3, 1]])
    assert last_occurrence(tokens, 0).sum(dim=-1).tolist() == [[0, 0, 0, 1]]
    assert previous_token(tokens, 0).sum(dim=-1).tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize("name", NAMED_MAPS)
@pytest.mark.parametrize("edit", [FixAttention, BiasAttention, MaskAttention])
def test_a_name_means_the_function_of_that_name(edit, name):
    model = gpt_neox()
    tokens = tokens_for(model)
    with intervening(model, edit(targets=NAMED_MAPS[name])):
        by_function, padded_by_function = model(tokens), model(tokens, attention_mask=padded(tokens))
    with intervening(model, edit(targets=name)):
        assert torch.equal(model(tokens), by_function)
        assert torch.equal(model(tokens, attention_mask=padded(tokens)), padded_by_function)
    assert not torch.equal(model(tokens), by_function)


@pytest.mark.parametrize("name", NAMED_MAPS)
def test_under_a_cache_it_is_the_same(name):
    model = toy(attention="softmax")
    tokens = tokens_for(model)
    with intervening(model, FixAttention(targets=name)):
        assert torch.allclose(cached_logits(model, tokens), model(tokens), atol=1e-5)


def test_a_recipe_and_the_command_line_hold_it():
    recipe = Recipe(MovingWindowSum(), interventions=[BiasAttention(2.0, targets="last occurrence", at="scores")])
    again = Recipe.from_json(recipe.to_json())
    assert again.interventions[0].targets == "last occurrence"
    assert recipe_digest(again) == recipe_digest(recipe) != recipe_digest(Recipe(MovingWindowSum()))
    assert read_plugin("hooks", "fix-attention:targets=previous token,layers=[0]").targets == "previous token"


def test_another_name_is_refused_with_those_there_are():
    edit = FixAttention()
    with pytest.raises(ValueError, match="targets must be one of previous token, last occurrence; got 'previous'"):
        recheck(edit, targets="previous")
