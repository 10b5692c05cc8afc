// The grid of hits.

import { showPicture } from "./api.js";
import { altOf, captionOf, languageOf, picturesOf, textOf, thumbnail } from "./content.js";
import { $, make, number, plain, terms } from "./dom.js";

/** Put the hits on the page. `actions` has `open(item)` and `like(id)`. */
export function showHits(hits, actions) {
  $("hits").replaceChildren(...hits.map((hit) => make("li", {}, card(hit, actions))));
}

function card(hit, { open, like }) {
  const item = hit.document;
  const words = captionOf(item) || textOf(item);
  const pictures = picturesOf(item);
  const opening = make("button", { type: "button", class: "open", onclick: () => open(item) },
    pictures.length ? frame(item, pictures.length) : null,
    words ? make("span", { class: "caption", lang: languageOf(item) }, words.slice(0, 600)) : null,
    make("span", { class: "name" }, hit.id));
  return make("article", { class: pictures.length ? "" : "words", "aria-label": `Result ${hit.rank}: ${(words || hit.id).slice(0, 100)}` },
    opening,
    make("div", { class: "foot" },
      make("span", { class: "score", title: "score" }, `${hit.rank}. ${number(hit.score)}`),
      make("button", { type: "button", class: "quiet", "aria-label": `More like ${hit.id}`, onclick: () => like(hit.id) }, "More like this")),
    hit.explain ? explanation(hit) : null);
}

function frame(item, many) {
  const box = make("span", { class: "frame" });
  // Words that stand below the picture anyway are not read twice.
  const seen = captionOf(item) || textOf(item);
  const image = make("img", { alt: seen ? "" : altOf(item), loading: "lazy", decoding: "async" });
  box.append(image);
  if (many > 1) box.append(make("span", { class: "count" }, `${many} pictures`));
  showPicture(image, thumbnail(item, 0, 320), () => {
    image.remove();
    box.classList.add("missing");
    box.append("The picture cannot be shown");
  });
  return box;
}

/** Where the hit stood before reranking, its scores, and what the reranker read. */
function explanation({ rank, score, explain }) {
  const moved = explain.first_rank - rank;
  const direction = moved > 0 ? ` (${moved} up since)` : moved < 0 ? ` (${-moved} down since)` : "";
  const rows = [
    ["Score", number(score)],
    ["Found at", `${explain.first_rank}${direction}, with ${number(explain.first_score)}`],
    ...Object.entries(explain.scores).map(([name, value]) => [name, number(value)]),
  ];
  if (explain.took_ms) rows.push(["Reranker's time", `${explain.took_ms.toFixed(1)} ms`]);
  if (explain.sent?.tokens) rows.push(["Tokens read", plain(explain.sent.tokens)]);
  return make("details", { open: true }, make("summary", {}, "Why it is here"),
    make("dl", {}, ...terms(rows)),
    explain.sent ? make("pre", { tabindex: "0", "aria-label": "What the reranker read" }, explain.sent.prompt) : null);
}

/** Arrow keys, Home and End walk through the cards, line by line. */
$("hits").addEventListener("keydown", (event) => {
  if (!event.target.classList.contains("open")) return;
  const cards = [...$("hits").querySelectorAll(".open")];
  const here = cards.indexOf(event.target);
  const across = getComputedStyle($("hits")).gridTemplateColumns.split(" ").length;
  const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: across, ArrowUp: -across, Home: -here, End: cards.length - 1 - here };
  const next = cards[here + steps[event.key]];
  if (next) {
    event.preventDefault();
    next.focus();
  }
});
