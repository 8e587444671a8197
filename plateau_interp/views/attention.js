// The front end of plateau_interp.views.attention_view: mounts each attention view of a page.
//
// A view is `plateauViews.push(spec)`. Until this file has run, specs wait in an array; afterwards they mount at once.
// All text reaches the page through textContent, so a token is never read as HTML. Maps of up to CIRCUITSVIS_TOKENS
// tokens are CircuitsVis's AttentionPattern; larger ones, where its chart takes seconds (13 s at 512), and the small
// pictures of the heads are painted with the same colours.
(() => {
  if (window.plateauViews && !Array.isArray(window.plateauViews)) return; // this page has it already
  const CIRCUITSVIS_TOKENS = 128;
  const { positive: POSITIVE, negative: NEGATIVE, masked: MASKED } = window.plateauColours; // of views/theme.py
  const { html, svg, number, signed, clip, visible, decode, talking, timeline } = window.plateauTools; // of tools.js
  let mounted = 0;

  // The colours of CircuitsVis (white mixed with the end colour in CIE Lab), read off a canvas: 511 of them, 255 = zero.
  let table = null;
  const colours = () => {
    if (table) return table;
    const canvas = html("canvas", { width: 511, height: 1 });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    for (let i = -255; i <= 255; i++) {
      context.fillStyle = `color-mix(in lab, ${i < 0 ? NEGATIVE : POSITIVE} ${(Math.abs(i) / 255) * 100}%, white)`;
      context.fillRect(i + 255, 0, 1, 1);
    }
    table = context.getImageData(0, 0, 511, 1).data;
    return table;
  };
  const paint = (canvas, values, size, range, masked) => {
    const lookup = colours();
    canvas.width = canvas.height = Math.max(size, 1);
    const image = new ImageData(canvas.width, canvas.height);
    const grey = [1, 3, 5].map((at) => parseInt(MASKED.slice(at, at + 2), 16));
    for (let cell = 0; cell < size * size; cell++) {
      const at = 255 + Math.round(255 * Math.max(-1, Math.min(1, values[cell] / range)));
      const hidden = masked && cell % size > Math.floor(cell / size);
      for (let channel = 0; channel < 3; channel++)
        image.data[4 * cell + channel] = hidden ? grey[channel] : lookup[4 * at + channel];
      image.data[4 * cell + 3] = 255;
    }
    canvas.getContext("2d").putImageData(image, 0, 0);
  };

  // ---- the map: CircuitsVis, or painted ------------------------------------------------------------------------------
  // CircuitsVis renders once and gives no way to hand new values to what it rendered. A class component that keeps the
  // props in its state does: React gives each instance an `updater`, which is what Component.setState calls.
  function Host(props) {
    this.props = props;
    this.state = { pattern: props.pattern };
    props.ready(this);
  }
  Host.prototype.isReactComponent = {};
  Host.prototype.render = function () {
    // CircuitsVis does not export createElement: take an element that it made, and change what it shows.
    const element = CircuitsVis.Hello({ name: "" });
    return { ...element, key: null, ref: null, type: CircuitsVis.AttentionPattern, props: this.state.pattern };
  };
  const circuitsVisMap = (box) => {
    let host = null;
    box.id = `plateau-map-${++mounted}`;
    return (pattern) => {
      if (host) return host.updater.enqueueSetState(host, { pattern }, null);
      CircuitsVis.render(box.id, Host, { pattern, ready: (instance) => (host = instance) });
    };
  };
  const paintedMap = (box) => {
    const canvas = html("canvas", { className: "pv-painted" });
    box.append(canvas);
    return (pattern) => paint(canvas, pattern.attention.flat(), pattern.tokens.length, pattern.maxValue, pattern.maskUpperTri);
  };

  // ---- one view ------------------------------------------------------------------------------------------------------
  const mount = (root, spec) => {
    const data = spec.readings.map(decode);
    const nSteps = spec.steps ? spec.steps.length : 1;
    const nHeads = spec.heads.length;
    const state = { reading: 0, head: 0, step: nSteps - 1, reference: -1, ownScale: false };
    const size = () => spec.readings[state.reading].tokens.length;
    const shown = (step, head) => {
      const n = size() ** 2;
      const at = (index) => data[state.reading].subarray((index * nHeads + head) * n, (index * nHeads + head + 1) * n);
      if (state.reference < 0) return at(step);
      const before = at(state.reference);
      return at(step).map((value, cell) => value - before[cell]);
    };
    const largest = (values) => values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    const range = () => {
      const heads = [...Array(nHeads).keys()];
      if (state.ownScale || state.reference >= 0)
        return Math.max(...heads.map((head) => largest(shown(state.step, head)))) || 1;
      return spec.readings[state.reading].range || 1;
    };

    const cells = html("div", { className: "pv-cells" });
    const overlay = svg("svg", { class: "pv-overlay", role: "img", "aria-label": `${spec.title}: attention map` });
    const plot = html("div", { className: "pv-plot" }, cells, overlay);
    const readout = html("output", { className: "pv-readout" });
    const legendCanvas = html("canvas", { className: "pv-ramp" });
    const legendLow = html("span");
    const legendHigh = html("span");
    const legendNote = html("span", { className: "pv-muted" });
    const legend = html("div", { className: "pv-legend" }, legendLow, legendCanvas, legendHigh, legendNote);
    const side = html("div", { className: "pv-side" });
    const heading = html("p", { className: "pv-title" }, spec.title);
    const now = html("span", { className: "pv-now" });
    heading.append(now);
    const body = html("div", { className: "pv-body" }, html("div", { className: "pv-main" }, plot, legend, readout), side);
    root.replaceChildren(heading, body, html("p", { className: "pv-note" }, spec.note));

    let draw = null;
    let drawnWith = null;
    let hovered = null;
    let gutter = 0;

    const drawMap = (values, most) => {
      const n = size();
      if (!n) return;
      const kind = n <= CIRCUITSVIS_TOKENS && typeof CircuitsVis !== "undefined" ? circuitsVisMap : paintedMap;
      if (kind !== drawnWith) {
        const fresh = html("div", { className: "pv-fill" });
        cells.replaceChildren(fresh);
        draw = kind(fresh);
        drawnWith = kind;
      }
      const attention = Array.from({ length: n }, (_, query) => Array.from(values.subarray(query * n, query * n + n)));
      draw({
        attention,
        tokens: attention.map((_, position) => String(position)),
        minValue: -most,
        maxValue: most,
        negativeColor: NEGATIVE,
        positiveColor: POSITIVE,
        upperTriColor: MASKED,
        maskUpperTri: !spec.readings[state.reading].upper,
        showAxisLabels: false,
      });
    };

    const drawOverlay = () => {
      const { tokens, targets } = spec.readings[state.reading];
      const n = tokens.length;
      const width = plot.clientWidth;
      if (!n || !width) return;
      const longest = Math.max(...tokens.map((token) => Math.min(visible(token).length, 9)));
      gutter = Math.min(14 + 7 * longest, width / 4);
      cells.style.inset = `0 0 ${gutter}px ${gutter}px`;
      const cell = (width - gutter) / n;
      const strides = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512];
      const stride = strides.find((every) => every * cell >= 13) || n;
      overlay.setAttribute("viewBox", `0 0 ${width} ${width}`);
      overlay.replaceChildren();
      const label = (text, x, y, attributes, bold) =>
        overlay.append(svg("text", { x, y, class: bold ? "pv-label pv-on" : "pv-label", ...attributes }, text));
      const flat = longest <= 3 || 7 * longest + 5 < stride * cell;
      const apart = flat ? strides.find((every) => every * cell >= 7 * longest + 5) || n : stride;
      for (let position = 0; position < n; position++) {
        const text = clip(visible(tokens[position]), 9);
        const centre = (position + 0.5) * cell;
        const near = (at, room) => hovered && Math.abs(hovered[at] - position) * cell < room && hovered[at] !== position;
        if ((position % stride === 0 && !near(0, 13)) || (hovered && hovered[0] === position))
          label(text, gutter - 6, centre + 4, { "text-anchor": "end" }, hovered && hovered[0] === position);
        if ((position % apart === 0 && !near(1, flat ? 7 * longest + 5 : 13)) || (hovered && hovered[1] === position)) {
          const x = gutter + centre;
          const y = width - gutter + 14;
          const turned = { "text-anchor": "end", transform: `rotate(-90 ${x + 4} ${y - 6})`, dx: 0, dy: 0 };
          if (flat) label(text, x, y, { "text-anchor": "middle" }, hovered && hovered[1] === position);
          else label(text, x + 4, y - 6, turned, hovered && hovered[1] === position);
        }
      }
      for (const [query, key] of targets)
        overlay.append(
          svg("rect", {
            x: gutter + key * cell + 0.75, y: query * cell + 0.75,
            width: Math.max(cell - 1.5, 1), height: Math.max(cell - 1.5, 1), class: "pv-target",
          }),
        );
      if (hovered)
        overlay.append(
          svg("rect", { x: gutter, y: hovered[0] * cell, width: width - gutter, height: cell, class: "pv-cross" }),
          svg("rect", { x: gutter + hovered[1] * cell, y: 0, width: cell, height: width - gutter, class: "pv-cross" }),
        );
    };

    const say = () => {
      const { tokens, targets, hint } = spec.readings[state.reading];
      if (!tokens.length) return (readout.textContent = "No tokens.");
      if (!hovered) return (readout.textContent = hint);
      const [query, key] = hovered;
      const value = shown(state.step, state.head)[query * tokens.length + key];
      const isTarget = targets.some(([row, column]) => row === query && column === key);
      const name = (position) => (tokens[position] === String(position) ? `${position}` : `${position} “${tokens[position]}”`);
      readout.textContent =
        `query ${name(query)} ← key ${name(key)}: ${signed(value)}${isTarget ? "  (target)" : ""}`;
    };

    const drawLegend = (most) => {
      const negative = state.reference >= 0 || spec.readings[state.reading].negative;
      const lookup = colours();
      legendCanvas.width = negative ? 511 : 256;
      legendCanvas.height = 1;
      const image = new ImageData(lookup.slice(negative ? 0 : 4 * 255), legendCanvas.width, 1);
      legendCanvas.getContext("2d").putImageData(image, 0, 0);
      legendLow.textContent = negative ? signed(-most) : "0";
      legendHigh.textContent = negative ? signed(most) : number(most);
      legendNote.textContent =
        state.reference >= 0 ? `change since step ${spec.steps[state.reference]}`
        : state.ownScale ? "scale of this step" : nSteps > 1 ? "same scale at all steps" : "";
    };

    const thumbs = [];
    let drawTime = () => {};
    const update = () => {
      const most = range();
      drawMap(shown(state.step, state.head), most);
      thumbs.forEach(({ canvas, button }, head) => {
        paint(canvas, shown(state.step, head), size(), most, !spec.readings[state.reading].upper);
        button.setAttribute("aria-pressed", String(head === state.head));
      });
      const head = nHeads > 1 ? spec.heads[state.head] : "";
      const step = spec.steps ? `step ${spec.steps[state.step]}` : "";
      now.textContent = [head, step].filter(Boolean).map((text) => ` · ${text}`).join("");
      drawLegend(most);
      drawOverlay();
      drawTime();
      say();
    };

    // -- controls --
    const talk = talking(root, spec);
    const { hear, tell } = talk;
    const choice = (name, options, change) => {
      const select = html("select", { ariaLabel: name, onchange: () => {
        change(select.selectedIndex); update(); tell(name, select.value);
      } }, ...options.map((text) => html("option", {}, text)));
      side.append(html("label", { className: "pv-field" }, html("span", {}, name), select));
      hear[name] = (value) => {
        const index = options.indexOf(value);
        if (index < 0) return;
        select.selectedIndex = index; change(index); update();
      };
    };
    hear.part = ({ layer, head }) => {
      const index = spec.heads.indexOf(`head ${head}`); // a view may show some of them
      if (layer !== spec.layer || index < 0) return;
      state.head = index; update();
      plot.scrollIntoView({ block: "nearest", behavior: "smooth" });
    };
    if (nHeads > 1) {
      hear.head = (head) => { if (head < nHeads) { state.head = head; update(); } };
      const strip = html("div", { className: "pv-heads", role: "group", ariaLabel: "heads" });
      spec.heads.forEach((name, head) => {
        const canvas = html("canvas");
        const button = html("button", { type: "button", className: "pv-head", onclick: () => { state.head = head; update(); tell("head", head); } },
          canvas, html("span", {}, name));
        thumbs.push({ canvas, button });
        strip.append(button);
      });
      side.append(strip);
    }

    drawTime = timeline(root, spec, side, talk, state, update);
    if (spec.readings.length > 1) choice("Show", spec.readings.map(({ name }) => name), (index) => { state.reading = index; hovered = null; });
    if (nSteps > 1) {
      choice("Compare with", ["nothing", ...spec.steps.map((step) => `step ${step}`)], (index) => (state.reference = index - 1));
      choice("Colours", ["same scale at all steps", "scale of each step"], (index) => (state.ownScale = index === 1));
    }
    if (!side.childElementCount) body.classList.add("pv-alone");

    // -- pointing at cells --
    const point = (event) => {
      const box = overlay.getBoundingClientRect();
      const cell = (box.width - gutter) / size();
      const key = Math.floor((event.clientX - box.left - gutter) / cell);
      const query = Math.floor((event.clientY - box.top) / cell);
      const inside = key >= 0 && query >= 0 && key < size() && query < size();
      hovered = inside ? [query, key] : null;
      drawOverlay();
      say();
    };
    overlay.addEventListener("pointermove", point);
    overlay.addEventListener("pointerdown", point);
    overlay.addEventListener("pointerleave", (event) => {
      if (event.pointerType !== "mouse") return; // a tapped cell stays
      hovered = null; drawOverlay(); say();
    });
    new ResizeObserver(() => { drawOverlay(); drawTime(); }).observe(plot);
    update();
  };

  // ---- waiting for the page ------------------------------------------------------------------------------------------
  // A notebook may run a cell's script before the cell's output is part of the page, or show one output twice.
  const push = (spec, tries = 0) => {
    const roots = document.querySelectorAll(`[data-plateau-view="${spec.id}"]:not([data-mounted])`);
    if (!roots.length && tries < 100) return setTimeout(() => push(spec, tries + 1), 50);
    for (const root of roots) {
      root.dataset.mounted = "";
      ({ circuit: window.plateauCircuit, grid: window.plateauGrid }[spec.kind] || mount)(root, spec);
    }
  };
  const waiting = Array.isArray(window.plateauViews) ? window.plateauViews : [];
  window.plateauViews = { push };
  waiting.forEach((spec) => push(spec));
})();
