// ---- surroundings of one edge ----------------------------------------------------------------------------------------
// Drawn by hand rather than by plotly: five rows, from what acts on the source down to what the target acts on.
const around = data.around;
const aroundOf = new Map(around.names.map((name, i) => [name, i]));
const feeds = around.names.map(() => []), fedBy = around.names.map(() => []);
for (const [source, target, sign] of around.known) {
  feeds[source].push([target, sign]);
  fedBy[target].push([source, sign]);
}
const treatedBy = new Map(around.treated), measuredAs = new Map(around.measured);
const SVG = "http://www.w3.org/2000/svg";
function shape(tag, attributes, text) {
  const element = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

// The shortest way along known edges; the page holds all of them only in small networks (around.whole).
function route(from, to) {
  const before = new Map([[from, null]]);
  for (let level = [from]; level.length && !before.has(to); ) {
    const next = [];
    for (const node of level) for (const [other] of feeds[node]) if (!before.has(other)) { before.set(other, node); next.push(other); }
    level = next;
  }
  if (!before.has(to)) return null;
  const way = [];
  for (let node = to; node !== null; node = before.get(node)) way.unshift(node);
  return way;
}

// A line from one box to another with a head that tells the sign.
function arrow(svg, a, b, sign, kind, bend = 0) {
  const dx = b.x - a.x, dy = b.y - a.y, far = Math.hypot(dx, dy) || 1;
  const mid = { x: (a.x + b.x) / 2 - (dy / far) * bend, y: (a.y + b.y) / 2 + (dx / far) * bend };
  // Where a line leaves a box: the inner side of a box at the side, else where the line from its middle crosses the border.
  const leave = (box, to) => {
    if (box.port) return { x: box.port, y: box.y };
    const ux = to.x - box.x, uy = to.y - box.y;
    const t = Math.min(ux ? (box.w / 2) / Math.abs(ux) : Infinity, uy ? (box.h / 2) / Math.abs(uy) : Infinity);
    return { x: box.x + ux * t, y: box.y + uy * t };
  };
  const from = leave(a, mid), edge = leave(b, mid);
  const ux = edge.x - mid.x, uy = edge.y - mid.y, u = Math.hypot(ux, uy) || 1;
  const size = kind === "proposed" ? 10 : 8, gap = sign < 0 ? 6 : 2;
  const tip = { x: edge.x - (ux / u) * gap, y: edge.y - (uy / u) * gap };
  const base = sign < 0 ? tip : { x: tip.x - (ux / u) * size, y: tip.y - (uy / u) * size };
  const line = `M${from.x.toFixed(1)} ${from.y.toFixed(1)}Q${mid.x.toFixed(1)} ${mid.y.toFixed(1)} ${base.x.toFixed(1)} ${base.y.toFixed(1)}`;
  svg.append(shape("path", { d: line, class: `e-${kind}` }));
  const nx = (-uy / u) * (size / 2 + (sign < 0 ? 2 : 0)), ny = (ux / u) * (size / 2 + (sign < 0 ? 2 : 0));
  const wing = (s) => `${(base.x + s * nx).toFixed(1)} ${(base.y + s * ny).toFixed(1)}`;
  if (sign < 0) svg.append(shape("path", { d: `M${wing(1)}L${wing(-1)}`, class: `e-${kind} thick` }));
  else svg.append(shape("path", { d: `M${wing(1)}L${tip.x.toFixed(1)} ${tip.y.toFixed(1)} ${wing(-1)}Z`, class: `h-${kind}${sign > 0 ? " full" : ""}` }));
}

function drawAround(i) {
  const source = aroundOf.get(edges.source[i]), target = aroundOf.get(edges.target[i]);
  const plot = byId("around-plot");
  const width = Math.min(Math.max(260, plot.clientWidth || 300), 480);
  const most = width < 420 ? 3 : 4;
  const boxW = Math.min(104, Math.floor(width / most) - 10), boxH = 26, rowH = 40;
  const ends = new Set([source, target]);
  const only = (pairs) => [...new Set(pairs.map(([node]) => node))].filter((node) => !ends.has(node));
  const above = only(fedBy[source]), below = only(feeds[target]).filter((node) => !above.includes(node));
  const fromSource = only(feeds[source]).filter((n) => !above.includes(n) && !below.includes(n));
  const intoTarget = only(fedBy[target]).filter((n) => !above.includes(n) && !below.includes(n));
  const between = fromSource.filter((n) => intoTarget.includes(n));
  const left = [...between.filter((_, k) => k % 2 === 0), ...fromSource.filter((n) => !between.includes(n))];
  const right = [...between.filter((_, k) => k % 2 === 1), ...intoTarget.filter((n) => !between.includes(n))];

  const place = new Map();
  const texts = [];
  let y = 8;
  const put = (node, x, top, port) => place.set(node, { x, y: top + boxH / 2, w: boxW, h: boxH, port });
  const told = (label, n) => (n > most ? `${label}: ${most} of ${n} drawn` : label);
  const row = (nodes) => {
    const kept = nodes.slice(0, most);
    kept.forEach((node, k) => put(node, (width * (k + 0.5)) / kept.length, y));
    y += rowH;
  };
  if (above.length) {
    texts.push([width / 2, y + 4, told("act on the source", above.length), "lane"]);
    y += 18;
    row(above);
    y += 14;
  }
  put(source, width / 2, y);
  y += rowH + 22;
  const tall = Math.max(Math.min(left.length, most), Math.min(right.length, most));
  const side = (nodes, x, port) => {
    const kept = nodes.slice(0, most);
    kept.forEach((node, k) => put(node, x, y + (k + (tall - kept.length) / 2) * rowH, port));
    if (nodes.length > most) texts.push([x, y + tall * rowH - 2, `and ${nodes.length - most} more`, "more"]);
  };
  if (source !== target) {
    side(left, boxW / 2 + 4, boxW + 4);
    side(right, width - boxW / 2 - 4, width - boxW - 4);
    y += Math.max(tall, 1) * rowH + 26;
    put(target, width / 2, y);
    y += rowH + 14;
  }
  if (below.length) {
    row(below);
    texts.push([width / 2, y, told("the target acts on these", below.length), "lane"]);
    y += 14;
  }

  const svg = shape("svg", { viewBox: `0 0 ${width} ${y + 4}`, class: "drawing", role: "group", "aria-label": `Surroundings of ${edges.source[i]} → ${edges.target[i]}; the lists below say the same` });
  const sign = edges.sign ? edges.sign[i] : 0;
  const done = new Set();
  for (const [node, out] of [[source, feeds[source]], [target, feeds[target]]]) {
    for (const [other, s] of out) if (place.has(other) && other !== node) { done.add(`${node} ${other}`); arrow(svg, place.get(node), place.get(other), s, "known", ends.has(other) ? 46 : 0); }
  }
  for (const [node, from] of [[source, fedBy[source]], [target, fedBy[target]]]) {
    for (const [other, s] of from) if (place.has(other) && other !== node && !done.has(`${other} ${node}`)) arrow(svg, place.get(other), place.get(node), s, "known", ends.has(other) ? 46 : 0);
  }
  if (source !== target) arrow(svg, place.get(source), place.get(target), sign, "proposed");
  for (const [x, top, text, kind] of texts) svg.append(shape("text", { x, y: top, class: kind }, text));
  for (const [node, box] of place) {
    const name = around.names[node];
    const tags = ["node", ends.has(node) ? "end" : "", treatedBy.has(node) ? "treated" : "", measuredAs.has(node) ? "measured" : ""];
    const group = shape("g", { class: tags.filter(Boolean).join(" "), role: "button", tabindex: "0", "aria-label": `List the candidates that touch ${name}` });
    group.append(shape("title", {}, name), shape("rect", { x: box.x - box.w / 2, y: box.y - box.h / 2, width: box.w, height: box.h, rx: 8 }),
      shape("text", { x: box.x, y: box.y + 1 }, short(name, Math.floor(box.w / 7.6))));
    const list = () => { search(name); byId("edge-count").scrollIntoView({ block: "nearest" }); };
    group.addEventListener("click", list);
    group.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); list(); } });
    svg.append(group);
  }
  plot.replaceChildren(svg);
}

function describeEdge(i) {
  const source = aroundOf.get(edges.source[i]), target = aroundOf.get(edges.target[i]);
  const list = make("dl");
  const row = (label, text) => list.append(make("dt", label), make("dd", text));
  const named = (pairs) => {
    const names = pairs.map(([node, sign]) => around.names[node] + (sign < 0 ? " (inhibits)" : sign > 0 ? "" : " (sign unknown)"));
    return names.slice(0, 12).join(", ") + (names.length > 12 ? ` and ${names.length - 12} more` : "") || "nothing known";
  };
  for (const column of edges.columns) if (column.kind !== "name") row(column.label, cellText(column, i));
  const back = feeds[target].find(([node]) => node === source);
  if (back) row("Reversed", "The network holds the opposite edge, from target to source.");
  if (around.whole) {
    const way = route(source, target);
    row("Known route", way ? `${way.slice(0, 12).map((node) => around.names[node]).join(" → ")} (${way.length - 1} steps)` : "none from source to target");
  }
  row("Act on the source", named(fedBy[source]));
  row("Act on the target", named(fedBy[target]));
  row("Source acts on", named(feeds[source]));
  row("Target acts on", named(feeds[target]));
  for (const [what, node] of [["Source", source], ["Target", target]]) {
    if (treatedBy.has(node)) row(`${what} treated`, treatedBy.get(node).join(", "));
    if (measuredAs.has(node)) row(`${what} measured`, measuredAs.get(node).join(", "));
  }
  if (around.cut) row("Note", "The network is too large to show every known edge here.");
  byId("around-text").replaceChildren(list);
}

let highlighting = null;
function showEdge(i, asked) {
  table.chosen = i;
  byId("around").hidden = false;
  byId("around-title").textContent = `${edges.source[i]} → ${edges.target[i]}`;
  drawTable();
  drawAround(i);
  describeEdge(i);
  if (!asked) return;
  byId("around-title").focus({ preventScroll: true });
  if (!wide.matches) byId("around").scrollIntoView({ block: "start" });
  // The whole network takes longer to draw, so it follows the answer to the click.
  clearTimeout(highlighting);
  highlighting = setTimeout(() => highlightEdge(edges.source[i], edges.target[i]), 30);
}

function startAround() {
  if (!byId("around") || !count) return;
  byId("around-back").addEventListener("click", () => {
    const row = byId("edge-table").querySelector("tr.chosen button:not(.link)");
    (row || byId("edge-search")).focus();
    (row || byId("edge-search")).scrollIntoView({ block: "center" });
  });
  showEdge(0, false);
}
