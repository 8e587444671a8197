"""plateau_interp.cli.words: a plug-in as one word, read and written."""

import re

import pytest

from plateau_interp.cli.words import read_plugin, write_plugin
from plateau_interp.hooks import BiasAttention, During, FixAttention, FreezeWeights, PatchAttention
from plateau_interp.tasks import MovingWindowSum
from plateau_interp.training.optimizers import SGD, Adam


@pytest.mark.parametrize(
    ("kind", "word", "value"),
    [
        ("optimizers", "adam", Adam()),
        ("optimizers", "sgd:learning_rate=1e-3,momentum=0.9", SGD(learning_rate=1e-3, momentum=0.9)),
        ("optimizers", "sgd:learning-rate=1", SGD(learning_rate=1)),
        ("tasks", "moving-window-sum:n=8,high=null", MovingWindowSum(n=8)),
    ],
)
def test_words_are_read_as_plugins(kind, word, value):
    assert read_plugin(kind, word) == value


def test_values_are_lists_text_and_other_plugins():
    bias = read_plugin("hooks", "bias-attention:layers=[0,1],factor=2")
    assert (bias.layers, bias.factor) == ((0, 1), 2)
    assert read_plugin("hooks", "freeze-weights:where=attention map").where == "attention map"
    during = read_plugin("hooks", 'during:intervention={"name": "bias-attention", "factor": 3},start=5')
    assert isinstance(during.intervention, BiasAttention)
    assert (during.intervention.factor, during.start) == (3, 5)
    word = 'during:start=5,intervention="bias-attention:factor=3,layers=[0]"'
    assert repr(read_plugin("hooks", word)) == repr(During(BiasAttention(factor=3.0, layers=[0]), start=5))
    word = "during:intervention=fix-attention,stop=2"
    assert repr(read_plugin("hooks", word)) == repr(During(FixAttention(), stop=2))
    with pytest.raises(ValueError, match=r"^during\.intervention: expected an intervention as .*; got 5"):
        read_plugin("hooks", "during:intervention=5")
    for path in ('"runs/n=4,k=2@6"', "runs/n4,7@6", "[runs]@6"):
        patch = read_plugin("hooks", f"patch-attention:source={path},heads= [1]")
        assert (patch.source, patch.heads) == (path.strip('"'), (1,))


@pytest.mark.parametrize(
    ("listed", "names"),
    [
        ("[blocks.0.hook_resid_post]", ("blocks.0.hook_resid_post",)),
        ("[blocks.0.hook_mlp_out, blocks.1.hook_mlp_out]", ("blocks.0.hook_mlp_out", "blocks.1.hook_mlp_out")),
        ('["blocks.0.hook_mlp_out"]', ("blocks.0.hook_mlp_out",)),
    ],
)
@pytest.mark.parametrize("rest", ["", ",every=2"])
def test_names_within_a_list_need_no_quotes(listed, names, rest):
    capture = read_plugin("hooks", f"capture:out=runs/x,names={listed}{rest}")
    assert (capture.names, capture.out, capture.every) == (names, "runs/x", 2 if rest else 1)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("optimizers", SGD(momentum=0.5)),
        ("hooks", BiasAttention(factor=2.0, layers=[0])),
        ("hooks", During(FreezeWeights("mlp"), start=3)),
        ("hooks", PatchAttention(source="runs/n=4,k=2@6", heads=[0])),
    ],
)
def test_what_is_written_is_read_as_the_same(kind, value):
    word = write_plugin(kind, value)
    assert write_plugin(kind, read_plugin(kind, word)) == word
    assert repr(read_plugin(kind, word)) == repr(value)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("sgd:momentum", "'sgd:momentum': expected NAME or NAME:FIELD=VALUE,FIELD=VALUE,..."),
        ("sgd:momentun=1", "sgd.momentun: unknown field; the nearest is momentum"),
        ("sgd:momentum=much", "sgd.momentum: expected a number; got 'much'"),
        ("sgd:momentum=1,momentum=2", "'sgd:momentum=1,momentum=2': momentum is given twice"),
        ("sgd:learning_rate=-1", "sgd: learning_rate must be a positive number; got -1"),
        ("sgdd", "no optimizer is called 'sgdd'; the nearest is sgd; see `plateau list optimizers`"),
    ],
)
def test_words_that_do_not_fit(word, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        read_plugin("optimizers", word)
