// Charts of figures against sampling settings.

let settingCharts = [];

function buildSettings() {
  for (const chart of settingCharts) Plotly.purge(chart.plot);
  settingCharts = (report.against_settings ?? []).map((about) => {
    const name = `${about.label} against ${about.setting}${{ min: " ↓", max: " ↑" }[about.better] ?? ""}`;
    const chart = { ...about, ...chartBox(name, { "data-metric": about.metric, "data-setting": about.setting }) };
    const fixed = Object.entries(about.fixed)
      .map(([setting, value]) => `${setting} ${value}`)
      .join(", ");
    if (fixed) chart.heading.title = fixed;
    return chart;
  });
  byId("settings").hidden = settingCharts.length === 0;
  byId("setting-charts").replaceChildren(...settingCharts.map((chart) => chart.box));
}

function drawSettings() {
  for (const chart of settingCharts) {
    const traces = chart.lines
      .filter((line) => chosen.has(line.row))
      .map((line) => {
        const slot = chosen.get(line.row);
        const ink = colour(slot);
        const own = Object.entries(line.settings ?? {})
          .map(([setting, value]) => `${setting} ${value}`)
          .join(", ");
        return {
          type: "scatter",
          mode: "lines+markers",
          x: line.x,
          y: line.y,
          text: literal(own),
          hoverinfo: own ? "x+y+text" : "x+y",
          line: { color: ink, width: 2, dash: dashes(slot)[0] },
          marker: { color: ink, size: 6 },
          meta: { row: line.row, run: line.run },
        };
      });
    if (!traces.length) {
      sayEmpty(chart, "No row that is drawn was sampled by several settings.");
      continue;
    }
    const values = [...new Set(chart.lines.flatMap((line) => line.x))].sort((a, b) => a - b);
    const rows = drawn().filter((row) => chart.lines.some((line) => line.row === row.id));
    const published = publishedOf(chart.metric, rows);
    traces.push(...publishedTraces(published, [values[0], values.at(-1)]));
    const xaxis = { ...axisStyle(), type: chart.log ? "log" : "linear", title: axisTitle(chart.setting) };
    if (values.length <= 12) Object.assign(xaxis, { tickvals: values, ticktext: values.map((value) => number(value)) });
    react(chart, traces, {
      ...layoutStyle(),
      xaxis,
      yaxis: { ...axisStyle(), automargin: true },
      annotations: publishedWords(published, false),
      hovermode: "closest",
      hoverdistance: -1,
      uirevision: "",
    });
  }
}
