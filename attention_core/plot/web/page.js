"use strict";
// `state` is the selection; `choose` changes it, `show` draws it.
const element = id => document.getElementById(id);
const data = JSON.parse(element("data").textContent);
const MASKED = 0, NAN = 255, SHADES = 254; // codes of cells; 1 to 254 are shades
const SMALL = 64, LISTED = 12; // lists have all of at most 64 queries and keys, or the strongest

const bytes = text => Uint8Array.from(atob(text), c => c.charCodeAt(0));
const Floats = data.bits === 32 ? Float32Array : Float64Array;
const panels = data.panels.map(panel => ({
  ...panel,
  codes: bytes(panel.codes),
  values: new Floats(bytes(panel.values).buffer),
  places: panel.places && new Uint16Array(bytes(panel.places).buffer),
}));
const queries = data.query.names, keys = data.key.names;
const isSmall = Math.max(queries.length, keys.length) <= SMALL;
const state = { panel: 0, query: 0, key: 0, by: "" }; // by: the side whose lines are shown
const opposite = { query: "key", key: "query" };
const cell = (side, n, m) => side === "query" ? [n, m] : [m, n];

// ---- numbers

const codeAt = (i, j) => panels[state.panel].codes[i * keys.length + j];

// The position of a code on the scale, from 0 to 1.
function partOf(code) {
  const part = (code - 1) / (SHADES - 1);
  return code === MASKED || code === NAN ? 0 : data.what === "weights" ? part * part : part;
}

// The exact number of a cell; undefined if only a shade is known.
function exact(i, j) {
  const { values, places } = panels[state.panel];
  if (!places) return values[i * keys.length + j];
  const first = i * data.strongest;
  const n = places.subarray(first, first + data.strongest).indexOf(j);
  return n < 0 ? undefined : values[first + n];
}

const numberOf = (i, j) => exact(i, j) ??
  data.low + partOf(Math.max(codeAt(i, j), 1.5)) * (data.high - data.low);

const short = (number, digits) => +number.toPrecision(digits);

// A number in the fewest exact digits.
function text(i, j) {
  const code = codeAt(i, j), number = exact(i, j);
  if (code === MASKED) return "masked";
  if (code === NAN) return "not a number";
  if (number === undefined) return `${code === 1 ? "below" : "about"} ${short(numberOf(i, j), 2)}`;
  for (let n = 1; data.bits === 32 && n < 10; n++)
    if (Math.fround(short(number, n)) === number) return String(short(number, n));
  return String(number);
}

// Unmasked positions on the other side, the strongest first.
function ranked(side, n) {
  const numbers = data[opposite[side]].names.map((_, m) => numberOf(...cell(side, n, m)));
  return [...numbers.keys()].filter(m => codeAt(...cell(side, n, m)) && !isNaN(numbers[m]))
    .sort((a, b) => numbers[b] - numbers[a]);
}

// ---- choice

function choose(change) {
  Object.assign(state, change);
  for (const side in opposite)
    state[side] = Math.max(0, Math.min(data[side].names.length - 1, state[side]));
  requestAnimationFrame(show);
}

// A query or key, with its strongest partner.
function chooseSide(side, n) {
  choose({ [side]: n, by: side });
  choose({ [opposite[side]]: ranked(side, state[side])[0] ?? 0 });
}

function show() {
  showReadout();
  showMatrix();
  showLines();
  element("row").value = state.query;
  element("row").ariaValueText = queries[state.query];
}

function add(parent, tag, text = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  parent.append(made);
  return made;
}

function showReadout() {
  const { query, key } = state, { entropy, mass } = panels[state.panel];
  const round = (number, unit = "") => number === null ? "not a number" : short(number, 4) + unit;
  const shown = { number: text(query, key), entropy: round(entropy[query], " nats"), mass: round(mass[key]) };
  Object.assign(shown, { "query-name": queries[query], "key-name": keys[key] });
  for (const id in shown) element(id).textContent = shown[id];
}

// ---- matrix

const canvas = element("matrix"), pen = canvas.getContext("2d");
const dark = matchMedia("(prefers-color-scheme: dark)");
const color = name => getComputedStyle(document.body).getPropertyValue(`--${name}`);
const drawn = {}; // the cells of each panel in each theme
let box; // the area of the cells

// A pixel for each cell; masked ones are transparent.
function pixels() {
  const name = `${state.panel} ${dark.matches}`;
  if (!drawn[name]) {
    const image = new ImageData(keys.length, queries.length);
    const palette = new Uint32Array(bytes(data.palettes[Number(dark.matches)]).buffer);
    new Uint32Array(image.data.buffer).set(
      Uint32Array.from(panels[state.panel].codes, code => palette[code]));
    drawn[name] = new OffscreenCanvas(keys.length, queries.length);
    drawn[name].getContext("2d").putImageData(image, 0, 0);
  }
  return drawn[name];
}

// Sizes of cells and labels.
function measure() {
  const room = element("scroller").clientWidth, most = room < 500 ? 80 : 130;
  const size = (space, count) => Math.max(1, Math.min(40, Math.floor(space / count)));
  pen.font = "600 12px system-ui";
  const widest = name =>
    Math.min(most, 4 + Math.max(...data[name].names.map(text => pen.measureText(text).width)));
  const query = widest("query"), key = widest("key");
  const icon = name => data[name].images ? 32 : 6;
  const left = query + icon("query");
  let wide = size(room - left - 4, keys.length), high = size(600, queries.length);
  if (Math.min(wide, high) >= 8) wide = high = Math.min(wide, high);
  const isFlat = key < wide + 2; // otherwise labels of keys are rotated
  const above = (isFlat ? 14 : key) + icon("key");
  const width = keys.length * wide, height = queries.length * high;
  box = { left, above, wide, high, width, height, isFlat, query, key };
  for (const [name, start] of [["width", left], ["height", above]]) {
    canvas.style[name] = `${start + box[name] + 4}px`;
    canvas[name] = (start + box[name] + 4) * devicePixelRatio;
  }
  canvas.style.backgroundSize = `${box.width}px ${box.height}px`; // of the hatching
  canvas.style.backgroundPosition = `${left}px ${above}px`;
}

function showMatrix() {
  const { left, above, wide, high, width, height } = box;
  const x = left + state.key * wide, y = above + state.query * high;
  pen.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
  pen.clearRect(0, 0, canvas.width, canvas.height);
  pen.imageSmoothingEnabled = false;
  pen.drawImage(pixels(), left, above, width, height);
  if (data.steps) { // later steps are not written yet
    pen.fillStyle = color("paper");
    pen.fillRect(left, y + high, width, above + height - y - high);
  }
  pen.strokeStyle = color("accent");
  pen.lineWidth = 1;
  pen.strokeRect(left - 0.5, y - 0.5, width + 1, high + 1);
  pen.strokeRect(x - 0.5, above - 0.5, wide + 1, height + 1);
  pen.lineWidth = 3;
  pen.strokeRect(x - 1, y - 1, wide + 2, high + 2);
  label("query", high, n => [left, above + n * high]);
  label("key", wide, n => [left + n * wide, above]);
}

// The labels for which there is room, and that of the chosen one.
function label(side, size, place) {
  const every = [1, 2, 5, 10, 20].find(n => n * size > 12), chosen = state[side];
  const icon = Math.min(24, Math.max(size, 13)), { names, images } = data[side];
  const isDown = side === "query";
  names.forEach((name, n) => {
    if (n !== chosen && (n % every || Math.abs(n - chosen) < every)) return;
    const [x, y] = place(n + 0.5), gap = images ? icon + 5 : 5;
    pen.save();
    pen.translate(x, y);
    if (images) pen.drawImage(lists[side].icons[n], isDown ? -icon - 3 : -icon / 2,
      isDown ? -icon / 2 : -icon - 3, icon, icon);
    pen.fillStyle = color(n === chosen ? "accent" : "ink");
    pen.font = `${n === chosen ? "600 " : ""}12px system-ui`;
    pen.textBaseline = "middle";
    if (!isDown && box.isFlat) pen.translate(0, -gap - 4);
    else if (!isDown) pen.rotate(-Math.PI / 2);
    pen.textAlign = isDown ? "right" : box.isFlat ? "center" : "left";
    let shown = name;
    for (let end = name.length; end > 1 && pen.measureText(shown).width > box[side]; end--)
      shown = name.slice(0, end - 1) + "…";
    pen.fillText(shown, isDown ? -gap : box.isFlat ? 0 : gap, 0);
    pen.restore();
  });
}

function point(event) {
  const key = Math.floor((event.offsetX - box.left) / box.wide);
  const query = Math.floor((event.offsetY - box.above) / box.high);
  if (query >= 0 && key >= 0) choose({ query, key, by: "query" });
  else if (key >= 0) chooseSide("key", key);
  else if (query >= 0) chooseSide("query", query);
}
canvas.onpointermove = canvas.onpointerdown = point;
canvas.onkeydown = event => {
  const { query, key } = state;
  const move = {
    ArrowLeft: { key: key - 1 }, ArrowUp: { query: query - 1 }, Home: { key: 0 },
    ArrowRight: { key: key + 1 }, ArrowDown: { query: query + 1 }, End: { key: Infinity },
  }[event.key];
  if (!move) return;
  event.preventDefault();
  choose({ ...move, by: "query" });
  element("scroller").scrollTo(state.key * box.wide - 200, state.query * box.high - 200);
};

// ---- lines

const lists = { query: element("query"), key: element("key") };

function showLines() {
  const side = state.by || "query", other = opposite[side], faint = state.by ? 1 : 0.4;
  fill(side, [state[side]]);
  fill(other, ranked(side, state[side]).slice(0, LISTED));
  const picture = element("threads"), width = picture.clientWidth, half = width / 2, lines = [];
  const top = item => item.offsetTop - picture.parentNode.offsetTop + 12;
  for (const from of lists[side].children) for (const to of lists[other].children) {
    const n = +from.dataset.n, place = cell(side, n, +to.dataset.n), part = partOf(codeAt(...place));
    if ((isSmall && part < 0.004) || (state.by && n !== state[side])) continue;
    if (state.by) {
      to.style.setProperty("--part", part);
      to.lastChild.textContent = short(numberOf(...place), 2);
    }
    const [y, z] = cell(side, top(from), top(to));
    lines.push(`<path d="M0 ${y}C${half} ${y} ${half} ${z} ${width} ${z}" stroke-width=` +
      `"${1 + 5 * part}" stroke-opacity="${faint * (0.15 + 0.8 * part)}"/>`);
  }
  picture.innerHTML = lines.join("");
}

// Items that stay do not move under a finger.
function fill(side, some) {
  const list = lists[side], { names, images } = data[side];
  const shown = isSmall ? [...names.keys()] : some;
  if (list.dataset.shown !== String(shown)) {
    list.dataset.shown = shown;
    list.replaceChildren();
    for (const n of shown) {
      const item = add(list, "li");
      Object.assign(item, { id: `${side}-${n}`, role: "option", title: names[n] });
      item.dataset.n = n;
      if (images) Object.assign(add(item, "img"), { src: images[n], alt: "" });
      add(item, "bdi", names[n]);
      add(item, "small");
    }
  }
  for (const item of list.children) {
    const isChosen = +item.dataset.n === state[side];
    item.ariaSelected = isChosen;
    item.style.setProperty("--part", 0);
    item.lastChild.textContent = "";
    if (isChosen) list.setAttribute("aria-activedescendant", item.id);
  }
}

for (const [side, list] of Object.entries(lists)) {
  const hear = event => {
    const item = event.target.closest("li");
    if (item) chooseSide(side, +item.dataset.n);
  };
  if (isSmall) list.onpointerover = hear;
  list.onclick = hear;
  list.onkeydown = event => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    chooseSide(side, state[side] + step);
  };
  list.icons = data[side].images?.map(src =>
    Object.assign(new Image(), { src, onload: () => requestAnimationFrame(show) }));
}

// ---- steps

const play = element("play"), isLast = () => state.query === queries.length - 1;
let clock;

function run(isOn) {
  play.textContent = isOn ? "Pause" : "Play";
  clearTimeout(clock);
  if (isOn) clock = setTimeout(() => {
    chooseSide("query", state.query + 1);
    run(!isLast());
  }, 800);
}
play.onclick = () => {
  if (isLast()) chooseSide("query", 0);
  run(play.textContent === "Play");
};

// ---- start

element("figure").hidden = false;
for (const panel of panels) add(element("panel"), "option", panel.name);
element("panel").onchange = event => choose({ panel: event.target.selectedIndex });
element("row").oninput = event => chooseSide("query", +event.target.value);
const again = () => {
  const scale = dark.matches ? [...data.scale].reverse() : data.scale;
  element("scale").style.background = `linear-gradient(90deg, ${scale})`;
  measure();
  show();
};
new ResizeObserver(again).observe(element("views"));
dark.onchange = again;
again();
chooseSide("query", data.steps ? Infinity : 0);
if (isSmall && !data.steps) choose({ by: "" }); // all lines
