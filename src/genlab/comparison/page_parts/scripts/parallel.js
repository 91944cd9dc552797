// Parallel coordinates: a line for each row that the filter shows, through its values on an axis for each column. A box
// dragged over an axis asks the filter for the values in it. A line passes by the axes of keys that the row lacks.

let parallelChart = null;
const LEAST_GAP = 0.07; // between the numbers of an axis
const NUM_AXES = 7; // keys that are shown unless others are chosen
// From low to high as in cividis, which people with deficient colour vision tell apart; its ends show on both grounds.
const RAMP = [
  [26, 82, 147],
  [87, 93, 120],
  [125, 124, 121],
  [171, 157, 104],
  [217, 184, 70],
];

/** The columns that have an axis: swept keys, and last the figure that rows are ranked by. */
function parallelColumns() {
  const columns = axisColumns();
  if (view.axes[0] !== "first")
    return view.axes.map((key) => columns.find((column) => column.key === key)).filter(Boolean);
  const keys = columns.filter((column) => column.kind === "config").slice(0, NUM_AXES);
  const figure =
    columns.find((column) => column.key === rankedBy()?.key) ?? columns.find((column) => column.kind === "figure");
  return figure ? [...keys, figure] : keys;
}

function fillAxisMenu() {
  const on = parallelColumns();
  fillMenu(
    byId("axes"),
    "Axes",
    axisColumns(),
    (column) => on.includes(column),
    (column, isOn) => {
      const now = new Set(parallelColumns().map((one) => one.key));
      if (isOn) now.add(column.key);
      else now.delete(column.key);
      setView({
        axes: axisColumns()
          .map((one) => one.key)
          .filter((key) => now.has(key)),
      });
      keepingFocus(fillAxisMenu);
      drawParallel();
    },
  );
}

/** Where a column's values lie on its axis, from 0 to 1, and the ticks; of texts, each has a place of its own. */
function parallelAxis(column) {
  const values = report.rows.map((row) => valueOf(row, column)).filter((value) => value !== null);
  if (!hasNumbers(column)) {
    const texts = [
      ...new Set(report.rows.map((row) => row.cells[column.key]?.text).filter((text) => text !== undefined)),
    ];
    texts.sort((a, b) => compare(a, b, false));
    const place = (text) => (texts.indexOf(text) + 0.5) / texts.length;
    const every = Math.ceil(texts.length / 12);
    return {
      column,
      texts,
      place: (row) => (row.cells[column.key] ? place(row.cells[column.key].text) : null),
      ticks: texts.filter((_, i) => i % every === 0).map((text) => [place(text), text]),
    };
  }
  const log = isWide(column);
  const scaled = (value) => (log ? Math.log10(value) : value);
  const [low, high] = [Math.min(...values), Math.max(...values)].map(scaled);
  const place = (value) => (scaled(value) - low) / (high - low || 1);
  const back = (at) => (log ? 10 ** (low + at * (high - low)) : low + at * (high - low));
  const distinct = [...new Set(values)].sort((a, b) => a - b);
  const ticks = distinct.length <= 6 ? distinct : [0, 0.25, 0.5, 0.75, 1].map(back);
  const placed = ticks.map((value) => [place(value), number(value, 3)]).sort(([a], [b]) => a - b);
  return {
    column,
    back,
    place: (row) => (valueOf(row, column) === null ? null : place(valueOf(row, column))),
    ticks: placed.filter(([at], i) => i === 0 || at - placed[i - 1][0] > LEAST_GAP),
  };
}

function rampAt(share) {
  const at = Math.min(0.999, Math.max(0, share)) * (RAMP.length - 1);
  const [low, high] = [RAMP[Math.floor(at)], RAMP[Math.floor(at) + 1]];
  return `rgb(${low.map((one, i) => Math.round(one + (high[i] - one) * (at % 1))).join(",")})`;
}

function drawParallel() {
  const axes = parallelColumns().map(parallelAxis);
  const rows = shownRows();
  const last = axes.at(-1);
  const name = axes.length ? `Parallel coordinates, coloured by ${last.column.title}` : "Parallel coordinates";
  parallelChart.heading.textContent = name;
  parallelChart.plot.setAttribute("aria-label", name);
  if (axes.length < 2) return sayEmpty(parallelChart, "Choose two axes or more.");
  const traces = rows.map((row) => {
    const share = last.place(row);
    return {
      type: "scatter",
      mode: "lines+markers",
      x: axes.map((_, i) => i),
      y: axes.map((axis) => axis.place(row)),
      connectgaps: true,
      line: { color: share === null ? token("--soft") : rampAt(share), width: chosen.has(row.id) ? 2.5 : 1.2 },
      marker: { size: 4 },
      opacity: rows.length > 40 && !chosen.has(row.id) ? 0.55 : 0.9,
      text: axes.map(
        ({ column }) =>
          `${literal(shortLabel(row))}<br>${literal(column.title)}: ${literal(row.cells[column.key]?.text ?? "–")}`,
      ),
      hovertemplate: "%{text}<extra></extra>",
      unselected: { marker: { opacity: 1 } },
      meta: { kind: "parallel", row: row.id },
    };
  });
  const lineOf = (_, i) => ({
    type: "line",
    xref: "x",
    x0: i,
    x1: i,
    y0: 0,
    y1: 1,
    layer: "below",
    line: { color: token("--strong-line"), width: 1.5 },
  });
  const words = axes.flatMap(({ ticks }, i) =>
    ticks.map(([y, text]) => ({
      x: i,
      y,
      text: literal(shortened(text)),
      showarrow: false,
      xanchor: i === axes.length - 1 ? "right" : "left",
      xshift: i === axes.length - 1 ? -5 : 5,
      font: { size: 10.5, color: token("--ink") },
      bgcolor: `${token("--surface")}cc`,
    })),
  );
  const most = Math.floor(parallelChart.box.clientWidth / axes.length / 6.5);
  const title = ({ column }) =>
    literal(
      shortened(
        shortTitle(
          column,
          axes.map((axis) => axis.column),
        ),
        most,
      ),
    );
  const sides = (i) => (i === 0 ? "left" : i === axes.length - 1 ? "right" : "center");
  const titles = axes.map((axis, i) => ({
    x: i,
    xanchor: sides(i),
    y: 1,
    yref: "paper",
    yanchor: "bottom",
    text: title(axis),
    showarrow: false,
    font: { size: 11.5 },
  }));
  react(parallelChart, traces, {
    ...layoutStyle(),
    margin: { l: 24, r: 24, t: 34, b: 12 },
    hovermode: "closest",
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "select",
    shapes: axes.map(lineOf),
    annotations: [...words, ...titles],
    selections: [],
    uirevision: "",
    xaxis: { range: [-0.08, axes.length - 0.92], visible: false, fixedrange: true },
    yaxis: { range: [-0.06, 1.06], visible: false, fixedrange: true },
  });
  parallelChart.axes = axes;
  if (parallelChart.listening !== parallelChart.plot._ev) {
    parallelChart.plot.on("plotly_selected", (event) => {
      if (event?.range) brush(event.range);
    });
    parallelChart.listening = parallelChart.plot._ev;
  }
}

/** The last words of a key that tell it from the others: lr, or generator_optimizer.lr where there are two. */
function shortTitle(column, among) {
  const words = column.title.split(".");
  for (let num = 1; num < words.length; num += 1) {
    const end = words.slice(-num).join(".");
    if (among.every((other) => other === column || !`.${other.title}`.endsWith(`.${end}`))) return end;
  }
  return column.title;
}

function shortened(text, most = 22) {
  return text.length <= most ? text : `${text.slice(0, Math.max(3, most - 1))}…`;
}

/** Ask the filter for the values inside a box, on each axis that it covers. */
function brush({ x, y }) {
  const [left, right] = [Math.min(...x), Math.max(...x)];
  const [low, high] = [Math.min(...y), Math.max(...y)];
  parallelChart.axes.forEach((axis, i) => {
    if (i < left || i > right) return;
    const { column } = axis;
    if (axis.texts) {
      const inside = axis.texts.filter(
        (text, j) => (j + 0.5) / axis.texts.length >= low && (j + 0.5) / axis.texts.length <= high,
      );
      if (inside.length)
        filterColumn(column, [
          `${column.key}==${inside.map((text) => (/\s/.test(text) ? `"${text}"` : text)).join("|")}`,
        ]);
    } else {
      const [from, to] = [low, high].map((at) => Number(axis.back(Math.min(1.02, Math.max(-0.02, at))).toPrecision(4)));
      filterColumn(column, [`${column.key}>=${from}`, `${column.key}<=${to}`]);
    }
  });
}
