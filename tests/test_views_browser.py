"""Pages in a real browser with the network switched off: what is drawn, and what happens on clicks and moves.

Needs Debian's Chromium and playwright's Python package; skipped, with the command that installs them, where one is
missing. Each test fails on a console message, an error on the page or a request for anything but the page itself.
"""

import importlib.util
import shutil
from dataclasses import replace

import pandas as pd
import pytest
import torch
from long_run import Long
from measured_series import measured_series

from plateau_interp.analysis.answer_grids import GridsThroughTraining
from plateau_interp.analysis.forming import Forming, circuits
from plateau_interp.models.settings import ModelOptions
from plateau_interp.runs.recipe import Recipe
from plateau_interp.runs.run import Run
from plateau_interp.series.attention import KeptAttention
from plateau_interp.tasks import MovingWindowSum
from plateau_interp.training.settings import TrainingOptions
from plateau_interp.views import page as views_page
from plateau_interp.views.attention_views import attention_view
from plateau_interp.views.circuit_views import circuit_page, circuit_view
from plateau_interp.views.grid_views import GridView
from plateau_interp.views.page import Page, bundle, document, side_by_side
from plateau_interp.views.report import write_report
from plateau_interp.views.series_report import write_series_report

CHROMIUM = shutil.which("chromium")
INSTALL = "apt-get install chromium && pip install playwright"
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason=f"no chromium: {INSTALL}"),
    pytest.mark.skipif(importlib.util.find_spec("playwright") is None, reason=f"no playwright: {INSTALL}"),
]
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
WHITE, BLUE, RED, MASKED = (255, 255, 255), (10, 92, 158), (194, 65, 12), (238, 240, 244)
HOSTILE = "</script><img src=x onerror=alert(1)>"
MINUS = "\N{MINUS SIGN}"
DESKTOP, PHONE = (1280, 800), (390, 844)


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser):
    """Open a file, wait until its views are drawn; at the end of the test, nothing may have gone wrong or out."""
    contexts, problems, requests = [], [], []

    def open_page(path, *, size=DESKTOP, scheme="light", drawn=True):
        width, height = size
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, offline=True, has_touch=size == PHONE
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("console", lambda message: problems.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: problems.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (problems.append("dialog"), dialog.dismiss()))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(path.resolve().as_uri())
        if drawn:
            wait_until_drawn(page)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert problems == []
    assert [url for url in requests if not url.startswith(("data:", "file:///"))] == []
    assert len([url for url in requests if url.startswith("file:")]) == len(contexts)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    task = MovingWindowSum(n=4, p=5)
    recipe = Recipe(
        task, ModelOptions(d_model=16), TrainingOptions(steps=40, batch_size=32), checkpoint_every=10, seed=1
    )
    run = Run.create(tmp_path_factory.mktemp("runs") / "tiny", recipe)
    for _step in run.train():
        pass
    return run


def wait_until_drawn(page):
    page.wait_for_function(
        """() => [...document.querySelectorAll('[data-plateau-view]')].every(view => {
             if (view.querySelector('.pc-part, .pg-cell')) return true;
             const canvas = view.querySelector('.pv-cells canvas');
             if (!canvas || !canvas.width) return false;
             const copy = document.createElement('canvas');
             copy.width = copy.height = 1;
             const context = copy.getContext('2d', { willReadFrequently: true });
             context.drawImage(canvas, -canvas.width / 2, -canvas.height / 2);
             return context.getImageData(0, 0, 1, 1).data[3] > 0;
           })"""
    )


def pixel(page, query, key, *, n, canvas=".pv-cells canvas"):
    """Colour at the middle of a cell."""
    return tuple(
        page.locator(canvas).first.evaluate(
            """(canvas, [query, key, n]) => {
                 const at = (position, length) => Math.floor((position + 0.5) / n * length);
                 const copy = document.createElement('canvas'); // reading the page's own canvas draws a warning
                 copy.width = copy.height = 1;
                 const context = copy.getContext('2d', { willReadFrequently: true });
                 context.drawImage(canvas, -at(key, canvas.width), -at(query, canvas.height));
                 return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
               }""",
            [query, key, n],
        )
    )


def until_pixel(page, query, key, colour, *, n):
    """Wait for React to have drawn, at most two seconds."""
    for _ in range(40):
        if pixel(page, query, key, n=n) == colour:
            return
        page.wait_for_timeout(50)
    assert pixel(page, query, key, n=n) == colour


def point_at(page, query, key, *, n):
    box = page.locator(".pv-cells").first.bounding_box()
    page.mouse.move(box["x"] + (key + 0.5) / n * box["width"], box["y"] + (query + 0.5) / n * box["height"])


def slide(page, index, nth=0):
    page.locator("input[type=range]").nth(nth).fill(str(index))


def heads(n_heads=12, size=64):
    """Head h has its one entry, 1, at query h + 1, key 0, and head 0 also -1 at (3, 2)."""
    pattern = torch.zeros(n_heads, size, size)
    for head in range(n_heads):
        pattern[head, head + 1, 0] = 1.0
    if size > 3:
        pattern[0, 3, 2] = -1.0
    return pattern


def test_known_cells_have_their_colours(visit, tmp_path):
    page = visit(attention_view(heads(1, 8)).save(tmp_path / "view.html"))
    assert pixel(page, 1, 0, n=8) == BLUE
    assert pixel(page, 3, 2, n=8) == RED
    assert pixel(page, 5, 1, n=8) == WHITE
    assert pixel(page, 0, 7, n=8) == MASKED
    assert page.locator(".pv-legend").inner_text().split() == [f"{MINUS}1", "+1"]


def test_half_of_the_range_is_not_its_whole(visit, tmp_path):
    pattern = torch.tensor([[[4.0, 0.0, 0.0], [2.0, 0.0, 0.0], [0.0, 0.0, 0.0]]])
    page = visit(attention_view(pattern).save(tmp_path / "view.html"))
    assert pixel(page, 0, 0, n=3) == BLUE
    half = pixel(page, 1, 0, n=3)
    assert all(end < middle < 255 for end, middle in zip(BLUE, half, strict=True))
    assert page.locator(".pv-legend").inner_text().split() == ["0", "4"]


def test_attention_to_the_future_is_drawn(visit, tmp_path):
    pattern = torch.zeros(1, 4, 4)
    pattern[0, 0, 3] = 0.5
    page = visit(attention_view(pattern).save(tmp_path / "view.html"))
    assert pixel(page, 0, 3, n=4) == BLUE
    assert pixel(page, 0, 2, n=4) == WHITE


def test_twelve_heads_are_a_small_page_and_answer_clicks(visit, tmp_path):
    path = attention_view(heads()).save(tmp_path / "view.html")
    assert path.stat().st_size < 2.5e6
    page = visit(path)
    assert page.locator(".pv-head").count() == 12
    assert "head 0" in page.locator(".pv-title").inner_text()
    page.get_by_role("button", name="head 7", exact=True).click()
    assert "head 7" in page.locator(".pv-title").inner_text()
    until_pixel(page, 8, 0, BLUE, n=64)
    assert pixel(page, 1, 0, n=64) == WHITE
    assert page.locator(".pv-head[aria-pressed=true]").inner_text() == "head 7"


def test_the_small_pictures_have_the_colours_of_the_large_one(visit, tmp_path):
    pattern = torch.linspace(-1, 1, 64).reshape(1, 8, 8).repeat(2, 1, 1)
    page = visit(attention_view(pattern).save(tmp_path / "view.html"))
    for query, key in ((0, 0), (2, 3), (5, 1), (7, 7)):
        large, small = pixel(page, query, key, n=8), pixel(page, query, key, n=8, canvas=".pv-head canvas")
        assert max(abs(one - other) for one, other in zip(large, small, strict=True)) <= 3


def test_hovering_names_the_cell(visit, tmp_path):
    tokens = ["the", "cat", "sat", " on", "", "a\n", "mat", "."]
    page = visit(attention_view(heads(1, 8), tokens=tokens).save(tmp_path / "view.html"))
    readout = page.locator(".pv-readout")
    assert readout.inner_text() == "Hover or tap a cell."
    point_at(page, 3, 2, n=8)
    assert readout.inner_text() == f"query 3 “ on” ← key 2 “sat”: {MINUS}1"
    point_at(page, 1, 0, n=8)
    assert readout.inner_text() == "query 1 “cat” ← key 0 “the”: +1"
    assert page.locator(".pv-overlay .pv-on").all_text_contents() == ["the", "cat"]
    page.mouse.move(1, 1)
    assert readout.inner_text() == "Hover or tap a cell."


def test_hostile_tokens_are_text(visit, tmp_path):
    path = attention_view(heads(2, 4), tokens=[HOSTILE, "<b>", "&amp;", "x"]).save(tmp_path / "view.html")
    page = visit(path)
    point_at(page, 1, 0, n=4)
    assert HOSTILE in page.locator(".pv-readout").inner_text()
    assert page.locator("img").count() == 0
    assert page.locator("b").count() == 0
    assert "&amp;" in page.locator(".pv-overlay").text_content()


def test_one_token_and_none(visit, tmp_path):
    page = visit(attention_view(torch.ones(1, 1, 1)).save(tmp_path / "one.html"))
    assert pixel(page, 0, 0, n=1) == BLUE
    page = visit(attention_view(torch.ones(1, 0, 0)).save(tmp_path / "none.html"), drawn=False)
    page.get_by_text("No tokens.").wait_for()


def test_512_tokens(visit, tmp_path):
    pattern = torch.zeros(1, 512, 512)
    pattern[0, 300, 100] = 1.0
    page = visit(attention_view(pattern).save(tmp_path / "view.html"))
    assert pixel(page, 300, 100, n=512) == BLUE
    assert pixel(page, 301, 100, n=512) == WHITE


def test_the_slider_moves_through_training(visit, run, tmp_path):
    view = attention_view(run, steps=run.checkpoints)
    page = visit(view.save(tmp_path / "view.html"))
    title, marker = page.locator(".pv-title"), page.locator(".pv-marker")
    assert title.inner_text() == "tiny: attention through training, layer 0 · step 40"
    assert page.locator(".pv-target").count() == int(view.readings[0].targets.sum())
    places = []
    for index, step in enumerate(run.checkpoints):
        slide(page, index)
        assert title.inner_text().endswith(f"step {step}")
        places.append(float(marker.get_attribute("cx")))
        point_at(page, 5, 1, n=8)
        value = view.readings[0].values[index, 0, 5, 1]
        shown = page.locator(".pv-readout").inner_text()
        assert float(shown.split(": ")[1].split()[0].replace(MINUS, "-")) == pytest.approx(value, abs=1e-4)
    assert places == sorted(set(places))


def test_a_slider_view_of_21_checkpoints_is_small(visit, tmp_path):
    path = attention_view(Long(), steps=Long.checkpoints).save(tmp_path / "view.html")
    assert path.stat().st_size < 2.5e6
    assert visit(path).locator(".pv-marker").count() == 1


def test_play_runs_to_the_end(visit, run, tmp_path):
    page = visit(attention_view(run, steps=[0, 10, 20]).save(tmp_path / "view.html"))
    page.get_by_role("button", name="play").click()
    assert page.locator(".pv-title").inner_text().endswith("step 0")
    page.get_by_role("button", name="pause").wait_for()
    page.locator(".pv-title", has_text="step 20").wait_for()
    page.get_by_role("button", name="play").wait_for()


def test_a_click_on_the_loss_curve_goes_there(visit, run, tmp_path):
    page = visit(attention_view(run, steps=run.checkpoints).save(tmp_path / "view.html"))
    box = page.locator(".pv-curve").bounding_box()
    page.mouse.click(box["x"] + 40, box["y"] + 60)
    assert page.locator(".pv-title").inner_text().endswith("step 0")


def test_the_difference_of_two_steps(visit, run, tmp_path):
    view = attention_view(run, steps=[0, 40])
    page = visit(view.save(tmp_path / "view.html"))
    page.get_by_label("Compare with").select_option("step 0")
    assert "change since step 0" in page.locator(".pv-legend").inner_text()
    point_at(page, 5, 1, n=8)
    change = view.readings[0].values[1, 0, 5, 1] - view.readings[0].values[0, 0, 5, 1]
    shown = float(page.locator(".pv-readout").inner_text().split(": ")[1].split()[0].replace(MINUS, "-"))
    assert shown == pytest.approx(change, abs=2e-4)
    slide(page, 0)
    until_pixel(page, 5, 1, WHITE, n=8)


def test_one_sequence_shows_its_tokens(visit, run, tmp_path):
    view = attention_view(run, steps=[0, 40])
    page = visit(view.save(tmp_path / "view.html"))
    page.get_by_label("Show", exact=True).select_option(index=1)
    point_at(page, 4, 0, n=8)
    assert page.locator(".pv-readout").inner_text().startswith("query 4 “|” ← key 0")
    assert page.locator(".pv-legend").inner_text().startswith(MINUS)


def test_two_runs_move_together(visit, run, tmp_path):
    view = attention_view(run, steps=run.checkpoints)
    page = visit(side_by_side(view, view).save(tmp_path / "pair.html"))
    slide(page, 1, nth=1)
    assert [text.split("· ")[1] for text in page.locator(".pv-title").all_inner_texts()] == ["step 10", "step 10"]


def test_what_is_chosen_in_one_view_is_chosen_in_the_other(visit, run, tmp_path):
    steps = run.checkpoints
    page = visit(
        side_by_side(attention_view(run, steps=steps), attention_view(run, steps=steps[1:])).save(tmp_path / "p.html")
    )
    shown, reference = page.get_by_label("Show", exact=True), page.get_by_label("Compare with")
    shown.nth(0).select_option(index=1)
    assert shown.nth(1).input_value() == "first sequence, as it is"
    reference.nth(1).select_option("step 20")
    assert reference.nth(0).input_value() == "step 20"
    assert all("change since step 20" in text for text in page.locator(".pv-legend").all_inner_texts())
    reference.nth(0).select_option("step 0")  # the other view has no step 0
    assert reference.nth(1).input_value() == "step 20"


def test_heads_are_chosen_together(visit, tmp_path):
    page = visit(side_by_side(attention_view(heads(3, 8)), attention_view(heads(2, 8))).save(tmp_path / "p.html"))
    titles = page.locator(".pv-title")
    page.get_by_role("button", name="head 1", exact=True).nth(1).click()
    assert all("head 1" in text for text in titles.all_inner_texts())
    page.get_by_role("button", name="head 2", exact=True).click()
    assert ["head 2" in text for text in titles.all_inner_texts()] == [True, False]


@pytest.mark.parametrize("drop", [120, 200, 390])
@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_names_of_levels_are_clear_of_the_loss(visit, tmp_path, size, drop):
    run = Long()
    run.metrics = pd.DataFrame({"step": range(400), "loss": [2.68] * drop + [1.35] * (400 - drop)})
    page = visit(attention_view(run, steps=run.checkpoints[-2:]).save(tmp_path / "view.html"), size=size)
    crossed = page.locator(".pv-curve").evaluate(
        """chart => {
             const line = [...chart.querySelector('.pv-line').points];
             const names = [...chart.querySelectorAll('.pv-label')];
             return names.filter(name => /plateau|floor/.test(name.textContent)).map(name => {
               const { x: left, y: top, width, height } = name.getBBox();
               return line.some(({ x, y }) => x > left && x < left + width && y > top && y < top + height);
             });
           }"""
    )
    assert crossed == [False, False]


def test_a_cell_of_a_notebook_may_come_before_the_library(visit, tmp_path):
    """JupyterLab draws the cells that are in sight first."""
    view = views_page.Page([attention_view(heads(1, 8))]).fragment("early")
    path = tmp_path / "notebook.html"
    path.write_text(document(view + bundle() + bundle(), title="notebook"), encoding="utf-8")
    page = visit(path)
    assert pixel(page, 1, 0, n=8) == BLUE
    assert page.locator(".pv-still").count() == 0


def test_without_the_library_there_is_a_still_picture(visit, tmp_path):
    path = tmp_path / "orphan.html"
    fragment = views_page.Page([attention_view(heads(1, 8))]).fragment("orphan")
    path.write_text(document(fragment, title="notebook"), encoding="utf-8")
    page = visit(path, drawn=False)
    assert page.locator(".pv-still").evaluate("picture => picture.naturalWidth") == 8
    assert "restart the kernel" in page.locator("body").inner_text()


@pytest.fixture(scope="module")
def report(run, tmp_path_factory):
    return write_report(run, tmp_path_factory.mktemp("report"))


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_a_report_fits_its_window(visit, report, size, scheme):
    page = visit(report, size=size, scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    assert page.locator("h1").inner_text().startswith(("The loss", "No drop"))
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(16, 19, 26)")
    assert page.locator("table th").first.inner_text() == "Steps"
    plots = page.locator(".grid .plot svg:visible")
    assert 2 * plots.count() == page.locator(".grid .plot svg").count()
    assert all(plot.bounding_box()["width"] > 300 for plot in plots.all())
    words = page.locator(".grid .plot svg:visible text").first
    ink, font = words.evaluate("word => [getComputedStyle(word).fill, getComputedStyle(word).fontFamily]")
    assert ink == ("rgb(95, 102, 115)" if scheme == "light" else "rgb(154, 163, 178)")  # of the axis
    assert font.startswith("system-ui")
    slide(page, 0)
    assert page.locator(".pv-title").inner_text().endswith("step 0")


@pytest.fixture(scope="module")
def series_report(tmp_path_factory):
    """Of a series whose model, prompts and tokens are long and hostile, with duplicates and one that failed."""
    long = "Why is the sky blue " * 12
    cosines = {0: 0.1, 1: 0.2, 2: 0.2, 16: 0.95, 512: 0.4, 1000: 0.3, 143_000: 0.2}
    folder = measured_series(
        tmp_path_factory.mktemp("series") / "one",
        cosines,
        source=f"someone/{'model' * 12}",
        prompts=(HOSTILE, long, "word" * 60),
        pieces=(HOSTILE, " the", " the", "\n", "x" * 90),
        same=(1, 2),
        failed=(1000,),
        own={
            name: 2.0 for name in ("cosine_across_prompts", "distinct_tokens", "held_out_loss", "teacher_forced_cosine")
        },
        attention={
            step: KeptAttention((HOSTILE, " sky", "\n"), torch.eye(3).roll(-(step > 0), 1).tril().expand(2, 2, 3, 3))
            for step in (0, 16, 512, 143_000)
        },
    )
    return write_series_report(folder)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_a_report_of_a_series_fits_its_window(visit, series_report, size, scheme):
    page = visit(series_report, size=size, scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    assert page.locator("h1").inner_text().startswith("Hidden states are most alike at step 16")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(16, 19, 26)")
    plots = page.locator(".grid .plot svg:visible")
    assert 2 * plots.count() == page.locator(".grid .plot svg").count() == 12
    assert all(plot.bounding_box()["width"] > 300 for plot in plots.all())
    assert page.locator("img").count() == 0
    table = page.locator(".numbers").bounding_box()
    assert size != DESKTOP or table["x"] + table["width"] <= size[0]  # on a phone it is moved sideways
    assert page.locator(".pv-title").inner_text().endswith("head 0 · step 143000")
    slide(page, 0)
    assert page.locator(".pv-title").inner_text().endswith("head 0 · step 0")
    until_pixel(page, 2, 2, BLUE, n=3)
    slide(page, 1)
    until_pixel(page, 2, 2, WHITE, n=3)
    page.get_by_label("Show", exact=True).select_option("layer 1")
    title = "cosine of the states of new tokens"  # and nothing else: the name of a level would lie on the curve
    assert page.locator(".pv-curve text").all_text_contents() == [title, "0.95", "0.10", "step 0", "step 143000"]
    assert " sky".replace(" ", "␣") in page.locator(".pv-overlay text").all_text_contents()
    tokens = page.locator(".answers tr").first.locator(".token")
    assert tokens.all_text_contents() == [HOSTILE, " the", " the", "↵", "x" * 90]
    last = page.locator(".answers .token").last.bounding_box()
    assert last["x"] + last["width"] <= size[0]
    frames = [token.evaluate("token => getComputedStyle(token).borderColor") for token in tokens.all()]
    assert frames[2] not in frames[:2] + frames[3:]
    assert page.locator(".warning").count() == 2


@pytest.fixture(scope="module")
def circuits_page(tmp_path_factory):
    """A run's circuits through training, beside the attention of both layers."""
    folder = tmp_path_factory.mktemp("circuits")
    training = TrainingOptions(steps=4, batch_size=8)
    recipe = Recipe(MovingWindowSum(n=4), model=ModelOptions(d_model=16, n_layers=2, n_heads=2), training=training)
    run = Run.create(folder / "run", recipe)
    for _ in run.train():
        pass
    return circuit_page(run, circuits(run, n_pairs=4, by_role=True), title=HOSTILE).save(folder / "page.html")


def edges_shown(page):
    return page.locator(".pc-edge").count()


@pytest.mark.parametrize(("size", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")])
def test_a_circuit_is_drawn_and_moves_with_the_attention_beside_it(circuits_page, visit, size, scheme):
    page = visit(circuits_page, size=size, scheme=scheme)
    circuit = page.locator(".pv").first
    assert HOSTILE in circuit.locator(".pv-title").inner_text()
    assert 10 < edges_shown(page) <= 40
    names = circuit.locator(".pc-part > text:not(.pc-entry)").all_text_contents()
    assert names[:2] == ["embed", "pos_embed"]
    assert names[-1] == "logits"
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    slider = circuit.get_by_label("training step")
    slider.focus()
    slider.press("Home")
    assert [text.endswith("step 0") for text in page.locator(".pv-now").all_inner_texts()] == [True] * 3


def test_fewer_edges_positions_by_role_and_a_table(circuits_page, visit):
    page = visit(circuits_page)
    fewer = page.get_by_role("slider", name="edges shown")
    fewer.focus()
    fewer.press("Home")
    assert edges_shown(page) == 1
    fewer.press("End")
    everything = edges_shown(page)
    page.get_by_label("Positions").select_option("answer")
    assert 0 < edges_shown(page) < everything
    page.locator(".pc-table summary").click()
    assert page.locator(".pc-table tbody tr").count() == min(edges_shown(page), 200)
    assert "(answer)" in page.locator(".pc-table td").first.inner_text()


def test_a_part_shows_its_edges_and_a_head_its_attention(circuits_page, visit):
    page = visit(circuits_page)
    head = page.get_by_role("button", name="L1H1, ")
    head.focus()
    head.press("Enter")
    assert head.get_attribute("aria-pressed") == "true"
    assert page.locator(".pc-edge.pc-faint").count() > 0
    assert "L1H1: " in page.locator(".pv-readout").first.inner_text()
    pressed = page.locator('.pv-head[aria-pressed="true"]').all_inner_texts()
    assert pressed == ["head 0", "head 1"]  # of layer 0 as it was, of layer 1 the one that was asked for
    head.press("Enter")
    assert page.locator(".pc-edge.pc-faint").count() == 0


def test_a_head_leads_to_its_map_where_a_view_shows_some_heads(circuits_page, visit, tmp_path):
    run = Run(circuits_page.parent / "run")
    views = [circuit_view(circuits(run, n_pairs=4)), attention_view(run, layer=1, heads=[1], steps=run.checkpoints)]
    page = visit(Page(views).save(tmp_path / "page.html"))
    attention = page.locator(".pv").nth(1)
    for name in ("L1H0, ", "L1H1, "):
        page.get_by_role("button", name=name).press("Enter")
        assert "head 0" not in attention.locator(".pv-title").inner_text()
    assert attention.locator(".pv-cells canvas, .pv-cells svg").count() > 0


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_circuits_of_two_runs_stand_side_by_side_with_one_scale(circuits_page, visit, tmp_path, size):
    run = Run(circuits_page.parent / "run")
    one, other = (circuits(run, n_pairs=4, scoring=scoring) for scoring in ("attributed", "exact"))
    other = Forming(other.steps, tuple(replace(found, scores=found.scores / 10) for found in other.circuits))
    page = visit(Page([circuit_view(one, title=HOSTILE), circuit_view(other)]).save(tmp_path / "both.html"), size=size)
    first, second = page.locator(".pv").all()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    widths = [
        view.locator(".pc-edge").evaluate_all(
            "lines => Math.max(...lines.map(line => +line.getAttribute('stroke-width')))"
        )
        for view in (first, second)
    ]
    assert 7 < widths[0] <= 9  # the widest is that of any step
    assert widths[1] < 2
    fewer = first.get_by_role("slider", name="edges shown")
    fewer.focus()
    fewer.press("Home")
    assert [view.locator(".pc-edge").count() for view in (first, second)] == [1, 1]
    later = second.get_by_label("training step")
    later.focus()
    later.press("Home")
    assert [text.endswith("step 0") for text in page.locator(".pv-now").all_inner_texts()] == [True] * 2


def test_an_edge_that_is_tapped_tells_its_score(circuits_page, visit):
    page = visit(circuits_page, size=PHONE)
    page.locator(".pc-hit").last.dispatch_event("pointerdown")
    assert page.locator(".pv-readout").first.inner_text().split(" ")[1] == "\N{RIGHTWARDS ARROW}"


@pytest.fixture
def grids_page(tmp_path):
    """Two grids of one row at two steps: the second cell is not seen."""
    truth = torch.tensor([[[1.0, -0.5]], [[0.25, 0.5]]])
    asked = torch.tensor([[[False, True]], [[True, True]]])
    said = torch.stack([truth.masked_fill(asked, 0.0), truth])
    view = GridView(HOSTILE, "a note", GridsThroughTraining((0, 10), said, truth, asked))
    return view.save(tmp_path / "grids.html")


@pytest.mark.parametrize(("size", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")], ids=["desktop", "phone"])
def test_grids_move_through_training_and_what_is_not_seen_is_outlined(grids_page, visit, size, scheme):
    page = visit(grids_page, size=size, scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    numbers = page.locator(".pg-number")
    assert numbers.all_text_contents() == ["1.00", f"{MINUS}0.50"] * 2
    assert page.locator(".pg-asked").count() == 2
    page.locator("input[aria-label='training step']").fill("0")
    assert numbers.all_text_contents() == ["1.00", f"{MINUS}0.50", "1.00", "0.00"]
    assert page.locator(".pv-readout").text_content().startswith("Outlined cells: mean squared error 0.2500.")
    fills = page.locator(".pg-cell").evaluate_all("cells => cells.map(cell => getComputedStyle(cell).fill)")
    assert fills[0] == fills[2] != fills[1]
    assert HOSTILE in page.locator(".pv-title").text_content()


def test_another_grid_and_a_cell_under_the_pointer(grids_page, visit):
    page = visit(grids_page)
    page.locator("select").select_option("example 2")
    assert page.locator(".pg-number").all_text_contents() == ["0.25", "0.50"] * 2
    assert page.locator(".pg-asked").count() == 4
    page.locator("input[aria-label='training step']").fill("0")
    page.locator(".pg-cell").nth(3).hover()
    assert page.locator(".pv-readout").text_content() == "row 0, column 1 (not seen): 0; right is +0.5"
