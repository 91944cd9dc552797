// The view: what is shown of the report. The address's hash holds what differs from the defaults, so that a link
// reproduces it.

const DEFAULTS = {
  show: [],
  hide: [], // columns that are shown or hidden by hand
  sort: "",
  filter: "", // a column's key, with a minus if the highest come first
  rows: ["best"], // keys of the rows that are drawn, by their colours' numbers, which may have gaps
  figure: "", // the column that rows are ranked by
  metrics: ["first"],
  x: "images",
  logx: false,
  logy: false,
  seeds: false,
  smooth: 0, // of curves
  sx: "",
  sy: "",
  slogx: "",
  slogy: "", // of the scatter: columns, and yes, no or nothing for what fits
  axes: ["first"], // columns of the parallel coordinates
  open: [], // rows that are unfolded to their runs
  a: "",
  b: "",
  same: false, // runs whose configs are shown, and whether with the keys that agree
  kind: "",
  step: "", // what pictures show, and the images seen; nothing for the end
};
const view = structuredClone(DEFAULTS);
let writing = null;

function setView(changes) {
  Object.assign(view, changes);
  clearTimeout(writing);
  writing = setTimeout(writeHash, 120); // a slider moves many times a second, and browsers allow fewer changes
}

function isDefault(name) {
  return JSON.stringify(view[name]) === JSON.stringify(DEFAULTS[name]);
}

function writeHash() {
  const encoded = (value) =>
    Array.isArray(value)
      ? value.map(encodeURIComponent).join(",")
      : encodeURIComponent(Number.isFinite(value) || typeof value === "string" ? value : Number(value));
  const parts = Object.keys(DEFAULTS)
    .filter((name) => !isDefault(name))
    .map((name) => `${name}=${encoded(view[name])}`);
  const hash = parts.length ? `#${parts.join("&")}` : "";
  if (hash !== location.hash) history.replaceState(null, "", hash || location.pathname + location.search);
}

/** The view of the address; what it does not name, or names wrongly, is as by default. */
function readHash() {
  const found = structuredClone(DEFAULTS);
  for (const part of location.hash.slice(1).split("&")) {
    const [name, text = ""] = part.split(/=(.*)/s);
    if (!(name in DEFAULTS)) continue;
    try {
      const kind = DEFAULTS[name];
      if (Array.isArray(kind)) found[name] = text === "" ? [] : text.split(",").map(decodeURIComponent);
      else if (typeof kind === "boolean") found[name] = text === "1";
      else if (typeof kind === "number") found[name] = Math.min(0.99, Math.max(0, Number(text) || 0));
      else found[name] = decodeURIComponent(text);
    } catch {
      // a link that was cut in the middle of a sign
      continue;
    }
  }
  if (!(found.x in X_AXES)) found.x = DEFAULTS.x;
  Object.assign(view, found);
}
