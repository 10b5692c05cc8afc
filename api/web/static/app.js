// The page: what is asked, the address that says so, and what was found.

import { forgetAnswer, offerAnswers } from "./answer.js";
import { about, call, here, Problem } from "./api.js";
import { showHits } from "./cards.js";
import { chooseFrom, collection, offerCollections, several } from "./collections.js";
import { $, count, dataUri } from "./dom.js";
import { openDocument, whenLiked } from "./reading.js";
import "./theme.js";
import { whenAdded } from "./upload.js";

const FIRST = 24;
const MOST = 1000;
const FIELDS = { q: "text", instruction: "instruction", filter: "filter", mode: "mode" };

let picture = null; // a data: URI; it is in no address, so a reload forgets it
let like = null;
let k = FIRST;
let current = null; // the search that is on its way

function asked() {
  const body = { k, mode: $("mode").value };
  for (const name of ["text", "instruction", "filter"]) {
    const value = $(name).value.trim();
    if (value) body[name] = value;
  }
  if (picture) body.image = picture;
  if (like) body.like = [like];
  if ($("explain").checked) body.explain = true;
  return body;
}

async function search() {
  const body = asked();
  current?.abort();
  complain("");
  if (several && collection() === null) return;
  if (!body.text && !body.image && !body.like) {
    showHits([], {});
    $("more").hidden = true;
    $("status").textContent = "";
    return;
  }
  const mine = new AbortController();
  current = mine;
  document.body.classList.add("busy");
  $("hits").setAttribute("aria-busy", "true");
  try {
    const answer = await call(here("search"), { body, signal: mine.signal });
    showHits(answer.hits, { open: openDocument, like: showLike });
    $("more").hidden = answer.hits.length < k || k >= MOST;
    $("status").textContent = told(answer);
  } catch (error) {
    if (error.name === "AbortError") return;
    complain(error instanceof Problem ? error.message : `The page failed: ${error.message}`);
    $("status").textContent = "";
  } finally {
    if (current === mine) {
      document.body.classList.remove("busy");
      $("hits").removeAttribute("aria-busy");
    }
  }
}

function told(answer) {
  const words = [`${count(answer.hits.length, "result")} in ${answer.took_ms.toFixed(0)} ms`];
  if (!answer.hits.length) words[0] = "Nothing was found.";
  for (const stage of answer.rerankers ?? []) {
    words.push(`${stage.reranker} scored ${stage.scored} of ${stage.asked} in ${stage.took_ms.toFixed(0)} ms`);
  }
  if (answer.below_threshold) words.push(`${answer.below_threshold} below the threshold`);
  return words.join(" · ");
}

function complain(words) {
  $("problem").textContent = words;
  $("problem").hidden = !words;
}

// The address says what is asked, so that a search can be kept, sent, and gone back to.

function toAddress() {
  const wanted = new URLSearchParams();
  for (const [name, field] of Object.entries(FIELDS)) {
    const value = $(field).value.trim();
    if (value && !(name === "mode" && value === "dense")) wanted.set(name, value);
  }
  if (like) wanted.set("like", like);
  if ($("explain").checked) wanted.set("explain", "1");
  if (collection()) wanted.set("collection", collection());
  const address = wanted.size ? `?${wanted}` : location.pathname;
  if (address !== (location.search || location.pathname)) history.pushState(null, "", address);
}

async function fromAddress() {
  const wanted = new URLSearchParams(location.search);
  const before = collection();
  const wrong = chooseFrom(wanted);
  for (const [name, field] of Object.entries(FIELDS)) $(field).value = wanted.get(name) ?? (name === "mode" ? "dense" : "");
  if (!$("mode").value) $("mode").value = "dense";
  $("explain").checked = wanted.get("explain") === "1";
  setLike(wanted.get("like"));
  k = FIRST;
  if (collection() !== before) forgetFound();
  await search();
  if (wrong) complain(wrong);
}

/** Another collection is chosen: what is asked stays, what was found goes. A document of the one before means nothing. */
function changed() {
  forgetFound();
  setLike(null);
  ask();
}

function forgetFound() {
  forgetAnswer();
  showHits([], {});
  $("more").hidden = true;
  $("about").textContent = "";
  tellAbout();
}

function ask() {
  k = FIRST;
  toAddress();
  return search();
}

function setLike(id) {
  like = id;
  $("like").hidden = !id;
  $("like").firstElementChild.textContent = id ? `More like ${id}` : "";
}

function showLike(id) {
  $("text").value = "";
  if ($("mode").value === "lexical") $("mode").value = "dense";
  setPicture(null);
  setLike(id);
  scrollTo(0, 0);
  $("hits").focus({ preventScroll: true });
  ask();
}

async function setPicture(file) {
  if (file && !file.type.startsWith("image/")) {
    complain(`${file.name || "That"} is no picture.`);
    return;
  }
  picture = file ? await dataUri(file) : null;
  $("picture").hidden = !picture;
  if (picture) $("picture-shown").src = picture;
  else $("picture-shown").removeAttribute("src");
}

async function searchWith(file) {
  await setPicture(file);
  if (picture) ask();
}

const pictureIn = (transfer) => [...(transfer?.files ?? [])].find((file) => file.type.startsWith("image/")) ?? transfer?.files?.[0];

$("search").addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});
$("text").addEventListener("search", () => $("text").value || ask());
for (const field of ["mode", "explain"]) $(field).addEventListener("change", ask);
$("file").addEventListener("change", (event) => {
  const [file] = event.target.files;
  event.target.value = "";
  if (file) searchWith(file);
});
$("picture-away").addEventListener("click", async () => {
  await setPicture(null);
  $("text").focus();
  ask();
});
$("like-away").addEventListener("click", () => {
  setLike(null);
  $("text").focus();
  ask();
});
$("more").addEventListener("click", async () => {
  const before = $("hits").children.length;
  k = Math.min(k * 2, MOST);
  await search();
  $("hits").children[before]?.querySelector(".open")?.focus();
});

addEventListener("paste", (event) => {
  const file = pictureIn(event.clipboardData);
  if (!file || document.querySelector("dialog[open]")) return;
  event.preventDefault();
  searchWith(file);
});
for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
  addEventListener(kind, (event) => {
    event.preventDefault(); // else the browser would leave the page and open the file
    document.body.classList.toggle("dropping", kind === "dragenter" || kind === "dragover");
    const file = kind === "drop" ? pictureIn(event.dataTransfer) : null;
    if (file && !document.querySelector("dialog[open]")) searchWith(file);
  });
}
addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, textarea, select, dialog");
  if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  $("text").focus();
  $("text").select();
});
addEventListener("popstate", fromAddress);

async function tellAbout() {
  const mine = about();
  if (several && collection() === null) return;
  try {
    const found = await call(mine);
    if (mine !== about()) return; // another one was chosen meanwhile
    $("about").textContent = `${count(found.documents, "document")} · ${found.encoder.spec}, ${found.encoder.dim}-d`;
  } catch (error) {
    if (mine === about()) complain(error.message);
  }
}

async function begin() {
  try {
    await offerCollections(changed);
  } catch (error) {
    complain(error.message);
    return;
  }
  offerAnswers(asked, complain);
  if (!several) tellAbout();
  await fromAddress();
  if (!location.search) $("text").focus();
}

whenLiked(showLike);
whenAdded(tellAbout);
begin();
