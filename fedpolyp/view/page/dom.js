// Elements, and numbers as they are shown. Text only ever becomes text: nothing here makes HTML of it.

const SVG = "http://www.w3.org/2000/svg";

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

export const el = (tag, attributes = {}, ...children) => filled(document.createElement(tag), attributes, children);
export const svg = (tag, attributes = {}, ...children) => filled(document.createElementNS(SVG, tag), attributes, children);

// Fills `element` by `make(data)` when `data` is another than last time: what has the focus or is selected stays.
export function fill(element, data, make) {
  const now = JSON.stringify(data);
  if (element.filledWith === now) return;
  element.filledWith = now;
  element.replaceChildren(...[make(data)].flat().filter(Boolean));
}

export const score = (value) => (value === null || value === undefined ? "–" : value.toFixed(3));
export const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

export function timeLeft(seconds) {
  if (seconds === null || seconds === undefined) return "";
  if (seconds < 60) return "less than a minute left";
  const minutes = Math.round(seconds / 60);
  if (minutes < 90) return `about ${minutes} min left`;
  return `about ${(minutes / 60).toFixed(minutes < 600 ? 1 : 0)} h left`;
}

// A table in a region that scrolls sideways by itself, so that the page never does.
export function scrolling(label, content) {
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, content);
}

export function table(headings, rows) {
  return el(
    "table",
    {},
    el("thead", {}, el("tr", {}, headings.map((text) => el("th", { scope: "col" }, text)))),
    el(
      "tbody",
      {},
      rows.map((row) => el("tr", {}, row.map((cell, at) => el(at ? "td" : "th", at ? {} : { scope: "row" }, cell)))),
    ),
  );
}

export function say(sentence) {
  const said = document.getElementById("said");
  if (said.textContent !== sentence) said.textContent = sentence;
}
