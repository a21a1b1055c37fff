// Which view is shown, and what keeps it up to date.

import { ask, enter } from "./api.js";
import { el, fill, say, score } from "./dom.js";
import { imagesView } from "./images.js";
import { badge, comparisonView, runView, sentenceOf } from "./run.js";

const POLL = 2000, POLL_LATER = 5000;
const main = document.getElementById("main"), trouble = document.getElementById("trouble"), path = document.getElementById("path");
let shown = null; // {name, part, known, refresh}
let timer = 0, asking = false, only = "", mostBytes = 0, first = true;

const address = (name, part = "") => `#/${name.split("/").map(encodeURIComponent).join("/")}${part ? `?${part}` : ""}`;

function wanted() {
  const [name, part] = location.hash.replace(/^#\/?/, "").split("?");
  try {
    return { name: name.split("/").map(decodeURIComponent).join("/") || only, part: part ?? "" };
  } catch {
    return { name: only, part: "" };
  }
}

function whereWeAre(name) {
  const parts = name.split("/"), inside = parts.length === 3; // a comparison's run: <comparison>/<arm>/<seed>
  const steps = only ? [] : [["", "All runs"]];
  if (inside || (only && name !== only)) steps.push([parts[0], parts[0]]);
  if (name) steps.push([name, inside ? parts.slice(1).join("/") : name]);
  fill(path, steps, (all) => all.map(([to, text], at) => el("li", {}, at === all.length - 1
    ? el("span", { "aria-current": "page" }, text) : el("a", { href: to ? address(to) : "#/" }, text))));
}

function route() {
  if (/^#(token|once)=/.test(location.hash)) return location.reload(); // the printed address, in a page that is open
  const { name, part } = wanted();
  if (shown && shown.name === name && shown.part === part) return;
  shown?.leave?.();
  whereWeAre(name);
  shown = name ? placeView(name, part) : listView();
  Object.assign(shown, { name, part });
  main.replaceChildren(shown.heading, ...shown.content);
  if (!first) shown.heading.focus();
  first = false;
  window.scrollTo(0, 0);
  poll();
}

function listView() {
  const heading = el("h1", { tabindex: "-1" }, "Runs"), where = el("p", { class: "soft" }), list = el("ul", { class: "places" });
  return {
    heading, content: [where, list],
    async refresh() {
      const said = await ask("/api/places");
      document.title = "Runs – fedpolyp";
      where.textContent = said.places.length ? `In ${said.folder}`
        : `There is no run in ${said.folder} yet: 'fedpolyp simulate' makes one, and it appears here automatically.`;
      fill(list, said.places.map((one) => ({ ...one, seconds_left: one.seconds_left && Math.round(one.seconds_left / 60) * 60 })), (all) => all.map(row));
    },
  };
}

function row(one) {
  const scores = one.dice === null || one.dice === undefined ? "" : ` Dice ${score(one.dice)} after round ${one.round}.`;
  return el("li", {},
    el("p", { class: "state" }, el("a", { href: address(one.name) }, one.title), badge(one.state), one.comparison ? el("span", { class: "soft" }, "comparison") : ""),
    el("p", { class: "soft" }, sentenceOf(one, one.seconds_left) + scores));
}

function placeView(name, part) {
  const heading = el("h1", { tabindex: "-1" }, name), about = el("p", { class: "soft" }), state = el("p", { class: "state" });
  const done = el("progress", { max: 1, value: 0, "aria-label": "Rounds that are complete" });
  const tab = (to, text) => el("li", {}, el("a", { href: address(name, to), "aria-current": to === part ? "page" : null }, text));
  const tabs = el("nav", { "aria-label": "Parts" }, el("ul", { class: "tabs" }, tab("", "Progress"), tab("images", "Try images")));
  const body = el("div");
  let view = null, known = "", said = null, since = 0;

  function tell() {
    const left = said.seconds_left === null || said.seconds_left === undefined ? null : Math.max(0, said.seconds_left - (Date.now() - since) / 1000);
    const sentence = sentenceOf(said, left === null ? null : left);
    fill(state, [said.state, sentence], () => [badge(said.state), el("span", {}, sentence)]);
    say(said.sentence + (said.dice === null || said.dice === undefined ? "" : ` Dice ${score(said.dice)} after round ${said.round}.`));
  }

  return {
    heading, content: [about, state, done, tabs, body],
    leave: () => view?.leave?.(),
    async refresh() {
      const answer = await ask(`/api/place?of=${encodeURIComponent(name)}&known=${known}`);
      if (answer.stamp !== known) {
        [known, said, since] = [answer.stamp, answer, Date.now()];
        if (!view) {
          view = part === "images" ? imagesView(name, mostBytes) : said.comparison ? comparisonView() : runView();
          body.replaceChildren(view.root);
        }
        about.textContent = said.about ?? "";
        document.title = `${said.rounds ? `${said.round}/${said.rounds} ` : ""}${said.title} – fedpolyp`;
        done.max = Math.max(1, said.rounds ?? 1);
        done.value = said.state === "finished" ? done.max : said.round ?? 0;
        view.show(said);
      }
      tell();
    },
  };
}

async function poll() {
  clearTimeout(timer);
  if (asking) return; // which asks again at its end
  asking = true;
  let asked = shown, pause = POLL;
  try {
    if (!document.hidden) await asked.refresh();
    trouble.hidden = true;
  } catch (error) {
    trouble.textContent = error.message;
    trouble.hidden = false;
    pause = POLL_LATER;
  }
  asking = false;
  if (asked === shown) timer = setTimeout(poll, pause);
  else poll();
}

async function begin() {
  try {
    await enter();
    const said = await ask("/api/places");
    [only, mostBytes] = [said.only, said.most_bytes];
  } catch (error) {
    trouble.textContent = error.message;
    trouble.hidden = false;
    return;
  }
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault();
    main.focus();
  });
  window.addEventListener("hashchange", route);
  document.addEventListener("visibilitychange", () => document.hidden || poll());
  route();
}

begin();
