// ---- table of candidates ---------------------------------------------------------------------------------------------
const edges = data.edges;
const count = edges.source.length;
const columns = new Map(edges.columns.map((column) => [column.name, column]));
const haystack = { both: [], source: [], target: [] };
for (let i = 0; i < count; i += 1) {
  haystack.source.push(edges.source[i].toLowerCase());
  haystack.target.push(edges.target[i].toLowerCase());
  haystack.both.push(`${haystack.source[i]}\n${haystack.target[i]}`);
}
const table = { by: "rank", down: false, page: 0, size: 25, chosen: null, group: null };

// Place of every row in the order of a column, made once for each column, so that sorting again compares whole numbers.
const orders = new Map();
function orderOf(name) {
  if (!orders.has(name)) {
    const values = edges[name], text = columns.get(name).kind === "name";
    const sorted = Array.from(values.keys()).filter((i) => values[i] !== null);
    sorted.sort((a, b) => (text ? collator.compare(values[a], values[b]) : values[a] - values[b]) || a - b);
    const place = new Int32Array(count).fill(-1);
    let last = 0;
    sorted.forEach((i, k) => { if (k && values[i] !== values[sorted[k - 1]]) last = k; place[i] = last; });
    orders.set(name, place);
  }
  return orders.get(name);
}

function visibleRows() {
  const words = byId("edge-search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const where = haystack[byId("edge-side").value];
  const least = Number(byId("edge-least").value), q = byId("edge-q").value;
  const rows = [];
  for (let i = 0; i < count; i += 1) {
    if (words.length && !words.every((word) => where[i].includes(word))) continue;
    if (least && !(edges.expected_precision[i] >= least)) continue;
    if (q !== "" && (edges.q[i] === null || edges.q[i] > Number(q))) continue;
    if (table.group !== null && edges.alias_group[i] !== table.group) continue;
    rows.push(i);
  }
  let kept = rows;
  if (byId("edge-alias").checked) { // rows stand in the order of their ranks
    const seen = new Set();
    kept = rows.filter((i) => edges.alias_group[i] === null || (!seen.has(edges.alias_group[i]) && seen.add(edges.alias_group[i])));
  }
  const place = orderOf(table.by), direction = table.down ? -1 : 1;
  return kept.sort((a, b) => {
    if (place[a] < 0 || place[b] < 0) return (place[a] < 0) - (place[b] < 0) || a - b; // undefined last, either way
    return direction * (place[a] - place[b]) || a - b;
  });
}

function cellText(column, i) {
  const value = edges[column.name][i];
  if (column.kind === "name") return value;
  if (column.kind === "share") {
    const low = edges.precision_low && percent(edges.precision_low[i]), high = edges.precision_high && percent(edges.precision_high[i]);
    if (!low || !high || low === "–" || high === "–") return percent(value);
    return `${value === null ? "not estimable" : percent(value)} (${low.replace(" %", "")}–${high})`;
  }
  if (value === null) return "–";
  if (column.kind === "aliases") return value <= 1 ? "none" : `${value - 1} more`;
  if (column.kind === "sign") return value > 0 ? "activates" : value < 0 ? "inhibits" : "unknown";
  if (column.kind === "count") return figure(value, 0);
  return column.kind === "probability" ? probability(value) : figure(value);
}

function makeRow(i) {
  const row = make("tr", undefined, i === table.chosen ? { class: "chosen" } : {});
  for (const column of edges.columns) {
    const kind = [column.numeric ? "num" : column.kind === "name" ? "name" : "", column.optional ? "optional" : ""].join(" ").trim();
    const cell = column.name === "source" ? make("th", undefined, { scope: "row" }) : make("td");
    if (kind) cell.className = kind;
    if (column.kind === "aliases" && edges.alias_size[i] > 1 && edges.alias_group) {
      const button = make("button", cellText(column, i), { type: "button", class: "link", "aria-label": `${cellText(column, i)}: list the look-alikes of ${edges.source[i]} → ${edges.target[i]}` });
      button.addEventListener("click", () => { table.group = edges.alias_group[i]; refilter(); byId("edge-count").scrollIntoView({ block: "nearest" }); });
      cell.append(button);
    } else cell.textContent = cellText(column, i);
    row.append(cell);
  }
  const cell = make("td");
  const button = make("button", "Draw", { type: "button", "aria-label": `Draw ${edges.source[i]} → ${edges.target[i]}` });
  button.addEventListener("click", () => showEdge(i, true));
  cell.append(button);
  row.append(cell);
  return row;
}

function drawTable() {
  const rows = visibleRows();
  const pages = Math.max(1, Math.ceil(rows.length / table.size));
  table.page = Math.min(table.page, pages - 1);
  const from = table.page * table.size;
  const body = document.createDocumentFragment();
  const shown = rows.slice(from, from + table.size);
  for (const i of shown) body.append(makeRow(i));
  byId("edge-table").tBodies[0].replaceChildren(body);
  const group = table.group === null ? "" : ", in one look-alike group";
  const of = rows.length === count ? `${count.toLocaleString("en")}` : `${rows.length.toLocaleString("en")} matching`;
  byId("edge-count").textContent = shown.length
    ? `Rows ${from + 1} to ${from + shown.length} of ${of}${group}` : `No candidate matches${group}. Clear the filters to see all ${count.toLocaleString("en")}.`;
  byId("edge-previous").disabled = table.page === 0;
  byId("edge-next").disabled = table.page >= pages - 1;
  byId("edge-reset").hidden = rows.length === count && !byId("edge-search").value;
}
const refilter = () => { table.page = 0; drawTable(); };

function search(text) {
  byId("edge-search").value = text;
  byId("edge-side").value = "both";
  refilter();
}

function startTable() {
  if (!byId("edge-table")) return;
  for (const head of byId("edge-table").tHead.querySelectorAll("th[data-column]")) {
    const button = make("button", head.textContent, { type: "button" });
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const key = head.dataset.column;
      const largest = ["score", "expected_precision"].includes(key); // what one wants first
      table.down = table.by === key ? !table.down : largest;
      table.by = key;
      for (const other of head.parentElement.children) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", table.down ? "descending" : "ascending");
      refilter();
    });
  }
  const least = byId("edge-least");
  if (columns.has("expected_precision")) {
    const most = Math.max(...edges.expected_precision.map((v) => v ?? 0));
    const levels = [0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005].filter((v) => v <= most).slice(0, 4);
    levels.forEach((v) => least.append(make("option", `at least ${percent(v)}`, { value: String(v) })));
    least.parentElement.hidden = !levels.length;
  }
  byId("edge-q").parentElement.hidden = !columns.has("q");
  byId("edge-alias").parentElement.hidden = !edges.alias_group;
  byId("edge-search").addEventListener("input", refilter);
  for (const id of ["edge-side", "edge-least", "edge-q", "edge-alias"]) byId(id).addEventListener("change", refilter);
  byId("edge-all").addEventListener("change", (event) => byId("edge-table").classList.toggle("all", event.target.checked));
  byId("edge-reset").addEventListener("click", () => {
    for (const id of ["edge-search", "edge-least", "edge-q"]) byId(id).value = "";
    byId("edge-side").value = "both";
    byId("edge-alias").checked = false;
    table.group = null;
    refilter();
    byId("edge-search").focus(); // the button goes away
  });
  byId("edge-size").addEventListener("change", (event) => { table.size = Number(event.target.value); refilter(); });
  const turn = (by) => { table.page += by; drawTable(); byId("edge-count").scrollIntoView({ block: "nearest" }); };
  byId("edge-previous").addEventListener("click", () => turn(-1));
  byId("edge-next").addEventListener("click", () => turn(1));
  byId("edge-pager").hidden = false;
  drawTable();
}
