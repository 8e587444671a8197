from plateau_interp.tasks import MatrixCompletion, MovingWindowSum
from plateau_interp.views.panels import COSINE, Panel, limits, loss_panels, panel, parts


def test_a_column_is_drawn_under_its_title_or_its_own_name() -> None:
    assert panel("cosine@blocks.0.hook_attn_out").title == "Cosine at blocks.0.hook_attn_out"
    assert panel("cosine@blocks.0.hook_attn_out").limits == panel("cosine").limits
    assert panel("accuracy_2").title == "Accuracy of answer 3"
    assert (panel("my_own_column").title, panel("my_own_column").unit) == ("My own column", "")
    assert panel("loss", {"loss": Panel("Mine", "bits")}) == Panel("Mine", "bits")


def test_a_loss_is_in_the_unit_of_its_tasks() -> None:
    both = [MatrixCompletion(), MovingWindowSum()]
    assert panel("loss", loss_panels(both[:1])).unit == "mean square"
    assert panel("loss", loss_panels(both[1:])) == panel("loss", loss_panels([])) == panel("loss")
    assert panel("loss", loss_panels(both)).unit == f"mean square or {MovingWindowSum.unit}"
    assert panel("loss", loss_panels(both)).title == panel("loss").title


def test_an_axis_has_room_for_what_is_below_it() -> None:
    assert limits(Panel("x", ""), [3.0]) is None
    assert limits(Panel("x", "", COSINE), [0.5]) == COSINE
    assert limits(Panel("x", "", COSINE), [-1.0]) == (-1.05, COSINE[1])


def test_parts_are_layers_heads_and_groups() -> None:
    progress = ["attention_progress", "attention_progress_0", "attention_progress_1", "accuracy_0"]
    assert parts(progress, "attention_progress") == {"layer 0": progress[1], "layer 1": progress[2]}
    assert parts(["x", "x_0_1", "y_0_1"], "x") == {"layer 0, head 1": "x_0_1"}
    assert parts(["loss", "loss_sum", "accuracy_sum", "accuracy_0"], "accuracy") == {"sum": "accuracy_sum"}
