// Published values of figures, as dashed lines.

/** The published values of a figure of validation or test examples, in the order of the rows that have one. */
function publishedOf(metric, rows) {
  const [split, name] = metric.split("/");
  if (!["val", "test"].includes(split)) return [];
  return [...new Set(rows.map((row) => row.published?.[name]).filter((value) => value !== undefined))];
}

/** A dashed line at each published value, over the span of the chart's curves. */
function publishedTraces(values, span) {
  return values.map((value) => ({
    type: "scatter",
    mode: "lines",
    x: span,
    y: [value, value],
    hoverinfo: "skip",
    line: { color: token("--soft"), width: 1.5, dash: "dash" },
    meta: { kind: "published" },
  }));
}

/** The words above these lines; a trace's own text would widen the axis. */
function publishedWords(values, log) {
  return values
    .filter((value) => !log || value > 0)
    .map((value) => ({
      text: `published ${number(value)}`,
      showarrow: false,
      xref: "paper",
      x: 0,
      xanchor: "left",
      y: log ? Math.log10(value) : value,
      yanchor: "bottom",
      font: { size: 11 },
    }));
}
