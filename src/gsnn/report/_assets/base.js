// The scripts of this folder are joined, in the order of SCRIPTS in html.py, inside one function in strict mode.
//
// Names come from the user's files and may be anything printable: they are set as text (textContent) or escaped before
// plotly sees them (it reads some HTML), and are never keys of an object.
const data = JSON.parse(document.getElementById("report-data").textContent);
const byId = (id) => document.getElementById(id);
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const narrow = window.matchMedia("(max-width: 40rem)");
const wide = window.matchMedia("(min-width: 72rem)");
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const collator = new Intl.Collator(undefined, { numeric: true });
const escaped = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const short = (text, most = 16) => {
  const letters = Array.from(text);
  return letters.length > most ? `${letters.slice(0, most - 1).join("")}…` : text;
};

// Cells read as Column.cell in columns.py writes them.
const figure = (value, digits = 3) => {
  if (value === null || value === undefined) return "–";
  if (digits === 0) return String(Math.round(value));
  return value !== 0 && Math.abs(value) < 10 ** -digits
    ? value.toExponential(1).replace(/e([+-])(\d)$/, "e$10$2") : value.toFixed(digits);
};
const probability = (value) => (value === 0 ? "<1e-300" : figure(value)); // too small for a float, not 0
const percent = (value) => {
  if (value === null || value === undefined) return "–";
  return `${value > 0 && value < 0.0995 ? (100 * value).toFixed(1) : (100 * value).toFixed(0)} %`;
};

function make(tag, text, attributes = {}) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

// ---- plotly ----------------------------------------------------------------------------------------------------------
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
  showSendToCloud: false, plotlyServerURL: "", // on by default in some versions, and the data must stay here
});
const draw = (id, traces, more) => Plotly.react(byId(id), traces, layout(more), options());
