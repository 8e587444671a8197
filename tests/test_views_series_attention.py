"""Attention of a series: what a view has, what a report shows where not all has room, and what is left out and told."""

import html
import re

import numpy as np
import pytest
import torch
from measured_series import PROMPTS, measured_series

from plateau_interp.series.attention import KeptAttention
from plateau_interp.series.folder import SeriesError
from plateau_interp.views import attention_view, series_attention, series_report
from plateau_interp.views.saving import report_mark
from plateau_interp.views.series_attention import attention_section, series_attention_view
from plateau_interp.views.series_report import write_series_report

TOKENS = ("Why", " is", " it")
STEPS = (0, 1, 2, 8)


def kept(seed, *, layers=2, heads=3, tokens=TOKENS):
    generator = torch.Generator().manual_seed(seed)
    return KeptAttention(tokens, torch.rand(layers, heads, len(tokens), len(tokens), generator=generator).tril())


def folder(path, *, steps=STEPS, attention=None, **options):
    cosines = {step: 0.9 if step == 2 else 0.1 + step / 100 for step in steps}
    return measured_series(
        path, cosines, attention={step: kept(step) for step in steps} if attention is None else attention, **options
    )


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    monkeypatch.setattr(series_report, "page_picture", lambda draw, name: ("<svg></svg>", report_mark(name).encode()))


def specs(page):
    """The views of a page, as plain data."""
    import json

    return [json.loads(found) for found in re.findall(r"plateauViews=.*?\.push\((.*?)\)</script>", page)]


def test_a_view_of_a_layer_through_the_checkpoints(tmp_path):
    series = folder(tmp_path / "series", interventions=("ablate-heads",))
    view = attention_view(series, layer=1, heads=[0, 2], steps=STEPS)
    (reading,) = view.readings
    assert (view.steps, view.heads, reading.tokens) == (STEPS, ("head 0", "head 2"), TOKENS)
    for index, step in enumerate(STEPS):
        assert np.allclose(reading.values[index], kept(step).patterns[1, [0, 2]].numpy())
    assert view.title == "someone/model: attention through pretraining, layer 1"
    assert f"On the first 3 tokens of “{PROMPTS[0]}”, under the interventions of the series," in view.note
    assert (view.curve["step"], view.curve["log"]) == (list(STEPS), True)
    assert view.curve["values"] == pytest.approx([0.1, 0.11, 0.9, 0.18])
    assert attention_view(series).steps == (8,)
    assert attention_view(series).curve is None
    assert [reading.name for reading in series_attention_view(series).readings] == ["layer 0", "layer 1"]


def test_duplicates_are_no_data_and_what_was_not_kept_is_told(tmp_path):
    series = folder(tmp_path / "series", same=(0, 1), attention={step: kept(step) for step in (0, 1, 2)})
    assert attention_view(series).steps == (2,)
    for step in (0, 8):
        with pytest.raises(ValueError, match=f"there is no attention kept of step {step}; the nearest is 2"):
            attention_view(series, steps=[step])
    with pytest.raises(ValueError, match="old has no attention of a checkpoint that is data: none was kept"):
        attention_view(folder(tmp_path / "old", attention={}))
    with pytest.raises(ValueError, match="of a series attention is shown on its first prompt"):
        attention_view(series, "Why?")
    with pytest.raises(ValueError, match="there is no layer 2: the model has 0 to 1"):
        attention_view(series, layer=2)
    (series.path / "attention" / "2.safetensors").unlink()
    with pytest.raises(SeriesError, match=r"2\.safetensors is missing"):
        attention_view(series)


def test_checkpoints_that_read_the_prompt_otherwise_are_refused(tmp_path):
    other = {**{step: kept(step) for step in STEPS}, 1: kept(1, tokens=("W", "hy", " is"))}
    series = folder(tmp_path / "series", attention=other)
    with pytest.raises(ValueError, match="step 1 reads the prompt as other tokens than step 8"):
        attention_view(series, steps=[1, 2, 8])


def test_a_report_has_every_layer_and_checkpoint_where_there_is_room(tmp_path):
    page = write_series_report(folder(tmp_path / "series")).read_text()
    (spec,) = specs(page)
    assert spec["steps"] == list(STEPS)
    assert [reading["name"] for reading in spec["readings"]] == ["layer 0", "layer 1"]
    assert page.count("CircuitsVis=(()") == 1
    assert "<h2>Attention</h2>" in page
    assert " are shown" not in page


def test_a_report_of_a_series_without_attention_has_none(tmp_path):
    page = write_series_report(folder(tmp_path / "series", attention={})).read_text()
    assert "<h2>Attention</h2>" not in page
    assert len(page) < 100_000


@pytest.mark.parametrize(
    ("room", "layers", "steps", "told"),
    [
        (2 * 4 * 27, ["layer 0", "layer 1"], [0, 1, 2, 8], ""),
        (
            2 * 4 * 27 - 1,
            ["layer 1"],
            [0, 1, 2, 8],
            "Of 2 layers 1 is shown; attention_view(series, layer=...) shows any.",
        ),
        (2 * 27, ["layer 1"], [2, 8], "2 of 4 checkpoints are shown."),
        (27, ["layer 1"], [8], "1 of 4 checkpoints are shown."),
    ],
)
def test_layers_then_checkpoints_are_left_out_for_want_of_room(tmp_path, monkeypatch, room, layers, steps, told):
    monkeypatch.setattr(series_attention, "MAX_VALUES", room)
    section, remarks = attention_section({"a": folder(tmp_path / "series")})
    (spec,) = specs(section)
    assert [reading["name"] for reading in spec["readings"]] == layers
    assert spec["steps"] == steps
    assert told in " ".join(remarks)
    assert bool(remarks) == bool(told)


def test_what_cannot_be_shown_is_left_out_and_told(tmp_path):
    broken = {**{step: kept(step) for step in STEPS}, 1: kept(1, tokens=("W", "hy", " is")), 2: kept(2)}
    broken[2].patterns[0, 0, 0, 0] = torch.nan
    section, remarks = attention_section({"a": folder(tmp_path / "series", attention=broken)})
    assert specs(section)[0]["steps"] == [0, 8]
    assert remarks == ["Not shown is step 1, 2: no finite numbers, or other tokens."]
    nothing = {8: kept(8)}
    nothing[8].patterns.fill_(torch.inf)
    section, remarks = attention_section({"a": folder(tmp_path / "nothing", attention=nothing)})
    assert section == ""
    assert remarks == ["Not shown is step 8: no finite numbers, or other tokens."]


def test_two_series_are_side_by_side_and_a_third_is_not(tmp_path):
    three = {name: folder(tmp_path / name, source=f"a/{name}") for name in ("14m", "70m", "160m")}
    page = write_series_report(list(three.values()), tmp_path / "all").read_text()
    assert [spec["title"] for spec in specs(page)] == [
        f"a/{name}: attention through pretraining" for name in ("14m", "70m")
    ]
    assert len({spec["group"] for spec in specs(page)}) == 1
    old = folder(tmp_path / "old", attention={})
    section, remarks = attention_section({"old": old, **three})
    assert len(specs(section)) == 2
    assert remarks[0] == f"A page has room for the attention of 2 series: {[*three][2]} left out."


def test_series_of_one_model_are_told_apart(tmp_path):
    two = [folder(tmp_path / name / "series", source="a/model", interventions=("ablate-heads",)) for name in "xy"]
    page = write_series_report(two, tmp_path / "both").read_text()
    assert [spec["title"] for spec in specs(page)] == [f"{each.path}: attention through pretraining" for each in two]
    assert all(f"Under ablate-heads, in {each.path}." in html.unescape(page) for each in two)


def test_tokens_and_prompts_are_text(tmp_path):
    hostile = "</script><img src=x onerror=alert(1)>"
    series = folder(
        tmp_path / "series",
        prompts=(hostile,),
        source=hostile,
        attention={step: kept(step, tokens=(hostile, "b", "c")) for step in STEPS},
    )
    page = write_series_report(series).read_text()
    assert "<img src=x" not in page.replace('<img class="pv-still"', "")
    assert specs(page)[0]["readings"][0]["tokens"][0] == hostile
    assert hostile in html.unescape(page)
