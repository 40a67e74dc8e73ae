// One Plotly chart that keeps its element: new data go through Plotly.react.

const PLOTLY = new URL("../flightdeck.plotly/plotly.min.js", import.meta.url);
const ICONS = {
  all: "M4 9V4h5M15 4h5v5M20 15v5h-5M9 20H4v-5",
  table: "M4 5h16v14H4zM4 10h16M4 15h16M10 5v14",
  picture: "M12 4v11M7 11l5 5 5-5M5 20h14",
};
const MOST_ROWS = 1000;

const kept = new WeakMap();
let loading;

export default function ({ data, parentElement }) {
  const chart = kept.get(parentElement) ?? made(parentElement);
  chart.data = data;
  chart.figure.setAttribute("aria-label", data.alt);
  chart.figure.style.height = `${data.height}px`;
  for (const [name, button] of Object.entries(chart.buttons)) {
    const says = name === "table" && !chart.table.hidden ? data.words.chart : data.words[name];
    button.title = says;
    button.setAttribute("aria-label", says);
  }
  loaded(data.plotly).then(() => draw(chart), () => { chart.plot.textContent = data.words.missing; });
  return () => {
    chart.sizes.disconnect();
    if (window.Plotly) window.Plotly.purge(chart.plot);
    kept.delete(parentElement);
    chart.figure.remove();
  };
}

function loaded(version) {
  loading ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    PLOTLY.searchParams.set("v", version);
    script.src = PLOTLY;
    script.onload = resolve;
    script.onerror = (error) => { loading = undefined; reject(error); };
    document.head.append(script);
  });
  return loading;
}

function made(parentElement) {
  const figure = element("figure", "fd-chart");
  const plot = element("div", "fd-chart-plot");
  const table = element("div", "fd-chart-table");
  const tools = element("div", "fd-chart-tools");
  figure.setAttribute("role", "group");
  plot.setAttribute("aria-hidden", "true"); // its name is the figure's, its points are in the table
  table.tabIndex = 0;
  table.hidden = true;
  const chart = { figure, plot, table, buttons: {} };
  for (const [name, press] of [["all", reset], ["table", turn], ["picture", save]]) {
    const button = element("button", "");
    button.type = "button";
    button.append(icon(ICONS[name]));
    button.onclick = () => press(chart);
    chart.buttons[name] = button;
    tools.append(button);
  }
  chart.buttons.all.hidden = true;
  figure.append(plot, table, tools);
  parentElement.append(figure);
  chart.sizes = new ResizeObserver(() => {
    if (plot.classList.contains("js-plotly-plot") && plot.offsetWidth) window.Plotly.Plots.resize(plot);
  });
  chart.sizes.observe(figure);
  kept.set(parentElement, chart);
  return chart;
}

function draw(chart) {
  const { data, layout } = JSON.parse(chart.data.figure);
  const isNew = !chart.plot.classList.contains("js-plotly-plot");
  const options = { displayModeBar: false, responsive: false, doubleClick: "reset" };
  window.Plotly.react(chart.plot, data, { ...layout, ...colours(chart.figure, layout), autosize: true }, options);
  if (isNew) {
    chart.plot.on("plotly_relayout", () => { chart.buttons.all.hidden = !isZoomed(chart.plot); });
    chart.plot.on("plotly_doubleclick", () => { chart.buttons.all.hidden = true; });
  }
  if (!chart.table.hidden) fill(chart);
}

// Text, lines and ground of the page, so that a chart follows the theme; a figure's own colours of data stay.
function colours(figure, layout) {
  const style = getComputedStyle(figure);
  const value = (name, otherwise) => style.getPropertyValue(name).trim() || otherwise;
  const text = value("--st-text-color", "#1b242c");
  const line = value("--st-border-color", "#d5dce2");
  const axis = { automargin: true, color: text, gridcolor: line, zerolinecolor: line, linecolor: line };
  const axes = Object.fromEntries(
    Object.keys({ xaxis: 0, yaxis: 0, ...layout })
      .filter((name) => /^[xy]axis\d*$/.test(name))
      .map((name) => [name, { ...axis, ...layout[name] }]),
  );
  return {
    ...axes,
    font: { ...layout.font, family: style.fontFamily, color: text },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    hoverlabel: {
      bgcolor: value("--st-secondary-background-color", "#f4f6f8"),
      bordercolor: line,
      font: { color: text, family: style.fontFamily },
      ...layout.hoverlabel,
    },
  };
}

function isZoomed(plot) {
  return Object.entries(plot._fullLayout).some(([name, axis]) => /^[xy]axis\d*$/.test(name) && !axis.autorange);
}

function reset(chart) {
  const axes = Object.keys(chart.plot._fullLayout).filter((name) => /^[xy]axis\d*$/.test(name));
  window.Plotly.relayout(chart.plot, Object.fromEntries(axes.map((name) => [`${name}.autorange`, true])));
}

function save(chart) {
  // On the page's own ground: a transparent picture is unreadable where it is put on another.
  const ground = getComputedStyle(chart.figure).getPropertyValue("--st-background-color").trim() || "#ffffff";
  const size = { width: chart.plot.offsetWidth || 800, height: chart.plot.offsetHeight || 400, scale: 2 };
  const figure = { data: chart.plot.data, layout: { ...chart.plot.layout, paper_bgcolor: ground, plot_bgcolor: ground } };
  window.Plotly.toImage(figure, { format: "png", ...size }).then((url) => {
    const link = element("a", "");
    link.href = url;
    link.download = `${chart.data.alt.replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 80) || "chart"}.png`;
    link.click();
  });
}

function turn(chart) {
  chart.table.hidden = !chart.table.hidden;
  chart.plot.hidden = !chart.table.hidden;
  const says = chart.data.words[chart.table.hidden ? "table" : "chart"];
  chart.buttons.table.title = says;
  chart.buttons.table.setAttribute("aria-label", says);
  if (!chart.table.hidden) fill(chart);
}

// One row for each x, one column for each trace.
function fill(chart) {
  const traces = chart.plot._fullData.filter((trace) => trace.visible === true && trace.x && trace.y);
  const rows = new Map();
  traces.forEach((trace, column) => {
    for (let i = 0; i < Math.min(trace.x.length, trace.y.length); i++) {
      const row = rows.get(trace.x[i]) ?? rows.set(trace.x[i], new Array(traces.length)).get(trace.x[i]);
      row[column] = trace.y[i];
    }
  });
  const head = [chart.plot._fullLayout.xaxis?.title?.text ?? "", ...traces.map((trace) => trace.name)];
  const table = element("table", "");
  table.append(line("th", head));
  const shown = [...rows].sort(([a], [b]) => (typeof a === "number" && typeof b === "number" ? b - a : 0)).slice(0, MOST_ROWS);
  for (const [x, values] of shown) table.append(line("td", [x, ...values]));
  chart.table.replaceChildren(table);
}

function line(kind, values) {
  const row = element("tr", "");
  for (const value of values) {
    const cell = element(kind, "");
    if (kind === "th") cell.scope = "col";
    cell.textContent = typeof value === "number" ? Number(value.toPrecision(5)) : plain(value ?? "");
    row.append(cell);
  }
  return row;
}

// Names of traces are escaped for plotly, which reads tags in them.
function plain(text) {
  return new DOMParser().parseFromString(String(text), "text/html").documentElement.textContent;
}

function icon(path) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const drawn = document.createElementNS("http://www.w3.org/2000/svg", "path");
  for (const [name, value] of Object.entries({ d: path, fill: "none", stroke: "currentColor", "stroke-width": 2 })) {
    drawn.setAttribute(name, value);
  }
  svg.append(drawn);
  return svg;
}

function element(name, className) {
  const made = document.createElement(name);
  if (className) made.className = className;
  return made;
}
