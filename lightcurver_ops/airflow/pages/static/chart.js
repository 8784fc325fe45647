// Light curves and normalization curves as SVG: zoom, hover, click to the frame; all of it by keyboard, too.
"use strict";

(() => {
  const NS = "http://www.w3.org/2000/svg";
  const MARGIN = { left: 62, right: 14, top: 12, bottom: 40 };

  const svg = (name, attributes = {}, parent = null) => {
    const node = document.createElementNS(NS, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    parent?.append(node);
    return node;
  };
  const html = (name, properties = {}, ...children) => {
    const node = Object.assign(document.createElement(name), properties);
    node.append(...children);
    return node;
  };
  const known = (value) => value !== null && Number.isFinite(value);
  const fixed = (value, digits) => known(value) ? value.toFixed(digits) : "–";

  const ticks = (low, high, wanted) => {
    const raw = (high - low) / wanted, power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((one) => one * power).find((one) => one >= raw);
    const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
    const marks = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) marks.push([i * step, (i * step).toFixed(digits)]);
    return marks;
  };

  // Series: { name, colour, faint, points: [{ x, y, low, high, text, frame }] }, low and high the ends of the error bar.
  class Chart {
    constructor(home, { xLabel }) {
      this.home = home;
      this.xLabel = xLabel;
      this.plot = svg("svg", { class: "plot", tabindex: "0", role: "application", "aria-label": `${home.getAttribute("aria-label")}. Arrow keys move from point to point, Enter opens the frame, + and - zoom, 0 shows all.` });
      this.tip = html("div", { className: "tip", hidden: true });
      this.voice = html("div", { className: "away" });
      this.voice.setAttribute("aria-live", "polite");
      home.append(this.plot, this.tip, this.voice);
      this.range = null;
      this.here = null;
      this.listen();
      new ResizeObserver(() => this.draw()).observe(this.plot);
    }

    show(series, yLabel, inverted) {
      Object.assign(this, { series, yLabel, inverted });
      this.here = null;
      this.draw();
    }

    get points() { return this.series.flatMap((one) => one.points.map((point) => ({ ...point, series: one }))); }

    limits() {
      const all = this.series.flatMap((one) => one.points);
      const xs = all.map((point) => point.x);
      let [x0, x1] = xs.length ? [Math.min(...xs), Math.max(...xs)] : [0, 1];
      const pad = 0.02 * (x1 - x0) || 0.5;
      const full = [x0 - pad, x1 + pad];
      const x = this.range ? this.range.x : full;
      if (this.range?.y) return { x, y: this.range.y, full };
      const inside = all.filter((point) => point.x >= x[0] && point.x <= x[1]);
      // Error bars count as far as they are not much longer than the usual one, so that a single bad point hides no other.
      const bars = inside.map((point) => point.high - point.low).filter(known).sort((a, b) => a - b);
      const usual = bars.length ? 3 * bars[Math.floor(bars.length / 2)] : 0;
      const ends = inside.flatMap((point) => [point.y, Math.max(point.low ?? point.y, point.y - usual), Math.min(point.high ?? point.y, point.y + usual)]).filter(known);
      let [y0, y1] = ends.length ? [Math.min(...ends), Math.max(...ends)] : [0, 1];
      const margin = 0.06 * (y1 - y0) || 0.05;
      return { x, y: [y0 - margin, y1 + margin], full };
    }

    draw() {
      if (!this.series) return;
      const width = this.plot.clientWidth, height = this.plot.clientHeight;
      if (!width || !height) return;
      const { x, y } = this.view = this.limits();
      const inner = { w: width - MARGIN.left - MARGIN.right, h: height - MARGIN.top - MARGIN.bottom };
      this.inner = inner;
      this.toX = (value) => MARGIN.left + (value - x[0]) / (x[1] - x[0]) * inner.w;
      this.toY = (value) => MARGIN.top + (this.inverted ? (value - y[0]) : (y[1] - value)) / (y[1] - y[0]) * inner.h;
      this.fromX = (pixel) => x[0] + (pixel - MARGIN.left) / inner.w * (x[1] - x[0]);
      this.fromY = (pixel) => { const t = (pixel - MARGIN.top) / inner.h * (y[1] - y[0]); return this.inverted ? y[0] + t : y[1] - t; };
      this.plot.replaceChildren();
      this.plot.setAttribute("viewBox", `0 0 ${width} ${height}`);
      const clip = svg("clipPath", { id: "inside" }, svg("defs", {}, this.plot));
      svg("rect", { x: MARGIN.left, y: MARGIN.top, width: inner.w, height: inner.h }, clip);
      this.axes(width, height);
      const group = svg("g", { "clip-path": "url(#inside)" }, this.plot);
      for (const one of this.series) this.drawSeries(one, group, x);
      this.mark = svg("circle", { class: "here", r: 7, visibility: "hidden" }, group);
      this.box = svg("rect", { class: "box", visibility: "hidden" }, this.plot);
      this.point(this.here, false);
    }

    axes(width, height) {
      const { x, y } = this.view, bottom = height - MARGIN.bottom;
      const grid = svg("g", { class: "grid" }, this.plot), axis = svg("g", { class: "axis" }, this.plot);
      for (const [value, text] of ticks(x[0], x[1], width / 110)) {
        const at = this.toX(value);
        svg("line", { x1: at, x2: at, y1: MARGIN.top, y2: bottom }, grid);
        svg("text", { x: at, y: bottom + 16, "text-anchor": "middle" }, axis).textContent = text;
      }
      for (const [value, text] of ticks(y[0], y[1], height / 55)) {
        const at = this.toY(value);
        svg("line", { x1: MARGIN.left, x2: width - MARGIN.right, y1: at, y2: at }, grid);
        svg("text", { x: MARGIN.left - 6, y: at + 4, "text-anchor": "end" }, axis).textContent = text;
      }
      svg("path", { d: `M${MARGIN.left},${MARGIN.top}V${bottom}H${width - MARGIN.right}`, fill: "none" }, axis);
      svg("text", { x: MARGIN.left + this.inner.w / 2, y: height - 6, "text-anchor": "middle" }, axis).textContent = this.xLabel;
      svg("text", { transform: `translate(14 ${MARGIN.top + this.inner.h / 2}) rotate(-90)`, "text-anchor": "middle" }, axis).textContent = this.yLabel;
    }

    drawSeries(one, group, [x0, x1]) {
      const own = svg("g", { class: one.faint ? "faint" : "" }, group);
      let bars = "";
      const dots = document.createDocumentFragment();
      for (const point of one.points) {
        if (point.x < x0 || point.x > x1) continue;
        const at = this.toX(point.x).toFixed(1), level = this.toY(point.y).toFixed(1);
        if (known(point.low) && known(point.high)) bars += `M${at},${this.toY(point.low).toFixed(1)}V${this.toY(point.high).toFixed(1)}`;
        dots.append(svg("circle", { cx: at, cy: level, r: one.faint ? 2.2 : 3.4 }));
      }
      svg("path", { d: bars, class: `s${one.colour}`, "stroke-width": 1, fill: "none" }, own);
      const g = svg("g", { class: `f${one.colour}` }, own);
      g.append(dots);
    }

    // Marks a point (or none) and says what it is.
    point(point, speak = true) {
      this.here = point;
      this.mark.setAttribute("visibility", point ? "visible" : "hidden");
      this.tip.hidden = !point;
      if (!point) return;
      const x = this.toX(point.x), y = this.toY(point.y);
      this.mark.setAttribute("cx", x);
      this.mark.setAttribute("cy", y);
      this.tip.textContent = point.text;
      const right = x > this.plot.clientWidth / 2;
      this.tip.style.left = right ? "" : `${x + 14}px`;
      this.tip.style.right = right ? `${this.home.clientWidth - x + 14}px` : "";
      const offset = this.plot.getBoundingClientRect().top - this.home.getBoundingClientRect().top;
      this.tip.style.top = `${offset + Math.max(4, Math.min(y - 20, this.plot.clientHeight - 130))}px`;
      if (speak) this.voice.textContent = point.text;
    }

    nearest(px, py) {
      let best = null, least = 24 ** 2;
      for (const point of this.points) {
        // Of an exposure and its night at one place, the exposure: it leads to its frame.
        const distance = (this.toX(point.x) - px) ** 2 + (this.toY(point.y) - py) ** 2 + (point.frame == null ? 64 : 0);
        if (distance < least) [best, least] = [point, distance];
      }
      return best;
    }

    zoom(factor, centre = (this.view.x[0] + this.view.x[1]) / 2) {
      const [x0, x1] = this.view.x, [f0, f1] = this.view.full;
      const next = [centre + (x0 - centre) * factor, centre + (x1 - centre) * factor];
      this.range = next[1] - next[0] >= f1 - f0 ? null : { x: next };
      this.draw();
      this.zoomed?.();
    }

    all() { this.range = null; this.draw(); this.zoomed?.(); }

    open(point) { if (point?.frame != null) location.assign(`${this.home.dataset.frames}${point.frame}/`); }

    listen() {
      let start = null, moved = false;
      const at = (event) => { const box = this.plot.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
      this.plot.addEventListener("pointerdown", (event) => { if (event.button === 0 && this.series) { start = at(event); moved = false; this.plot.setPointerCapture(event.pointerId); } });
      this.plot.addEventListener("pointermove", (event) => {
        if (!this.series) return;
        const [px, py] = at(event);
        if (!start) { this.point(this.nearest(px, py)); return; }
        if (Math.hypot(px - start[0], py - start[1]) < 5 && !moved) return;
        moved = true;
        this.point(null);
        const b = { x: Math.min(px, start[0]), y: Math.min(py, start[1]), width: Math.abs(px - start[0]), height: Math.abs(py - start[1]), visibility: "visible" };
        for (const [key, value] of Object.entries(b)) this.box.setAttribute(key, value);
      });
      this.plot.addEventListener("pointerup", (event) => {
        if (!start) return;
        const [px, py] = at(event), [sx, sy] = start;
        start = null;
        this.box.setAttribute("visibility", "hidden");
        if (!moved) { this.open(this.nearest(px, py)); return; }
        if (Math.abs(px - sx) < 8) return;
        const ys = [this.fromY(py), this.fromY(sy)].sort((a, b) => a - b);
        // A flat box chooses days alone: the values follow.
        this.range = { x: [this.fromX(Math.min(px, sx)), this.fromX(Math.max(px, sx))], y: Math.abs(py - sy) > 30 ? ys : null };
        this.draw();
        this.zoomed?.();
      });
      this.plot.addEventListener("pointercancel", () => { start = null; this.box?.setAttribute("visibility", "hidden"); });
      this.plot.addEventListener("pointerleave", () => { if (!start && this.series) this.point(null, false); });
      this.plot.addEventListener("dblclick", () => this.all());
      this.plot.addEventListener("wheel", (event) => {
        if (!event.ctrlKey || !this.series) return;  // the page scrolls otherwise
        event.preventDefault();
        this.zoom(event.deltaY > 0 ? 1.25 : 0.8, this.fromX(at(event)[0]));
      }, { passive: false });
      this.plot.addEventListener("keydown", (event) => this.key(event));
    }

    key(event) {
      if (!this.series || event.ctrlKey || event.metaKey || event.altKey) return;
      const centre = this.here?.x;
      const visible = (one) => one.points.map((point) => ({ ...point, series: one })).filter((point) => point.x >= this.view.x[0] && point.x <= this.view.x[1]);
      const lines = this.series.filter((one) => visible(one).length);
      const line = Math.max(0, lines.findIndex((one) => one === this.here?.series));
      const move = (step) => {
        if (!lines.length) return;
        const own = visible(lines[line]);
        const i = this.here ? own.findIndex((point) => point.x === this.here.x && point.frame === this.here.frame) : step > 0 ? -1 : own.length;
        this.point(own[Math.max(0, Math.min(own.length - 1, i + step))]);
      };
      const jump = (step) => {
        if (!lines.length) return;
        const own = visible(lines[(line + step + lines.length) % lines.length]);
        const x = this.here?.x ?? own[0].x;
        this.point(own.reduce((a, b) => Math.abs(b.x - x) < Math.abs(a.x - x) ? b : a));
      };
      const actions = {
        ArrowRight: () => move(1), ArrowLeft: () => move(-1), ArrowUp: () => jump(-1), ArrowDown: () => jump(1),
        Enter: () => this.open(this.here), Escape: () => this.point(null),
        "+": () => this.zoom(0.7, centre), "=": () => this.zoom(0.7, centre), "-": () => this.zoom(1.4, centre), 0: () => this.all(),
      };
      const action = actions[event.key];
      if (!action) return;
      event.preventDefault();
      action();
    }
  }

  const choice = (label, options, value, changed) => {
    const select = html("select", {}, ...options.map(([key, text]) => html("option", { value: key, textContent: text })));
    select.value = value;
    select.addEventListener("change", () => changed(select.value));
    return html("label", {}, `${label} `, select);
  };
  const box = (label, checked, changed, colour = null) => {
    const input = html("input", { type: "checkbox", checked });
    input.addEventListener("change", () => changed(input.checked));
    const key = html("label", { className: "key" }, input);
    if (colour !== null) key.append(html("i", { className: `c${colour}` }));
    key.append(label);
    return key;
  };
  const buttons = (chart) => {
    const make = (text, title, action) => { const one = html("button", { type: "button", textContent: text, title }); one.addEventListener("click", action); return one; };
    return [make("+", "zoom in", () => chart.zoom(0.6)), make("−", "zoom out", () => chart.zoom(1.6)), make("all", "show all", () => chart.all())];
  };

  const curvePoints = (table, label, quantity, about) => {
    const image = table.images[label], points = [];
    table.mjd.forEach((mjd, i) => {
      const y = image[quantity][i];
      if (!known(y)) return;
      const [down, up] = quantity === "mag" ? [image.d_mag_down?.[i], image.d_mag_up?.[i]] : [image.d_flux?.[i], image.d_flux?.[i]];
      const error = known(down) && known(up) ? (Math.abs(down - up) < 5e-4 || quantity === "flux" ? ` ± ${fixed(up, quantity === "mag" ? 3 : 2)}` : ` +${fixed(up, 3)} −${fixed(down, 3)}`) : "";
      points.push({
        x: mjd, y, low: known(down) ? y - down : null, high: known(up) ? y + up : null, frame: table.frame?.[i] ?? null,
        text: `${label}: ${fixed(y, quantity === "mag" ? 3 : 2)}${error}${quantity === "mag" ? " mag" : " e-/s"}\nMJD ${fixed(mjd, 5)}${about(i)}`,
      });
    });
    return points;
  };

  const curve = (home, data) => {
    const all = [...data.labels, ...Object.keys(data.controls?.images ?? {})];
    const anyMag = data.labels.some((label) => data.epochs.images[label].mag.some(known));
    const state = { quantity: anyMag ? "mag" : "flux", per: data.nights.mjd.length > 1 ? "both" : "epoch", shown: new Set(data.labels) };
    const bar = html("div", { className: "bar" });
    home.append(bar);
    const chart = new Chart(home, { xLabel: "MJD (days, UTC)" });
    const epochText = (i) => `\n${data.epochs.name[i]}\nseeing ${fixed(data.epochs.seeing[i], 2)}″, airmass ${fixed(data.epochs.airmass[i], 2)}, χ² ${fixed(data.epochs.chi2[i], 2)}`;
    const update = () => {
      const series = [];
      all.forEach((label, i) => {
        if (!state.shown.has(label)) return;
        const control = i >= data.labels.length, colour = i % 7;
        if (control) {
          series.push({ name: label, colour, points: curvePoints(data.controls, label, state.quantity, (e) => `\ncontrol star, seeing ${fixed(data.controls.seeing[e], 2)}`) });
          return;
        }
        if (state.per !== "night") series.push({ name: label, colour, faint: state.per === "both", points: curvePoints(data.epochs, label, state.quantity, epochText) });
        if (state.per !== "epoch") series.push({ name: `${label} per night`, colour, points: curvePoints(data.nights, label, state.quantity, (n) => `\nnight of ${data.nights.images[label].count[n]} exposures, χ² ${fixed(data.nights.chi2[n], 2)}`) });
      });
      chart.show(series, state.quantity === "mag" ? "magnitude" : "flux (e-/s)", state.quantity === "mag");
    };
    all.forEach((label, i) => bar.append(box(i >= data.labels.length ? `control ${label}` : label, state.shown.has(label), (on) => { state.shown[on ? "add" : "delete"](label); chart.range = chart.range && { x: chart.range.x }; update(); }, i % 7)));
    bar.append(
      choice("per", [["epoch", "exposure"], ["night", "night"], ["both", "night and exposure"]], state.per, (value) => { state.per = value; update(); }),
      choice("as", [["mag", "magnitudes"], ["flux", "fluxes"]], state.quantity, (value) => { state.quantity = value; chart.range = chart.range && { x: chart.range.x }; update(); }),
      ...buttons(chart),
    );
    home.append(html("p", { className: "quiet hint", textContent: "Drag to zoom, double click for all, click a point for its frame." }));
    update();
  };

  const stars = (home, data) => {
    const state = { star: "" };
    const bar = html("div", { className: "bar" });
    home.append(bar);
    const chart = new Chart(home, { xLabel: "MJD (days, UTC)" });
    const points = (values, errors, label) => data.mjd.flatMap((mjd, i) => known(values[i]) ? [{
      x: mjd, y: values[i], low: known(errors[i]) ? values[i] - errors[i] : null, high: known(errors[i]) ? values[i] + errors[i] : null, frame: data.frame[i],
      text: `${label}: ${fixed(values[i], 4)} ± ${fixed(errors[i], 4)}\nMJD ${fixed(mjd, 5)}\n${data.name[i]}`,
    }] : []);
    const update = () => {
      const one = data.stars.find((star) => star.name === state.star);
      if (one) chart.show([{ name: one.name, colour: one.variable ? 1 : 0, points: points(one.value, one.error, `star ${one.name}`) }], `star ${one.name} over its mean and the coefficient`, false);
      else if (state.star === "*") chart.show(data.stars.map((star, i) => ({ name: star.name, colour: i % 7, faint: !star.variable, points: points(star.value, star.error, `star ${star.name}`) })), "stars over their mean and the coefficient", false);
      else chart.show([{ name: "coefficient", colour: 6, points: points(data.coefficient, data.error, "coefficient") }], "normalization coefficient", false);
    };
    const options = [["", "coefficient of the frames"], ["*", "all stars, divided by it"], ...data.stars.map((star) => [star.name, `star ${star.name}${star.variable ? " (variable)" : ""}`])];
    bar.append(choice("Show", options, "", (value) => { state.star = value; chart.range = null; update(); }), ...buttons(chart));
    update();
  };

  for (const home of document.querySelectorAll(".chart")) {
    fetch(home.dataset.source, { credentials: "same-origin" })
      .then((answer) => { if (!answer.ok) throw new Error(`the data did not come (${answer.status})`); return answer.json(); })
      .then((data) => { (home.dataset.kind === "stars" ? stars : curve)(home, data); home.dataset.ready = "yes"; })
      .catch((error) => home.append(html("p", { className: "bad", textContent: error.message })));
  }
})();
