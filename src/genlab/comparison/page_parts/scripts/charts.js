// What all charts share: their frame, their look, and PNG and SVG files of them.

const CONFIG = { displayModeBar: false, responsive: true, doubleClick: "reset" };

/** The frame of a chart: its title, buttons for files of it, and where it is drawn. */
function chartBox(name, attributes = {}, plotAttributes = {}) {
  const plot = make("div", { "class": "plot", "role": "img", "aria-label": name, ...plotAttributes });
  const empty = make("div", { class: "empty", hidden: true });
  const heading = make("h3", {}, name);
  const files = make(
    "span",
    { class: "files" },
    ...["PNG", "SVG"].map((format) =>
      makeButton(format, { "aria-label": `${format} of ${name}` }, () =>
        saveChart(plot, heading.textContent, format.toLowerCase()),
      ),
    ),
  );
  const box = make(
    "figure",
    { class: "chart", ...attributes },
    make("div", { class: "head" }, heading, files),
    plot,
    empty,
  );
  return { box, plot, empty, heading };
}

function react(chart, traces, layout) {
  chart.plot.hidden = false;
  chart.empty.hidden = true;
  chart.box.querySelector(".files").hidden = false;
  Plotly.react(chart.plot, traces, layout, CONFIG);
}

/** Say why there is no chart. */
function sayEmpty(chart, words) {
  Plotly.purge(chart.plot);
  chart.plot.hidden = true;
  chart.box.querySelector(".files").hidden = true;
  chart.empty.hidden = false;
  chart.empty.textContent = words;
}

function axisStyle() {
  return {
    gridcolor: token("--line"),
    zeroline: false,
    linecolor: token("--strong-line"),
    ticks: "outside",
    ticklen: 4,
    tickcolor: token("--strong-line"),
    showline: true,
    exponentformat: "power",
    nticks: 6,
  };
}

function layoutStyle() {
  return {
    margin: { l: 50, r: 10, t: 10, b: 42 },
    paper_bgcolor: token("--surface"),
    plot_bgcolor: token("--surface"),
    font: { family: getComputedStyle(document.body).fontFamily, size: 11.5, color: token("--soft") },
    hoverlabel: {
      bgcolor: token("--surface"),
      bordercolor: token("--strong-line"),
      font: { color: token("--ink"), size: 12 },
      align: "left",
    },
    showlegend: false,
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom", // a finger scrolls the page
  };
}

function axisTitle(text) {
  return { text, standoff: 6, font: { size: 11.5 } };
}

/** Plotly reads some HTML in texts; a run's texts are shown as they are. */
function literal(text) {
  return String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

/** Write a chart to a file, with its title and, as the page's legend is not part of it, a legend of its own. */
async function saveChart(plot, title, format) {
  const named = new Set();
  const data = plot.data.map((trace) => {
    const row = report.rows[trace.meta?.row];
    if (
      !row ||
      trace.meta.kind === "band" ||
      trace.meta.kind === "raw" ||
      trace.meta.kind === "parallel" ||
      named.has(row.id)
    ) {
      return { ...trace, showlegend: false };
    }
    named.add(row.id);
    return { ...trace, name: literal(shortLabel(row)), showlegend: true };
  });
  const width = Math.max(700, plot.clientWidth);
  const layout = {
    ...plot.layout,
    title: { text: literal(title), font: { size: 14, color: token("--ink") } },
    width,
    height: Math.max(420, plot.clientHeight),
    autosize: false,
    showlegend: named.size > 0,
    legend: { orientation: "h", y: -0.2 },
    margin: { ...plot.layout.margin, t: (plot.layout.margin.t ?? 10) + 40 },
  };
  const address = await Plotly.toImage(
    { data, layout },
    { format, width, height: layout.height + 18 * Math.ceil(named.size / 3), scale: format === "png" ? 2 : 1 },
  );
  download(`${fileName(title)}.${format}`, address);
}
