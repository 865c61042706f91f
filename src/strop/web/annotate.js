"use strict";
// The page shows what the server says is on the disk, and nothing else. Texts reach it through textContent alone.

const RETRY_MS = 2000;
const BEAT_MS = 15000;
// A held key or a double click must not mark the next pair, which nobody has read yet.
const SETTLE_MS = 250;

const find = (id) => document.getElementById(id);
// Not in a cookie: no other page can make the browser send it. Behind the #, so that no log and no Referer holds it.
const token = location.hash.slice(1);
const session = recall("strop-session") || remember("strop-session", newSession());
let state = null;
let shownAt = 0;
let beating = null;
// A note that was being written when another window took over.
let draft = null;

function newSession() {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
function recall(name) {
  try { return sessionStorage.getItem(name); } catch { return null; }
}
function remember(name, value) {
  try { sessionStorage.setItem(name, value); } catch { /* private windows: a reload counts as another window */ }
  return value;
}
function make(tag, attributes, text) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

// ---- talking to the server

function post(path, payload, keepalive) {
  return fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", Authorization: `Bearer ${token}` },
    body: JSON.stringify({ session, ...payload }),
    cache: "no-store",
    keepalive: keepalive === true,
  });
}

// Returns the answer, or null where the request was refused and the page has said so. Without an answer it tries again.
async function ask(path, payload) {
  for (let tried = 1; ; tried += 1) {
    let response = null, answer = null;
    try {
      response = await post(path, payload);
      answer = await response.json();
    } catch { answer = null; }
    if (answer !== null && response.ok) {
      trouble("");
      return answer;
    }
    if (answer !== null && response.status < 500) {
      await refused(answer, tried);
      return null;
    }
    const why = answer === null ? "The server does not answer." : answer.message;
    trouble(`${why} The last step is not saved yet; trying again …`);
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
}

async function refused(answer, tried) {
  if (answer.error === "elsewhere") {
    elsewhere(state === null ? [answer.message] : [answer.message, "The last step in this window was not saved."]);
  } else if (answer.error === "outdated") {
    const position = state.position;
    let current = await ask("/api/open", {});
    if (current !== null && position !== null) current = await ask("/api/show", { position });
    if (current === null) return;
    show(current, find("note").value);
    // A step that was sent twice was saved the first time.
    if (tried === 1) trouble("The last step was not saved: another window has marked since. The page shows what is saved.");
  } else if (answer.error === "token") {
    panel({ eyebrow: "strop annotate", title: "This address opens nothing", texts: [answer.message] });
  } else {
    trouble(`Not saved. ${answer.message}`);
  }
}

async function step(path, payload, said) {
  status("saving …");
  const answer = await ask(path, payload);
  status(answer === null ? "" : said);
  if (answer !== null) show(answer);
  return answer !== null;
}

// One step after the other: each needs the version that the one before it made.
let queue = Promise.resolve();
function inTurn(action) {
  return (...given) => {
    const seen = state === null ? null : state.position;
    queue = queue.then(() => action(...given, seen)).catch((error) => trouble(`The page failed: ${error}. Reload it; what was saved is kept.`));
    return queue;
  };
}

// ---- showing

function show(answer, unsavedNote) {
  const moved = state === null || state.position !== answer.position;
  state = answer;
  showProgress();
  if (answer.position === null) return finished();
  find("panel").hidden = true;
  for (const id of ["desk", "choices"]) find(id).hidden = false;
  showItem(answer);
  showNote(answer.item.mark.note, moved, unsavedNote);
  if (moved) {
    shownAt = performance.now();
    window.scrollTo(0, 0);
    find("prompt").scrollTop = 0;
  }
  beat();
}

function showProgress() {
  find("top").hidden = false;
  find("annotator").textContent = state.annotator;
  find("count").textContent = `${state.done} of ${state.total} marked`;
  find("bar").style.width = `${(100 * state.done) / state.total}%`;
  find("track").setAttribute("aria-valuemax", state.total);
  find("track").setAttribute("aria-valuenow", state.done);
}

// What somebody is typing stays as it is.
function showNote(saved, moved, unsaved) {
  const typing = !moved && document.activeElement === find("note");
  if (!typing) find("note").value = unsaved === undefined ? saved : unsaved;
  find("note-section").hidden = !typing && find("note").value === "";
}

function showItem(answer) {
  const item = answer.item, mark = item.mark;
  find("place").textContent = `pair ${answer.position + 1} of ${answer.total}`;
  find("previous").disabled = answer.position === 0;
  find("next").disabled = answer.position === answer.total - 1;
  find("risk").hidden = !item.risk;
  find("question").textContent = answer.question;
  find("prompt").replaceChildren(...item.prompt.map(turn));
  find("prompt-title").textContent = item.prompt.length > 1 ? "Conversation" : "Message";
  find("left-text").textContent = item.left;
  find("right-text").textContent = item.right;
  find("left").classList.toggle("chosen", mark.choice === "left");
  find("right").classList.toggle("chosen", mark.choice === "right");
  find("tie").hidden = !answer.ties;
  for (const element of document.querySelectorAll(".for-ties")) element.hidden = !answer.ties;
  for (const button of document.querySelectorAll(".choice")) {
    button.setAttribute("aria-pressed", String(button.dataset.choice === mark.choice));
  }
  find("go-on").hidden = mark.choice === null;
  find("undo").disabled = answer.version === 0;
  find("principles").hidden = answer.criteria.length === 0;
  find("criteria").replaceChildren(...answer.criteria.map((criterion) => criterionRow(criterion, mark)));
}

function turn({ role, text }) {
  const element = make("div", { class: "turn" });
  if (role !== "") element.append(make("div", { class: "role" }, role));
  element.append(make("p", {}, text));
  return element;
}

function criterionRow(criterion, mark) {
  const row = make("div", { class: "criterion" });
  const segments = make("div", { class: "segments", role: "group", "aria-label": criterion.name });
  for (const [choice, label] of [["left", "A"], ["tie", "same"], ["right", "B"]]) {
    const pressed = mark.principles[criterion.key] === choice;
    const button = make("button", { type: "button", "aria-pressed": pressed, "data-key": criterion.key, "data-choice": choice }, label);
    button.addEventListener("click", () => markPrinciple(criterion.key, pressed ? null : choice));
    segments.append(button);
  }
  row.append(make("div", { class: "name", title: criterion.description }, criterion.name), segments);
  return row;
}

function panel({ eyebrow, title, texts, caution, buttons }) {
  for (const id of ["desk", "choices"]) find(id).hidden = true;
  find("top").hidden = state === null;
  if (state !== null) showProgress();
  find("panel").hidden = false;
  find("panel-eyebrow").textContent = eyebrow;
  find("panel-title").textContent = title;
  find("panel-text").replaceChildren(...texts.map((text) => make("p", {}, text)));
  if (caution) find("panel-text").append(make("p", { class: "caution" }, caution));
  find("panel-buttons").replaceChildren(
    ...(buttons || []).map(([label, action], place) => {
      const button = make("button", { type: "button", class: place === 0 ? "primary" : "secondary" }, label);
      button.addEventListener("click", action);
      return button;
    })
  );
  const first = find("panel-buttons").firstElementChild;
  if (first) first.focus();
}

function welcome() {
  const answer = state;
  panel({
    eyebrow: "strop annotate",
    title: answer.done === 0 ? `Hello ${answer.annotator}` : `Welcome back, ${answer.annotator}`,
    texts: [
      answer.done === 0
        ? `${answer.total} pairs of responses wait for you. For each: ${answer.question}`
        : `${answer.done} of ${answer.total} pairs are marked. You continue where you stopped.`,
      "Every mark is saved at once. You can take it back, change it, or stop at any time.",
    ],
    caution: answer.risk
      ? "Some messages speak of suicide, self-harm or overdose. Take breaks, and stop whenever you need to."
      : "",
    buttons: [[answer.done === 0 ? "Begin" : "Continue", () => { remember("strop-welcomed", "yes"); state = null; show(answer); }]],
  });
}

function finished() {
  clearInterval(beating);
  const unjudged = state.cannot === 0 ? "" : ` ${state.cannot} of them could not be judged.`;
  panel({
    eyebrow: "All done",
    title: `Thank you, ${state.annotator}`,
    texts: [`All ${state.total} pairs are marked and saved.${unjudged}`, "You may close this page."],
    buttons: [
      ["Look through them again", () => goTo(0)],
      ["Take back the last mark", () => undo()],
    ],
  });
}

function elsewhere(texts) {
  clearInterval(beating);
  if (working() && find("note").value !== state.item.mark.note) {
    draft = { position: state.position, note: find("note").value };
  }
  panel({
    eyebrow: "Open in another window",
    title: "You are working in another window",
    texts: [...texts, "If you continue here, the other window stops and says so."],
    buttons: [["Continue here", () => begin(true)]],
  });
}

function status(text) { find("status").textContent = text; }
function trouble(text) {
  find("trouble").textContent = text;
  find("trouble").hidden = text === "";
}

// ---- acting

const SAID = { left: "saved: A is better", right: "saved: B is better", tie: "saved: equally good", cannot: "saved: cannot judge" };
const UNDONE = { choice: "verdict taken back", principle: "mark taken back", note: "note taken back" };

function working() {
  return state !== null && state.position !== null && !find("desk").hidden;
}
function write(kind, content, advance) {
  return { version: state.version, position: state.position, kind, advance: advance === true, ...content };
}

// Says whether the note is on the disk.
async function keepNote() {
  if (!working() || find("note").value === state.item.mark.note) return true;
  return step("/api/save", write("note", { text: find("note").value }), "note saved");
}
const saveNote = inTurn(keepNote);

const choose = inTurn(async (choice, seen) => {
  const settled = performance.now() - shownAt >= SETTLE_MS;
  if (!working() || state.position !== seen || !settled || (choice === "tie" && !state.ties)) return;
  if (!(await keepNote())) return;
  // A pair with principles stays until the annotator goes on: their marks may come before or after the verdict.
  const advance = state.criteria.length === 0 && state.item.mark.choice === null;
  const seconds = Math.min(86400, Math.round((performance.now() - shownAt) / 100) / 10);
  await step("/api/save", write("choice", { choice, seconds }, advance), SAID[choice]);
});

const markPrinciple = inTurn(async (principle, choice, seen) => {
  if (!working() || state.position !== seen || !(await keepNote())) return;
  await step("/api/save", write("principle", { principle, choice }), "saved");
});

const undo = inTurn(async () => {
  if (state === null || !(await keepNote())) return;
  if (await step("/api/undo", { version: state.version }, "")) {
    status(state.undone === null ? "nothing to take back" : UNDONE[state.undone]);
  }
});

const goTo = inTurn(async (position) => {
  if (position < 0 || position >= state.total || !(await keepNote())) return;
  await step("/api/show", { position }, "");
});

const goOn = inTurn(async () => {
  if (!working() || !(await keepNote())) return;
  const following = state.position + 1;
  const revisits = state.item.mark.choice === null || state.done === state.total;
  if (revisits && following < state.total) await step("/api/show", { position: following }, "");
  else await step("/api/next", { after: state.position }, "");
});

const stop = inTurn(async () => {
  if (state === null || !(await keepNote())) return;
  clearInterval(beating);
  post("/api/leave", {}, true).catch(() => {});
  panel({
    eyebrow: "Stopped for today",
    title: "Everything is saved",
    texts: [`${state.done} of ${state.total} pairs are marked. Close this page; the same address continues where you stopped.`],
    buttons: [["Continue", () => begin(false)]],
  });
});

const begin = inTurn(async (take) => {
  let answer = await ask("/api/open", { take });
  if (answer === null) return;
  const unsaved = draft;
  if (unsaved !== null) answer = await ask("/api/show", { position: unsaved.position });
  if (answer === null) return;
  draft = null;
  if (state === null && recall("strop-welcomed") === null && answer.position !== null) {
    state = answer;
    welcome();
    beat();
  } else {
    state = null;
    show(answer, unsaved === null ? undefined : unsaved.note);
  }
});

function writeNote() {
  if (!working()) return;
  find("note-section").hidden = false;
  find("note").focus();
}

function beat() {
  clearInterval(beating);
  beating = setInterval(async () => {
    try {
      const response = await post("/api/beat", {});
      if (response.status === 409 && working()) elsewhere([(await response.json()).message]);
    } catch { /* the next step says so */ }
  }, BEAT_MS);
}

const KEYS = {
  1: () => choose("left"), ArrowLeft: () => choose("left"),
  2: () => choose("right"), ArrowRight: () => choose("right"),
  3: () => choose("tie"), 0: () => choose("cannot"),
  u: () => undo(), n: writeNote, p: () => goTo(state.position - 1), Enter: () => goOn(), "?": () => find("help").showModal(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || find("help").open) return;
  if (event.target === find("note")) {
    if (event.key === "Escape") find("note").blur();
    return;
  }
  if (event.target instanceof HTMLButtonElement && event.key === "Enter") return;
  const action = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  // On the last page, "All done", a mark can still be taken back.
  if (!action || !(working() || (event.key === "u" && state !== null && state.position === null))) return;
  event.preventDefault();
  if (!event.repeat) action();
});
document.addEventListener("click", (event) => {
  // After a mouse click the keys belong to the page again; somebody who tabs keeps the focus.
  if (event.detail > 0 && event.target instanceof Element && event.target.closest("#choices button, .steps button")) {
    document.activeElement.blur();
  }
});
for (const button of document.querySelectorAll(".choice")) {
  button.addEventListener("click", () => choose(button.dataset.choice));
}
find("undo").addEventListener("click", () => undo());
find("note-button").addEventListener("click", writeNote);
find("go-on").addEventListener("click", () => goOn());
find("previous").addEventListener("click", () => goTo(state.position - 1));
find("next").addEventListener("click", () => goTo(state.position + 1));
find("help-button").addEventListener("click", () => find("help").showModal());
find("stop-button").addEventListener("click", () => stop());
find("note").addEventListener("blur", () => saveNote());
window.addEventListener("hashchange", () => location.reload());
window.addEventListener("pagehide", () => {
  if (working() && find("note").value !== state.item.mark.note) {
    post("/api/save", write("note", { text: find("note").value }), true).catch(() => {});
  }
  post("/api/leave", {}, true).catch(() => {});
});
// A page that the browser kept alive shows an old state.
window.addEventListener("pageshow", (event) => { if (event.persisted) begin(false); });

begin(false);
