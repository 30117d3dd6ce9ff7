"use strict";
// One decoder step: all numbers are in the data; this plays them.
const element = id => document.getElementById(id);
const data = JSON.parse(element("data").textContent);
const names = Object.keys(data.scorers);
const state = { scorer: "dot", heat: data.temperatures.indexOf(1), step: 1, word: 1 };
const fixed = (number, digits = 2) => number.toFixed(digits).replace("-", "−");
const vector = numbers => `(${numbers.map(number => fixed(number, 1)).join(", ")})`;

function add(parent, tag, text = "", kind = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  made.className = kind;
  parent.append(made);
  return made;
}

// Four small bars around a line in the middle, up for positive numbers.
function bars(parent, numbers, text) {
  const box = add(parent, "span", "", "bars");
  for (const number of numbers) {
    const bar = add(add(box, "span"), "i", "", number < 0 ? "negative" : "");
    bar.style.height = `${Math.min(50, Math.abs(number) * 25)}%`;
  }
  box.setAttribute("role", "img");
  box.setAttribute("aria-label", text ?? vector(numbers));
  return box;
}

function bar(cell, part, text, kind) {
  const box = add(cell, "span", "", `bar ${kind}`);
  add(box, "i").style.width = `${100 * part}%`;
  add(cell, "span", text, "number");
}

function choose(change) {
  Object.assign(state, change);
  state.step = Math.max(0, Math.min(data.target.length - 1, state.step));
  if ("step" in change) state.word = strongest();
  show();
}

const weights = () => data.scorers[state.scorer].weights[state.heat][state.step];
const strongest = () => weights().indexOf(Math.max(...weights()));

function show() {
  const { scorer, heat, step, word } = state, all = data.scorers[scorer];
  const scores = all.scores[step], most = Math.max(...all.scores.flat().map(Math.abs));
  const context = all.contexts[heat][step], heated = data.temperatures[heat];
  const written = data.target.slice(0, step).join(" "), best = strongest();
  element("said").textContent = `Step ${step + 1} of ${data.target.length}: the decoder has ` +
    `${written ? `written “${written}”` : "written nothing yet"}. For “${data.target[step]}” it ` +
    `looks at “${data.source[best]}”, with ${Math.round(100 * weights()[best])}% of its attention.`;
  element("degree").textContent = heated;
  element("temperature").value = heat;
  element("step").value = step;
  element("step").setAttribute("aria-valuetext", `${step + 1}: ${data.target[step]}`);
  element("back").disabled = step === 0;
  element("on").disabled = step === data.target.length - 1;
  element("query").replaceChildren();
  bars(element("query"), data.states[step]);
  add(element("query"), "span", vector(data.states[step]), "number");
  for (const [n, row] of [...element("words").children].entries()) {
    const [, , score, weight, part] = row.children;
    row.classList.toggle("chosen", n === word);
    row.firstChild.firstChild.setAttribute("aria-pressed", n === word);
    for (const cell of [score, weight, part]) cell.replaceChildren();
    bar(score, Math.abs(scores[n]) / most, fixed(scores[n]), scores[n] < 0 ? "negative" : "");
    bar(weight, weights()[n], fixed(weights()[n]), "weight");
    bars(part, data.annotations[n].map(number => number * weights()[n]), "");
  }
  element("context").replaceChildren();
  bars(element("context"), context);
  add(element("context"), "span", vector(context), "number");
  element("whole").textContent = "1.00";
  formulas(scores[word], all.sums[heat][step], context);
}

function formulas(score, sum, context) {
  const { scorer, heat, word } = state, heated = data.temperatures[heat];
  const name = data.source[word], weight = weights()[word];
  element("score").textContent =
    `e = ${data.scorers[scorer].formula} = ${fixed(score)} for “${name}”`;
  element("weight").textContent =
    `α = exp(e / T) / Σ exp(e / T) = exp(${fixed(score)} / ${heated}) / ${Number(sum.toPrecision(4))} = ${fixed(weight)}`;
  const order = [...weights().keys()].sort((a, b) => weights()[b] - weights()[a]).slice(0, 2);
  const parts = order.map(n => `${fixed(weights()[n])} ${vector(data.annotations[n])}`);
  element("mixture").textContent = `c = Σ α v = ${parts.join(" + ")} + … = ${vector(context)}`;
}

for (const name of names) {
  const label = add(element("scorers"), "label");
  const input = Object.assign(document.createElement("input"), { type: "radio", name: "scorer", value: name });
  input.checked = name === state.scorer;
  input.addEventListener("change", () => choose({ scorer: name }));
  label.append(input, ` ${name}`);
}
for (const [n, word] of data.source.entries()) {
  const row = add(element("words"), "tr"), head = add(row, "th");
  head.scope = "row";
  const button = add(head, "button", word);
  button.type = "button";
  const take = () => choose({ word: n });
  button.addEventListener("click", take);
  button.addEventListener("focus", take);
  row.addEventListener("pointerenter", take);
  bars(add(row, "td"), data.annotations[n]);
  for (let cell = 0; cell < 3; cell++) add(row, "td");
}
element("temperature").max = data.temperatures.length - 1;
element("step").max = data.target.length - 1;
element("temperature").addEventListener("input", event => choose({ heat: Number(event.target.value) }));
element("step").addEventListener("input", event => choose({ step: Number(event.target.value) }));
element("back").addEventListener("click", () => choose({ step: state.step - 1 }));
element("on").addEventListener("click", () => choose({ step: state.step + 1 }));
element("figure").hidden = false;
show();
