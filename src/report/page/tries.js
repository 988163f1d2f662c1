const nats = e => e.low === e.high ? signed(e.value) : signed(e.value) + " (" + signed(e.low) + " to " + signed(e.high) + ")";
const signed = x => (x < 0 ? "−" : "+") + Math.abs(x).toFixed(4);

// Shapes that were pruned for real: predicted against measured, and the list.
function tries(plan) {
  const per = plan.per_layer, tried = (plan.tried || []).map(t => ({
    name: shape(t.candidate.shape), params: t.candidate.params, predicted: t.predicted_loss_nats, measured: t.candidate.quality.loss_increase_nats,
    speedup: Math.min(...t.candidate.metrics.map(m => m.speedup.value)), feasible: t.candidate.feasible, dropped: t.candidate.dropped_layers || [],
  }));
  if (per && per.measured_loss_nats) tried.push({
    name: "layer by layer", params: per.found.params, predicted: per.predicted_loss_nats, measured: per.measured_loss_nats,
    speedup: Math.min(...per.found.metrics.map(m => m.speedup.value)), feasible: true, dropped: [],
  });
  if (!tried.length) return "";
  tried.sort((a, b) => a.measured.value - b.measured.value);
  const rows = tried.map(t => [t.name + (t.dropped.length ? ", without layers " + t.dropped.join(", ") : ""), count(t.params), t.predicted ? nats(t.predicted) : "–", nats(t.measured),
    short(t.speedup) + "×", t.feasible ? "yes" : "no"]);
  return card(`Tried: ${tried.length} shapes, really pruned and measured`, foretold(tried.filter(t => t.predicted)),
    table(["shape, least loss first", "params", "loss predicted before, nats a token", "loss measured, nats a token", "least speedup", "in budget"], rows, [0]));
}

function foretold(tried) {
  if (tried.length < 2) return null;
  const W = 620, H = 420, left = 84, bottom = 50, top = 14, right = 16;
  const values = tried.flatMap(t => [t.predicted.low, t.predicted.high, t.measured.low, t.measured.high]);
  const low = Math.min(...values), high = Math.max(...values), pad = (high - low || 0.01) * 0.05, from = low - pad, to = high + pad;
  const px = x => left + (x - from) / (to - from) * (W - left - right), py = y => H - bottom - (y - from) / (to - from) * (H - top - bottom);
  const marks = ticks(from, to, 6).map(t => [t, t.toFixed(3)]);
  const svg = plane({ W, H, left, bottom, top, right }, { px, py, xTicks: marks, yTicks: marks, xLabel: "loss measured, nats a token above the parent", yLabel: "predicted before" });
  svg.append(el("line", { x1: px(from), y1: py(from), x2: px(to), y2: py(to), stroke: "var(--was)", "stroke-dasharray": "6 5" }));
  for (const t of tried) {
    const x = px(t.measured.value), y = py(t.predicted.value);
    svg.append(el("line", { x1: x, x2: x, y1: py(t.predicted.low), y2: py(t.predicted.high), stroke: "var(--dominated)", "stroke-width": 1.6 }),
      el("line", { x1: px(t.measured.low), x2: px(t.measured.high), y1: y, y2: y, stroke: "var(--dominated)", "stroke-width": 1.6 }),
      el("circle", { cx: x, cy: y, r: 4.5, fill: t.feasible ? "var(--front)" : "var(--infeasible)" }));
  }
  return el("div", { style: "max-width: 720px" }, svg, el("p", { class: "faded" }, "Bars are 90 % intervals; on the dashed line a prediction came true."));
}

// What becomes of each layer, and what that was scored at.
function layers(plan) {
  const per = plan.per_layer, chosen = plan.chosen && plan.chosen.quality.layers;
  const bar = (share, kind) => el("span", { class: "bar " + kind, style: `width: ${Math.max(1, 160 * share)}px` });
  const parts = [];
  if (chosen && chosen.length) {
    const widest = Math.max(...chosen.flatMap(l => [Math.abs(l.attention_nats), Math.abs(l.ffn_nats)]), 1e-12);
    parts.push(card("What the uniform shape's layers were scored at", table(["parent's layer", "attention, nats a token", "", "FFN, nats a token", ""],
      chosen.map(l => [String(l.layer), signed(l.attention_nats), bar(Math.abs(l.attention_nats) / widest, "chosen"), signed(l.ffn_nats), bar(Math.abs(l.ffn_nats) / widest, "chosen")]), [2, 4])));
  }
  if (per) {
    const own = plan.parent.shape, found = per.found, search = found.search;
    const rows = found.picks.flatMap(p => Array.from({ length: p.layers }, (_, i) => {
      const s = p.shape, share = s ? s.ffn / own.ffn : 0, heads = s ? s.q_heads / own.q_heads : 0;
      return [String(p.layer + i), s ? String(s.ffn) : "dropped", s ? bar(share, "chosen") : "", s ? s.q_heads + " / " + s.kv_heads : "", s ? bar(heads, "chosen") : "", i ? "" : signed(p.loss_nats)];
    }));
    parts.push(card("Layer by layer, for " + per.loadable,
      el("p", {}, `Hidden size ${found.architecture.hidden}, ${count(found.params)} parameters. Loss predicted ${nats(per.predicted_loss_nats)}`
        + (per.measured_loss_nats ? `, measured ${nats(per.measured_loss_nats)}` : "") + " nats a token. " + (per.preferred ? "It loses less than the uniform shape and is the target." : "The uniform shape loses no more and is the target.")),
      el("p", { class: "faded" }, `Sum of scores ${signed(found.loss_increase_nats.value)}, ` + (search.proven ? "proven least" : `at most ${search.gap_nats.toFixed(4)} above the least`) + ` in ${grouped(search.nodes)} nodes.`),
      table(["parent's layer", "FFN width", "", "query / KV heads", "", "score, nats a token"], rows, [2, 4])));
  }
  return parts;
}
