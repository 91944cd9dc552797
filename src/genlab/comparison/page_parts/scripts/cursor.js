// The cursor, which all curves share, and the values at it. The pointer moves it, and the arrow keys of a chart.

const MAX_ENTRIES = 12; // of the values at the cursor
const NUM_KEYS = 60; // presses of an arrow key from one end of a chart to the other

function addCursor(chart) {
  chart.cursor = make("div", { class: "cursor", hidden: true });
  chart.box.append(chart.cursor);
  chart.plot.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === "Escape") hideCursor();
    if (!step || !chart.series.length) return;
    event.preventDefault();
    moveCursor(chart, step);
  });
  chart.plot.addEventListener("blur", hideCursor);
}

function listenToPointer(chart) {
  if (chart.listening === chart.plot._ev) return; // Plotly forgets its listeners when a chart is purged
  chart.plot.on("plotly_hover", (event) => showCursor(chart, event.xvals[0], event.event));
  chart.plot.on("plotly_unhover", hideCursor);
  chart.listening = chart.plot._ev;
}

/** The horizontal axis of a chart as it is drawn, with the pixels of its values. */
function drawnAxis(chart) {
  const axis = chart.plot._fullLayout?.xaxis;
  return axis && chart.series.length ? axis : null;
}

function moveCursor(chart, step) {
  const axis = drawnAxis(chart);
  const before = chart.at === undefined ? null : axis.d2p(chart.at);
  const pixel = before === null ? (step > 0 ? 0 : axis._length) : before + (step * axis._length) / NUM_KEYS;
  chart.at = axis.p2d(Math.min(axis._length, Math.max(0, pixel)));
  const frame = chart.plot.getBoundingClientRect();
  showCursor(chart, chart.at, { clientX: frame.left + axis._offset + axis.d2p(chart.at), clientY: frame.top + 20 });
}

/** Show the values of one chart at a place of its axis, and the place on all charts. */
function showCursor(chart, at, { clientX, clientY }) {
  chart.at = at;
  for (const other of charts.values()) placeCursor(other, (at * chart.scale.by) / other.scale.by);
  const entries = chart.series
    .map((one) => ({
      one,
      value: interpolated(one, at * chart.scale.by),
      deviation: one.deviation && interpolated({ x: one.x, y: one.deviation }, at * chart.scale.by),
    }))
    .filter(({ value }) => value !== null)
    .sort((a, b) => b.value - a.value);
  const tip = byId("tip");
  tip.hidden = !entries.length;
  if (!entries.length) return;
  const unit =
    view.x === "images" ? `${Math.round(at).toLocaleString("en-US")} images` : `${number(at)} ${chart.scale.unit}`;
  const left = entries.length - MAX_ENTRIES;
  tip.replaceChildren(
    make("div", { class: "soft" }, unit),
    ...entries
      .slice(0, MAX_ENTRIES)
      .map((entry) =>
        make(
          "div",
          { class: "entry" },
          swatchOf(entry.one.row),
          make("span", {}, shortLabel(entry.one.row)),
          make(
            "strong",
            {},
            number(entry.value) + (entry.deviation === null ? "" : ` ± ${number(entry.deviation, 2)}`),
          ),
        ),
      ),
  );
  if (left > 0) tip.append(make("div", { class: "soft" }, `and ${left} more`));
  const { width, height } = tip.getBoundingClientRect();
  const x = clientX + 16 + width < innerWidth - 8 ? clientX + 16 : Math.max(8, clientX - 16 - width);
  tip.style.left = `${x}px`;
  tip.style.top = `${Math.max(8, Math.min(clientY + 14, innerHeight - height - 8))}px`;
}

function placeCursor(chart, at) {
  const axis = drawnAxis(chart);
  const pixel = axis ? axis.d2p(at) : NaN;
  chart.cursor.hidden = !(pixel >= 0 && pixel <= axis?._length);
  if (chart.cursor.hidden) return;
  const { _offset: top, _length: height } = chart.plot._fullLayout.yaxis;
  Object.assign(chart.cursor.style, {
    left: `${chart.plot.offsetLeft + axis._offset + pixel}px`,
    top: `${chart.plot.offsetTop + top}px`,
    height: `${height}px`,
  });
}

function hideCursor() {
  byId("tip").hidden = true;
  for (const chart of charts.values()) chart.cursor.hidden = true;
}
