// The runs that a row unfolds to: command, folder, facts, and figures with their protocols.

function unfold(line, open) {
  line.opener.setAttribute("aria-expanded", open);
  if (!line.detail) {
    line.detail = make(
      "tr",
      { class: "detail" },
      make("td", { colspan: shownColumns().length + 1 }, buildRuns(line.row)),
    );
    line.tr.after(line.detail);
  }
  line.detail.hidden = !open || line.tr.hidden;
}

function buildRuns(row) {
  return make("div", { class: "runs" }, ...row.runs.map((id, i) => buildRun(runs.get(id), i === 0)));
}

function buildRun(run, open) {
  const block = make(
    "details",
    { class: "run", open },
    make("summary", {}, seedOf(run), make("span", { class: tone(run.status) }, run.status)),
  );
  if (run.reason) block.append(make("p", { class: "reason" }, run.reason));
  if (run.command) block.append(buildCommand(run.command));
  block.append(make("div", { class: "path mono soft" }, run.path));
  block.append(
    makeButton("Whole config", { "class": "of-run", "data-keep": `config ${run.key}` }, () => showConfig(run)),
  );
  const columns = make("div", { class: "columns" });
  if (Object.keys(run.facts).length) columns.append(make("div", {}, make("h3", {}, "Facts"), definitions(run.facts)));
  if (Object.keys(run.figures).length) columns.append(buildFigures(run.figures));
  block.append(columns);
  return block;
}

function buildCommand(command) {
  const text = make("pre", {}, command);
  const button = makeButton("Copy", {}, async () => {
    try {
      await navigator.clipboard.writeText(command);
    } catch {
      // a page opened from disk may not be allowed to
      getSelection().selectAllChildren(text);
      document.execCommand("copy");
    }
    button.textContent = "Copied";
    setTimeout(() => {
      button.textContent = "Copy";
    }, 1500);
  });
  return make("div", { class: "command" }, text, button);
}

function definitions(entries) {
  const list = make("dl");
  for (const [name, value] of Object.entries(entries))
    list.append(make("dt", {}, name), make("dd", {}, inWords(value)));
  return list;
}

/** Each figure with its protocol; what all of them share stands once. */
function buildFigures(figures) {
  const protocols = Object.values(figures).map((figure) => figure.protocol);
  const shared = Object.entries(protocols[0]).filter(
    ([name, value]) =>
      name && protocols.length > 1 && protocols.every((other) => inWords(other[name]) === inWords(value)),
  );
  const isShared = new Set(shared.map(([name]) => name));
  const table = make("tbody");
  for (const [name, figure] of Object.entries(figures)) {
    const own = Object.entries(figure.protocol).filter(([field]) => field && !isShared.has(field));
    const how = make(
      "td",
      {},
      figure.protocol[""] ? make("div", {}, figure.protocol[""]) : "",
      make("div", { class: "soft" }, own.map(field).join(" · ")),
    );
    if (figure.warning) how.append(make("div", { class: "warning" }, figure.warning));
    table.append(make("tr", {}, make("td", {}, name), make("td", {}, figure.text), how));
  }
  const block = make("div", {}, make("h3", {}, "Figures, and how each was made"));
  if (shared.length) block.append(make("div", { class: "small soft" }, `all: ${shared.map(field).join(" · ")}`));
  block.append(make("table", { class: "figures" }, table));
  return block;
}

function field([name, value]) {
  return `${name}: ${inWords(value)}`;
}
