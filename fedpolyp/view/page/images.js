// What models see in images that are chosen or dropped here. A model's probabilities come once, as one byte a pixel that
// counts the thresholds it reaches; all else, the slider's mask and outline too, is computed here.

import { ask, Failure, send } from "./api.js";
import { el, fill, plural, say } from "./dom.js";

const SIDE = [720, 1200]; // least and most pixels of the longer side at which an image is drawn
const KEPT = 12; // images whose answers are kept
const COUNTED = 2_500_000; // pixels up to which lesions are counted while the slider moves
const OUTLINE = [240, 228, 66];
const RAMP = [[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]];
const ACCEPT = "image/png,image/jpeg,image/bmp,image/tiff,.png,.jpg,.jpeg,.bmp,.tif,.tiff";
const WAYS = [["outline", "outline"], ["mask", "mask"], ["probability", "probability"], ["image", "image alone"]];

export function imagesView(place, mostBytes) {
  const images = []; // {file, button, thumbnail, picture, fault, answers: Map of a model's id, and when it was saved, to answer}
  let chosen = null, columns = [], way = "outline", threshold = null, leaving = new AbortController();

  const input = el("input", { type: "file", id: "files", multiple: true, accept: ACCEPT, onclick: () => { input.value = ""; },
    onchange: () => add([...input.files]) });
  const drop = el("div", { class: "drop" }, el("label", { for: "files" }, "Choose images, or drop them here"), input,
    el("p", { class: "soft" }, "PNG, JPEG, TIFF or BMP. They stay in this browser and in the memory of this machine."));
  const fault = el("p", { class: "bad", role: "alert", hidden: true });
  const list = el("ul", { class: "chosen", "aria-label": "Images" });
  const slider = el("input", { type: "range", id: "threshold", min: 0.005, max: 0.995, step: 0.005, value: 0.5, oninput: () => move(Number(slider.value)),
    onchange: () => count() });
  const value = el("output", { for: "threshold" });
  const own = el("button", { type: "button", onclick: () => move(null) }, "model's own");
  const ways = el("fieldset", {}, el("legend", {}, "Show"), WAYS.map(([key, label]) => el("label", {},
    el("input", { type: "radio", name: "way", value: key, checked: key === way, onchange: () => { way = key; draw(); } }), label)));
  const ramp = el("p", { class: "ramp", hidden: true }, "0", rampCanvas(), "1");
  const tools = el("div", { class: "tools", hidden: true }, ways, ramp,
    el("div", { class: "slider" }, el("label", { for: "threshold" }, "Threshold"), slider, value, own));
  const answers = el("div", { class: "answers" }), none = el("p", { class: "soft" });
  const root = el("div", {}, none, drop, fault, list, tools, answers);

  for (const kind of ["dragenter", "dragover"]) listen(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
  listen("dragleave", (event) => event.relatedTarget || drop.classList.remove("over"));
  listen("drop", (event) => { event.preventDefault(); drop.classList.remove("over"); add([...event.dataTransfer.files]); });

  function listen(kind, answer) {
    window.addEventListener(kind, answer, { signal: leaving.signal });
  }

  function add(files) {
    fault.hidden = true;
    for (const file of files) {
      const thumbnail = el("canvas", { width: 4, height: 3, "aria-hidden": "true" });
      const button = el("button", { type: "button", "aria-pressed": "false", onclick: () => choose(image) }, thumbnail, el("span", {}, file.name));
      const image = { file, button, thumbnail, picture: null, fault: "", answers: new Map() };
      images.push(image);
      list.append(el("li", {}, button));
    }
    if (files.length) choose(images.at(-files.length));
    prepare();
  }

  function choose(image) {
    chosen = image;
    for (const one of images) one.button.setAttribute("aria-pressed", String(one === image));
    prepare();
    draw();
  }

  // One request at a time: first what is looked at, then the pictures of the others.
  let preparing = false;
  async function prepare() {
    if (preparing) return;
    preparing = true;
    for (let next = todo(); next; next = todo()) {
      try {
        await next();
      } catch (error) {
        if (error.name === "AbortError") return;
        fault.textContent = error.message;
        fault.hidden = false;
      }
      if (leaving.signal.aborted) return;
      draw();
    }
    preparing = false;
  }

  function todo() {
    const picture = (image) => () => look(image);
    if (chosen && !chosen.picture && !chosen.fault) return picture(chosen);
    if (chosen?.picture) {
      const image = chosen, column = columns.find((one) => !chosen.answers.has(one.key()));
      if (column) return () => see(image, column.model, column.key());
    }
    const other = images.find((image) => !image.picture && !image.fault);
    return other && picture(other);
  }

  async function look(image) {
    try {
      if (image.file.size > mostBytes) throw new Failure(`an image may have ${Math.round(mostBytes / 1e6)} MB`, 413);
      const said = await patiently(() => send("/api/picture", image.file, leaving.signal));
      image.picture = await createImageBitmap(new Blob([bytes(said.jpeg)], { type: "image/jpeg" }));
      const scale = 160 / Math.max(image.picture.width, image.picture.height);
      image.thumbnail.width = Math.max(1, image.picture.width * scale);
      image.thumbnail.height = Math.max(1, image.picture.height * scale);
      image.thumbnail.getContext("2d").drawImage(image.picture, 0, 0, image.thumbnail.width, image.thumbnail.height);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      image.fault = `${image.file.name}: ${error.message}`;
      image.button.classList.add("bad");
      throw new Failure(image.fault, error.status);
    }
  }

  async function see(image, model, key) {
    try {
      const said = await patiently(() =>
        send(`/api/see?of=${encodeURIComponent(place)}&model=${encodeURIComponent(model)}`, image.file, leaving.signal));
      image.answers.set(key, await answered(said));
    } catch (error) {
      if (error.name === "AbortError") throw error;
      image.answers.set(key, { fault: error.message });
    }
    const full = images.filter((one) => one.answers.size);
    for (const one of full.slice(0, Math.max(0, full.length - KEPT))) if (one !== image) one.answers.clear();
  }

  async function patiently(request) {
    for (;;) {
      try {
        return await request();
      } catch (error) {
        if (error.status !== 503) throw error;
        await new Promise((resolve) => setTimeout(resolve, 1000));
      }
    }
  }

  function move(to) {
    threshold = to;
    if (to !== null) slider.value = to;
    draw();
  }

  let counting = 0;
  function count() {
    clearTimeout(counting);
    counting = setTimeout(() => draw(true), 0);
  }

  function draw(thorough = false) {
    tools.hidden = !(chosen?.picture && columns.length);
    ramp.hidden = way !== "probability";
    for (const column of columns) drawColumn(column, thorough);
    const owns = columns.map((column) => chosen?.answers.get(column.key())).filter((answer) => answer?.levels).map((answer) => answer.levels[answer.own - 1]);
    const alike = owns.length && owns.every((one) => one === owns[0]);
    if (threshold === null && alike) slider.value = owns[0];
    const said = threshold === null && !alike ? "own" : (threshold ?? owns[0]).toFixed(3).replace(/0$/, "");
    value.textContent = said;
    slider.setAttribute("aria-valuetext", threshold === null ? `the model's own, ${said}` : said);
    own.disabled = threshold === null;
  }

  function drawColumn(column, thorough) {
    const image = chosen, answer = image?.answers.get(column.key());
    column.canvas.hidden = !image?.picture;
    column.save.disabled = !answer?.counts;
    if (!image?.picture) {
      column.note.textContent = image ? image.fault || "The image is being read …" : "";
      return;
    }
    const [width, height] = sized(image.picture);
    if (column.canvas.width !== width || column.canvas.height !== height) Object.assign(column.canvas, { width, height });
    const context = column.canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image.picture, 0, 0, width, height);
    if (!answer) {
      column.note.textContent = "The model is working; the first time it takes some seconds to load …";
    } else if (answer.fault) {
      column.note.textContent = answer.fault;
    } else {
      const level = levelOf(answer, threshold);
      if (way !== "image") paint(context, answer, level, way);
      const big = answer.width * answer.height > COUNTED;
      const lesions = big && !thorough && !answer.lesions.has(level) ? null : lesionsOf(answer, level);
      const share = (100 * answer.reached[level]) / (answer.width * answer.height);
      const found = lesions === null ? "" : lesions ? `${plural(lesions, "lesion")}, ` : "no lesion, ";
      column.note.textContent = `${found}${share.toFixed(share < 10 ? 2 : 1)} % of the image`;
    }
    column.canvas.setAttribute("aria-label", `${image.file.name}, ${way}, ${column.title()}: ${column.note.textContent}`);
    clearTimeout(column.saying);
    if (answer) column.saying = setTimeout(() => say(`${column.title()}: ${column.note.textContent}`), 600);
  }

  function makeColumns(models) {
    const arms = [...new Set(models.map((model) => model.arm))], before = columns.map((column) => column.model);
    columns = arms.map((arm, at) => {
      const ofArm = models.filter((model) => model.arm === arm);
      const options = ofArm.map((model) => el("option", { value: model.id }, arm ? `${arm}: ${model.label}` : model.label));
      const column = { model: (ofArm.find((model) => before.includes(model.id)) ?? ofArm[0]).id, saying: 0 };
      column.key = () => `${column.model} ${ofArm.find((model) => model.id === column.model).saved}`;
      column.select = el("select", { id: `model-${at}`, "aria-label": arm ? `Model of ${arm}` : "Model", onchange: () => {
        column.model = column.select.value;
        prepare();
        draw();
      } }, options);
      column.select.value = column.model;
      column.title = () => column.select.selectedOptions[0].textContent;
      column.canvas = el("canvas", { role: "img", hidden: true });
      column.note = el("p", { class: "note" });
      column.save = el("button", { type: "button", disabled: true, onclick: () => save(chosen, column, threshold) }, "Save the mask");
      column.root = el("figure", {}, el("figcaption", {}, column.select), column.canvas, column.note, column.save);
      return column;
    });
    answers.replaceChildren(...columns.map((column) => column.root));
    prepare();
    draw();
  }

  let listed = "";
  return {
    root,
    leave: () => leaving.abort(),
    async show(said) {
      drop.hidden = !said.models;
      none.hidden = Boolean(said.models);
      none.textContent = said.comparison ? "There is no model yet: each run saves its models when it ends."
        : said.state === "running" || said.state === "waiting" ? `There is no model yet: the run saves its models when it ends, after round ${said.rounds}.`
          : "There is no model: the run did not finish, and models are saved at its end.";
      const { models } = await ask(`/api/models?of=${encodeURIComponent(place)}`);
      if (JSON.stringify(models) === listed) return;
      listed = JSON.stringify(models);
      makeColumns(models);
    },
  };
}

const bytes = (base64) => Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));

function sized(picture) {
  const longer = Math.max(picture.width, picture.height), share = Math.min(SIDE[1], Math.max(SIDE[0], longer)) / longer;
  return [Math.max(1, Math.round(picture.width * share)), Math.max(1, Math.round(picture.height * share))];
}

// What a model answered: `counts`, at the image's own size, and how many pixels reach each level.
async function answered(said) {
  const options = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
  const map = await createImageBitmap(new Blob([bytes(said.png)], { type: "image/png" }), options);
  const { width, height } = said, counts = new Uint8Array(width * height), strip = 256;
  const canvas = new OffscreenCanvas(width, Math.min(strip, height)), context = canvas.getContext("2d", { willReadFrequently: true });
  for (let top = 0; top < height; top += strip) {
    const rows = Math.min(strip, height - top);
    context.drawImage(map, 0, top, width, rows, 0, 0, width, rows);
    const pixels = context.getImageData(0, 0, width, rows).data;
    for (let at = 0; at < width * rows; at++) counts[top * width + at] = pixels[4 * at];
  }
  map.close();
  const reached = new Float64Array(257);
  for (const count of counts) reached[count]++;
  for (let level = 255; level >= 0; level--) reached[level] += reached[level + 1];
  return { width, height, counts, reached, levels: said.levels, own: said.threshold, lesions: new Map() };
}

// The first level that is not below `threshold`: a pixel is polyp where its count is at least this.
function levelOf(answer, threshold) {
  if (threshold === null) return answer.own;
  const at = answer.levels.findIndex((level) => level >= threshold - 1e-7);
  return at < 0 ? answer.levels.length : at + 1;
}

function paint(context, answer, level, way) {
  const { width, height } = context.canvas, image = context.getImageData(0, 0, width, height), data = image.data;
  const counts = shownCounts(answer, width, height);
  if (way === "outline") outline(data, counts, width, height, level);
  else {
    for (let at = 0; at < counts.length; at++) {
      const colour = way === "mask" ? (counts[at] >= level ? [255, 255, 255] : [0, 0, 0]) : RAMPED[Math.round((255 * counts[at]) / answer.levels.length)];
      data.set(colour, 4 * at);
    }
  }
  context.putImageData(image, 0, 0);
}

// An answer's counts as they are drawn, at width x height.
function shownCounts(answer, width, height) {
  if (answer.shown?.width === width && answer.shown.height === height) return answer.shown.counts;
  const counts = new Uint8Array(width * height);
  for (let y = 0, at = 0; y < height; y++) {
    const row = Math.min(answer.height - 1, Math.floor(((y + 0.5) * answer.height) / height)) * answer.width;
    for (let x = 0; x < width; x++, at++) {
      counts[at] = answer.counts[row + Math.min(answer.width - 1, Math.floor(((x + 0.5) * answer.width) / width))];
    }
  }
  answer.shown = { width, height, counts };
  return counts;
}

function outline(data, counts, width, height, level) {
  const edge = [];
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at++) {
      if (counts[at] < level) continue;
      const out = (x > 0 && counts[at - 1] < level) || (x < width - 1 && counts[at + 1] < level)
        || (y > 0 && counts[at - width] < level) || (y < height - 1 && counts[at + width] < level);
      if (out) edge.push([x, y]);
    }
  }
  const thick = Math.max(1, Math.round(Math.min(width, height) / 400));
  for (const [radius, colour] of [[thick + 1, [0, 0, 0]], [thick, OUTLINE]]) {
    for (const [x, y] of edge) {
      for (let v = Math.max(0, y - radius); v <= Math.min(height - 1, y + radius); v++) {
        for (let u = Math.max(0, x - radius); u <= Math.min(width - 1, x + radius); u++) {
          if ((u - x) ** 2 + (v - y) ** 2 <= radius * radius) data.set(colour, 4 * (v * width + u));
        }
      }
    }
  }
}

// How many connected parts the mask has; corners count as touching.
function lesionsOf(answer, level) {
  if (answer.lesions.has(level)) return answer.lesions.get(level);
  const { width, height, counts } = answer, open = new Uint8Array(counts.length), waiting = new Int32Array(counts.length);
  for (let at = 0; at < counts.length; at++) open[at] = Number(counts[at] >= level);
  let found = 0;
  for (let start = open.indexOf(1); start >= 0; start = open.indexOf(1, start + 1)) {
    found++;
    open[start] = 0;
    waiting[0] = start;
    for (let count = 1; count > 0; ) {
      const at = waiting[--count], x = at % width, y = (at - x) / width;
      const right = Math.min(width - 1, x + 1), below = Math.min(height - 1, y + 1);
      for (let v = Math.max(0, y - 1); v <= below; v++) {
        for (let next = v * width + Math.max(0, x - 1), last = v * width + right; next <= last; next++) {
          if (open[next]) {
            open[next] = 0;
            waiting[count++] = next;
          }
        }
      }
    }
  }
  answer.lesions.set(level, found);
  return found;
}

// As `fedpolyp predict` writes it: 255 where the model sees a polyp, at the image's own size.
async function save(image, column, threshold) {
  const answer = image.answers.get(column.key()), level = levelOf(answer, threshold);
  const canvas = new OffscreenCanvas(answer.width, answer.height), context = canvas.getContext("2d");
  const pixels = context.createImageData(answer.width, answer.height);
  for (let at = 0; at < answer.counts.length; at++) pixels.data.set(answer.counts[at] >= level ? [255, 255, 255, 255] : [0, 0, 0, 255], 4 * at);
  context.putImageData(pixels, 0, 0);
  const url = URL.createObjectURL(await canvas.convertToBlob({ type: "image/png" }));
  el("a", { href: url, download: `${image.file.name.replace(/\.[^.]*$/, "")}-mask.png` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

const RAMPED = Array.from({ length: 256 }, (_, at) => {
  const place = (at / 255) * (RAMP.length - 1), below = Math.min(RAMP.length - 2, Math.floor(place)), share = place - below;
  return RAMP[below].map((one, channel) => Math.round(one + share * (RAMP[below + 1][channel] - one)));
});

function rampCanvas() {
  const canvas = el("canvas", { width: 256, height: 1, "aria-hidden": "true" }), context = canvas.getContext("2d");
  const image = context.createImageData(256, 1);
  RAMPED.forEach((colour, at) => image.data.set([...colour, 255], 4 * at));
  context.putImageData(image, 0, 0);
  return canvas;
}
