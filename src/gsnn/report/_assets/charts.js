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
  const at = chosen === null ? -1 : data.fit.readout.indexOf(points.readouts[chosen]);
  byId("predictions-text").textContent = `${kept.length} values` + (at >= 0 && data.fit.model[at] !== null ? `, R² = ${figure(data.fit.model[at], 2)}` : "");
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

// ---- scores ----------------------------------------------------------------------------------------------------------
// Steps instead of bars, so that distributions can lie over each other.
function steps(bins, values) {
  const x = [bins[0]], y = [0];
  values.forEach((value, i) => { x.push(bins[i], bins[i + 1]); y.push(value, value); });
  return { x: x.concat(bins[bins.length - 1]), y: y.concat(0), mode: "lines" };
}

function drawScores() {
  const scores = data.scores;
  if (!scores) return;
  const percents = { title: { text: "share of the group" }, ticksuffix: " %", rangemode: "tozero", zeroline: false };
  const traces = [
    { ...steps(scores.bins, scores.candidate), name: "candidates", line: { color: colour("proposed"), width: 2 }, fill: "tozeroy", fillcolor: `${colour("proposed")}30` },
  ];
  if (scores.n.known && scores.known_all === null) traces.push({ ...steps(scores.bins, scores.known), name: "known edges", line: { color: colour("model"), width: 2, dash: "dash" } });
  draw("scores-plot", traces.map((t) => ({ ...t, hovertemplate: "score %{x:.3g}: %{y:.1f} %<extra></extra>" })),
    { height: 320, showlegend: true, xaxis: { title: { text: "score" }, showgrid: false, zeroline: false }, yaxis: percents });
  if (!byId("places-plot")) return;
  const dashes = ["solid", "dash", "dashdot"], colours = ["model", "mean", "soft"];
  const places = scores.places.map((v) => v * 100);
  const lines = scores.hidden.map((group, i) => ({
    ...steps(places, group.share), name: `${escaped(group.name)} (${group.n})`,
    line: { color: colour(colours[i % 3]), width: i ? 1.5 : 2.5, dash: dashes[i % 3] },
    ...(i ? {} : { fill: "tozeroy", fillcolor: `${colour("model")}28` }),
  }));
  if (scores.known_place.length) lines.push({ ...steps(places, scores.known_place), name: "known edges, not hidden", line: { color: colour("ridge"), width: 1.5, dash: "dot" } });
  const even = 100 / (places.length - 1);
  lines.push({ x: [0, 100], y: [even, even], mode: "lines", name: "guessing", line: { color: colour("text"), width: 1, dash: "dot" } });
  draw("places-plot", lines.map((t) => ({ ...t, hovertemplate: "%{x:.0f} %: %{y:.1f} %<extra></extra>" })), {
    height: 320, showlegend: true, yaxis: percents,
    xaxis: { title: { text: "candidates that score lower" }, ticksuffix: " %", range: [0, 100], showgrid: false, zeroline: false },
  });
}

// ---- self-check ------------------------------------------------------------------------------------------------------
function drawCheck() {
  const check = data.check;
  if (!check || !byId("check-plot")) return;
  const method = check.methods[Number(byId("check-method").value)];
  const negatives = byId("check-negatives").value;
  const chosen = check.curves.filter((c) => c.method === method && c.negatives === negatives);
  const styles = [["model", "solid", 3], ["mean", "dash", 2], ["soft", "dashdot", 2]];
  const traces = [];
  check.conditions.forEach((condition, i) => {
    const curve = chosen.find((c) => c.condition === condition.name);
    if (!curve) return;
    const [tone, dash, width] = styles[i % 3];
    traces.push({
      x: curve.recall, y: curve.precision, name: escaped(condition.label), mode: "lines", line: { color: colour(tone), dash, width, shape: "hv" },
      hovertemplate: "recall %{x:.2f}: precision %{y:.3g}<extra></extra>",
    });
    if (i === 0 && curve.chance) {
      traces.push({ x: [0, 1], y: [curve.chance, curve.chance], name: "guessing", mode: "lines", line: { color: colour("text"), dash: "dot", width: 1 }, hoverinfo: "skip" });
    }
  });
  draw("check-plot", traces, {
    height: 380, showlegend: true, xaxis: { title: { text: "recall: share of the hidden edges found" }, range: [0, 1], zeroline: false },
    yaxis: { title: { text: "precision" }, type: "log", tickformat: ".2~%", dtick: "D2" },
  });
}

function startCheck() {
  const pick = byId("check-method");
  if (!pick || !data.check) return;
  data.check.methods.forEach((name, i) => {
    const label = data.check.inferers.includes(name) ? name : `${name} (baseline)`;
    pick.append(make("option", label, { value: String(i) }));
  });
  for (const control of [pick, byId("check-negatives")]) control.addEventListener("change", drawCheck);
}

function drawAgreement() {
  data.agreement.forEach((matrix, k) => {
    const names = matrix.names.map((name) => escaped(short(name, narrow.matches ? 12 : 22)));
    const places = names.map((_, i) => i);
    const axis = { tickvals: places, ticktext: names, showgrid: false, zeroline: false, ticks: "" };
    draw(`agreement-plot-${k}`, [{
      type: "heatmap", z: matrix.spearman, x: places, y: places, zmin: -1, zmax: 1, showscale: false, xgap: 2, ygap: 2,
      colorscale: [[0, colour("below")], [0.5, colour("low")], [1, colour("high")]],
      text: matrix.spearman.map((row) => row.map((v) => figure(v, 2))), texttemplate: "%{text}", hoverinfo: "text", textfont: { size: 13, color: colour("text") },
      hovertext: matrix.names.map((a, i) => matrix.names.map((b, j) => `${escaped(a)}<br>${escaped(b)}<br>${figure(matrix.spearman[i][j], 2)}`)),
    }], { height: Math.max(220, 100 + 44 * names.length), xaxis: { ...axis, tickangle: -35 }, yaxis: { ...axis, autorange: "reversed" }, margin: { l: 40, r: 8, t: 48, b: 40 } }); // room for the toolbar, which would cover cells
  });
}
