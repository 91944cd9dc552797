// The table: its head, its rows and their order.

const body = document.querySelector("#table > tbody");
// A line of the table: its row, its elements and the words it is found by; in the order shown.
let lines = [];

function buildTable() {
  keepingFocus(() => {
    buildHead();
    lines = report.rows.map(buildLine);
    sort();
    for (const line of lines) if (view.open.includes(keyOf(line.row))) unfold(line, true);
    filter();
    paintRows();
  });
}

/** Keep the focus on what takes the place of an element that is built anew. */
function keepingFocus(rebuild) {
  const kept = document.activeElement?.dataset?.keep;
  rebuild();
  if (kept && document.activeElement?.dataset?.keep !== kept)
    document.querySelector(`[data-keep="${CSS.escape(kept)}"]`)?.focus();
}

function buildHead() {
  const head = make("tr", {}, make("th", { class: "lead" }, make("span", { class: "unseen" }, "Drawn, and runs")));
  shownColumns().forEach((column, i) => {
    const button = makeButton(column.title, { "data-keep": `head ${column.key}` }, () => sortBy(column));
    const marker = make("span", { "class": "marker", "aria-hidden": "true" });
    if (column.unit && !column.title.includes(column.unit))
      button.append(make("span", { class: "unit" }, ` ${column.unit}`));
    if (column.kind === "figure" && column.better) {
      button.append(make("span", { class: "unit" }, column.better === "min" ? " ↓" : " ↑"));
    }
    if (isNumeric(column))
      button.prepend(marker); // so that the title ends where the numbers end
    else button.append(marker);
    const protocol = Object.entries(column.protocol ?? {}).map(([name, value]) => `${name}: ${inWords(value)}`);
    const title = [column.description, ...protocol].filter(Boolean).join("\n") || null;
    const classes = [isNumeric(column) ? "number" : "", i === 0 ? "first" : ""].filter(Boolean).join(" ");
    head.append(make("th", { "scope": "col", "data-key": column.key, "class": classes || null, title }, button));
  });
  document.querySelector("#table > thead").replaceChildren(head);
}

function buildLine(row) {
  const key = keyOf(row);
  const box = make("input", { "type": "checkbox", "aria-label": `Draw ${row.label}`, "data-keep": `draw ${key}` });
  const opener = make("button", {
    "type": "button",
    "class": "unfold",
    "aria-expanded": "false",
    "aria-label": `Runs of ${row.label}`,
    "data-keep": `runs ${key}`,
  });
  const swatch = make("span", { class: "swatch" });
  const tr = make(
    "tr",
    { "class": "row", "data-row": row.id },
    make("td", { class: "lead" }, make("div", {}, opener, box, swatch)),
  );
  shownColumns().forEach((column, i) => tr.append(buildCell(row, column, i === 0)));
  const words = [row.label, ...Object.keys(row.status)];
  for (const column of report.columns) {
    if (["config", "verdict", "status"].includes(column.kind)) words.push(row.cells[column.key]?.text ?? "");
  }
  const line = { row, tr, box, swatch, opener, detail: null, words: words.join("\n").toLowerCase() };
  box.addEventListener("change", () => (box.checked ? choose(row) : leave(row)));
  opener.addEventListener("click", () => {
    const open = opener.getAttribute("aria-expanded") !== "true";
    unfold(line, open);
    setView({ open: [...view.open.filter((one) => one !== key), ...(open ? [key] : [])] });
  });
  return line;
}

function buildCell(row, column, isFirst) {
  const cell = row.cells[column.key];
  const long = cell && cell.text.length > 34;
  const classes = [
    isNumeric(column) ? "number" : "",
    cell ? "" : "nothing",
    cell?.best ? "best" : "",
    long ? "long" : "",
    isFirst ? "first" : "",
  ];
  if (column.kind === "status") classes.push(worst(row.status));
  if (column.kind === "verdict" && cell) classes.push(toneOfVerdict(cell.text));
  if (column.kind === "difference" && cell) classes.push(toneOfDifference(cell.text));
  return make(
    "td",
    { class: classes.filter(Boolean).join(" ") || null, title: long || isFirst ? cell?.text : null },
    cell?.text ?? "–",
  );
}

function toneOfDifference(words) {
  if (words.endsWith("worse")) return "failed";
  return words.endsWith("better") ? "good" : "";
}

function toneOfVerdict(words) {
  if (words.startsWith("failed")) return "failed";
  return words.startsWith("reproduced") || words.startsWith("better") ? "good" : "interrupted";
}

function worst(status) {
  const tones = Object.keys(status).map(tone);
  return ["failed", "interrupted", "running", "done"].find((one) => tones.includes(one)) ?? "";
}

// -- order ------------------------------------------------------------------------------------------------------------

function sortBy(column) {
  const before = view.sort.replace(/^-/, "") === column.key;
  const down = before ? !view.sort.startsWith("-") : column.better === "max";
  setView({ sort: (down ? "-" : "") + column.key });
  sort();
  redraw();
}

/** Put the lines in order; those without a value come last, and equal ones stay as they were. */
function sort() {
  const down = view.sort.startsWith("-");
  const column = columnOf(view.sort.replace(/^-/, ""));
  if (column) {
    const values = new Map(lines.map((line) => [line, valueOf(line.row, column)]));
    lines.sort((a, b) => compare(values.get(a), values.get(b), down));
  }
  body.replaceChildren(...lines.flatMap((line) => (line.detail ? [line.tr, line.detail] : [line.tr])));
  for (const th of document.querySelectorAll("#table > thead th[data-key]")) {
    const own = th.dataset.key === column?.key;
    if (own) th.setAttribute("aria-sort", down ? "descending" : "ascending");
    else th.removeAttribute("aria-sort");
    th.querySelector(".marker").textContent = own ? (down ? "▾" : "▴") : "";
  }
}

function compare(a, b, down) {
  if (a === null || b === null) return (a === null) - (b === null); // the missing last, in both directions
  const sign = down ? -1 : 1;
  if (typeof a !== typeof b) return sign * (typeof a === "number" ? -1 : 1);
  return sign * (typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true }));
}
