// The filter. Every condition must hold: a word that the row is found by, key=value, key==exact|another, or key>number
// with any of < <= >= !=; a value with spaces stands in quotes.

const SIGNS = /^(.+?)(<=|>=|!=|==|=|<|>)(.+)$/s;

function conditionsIn(text) {
  return text.match(/(?:[^\s"]|"[^"]*")+/g) ?? [];
}

function condition(word) {
  const parts = SIGNS.exec(word);
  const columns = parts ? columnsCalled(parts[1].toLowerCase()) : [];
  if (!columns.length) return (line) => line.words.includes(word.replaceAll('"', "").toLowerCase());
  const values = parts[3]
    .toLowerCase()
    .split("|")
    .map((value) => value.replaceAll('"', ""));
  return (line) =>
    columns.some((column) => {
      const held = values.map((value) => holds(line.row.cells[column.key], parts[2], value));
      return parts[2] === "!=" ? held.every(Boolean) : held.some(Boolean);
    });
}

/** By the key, the title, or the last part of the key: fid is test/fid, and lr is training.optimizer.lr. */
function columnsCalled(name) {
  return report.columns.filter((column) => {
    const key = column.key.toLowerCase();
    return [key, column.title.toLowerCase(), key.split(/[/.]/).pop(), key.split("/").pop().split("[")[0]].includes(
      name,
    );
  });
}

function holds(cell, sign, text) {
  if (!cell) return sign === "!=";
  const wanted = Number(text);
  const numbers = !Number.isNaN(wanted) && cell.value !== null;
  const same = numbers ? cell.value === wanted : cell.text.toLowerCase().includes(text);
  if (sign === "=") return same;
  if (sign === "!=") return !same;
  if (sign === "==") return numbers ? same : cell.text.toLowerCase() === text;
  if (!numbers) return false;
  return { "<": cell.value < wanted, ">": cell.value > wanted, "<=": cell.value <= wanted, ">=": cell.value >= wanted }[
    sign
  ];
}

function filter() {
  const conditions = conditionsIn(view.filter).map(condition);
  let shown = 0;
  for (const line of lines) {
    const hidden = !conditions.every((holdsFor) => holdsFor(line));
    line.tr.hidden = hidden;
    if (line.detail) line.detail.hidden = hidden || line.opener.getAttribute("aria-expanded") === "false";
    shown += !hidden;
  }
  byId("count").textContent = conditions.length ? `${shown} of ${lines.length}` : "";
  byId("no-rows").hidden = shown > 0 || lines.length === 0;
}

function setFilter(text) {
  setView({ filter: text });
  if (byId("filter").value !== text) byId("filter").value = text;
  filter();
  redraw();
}

/** Ask for these conditions on a column instead of those that the filter has on it. */
function filterColumn(column, conditions) {
  const others = conditionsIn(view.filter).filter((word) => SIGNS.exec(word)?.[1] !== column.key);
  setFilter([...others, ...conditions].join(" "));
}

const shownRows = () => lines.filter((line) => !line.tr.hidden).map((line) => line.row);
