// Files that the page writes: the table as CSV, and what charts hand over.

function download(name, address) {
  const link = make("a", { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
}

function fileName(title) {
  return title.replace(/[^\w.-]+/g, "_").replace(/^_+|_+$/g, "") || "genlab";
}

/** Quote a value; a text that a spreadsheet would compute as a formula gets a ' before it. */
function inCsv(value) {
  if (typeof value === "number") return String(value);
  const text = String(value ?? "");
  const inert = /^\s*[=+\-@]/.test(text) && Number.isNaN(Number(text)) ? `'${text}` : text;
  return /[",\n\r]/.test(inert) ? `"${inert.replaceAll('"', '""')}"` : inert;
}

/** The table as it is shown, with all digits; a figure with several seeds has a column of standard deviations. */
function tableAsCsv() {
  const takers = shownColumns().flatMap((column) => {
    const of = (take) => (row) => (row.cells[column.key] ? take(row.cells[column.key]) : "");
    const own = [column.key, of((cell) => (isNumeric(column) ? cell.value : cell.text))];
    const spreads = report.rows.some((row) => Number.isFinite(row.cells[column.key]?.std));
    return spreads ? [own, [`${column.key} std`, of((cell) => cell.std)]] : [own];
  });
  const rows = shownRows().map((row) => [
    ...takers.map(([, take]) => take(row)),
    row.runs.map((id) => runs.get(id).path).join(" "),
  ]);
  return [[...takers.map(([head]) => head), "folders"], ...rows]
    .map((cells) => `${cells.map(inCsv).join(",")}\n`)
    .join("");
}

function saveCsv() {
  const address = URL.createObjectURL(new Blob([tableAsCsv()], { type: "text/csv" }));
  download(`${fileName(report.title)}.csv`, address);
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
