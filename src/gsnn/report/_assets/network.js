// ---- network -------------------------------------------------------------------------------------------------------
const net = data.network;
const nodeOf = new Map(net.names.map((name, i) => [name, i]));
let drawings = 0;
let focus = null; // null, or {nodes: [index...], extra: [source, target] or null}

function neighbours(node) {
  const proposed = shownProposed();
  return {
    from: net.known.filter((e) => e[1] === node && e[0] !== node).map((e) => [e[0], e[2]]),
    to: net.known.filter((e) => e[0] === node && e[1] !== node).map((e) => [e[1], e[2]]),
    proposedFrom: proposed.filter((e) => e[1] === node).map((e) => [e[0], 0]),
    proposedTo: proposed.filter((e) => e[0] === node).map((e) => [e[1], 0]),
  };
}
const shownProposed = () => net.proposed.slice(0, Number(byId("network-count").value));

function nodeText(node) {
  const near = neighbours(node);
  const list = (pairs) => {
    const names = pairs.slice(0, 8).map(([i, sign]) => (sign < 0 ? "⊣ " : "") + escaped(short(net.names[i], 24)));
    return names.join(", ") + (pairs.length > 8 ? `, and ${pairs.length - 8} more` : "");
  };
  const lines = [`<b>${escaped(net.names[node])}</b>`];
  if (net.treated[node].length) lines.push(`treated by ${net.treated[node].map(escaped).join(", ")}`);
  if (net.measured[node].length) lines.push(`measured as ${net.measured[node].map(escaped).join(", ")}`);
  if (near.from.length) lines.push(`from: ${list(near.from)}`);
  if (near.to.length) lines.push(`to: ${list(near.to)}`);
  if (near.proposedFrom.length) lines.push(`proposed from: ${list(near.proposedFrom)}`);
  if (near.proposedTo.length) lines.push(`proposed to: ${list(near.proposedTo)}`);
  return lines.join("<br>");
}

// A quadratic curve, so that i -> j and j -> i stand apart and an edge within a layer passes beside the nodes between.
function curve(a, b) {
  const bend = 0.12, dx = b[0] - a[0], dy = b[1] - a[1];
  if (dx === 0 && dy === 0) { // a self-edge: a loop above the node
    const loop = [];
    for (let k = 0; k <= 12; k += 1) {
      const angle = Math.PI / 2 + (k / 12) * 2 * Math.PI;
      loop.push([a[0] + 10 * Math.cos(angle), a[1] + 10 - 10 * Math.sin(angle)]);
    }
    return loop;
  }
  const mid = [(a[0] + b[0]) / 2 - dy * bend, (a[1] + b[1]) / 2 + dx * bend];
  const points = [];
  for (let k = 0; k <= 10; k += 1) {
    const t = k / 10, s = 1 - t;
    points.push([s * s * a[0] + 2 * s * t * mid[0] + t * t * b[0], s * s * a[1] + 2 * s * t * mid[1] + t * t * b[1]]);
  }
  return points;
}

function edgeTraces(edges, place, style) {
  const line = { x: [], y: [] };
  const head = { x: [], y: [], angle: [] };
  for (const [source, target] of edges) {
    const points = curve(place[source], place[target]);
    for (const [x, y] of points) { line.x.push(x); line.y.push(y); }
    line.x.push(null); line.y.push(null);
    const end = points[points.length - 1], before = points[points.length - 2];
    head.x.push(end[0]); head.y.push(end[1]);
    head.angle.push((Math.atan2(end[0] - before[0], end[1] - before[1]) * 180) / Math.PI);
  }
  const shared = { hoverinfo: "skip", showlegend: false, opacity: style.opacity };
  return [
    { ...shared, ...line, mode: "lines", line: { color: style.colour, width: style.width, dash: style.dash } },
    {
      ...shared, x: head.x, y: head.y, mode: "markers",
      marker: {
        symbol: style.sign < 0 ? "line-ew-open" : style.sign > 0 ? "arrow" : "arrow-open", size: style.sign < 0 ? 9 : style.head, angle: head.angle, color: style.colour,
        standoff: style.sign < 0 ? 9 : 7, line: { color: style.colour, width: style.sign < 0 ? 2 : style.sign > 0 ? 0 : 1.2 },
      },
    },
  ];
}

function drawNetwork() {
  const plot = byId("network-plot");
  if (!byId("network-details").open) return; // drawn when it is opened: a hidden plot has no width
  if (!net.names.length) { plot.textContent = "The network has no function nodes."; plot.style.minHeight = "0"; return; }
  const down = narrow.matches; // layers from the top on a phone, from the left elsewhere
  const perLayer = new Map();
  net.depth.forEach((depth) => perLayer.set(depth, (perLayer.get(depth) || 0) + 1));
  const widest = Math.max(...perLayer.values());
  const width = Math.max(plot.clientWidth, 300);
  const height = down ? Math.min(900, 120 + perLayer.size * 70) : Math.min(1400, Math.max(420, 60 + widest * 34));
  const box = down ? { l: 14, r: 14, t: 20, b: 20 } : { l: 16, r: 110, t: 12, b: 12 };
  const w = width - box.l - box.r, h = height - box.t - box.b;
  // Units are pixels, and the second axis points up, so that directions of arrows are true. Every other layer is moved by
  // part of a row, else edges that skip a layer run through the nodes between.
  const step = new Map([...perLayer.keys()].sort((a, b) => a - b).map((depth, i) => [depth, i]));
  const place = net.names.map((_, i) => {
    const nudge = ((step.get(net.depth[i]) % 2) - 0.5) * 0.3 / Math.max(perLayer.get(net.depth[i]), 2);
    const across = Math.min(Math.max(net.place[i] + nudge, 0), 1);
    return down ? [across * w, (1 - net.depth[i]) * h] : [net.depth[i] * w, (1 - across) * h];
  });

  const proposed = shownProposed();
  const extra = focus && focus.extra && !proposed.some((e) => e[0] === focus.extra[0] && e[1] === focus.extra[1]) ? [focus.extra] : [];
  const centre = focus && new Set(focus.nodes);
  const bright = (e) => !centre || (focus.extra ? e[0] === focus.extra[0] && e[1] === focus.extra[1] : centre.has(e[0]) || centre.has(e[1]));
  const near = new Set(focus ? focus.nodes : net.names.map((_, i) => i));
  const touches = (e) => centre && (centre.has(e[0]) || centre.has(e[1]));
  if (focus) for (const e of [...net.known, ...proposed]) if (touches(e)) { near.add(e[0]); near.add(e[1]); }

  const traces = [];
  for (const lit of [false, true]) {
    const opacity = lit ? 1 : 0.18;
    const known = net.known.filter((e) => (!centre || touches(e)) === lit);
    for (const sign of [1, 0, -1]) {
      const style = { width: 1.2, head: 8, opacity, sign, colour: colour("known") };
      traces.push(...edgeTraces(known.filter((e) => e[2] === sign), place, style));
      const bold = { width: 2.4, head: 12, opacity, sign, colour: colour("proposed") };
      traces.push(...edgeTraces([...proposed, ...extra].filter((e) => bright(e) === lit && e[2] === sign), place, bold));
    }
  }
  const ends = new Set(proposed.flat());
  const labelled = (i) => (focus ? near.has(i) : !down || ends.has(i));
  drawings += 1;
  traces.push({
    uid: `nodes-${drawings}`, // a new trace each time: plotly does not bring back labels that were empty before
    x: place.map((p) => p[0]), y: place.map((p) => p[1]), mode: "markers+text", hoverinfo: "text", showlegend: false, cliponaxis: false,
    customdata: net.names.map((_, i) => i),
    text: net.names.map((name, i) => (labelled(i) ? escaped(short(name, 14)) : "")), textposition: down ? "bottom center" : "middle right",
    textfont: { size: 11, color: colour("text") },
    hovertext: net.names.map((_, i) => nodeText(i)),
    marker: {
      size: net.names.map((_, i) => (net.treated[i].length || net.measured[i].length ? 11 : 8)),
      symbol: net.names.map((_, i) => (net.treated[i].length ? (net.measured[i].length ? "diamond" : "triangle-right") : net.measured[i].length ? "square" : "circle")),
      color: net.names.map((_, i) => colour(net.treated[i].length ? "model" : net.measured[i].length ? "ridge" : "node")),
      opacity: net.names.map((_, i) => (near.has(i) ? 1 : 0.25)), line: { color: colour("bg"), width: 1 },
    },
  });
  const hidden = { visible: false, fixedrange: down };
  draw("network-plot", traces, {
    width: undefined, height, margin: box, showlegend: false, dragmode: down ? false : "pan",
    xaxis: { ...hidden, range: [0, w] }, yaxis: { ...hidden, range: [0, h] },
  });
  if (!plot.dataset.ready) {
    plot.dataset.ready = "yes";
    plot.on("plotly_click", (event) => {
      const point = event.points.find((p) => p.customdata !== undefined);
      if (point) choose(focus && focus.nodes.length === 1 && focus.nodes[0] === point.customdata ? null : { nodes: [point.customdata], extra: null });
    });
    plot.on("plotly_doubleclick", () => choose(null));
  }
}

function describe() {
  const box = byId("network-text");
  box.replaceChildren();
  if (!focus) return;
  const list = make("dl");
  const row = (label, pairs) => {
    if (!pairs.length) return;
    const names = pairs.map(([i, sign]) => net.names[i] + (sign < 0 ? " (inhibits)" : ""));
    list.append(make("dt", label), make("dd", names.join(", ")));
  };
  for (const node of focus.nodes) {
    const near = neighbours(node);
    list.append(make("dt", "Node"), make("dd", net.names[node]));
    row("known, from", near.from);
    row("known, to", near.to);
    row("proposed, from", near.proposedFrom);
    row("proposed, to", near.proposedTo);
  }
  box.append(list);
}

function choose(next) {
  focus = next;
  byId("network-node").value = focus && focus.nodes.length === 1 ? String(focus.nodes[0]) : "";
  drawNetwork();
  describe();
}

function highlightEdge(source, target) {
  const ends = [nodeOf.get(source), nodeOf.get(target)];
  if (ends.includes(undefined)) {
    choose(null);
    byId("network-text").replaceChildren(make("p", `${source} → ${target} lies outside the part of the network that is drawn here.`));
    return;
  }
  const found = net.proposed.find((e) => e[0] === ends[0] && e[1] === ends[1]);
  choose({ nodes: ends[0] === ends[1] ? [ends[0]] : ends, extra: found || [...ends, 0] });
}

function startNetwork() {
  const pick = byId("network-node");
  [...net.names.keys()].sort((a, b) => collator.compare(net.names[a], net.names[b]))
    .forEach((i) => pick.append(make("option", net.names[i], { value: String(i) })));
  pick.addEventListener("change", () => choose(pick.value === "" ? null : { nodes: [Number(pick.value)], extra: null }));
  const number = byId("network-count");
  const most = net.proposed.length;
  number.parentElement.hidden = most === 0;
  const steps = [0, 5, 10, 25, 50, 100].filter((n) => n < most).concat(most);
  steps.forEach((n) => number.append(make("option", n === most ? `${n} (all drawn)` : String(n), { value: String(n) })));
  number.value = String(steps.includes(10) ? 10 : Math.min(most, 10));
  number.addEventListener("change", () => { drawNetwork(); describe(); });
  const details = byId("network-details");
  details.open = !narrow.matches; // a phone shows the surroundings of one edge better
  details.addEventListener("toggle", () => { if (details.open) drawNetwork(); });
}
