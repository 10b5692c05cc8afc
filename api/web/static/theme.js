// Light, dark, or as the system says; remembered on this machine.

import { $ } from "./dom.js";

const NAME = "mmseek.theme";
const ALL = ["system", "light", "dark"];

function apply(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  $("theme").textContent = `Colours: ${theme}`;
}

let theme = localStorage.getItem(NAME);
theme = ALL.includes(theme) ? theme : "system";
apply(theme);
$("theme").addEventListener("click", () => {
  theme = ALL[(ALL.indexOf(theme) + 1) % ALL.length];
  localStorage.setItem(NAME, theme);
  apply(theme);
});
