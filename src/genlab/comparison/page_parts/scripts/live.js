// A page that is served while runs are running asks for newer reports, and shows them without losing the view.

const PAUSES = { next: 3000 }; // milliseconds between two questions

async function watch(stamp) {
  try {
    const answer = await fetch(`report.json?since=${stamp}`, { cache: "no-store" });
    if (answer.status === 200) {
      const news = await answer.json();
      stamp = news.stamp;
      if (news.report) show(news.report);
      say(news.said);
    } else if (answer.status !== 204) {
      say(`The server answers with ${answer.status}.`);
    }
  } catch {
    say("The server is gone: this is what it told last. Start genlab compare --watch again to go on.");
  }
  setTimeout(() => watch(stamp), PAUSES.next);
}

function say(words) {
  byId("said").textContent = words;
  byId("said").hidden = !words;
}
