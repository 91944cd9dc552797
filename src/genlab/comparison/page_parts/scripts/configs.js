// The whole config of a run, or of two runs side by side.

const runOf = (key) => report.runs.find((run) => run.key === key);

/** A run's config by key: what most runs have, and what this one has instead. */
function configOf(run) {
  const lacks = new Set(run.config.lacks);
  const usual = Object.entries(report.config).filter(([key]) => !lacks.has(key));
  return new Map([...usual, ...Object.entries(run.config.other)].sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)));
}

function buildConfigs() {
  const withConfig = report.runs.filter((run) => configOf(run).size);
  byId("configs").hidden = withConfig.length === 0;
  const name = (run) => `${shortLabel(report.rows[run.row])} · ${seedOf(run)}`;
  const entries = withConfig.map((run) => [run.key, name(run)]);
  makeOptions(byId("config-a"), entries, view.a);
  makeOptions(byId("config-b"), [["", "no other run"], ...entries], view.b);
  byId("config-same").checked = view.same;
  drawConfigs();
}

function showConfig(run) {
  setView({ a: run.key, b: "" });
  buildConfigs();
  byId("configs").scrollIntoView({ block: "start" });
  byId("config-b").focus({ preventScroll: true });
}

function drawConfigs() {
  const a = runOf(byId("config-a").value);
  const b = runOf(byId("config-b").value);
  byId("config-same").closest("label").hidden = !b;
  if (!a) return byId("config-table").replaceChildren();
  const word = byId("config-keys").value.toLowerCase();
  const of = b ? [configOf(a), configOf(b)] : [configOf(a)];
  const text = (config, key) => (config.has(key) ? valueInConfig(config.get(key)) : "–");
  const all = [...new Set(of.flatMap((config) => [...config.keys()]))].sort();
  const differing = all.filter((key) => b && text(of[0], key) !== text(of[1], key));
  const isDifferent = new Set(differing);
  const keys = (b && !view.same ? differing : all).filter(
    (key) =>
      !word || key.toLowerCase().includes(word) || of.some((config) => text(config, key).toLowerCase().includes(word)),
  );
  const cell = (config, key) => make("td", { class: b && isDifferent.has(key) ? "differs" : null }, text(config, key));
  const head = ["key", seedAndLabel(a), ...(b ? [seedAndLabel(b)] : [])];
  byId("config-table").replaceChildren(
    make("thead", {}, make("tr", {}, ...head.map((title) => make("th", { scope: "col" }, title)))),
    make(
      "tbody",
      {},
      ...keys.map((key) =>
        make("tr", {}, make("th", { scope: "row" }, ...breakableKey(key)), ...of.map((config) => cell(config, key))),
      ),
    ),
  );
  byId("config-count").textContent = b ? `${differing.length} of ${all.length} keys differ` : `${all.length} keys`;
}

function seedAndLabel(run) {
  return `${shortLabel(report.rows[run.row])}, ${seedOf(run)}`;
}

function breakableKey(key) {
  return key.split(/(?<=\.)/).flatMap((part, i) => (i ? [make("wbr"), part] : [part]));
}

function valueInConfig(value) {
  return typeof value === "string" ? value : JSON.stringify(value);
}

function listenToConfigs() {
  byId("config-a").addEventListener("change", (event) => {
    setView({ a: event.target.value });
    drawConfigs();
  });
  byId("config-b").addEventListener("change", (event) => {
    setView({ a: byId("config-a").value, b: event.target.value });
    drawConfigs();
  });
  byId("config-same").addEventListener("change", (event) => {
    setView({ same: event.target.checked });
    drawConfigs();
  });
  byId("config-keys").addEventListener("input", drawConfigs);
}
