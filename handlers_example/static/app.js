// The page's behaviour: upload pictures, and show what the tables know of them as soon as they know it.
// A card is an element with data-state: uploading, waiting, done or failed. Text from outside enters the
// page through textContent alone.
"use strict";

const AT_ONCE = 3; // uploads at a time: more would only share the same line
const SOON = [120, 150, 200, 300, 500, 1000]; // milliseconds between polls after an upload
const IDLE = 5000; // between polls while nothing is pending
const LONG_WAIT = 30000; // after which a card admits that it takes long
const KEPT_FOR = 24 * 3600 * 1000; // how long a reload still remembers what it waited for

const form = document.getElementById("drop-zone");
const input = document.getElementById("file-input");
const list = document.getElementById("cards");
const template = document.getElementById("card");
const connection = document.getElementById("connection");
const announcer = document.getElementById("announcer");

const byPath = new Map(); // the card of each stored picture

// Cards ------------------------------------------------------------------------------------------------------

function newCard(name, order) {
  const card = template.content.firstElementChild.cloneNode(true);
  card.order = order;
  card.name = name;
  part(card, ".name").textContent = name;
  part(card, ".name").title = name;
  part(card, ".upload").setAttribute("aria-label", `Upload of ${name}`);
  list.insertBefore(card, [...list.children].find((other) => other.order < order) ?? null);
  return card;
}

function part(card, selector) {
  return card.querySelector(selector);
}

function setState(card, state, words) {
  card.dataset.state = state;
  part(card, ".status").textContent = words;
  part(card, ".again").hidden = true;
  remember();
}

function setPath(card, path) {
  const other = byPath.get(path);
  if (other && other !== card) other.remove(); // a poll was quicker than the upload's own answer
  card.dataset.path = path;
  byPath.set(path, card);
  return other && other !== card ? other.entry : null;
}

function setTime(card, moment) {
  const time = part(card, "time");
  const sameDay = moment.toDateString() === new Date().toDateString();
  time.dateTime = moment.toISOString();
  time.textContent = sameDay ? moment.toLocaleTimeString() : moment.toLocaleString();
}

function setPicture(card, address) {
  const picture = part(card, "img");
  const none = part(card, ".no-picture");
  const shown = (yes) => {
    picture.hidden = !yes;
    none.hidden = yes;
    if (address.startsWith("blob:")) URL.revokeObjectURL(address);
  };
  picture.hidden = false;
  none.hidden = true;
  picture.onload = () => shown(true);
  picture.onerror = () => shown(false);
  picture.src = address;
}

function stored(path, version) {
  return `/images/${path.split("/").map(encodeURIComponent).join("/")}?v=${encodeURIComponent(version)}`;
}

// Results ----------------------------------------------------------------------------------------------------

function show(entry) {
  const moment = new Date(entry.upload_time);
  let card = byPath.get(entry.image_path);
  const isNew = !card;
  if (isNew) {
    card = newCard(entry.image_name, moment.getTime());
    setPath(card, entry.image_path);
  }
  const text = JSON.stringify(entry);
  if (card.entry === text) return;
  const overwritten = isNew || (card.entry && JSON.parse(card.entry).upload_time !== entry.upload_time);
  card.entry = text;
  if (overwritten) setPicture(card, stored(entry.image_path, entry.upload_time));
  setTime(card, moment);
  part(card, ".model").textContent = entry.model ?? "";
  part(card, ".labels").replaceChildren(...(entry.classifications ?? []).map(labelRow));
  if (entry.reason === undefined) setState(card, "done", "");
  else setState(card, "failed", entry.attempts > 1 ? `${entry.reason} (after ${entry.attempts} attempts)` : entry.reason);
  if (!firstLook) announce(entry);
}

function labelRow({ label, confidence }) {
  const row = document.createElement("div");
  const name = document.createElement("dt");
  const share = document.createElement("dd");
  row.className = "label";
  name.textContent = label;
  share.textContent = percent(confidence);
  row.append(name, share);
  row.style.setProperty("--share", `${Math.max(0, Math.min(1, confidence)) * 100}%`);
  return row;
}

function percent(share) {
  if (share > 0 && share < 0.001) return "< 0.1%";
  return `${(share * 100).toFixed(share < 0.1 ? 1 : 0)}%`;
}

function announce(entry) {
  const line = document.createElement("p");
  const best = entry.classifications?.[0];
  line.textContent = `${entry.image_name}: ${best ? `${best.label}, ${percent(best.confidence)}` : entry.reason ?? "no label"}`;
  announcer.append(line);
  while (announcer.children.length > 20) announcer.firstElementChild.remove();
}

// Polling ----------------------------------------------------------------------------------------------------

let firstLook = true;
let seenTag = "";
let round = 0; // polls since the last upload
let errors = 0;
let timer = 0;
let busy = false;

async function poll() {
  if (busy) return;
  busy = true;
  try {
    await look();
    errors = 0;
    connection.textContent = "";
  } catch {
    errors += 1;
    connection.textContent = "Reconnecting…";
  }
  busy = false;
  admitLongWaits();
  schedule(pause());
}

async function look() {
  const headers = seenTag ? { "If-None-Match": seenTag } : {};
  const answer = await fetch("/results", { headers, cache: "no-store", signal: AbortSignal.timeout(10000) });
  if (answer.status === 304) return;
  if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
  const found = await answer.json();
  seenTag = answer.headers.get("ETag") ?? "";
  found.results.concat(found.failures).forEach(show);
  document.getElementById("built-in-note").hidden = !found.built_in;
  firstLook = false;
  sayIfEmpty();
}

function pause() {
  if (errors) return Math.min(5000, 500 * 2 ** Math.min(errors, 4));
  if (!inState("waiting").length) return IDLE;
  return SOON[Math.min(round++, SOON.length - 1)];
}

function schedule(milliseconds) {
  clearTimeout(timer);
  if (!document.hidden) timer = setTimeout(poll, milliseconds);
}

function pollSoon() {
  round = 0;
  schedule(SOON[0]);
}

function admitLongWaits() {
  for (const card of inState("waiting")) {
    if (Date.now() - card.since > LONG_WAIT) {
      part(card, ".status").textContent = "Still waiting for the classifier. Is its worker running?";
    }
  }
}

function inState(state) {
  return [...list.children].filter((card) => card.dataset.state === state);
}

function sayIfEmpty() {
  document.getElementById("nothing").hidden = firstLook || list.children.length > 0;
}

// Uploading --------------------------------------------------------------------------------------------------

const queue = [];
let running = 0;

function add(files) {
  const now = Date.now();
  [...files].forEach((file, index) => {
    const card = newCard(file.name, now - index / 1000);
    card.file = file;
    setPicture(card, URL.createObjectURL(file));
    enqueue(card);
  });
  sayIfEmpty();
}

function enqueue(card) {
  part(card, ".upload").value = 0;
  setState(card, "uploading", "Waiting for its turn…");
  queue.push(card);
  next();
}

function next() {
  while (running < AT_ONCE && queue.length) {
    running += 1;
    upload(queue.shift());
  }
}

function upload(card) {
  const request = new XMLHttpRequest();
  const body = new FormData();
  body.append("image_file", card.file, card.file.name);
  request.upload.onprogress = (event) => showProgress(card, event);
  request.onloadend = () => {
    running -= 1;
    finish(card, request);
    next();
  };
  request.open("POST", "/image-upload");
  setState(card, "uploading", "Uploading…");
  request.send(body);
}

function showProgress(card, event) {
  if (!event.lengthComputable || card.dataset.state !== "uploading") return;
  const share = event.loaded / event.total;
  part(card, ".upload").value = share;
  part(card, ".status").textContent = share < 1 ? `Uploading… ${Math.floor(share * 100)}%` : "Storing…";
}

function finish(card, request) {
  const answer = parsed(request.responseText);
  if (request.status !== 200 || !answer?.image_path) return refuse(card, request.status, answer);
  card.file = null;
  card.since = Date.now();
  const early = setPath(card, answer.image_path);
  setTime(card, new Date());
  setState(card, "waiting", "Waiting for the classifier…");
  if (early) show(JSON.parse(early));
  pollSoon();
}

function refuse(card, status, answer) {
  setTime(card, new Date());
  setState(card, "failed", reasonOf(status, answer));
  part(card, ".again").hidden = status > 0 && status < 500;
  announce({ image_name: card.name, reason: reasonOf(status, answer) });
}

function reasonOf(status, answer) {
  const detail = answer?.detail;
  if (typeof detail === "string" && detail) return detail;
  if (Array.isArray(detail)) return detail.map((each) => each.msg ?? String(each)).join("; ");
  if (status === 413) return "The file is too large.";
  if (status) return `The server answered ${status}.`;
  return "The upload broke off. Either the server cannot be reached, or the file is larger than it takes.";
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

// What a reload must not forget: pictures that were uploaded and have no result yet -------------------------

function remember() {
  const waiting = inState("waiting").map(({ dataset, name, order }) => ({ path: dataset.path, name, order }));
  try {
    sessionStorage.setItem("waiting", JSON.stringify(waiting));
  } catch {
    // No storage, for instance in a private window: a reload forgets, and the result appears all the same.
  }
}

function recall() {
  for (const { path, name, order } of parsed(sessionStorage.getItem("waiting")) ?? []) {
    if (Date.now() - order > KEPT_FOR) continue;
    const card = newCard(name, order);
    card.since = order;
    setPath(card, path);
    setPicture(card, stored(path, order));
    setTime(card, new Date(order));
    setState(card, "waiting", "Waiting for the classifier…");
  }
}

// Events -----------------------------------------------------------------------------------------------------

input.addEventListener("change", () => {
  add(input.files);
  input.value = ""; // so that the same file can be chosen again
});

list.addEventListener("click", (event) => {
  if (event.target.matches(".again")) enqueue(event.target.closest(".card"));
});

let depth = 0; // dragenter and dragleave come for every element on the way

function highlight(change) {
  depth = Math.max(0, depth + change);
  form.classList.toggle("over", depth > 0);
}

document.addEventListener("dragenter", () => highlight(1));
document.addEventListener("dragleave", () => highlight(-1));
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  highlight(-depth);
  add(event.dataTransfer.files);
});

document.addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) add(event.clipboardData.files);
});

document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : poll()));
window.addEventListener("online", poll);

recall();
poll();
