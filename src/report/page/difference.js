// Two profiles: facts, coverage, ratios of the calls both know, and a whole model.
const { summary } = data;
const compared = data.sets.map((s, i) => i).filter(i => data.sets[i].calls.length);
const view = { set: compared[0], plot: "latency_us" };
const current = () => data.sets[view.set];
const ratio = x => x.toFixed(3);
const read = ([call, a, b, spreadA, spreadB, verdict, ...further]) => ({ call, a, b, ratio: b / a, spreadA, spreadB, verdict, sizes: [a, ...further] });
const callsOf = set => set.read || (set.read = set.calls.map(read));
const kind = set => set.summary.dtype ? "type" : "backend";
const stated = v => v === null ? "not stated" : short(v) + " %";

function describe(row) {
  const set = current();
  const rows = [...row.call.map((v, i) => [i < set.dimensions.length ? set.dimensions[i] : kind(set), String(v)]), ["on A", time(row.a)], ["on B", time(row.b)],
    ["B / A", ratio(row.ratio)], ["B is", row.verdict], ["spread of repeats on A", stated(row.spreadA)], ["on B", stated(row.spreadB)],
    ...set.sizes.slice(1).map(([, label], i) => [label, size(row.sizes[i + 1])])];
  document.getElementById("detail").replaceChildren(el("b", {}, set.name), table(["", "this call"], rows));
}

function draw() {
  const set = current(), rows = callsOf(set), by = set.sizes.findIndex(([key]) => key === view.plot);
  const sorted = rows.slice(set.largest).map(r => r.ratio).sort((a, b) => a - b), at = q => sorted.length ? sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] : 1;
  const [low, high] = sorted.length ? [Math.min(1, at(0.005)), Math.max(1, at(0.995))] : range([1, ...rows.map(r => r.ratio)]), pad = Math.max(0.01, 0.06 * (high - low));
  const cut = rows.filter(r => r.ratio < low - pad || r.ratio > high + pad).length;
  document.getElementById("note").replaceChildren(drawn(rows.length, set.summary.ratios.n, "calls", "those that changed most") + (cut ? `; ${grouped(cut)} beyond the frame stand at its edge.` : ".") + " Tables count all calls. Faster and slower: by more than both may be off (" + set.off + ").");
  plot(document.getElementById("chart"), { x: logAxis(rows.map(r => r.sizes[by])), y: linearAxis(Math.max(0, low - pad), high + pad), level: 1, describe,
    xLabel: by ? set.sizes[by][1] : "latency on A (µs)", yLabel: "B / A: below 1 B is faster", points: rows.map(row => ({ x: row.sizes[by], y: row.ratio, row })),
    bins: by ? [] : set.summary.by_decade.filter(b => b.axis === "latency_us").map(b => ({ x: middle(b), low: b.p10_ratio, middle: b.median_ratio, high: b.p90_ratio })) });
  const columns = [...rows[0].call.map((_, i) => [i < set.dimensions.length ? set.dimensions[i] : kind(set), r => r.call[i]]), ["A µs", r => r.a, short], ["B µs", r => r.b, short],
    ["B / A", r => r.ratio, ratio], ["B is", r => r.verdict], ["spread A %", r => r.spreadA === null ? -1 : r.spreadA, v => v < 0 ? "–" : short(v)], ["spread B %", r => r.spreadB === null ? -1 : r.spreadB, v => v < 0 ? "–" : short(v)]];
  document.getElementById("largest").replaceChildren(sortable(columns, rows.slice(0, set.largest || rows.length), describe));
  document.getElementById("decades").replaceChildren(table(["axis", "from – to", "calls", "median B / A", "10th – 90th percentile", "geometric mean", "B faster %", "B slower %"],
    set.summary.by_decade.map(b => [b.axis === "latency_us" ? "latency on A, µs" : b.axis, stretchWords(b), grouped(b.n), ratio(b.median_ratio), ratio(b.p10_ratio) + " – " + ratio(b.p90_ratio), ratio(b.geometric_mean_ratio), b.faster_percent.toFixed(0), b.slower_percent.toFixed(0)])));
  describe(rows[0]);
}

function sets() {
  const head = ["kernels", "what is compared", "only in A", "only in B", "in both", "median B / A", "10th – 90th percentile", "geometric mean", "B faster %", "B slower %"];
  return el("table", {}, el("thead", {}, el("tr", {}, head.map((h, i) => el("th", i === 1 ? { class: "words" } : {}, h)))),
    el("tbody", {}, data.sets.map(({ name, summary: s }, i) => {
      const r = s.ratios, cells = [name, s.basis, grouped(s.only_a), grouped(s.only_b), grouped(s.both), ...(r ? [ratio(r.median_ratio), ratio(r.p10_ratio) + " – " + ratio(r.p90_ratio),
        ratio(r.geometric_mean_ratio), r.faster_percent.toFixed(0), r.slower_percent.toFixed(0)] : ["–", "–", "–", "–", "–"])];
      return el("tr", r ? { class: "choice" + (i === view.set ? " hit" : ""), onclick: () => { view.set = i; view.plot = "latency_us"; build(); } } : {}, cells.map((c, j) => el("td", j === 1 ? { class: "words" } : {}, c)));
    })));
}

function effect() {
  if (!summary.model) return "";
  const names = { prefill_ms: "prefill, ms", decode_step_ms: "decode step (mean), ms", latency_ms: "whole batch, ms" };
  const interval = e => short(e.value) + " (" + short(e.low) + "–" + short(e.high) + ")";
  return card("The whole model: " + summary.model.model, el("p", { class: "faded" }, summary.model.deployment + ". Parentheses hold 90 % intervals."),
    table(["", "A", "B", "B / A", "source"], summary.model.times.map(t => [names[t.key], interval(t.a), interval(t.b), ratio(t.ratio), t.a.source === t.b.source ? t.a.source : t.a.source + " / " + t.b.source])));
}

function build() {
  document.title = summary.a.name + " and " + summary.b.name + " – archplan";
  const set = compared.length ? current() : null;
  const who = (letter, p) => el("p", {}, el("b", {}, letter + ": " + p.name), " – " + p.device + ", " + p.stack + " (" + p.origin + "), sha256 ", el("code", {}, p.sha256));
  document.getElementById("page").replaceChildren(
    el("h1", {}, summary.b.name + " (B) against " + summary.a.name + " (A)"), who("A", summary.a), who("B", summary.b), ...summary.remarks.map(r => el("p", { class: "faded" }, r)),
    card("Calls, and ratios B / A", el("p", { class: "faded" }, "Below 1, B is faster. A click chooses."), sets()), effect(),
    ...(set ? [card(set.name + ": " + set.summary.basis, el("div", { class: "split" }, el("div", { id: "chart" }),
      el("div", {}, el("p", {}, "across ", chooser(view.plot, set.sizes.map(([key, label]) => [key, key === "latency_us" ? "latency on A (µs)" : label]), v => { view.plot = v; draw(); })),
        el("p", { class: "faded" }, "Point at a call to see it here."), el("div", { id: "detail" }))), el("p", { class: "faded", id: "note" })),
    card("Largest changes", el("p", { class: "faded" }, "A click on a title sorts."), el("div", { id: "largest" })), card("Where B wins: by decade", el("div", { id: "decades" }))] : []),
    card("Statements that differ", summary.facts.length ? table(["key", "A", "B"], summary.facts.map(f => [f.key, f.a === null ? "–" : f.a, f.b === null ? "–" : f.b]), [0, 1, 2]) : el("p", {}, "None.")),
    card("Recipe", el("p", {}, el("code", {}, data.command)), el("p", { class: "faded" }, "archplan " + data.version)));
  if (set) draw();
}
build();
