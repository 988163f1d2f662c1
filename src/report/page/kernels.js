// Parts of the pages about kernel prices: a plot with linear or logarithmic axes, bins over it, and times in words.
function time(us) {
  return us < 1000 ? short(us) + " µs" : us < 1e6 ? short(us / 1000) + " ms" : short(us / 1e6) + " s";
}
const raised = n => String(n).replace(/./g, c => "-0123456789".includes(c) ? "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)] : c);
// A size on an axis or in a table: whole where it can be, else as a power of ten.
const size = x => x >= 1e5 ? (m => (m === "1" ? "" : m + "·") + "10" + raised(Math.floor(Math.log10(x) + 1e-9)))(
  String(+(x / 10 ** Math.floor(Math.log10(x) + 1e-9)).toPrecision(2))) : x >= 1 ? String(+x.toPrecision(3)) : String(+x.toPrecision(2));
const signed = x => (x > 0 ? "+" : x < 0 ? "−" : "") + short(Math.abs(x));
const signedTick = x => (x > 0 ? "+" : x < 0 ? "−" : "") + Math.abs(x);

const range = values => values.reduce(([low, high], v) => [Math.min(low, v), Math.max(high, v)], [Infinity, -Infinity]);
// An axis of whole decades, or a linear one: its ends, the place of a value (0 to 1) and ticks with their words.
function logAxis(values) {
  let [low, high] = range(values.filter(v => v > 0).map(Math.log10));
  if (low > high) [low, high] = [0, 1];
  [low, high] = [Math.floor(low + 1e-9), Math.ceil(high - 1e-9)];
  if (high <= low) high = low + 1;
  const every = Math.max(1, Math.ceil((high - low) / 8)), list = [];
  for (let p = low; p <= high; p += every) list.push([10 ** p, size(10 ** p)]);
  return { place: v => (Math.log10(Math.max(v, 1e-300)) - low) / (high - low), ticks: list };
}
const linearAxis = (low, high, words) => ({ place: v => (v - low) / (high - low), ticks: ticks(low, high, 8).map(t => [t, (words || String)(+t.toPrecision(6))]) });

// points: { x, y, row }; bins: { x, low, middle, high }; bars: { from, to, y, words }; lines: [[x, y], …] in places 0 to 1 or values.
function plot(host, { x, y, xLabel, yLabel, points = [], bins = [], bars = [], level, band, diagonal, describe }) {
  const W = 960, H = 540, box = { W, H, left: 74, bottom: 52, top: 14, right: 36 };
  const held = v => Math.min(1, Math.max(0, v));
  const px = v => box.left + held(x.place(v)) * (W - box.left - box.right), py = v => H - box.bottom - held(y.place(v)) * (H - box.top - box.bottom);
  const svg = plane(box, { px, py, xTicks: x.ticks, yTicks: y.ticks, xLabel, yLabel });
  if (band) svg.append(el("rect", { x: box.left, width: W - box.left - box.right, y: py(band), height: py(-band) - py(band), fill: "var(--infeasible)", opacity: 0.45 }));
  for (const b of bars) {
    svg.append(el("rect", { x: px(b.from) + 4, width: px(b.to) - px(b.from) - 8, y: py(b.y), height: py(0) - py(b.y), fill: "var(--chosen)", opacity: 0.45 }));
    b.words.forEach((words, i) => svg.append(el("text", { x: (px(b.from) + px(b.to)) / 2, y: py(0) - 32 + 19 * i, "text-anchor": "middle" }, words)));
  }
  const dots = [];
  for (const p of points) {
    const at = [px(p.x), py(p.y)];
    svg.append(el("circle", { cx: at[0].toFixed(1), cy: at[1].toFixed(1), r: 2.3, fill: "var(--dominated)", opacity: 0.6 }));
    dots.push([...at, p.row]);
  }
  const across = (from, to, stroke) => el("line", { x1: from[0], y1: from[1], x2: to[0], y2: to[1], stroke, "stroke-width": 1.5 });
  if (level !== undefined) svg.append(across([box.left, py(level)], [W - box.right, py(level)], bars.length ? "var(--budget)" : "var(--ink)"));
  if (diagonal) svg.append(across([box.left, H - box.bottom], [W - box.right, box.top], "var(--ink)"));
  for (const b of bins) {
    const [at, low, high] = [px(b.x), py(b.low), py(b.high)];
    svg.append(el("path", { d: `M${at} ${low}L${at} ${high}M${at - 6} ${low}h12M${at - 6} ${high}h12`, stroke: "var(--ink)", "stroke-width": 1.8, fill: "none" }),
      el("circle", { cx: at, cy: py(b.middle), r: 4.6, fill: "var(--front)", stroke: "var(--card)", "stroke-width": 1.6 }));
  }
  if (describe) followPointer(svg, dots, describe);
  host.replaceChildren(svg);
}
// How many of all are drawn, and how they were picked.
const drawn = (shown, all, what, besides) => (shown < all ? `${grouped(shown)} of ${grouped(all)} ${what} are drawn, picked by a fixed hash, ${besides} among them` : `All ${grouped(all)} ${what} are drawn`);
const stretchWords = b => size(b.low) + " – " + size(b.high);
const middle = b => Math.sqrt(b.low * b.high);
const chooser = (value, options, onchange) => el("select", { onchange: e => onchange(e.target.value) },
  options.map(([key, name]) => el("option", Object.assign({ value: key }, String(key) === String(value) ? { selected: "" } : {}), name)));
