// Curves of logged figures: which are shown, and their charts.

const MAX_BANDS = 12; // more rows than this have lines only
const NUM_FIRST = 10; // metrics that are offered before the others are asked for
const charts = new Map(); // a metric to its elements and what they show
let allOffered = false;

function offeredMetrics() {
  return report.metrics.filter((metric) => report.runs.some((run) => run.curves[metric]?.values.length));
}

function chosenMetrics() {
  const offered = offeredMetrics();
  if (view.metrics[0] !== "first") return offered.filter((metric) => view.metrics.includes(metric));
  const has = (row, metric) => row.runs.some((id) => runs.get(id).curves[metric]);
  const isCommon = (metric) => 2 * report.rows.filter((row) => has(row, metric)).length >= report.rows.length;
  return [...offered.filter(isCommon), ...offered.filter((metric) => !isCommon(metric))].slice(0, 3);
}

function buildCurves() {
  const offered = offeredMetrics();
  byId("curves").hidden = offered.length === 0;
  const known = Object.keys(X_AXES).filter((axis) =>
    report.runs.some((run) => run.at.some((places) => axis in places)),
  );
  byId("x-axes").replaceChildren(
    ...known.map((axis) =>
      makeButton(
        X_AXES[axis],
        { "data-x": axis, "aria-pressed": String(axis === view.x), "data-keep": `x ${axis}` },
        () => {
          setView({ x: axis });
          keepingFocus(buildCurves);
          drawCurves();
        },
      ),
    ),
  );
  const on = new Set(chosenMetrics());
  const chips = offered.map((metric, i) =>
    makeButton(
      metric,
      {
        "aria-pressed": String(on.has(metric)),
        "data-keep": `metric ${metric}`,
        "hidden": !allOffered && i >= NUM_FIRST && offered.length > NUM_FIRST + 1 && !on.has(metric),
      },
      () => {
        const now = new Set(chosenMetrics());
        if (!now.delete(metric)) now.add(metric);
        setView({ metrics: offered.filter((one) => now.has(one)) });
        keepingFocus(buildCurves);
        drawCurves();
      },
    ),
  );
  const later = chips.filter((chip) => chip.hidden);
  const more = later.length
    ? [
        makeButton(`${later.length} more`, { class: "soft" }, () => {
          allOffered = true;
          buildCurves();
          document.querySelector(`[data-keep="${CSS.escape(later[0].dataset.keep)}"]`).focus();
        }),
      ]
    : [];
  byId("metrics").replaceChildren(...chips, ...more);
  const several = report.rows.some((row) => row.runs.length > 1);
  byId("how").textContent =
    (several ? "Line and band: mean and standard deviation of the finished seeds. " : "") +
    "Drag to zoom, double-click to reset; arrow keys move the cursor of a chart.";
}

function drawCurves() {
  const rows = drawn();
  const on = new Set(chosenMetrics());
  const metrics = offeredMetrics().filter((metric) => on.has(metric));
  byId("legend").replaceChildren(...rows.map((row) => make("li", {}, swatchOf(row), labelOf(row))));
  for (const [metric, chart] of charts) {
    if (metrics.includes(metric)) continue;
    Plotly.purge(chart.plot);
    chart.box.remove();
    charts.delete(metric);
  }
  const boxes = metrics.map((metric) => {
    if (!charts.has(metric)) charts.set(metric, buildChart(metric));
    return charts.get(metric).box;
  });
  boxes.forEach((box, i) => {
    if (byId("charts").children[i] !== box) byId("charts").insertBefore(box, byId("charts").children[i] ?? null);
  });
  for (const [metric, chart] of charts) drawChart(metric, chart, rows);
}

function buildChart(metric) {
  const chart = {
    ...chartBox(metric, { "data-metric": metric }, { "tabindex": 0, "aria-label": `${metric} over training` }),
    series: [],
    scale: { by: 1, unit: "" },
  };
  addCursor(chart);
  return chart;
}

function drawChart(metric, chart, rows) {
  chart.series = rows.map((row) => seriesOf(row, metric)).filter(Boolean);
  if (!chart.series.length) {
    const without = view.x !== "images" && rows.some((row) => row.runs.some((id) => runs.get(id).curves[metric]));
    const missing = {
      seconds: "No wall time was logged.",
      epochs: "No epochs were logged.",
      steps: "No steps were logged.",
    }[view.x];
    return sayEmpty(chart, without ? missing : "No row that is drawn has this metric.");
  }
  chart.scale = scaleOf(chart.series);
  const xs = chart.series.flatMap((one) => one.single.flatMap((curve) => [curve.x[0], curve.x.at(-1)]));
  const span = [Math.min(...xs), Math.max(...xs)].map((x) => x / chart.scale.by);
  const published = publishedOf(
    metric,
    chart.series.map((one) => one.row),
  );
  const traces = [...tracesOf(chart), ...publishedTraces(published, span)];
  react(chart, traces, { ...layoutOf(chart), annotations: publishedWords(published, view.logy) });
  listenToPointer(chart);
}

/** Bands first, so that no line lies below one; the trace's meta says whose it is. */
function tracesOf(chart) {
  const bands = [];
  const thin = [];
  const means = [];
  const few = chart.series.length <= MAX_BANDS;
  for (const { row, slot, single, raw, x: atX, y, deviation } of chart.series) {
    const scaled = (at) => at.map((one) => one / chart.scale.by);
    const x = scaled(atX);
    const ink = colour(slot);
    const line = { color: ink, width: 1, dash: dashes(slot)[0] };
    const common = { type: "scatter", mode: "lines", hoverinfo: "none" };
    if (deviation && !view.seeds && few) {
      const high = y.map((mean, i) => mean + deviation[i]);
      // A logarithmic axis has no place for what is not above zero.
      const low = y.map((mean, i) => (view.logy && mean - deviation[i] <= 0 ? mean / 10 : mean - deviation[i]));
      bands.push({
        ...common,
        x: [...x, ...x.toReversed()],
        y: [...high, ...low.toReversed()],
        fill: "toself",
        fillcolor: `${ink}2e`,
        line: { width: 0 },
        hoverinfo: "skip",
        meta: { row: row.id, kind: "band" },
      });
    }
    if (raw && few)
      thin.push({
        ...common,
        x: scaled(raw.x),
        y: raw.y,
        opacity: 0.3,
        hoverinfo: "skip",
        line,
        meta: { row: row.id, kind: "raw" },
      });
    if (view.seeds && single.length > 1) {
      for (const curve of single) {
        thin.push({
          ...common,
          x: scaled(curve.x),
          y: curve.y,
          opacity: 0.55,
          hoverinfo: "skip",
          line,
          meta: { row: row.id, kind: "seed", run: curve.run.id },
        });
      }
    }
    const alone = x.length === 1 ? { mode: "markers", marker: { color: ink, size: 7 } } : {};
    means.push({ ...common, ...alone, x, y, line: { ...line, width: 2 }, meta: { row: row.id, kind: "mean" } });
  }
  return [...bands, ...thin, ...means];
}

function layoutOf(chart) {
  const axis = axisStyle();
  return {
    ...layoutStyle(),
    hovermode: "x",
    hoverdistance: -1,
    uirevision: `${view.x} ${view.logx} ${view.logy}`,
    xaxis: {
      ...axis,
      type: view.logx ? "log" : "linear",
      title: axisTitle(chart.scale.unit),
      tickformat: view.x === "images" ? "~s" : "",
    },
    yaxis: { ...axis, type: view.logy ? "log" : "linear", automargin: true },
  };
}

function listenToCurves() {
  for (const [id, name] of [
    ["logx", "logx"],
    ["log", "logy"],
    ["seeds", "seeds"],
  ]) {
    byId(id).addEventListener("change", (event) => {
      setView({ [name]: event.target.checked });
      drawCurves();
    });
  }
  byId("smooth").addEventListener("input", (event) => {
    setView({ smooth: Number(event.target.value) });
    showSmoothing();
    drawCurves();
  });
}

function showSmoothing() {
  byId("smooth-value").textContent = view.smooth ? view.smooth.toFixed(2) : "off";
}
