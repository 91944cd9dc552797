// The page: built when it is opened, and again for each newer report.

const LONG_NOTE = 500; // signs

function buildFrame() {
  document.title = report.title;
  byId("title").textContent = report.title;
  const counts = {};
  for (const run of report.runs) counts[run.status] = (counts[run.status] ?? 0) + 1;
  const states = Object.entries(counts)
    .map(([status, count]) => `${count} ${status}`)
    .join(", ");
  const count = (num, noun) => `${num} ${noun}${num === 1 ? "" : "s"}`;
  byId("summary").textContent =
    `${count(report.rows.length, "setting")}, ${count(report.runs.length, "run")}${states ? `: ${states}` : ""}`;
  byId("notes").hidden = report.notes.length === 0;
  document.querySelector("#notes ul").replaceChildren(...report.notes.map(buildNote));
  byId("decisions").hidden = report.decisions.length === 0;
  byId("decisions").replaceChildren(...report.decisions.map((sentence) => make("li", {}, sentence)));
  byId("made").replaceChildren(
    `Made ${report.made} by genlab ${report.version}: `,
    make("span", { class: "mono" }, report.command),
  );
  const figures = report.columns.filter((column) => column.kind === "figure" && column.better);
  makeOptions(
    byId("figure"),
    figures.map((column) => [column.key, nameOf(column)]),
    rankedBy()?.key,
  );
  byId("figure").closest("label").hidden = figures.length === 0;
}

/** A note; of a long one, such as the protocols of many unlike figures, the beginning, which unfolds to the rest. */
function buildNote(note) {
  if (note.length <= LONG_NOTE) return make("li", {}, note);
  const end = note.lastIndexOf(" ", LONG_NOTE / 2);
  const rest = make("details", {}, make("summary", {}, `${note.slice(0, end)} …`), note.slice(end + 1));
  return make("li", {}, rest);
}

/** Put the view's values into the controls that stay. */
function fillControls() {
  byId("filter").value = view.filter;
  byId("log").checked = view.logy;
  byId("logx").checked = view.logx;
  byId("seeds").checked = view.seeds;
  byId("smooth").value = view.smooth;
  showSmoothing();
}

function build() {
  indexReport();
  buildFrame();
  fillControls();
  fillColumnMenu();
  chosen = new Map([...chosen].filter(([id]) => report.rows[id]));
  buildTable();
  chooseByView();
  buildCurves();
  buildRelations();
  buildSettings();
  buildKinds();
  buildConfigs();
  redraw();
}

/** Show another report: rows are known by their runs, whose keys stay. */
function show(next) {
  const slots = new Map([...chosen].map(([id, slot]) => [keyOf(report.rows[id]), slot]));
  const seeds = [...runShown].map(([, id]) => runs.get(id)?.key);
  report = next;
  indexReport();
  chosen = new Map(
    [...slots].filter(([key]) => rowsByKey.has(key)).map(([key, slot]) => [rowsByKey.get(key).id, slot]),
  );
  runShown.clear();
  for (const run of report.runs) if (seeds.includes(run.key)) runShown.set(run.row, run.id);
  keepingFocus(build);
}

/** Paper does not scroll: the table is made as small as it must be, every picture is shown, charts keep their size. */
function prepareForPaper() {
  drawStaleRelations();
  const WIDTH = 980; // of a landscape page, in CSS pixels
  byId("table").style.setProperty("--fit", Math.min(1, WIDTH / byId("table").scrollWidth));
  for (const box of document.querySelectorAll(".chart")) box.style.setProperty("--width", `${box.offsetWidth}px`);
  for (const frame of document.querySelectorAll(".frame")) frame.load();
}

function start() {
  readHash();
  build();
  byId("filter").addEventListener("input", (event) => setFilter(event.target.value));
  byId("figure").addEventListener("change", (event) => {
    setView({ figure: event.target.value });
    buildRelations();
    redraw();
  });
  byId("choose-all").addEventListener("click", () => chooseFirst(Infinity));
  byId("choose-first").addEventListener("click", () => chooseFirst(10));
  byId("choose-best").addEventListener("click", chooseBest);
  byId("choose-none").addEventListener("click", () => chooseFirst(0));
  byId("csv").addEventListener("click", saveCsv);
  byId("clear-filter").addEventListener("click", () => setFilter(""));
  listenToMenus();
  listenToCurves();
  listenToRelations();
  listenToPictures();
  listenToLarge();
  listenToConfigs();
  addEventListener("hashchange", () => {
    readHash();
    chosen = new Map();
    build();
  });
  addEventListener("beforeprint", prepareForPaper);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  if (document.documentElement.dataset.page === "live") watch("");
}

document.addEventListener("DOMContentLoaded", start); // after the chart library below
