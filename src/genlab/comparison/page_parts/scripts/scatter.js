// Any column against any other: a point for each row that the filter shows. A click on it draws the row in the curves.

let scatterChart = null;
let nearRelations = false;
let staleRelations = true;

/** The columns of the axes: the chosen ones, or else a key with numbers, and the figure that rows are ranked by. */
function scatterColumns() {
  const columns = axisColumns();
  const of = (key) => columns.find((column) => column.key === key);
  const y = of(view.sy) ?? of(rankedBy()?.key) ?? columns.find((column) => column.kind === "figure") ?? columns.at(-1);
  const meets = (column) =>
    column !== y && report.rows.filter((row) => valueOf(row, column) !== null && valueOf(row, y) !== null).length > 1;
  const others = columns.filter(meets);
  const x =
    of(view.sx) ??
    others.find((column) => column.kind === "config" && hasNumbers(column)) ??
    others.find((column) => column.kind !== "config") ??
    others[0] ??
    columns.find((column) => column !== y);
  return { x, y };
}

/** Draw the charts of keys and figures when they come near the window, not before: many rows take long. */
function drawRelations() {
  staleRelations = true;
  if (nearRelations) drawStaleRelations();
}

function drawStaleRelations() {
  if (byId("relations").hidden || !staleRelations) return;
  staleRelations = false;
  drawScatter();
  drawParallel();
  drawImportance();
}

function buildRelations() {
  const columns = axisColumns();
  byId("relations").hidden = columns.length < 2 || report.rows.length < 2;
  if (byId("relations").hidden) return;
  if (!scatterChart) {
    scatterChart = chartBox("Scatter", { id: "scatter" });
    parallelChart = chartBox("Parallel coordinates", { id: "parallel" });
    importanceChart = chartBox("Importance of keys", { id: "importance" });
    byId("scatter-box").append(scatterChart.box);
    byId("parallel-box").append(parallelChart.box);
    byId("importance-how").before(importanceChart.box);
  }
  const { x, y } = scatterColumns();
  const entries = columns.map((column) => [column.key, nameOf(column)]);
  makeOptions(byId("scatter-x"), entries, x.key);
  makeOptions(byId("scatter-y"), entries, y.key);
  fillAxisMenu();
}

const isLog = (column, said) =>
  hasNumbers(column) && (said === "" ? column.kind !== "figure" && isWide(column) : said === "yes");

function drawScatter() {
  const { x, y } = scatterColumns();
  const logs = { x: isLog(x, view.slogx), y: isLog(y, view.slogy) };
  byId("scatter-log-x").checked = logs.x;
  byId("scatter-log-y").checked = logs.y;
  byId("scatter-log-x").disabled = !hasNumbers(x);
  byId("scatter-log-y").disabled = !hasNumbers(y);
  const rows = shownRows().filter((row) => valueOf(row, x) !== null && valueOf(row, y) !== null);
  const name = `${y.title} against ${x.title}`;
  scatterChart.heading.textContent = name;
  scatterChart.plot.setAttribute("aria-label", name);
  if (!rows.length) return sayEmpty(scatterChart, "No row that the filter shows has both.");
  const at = (row, column) => (hasNumbers(column) ? valueOf(row, column) : literal(row.cells[column.key].text));
  const trace = (of, marker, meta) => ({
    type: "scatter",
    mode: "markers",
    x: of.map((row) => at(row, x)),
    y: of.map((row) => at(row, y)),
    customdata: of.map((row) => row.id),
    text: of.map((row) => literal(shortLabel(row))),
    marker,
    error_y: deviations(of, y),
    hovertemplate: `%{text}<br>${literal(x.title)}: %{x}<br>${literal(y.title)}: %{y}<extra></extra>`,
    meta,
  });
  const others = rows.filter((row) => !chosen.has(row.id));
  const traces = [
    trace(others, { color: token("--soft"), size: 8, opacity: 0.45 }, { kind: "others" }),
    ...rows
      .filter((row) => chosen.has(row.id))
      .map((row) =>
        trace(
          [row],
          {
            color: colour(chosen.get(row.id)),
            size: 10,
            symbol: ["circle", "square", "diamond"][Math.floor(chosen.get(row.id) / NUM_COLOURS) % 3],
            line: { color: token("--surface"), width: 1 },
          },
          { kind: "point", row: row.id },
        ),
      ),
  ];
  const axis = (column, log) => ({
    ...axisStyle(),
    type: hasNumbers(column) ? (log ? "log" : "linear") : "category",
    title: axisTitle(literal(nameOf(column))),
    automargin: true,
    categoryorder: "category ascending",
  });
  react(scatterChart, traces, {
    ...layoutStyle(),
    hovermode: "closest",
    xaxis: axis(x, logs.x),
    yaxis: axis(y, logs.y),
    uirevision: `${x.key} ${y.key} ${logs.x} ${logs.y}`,
  });
  if (scatterChart.listening !== scatterChart.plot._ev) {
    scatterChart.plot.on("plotly_click", (event) => toggleRow(event.points[0].customdata));
    scatterChart.listening = scatterChart.plot._ev;
  }
}

/** Standard deviations over seeds, where rows have several. */
function deviations(rows, column) {
  const spreads = rows.map((row) => row.cells[column.key].std ?? 0);
  return { type: "data", array: spreads, visible: spreads.some(Boolean), thickness: 1, width: 2 };
}

function toggleRow(id) {
  const row = report.rows[id];
  if (chosen.has(id)) leave(row);
  else choose(row);
}

function listenToRelations() {
  new IntersectionObserver(
    ([{ isIntersecting }]) => {
      nearRelations = isIntersecting;
      if (nearRelations) drawStaleRelations();
    },
    { rootMargin: "300px" },
  ).observe(byId("relations"));
  for (const [id, name, log] of [
    ["scatter-x", "sx", "slogx"],
    ["scatter-y", "sy", "slogy"],
  ]) {
    byId(id).addEventListener("change", (event) => {
      setView({ [name]: event.target.value, [log]: "" });
      drawScatter();
    });
  }
  for (const [id, name] of [
    ["scatter-log-x", "slogx"],
    ["scatter-log-y", "slogy"],
  ]) {
    byId(id).addEventListener("change", (event) => {
      setView({ [name]: event.target.checked ? "yes" : "no" });
      drawScatter();
    });
  }
}
