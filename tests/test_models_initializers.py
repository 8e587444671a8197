"""Initializers of whole models, what they leave alone, and how recipes and the command line name them."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from drawn_models import TASK, biased, parameters
from filled import FilledNumbers
from hook_cases import recheck
from torch import Tensor
from typecheck import unchecked

from plateau_interp import ModelOptions, Recipe, RecipeError, toy_model
from plateau_interp.cli.main import main
from plateau_interp.cli.options import read_training
from plateau_interp.models.initializers import Initializer, PaperDraw, PyTorchDefault, Scaled, initialise_
from plateau_interp.models.matrix_draws import Dense, LowRank, Small, Sparse
from plateau_interp.plugins import plugin, plugins
from plateau_interp.runs.identity import recipe_digest
from plateau_interp.tasks import MovingWindowSum

ALL = [Dense(), LowRank(), PaperDraw(), PyTorchDefault(), Scaled(0.5), Small(), Sparse()]


PAPERS = parameters()


# By hand, of width 128: sqrt(6 / (128 + 384)), 1 / sqrt(128), 1 / sqrt(512).
BOUNDS = {
    **dict.fromkeys((f"blocks.{layer}.attn.W_{part}" for layer in (0, 1) for part in "QKV"), 0.10825),
    **dict.fromkeys((f"blocks.{layer}.attn.W_O" for layer in (0, 1)), 0.08839),
    **dict.fromkeys((f"blocks.{layer}.mlp.{part}" for layer in (0, 1) for part in ("W_in", "b_in")), 0.08839),
    **dict.fromkeys((f"blocks.{layer}.mlp.{part}" for layer in (0, 1) for part in ("W_out", "b_out")), 0.04419),
    "unembed.W_U": 0.08839,
}


def test_pytorch_s_own_draw_of_every_tensor():
    for name, value in biased(PyTorchDefault()).items():
        value = value.double()
        if name == "unembed.b_U":
            assert (value == 1).all()  # never trained
        elif name in ("embed.W_E", "pos_embed.W_pos"):
            assert value.std().item() == pytest.approx(1.0, rel=0.1), name
        elif name in BOUNDS:
            assert value.abs().max().item() == pytest.approx(BOUNDS[name], rel=0.05), name
            assert value.abs().max().item() <= BOUNDS[name] * 1.0001, name
            assert value.std().item() == pytest.approx(BOUNDS[name] / math.sqrt(3), rel=0.15), name
        else:
            assert (value == (1.0 if name.endswith(".w") else 0.0)).all(), name


def test_pytorch_s_own_draw_is_that_of_its_layers():
    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(128, 4, 512)
    drawn = {
        "blocks.0.attn.W_Q": layer.self_attn.in_proj_weight,
        "blocks.0.attn.W_O": layer.self_attn.out_proj.weight,
        "blocks.0.mlp.W_in": layer.linear1.weight,
        "blocks.0.mlp.b_out": layer.linear2.bias,
        "unembed.W_U": torch.nn.Linear(128, 99).weight,
    }
    for name, theirs in drawn.items():
        assert theirs.abs().max().item() == pytest.approx(BOUNDS[name], rel=0.06), name
    assert not layer.self_attn.in_proj_bias.any()
    assert not layer.self_attn.out_proj.bias.any()


def test_scaled_multiplies_what_is_meant():
    after = parameters(Scaled(0.5, where="embedding tables"), Scaled(0.0, where="*.b_*"))
    for name, value in after.items():
        factor = 0.5 if name in ("embed.W_E", "pos_embed.W_pos") else 0.0 if ".b_" in name else 1.0
        assert torch.equal(value, factor * PAPERS[name]), name
    assert all(torch.equal(value, 0.25 * PAPERS[name]) for name, value in parameters(Scaled(0.25)).items())


@pytest.mark.parametrize("task", [TASK, FilledNumbers()], ids=["decoder", "encoder"])
def test_the_paper_s_draw_comes_back_bit_for_bit(task):
    def drawn(*init: Initializer) -> dict[str, Tensor]:
        model = toy_model(task, d_model=16, n_heads=2, init=init, init_std=0.1, seed=7)
        return {name: value.detach() for name, value in model.named_parameters()}

    plain = drawn()
    for init in ([], [PaperDraw()], [PyTorchDefault(), PaperDraw()], [Scaled(3.0), PaperDraw()]):
        assert all(torch.equal(value, plain[name]) for name, value in drawn(*init).items())
    mixed = drawn(PyTorchDefault(), PaperDraw(where="mlp layers"))
    assert {name for name in plain if torch.equal(mixed[name], plain[name])} >= {
        name for name in plain if ".mlp." in name or ".ln2." in name
    }
    assert not torch.equal(mixed["embed.W_E"], plain["embed.W_E"])


def test_a_deviation_of_which_something_is_left_stays():
    for init in ([], [PaperDraw()], [PyTorchDefault(where="mlp layers")], [Scaled(0.5)]):
        model = toy_model(TASK, d_model=16, init_std=0.5, init=init)
        assert not torch.equal(model.W_Q, toy_model(TASK, d_model=16, init=init).W_Q)
    assert toy_model(TASK, d_model=16, init_std=0.02, init=[PyTorchDefault()]).init_std == 0.02


def test_drawing_leaves_the_global_random_state_alone():
    before = torch.random.get_rng_state()
    parameters(*ALL, d_model=16)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_an_embedding_that_is_never_trained_stays_0():
    task = FilledNumbers()
    model = toy_model(task, d_model=16, n_heads=2, init=[PyTorchDefault()])
    assert model.untrained == task.mask_token
    assert not model.embed.W_E[task.mask_token].any()
    initialise_(model, PyTorchDefault(), seed=1)
    assert not model.embed.W_E[task.mask_token].any()


@pytest.mark.parametrize(
    ("init", "message"),
    [
        (lambda: Scaled(-1.0), r"factor must be at least 0; got -1\.0"),
        (lambda: parameters(Scaled(1.0, where="unembed.b_U"), d_model=16), "'unembed.b_U' means no parameter that is "),
        (
            lambda: toy_model(TASK, d_model=16, init_std=0.5, init=[PyTorchDefault()]),
            r"init_std=0\.5 comes to nothing: init replaces what is drawn with it; leave it out$",
        ),
        (
            lambda: toy_model(TASK, d_model=16, init_std=0.5, init=[Scaled(3.0), Dense(), PyTorchDefault()], n_ctx=40),
            r"init_std=0\.5 comes to nothing: init replaces what is drawn with it; leave it out$",
        ),
        (
            lambda: unchecked(toy_model)(TASK, init=Dense()),
            r"init must be a list of initializers, such as \[Sparse\(0\.9\)\]; g",
        ),
        (
            lambda: unchecked(toy_model)(TASK, init=[Dense]),
            r"init must hold initializers such as Sparse\(0\.9\); got <class",
        ),
        (
            lambda: recheck(ModelOptions().resolved(TASK), init=(3,)),
            r"init must hold initializers such as Sparse\(0\.9\); got 3",
        ),
    ],
)
def test_bad_input(init, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        init()


@pytest.mark.parametrize("init", ALL, ids=repr)
def test_recipes_hold_them(init):
    recipe = Recipe(MovingWindowSum(), model=ModelOptions(init=(init, PaperDraw(where="mlp"))), seed=5)
    again = Recipe.from_json(recipe.to_json())
    assert again == recipe
    assert again.to_dict()["model"]["init"][1] == {"name": "paper", "where": "mlp"}
    assert recipe_digest(again) == recipe_digest(recipe)
    one, other = recipe.build_model(), toy_model(MovingWindowSum(), init=recipe.model.init, seed=5)
    assert all(map(torch.equal, one.parameters(), other.parameters()))


def test_a_recipe_without_any_is_the_one_it_was():
    plain = Recipe(MovingWindowSum())
    data = plain.to_dict()
    assert data["model"].pop("init") == []
    assert Recipe.from_dict(data) == plain
    other = replace(plain, model=replace(plain.model, init=(Sparse(0.9),)))
    assert recipe_digest(Recipe.from_dict(data)) == recipe_digest(plain) != recipe_digest(other)
    with pytest.raises(RecipeError, match=r"^model\.init\[0\]\.name: no initializer is called 'sprase'; the nearest "):
        Recipe.from_dict({**data, "model": {"init": [{"name": "sprase"}]}})


def test_the_command_line_names_them(capsys):
    words = ["--init", "sparse:sparsity=0.5,where=mlp", "scaled:factor=0.1,where=embed*", "--out", "x"]
    recipe, _ = read_training("moving-window-sum", words)
    assert recipe.model.init == (Sparse(0.5, where="mlp"), Scaled(0.1, where="embed*"))
    assert read_training("moving-window-sum", ["--out", "x"])[0].model.init == ()
    assert main(["train", "moving-window-sum", "--init", "sparse:sparsity=2", "--out", "x"]) == 2
    assert "sparse: sparsity must be from 0 to below 1; got 2" in capsys.readouterr().err
    assert main(["list", "initializers"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in plugins("initializers"))
    assert {type(init) for init in ALL} == {plugin("initializers", name) for name in plugins("initializers")}


@dataclass(frozen=True)
class Ones:
    """Somebody else's."""

    name: ClassVar[str] = "ones"

    def initialise_(self, model, *, seed):
        with torch.no_grad():
            model.embed.W_E.fill_(1.0)


def test_an_initializer_of_one_s_own_needs_one_method():
    assert (parameters(Ones(), d_model=16)["embed.W_E"] == 1).all()
