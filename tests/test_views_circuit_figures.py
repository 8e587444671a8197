from typing import Any

import pytest
import torch
from matplotlib.patches import PathPatch
from typecheck import unchecked

from plateau_interp.analysis.circuits import Circuit
from plateau_interp.views.circuit_figures import Part, circuit_figure, circuit_graph, graphviz, placed_parts
from plateau_interp.views.theme import DARK, LIGHT, Theme


def found(
    scores: Any = None, *, n_layers: int = 1, n_heads: int = 2, shared: bool = False, n_roles: int = 1
) -> Circuit:
    """Of a model of that shape, with scores that fall, and change sign, from edge to edge."""
    writers, readers, upstream = ["embed", "pos_embed"], [], []
    for layer in range(n_layers):
        heads = [f"L{layer}H{head}" for head in range(n_heads)]
        keys = [f"L{layer}KV0"] if shared else heads
        for letter, names in (("q", heads), ("k", keys), ("v", keys)):
            readers += [f"{name}.{letter}" for name in names]
            upstream += [len(writers)] * len(names)
        writers += heads
        readers.append(f"MLP{layer}")
        upstream.append(len(writers))
        writers.append(f"MLP{layer}")
    readers.append("logits")
    upstream.append(len(writers))
    matrix = torch.full((len(writers), len(readers), n_roles), float("nan"))
    for reader, n in enumerate(upstream):
        matrix[:n, reader] = 1.0
    exists = ~matrix.isnan()
    n_edges = int(exists.sum())
    matrix[exists] = (-1.0) ** torch.arange(n_edges) / (1 + torch.arange(n_edges)) if scores is None else scores
    roles = tuple(f"role {role}" for role in range(n_roles))
    positions = torch.ones(n_roles, 3, dtype=torch.bool)
    how: Any = ("exact", "zero", "live", 1.0, 0.0, 4)
    return Circuit(tuple(writers), tuple(readers), roles, matrix, *how, positions)


def edges_of(figure: Any) -> list[PathPatch]:
    return [patch for patch in figure.axes[0].patches if isinstance(patch, PathPatch)]


def boxes_of(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts if text.get_bbox_patch() is not None]


def test_parts_stand_where_they_act() -> None:
    assert placed_parts(found()) == [
        Part("embed", 0, -0.5),
        Part("pos_embed", 0, 0.5),
        Part("L0H0", 1, -0.5),
        Part("L0H1", 1, 0.5),
        Part("MLP0", 2, 0.0),
        Part("logits", 3, 0.0),
    ]
    rows = {part.name: part.row for part in placed_parts(found(n_layers=2, shared=True))}
    assert rows["embed"] < rows["L0KV0"] < rows["L0H1"] < rows["MLP0"] < rows["L1KV0"] < rows["L1H0"] < rows["logits"]
    only = placed_parts(found(n_layers=12), names=["embed", "L11H0", "logits"])
    assert [(part.name, part.row) for part in only] == [("embed", 0), ("L11H0", 1), ("logits", 2)]


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_width_and_colour_are_the_score(theme: Theme) -> None:
    import matplotlib.colors

    circuit = found()
    figure = circuit_figure(circuit, n=3, title="a title", theme=theme)
    drawn = edges_of(figure)
    scores = circuit.table().score.head(3).tolist()[::-1]
    assert [patch.get_linewidth() for patch in drawn] == pytest.approx([0.4 + 4.6 * abs(score) for score in scores])
    colours = [matplotlib.colors.to_hex(patch.get_edgecolor()) for patch in drawn]
    assert colours == [theme.accent if score < 0 else theme.other for score in scores]
    assert figure.axes[0].get_title(loc="left") == "a title"
    assert figure.axes[0].get_xlabel() == f"3 of {circuit.n_edges} edges\nexact, zero, norms live, 4 sequences"


def test_every_part_of_a_small_model_is_there_and_of_a_large_one_those_with_an_edge() -> None:
    assert len(boxes_of(circuit_figure(found(), n=1))) == 6
    large = circuit_figure(found(n_layers=30, n_heads=9), n=5)
    assert len(boxes_of(large)) < 12
    assert large.get_size_inches().max() < 12


def test_edges_of_no_weight_take_no_side() -> None:
    import matplotlib.colors

    drawn = edges_of(circuit_figure(found(scores=0.0)))
    assert {matplotlib.colors.to_hex(patch.get_edgecolor()) for patch in drawn} == {LIGHT.muted}


def test_inputs_of_heads_are_told_apart() -> None:
    figure = circuit_figure(found())
    letters = [text.get_text() for text in figure.axes[0].texts if text.get_bbox_patch() is None]
    assert set(letters) == {"q", "k", "v"}


def test_edges_of_roles_are_told_apart_and_named() -> None:
    def told(figure: Any) -> list[str]:
        return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]

    assert told(circuit_figure(found())) == ["raises the metric", "lowers it"]
    by_role = circuit_figure(found(n_roles=3), n=12)
    assert told(by_role) == ["raises the metric", "lowers it", "role 0", "role 1", "role 2"]
    drawn = edges_of(by_role)
    paths = {tuple(map(tuple, patch.get_path().vertices.tolist())) for patch in drawn}
    assert len(paths) == len(drawn) == 12  # none lies on another
    role = {str(patch.get_linestyle()) for patch in drawn}
    assert len(role) == len(set(found(n_roles=3).table().head(12).role))


def test_a_graph_has_the_edges_and_their_scores() -> None:
    circuit = found(n_roles=2)
    graph = circuit_graph(circuit)
    assert graph.number_of_edges() == circuit.n_edges
    assert sorted(data["score"] for *_, data in graph.edges(data=True)) == sorted(circuit.table().score)
    assert {data["input"] for *_, data in graph.in_edges("L0H0", data=True)} == {"q", "k", "v"}
    assert {data["role"] for *_, data in graph.edges(data=True)} == {"role 0", "role 1"}
    assert circuit_graph(circuit, n=2).number_of_edges() == 2
    assert graph.nodes["logits"]["row"] == 3


def test_graphviz_reads_it() -> None:
    text = graphviz(found(n_roles=2), n=2)
    assert text.startswith("digraph circuit {\n  rankdir=BT;")
    assert text.count("->") == 2
    assert '"embed" -> "L0H0" [label="q, role 0", penwidth=5.00, color="#c2410c", tooltip="1"];' in text


def test_what_is_no_circuit_or_too_much_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a Circuit, as circuit"):
        unchecked(circuit_figure)("circuit")
    with pytest.raises(ValueError, match="n must be at most"):
        circuit_figure(found(), n=10_000)
