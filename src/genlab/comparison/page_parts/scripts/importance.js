// Importance of keys: how much of the differences between rows each key tells on its own.
//
// The rows' figures are replaced by their ranks, so that a few runs that diverged do not decide, and grouped by the
// key's values (numbers with many values by quantiles). Omega squared estimates the share of the variance that the
// groups explain; unlike R squared it is near 0, not above it, for a key that does nothing (Hays, Statistics for
// Psychologists, 1963; Olejnik and Algina, 2003, doi:10.1037/1082-989X.8.4.434). It is the main effect that
// functional ANOVA (Hutter, Hoos and Leyton-Brown, 2014) estimates by a forest. The sign is Spearman's correlation.

let importanceChart = null;
const LEAST_ROWS = 4;
const FEW_ROWS = 20;

/** Ranks of numbers, from 1; equal numbers share the mean of theirs. */
function ranks(values) {
  const order = values.map((_, i) => i).sort((a, b) => values[a] - values[b]);
  const found = Array(values.length);
  for (let first = 0; first < order.length;) {
    let end = first + 1;
    while (end < order.length && values[order[end]] === values[order[first]]) end += 1;
    for (let i = first; i < end; i += 1) found[order[i]] = (first + end + 1) / 2;
    first = end;
  }
  return found;
}

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
const squares = (values, centre) => values.reduce((sum, value) => sum + (value - centre) ** 2, 0);

/** The share of variance that groups explain, less what as many would by chance; null if it cannot be told. */
function omegaSquared(groups) {
  const all = groups.flat();
  const within = groups.reduce((sum, group) => sum + squares(group, mean(group)), 0);
  const total = squares(all, mean(all));
  const free = all.length - groups.length;
  if (groups.length < 2 || free < 1 || total === 0) return null;
  const noise = within / free;
  return Math.max(0, (total - within - (groups.length - 1) * noise) / (total + noise));
}

function correlation(a, b) {
  const [centreA, centreB] = [mean(a), mean(b)];
  const both = a.reduce((sum, one, i) => sum + (one - centreA) * (b[i] - centreB), 0);
  const size = Math.sqrt(squares(a, centreA) * squares(b, centreB));
  return size ? both / size : null;
}

/** Positions of a key's values, grouped: each value alone, or many numbers by quantiles of about equal size. */
function grouped(values) {
  const numeric = values.every((value) => typeof value === "number");
  const most = Math.max(2, Math.min(5, Math.floor(values.length / 4)));
  const label =
    numeric && new Set(values).size > most
      ? ranks(values).map((rank) => Math.min(most - 1, Math.floor(((rank - 0.5) / values.length) * most)))
      : values.map(String);
  const found = new Map();
  label.forEach((one, i) => found.set(one, [...(found.get(one) ?? []), i]));
  return [...found.values()];
}

/** The importance of each swept key for a figure, the highest first; keys of which it cannot be told are left out. */
function importances(rows, figure) {
  const keys = axisColumns().filter((column) => column.kind === "config");
  return keys
    .map((column) => {
      const there = rows.filter((row) => valueOf(row, column) !== null);
      if (there.length < LEAST_ROWS) return { column, share: null };
      const values = there.map((row) => valueOf(row, column));
      const ranked = ranks(there.map((row) => valueOf(row, figure)));
      const share = omegaSquared(grouped(values).map((group) => group.map((i) => ranked[i])));
      const numeric = values.every((value) => typeof value === "number");
      return { column, share, correlation: numeric ? correlation(ranks(values), ranked) : null };
    })
    .filter((one) => one.share !== null)
    .sort((a, b) => b.share - a.share);
}

function drawImportance() {
  const figure = rankedBy();
  const rows = figure ? shownRows().filter((row) => valueOf(row, figure) !== null) : [];
  importanceChart.heading.textContent = figure ? `Importance of keys for ${figure.title}` : "Importance of keys";
  const found = rows.length < LEAST_ROWS ? [] : importances(rows, figure);
  byId("importance-how").hidden = !found.length;
  if (rows.length < LEAST_ROWS) {
    return sayEmpty(
      importanceChart,
      figure
        ? `Importance takes ${LEAST_ROWS} rows with ${figure.title} or more; there are ${rows.length}.`
        : "No row has a figure to rank by.",
    );
  }
  if (!found.length)
    return sayEmpty(importanceChart, "No key has a value that two rows share: nothing can be told of it.");
  const few = rows.length < FEW_ROWS ? `Only ${rows.length} rows: take this as a hint. ` : "";
  byId("importance-few").textContent = few;
  const signed = found.map((one) =>
    one.correlation === null ? "" : `ρ ${one.correlation < 0 ? "−" : "+"}${Math.abs(one.correlation).toFixed(2)}`,
  );
  const trace = {
    type: "bar",
    orientation: "h",
    x: found.map((one) => one.share),
    y: found.map((one) => literal(one.column.key)),
    text: signed,
    textposition: "outside",
    cliponaxis: false,
    marker: { color: token("--accent") },
    hovertemplate: "%{y}: %{x:.0%} %{text}<extra></extra>",
    meta: { kind: "importance" },
  };
  const most = Math.floor(Math.min(34, importanceChart.box.clientWidth / 16));
  react(importanceChart, [trace], {
    ...layoutStyle(),
    dragmode: false,
    margin: { l: 10, r: 48, t: 6, b: 36 },
    bargap: 0.35,
    uirevision: "",
    xaxis: {
      ...axisStyle(),
      range: [0, 1],
      tickformat: ".0%",
      fixedrange: true,
      title: axisTitle("share that the key alone tells"),
    },
    yaxis: {
      automargin: true,
      autorange: "reversed",
      fixedrange: true,
      tickfont: { color: token("--ink") },
      tickvals: trace.y,
      ticktext: found.map((one) =>
        literal(
          shortened(one.column.key.length > most ? `…${one.column.key.slice(1 - most)}` : one.column.key, most + 1),
        ),
      ),
    },
  });
}
