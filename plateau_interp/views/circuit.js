// The front end of plateau_interp.views.circuit_view: the largest edges of a circuit, through training.
//
// attention.js mounts it. Parts stand in rows from the embeddings to the logits; an edge is as wide
// as its score is large. All text reaches the page through textContent.
window.plateauCircuit = window.plateauCircuit || ((root, spec) => {
  const { html, svg, signed, decode, talking, timeline } = window.plateauTools; // of tools.js
  const ROW = 62, COLUMN = 92, HALF = 13, WIDEST = 9, THINNEST = 0.8;
  const ENTRY = { q: -0.24, k: 0, v: 0.24, "": 0 };
  const MANY = 80; // parts: of a larger model those without an edge are left out
  const scores = decode(spec);
  const nEdges = spec.edges.length;
  const nSteps = spec.steps ? spec.steps.length : 1;
  const most = spec.widest || 1;
  const state = { step: nSteps - 1, shown: spec.shown, role: -1, picked: -1, pointed: -1 };
  const score = (edge) => scores[state.step * nEdges + edge];
  const named = ([writer, reader, entry, role]) =>
    `${spec.parts[writer].name} → ${spec.parts[reader].name}${entry && "." + entry}${spec.roles.length > 1 ? ` (${spec.roles[role]})` : ""}`;

  const picture = svg("svg", { class: "pc-picture", role: "group", "aria-label": `${spec.title}: parts and edges` });
  const plot = html("div", { className: "pc-plot" }, picture);
  const swatch = (kind, text) => html("span", { className: `pc-swatch ${kind}` }, text);
  const legend = html("div", { className: "pv-legend" }, swatch("pc-for", "raises the metric"), swatch("pc-against", "lowers it"));
  const readout = html("output", { className: "pv-readout" });
  const side = html("div", { className: "pv-side" });
  const now = html("span", { className: "pv-now" });
  const heading = html("p", { className: "pv-title" }, spec.title);
  heading.append(now);
  const rows = html("tbody");
  const head = html("thead", {}, html("tr", {}, html("th", {}, "edge"), html("th", {}, "score")));
  const table = html("details", { className: "pc-table" }, html("summary", {}, "Edges as a table"), html("table", {}, head, rows));
  const main = html("div", { className: "pv-main pc-main" }, plot, legend, readout);
  root.replaceChildren(heading, html("div", { className: "pv-body pc-body" }, main, side), table, html("p", { className: "pv-note" }, spec.note));
  const talk = talking(root, spec);

  // ---- which edges, and where the parts stand ----------------------------------------------------------------------
  const drawn = () => {
    const edges = [...Array(nEdges).keys()].filter((edge) => score(edge) !== 0 && (state.role < 0 || spec.edges[edge][3] === state.role));
    edges.sort((one, other) => Math.abs(score(other)) - Math.abs(score(one)) || one - other);
    return edges.slice(0, state.shown);
  };
  const touches = (edge, part) => spec.edges[edge][0] === part || spec.edges[edge][1] === part;
  const place = (edges, width) => {
    const some = spec.parts.length > MANY;
    const used = new Set(edges.flatMap((edge) => spec.edges[edge].slice(0, 2)));
    const there = [...spec.parts.keys()].filter((part) => !some || used.has(part));
    const heights = [...new Set(there.map((part) => spec.parts[part].row))].sort((one, other) => one - other);
    const byRow = heights.map((row) => there.filter((part) => spec.parts[part].row === row));
    const widest = Math.max(1, ...byRow.map((parts) => parts.length));
    const column = Math.min(COLUMN, (width - 8) / widest);
    const height = Math.max(1, heights.length) * ROW + 8;
    const at = new Map();
    byRow.forEach((parts, row) => parts.forEach((part, index) =>
      at.set(part, { x: width / 2 + (index - (parts.length - 1) / 2) * column, y: height - ROW / 2 - row * ROW, row })));
    return { at, used, column, height };
  };
  const path = (edge, { at, column }) => {
    const [writer, reader, entry] = spec.edges[edge];
    const from = at.get(writer), to = at.get(reader);
    const x = to.x + ENTRY[entry] * Math.min(column, COLUMN), y = to.y + HALF + (entry ? 8 : 0);
    const rise = Math.max(22, 0.3 * (from.y - to.y));
    const bend = to.row - from.row < 2 ? 0 : 0.45 * column * (from.x >= picture.clientWidth / 2 ? 1 : -1);
    return `M${from.x} ${from.y - HALF}C${from.x + bend} ${from.y - HALF - rise} ${x + bend} ${y + rise} ${x} ${y}`;
  };

  // ---- drawing -----------------------------------------------------------------------------------------------------
  const say = (edges) => {
    if (state.pointed >= 0) return (readout.textContent = `${named(spec.edges[state.pointed])}: ${signed(score(state.pointed))}`);
    if (state.picked >= 0) {
      const count = edges.filter((edge) => touches(edge, state.picked)).length;
      return (readout.textContent = `${spec.parts[state.picked].name}: ${count} of the edges shown. Click it again to see all.`);
    }
    readout.textContent = `${edges.length} of ${spec.total} edges. Hover or tap an edge; click a part for its own.`;
  };
  const pick = (part) => {
    state.picked = state.picked === part ? -1 : part;
    state.pointed = -1;
    update();
    const { layer, head } = spec.parts[part];
    if (layer !== undefined && head !== undefined) talk.tell("part", { layer, head });
  };
  let drawTime = () => {};
  const update = () => {
    const width = plot.clientWidth;
    now.textContent = spec.steps ? ` · step ${spec.steps[state.step]}` : "";
    const edges = drawn();
    if (width) {
      const focused = document.activeElement && picture.contains(document.activeElement) ? document.activeElement.dataset.part : null;
      const layout = place(edges, width);
      picture.setAttribute("viewBox", `0 0 ${width} ${layout.height}`);
      picture.style.height = `${layout.height}px`;
      picture.replaceChildren();
      for (const edge of [...edges].reverse()) { // the largest on top
        const kind = score(edge) < 0 ? "pc-for" : "pc-against";
        const faint = state.picked >= 0 && !touches(edge, state.picked) ? " pc-faint" : "";
        const d = path(edge, layout);
        const line = svg("path", { d, class: `pc-edge ${kind}${faint}`, "stroke-width": THINNEST + (WIDEST - THINNEST) * Math.abs(score(edge)) / most });
        const wide = svg("path", { d, class: "pc-hit", "data-edge": edge });
        const point = (pointed) => () => { state.pointed = pointed; line.classList.toggle("pc-on", pointed >= 0); say(edges); };
        wide.addEventListener("pointerenter", point(edge));
        wide.addEventListener("pointerdown", point(edge));
        wide.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") point(-1)(); });
        picture.append(line, wide);
      }
      const entries = new Set(edges.map((edge) => `${spec.edges[edge][1]} ${spec.edges[edge][2]}`));
      for (const [part, { x, y }] of layout.at) {
        const { name } = spec.parts[part];
        const box = Math.min(layout.column - 4, Math.max(34, 8 * name.length + 10));
        const count = edges.filter((edge) => touches(edge, part)).length;
        const node = svg("g", {
          class: `pc-part${count ? "" : " pc-faint"}`, tabindex: 0, role: "button", "data-part": part,
          "aria-pressed": String(state.picked === part), "aria-label": `${name}, ${count} edges shown`,
        });
        node.append(
          svg("rect", { x: x - box / 2, y: y - HALF, width: box, height: 2 * HALF, rx: 5 }),
          svg("text", { x, y: y + 4, "text-anchor": "middle", ...(8 * name.length > box ? { textLength: box - 6, lengthAdjust: "spacingAndGlyphs" } : {}) }, name),
        );
        for (const entry of "qkv")
          if (entries.has(`${part} ${entry}`))
            node.append(svg("text", { x: x + ENTRY[entry] * layout.column, y: y + HALF + 8, class: "pc-entry", "text-anchor": "middle" }, entry));
        node.addEventListener("click", () => pick(part));
        node.addEventListener("keydown", (event) => {
          if (event.key !== "Enter" && event.key !== " ") return;
          event.preventDefault();
          pick(part);
        });
        picture.append(node);
        if (focused === String(part)) node.focus();
      }
    }
    rows.replaceChildren(...edges.slice(0, 200).map((edge) =>
      html("tr", {}, html("td", {}, named(spec.edges[edge])), html("td", {}, signed(score(edge))))));
    slider.setAttribute("aria-valuetext", `${edges.length} edges`);
    count.textContent = `${edges.length}`;
    say(edges);
    drawTime();
  };

  // ---- controls ----------------------------------------------------------------------------------------------------
  // Of many edges the slider moves by shares, so that ten and a thousand are both within reach.
  const FINE = 1000;
  const toCount = (value) => Math.max(1, Math.round(nEdges ** (value / FINE)));
  const toValue = (shown) => Math.round(FINE * Math.log(shown) / Math.log(Math.max(nEdges, 2)));
  const count = html("span", { className: "pc-count" });
  const slider = html("input", {
    type: "range", min: 0, max: FINE, value: toValue(spec.shown), ariaLabel: "edges shown",
    oninput: () => { show(toCount(+slider.value)); talk.tell("shown", state.shown); },
  });
  const show = (shown) => { state.shown = shown; state.pointed = -1; update(); };
  // Of another circuit on the page: as many edges, or all there are.
  talk.hear.shown = (shown) => { show(Math.min(shown, nEdges)); slider.value = toValue(state.shown); };
  drawTime = timeline(root, spec, side, talk, state, () => { state.pointed = -1; update(); });
  side.append(html("label", { className: "pv-field pc-field" }, html("span", {}, "Edges"), slider, count));
  if (spec.roles.length > 1) {
    const select = html("select", { ariaLabel: "Positions", onchange: () => { state.role = select.selectedIndex - 1; update(); } },
      ...["all positions", ...spec.roles].map((name) => html("option", {}, name)));
    side.append(html("label", { className: "pv-field" }, html("span", {}, "Positions"), select));
  }
  new ResizeObserver(update).observe(plot);
  update();
});
