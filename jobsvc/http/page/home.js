/**
 * The plain page of the active jobs: one stream, a map of jobs, a table. Text goes in as text, never as markup.
 */
const jobs = new Map();
let cursor = null;
let watching = false;

const place = (id) => document.getElementById(id);
const say = (text, live = false) => {
  place("status").textContent = text;
  place("status").classList.toggle("live", live);
};

async function tokenFromLink() {
  const code = new URLSearchParams(location.hash.slice(1)).get("code");
  if (!code) return;
  history.replaceState(null, "", location.pathname);
  const response = await fetch("/api/sessions/link", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ code }),
  });
  if (response.ok) sessionStorage.setItem("token", (await response.json()).token);
}

function cell(row, text, className) {
  const made = row.insertCell();
  made.textContent = text ?? "";
  if (className) made.className = className;
  return made;
}

function progress(row, job) {
  const made = row.insertCell();
  if (job.progress?.percent != null) {
    const bar = document.createElement("progress");
    bar.max = 100;
    bar.value = job.progress.percent;
    bar.setAttribute("aria-label", "progress");
    made.append(bar, ` ${Math.round(job.progress.percent)} % `);
  }
  const message = document.createElement("small");
  message.textContent = job.progress?.message ?? job.error?.message ?? "";
  made.append(message);
}

/** The URL if it leads to the web, else null: what anybody may submit must never become code by being clicked. */
function webAddress(text) {
  let url;
  try {
    url = new URL(text);
  } catch {
    return null;
  }
  return url.protocol === "https:" || url.protocol === "http:" ? url.href : null;
}

function named(row, job) {
  const made = cell(row, job.title ?? job.key ?? job.url ?? job.id, "key");
  const address = webAddress(job.url);
  if (!address) return;
  const link = document.createElement("a");
  link.href = address;
  link.rel = "noopener noreferrer nofollow";
  link.target = "_blank";
  link.textContent = made.textContent;
  made.replaceChildren(link);
}

function age(job) {
  const seconds = Math.max(0, Math.round((Date.now() - Date.parse(job.created_at)) / 1000));
  return seconds < 120 ? `${seconds} s` : `${Math.round(seconds / 60)} min`;
}

function draw() {
  const body = document.createElement("tbody");
  body.id = "jobs";
  for (const job of [...jobs.values()].sort((a, b) => (a.id < b.id ? 1 : -1)).slice(0, 500)) {
    const row = body.insertRow();
    cell(row, job.state);
    progress(row, job);
    cell(row, job.kind);
    named(row, job);
    cell(row, job.owner.split(":")[0]);
    cell(row, `${job.attempt} of ${job.max_attempts}`);
    cell(row, age(job));
  }
  place("jobs").replaceWith(body);
  place("empty").hidden = jobs.size > 0 || !watching;
}

function take(frame) {
  const { event, data } = frame;
  if (frame.id) cursor = frame.id;
  if (event === "reset") jobs.clear();
  if (event === "snapshot") for (const job of data.jobs) jobs.set(job.id, job);
  if (event === "job") {
    if (!data.job.active) jobs.delete(data.job.id);
    else if (!(jobs.get(data.job.id)?.version >= data.version)) jobs.set(data.job.id, data.job);
  }
  if (event === "ready" || event === "hb") say(`live, ${jobs.size} active`, true);
}

async function* linesOf(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    yield* lines.filter(Boolean);
  }
}

async function watch() {
  const token = sessionStorage.getItem("token");
  if (!token) return askForToken("not signed in");
  const headers = { accept: "application/x-ndjson", authorization: `Bearer ${token}` };
  if (cursor) headers["last-event-id"] = cursor;
  const response = await fetch("/api/stream", { headers });
  if (response.status === 401 || response.status === 403) return askForToken("that token does not let you watch");
  if (!response.ok) throw new Error(`HTTP ${response.status}`);
  watching = true;
  place("sign-in").hidden = true;
  let fresh = cursor === null;
  for await (const line of linesOf(response)) {
    const frame = JSON.parse(line);
    if (fresh && frame.event === "snapshot") {
      jobs.clear();
      fresh = false;
    }
    take(frame);
    schedule();
  }
  throw new Error("the stream ended");
}

let scheduled = false;
function schedule() {
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(() => {
    scheduled = false;
    draw();
  });
}

function askForToken(why) {
  watching = false;
  sessionStorage.removeItem("token");
  say(why);
  place("sign-in").hidden = false;
  return new Promise(() => {});
}

async function run() {
  await tokenFromLink();
  for (;;) {
    try {
      await watch();
    } catch (error) {
      say(`reconnecting: ${error.message}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 500 + Math.random() * 1500));
  }
}

place("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", place("token").value.trim());
  location.reload();
});
setInterval(draw, 5000);
run();
