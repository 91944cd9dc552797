// One picture, as large as the window allows. Left and right go from row to row, up and down through training, Escape
// or a click closes.

let enlarged = null; // the frame whose picture is large

function enlarge(frame) {
  enlarged = frame;
  const { src, text, title, when } = frame.large();
  if (src === undefined && text === undefined) return;
  const content = text === undefined ? make("img", { src, alt: title }) : make("pre", {}, text);
  byId("large").replaceChildren(
    make(
      "div",
      { class: "large-head" },
      make("strong", {}, title),
      make("span", { class: "soft" }, when),
      makeButton("Previous", { class: "push" }, () => enlargeBeside(-1)),
      makeButton("Next", {}, () => enlargeBeside(1)),
      makeButton("Close", { id: "large-close" }, () => byId("large").close()),
    ),
    content,
  );
  if (content.tagName === "IMG") content.addEventListener("load", () => fit(content));
  if (!byId("large").open) byId("large").showModal();
  byId("large-close").focus();
}

/** By whole numbers of times, so that each pixel of a small image stays a square; what is too large is shrunk. */
function fit(image) {
  const room = Math.min((0.94 * innerWidth) / image.naturalWidth, (0.94 * innerHeight - 70) / image.naturalHeight);
  image.style.width = `${image.naturalWidth * (room > 1 ? Math.floor(room) : room)}px`;
  image.classList.toggle("pixels", room >= 2);
}

/** The picture of the next card that has one, or of the one before. */
function enlargeBeside(step) {
  const frames = [...document.querySelectorAll("#cards .frame:not(:disabled)")];
  if (frames.length) enlarge(frames[(frames.indexOf(enlarged) + step + frames.length) % frames.length]);
}

function listenToLarge() {
  const large = byId("large");
  large.addEventListener("keydown", (event) => {
    const beside = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const later = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (!beside && !later) return;
    event.preventDefault();
    if (beside) return enlargeBeside(beside);
    pause();
    moveTo(Math.max(0, Number(byId("step").value) + later));
    enlarge(enlarged);
  });
  large.addEventListener("click", (event) => {
    if (event.target === large || event.target.tagName === "IMG") large.close();
  });
  large.addEventListener("close", () => {
    if (enlarged?.isConnected) enlarged.focus();
  });
}
