"use strict";
// Names come from the user's files and may be anything printable: they are only ever set as text (textContent), escaped
// before plotly sees them (it reads a part of HTML), and never used as keys of an object.
(() => {
  const data = JSON.parse(document.getElementById("report-data").textContent);
  const byId = (id) => document.getElementById(id);
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const narrow = window.matchMedia("(max-width: 40rem)");
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const escaped = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const short = (text, most = 16) => {
    const letters = Array.from(text);
    return letters.length > most ? `${letters.slice(0, most - 1).join("")}…` : text;
  };
  const figure = (value, digits = 3) => {
    if (value === null || value === undefined) return "–";
    if (Number.isInteger(value) && digits === 0) return String(value);
    return value !== 0 && Math.abs(value) < 10 ** -digits ? value.toExponential(1) : value.toFixed(digits);
  };
  const probability = (value) => (value === 0 ? "<1e-300" : figure(value)); // too small for a float, not 0

  function make(tag, text, attributes = {}) {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  }

  function layout(more) {
    const axis = { gridcolor: colour("line"), zerolinecolor: colour("soft"), linecolor: colour("line"), automargin: true };
    return {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hovermode: "closest",
      font: { color: colour("text"), family: getComputedStyle(document.body).fontFamily, size: 12 },
      margin: { l: 56, r: 12, t: 12, b: 48 }, dragmode: narrow.matches ? false : "zoom",
      modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("soft"), activecolor: colour("text") },
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, itemclick: "toggle" },
      hoverlabel: { bgcolor: colour("panel"), bordercolor: colour("soft"), font: { color: colour("text") }, align: "left" },
      ...more, xaxis: { ...axis, ...more.xaxis }, yaxis: { ...axis, ...more.yaxis },
    };
  }
  const options = () => ({
    displaylogo: false, responsive: true, displayModeBar: narrow.matches ? false : "hover",
    modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d", "sendChartToCloud", "sendDataToCloud"],
    showSendToCloud: false, plotlyServerURL: "", // on by default in some versions, and the data are nobody else's
  });
  const draw = (id, traces, more) => Plotly.react(byId(id), traces, layout(more), options());

  // ---- fit -----------------------------------------------------------------------------------------------------------
  function drawFit() {
    const fit = data.fit;
    if (!byId("fit-plot")) return;
    const places = fit.readout.map((_, i) => i);
    const series = [["model", "Model", ""], ["ridge", "Ridge", "/"], ["mean", "Mean", "."]];
    const lowest = Math.min(0, ...series.flatMap(([key]) => fit[key].filter((v) => v !== null)));
    const range = [Math.max(lowest, -1) - 0.05, 1.05];
    const labels = { tickvals: places, ticktext: fit.readout.map((name) => escaped(short(name))), showgrid: false, zeroline: false };
    const values = { title: { text: "R² on held-out conditions" }, range };
    const across = narrow.matches;
    const traces = series.map(([key, name, pattern]) => ({
      type: "bar", name, orientation: across ? "h" : "v",
      x: across ? fit[key] : places, y: across ? places : fit[key],
      marker: { color: colour(key), pattern: { shape: pattern, fillmode: "overlay", fgcolor: colour("bg"), size: 5, solidity: 0.25 } },
      hoverinfo: "text", textposition: "none",
      hovertext: fit.readout.map((readout, i) => `${escaped(readout)}<br>${name}: ${figure(fit[key][i])}<br>${figure(fit.n[i], 0)} values`),
    }));
    byId("fit-plot").style.minWidth = across ? "" : `${Math.max(0, places.length * 22 + 80)}px`;
    draw("fit-plot", traces, across
      ? { height: 120 + places.length * 44, xaxis: values, yaxis: { ...labels, autorange: "reversed" }, margin: { l: 40, r: 8, t: 12, b: 48 } }
      : { height: 380, xaxis: labels, yaxis: values, bargap: 0.25 });
  }

  function drawPredictions() {
    const points = data.predictions;
    const select = byId("predictions-readout");
    if (!select) return;
    const chosen = select.value === "" ? null : Number(select.value);
    const kept = points.readout.map((_, i) => i).filter((i) => chosen === null || points.readout[i] === chosen);
    const observed = kept.map((i) => points.observed[i]);
    const predicted = kept.map((i) => points.predicted[i]);
    const all = observed.concat(predicted);
    const low = Math.min(...all), high = Math.max(...all), pad = (high - low || 1) * 0.05;
    const range = [low - pad, high + pad];
    draw("predictions-plot", [
      { x: range, y: range, mode: "lines", line: { color: colour("soft"), dash: "dot", width: 1.5 }, hoverinfo: "skip" },
      {
        x: observed, y: predicted, mode: "markers", hoverinfo: "text",
        marker: { color: colour("model"), size: 7, opacity: 0.65, line: { color: colour("bg"), width: 0.5 } },
        hovertext: kept.map((i) => `${escaped(points.readouts[points.readout[i]])}<br>${escaped(points.condition[i])}` +
          `<br>observed ${figure(points.observed[i])}, predicted ${figure(points.predicted[i])}`),
      },
    ], { height: 440, showlegend: false, xaxis: { title: { text: "observed" }, range }, yaxis: { title: { text: "predicted" }, range } });
  }

  function drawLoss() {
    if (!byId("loss-plot")) return;
    const dashes = ["solid", "dash", "dot", "dashdot"];
    const colours = ["model", "proposed", "ridge", "mean"];
    draw("loss-plot", data.history.curves.map((curve, i) => ({
      x: data.history.epoch, y: curve.values.map((v) => (v > 0 ? v : null)), name: escaped(curve.name), connectgaps: true,
      mode: data.history.epoch.length > 1 ? "lines" : "markers",
      line: { color: colour(colours[i % 4]), dash: dashes[i % 4], width: 2 },
    })), { height: 360, showlegend: true, hovermode: "x unified", xaxis: { title: { text: "epoch" }, showgrid: false, zeroline: false }, yaxis: { title: { text: "loss" }, type: "log" } });
  }

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
          symbol: style.bar ? "line-ew-open" : "arrow", size: style.bar ? 9 : style.head, angle: head.angle, color: style.colour,
          standoff: style.bar ? 9 : 7, line: { color: style.colour, width: style.bar ? 2 : 0 },
        },
      },
    ];
  }

  function drawNetwork() {
    const plot = byId("network-plot");
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
      const more = (e) => ({ colour: colour("known"), width: 1.2, head: 8, opacity, bar: e < 0 });
      traces.push(...edgeTraces(known.filter((e) => e[2] >= 0), place, more(1)), ...edgeTraces(known.filter((e) => e[2] < 0), place, more(-1)));
      traces.push(...edgeTraces([...proposed, ...extra].filter((e) => bright(e) === lit), place, { colour: colour("proposed"), width: 2.4, head: 12, opacity }));
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

  // ---- table of candidates -------------------------------------------------------------------------------------------
  const FIRST = 25;
  const edges = data.edges;
  const columns = new Map([["rank", edges.rank], ["source", edges.source], ["target", edges.target], ["score", edges.score], ["p", edges.p], ["q", edges.q]]);
  const haystack = edges.source.map((source, i) => `${source}\n${edges.target[i]}`.toLowerCase());
  const collator = new Intl.Collator(undefined, { numeric: true });
  const table = { by: "rank", down: false, rows: FIRST, chosen: null };

  function visibleRows() {
    const words = byId("edge-search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const kept = haystack.map((_, i) => i).filter((i) => words.every((word) => haystack[i].includes(word)));
    const values = columns.get(table.by);
    const direction = table.down ? -1 : 1;
    return kept.sort((a, b) => {
      const x = values[a], y = values[b];
      if (x === null || y === null) return (x === null) - (y === null) || a - b; // undefined last, either way
      return direction * (typeof x === "string" ? collator.compare(x, y) : x - y) || a - b;
    });
  }

  function showEdge(i) {
    const ends = [nodeOf.get(edges.source[i]), nodeOf.get(edges.target[i])];
    table.chosen = i;
    drawTable();
    byId("network").scrollIntoView();
    if (ends.includes(undefined)) {
      byId("network-text").replaceChildren(make("p", `${edges.source[i]} → ${edges.target[i]} lies outside the part of the network that is drawn.`));
      return;
    }
    choose({ nodes: ends[0] === ends[1] ? [ends[0]] : ends, extra: ends });
  }

  function drawTable() {
    const rows = visibleRows();
    const body = document.createDocumentFragment();
    for (const i of rows.slice(0, table.rows)) {
      const row = make("tr", undefined, i === table.chosen ? { class: "chosen" } : {});
      row.append(make("td", figure(edges.rank[i], 0), { class: "num" }), make("th", edges.source[i], { scope: "row", class: "name" }), make("td", edges.target[i], { class: "name" }));
      row.append(make("td", figure(edges.score[i]), { class: "num" }));
      for (const key of ["p", "q"]) row.append(make("td", probability(edges[key][i]), { class: "num" }));
      const cell = make("td");
      const button = make("button", "Show", { type: "button", "aria-label": `Show ${edges.source[i]} → ${edges.target[i]} in the network` });
      button.addEventListener("click", () => showEdge(i));
      cell.append(button);
      row.append(cell);
      body.append(row);
    }
    byId("edge-table").tBodies[0].replaceChildren(body);
    const shown = Math.min(rows.length, table.rows);
    byId("edge-count").textContent = `${shown} of ${rows.length} matching rows shown, ${data.candidates} candidates in all`;
    byId("edge-more").hidden = rows.length <= table.rows;
  }

  function startTable() {
    if (!byId("edge-table")) return;
    for (const head of byId("edge-table").tHead.querySelectorAll("th[data-column]")) {
      const button = make("button", head.textContent, { type: "button" });
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const key = head.dataset.column;
        const first = key === "score"; // the largest score is what one wants first
        table.down = table.by === key ? !table.down : first;
        table.by = key;
        for (const other of head.parentElement.children) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", table.down ? "descending" : "ascending");
        drawTable();
      });
    }
    byId("edge-search").addEventListener("input", () => { table.rows = FIRST; drawTable(); });
    byId("edge-more").addEventListener("click", () => { table.rows += 200; drawTable(); });
    drawTable();
  }

  // ---- start ---------------------------------------------------------------------------------------------------------
  function startControls() {
    const pick = byId("network-node");
    [...net.names.keys()].sort((a, b) => collator.compare(net.names[a], net.names[b]))
      .forEach((i) => pick.append(make("option", net.names[i], { value: String(i) })));
    pick.addEventListener("change", () => choose(pick.value === "" ? null : { nodes: [Number(pick.value)], extra: null }));
    const count = byId("network-count");
    const most = net.proposed.length;
    count.parentElement.hidden = most === 0;
    const steps = [0, 5, 10, 25, 50, 100].filter((n) => n < most).concat(most);
    steps.forEach((n) => count.append(make("option", n === most ? `${n} (all drawn)` : String(n), { value: String(n) })));
    count.value = String(steps.includes(10) ? 10 : Math.min(most, 10));
    count.addEventListener("change", () => { drawNetwork(); describe(); });
    const readout = byId("predictions-readout");
    if (readout) {
      data.predictions.readouts.forEach((name, i) => readout.append(make("option", name, { value: String(i) })));
      readout.addEventListener("change", drawPredictions);
    }
  }
  function drawAll() { drawFit(); drawPredictions(); drawLoss(); drawNetwork(); }

  startControls();
  startTable();
  drawAll();
  for (const query of [narrow, dark]) query.addEventListener("change", drawAll);
})();
