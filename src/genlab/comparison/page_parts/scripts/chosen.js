// The rows that are drawn, each with the number of its colour and dashes.

const BEST = 8; // rows that are drawn unless others are chosen
let chosen = new Map(); // a row's number to its slot

/** Rows that are drawn, in the table's order. */
function drawn() {
  return lines.filter((line) => chosen.has(line.row.id)).map((line) => line.row);
}

function swatchOf(row) {
  return paint(make("span", { class: "swatch" }), chosen.get(row.id));
}

/** The best rows that the filter shows, by the figure that ranks them; where there is none, the first. */
function bestRows() {
  const column = rankedBy();
  const rows = shownRows();
  if (!column) return rows.slice(0, BEST);
  const values = new Map(rows.map((row) => [row, valueOf(row, column)]));
  return rows.toSorted((a, b) => compare(values.get(a), values.get(b), column.better === "max")).slice(0, BEST);
}

/** What the view says is drawn. Of the best rows, those that were drawn before keep their colours. */
function chooseByView() {
  if (view.rows[0] === "best") {
    const best = new Set(bestRows().map((row) => row.id));
    const next = new Map([...chosen].filter(([id]) => best.has(id)));
    for (const id of best) if (!next.has(id)) next.set(id, freeSlot(next));
    chosen = next;
    return;
  }
  chosen = new Map();
  view.rows.forEach((key, slot) => {
    if (rowsByKey.has(key)) chosen.set(rowsByKey.get(key).id, slot);
  });
}

function freeSlot(taken) {
  const slots = new Set(taken.values());
  let slot = 0;
  while (slots.has(slot)) slot += 1;
  return slot;
}

/** Write the rows that are drawn into the view, each at the place of its slot. */
function rememberChosen() {
  const keys = Array(Math.max(-1, ...chosen.values()) + 1).fill("");
  for (const [id, slot] of chosen) keys[slot] = keyOf(report.rows[id]);
  setView({ rows: keys });
}

function choose(row) {
  chosen.set(row.id, freeSlot(chosen));
  rememberChosen();
  redraw();
}

function leave(row) {
  chosen.delete(row.id);
  rememberChosen();
  redraw();
}

function chooseBest() {
  setView({ rows: [...DEFAULTS.rows] });
  chosen = new Map();
  redraw();
}

/** The first so many of the rows that the filter shows, and no others. */
function chooseFirst(num) {
  chosen = new Map(
    shownRows()
      .slice(0, num)
      .map((row, i) => [row.id, i]),
  );
  rememberChosen();
  redraw();
}

function paintRows() {
  for (const line of lines) {
    line.box.checked = chosen.has(line.row.id);
    paint(line.swatch, chosen.get(line.row.id));
  }
  const isBest = view.rows[0] === "best";
  byId("choose-best").setAttribute("aria-pressed", String(isBest));
}

let waiting = false;

/** What is below the table, once before the next frame. */
function redraw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    if (view.rows[0] === "best") chooseByView();
    paintRows();
    drawCurves();
    drawRelations();
    drawSettings();
    drawSamples();
  });
}
