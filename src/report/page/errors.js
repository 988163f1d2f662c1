// Errors of estimates: a plot to choose, errors by size, and the worst rows.
const view = { set: 0, plot: "predicted" };
const current = () => data.sets[view.set];
// [call, measured, predicted, sigma, spread, further sizes …] by name.
function read(set, row) {
  const [call, measured, predicted, sigma, spread, ...further] = row, factor = Math.exp(data.z90 * sigma);
  const [low, high] = [predicted / factor, predicted * factor], error = (predicted / measured - 1) * 100;
  return { call, measured, predicted, low, high, error, spread, inside: low <= measured * 1.001 && measured <= high * 1.001, sizes: [measured, ...further] };
}
const rowsOf = set => set.read || (set.read = set.rows.map(row => read(set, row)));

function describe(row) {
  const set = current();
  const rows = [...row.call.map((v, i) => [i < set.dimensions.length ? set.dimensions[i] : set.score.dtype ? "type" : "backend", String(v)]),
    ["measured", time(row.measured)], ["predicted", time(row.predicted)], ["error", signed(row.error) + " %"],
    ["absolute error (APE)", short(Math.abs(row.error)) + " %"], ["90 % interval", time(row.low) + " – " + time(row.high)], ["inside it", row.inside ? "yes" : "no"],
    ["spread of repeats", row.spread === null ? "not stated" : short(row.spread) + " %"],
    ...set.sizes.slice(1).map((s, i) => [s.label, size(row.sizes[i + 1])])];
  document.getElementById("detail").replaceChildren(el("b", {}, set.name), table(["", "this row"], rows));
}

const quantile = (values, q) => { const v = values.slice().sort((a, b) => a - b); return v.length ? v[Math.min(v.length - 1, Math.floor(q * v.length))] : 0; };

function draw() {
  const set = current(), rows = rowsOf(set), host = document.getElementById("chart"), note = document.getElementById("note");
  const bySize = set.sizes.findIndex(s => s.key === view.plot);
  note.replaceChildren(drawn(rows.length, set.score.n, "rows", `the ${set.worst} worst`) + "; bars and tables count all rows. "
    + (set.spread ? `${grouped(set.spread[0])} rows state the spread of their repeats, median ${set.spread[1]} %.` : "No row states the spread of its repeats."));
  if (view.plot === "predicted") {
    const axis = logAxis(rows.flatMap(r => [r.measured, r.predicted]));
    plot(host, { x: axis, y: axis, xLabel: "measured, µs", yLabel: "predicted, µs", diagonal: true, describe, points: rows.map(row => ({ x: row.measured, y: row.predicted, row })) });
  } else if (view.plot === "coverage") {
    const bins = set.sizes[0].bins;
    plot(host, { x: logAxis(bins.flatMap(b => [b.low * 1.001, b.high * 0.999])), y: linearAxis(0, 110), level: 90, xLabel: set.sizes[0].label, yLabel: "rows inside their 90 % interval, %",
      bars: bins.map(b => ({ from: b.low, to: b.high, y: b.coverage_percent, words: [b.coverage_percent.toFixed(0) + " %", grouped(b.n) + " rows"] })) });
  } else {
    const chosen = set.sizes[bySize], limit = Math.max(1, quantile(rows.slice(set.worst).map(r => Math.abs(r.error)), 0.985));
    const step = 10 ** Math.floor(Math.log10(limit)), top = [1, 2, 5, 10].map(m => m * step).find(v => v >= limit), cut = rows.filter(r => Math.abs(r.error) > top).length;
    if (cut) note.append(` ${grouped(cut)} rows beyond ±${top} % stand at the edge.`);
    plot(host, { x: logAxis(rows.map(r => r.sizes[bySize])), y: linearAxis(-top, top, signedTick), level: 0, band: set.spread ? set.spread[1] : 0, xLabel: chosen.label,
      yLabel: "error, %: above 0 predicted too slow", describe, points: rows.map(row => ({ x: row.sizes[bySize], y: row.error, row })),
      bins: chosen.bins.map(b => ({ x: middle(b), low: b.p10_error_percent, middle: b.median_error_percent, high: b.p90_error_percent })) });
  }
  document.getElementById("sizes").replaceChildren(...set.sizes.map(s => el("div", {}, el("p", {}, s.label),
    table(["from – to", "rows", "median error %", "10th – 90th percentile %", "median APE %", "p90 APE %", "inside 90 % interval %"], s.bins.map(b =>
      [stretchWords(b), grouped(b.n), signed(b.median_error_percent), signed(b.p10_error_percent) + " – " + signed(b.p90_error_percent),
        short(b.median_ape_percent), short(b.p90_ape_percent), b.coverage_percent.toFixed(0)])))));
  const number = i => [i < set.dimensions.length ? set.dimensions[i] : set.score.dtype ? "type" : "backend", r => r.call[i]];
  const columns = [...rows[0].call.map((_, i) => number(i)), ["measured µs", r => r.measured, short], ["predicted µs", r => r.predicted, short], ["error %", r => r.error, signed],
    ["APE %", r => Math.abs(r.error), short], ["low µs", r => r.low, short], ["high µs", r => r.high, short], ["inside", r => +r.inside, v => v ? "yes" : "no"],
    ["spread of repeats %", r => r.spread === null ? -1 : r.spread, v => v < 0 ? "–" : short(v)]];
  document.getElementById("worst").replaceChildren(sortable(columns, rows.slice(0, set.worst), describe));
  describe(rows[0]);
}

function summary() {
  const pick = i => { view.set = i; if (!["predicted", "coverage", ...current().sizes.map(s => s.key)].includes(view.plot)) view.plot = "predicted"; build(); };
  return el("table", {}, el("thead", {}, el("tr", {}, ["kernels", "kept out", "rows", "median APE %", "mean APE %", "p90 APE %", "bias %", "inside 90 % interval %"].map((h, i) => el("th", i === 1 ? { class: "words" } : {}, h)))),
    el("tbody", {}, data.sets.map((s, i) => el("tr", { class: "choice" + (i === view.set ? " hit" : ""), onclick: () => pick(i) },
      [s.name, s.kept_out, grouped(s.score.n), short(s.score.median_ape), short(s.score.mean_ape), short(s.score.p90_ape), signed(s.score.bias), s.score.coverage.toFixed(0)]
        .map((c, j) => el("td", j === 1 ? { class: "words" } : {}, c))))));
}

function build() {
  const set = current();
  document.title = "Errors of " + data.profile + " – archplan";
  const plots = [["predicted", "predicted against measured"], ...set.sizes.map(s => [s.key, "error by " + s.label]), ["coverage", "coverage of the intervals by decade"]];
  document.getElementById("page").replaceChildren(
    el("h1", {}, "Errors of kernel estimates: " + data.profile), el("p", { class: "faded" }, data.device + "  ·  " + data.stack),
    card("How far off, and how often inside", el("p", { class: "faded" }, "How rows were kept from the estimators that predicted them stands beside each set. Errors in percent of the measured latency; a click chooses."), summary()),
    card(set.name + ", kept out: " + set.kept_out, el("div", { class: "split" }, el("div", { id: "chart" }),
      el("div", {}, el("p", {}, "plot ", chooser(view.plot, plots, v => { view.plot = v; draw(); })), el("p", { class: "faded" }, "Point at a row to see it here."), el("div", { id: "detail" }))),
      el("p", { class: "faded", id: "note" })),
    card("Worst rows", el("p", { class: "faded" }, "A click on a title sorts."), el("div", { id: "worst" })),
    card("Errors by size", el("div", { id: "sizes" })),
    card("Recipe", el("p", {}, el("code", {}, data.command)), el("p", { class: "faded" }, `archplan ${data.version}; profile ${data.profile}, sha256 `, el("code", {}, data.sha256))));
  draw();
}
build();
