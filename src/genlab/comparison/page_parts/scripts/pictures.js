// Pictures of runs side by side: samples, reconstructions and whatever else they hold, over the course of training.

let moments = []; // the images seen at which there is a picture of a row that is drawn; after them comes the end
const runShown = new Map(); // a row's number to the run whose pictures its card shows
let cards = [];
let playing = null;

// A picture is decoded when its card comes near the window, not before.
const nearby = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) {
      target.near = isIntersecting;
      if (isIntersecting) target.load();
    }
  },
  { rootMargin: "200px" },
);

const picturesOf = (run) => run.pictures[shownKind()] ?? [];

function kinds() {
  return [...new Set(report.runs.flatMap((run) => Object.keys(run.pictures)))];
}

function shownKind() {
  const all = kinds();
  return all.includes(view.kind) ? view.kind : all.includes("samples") ? "samples" : all[0];
}

function buildKinds() {
  const all = kinds();
  byId("kinds").hidden = all.length < 2;
  byId("kinds").replaceChildren(
    ...all.map((kind) =>
      makeButton(kind, { "aria-pressed": String(kind === shownKind()), "data-keep": `kind ${kind}` }, () => {
        setView({ kind, step: "" });
        keepingFocus(buildKinds);
        drawSamples();
      }),
    ),
  );
}

function drawSamples() {
  const rows = drawn().filter((row) => row.runs.some((id) => picturesOf(runs.get(id)).length));
  byId("samples").hidden = !report.real.length && !kinds().length;
  const seen = rows.flatMap((row) => row.runs.flatMap((id) => picturesOf(runs.get(id)).map((one) => one.images_seen)));
  moments = [...new Set(seen.filter((moment) => moment !== null))].sort((a, b) => a - b);
  byId("step").max = moments.length;
  byId("step").value =
    view.step === "" ? moments.length : moments.filter((moment) => moment < Number(view.step)).length;
  for (const control of [byId("step"), byId("play"), byId("moment")]) control.hidden = moments.length < 2;
  nearby.disconnect();
  cards = rows.map(buildCard);
  const real = shownKind() === "samples" || !shownKind() ? report.real.map(buildReal) : [];
  keepingFocus(() => byId("cards").replaceChildren(...real, ...cards.map((card) => card.figure)));
  showMoment();
}

function buildReal({ dataset, src }) {
  const frame = makeButton("", { "class": "frame", "aria-label": `Enlarge real images of ${dataset}` }, () =>
    enlarge(frame),
  );
  frame.load = () => frame.replaceChildren(makePicture(src, `Real images of ${dataset}`));
  frame.large = () => ({ src, title: `real ${dataset}`, when: "test images" });
  nearby.observe(frame);
  return make(
    "figure",
    { class: "card" },
    make("div", { class: "name" }, make("strong", {}, `real ${dataset}`)),
    frame,
    make("figcaption", {}, "test images"),
  );
}

function buildCard(row) {
  const choices = row.runs.map((id) => runs.get(id)).filter((run) => picturesOf(run).length);
  if (!choices.some((run) => run.id === runShown.get(row.id))) runShown.set(row.id, choices[0].id);
  const frame = makeButton(
    "",
    { "class": "frame", "aria-label": `Enlarge ${shownKind()} of ${row.label}`, "data-keep": `frame ${keyOf(row)}` },
    () => enlarge(frame),
  );
  const when = make("span");
  const caption = make("figcaption", {}, when);
  if (choices.length > 1) {
    const select = make("select", { "aria-label": `Seed of ${row.label}` });
    makeOptions(
      select,
      choices.map((run) => [run.id, seedOf(run)]),
      runShown.get(row.id),
    );
    select.addEventListener("change", () => {
      runShown.set(row.id, Number(select.value));
      showMoment();
    });
    caption.append(select);
  }
  const card = {
    row,
    frame,
    when,
    figure: make(
      "figure",
      { "class": "card", "data-row": row.id },
      make("div", { class: "name" }, swatchOf(row), labelOf(row)),
      frame,
      caption,
    ),
  };
  frame.load = () => showPicture(card);
  frame.large = () => ({
    ...card.picture,
    title: `${shownKind()}: ${shortLabel(row)}, ${seedOf(runs.get(runShown.get(row.id)))}`,
    when: card.when.textContent,
  });
  nearby.observe(frame);
  return card;
}

function showMoment() {
  const moment = moments[byId("step").value];
  byId("moment").textContent = moment === undefined ? "final" : `${moment.toLocaleString("en-US")} images seen`;
  byId("step").setAttribute("aria-valuetext", byId("moment").textContent);
  for (const card of cards) {
    card.picture = pictureAt(picturesOf(runs.get(runShown.get(card.row.id))), moment);
    card.when.textContent = card.picture
      ? card.picture.images_seen === null
        ? "final"
        : `${card.picture.images_seen.toLocaleString("en-US")} images`
      : "none yet";
    if (card.frame.near) showPicture(card);
  }
}

/** The newest picture that is not after the moment; at the end that of the trained model, where there is one. */
function pictureAt(pictures, moment) {
  const final = pictures.find((one) => one.images_seen === null);
  const during = pictures.filter((one) => one.images_seen !== null);
  if (final && (moment === undefined || !during.length)) return final;
  return during.findLast((one) => moment === undefined || one.images_seen <= moment) ?? null;
}

function showPicture(card) {
  const { picture, frame } = card;
  frame.disabled = !picture;
  if (!picture) return frame.replaceChildren();
  if (picture.text !== undefined) return frame.replaceChildren(make("pre", {}, picture.text));
  const image = frame.querySelector("img");
  if (image) image.src = picture.src;
  else frame.replaceChildren(makePicture(picture.src, `${shownKind()} of ${card.row.label}`));
}

/** A picture whose pixels stay squares if it is enlarged, as those of small images are; a chart is shrunk smoothly. */
function makePicture(src, alt) {
  const image = make("img", { src, alt });
  image.addEventListener("load", () =>
    image.classList.toggle("pixels", Math.max(image.naturalWidth, image.naturalHeight) <= image.clientWidth * 1.3),
  );
  return image;
}

/** Move to a moment, or to the end; the view keeps the images seen, which do not depend on the rows drawn. */
function moveTo(step) {
  byId("step").value = step;
  const moment = moments[byId("step").value];
  setView({ step: moment === undefined ? "" : String(moment) });
  showMoment();
}

function play() {
  const slider = byId("step");
  if (slider.value === slider.max) slider.value = 0;
  byId("play").textContent = "Pause";
  showMoment();
  playing = setInterval(() => {
    moveTo(Number(slider.value) + 1);
    if (slider.value === slider.max) pause();
  }, 600);
}

function pause() {
  clearInterval(playing);
  playing = null;
  byId("play").textContent = "Play";
}

function listenToPictures() {
  byId("step").addEventListener("input", (event) => {
    pause();
    moveTo(event.target.value);
  });
  byId("play").addEventListener("click", () => (playing === null ? play() : pause()));
}
