// A chart of lines over rounds, drawn as wide as it is shown, so that its text stays readable on a phone.

import { el, fill, score, svg } from "./dom.js";

const LEFT = 40, RIGHT = 12, TOP = 10, BELOW = 34;

export function chart(title) {
  const drawing = el("div", { class: "drawing" });
  const readout = el("p", { class: "readout", "aria-hidden": "true" });
  const legend = el("ul", { class: "legend", "aria-hidden": "true" });
  const figure = el("figure", { class: "chart" }, el("figcaption", {}, title), drawing, readout, legend);
  let shown = null, width = 0;
  new ResizeObserver(() => {
    if (shown && drawing.clientWidth !== width) draw();
  }).observe(drawing);

  function draw() {
    width = drawing.clientWidth;
    if (!width) return;
    drawing.replaceChildren(lines(shown, title, width, readout));
  }

  return {
    figure,
    // `lines` of {label, points: [[round, value]], look, colour, dash, key}; `top` is the highest value, or null.
    show(data) {
      if (JSON.stringify(data) === JSON.stringify(shown)) return;
      shown = data;
      draw();
      readout.textContent = "";
      fill(legend, data.lines.map((line) => [line.key ?? line.label, line.look, line.colour, line.dash]), named);
    },
  };
}

function named(entries) {
  const seen = new Map(entries.map((entry) => [entry[0], entry]));
  return [...seen.values()].map(([label, look, colour, dash]) => {
    const sample = svg("svg", { width: 26, height: 10 }, stroke(svg("path", { d: "M1 5H25" }), look, colour, dash));
    return el("li", {}, sample, label);
  });
}

function stroke(path, look, colour, dash) {
  path.setAttribute("class", `line ${look}`);
  if (colour) path.style.setProperty("--own", colour);
  if (dash) path.setAttribute("stroke-dasharray", dash);
  return path;
}

function lines({ lines: all, rounds, top }, title, width, readout) {
  const height = Math.round(Math.min(320, Math.max(210, width * 0.5)));
  const highest = Math.max(0, ...all.flatMap((line) => line.points.map(([, value]) => value)));
  const [most, step] = top ? [top, top / 4] : nice(highest);
  const x = (round) => LEFT + (round / Math.max(1, rounds)) * (width - LEFT - RIGHT);
  const y = (value) => TOP + (1 - Math.max(0, value) / most) * (height - TOP - BELOW);
  const root = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img" });
  root.setAttribute("aria-label", spoken(title, all));
  for (let value = 0; value <= most + step / 2; value += step) {
    root.append(svg("path", { class: "grid", d: `M${LEFT} ${y(value)}H${width - RIGHT}` }));
    root.append(svg("text", { x: LEFT - 7, y: y(value) + 4, "text-anchor": "end" }, String(+value.toFixed(2))));
  }
  const every = Math.max(1, nice(rounds / Math.max(2, (width - LEFT) / 70))[0]);
  for (let round = 0; round <= rounds; round += Math.ceil(every)) {
    root.append(svg("text", { x: x(round), y: height - BELOW + 18, "text-anchor": "middle" }, String(round)));
  }
  root.append(svg("text", { x: width - RIGHT, y: height - 2, "text-anchor": "end" }, "round"));
  for (const { points, look, colour, dash } of all) {
    if (!points.length) continue;
    const d = points.map(([round, value], at) => `${at ? "L" : "M"}${x(round).toFixed(1)} ${y(value).toFixed(1)}`);
    root.append(stroke(svg("path", { d: d.join("") }), look, colour, dash));
    if (look !== "hospital") {
      const [round, value] = points.at(-1);
      const end = svg("circle", { cx: x(round), cy: y(value), r: 3.5, class: `end ${look}` });
      if (colour) end.style.setProperty("--own", colour);
      root.append(end);
    }
  }
  const cursor = svg("path", { class: "cursor", d: "" });
  root.append(cursor);
  root.addEventListener("pointermove", (event) => {
    const share = (event.clientX - root.getBoundingClientRect().left - LEFT) / (width - LEFT - RIGHT);
    const round = Math.round(Math.min(1, Math.max(0, share)) * Math.max(1, rounds));
    cursor.setAttribute("d", `M${x(round)} ${TOP}V${height - BELOW}`);
    readout.textContent = at(all, round);
  });
  root.addEventListener("pointerleave", () => {
    cursor.setAttribute("d", "");
    readout.textContent = "";
  });
  return root;
}

function at(all, round) {
  const there = all.filter((line) => line.look !== "hospital").map((line) => [line.label, line.points.find(([own]) => own === round)]);
  const said = there.filter(([, point]) => point).map(([label, point]) => `${label} ${score(point[1])}`);
  return said.length ? `Round ${round}: ${said.join(", ")}` : `Round ${round}: nothing yet`;
}

function spoken(title, all) {
  const last = all.filter((line) => line.look !== "hospital" && line.points.length);
  const said = last.map(({ label, points }) => `${label} ${score(points.at(-1)[1])} after round ${points.at(-1)[0]}`);
  return said.length ? `${title}: ${said.join("; ")}` : `${title}: nothing yet`;
}

// A round number not below `value`, and steps that lead to it.
function nice(value) {
  const power = 10 ** Math.floor(Math.log10(value || 1));
  const [top, parts] = [[1, 4], [1.5, 3], [2, 4], [3, 3], [4, 4], [5, 5], [8, 4], [10, 5]].find(([one]) => one * power >= value);
  return [top * power, (top * power) / parts];
}
