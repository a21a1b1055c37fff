// How a run or a comparison stands. Each view is built once and then filled anew where something has changed.

import { chart } from "./chart.js";
import { el, fill, plural, score, scrolling, table, timeLeft } from "./dom.js";

const WORDS = { running: "running", finished: "finished", waiting: "not started", stopped: "not running", damaged: "not readable" };
const DASHES = ["", "7 4", "2 4", "9 3 2 3", "12 5", "5 2"];
const MEASURES = { dice: "Held-out Dice", val_dice: "Validation Dice", train_loss: "Training loss", loss: "Held-out loss" };

export const badge = (state) => el("span", { class: `badge ${state}` }, WORDS[state]);

export function sentenceOf(said, secondsLeft) {
  return [said.sentence, timeLeft(secondsLeft)].filter(Boolean).join(" ").replace(/(left)$/, "$1.").replace(/\. (about|less)/, ", $1");
}

export function runView() {
  const dice = chart("Dice, mean per image"), loss = chart("Loss");
  const charts = el("div", { class: "pair" }, dice.figure, loss.figure);
  const early = el("p", { class: "soft" });
  const scores = el("div"), hospitals = el("div"), rounds = el("div", { class: "scroll tall", tabindex: "0", role: "region", "aria-label": "All rounds" });
  const notes = el("div"), results = el("div");
  const roundsOf = el("details", {}, el("summary", {}, "All rounds as a table"), rounds);
  const root = el("div", {}, early, charts, results, scores, hospitals, notes, roundsOf);
  return {
    root,
    show(said) {
      const begun = Boolean(said.curves && said.table.length);
      charts.hidden = roundsOf.hidden = !begun;
      early.hidden = begun;
      early.textContent = said.state === "damaged" ? "" : "There is no complete round yet; the curves start with the initial model.";
      if (!said.curves) return;
      const top = Math.max(1, said.round, said.state === "finished" ? 0 : said.rounds);
      const drawn = (lines) => lines.map((line) => ({ label: line.label, points: line.points, look: line.kind,
        key: line.kind === "hospital" ? "each hospital" : line.label })).filter((line) => line.points.length);
      dice.show({ lines: drawn(said.curves.dice), rounds: top, top: 1 });
      loss.show({ lines: drawn(said.curves.loss), rounds: top, top: null });
      fill(results, [said.report, said.figure], papers);
      fill(scores, [said.scores, said.scored_on], scoresOf);
      fill(hospitals, [said.hospitals, said.hospitals_left_out, said.state], hospitalsOf);
      fill(notes, said.notes, (all) => all.length && [el("h2", {}, "Notes"), ...all.map((note) => el("p", {}, note))]);
      fill(rounds, said.table, roundsTable);
    },
  };
}

function papers([report, figure]) {
  const link = report && el("p", {}, el("a", { href: report, target: "_blank", rel: "noopener" }, "The report, with intervals, cases and cost"));
  const image = figure && el("details", {}, el("summary", {}, "Held-out images: best, median and worst"),
    el("img", { class: "wide", src: figure, alt: "Held-out images with the true outline and the last model's" }));
  return [link, image];
}

function scoresOf([scores, on]) {
  if (!scores.length) return [];
  const rows = scores.map((one) => [`${one.label} (${one.round})`, score(one.dice), score(one.iou), score(one.val_dice), one.file || "not saved yet"]);
  return [el("h2", {}, "Scores"), scrolling("Scores", table(["", `Dice, ${on}`, "IoU", "Dice, validation", "model"], rows))];
}

function hospitalsOf([all, leftOut, state]) {
  const counts = (images) => (images ? ["train", "val", "test"].map((set) => images[set] ?? "–").join(" / ") : "–");
  const rows = all.map((one) => [one.name, counts(one.images), one.now || "–", one.trained ?? "–", score(one.train_loss), score(one.val_dice),
    one.noisy_test_dice ?? score(one.test_dice), one.refused || "–", one.reason]);
  const headings = ["Hospital", "images: training / validation / test", "now", "last trained, round", "training loss", "validation Dice",
    "test Dice", "rejected", "last reason"];
  const used = headings.map((_, at) => at < 2 || rows.some((row) => row[at] !== "–" && row[at] !== ""));
  if (state === "running") used[2] = true;
  const kept = (row) => row.filter((_, at) => used[at]);
  const made = table(kept(headings), rows.map(kept));
  [...made.tBodies[0].rows].forEach((row, at) => {
    row.classList.toggle("now", Boolean(all[at].now));
    if (used[8]) row.lastElementChild.classList.add("words");
  });
  const rest = leftOut ? el("p", { class: "soft" }, `${plural(leftOut, "more hospital")} not listed.`) : null;
  return [el("h2", {}, "Hospitals"), scrolling("Hospitals", made), rest];
}

function roundsTable(rows) {
  const cells = rows.toReversed().map((row) => [String(row.round), score(row.train_loss), score(row.loss), score(row.dice), score(row.iou),
    score(row.val_dice), String(row.refused), row.seconds.toFixed(1)]);
  return table(["Round", "training loss", "loss", "Dice", "IoU", "validation Dice", "rejected", "seconds"], cells);
}

export function comparisonView() {
  const measured = el("select", { id: "measure", onchange: () => draw() },
    Object.entries(MEASURES).map(([key, label]) => el("option", { value: key }, label)));
  const curves = chart("Every run by round");
  const arms = el("div"), runs = el("div"), results = el("div");
  const choice = el("p", { class: "field" }, el("label", { for: "measure" }, "Curves of"), measured);
  const root = el("div", {}, results, arms, choice, curves.figure, runs);
  let last = null;

  function draw() {
    const key = measured.value, labels = [...new Set(last.runs.map((run) => run.label))];
    const lines = last.runs.filter((run) => run.curves[key].length).map((run) => ({
      label: `${run.arm}, seed ${run.seed}`, key: run.arm, points: run.curves[key], look: "arm", colour: run.colour,
      dash: DASHES[labels.indexOf(run.label) % DASHES.length],
    }));
    const rounds = Math.max(1, ...last.runs.map((run) => Math.max(run.round, run.state === "finished" ? 0 : run.rounds)));
    curves.show({ lines, rounds, top: key.includes("dice") ? 1 : null });
  }

  return {
    root,
    show(said) {
      last = said;
      draw();
      fill(results, [said.report, ""], papers);
      fill(arms, said.arms, armsOf);
      fill(runs, said.runs.map(({ curves: _, ...run }) => run), runsOf);
    },
  };
}

function armsOf(arms) {
  if (!arms.some((arm) => arm.finished)) return el("p", { class: "soft" }, "No run is finished yet; the arms' scores will follow.");
  const rows = arms.map((arm) => [arm.arm, `${arm.finished} of ${arm.runs}`, score(arm.dice), score(arm.best), score(arm.iou)]);
  return [el("h2", {}, "Scores"), scrolling("Scores of the arms", table(["Arm", "finished runs", "held-out Dice, last round", "best on validation", "IoU"], rows)),
    el("p", { class: "soft" }, "Means over the finished runs; intervals and differences are in the report.")];
}

function runsOf(runs) {
  const rows = runs.map((run) => [el("a", { href: `#/${run.name.split("/").map(encodeURIComponent).join("/")}` }, `${run.arm}, seed ${run.seed}`),
    badge(run.state), `${run.round}/${run.rounds}`, score(run.dice), score(run.best), timeLeft(run.seconds_left) || "–"]);
  return [el("h2", {}, "Runs"), scrolling("Runs", table(["Run", "", "round", "held-out Dice", "best on validation", "time"], rows))];
}
