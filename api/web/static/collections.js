// Which collection is asked, where the server has several of them: a picker, and a name in the address.

import { call, setCollection } from "./api.js";
import { $, make } from "./dom.js";

const USUAL = "default"; // what addresses without a name mean, where the server has no collection of its own
const kind = document.documentElement.dataset.collections; // "own" beside one without a name; nothing on other servers

let names = null; // all that can be chosen; "" is the server's own one
let chosen = null; // null where there is nothing to choose

/** Whether the server has several collections. */
export const several = kind !== undefined;

/** The name that is chosen: "" for the server's own collection, null for none. */
export const collection = () => chosen;

/** Show the picker; `changed()` is told of another choice. */
export async function offerCollections(changed) {
  if (!several) return;
  const { collections, aliases } = await call("v1/collections");
  names = [...(kind === "own" ? [""] : []), ...collections, ...Object.keys(aliases)];
  const option = (name, words) => make("option", { value: name }, words);
  $("collection").replaceChildren(
    ...(kind === "own" ? [option("", "the server\u2019s own")] : []),
    ...collections.map((name) => option(name, name)),
    ...Object.entries(aliases).map(([alias, name]) => option(alias, `${alias} (now ${name})`)));
  $("collections").hidden = false;
  $("about").setAttribute("role", "status"); // what the chosen one holds is said aloud
  $("collection").addEventListener("change", () => {
    choose($("collection").value);
    changed();
  });
}

/** Choose what an address names, or the usual one. Returns what is wrong with that, if anything is. */
export function chooseFrom(address) {
  if (!several || !names) return "";
  const usual = names.includes(USUAL) && kind !== "own" ? USUAL : names[0];
  choose(address.get("collection") ?? usual ?? null);
  if (!names.length) return "This server has no collection yet: make one by POST /v1/collections.";
  return chosen === null ? `There is no collection ${address.get("collection")} here: choose another one.` : "";
}

function choose(name) {
  chosen = names.includes(name) ? name : null;
  if (chosen === null) $("collection").selectedIndex = -1;
  else $("collection").value = chosen;
  setCollection(chosen);
  document.title = chosen ? `${chosen} \u00b7 mmseek` : "mmseek";
  $("home").search = chosen ? `?${new URLSearchParams({ collection: chosen })}` : "";
  $("upload-title").textContent = chosen ? `Add documents to ${chosen}` : "Add documents";
  for (const each of ["text", "open-upload", "file"]) $(each).disabled = chosen === null;
}
