// The front end of plateau_interp.views.grid_view: what a model says of a grid of numbers beside what is right.
//
// attention.js mounts it. Cells that the model cannot see are outlined. All text reaches the page through textContent.
window.plateauGrid = window.plateauGrid || ((root, spec) => {
  const { html, svg, signed, decode, talking, timeline } = window.plateauTools; // of tools.js
  const { positive: POSITIVE, negative: NEGATIVE } = window.plateauColours; // of views/theme.py
  const CELL = 58, TITLE = 22, NARROW = 420; // below NARROW the two grids stand one below the other
  const DARK = 0.8; // share of a full colour from which on white stands out more than ink: its lightness is then below 52
  const said = decode(spec.said), truth = decode(spec.truth);
  const { rows, columns, asked, decimals } = spec;
  const n = rows * columns, nGrids = asked.length;
  const nSteps = spec.steps ? spec.steps.length : 1;
  const state = { step: nSteps - 1, grid: 0, pointed: -1 };
  const told = (value) => value.toFixed(decimals).replace(/^-(?=0\.?0*$)/, "").replace("-", "−");
  const saidAt = (cell) => said[(state.step * nGrids + state.grid) * n + cell];
  const trueAt = (cell) => truth[state.grid * n + cell];

  const picture = svg("svg", { class: "pg-picture", role: "img" });
  const plot = html("div", { className: "pg-plot" }, picture);
  const readout = html("output", { className: "pv-readout" });
  const side = html("div", { className: "pv-side" });
  const now = html("span", { className: "pv-now" });
  const heading = html("p", { className: "pv-title" }, spec.title);
  heading.append(now);
  const main = html("div", { className: "pv-main pg-main" }, plot, readout);
  root.replaceChildren(heading, html("div", { className: "pv-body" }, main, side), html("p", { className: "pv-note" }, spec.note));
  const talk = talking(root, spec);

  const square = () => {
    const gaps = [...asked[state.grid]].map((gap, cell) => (gap ? (saidAt(cell) - trueAt(cell)) ** 2 : null)).filter((value) => value !== null);
    return gaps.length ? gaps.reduce((sum, value) => sum + value, 0) / gaps.length : null;
  };
  const say = () => {
    const error = square();
    if (state.pointed < 0) {
      readout.textContent = error === null ? "No cell is outlined." : `Outlined cells: mean squared error ${error.toFixed(4)}. Hover or tap a cell.`;
      return;
    }
    const cell = state.pointed, row = Math.floor(cell / columns), column = cell % columns;
    const what = asked[state.grid][cell] ? "not seen" : "seen";
    readout.textContent = `row ${row}, column ${column} (${what}): ${signed(saidAt(cell))}; right is ${signed(trueAt(cell))}`;
  };
  const drawGrid = (name, at, left, top, size) => {
    picture.append(svg("text", { x: left, y: top - 8, class: "pv-label" }, name));
    for (let index = 0; index < n; index++) {
      const x = left + (index % columns) * size, y = top + Math.floor(index / columns) * size;
      const share = Math.min(1, Math.abs(at(index)) / spec.range);
      const box = svg("rect", { x, y, width: size, height: size, class: "pg-cell", "data-cell": index });
      box.style.fill = `color-mix(in lab, ${at(index) < 0 ? NEGATIVE : POSITIVE} ${100 * share}%, white)`;
      picture.append(box);
      if (size >= 30)
        picture.append(svg("text", { x: x + size / 2, y: y + size / 2 + 4, "text-anchor": "middle", class: `pg-number${share > DARK ? " pg-light" : ""}` }, told(at(index))));
    }
    for (let index = 0; index < n; index++) { // on top of their neighbours
      const x = left + (index % columns) * size, y = top + Math.floor(index / columns) * size;
      if (asked[state.grid][index]) picture.append(svg("rect", { x: x + 1.5, y: y + 1.5, width: size - 3, height: size - 3, class: "pg-asked" }));
      if (index === state.pointed) picture.append(svg("rect", { x: x + 0.5, y: y + 0.5, width: size - 1, height: size - 1, class: "pg-pointed" }));
    }
  };
  let drawTime = () => {};
  const update = () => {
    const width = plot.clientWidth;
    const name = nGrids > 1 ? ` · ${spec.name} ${state.grid + 1}` : "";
    now.textContent = name + (spec.steps ? ` · step ${spec.steps[state.step]}` : "");
    if (width) {
      const stacked = width < NARROW;
      const gap = 22;
      const size = Math.min(CELL, (stacked ? width - 2 : (width - gap - 2) / 2) / columns);
      const shift = stacked ? { x: 0, y: rows * size + TITLE + 12 } : { x: columns * size + gap, y: 0 };
      const height = TITLE + rows * size + 2 + shift.y;
      picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
      picture.style.height = `${height}px`;
      picture.setAttribute("aria-label", `${spec.title}: what is right, and what the model says`);
      picture.replaceChildren();
      drawGrid("right", trueAt, 1, TITLE, size);
      drawGrid("the model", saidAt, 1 + shift.x, TITLE + shift.y, size);
    }
    say();
    drawTime();
  };

  const point = (event) => {
    const cell = event.target.dataset ? event.target.dataset.cell : undefined;
    const pointed = cell === undefined ? -1 : +cell;
    if (pointed !== state.pointed) { state.pointed = pointed; update(); }
  };
  picture.addEventListener("pointermove", point);
  picture.addEventListener("pointerdown", point);
  picture.addEventListener("pointerleave", (event) => {
    if (event.pointerType !== "mouse") return; // a tapped cell stays
    state.pointed = -1; update();
  });
  drawTime = timeline(root, spec, side, talk, state, update);
  if (nGrids > 1) {
    const select = html("select", { ariaLabel: spec.name, onchange: () => { state.grid = select.selectedIndex; update(); talk.tell(spec.name, state.grid); } },
      ...asked.map((_, grid) => html("option", {}, `${spec.name} ${grid + 1}`)));
    side.append(html("label", { className: "pv-field" }, html("span", {}, "Show"), select));
    talk.hear[spec.name] = (grid) => { if (grid < nGrids) { state.grid = grid; select.selectedIndex = grid; update(); } };
  }
  if (!side.childElementCount) root.querySelector(".pv-body").classList.add("pv-alone");
  new ResizeObserver(update).observe(plot);
  update();
});
