// What a document is made of, and what stands for it in few words.

import { here } from "./api.js";

const CAPTIONS = ["caption", "alt", "title", "name", "description", "label"];
const LANGUAGE = /^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$/;

/** Its parts in order: the shorthand has the picture first. */
export function partsOf(item) {
  if (item.content) return item.content;
  return [
    ...(item.image ? [{ type: "image", image: item.image }] : []),
    ...(item.text ? [{ type: "text", text: item.text }] : []),
  ];
}

export const textOf = (item) => partsOf(item).filter((part) => part.type === "text").map((part) => part.text).join("\n").trim();

export const picturesOf = (item) => partsOf(item).filter((part) => part.type === "image");

/** The caption that the metadata has, or nothing. */
export function captionOf(item) {
  const found = CAPTIONS.map((name) => item.metadata?.[name]).find((value) => typeof value === "string" && value.trim());
  return found?.trim() ?? "";
}

export const languageOf = (item) => {
  const language = item.metadata?.lang;
  return typeof language === "string" && LANGUAGE.test(language) ? language : undefined;
};

/** The words for a picture that cannot be seen. */
export const altOf = (item) => captionOf(item) || textOf(item).slice(0, 120) || `Picture of ${item.id}`;

export const thumbnail = (item, which, side) =>
  here(`thumbnails/${encodeURIComponent(item.id)}/${which}?side=${side}`);
