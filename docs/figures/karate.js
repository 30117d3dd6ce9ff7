"use strict";
// Zachary's club: pointing at a member shows how much it attends to each friend, and to itself.
const element = id => document.getElementById(id);
const data = JSON.parse(element("data").textContent);
const space = "http://www.w3.org/2000/svg";
const from = data.joined.map((_, n) => data.edges.filter(([member]) => member === n));

function draw(parent, tag, attributes) {
  const made = document.createElementNS(space, tag);
  for (const name in attributes) made.setAttribute(name, attributes[name]);
  parent.append(made);
  return made;
}

const graph = element("graph");
const at = n => ({ x: data.places[n][0], y: -data.places[n][1] });
const ends = data.places.map((_, n) => at(n));
const [west, north] = ["x", "y"].map(axis => Math.min(...ends.map(end => end[axis])) - 0.1);
const [east, south] = ["x", "y"].map(axis => Math.max(...ends.map(end => end[axis])) + 0.1);
graph.setAttribute("viewBox", `${west} ${north} ${east - west} ${south - north}`);
for (const [a, b] of data.edges.filter(([a, b]) => a < b)) {
  const [start, end] = [at(a), at(b)];
  draw(graph, "line", { x1: start.x, y1: start.y, x2: end.x, y2: end.y, class: "friends" });
}
const lines = draw(graph, "g", {});
const dots = data.joined.map((joined, n) => {
  const { x, y } = at(n), group = draw(graph, "g", { class: joined, transform: `translate(${x} ${y})` });
  if (joined === "instructor") draw(group, "circle", { r: 0.055 });
  else draw(group, "rect", { x: -0.05, y: -0.05, width: 0.1, height: 0.1 });
  draw(group, "text", { y: 0.022 }).textContent = n + 1;
  group.addEventListener("pointerenter", () => show(n));
  group.addEventListener("click", () => show(n));
  return group;
});

function show(n) {
  const edges = [...from[n]].sort((a, b) => b[2] - a[2]), start = at(n);
  lines.replaceChildren();
  for (const dot of dots) dot.classList.remove("chosen", "heard");
  for (const [, other, weight] of edges) {
    const end = at(other);
    dots[other].classList.add("heard");
    if (other === n) continue;
    const line = draw(lines, "line", { x1: start.x, y1: start.y, x2: end.x, y2: end.y });
    line.style.strokeWidth = 0.004 + 0.1 * weight;
  }
  dots[n].classList.add("chosen");
  element("member").selectedIndex = n;
  const parts = edges.slice(0, 5).map(([, other, weight]) =>
    `${other === n ? "itself" : other + 1} ${weight.toFixed(3)}`);
  element("said").textContent = `Member ${n + 1} has ${edges.length - 1} friends and attends to ` +
    `${parts.join(", ")}${edges.length > 5 ? " and less to others" : ""}.`;
}

for (const n of data.joined.keys()) {
  const option = document.createElement("option");
  option.textContent = n + 1;
  element("member").append(option);
}
element("member").addEventListener("change", event => show(event.target.selectedIndex));
element("figure").hidden = false;
show(8);
