// The points of curves: of single runs, smoothed, and as means over seeds.

const MAX_POINTS = 400; // of a mean over seeds
const X_AXES = { images: "Images seen", seconds: "Wall time", epochs: "Epochs", steps: "Steps" };

/** One run's curve as ascending x and y, without points where either is unknown; of points at one x the last. */
function points(run, metric) {
  const curve = run.curves[metric];
  const found = new Map();
  (curve ? (run.at[curve.at][view.x] ?? []) : []).forEach((x, i) => {
    if (x !== null && curve.values[i] !== null) found.set(x, curve.values[i]);
  });
  const x = [...found.keys()].sort((a, b) => a - b);
  return { x, y: x.map((one) => found.get(one)) };
}

/** An exponential moving average without its pull towards zero at the beginning, as TensorBoard draws it. */
function smoothed(values, weight) {
  let average = 0;
  let rest = 1;
  return values.map((value) => {
    average = weight * average + (1 - weight) * value;
    rest *= weight;
    return average / (1 - rest);
  });
}

/** The y between points; null outside them. */
function interpolated({ x, y }, at) {
  if (!x.length || at < x[0] || at > x.at(-1)) return null;
  let low = 0;
  let high = x.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (x[middle] <= at) low = middle;
    else high = middle;
  }
  if (x[high] === x[low]) return y[low];
  return y[low] + ((y[high] - y[low]) * (at - x[low])) / (x[high] - x[low]);
}

/** Mean and standard deviation of one run, where all curves have values; deviations are null for a single curve. */
function overSeeds(curves) {
  if (curves.length === 1) return { x: curves[0].x, y: curves[0].y, deviation: null };
  const first = Math.max(...curves.map((curve) => curve.x[0]));
  const last = Math.min(...curves.map((curve) => curve.x.at(-1)));
  let x = [...new Set(curves.flatMap((curve) => curve.x))]
    .filter((at) => at >= first && at <= last)
    .sort((a, b) => a - b);
  const every = Math.ceil(x.length / MAX_POINTS);
  x = x.filter((_, i) => i % every === 0 || i === x.length - 1);
  const y = [];
  const deviation = [];
  for (const at of x) {
    const values = curves.map((curve) => interpolated(curve, at));
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    y.push(mean);
    deviation.push(Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (values.length - 1)));
  }
  return { x, y, deviation };
}

/** A row's curves: each run's, their mean, and the mean before smoothing. */
function seriesOf(row, metric) {
  const all = row.runs
    .map((id) => ({ run: runs.get(id), ...points(runs.get(id), metric) }))
    .filter((curve) => curve.x.length);
  if (!all.length) return null;
  const finished = all.filter((curve) => curve.run.status === "done");
  const counted = finished.length ? finished : all;
  const smooth = (curve) => ({ ...curve, y: smoothed(curve.y, view.smooth) });
  return {
    row,
    slot: chosen.get(row.id),
    single: all.map(smooth),
    raw: view.smooth ? overSeeds(counted) : null,
    ...overSeeds(counted.map(smooth)),
  };
}

/** What seconds are divided by, so that the axis has few digits. */
function scaleOf(series) {
  if (view.x !== "seconds") return { by: 1, unit: X_AXES[view.x].toLowerCase() };
  const longest = Math.max(...series.flatMap((one) => one.single.map((curve) => curve.x.at(-1))));
  if (longest > 7200) return { by: 3600, unit: "hours" };
  return longest > 180 ? { by: 60, unit: "minutes" } : { by: 1, unit: "seconds" };
}
