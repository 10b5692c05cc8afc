// One document: everything in it, in its order.

import { local, showPicture } from "./api.js";
import { altOf, languageOf, partsOf, thumbnail } from "./content.js";
import { $, make, plain, terms } from "./dom.js";

let shown = null;
let onLike = () => {};

export const whenLiked = (then) => { onLike = then; };

export function openDocument(item) {
  shown = item;
  $("document-title").textContent = item.id;
  const parent = item.parent_id;
  $("document-parent").replaceChildren(...(parent ? ["Part of ", make("strong", {}, parent)] : []));
  let pictures = 0;
  $("document-content").replaceChildren(...partsOf(item).map((part) =>
    part.type === "text" ? make("p", { lang: languageOf(item) }, part.text) : picture(item, part, pictures++)));
  const metadata = Object.entries(item.metadata ?? {});
  $("document-about").hidden = !metadata.length;
  $("document-metadata").replaceChildren(...terms(metadata.map(([name, value]) => [name, plain(value)])));
  $("document").showModal();
  $("document").scrollTop = 0;
}

function picture(item, part, which) {
  const image = make("img", { alt: altOf(item), decoding: "async" });
  const link = make("a", { href: local(part.image), target: "_blank", rel: "noopener", title: "The whole picture" }, image);
  showPicture(image, thumbnail(item, which, 1280), () => link.replaceWith(make("p", { class: "soft" }, "This picture cannot be shown.")));
  return link;
}

$("document-like").addEventListener("click", () => {
  $("document").close();
  onLike(shown.id);
});
