// What everything shares: the report, elements, labels, numbers and colours.

let report = JSON.parse(document.getElementById("report").textContent);
let runs = new Map(); // by number
let rowsByKey = new Map(); // a row by the key of each of its runs, which stays the same when the page is made anew

const byId = (id) => document.getElementById(id);

const NUM_COLOURS = 8;
const DASHES = [
  ["solid", "solid"],
  ["dash", "dashed"],
  ["dot", "dotted"],
]; // as Plotly and as CSS call them

function indexReport() {
  runs = new Map(report.runs.map((run) => [run.id, run]));
  rowsByKey = new Map(report.rows.flatMap((row) => row.runs.map((id) => [runs.get(id).key, row])));
}

const keyOf = (row) => runs.get(row.runs[0]).key;

/** An element; strings among the children become text, whatever is in them. */
function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) node.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

/** A button; what it does is given as a function. */
function makeButton(text, attributes, act) {
  const button = make("button", { type: "button", ...attributes }, text);
  button.addEventListener("click", act);
  return button;
}

function makeOptions(select, entries, chosenValue) {
  select.replaceChildren(
    ...entries.map(([value, text]) => make("option", { value, selected: value === chosenValue }, text)),
  );
}

/** A row's label, its first word before the rest; only a word that is too long is broken, after a sign. */
function labelOf(row) {
  const [first, ...rest] = shortLabel(row).split(" ");
  const words = rest.flatMap((word) => [" ", make("span", { class: "word soft" }, ...breakable(word))]);
  return make("div", { title: row.label }, make("strong", { class: "word" }, ...breakable(first)), ...words);
}

/** model=vae/vae trainer.max_epochs=3 as vae/vae max_epochs=3. */
function shortLabel(row) {
  return row.label.replace(/^model=/, "").replace(/(^| )[\w.]*\.(?=\w+=)/g, "$1");
}

function breakable(text) {
  return text.split(/(?<=[/_,])/).flatMap((part, i) => (i ? [make("wbr"), part] : [part]));
}

function seedOf(run) {
  return run.seed === null ? run.name : `seed ${run.seed}`;
}

function number(value, digits = 4) {
  return value.toLocaleString("en-US", { maximumSignificantDigits: digits });
}

function inWords(value) {
  if (value === null || value === undefined) return "none";
  if (Array.isArray(value)) return value.map(inWords).join(", ");
  if (typeof value === "object")
    return Object.entries(value)
      .map(([name, one]) => `${name} ${inWords(one)}`)
      .join(", ");
  // A checksum tells enough by its start.
  return /^[0-9a-f]{40,}$/.test(value) ? `${value.slice(0, 12)}…` : String(value);
}

function token(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function colour(slot) {
  return token(`--c${slot % NUM_COLOURS}`);
}

function dashes(slot) {
  return DASHES[Math.floor(slot / NUM_COLOURS) % DASHES.length];
}

function paint(swatch, slot) {
  swatch.style.setProperty("--colour", slot === undefined ? "transparent" : `var(--c${slot % NUM_COLOURS})`);
  swatch.style.setProperty("--dash", slot === undefined ? "solid" : dashes(slot)[1]);
  return swatch;
}

function tone(status) {
  if (["failed", "damaged"].includes(status)) return "failed";
  if (["done", "running"].includes(status)) return status;
  return "interrupted";
}
