// What the views of a page have in common: elements, numbers, other views that move along, a slider over the steps.
window.plateauTools = window.plateauTools || (() => {
  const PLAY_MS = 450;

  // ---- small tools -------------------------------------------------------------------------------------------------
  const html = (tag, props = {}, ...children) => {
    const node = Object.assign(document.createElement(tag), props);
    node.append(...children);
    return node;
  };
  const svg = (tag, attributes = {}, text = null) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    if (text !== null) node.textContent = text;
    return node;
  };
  const number = (value) => (Math.abs(value) >= 1e-3 ? String(+value.toFixed(4)) : String(+value.toPrecision(4)));
  const signed = (value) => (value > 0 ? "+" : "") + number(value).replace("-", "−");
  const clip = (text, length) => (text.length > length ? text.slice(0, length - 1) + "…" : text);
  const visible = (token) => (token === "" ? "∅" : token.replace(/ /g, "␣").replace(/\n/g, "↵").replace(/\t/g, "⇥"));

  const decode = (reading) => {
    const bytes = Uint8Array.from(atob(reading.data), (character) => character.charCodeAt(0));
    const integers = reading.bits === 16 ? new Int16Array(bytes.buffer) : new Int32Array(bytes.buffer);
    return Float64Array.from(integers, (value) => value / 10 ** reading.decimals);
  };

  // ---- what views have in common: other views of the page, and time -------------------------------------------------
  // Views of a group move together: what is chosen in one is told to the others, which hear it and tell nobody.
  const talking = (root, spec) => {
    const hear = {};
    const tell = (what, value) => {
      if (spec.group) document.dispatchEvent(new CustomEvent("plateau-view", { detail: { group: spec.group, from: root, what, value } }));
    };
    if (spec.group)
      document.addEventListener("plateau-view", ({ detail: { group, from, what, value } }) => {
        if (group === spec.group && from !== root && hear[what]) hear[what](value);
      });
    return { hear, tell };
  };

  // A slider over the steps, a button that plays them, the loss curve if there is one. What it returns brings them up to
  // date with `state.step`; `update` draws the rest.
  const timeline = (root, spec, side, { hear, tell }, state, update) => {
    const nSteps = spec.steps ? spec.steps.length : 1;
    if (nSteps < 2) return () => {};
    let timer = null;
    const stop = () => { clearInterval(timer); timer = null; play.textContent = "▶"; play.ariaLabel = "play"; };
    const nearest = (step) => spec.steps.reduce((best, other, index) => Math.abs(other - step) < Math.abs(spec.steps[best] - step) ? index : best, 0);
    const moveTo = (step, quiet = false) => {
      state.step = Math.max(0, Math.min(nSteps - 1, step));
      slider.value = state.step;
      update();
      if (!quiet) tell("step", spec.steps[state.step]);
    };
    const play = html("button", { type: "button", className: "pv-play", textContent: "▶", ariaLabel: "play", onclick: () => {
      if (timer) return stop();
      if (state.step === nSteps - 1) moveTo(0);
      play.textContent = "❚❚"; play.ariaLabel = "pause";
      timer = setInterval(() => {
        if (!root.isConnected || state.step === nSteps - 1) return stop();
        moveTo(state.step + 1);
      }, PLAY_MS);
    } });
    const slider = html("input", { type: "range", min: 0, max: nSteps - 1, value: state.step, ariaLabel: "training step", oninput: () => { stop(); moveTo(+slider.value); } });
    const drawCurve = spec.curve ? curve(side, spec, () => spec.steps[state.step], (step) => { stop(); moveTo(nearest(step)); }) : () => {};
    side.append(html("div", { className: "pv-time" }, play, slider));
    hear.step = (step) => { stop(); moveTo(nearest(step), true); };
    return () => { slider.setAttribute("aria-valuetext", `step ${spec.steps[state.step]}`); drawCurve(); };
  };

  // ---- the curve with the moving marker --------------------------------------------------------------------------------
  const curve = (side, spec, current, jump) => {
    const { title, log, step, values, levels } = spec.curve;
    const chart = svg("svg", { class: "pv-curve", role: "img", "aria-label": `${title}, with the shown step marked` });
    side.append(chart);
    const scaled = (at) => (log ? Math.log1p(at) : at);
    const first = Math.min(step[0], spec.steps[0]);
    const last = Math.max(step[step.length - 1], spec.steps[spec.steps.length - 1]);
    const heights = [...values, ...levels.map(([, value]) => value)];
    const high = Math.max(...heights), low = Math.min(...heights) - 0.06 * (high - Math.min(...heights));
    const height = 176, left = 34, right = 12, top = 20, bottom = 24;
    let width = 0;
    const x = (at) => left + ((scaled(at) - scaled(first)) / (scaled(last) - scaled(first) || 1)) * (width - left - right);
    const y = (at) => top + ((high - at) / (high - low || 1)) * (height - top - bottom);
    chart.addEventListener("click", (event) => {
      const box = chart.getBoundingClientRect();
      const share = (event.clientX - box.left - left) / (width - left - right);
      const at = scaled(first) + share * (scaled(last) - scaled(first));
      jump(log ? Math.expm1(at) : at);
    });
    // Where the name of a level is farthest from the curve: at its right or left end, above or below it.
    const freest = (value, room) => {
      const places = [];
      for (const end of ["end", "start"])
        for (const below of [false, true]) {
          const from = end === "end" ? width - right - 6 - room : left + 6;
          const baseline = y(value) + (below ? 13 : -4), middle = baseline - 4;
          const under = step.map((at, index) => [x(at), y(values[index])]).filter(([at]) => at >= from && at <= from + room);
          const inside = middle > top && middle < height - bottom;
          const clear = inside ? Math.min(14, ...under.map(([, at]) => Math.abs(at - middle))) : -1;
          places.push({ clear, at: { x: end === "end" ? from + room : from, y: baseline, "text-anchor": end } });
        }
      return places.reduce((best, place) => (place.clear > best.clear ? place : best)).at;
    };
    return () => {
      width = chart.clientWidth || side.clientWidth;
      if (!width) return;
      chart.setAttribute("viewBox", `0 0 ${width} ${height}`);
      chart.replaceChildren(svg("text", { x: 0, y: 10, class: "pv-label" }, title));
      for (const [name, value] of levels) {
        const text = `${name} ${value.toFixed(value < 0.1 ? 3 : 2)}`;
        if (name) chart.append(svg("text", { ...freest(value, 6.6 * text.length), class: "pv-label" }, text));
        chart.append(
          svg("line", { x1: left, x2: width - right, y1: y(value), y2: y(value), class: "pv-level" }),
          svg("text", { x: left - 5, y: y(value) + 4, class: "pv-label", "text-anchor": "end" }, value.toFixed(high - low < 2 ? 2 : 1)),
        );
      }
      chart.append(
        svg("line", { x1: left, x2: width - right, y1: height - bottom, y2: height - bottom, class: "pv-axis" }),
        svg("polyline", { points: step.map((at, index) => `${x(at).toFixed(1)},${y(values[index]).toFixed(1)}`).join(" "), class: "pv-line" }),
      );
      for (const at of spec.steps)
        chart.append(svg("line", { x1: x(at), x2: x(at), y1: height - bottom, y2: height - bottom + 4, class: "pv-axis" }));
      for (const [at, anchor] of [[first, "start"], [last, "end"]])
        chart.append(svg("text", { x: x(at), y: height - 6, class: "pv-label", "text-anchor": anchor }, `step ${at}`));
      const here = step.reduce((best, at, index) => (Math.abs(at - current()) < Math.abs(step[best] - current()) ? index : best), 0);
      chart.append(
        svg("line", { x1: x(current()), x2: x(current()), y1: top, y2: height - bottom, class: "pv-marker-line" }),
        svg("circle", { cx: x(current()), cy: y(values[here]), r: 5, class: "pv-marker" }),
      );
    };
  };

  return { html, svg, number, signed, clip, visible, decode, talking, timeline };
})();
