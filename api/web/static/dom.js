// Small helpers. Nothing here, or anywhere on the page, turns text into HTML.

export const $ = (id) => document.getElementById(id);

/** An element with attributes and children; a string child is text. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Terms and what they mean, as the children of a list of them. */
export function terms(pairs) {
  return pairs.flatMap(([term, meaning]) => [make("dt", {}, term), make("dd", {}, meaning)]);
}

export const plain = (value) => (typeof value === "string" ? value : JSON.stringify(value));

export const number = (value) => (Number.isFinite(value) ? value.toFixed(Math.abs(value) >= 100 ? 1 : 4) : "–");

export const count = (many, one, others = `${one}s`) => `${many.toLocaleString("en")} ${many === 1 ? one : others}`;

/** The bytes of a file as a data: URI. */
export function dataUri(file) {
  return new Promise((done, failed) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => done(reader.result));
    reader.addEventListener("error", () => failed(reader.error));
    reader.readAsDataURL(file);
  });
}

document.addEventListener("click", (event) => {
  if (event.target.closest("[data-close]")) event.target.closest("dialog").close();
});
