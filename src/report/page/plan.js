const plan = data;
const METRICS = {
  output_tokens_per_s: ["output tok/s", true], speedup: ["speedup", true], tpot_ms: ["TPOT ms", false],
  ttft_ms: ["TTFT ms", false], latency_ms: ["latency ms", false], memory_gib: ["GiB/device", false],
};
const BUDGET_UNITS = { ttft_ms: "ms", tpot_ms: "ms", latency_ms: "ms", output_tokens_per_s: "tok/s", params: "", memory_gib: "GiB", speedup: "x" };
const AT_LEAST = ["output_tokens_per_s", "speedup"];

const interval = e => e.low === e.high ? short(e.value) : short(e.value) + " (" + short(e.low) + "–" + short(e.high) + ")";
const shape = s => s.layers + "L d" + s.hidden + " f" + s.ffn + " q" + s.q_heads + " kv" + s.kv_heads + " hd" + s.head_dim;
const limit = (metric, value) => (METRICS[metric] ? METRICS[metric][0] : metric) + (AT_LEAST.includes(metric) ? " ≥ " : " ≤ ")
  + (metric === "params" ? count(value) : short(value) + (metric === "speedup" ? "×" : ""));
// With several scenarios throughputs of different devices do not compare; speedups do.
const view = { x: plan.scenarios.length > 1 ? "speedup" : "output_tokens_per_s", scenario: 0, shown: { infeasible: true, feasible: true, front: true, marks: true } };
const full = c => ({ shape: c.shape, params: c.params, feasible: c.feasible, metrics: c.metrics, accuracy: c.quality.accuracy_retained_percent, candidate: c });
const sampled = p => ({
  shape: p.shape, params: p.params, feasible: p.feasible,
  metrics: p.metrics.map((m, i) => Object.assign({ speedup: m.output_tokens_per_s / plan.parent.metrics[i].output_tokens_per_s.value }, m)),
  accuracy: p.accuracy_retained_percent,
});
const plain = v => typeof v === "number" ? v : v.value;
const groups = {
  infeasible: plan.sample.filter(p => !p.feasible).map(sampled),
  feasible: plan.sample.filter(p => p.feasible).map(sampled),
  front: plan.front.map(full),
};
const marks = [["parent", plan.parent], ["knee", plan.knee], ["chosen", plan.chosen]].filter(m => m[1]).map(([name, c]) => ({ name, point: full(c) }));
const xOf = p => plain(p.metrics[view.scenario][view.x]);
const yOf = p => plain(p.accuracy);

// Outline of a mark: told apart by form as well as by colour.
function symbol(name, [x, y]) {
  const radii = name === "chosen" ? Array.from({ length: 10 }, (_, i) => i % 2 ? 5.6 : 12.5) : Array(4).fill(name === "parent" ? 9 : 8.5);
  const corner = (r, i) => { const a = i * 2 * Math.PI / radii.length; return [x + r * Math.sin(a), y - r * Math.cos(a)]; };
  return "M" + radii.map(corner).join("L") + "Z";
}

function chart() {
  const W = 960, H = 560, left = 74, bottom = 50, top = 14, right = 16;
  const all = [...groups.infeasible, ...groups.feasible, ...groups.front, ...marks.map(m => m.point)];
  const limits = plan.budgets.map(b => {
    if (b.metric === view.x) return [b, b.limit];
    if (b.metric === "speedup" && view.x === "output_tokens_per_s") return [b, b.limit * plan.parent.metrics[view.scenario].output_tokens_per_s.value];
    return null;
  }).filter(Boolean);
  const range = values => values.reduce(([low, high], v) => [Math.min(low, v), Math.max(high, v)], [Infinity, -Infinity]);
  const padded = ([low, high]) => { const pad = (high - low || Math.abs(low) || 1) * 0.04; return [low - pad, high + pad]; };
  const [y0, y1] = padded(range(all.map(yOf)));
  let [x0, x1] = padded(range(all.map(xOf)));
  // A budget far from every shape would squash them.
  const near = limits.filter(([, x]) => x > 2 * x0 - x1 && x < 2 * x1 - x0);
  [x0, x1] = padded(range([x0, x1].concat(near.map(l => l[1]))));
  const px = x => left + (x - x0) / (x1 - x0) * (W - left - right), py = y => H - bottom - (y - y0) / (y1 - y0) * (H - top - bottom);
  const svg = plane({ W, H, left, bottom, top, right }, {
    px, py, xTicks: ticks(x0, x1, 8).map(t => [t, short(t)]), yTicks: ticks(y0, y1, 8).map(t => [t, short(t)]),
    xLabel: METRICS[view.x][0], yLabel: "accuracy retained, % of parent (prior)",
  });
  for (const [b, x] of near) svg.append(
    el("line", { x1: px(x), x2: px(x), y1: top, y2: H - bottom, stroke: "var(--budget)", "stroke-width": 2, "stroke-dasharray": "6 5" }),
    el("text", { x: px(x) + (px(x) > W / 2 ? -7 : 7), y: H - bottom - 12, "text-anchor": px(x) > W / 2 ? "end" : "start", style: "fill: var(--budget); font-weight: 600" }, limit(b.metric, b.limit)));
  // An interval from one end to the other: a cap at an end that is shown, an arrow where it goes on beyond the frame.
  const bar = (from, to, stroke) => {
    const inside = ([x, y]) => [Math.min(Math.max(x, left), W - right), Math.min(Math.max(y, top), H - bottom)];
    const [p, q] = [inside(from), inside(to)], long = Math.hypot(q[0] - p[0], q[1] - p[1]);
    if (long < 1) return null;
    const end = ([x, y], goesOn, sign) => {
      const [dx, dy] = [sign * (q[0] - p[0]) / long, sign * (q[1] - p[1]) / long], back = goesOn ? 9 : 0;
      const [bx, by] = [x - dx * back, y - dy * back];
      return `M${bx - 5 * dy} ${by + 5 * dx}L${goesOn ? x + " " + y + "L" : ""}${bx + 5 * dy} ${by - 5 * dx}`;
    };
    const d = `M${p}L${q}` + end(p, p + "" !== from + "", -1) + end(q, q + "" !== to + "", 1);
    return el("path", { d, stroke, fill: "none", "stroke-width": 1.7 });
  };
  const dots = [];
  const dot = (p, r, fill, stroke) => {
    const node = el("circle", { cx: px(xOf(p)), cy: py(yOf(p)), r, fill, stroke: stroke || "none", "stroke-width": 1.6 });
    dots.push([px(xOf(p)), py(yOf(p)), p]); svg.append(node);
  };
  if (view.shown.infeasible) groups.infeasible.forEach(p => dot(p, 2, "var(--infeasible)"));
  if (view.shown.feasible) groups.feasible.forEach(p => dot(p, 2.4, "var(--dominated)"));
  if (view.shown.front) groups.front.forEach(p => dot(p, 3.4, p.feasible ? "var(--front)" : "var(--card)", "var(--front)"));
  if (view.shown.marks) for (const { name, point } of marks) {
    const e = point.metrics[view.scenario][view.x], a = point.accuracy, at = [px(e.value), py(a.value)], colour = `var(--${name})`;
    svg.append(...[bar([px(e.low), at[1]], [px(e.high), at[1]], colour), bar([at[0], py(a.low)], [at[0], py(a.high)], colour)].filter(Boolean),
      el("path", { d: symbol(name, at), fill: colour, stroke: "var(--card)", "stroke-width": 2 }),
      el("text", { x: at[0] + 13, y: at[1] - 10, style: "font-weight: 600" }, name));
    dots.push([...at, point]);
  }
  followPointer(svg, dots, describe);
  document.getElementById("chart").replaceChildren(svg);
}

function describe(p) {
  const s = p.shape, m = p.metrics[view.scenario];
  const row = (name, v) => typeof v === "number" ? [name, short(v), ""] : [name, interval(v), v.source];
  const rows = [["layers", s.layers, ""], ["hidden size", s.hidden, ""], ["FFN width", s.ffn, ""], ["query / KV heads", s.q_heads + " / " + s.kv_heads, ""],
    ["parameters", count(p.params), ""], row("accuracy kept %", p.accuracy), ...Object.entries(METRICS).map(([key, [name]]) => row(name, m[key])),
    ...(p.candidate ? [row("loss increase, nats", p.candidate.quality.loss_increase_nats)] : []), ["meets every budget", p.feasible ? "yes" : "no", ""]];
  document.getElementById("detail").replaceChildren(el("b", {}, shape(s)), table(["", "value (interval)", "source"], rows.map(r => r.map(String))));
}

function frontTable() {
  const columns = [["layers", p => p.shape.layers], ["hidden", p => p.shape.hidden], ["FFN", p => p.shape.ffn], ["q", p => p.shape.q_heads], ["kv", p => p.shape.kv_heads],
    ["params", p => p.params, count], ...Object.entries(METRICS).map(([key, [name]]) => [name, p => plain(p.metrics[view.scenario][key]), short]),
    ["accuracy kept %", p => plain(p.accuracy), v => v.toFixed(2)], ["in budget", p => p.feasible, v => v ? "yes" : "no"]];
  return sortable(columns, groups.front, describe);
}

function finalists() {
  if (!plan.finalists.length) return "";
  const rows = plan.finalists.map(({ candidate: c, ...f }) => [shape(c.shape), count(c.params), interval(c.quality.accuracy_retained_percent),
    short(Math.min(...c.metrics.map(m => m.speedup.value))) + "×", f.disagreement_percent.toFixed(3), f.extrapolated_percent.toFixed(1), (100 * f.probability).toFixed(0) + " %"]);
  return card("Finalists, predicted again in full", table(["shape, best first", "params", "accuracy kept %", "least speedup",
    "full against search, %", "time outside measured range, %", "chance that all budgets hold"], rows, [0]));
}

function breakdown() {
  if (!plan.chosen || !plan.chosen.breakdown) return null;
  const of = (candidate, phase) => (candidate.breakdown || []).filter(b => b.scenario === view.scenario && b.phase === phase);
  const phases = [...new Set(plan.parent.breakdown.map(b => b.phase))];
  return phases.map(phase => {
    const parent = of(plan.parent, phase), chosen = new Map(of(plan.chosen, phase).map(b => [b.op, b.latency_ms]));
    const widest = Math.max(...parent.map(b => b.latency_ms.value), 1e-12);
    const bar = (ms, kind) => el("span", { class: "bar " + kind, style: `width: ${Math.max(1, 180 * ms / widest)}px` });
    const rows = parent.slice().sort((a, b) => b.latency_ms.value - a.latency_ms.value).map(b => {
      const c = chosen.get(b.op);
      return [b.op, interval(b.latency_ms), c ? interval(c) : "–", el("div", {}, el("div", {}, bar(b.latency_ms.value, "parent")), c ? el("div", {}, bar(c.value, "chosen")) : null), b.latency_ms.source];
    });
    return el("div", {}, el("p", { class: "faded" }, phase + ", ms per request, all layers and steps"), table(["op", "parent", "chosen", "parent above, chosen below", "source"], rows, [3]));
  });
}

function build() {
  const r = plan.recipe, done = plan.outcome.status === "done", page = document.getElementById("page");
  document.title = r.model.name + " – archplan";
  const verdict = el("section", { class: "card verdict" + (done ? "" : " infeasible") },
    done ? [el("h2", {}, "Prune to " + shape(plan.chosen.shape)),
      el("p", {}, `${count(plan.chosen.params)} of ${count(plan.parent.params)} parameters; ` + plan.scenarios.map((s, i) => `${interval(plan.chosen.metrics[i].speedup)}× the parent's throughput on ${s.name}`).join("; ") + "."),
      r.request.scores ? el("p", {}, `Loss above the parent's: ${nats(plan.chosen.quality.loss_increase_nats)} nats a token, before any training (${plan.chosen.quality.loss_increase_nats.source}${plan.chosen.quality.loss_increase_nats.source === "scores" ? ": changes of this checkpoint, scored one by one" : " on the pruned checkpoint"}).`) : null,
      el("p", {}, `Accuracy retained: ${interval(plan.chosen.quality.accuracy_retained_percent)} % of the parent's (${plan.chosen.quality.accuracy_retained_percent.source}: published tables of other models, not this model's weights).`)]
      : [el("h2", {}, "No allowed shape meets the budgets"),
        table(["budget that binds", "scenario", "nearest", "shape that reaches it"], plan.outcome.binding.map(b =>
          [limit(b.metric, b.limit), b.scenario === null ? "" : plan.scenarios[b.scenario].name, short(b.nearest), shape(b.shape)]), [1, 3])],
    el("p", { class: "faded" }, `${plan.search.method}: ${plan.search.optimality}; ${grouped(plan.search.feasible)} of ${grouped(plan.search.enumerated)} shapes meet every budget. Parentheses hold 90 % intervals of cost, 80 % of accuracy.`));
  const choose = (key, options) => el("select", { onchange: e => { view[key] = key === "scenario" ? +e.target.value : e.target.value; draw(); } },
    options.map(([value, name]) => el("option", Object.assign({ value }, value === view[key] ? { selected: "" } : {}), name)));
  const toggle = (key, name, colour) => {
    const box = el("input", { type: "checkbox", onchange: e => { view.shown[key] = e.target.checked; chart(); } });
    box.checked = view.shown[key];
    return el("label", { class: "toggle" }, box, el("span", { class: "swatch", style: `background: var(--${colour})` }), name);
  };
  const controls = el("div", {},
    el("p", {}, "horizontal axis ", choose("x", Object.entries(METRICS).map(([key, [name]]) => [key, name]))),
    plan.scenarios.length > 1 ? el("p", {}, "scenario ", choose("scenario", plan.scenarios.map((s, i) => [i, s.name]))) : null,
    toggle("front", `front (${groups.front.length}; hollow: over budget)`, "front"), toggle("feasible", `feasible, a sample of ${groups.feasible.length}`, "dominated"),
    toggle("infeasible", `infeasible, a sample of ${groups.infeasible.length}`, "infeasible"), toggle("marks", "parent, chosen, knee with intervals", "chosen"),
    el("div", { id: "detail" }, el("span", { class: "faded" }, "Point at a shape to see it here.")));
  const checks = plan.budgets.flatMap(b => b.checks.map(c => [limit(b.metric, b.limit), c.scenario === null ? "" : plan.scenarios[c.scenario].name,
    (b.metric === "params" ? count(c.value.value) : interval(c.value)) + " " + BUDGET_UNITS[b.metric], (100 * c.probability).toFixed(0) + " %", c.value.source]));
  page.replaceChildren(...[
    el("h1", {}, r.model.name), el("p", { class: "faded" }, plan.scenarios.map(s => s.name).join("  ·  ")), verdict,
    card("Accuracy against cost", el("div", { class: "split" }, el("div", { id: "chart" }), controls)),
    checks.length ? card("Budgets on the chosen shape", table(["budget", "scenario", "chosen", "chance that it holds", "source"], checks, [1])) : "",
    card("Parent, chosen, knee", el("div", { id: "marked" })), tries(plan), layers(plan), finalists(), el("div", { id: "ops" }), card("Front", el("div", { id: "front" })),
    card("Search space: " + grouped(plan.space.size) + " shapes", table(["axis", "parent", "multiple of", "values", "count"], plan.space.axes.map(a =>
      [a.name, String(a.parent), String(a.multiple), a.values.length > 9 ? a.values[0] + " … " + a.values[a.values.length - 1] : a.values.join(", "), String(a.values.length)]), [3]),
      plan.space.rules.map(rule => el("p", { class: "faded" }, rule))),
    card("Recipe", el("p", {}, el("code", {}, r.command)), el("p", { class: "faded" }, `archplan ${r.version}, seed ${r.seed}, ${plan.search.elapsed_s.toFixed(2)} s. Model: ${r.model.source}.`),
      r.profiles.map(p => el("div", {}, el("p", {}, el("b", {}, p.name), " – " + p.device + ", sha256 ", el("code", {}, p.sha256)), el("ul", {}, p.provenance.map(line => el("li", { class: "faded" }, line))))))].flat());
  draw();
}
function draw() {
  chart();
  const keys = Object.keys(METRICS);
  document.getElementById("marked").replaceChildren(...plan.scenarios.map((s, i) => {
    const rows = [["shape", p => shape(p.shape)], ["parameters", p => count(p.params), () => "exact"],
      ...keys.map(k => [METRICS[k][0], p => interval(p.metrics[i][k]), p => p.metrics[i][k].source]),
      ["loss increase, nats a token", p => nats(p.candidate.quality.loss_increase_nats), p => p.candidate.quality.loss_increase_nats.source],
      ["accuracy kept %", p => interval(p.accuracy), p => p.accuracy.source], ["meets every budget", p => p.feasible ? "yes" : "no"]];
    const last = marks[marks.length - 1].point;
    return el("div", {}, el("p", { class: "faded" }, s.name), table(["", ...marks.map(m => m.name), "source"],
      rows.map(([name, of, source]) => [name, ...marks.map(m => of(m.point)), source ? source(last) : ""])));
  }));
  const ops = breakdown();
  document.getElementById("ops").replaceChildren(ops ? card("Where the time goes: " + plan.scenarios[view.scenario].name, ops) : "");
  document.getElementById("front").replaceChildren(frontTable());
  describe((marks.find(m => m.name === "chosen") || marks[0]).point);
}
build();
