// An answer with its sources, where the server has a chat endpoint. Its words are text, whatever they look like.

import { call, fetched, here } from "./api.js";
import { $, make } from "./dom.js";
import { openDocument } from "./reading.js";

let current = null; // the answer that is on its way

/** Take away what was answered before: it is of another collection. */
export function forgetAnswer() {
  current?.abort();
  $("answer").hidden = true;
}

/** Show the button if there is somebody to ask. `asked()` gives the body of a search, `complain(words)` shows a problem. */
export async function offerAnswers(asked, complain) {
  try {
    $("answer-ask").hidden = !(await call("v1/ask")).available;
  } catch {
    return; // the page says elsewhere that the server is not there
  }
  $("answer-ask").addEventListener("click", () => answer(asked(), complain));
  $("answer-stop").addEventListener("click", () => current?.abort());
}

async function answer({ text, image, instruction, filter, mode }, complain) {
  forgetAnswer();
  complain("");
  if (!text && !image) return;
  const mine = new AbortController();
  current = mine;
  show("", []);
  $("answer-stop").hidden = false;
  try {
    const body = JSON.stringify({ text, image, instruction, filter, mode, stream: true });
    const headers = { "Content-Type": "application/json" };
    const response = await fetched(here("ask"), { method: "POST", headers, body, signal: mine.signal });
    let words = "";
    for await (const { name, data } of events(response.body)) {
      if (name === "text") show((words += data.text), []);
      if (name === "answer") show(data.answer, data.sources.filter((source) => data.citations.includes(source.number)));
      if (name === "error") throw new Error(data.error.message);
    }
  } catch (error) {
    if (error.name !== "AbortError") complain(error.message);
  } finally {
    if (current === mine) $("answer-stop").hidden = true;
  }
}

function show(words, sources) {
  $("answer").hidden = false;
  $("answer-text").textContent = words || "…";
  $("answer-sources").replaceChildren(...sources.map((source) => make("li", {},
    make("button", { type: "button", class: "quiet", onclick: () => open(source.id) }, placeOf(source)))));
}

function placeOf({ number, title, page, region, passage }) {
  const where = page ? `, page ${page}` : passage ? `, passage ${passage}` : "";
  const at = region ? `, at ${region.slice(0, 2).join(", ")} to ${region.slice(2).join(", ")} pt` : "";
  return `[${number}] ${title}${where}${at}`;
}

const open = async (id) => openDocument(await call(here(`documents/${encodeURIComponent(id)}`)));

/** Server-sent events of a body: each a name and an object. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
    const blocks = (rest + piece.value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      if (!block.startsWith("event:")) continue; // a comment, by which the server says that it still waits
      const [name, data] = block.split("\n").map((line) => line.slice(line.indexOf(":") + 1).trim());
      yield { name, data: JSON.parse(data) };
    }
  }
}
