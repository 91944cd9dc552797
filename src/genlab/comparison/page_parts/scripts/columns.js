// Columns: which are shown, which are numbers, and the menus that choose among them.

const isNumeric = (column) => ["figure", "difference", "published", "fact"].includes(column.kind);
const nameOf = (column) =>
  column.title + ({ min: " ↓", max: " ↑" }[column.kind === "figure" ? column.better : ""] ?? "");
const columnOf = (key) => report.columns.find((column) => column.key === key);

function isShown(column) {
  if (view.show.includes(column.key)) return true;
  return !column.constant && !view.hide.includes(column.key);
}

function shownColumns() {
  const columns = report.columns.filter(isShown);
  return columns.length ? columns : report.columns.slice(0, 1);
}

function showColumn(column, shown) {
  const without = (list) => list.filter((key) => key !== column.key);
  const [show, hide] = [without(view.show), without(view.hide)];
  if (shown && column.constant) show.push(column.key);
  if (!shown && !column.constant) hide.push(column.key);
  setView({ show, hide });
}

/** A number, a text, or null where nothing is known: no cell, or a figure that is no number. */
function valueOf(row, column) {
  const cell = row.cells[column.key];
  if (!cell) return null;
  return cell.value ?? (isNumeric(column) ? null : cell.text);
}

/** A column's values are numbers if all that are there are. */
function hasNumbers(column) {
  const values = report.rows.map((row) => valueOf(row, column)).filter((value) => value !== null);
  return values.length > 0 && values.every((value) => typeof value === "number");
}

function hasSeveral(column) {
  return new Set(report.rows.map((row) => valueOf(row, column)).filter((value) => value !== null)).size > 1;
}

/** Columns that a chart can have as an axis. */
function axisColumns() {
  return report.columns.filter(
    (column) => ["config", "figure", "fact"].includes(column.kind) && column.key !== "run" && hasSeveral(column),
  );
}

/** The column that rows are ranked by: the chosen one, or the first figure with a direction that half of them have. */
function rankedBy() {
  const num = (column) => report.rows.filter((row) => valueOf(row, column) !== null).length;
  const figures = report.columns.filter((column) => column.kind === "figure" && column.better && num(column));
  const most = Math.max(...figures.map(num));
  return (
    figures.find((column) => column.key === view.figure) ??
    figures.find((column) => 2 * num(column) >= report.rows.length) ??
    figures.find((column) => num(column) === most) ??
    null
  );
}

/** Whether a logarithmic axis fits: positive numbers over a decade or more, such as learning rates. */
function isWide(column) {
  const values = report.rows.map((row) => valueOf(row, column)).filter((value) => typeof value === "number");
  return hasNumbers(column) && Math.min(...values) > 0 && Math.max(...values) >= 10 * Math.min(...values);
}

/** A menu of checkboxes; it is a <details>, which Enter opens and Escape closes. */
function fillMenu(menu, title, columns, isOn, change) {
  const list = menu.querySelector(".panel");
  const at = menu.open ? list.scrollTop : 0; // asking makes the browser lay out the page
  menu.querySelector("summary").textContent = title;
  list.replaceChildren(
    ...columns.map((column) => {
      const box = make("input", {
        "type": "checkbox",
        "checked": isOn(column),
        "data-keep": `${menu.id} ${column.key}`,
      });
      box.addEventListener("change", () => change(column, box.checked));
      const constant = column.constant
        ? make("span", { class: "soft" }, ` ${report.rows[0].cells[column.key]?.text ?? "–"} in all rows`)
        : "";
      return make("label", { class: "check" }, box, make("span", {}, nameOf(column), constant));
    }),
  );
  if (at) list.scrollTop = at;
}

function closeMenus(except) {
  for (const menu of document.querySelectorAll("details.menu[open]")) if (!menu.contains(except)) menu.open = false;
}

function listenToMenus() {
  document.addEventListener("pointerdown", (event) => closeMenus(event.target));
  for (const menu of document.querySelectorAll("details.menu")) {
    menu.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !menu.open) return;
      menu.open = false;
      menu.querySelector("summary").focus();
      event.stopPropagation();
    });
  }
}

function fillColumnMenu() {
  const hidden = report.columns.filter((column) => !isShown(column)).length;
  fillMenu(
    byId("columns"),
    hidden ? `Columns (${hidden} hidden)` : "Columns",
    report.columns,
    isShown,
    (column, shown) => {
      showColumn(column, shown);
      buildTable();
      keepingFocus(fillColumnMenu);
    },
  );
}
