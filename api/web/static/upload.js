// Adding documents: files become items, items go in batches, and each has its own outcome.

import { askForKey, headers, here, local, Problem } from "./api.js";
import { $, count, dataUri, make } from "./dom.js";

const BATCH_BYTES = 16 * 1024 * 1024;
const BATCH_ITEMS = 64;
const FAILURES_SHOWN = 100;

let running = null;
let afterwards = () => {};

export const whenAdded = (then) => { afterwards = then; };

/** The items of a file: several of a .jsonl, else one. `bytes` is about what it takes to send it. */
async function* itemsOf(file) {
  if (/\.(jsonl|ndjson)$/i.test(file.name)) {
    const lines = (await file.text()).split("\n");
    for (const [index, line] of lines.entries()) {
      if (!line.trim()) continue;
      const from = `${file.name}:${index + 1}`;
      try {
        yield { from, item: JSON.parse(line), bytes: line.length };
      } catch (error) {
        yield { from, failure: `is no JSON: ${error.message}` };
      }
    }
  } else if (file.type.startsWith("image/")) {
    const image = await dataUri(file);
    yield { from: file.name, item: { id: file.name, image }, bytes: image.length };
  } else if (file.type.startsWith("text/") || /\.(txt|md)$/i.test(file.name)) {
    const text = await file.text();
    yield { from: file.name, item: { id: file.name, text }, bytes: text.length };
  } else {
    yield { from: file.name, failure: "is neither a picture, a text nor a .jsonl file" };
  }
}

async function send(files) {
  if (running || !files.length) return;
  // All of it goes where the first file goes, whatever is chosen meanwhile.
  running = { stopped: false, request: null, address: local(here("documents")) };
  const state = { added: 0, unchanged: 0, failed: 0, done: 0, total: [...files].reduce((sum, file) => sum + file.size, 0) };
  $("upload-failures").replaceChildren();
  $("upload-state").hidden = false;
  progress(state, 0);
  try {
    let ended = "";
    for (const file of files) {
      let batch = [];
      let bytes = 0;
      const before = state.done;
      const push = async () => {
        if (!batch.length) return;
        await post(batch, state, before, file.size);
        batch = [];
        bytes = 0;
      };
      for await (const each of itemsOf(file)) {
        if (running.stopped) break;
        if (each.failure) {
          fail(state, each.from, each.failure);
          continue;
        }
        if (bytes + each.bytes > BATCH_BYTES || batch.length === BATCH_ITEMS) await push();
        batch.push(each);
        bytes += each.bytes;
      }
      if (!running.stopped) await push();
      if (running.stopped) {
        ended = "Stopped. ";
        break;
      }
      state.done = before + file.size;
      progress(state, 0);
    }
    tell(ended + outcome(state));
  } catch (error) {
    tell(running.stopped ? `Stopped. ${outcome(state)}` : `${error.message} ${outcome(state)}`);
  } finally {
    running = null;
    $("upload-state").hidden = true;
    afterwards();
  }
}

/** One request; its bytes on their way move the bar. */
async function post(batch, state, before, size) {
  const answer = await request(JSON.stringify({ documents: batch.map((each) => each.item) }), (share) => {
    progress({ ...state, done: before }, share * size);
  });
  if (answer.status === 401) {
    await askForKey();
    return post(batch, state, before, size);
  }
  if (answer.status !== 200) throw new Problem(answer.body?.error?.message ?? `The server answered ${answer.status}.`);
  state.added += answer.body.indexed;
  state.unchanged += answer.body.unchanged;
  for (const failure of answer.body.failed) fail(state, batch[failure.position]?.from ?? failure.id, failure.message);
  return undefined;
}

// `fetch` does not tell how much of a body is on its way; this does.
function request(body, onShare) {
  return new Promise((done, failed) => {
    const sending = new XMLHttpRequest();
    running.request = sending;
    sending.open("POST", running.address);
    sending.responseType = "json";
    sending.setRequestHeader("Content-Type", "application/json");
    for (const [name, value] of Object.entries(headers())) sending.setRequestHeader(name, value);
    sending.upload.addEventListener("progress", (event) => event.lengthComputable && onShare(event.loaded / event.total));
    sending.addEventListener("load", () => done({ status: sending.status, body: sending.response }));
    sending.addEventListener("error", () => failed(new Problem("The server does not answer.")));
    sending.addEventListener("abort", () => failed(new Problem("Stopped.")));
    sending.send(body);
  });
}

function progress(state, sent) {
  const share = state.total ? Math.min(1, (state.done + sent) / state.total) : 0;
  $("upload-progress").value = share;
  $("upload-label").textContent = `Sending: ${Math.round(share * 100)} %`;
}

function fail(state, from, why) {
  state.failed += 1;
  if (state.failed <= FAILURES_SHOWN) $("upload-failures").append(make("li", {}, `${from}: ${why}`));
}

function outcome({ added, unchanged, failed }) {
  const parts = [`${count(added, "document")} added`];
  if (unchanged) parts.push(`${unchanged} unchanged`);
  if (failed) parts.push(`${failed} failed`);
  return `${parts.join(", ")}.`;
}

const tell = (words) => { $("upload-status").textContent = words; };

$("open-upload").addEventListener("click", () => $("upload").showModal());
$("upload-files").addEventListener("change", (event) => {
  const files = [...event.target.files];
  event.target.value = "";
  tell("");
  send(files);
});
$("upload-stop").addEventListener("click", () => {
  if (!running) return;
  running.stopped = true;
  running.request?.abort();
});
for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
  $("drop").addEventListener(kind, (event) => {
    event.preventDefault();
    event.stopPropagation();
    $("drop").classList.toggle("over", kind === "dragenter" || kind === "dragover");
    if (kind === "drop") send([...event.dataTransfer.files]);
  });
}
