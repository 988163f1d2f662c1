function el(tag, attributes, ...children) {
  const svg = ["svg", "circle", "line", "path", "text", "g", "rect"].includes(tag);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value); else node.setAttribute(key, value);
  }
  node.append(...children.flat(Infinity).filter(c => c !== null && c !== undefined));
  return node;
}
const grouped = n => String(n).replace(/\B(?=(\d{3})+$)/g, "\u202f");
function short(x) {
  const a = Math.abs(x);
  return a >= 1000 ? grouped(x.toFixed(0)) : a >= 100 ? x.toFixed(0) : a >= 10 ? x.toFixed(1) : x.toFixed(2);
}
const count = n => n >= 1e9 ? (n / 1e9).toFixed(2) + "B" : (n / 1e6).toFixed(0) + "M";
function table(head, rows, wordy) {
  const words = i => (wordy || []).includes(i) ? { class: "words" } : {};
  return el("table", {}, el("thead", {}, el("tr", {}, head.map((h, i) => el("th", words(i), h)))),
    el("tbody", {}, rows.map(r => el("tr", {}, r.map((c, i) => el("td", words(i), c))))));
}
const card = (title, ...children) => el("section", { class: "card" }, title ? el("h2", {}, title) : null, children);

function ticks(low, high, n) {
  const raw = (high - low) / n, base = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map(m => m * base).find(s => s >= raw);
  const list = [];
  for (let t = Math.ceil(low / step) * step; t <= high + step * 1e-9; t += step) list.push(t);
  return list;
}

// A frame with grid lines, the words of the ticks and what the axes are.
function plane({ W, H, left, bottom, top, right }, { px, py, xTicks, yTicks, xLabel, yLabel }) {
  const svg = el("svg", { viewBox: `0 0 ${W} ${H}`, width: "100%", role: "img" });
  for (const [t, words] of xTicks) svg.append(
    el("line", { x1: px(t), x2: px(t), y1: top, y2: H - bottom, stroke: "var(--grid)" }),
    el("text", { x: px(t), y: H - bottom + 18, "text-anchor": "middle", class: "axis" }, words));
  for (const [t, words] of yTicks) svg.append(
    el("line", { x1: left, x2: W - right, y1: py(t), y2: py(t), stroke: "var(--grid)" }),
    el("text", { x: left - 8, y: py(t) + 4, "text-anchor": "end", class: "axis" }, words));
  svg.append(el("text", { x: (left + W) / 2, y: H - 10, "text-anchor": "middle" }, xLabel),
    el("text", { transform: `translate(16 ${(H - bottom + top) / 2}) rotate(-90)`, "text-anchor": "middle" }, yLabel));
  return svg;
}

// A ring around the dot nearest to the pointer; dots are [x, y, what is said of them].
function followPointer(svg, dots, describe) {
  const ring = el("circle", { r: 8, fill: "none", stroke: "var(--ink)", "stroke-width": 2, visibility: "hidden" });
  svg.append(ring);
  svg.addEventListener("mousemove", event => {
    const box = svg.getBoundingClientRect(), { width, height } = svg.viewBox.baseVal;
    const mx = (event.clientX - box.left) / box.width * width, my = (event.clientY - box.top) / box.height * height;
    let best = null, distance = 400;
    for (const d of dots) { const q = (d[0] - mx) ** 2 + (d[1] - my) ** 2; if (q <= distance) { best = d; distance = q; } }
    if (!best) return;
    ring.setAttribute("cx", best[0]); ring.setAttribute("cy", best[1]); ring.setAttribute("visibility", "visible");
    describe(best[2]);
  });
}

// A table that a click on a title sorts; columns are [title, value of a row, value in words].
function sortable(columns, list, describe) {
  const rows = list.slice(), host = el("div", { class: "scroll" });
  const order = (a, b) => typeof a === "string" ? a.localeCompare(b) : a - b;
  let by = -1, up = true;
  const draw = () => host.replaceChildren(el("table", {},
    el("thead", {}, el("tr", {}, columns.map(([name], i) => el("th", { class: "sortable", onclick: () => {
      up = by === i ? !up : true; by = i; rows.sort((a, b) => order(columns[i][1](a), columns[i][1](b)) * (up ? 1 : -1)); draw();
    } }, name + (by === i ? (up ? " ▲" : " ▼") : ""))))),
    el("tbody", {}, rows.map(r => el("tr", { onmouseenter: () => describe(r) }, columns.map(([, of, show]) => el("td", {}, (show || String)(of(r)))))))));
  draw();
  return host;
}
