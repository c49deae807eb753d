"use strict";
// The table and the strips of a report, made of the figures in the page.
const data = JSON.parse(document.getElementById("data").textContent);
const CHUNK = 50;
const cases = data.cases.map(([id, split, state, rank, values, remarks, flags, problems, picture, thumbnail]) => ({
  id, split, state, rank, values, remarks, flags, problems, picture, thumbnail,
}));
const measures = data.measures.map(([title, target, format], index) => ({ title, target, format, index }))
  .filter(one => cases.some(c => c.values[one.index] !== null));
const element = (tag, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
};
const find = id => document.getElementById(id);
const size = (one, value) => one.format === "bias" ? Math.abs(value) : value;
const label = one => one.target ? `${one.target}\n${one.title}` : one.title;

function written(one, value) {
  if (value === null) return "";
  if (one.format === "count") return String(value);
  if (one.format === "seconds") return `${value.toFixed(value < 10 ? 2 : 0)} s`;
  if (one.format === "bits") return `${value.toPrecision(3)} bits`;
  const percent = 100 * value, digits = Math.abs(percent) < 10 ? 2 : 1;
  return `${one.format === "bias" && value > 0 ? "+" : ""}${percent.toFixed(digits)} %`;
}

// ------------------------------------------------------------------------------------------- which cases, in which order
const FILTERS = [
  ["all cases", () => true],
  ["failed", c => c.state === "failed"],
  ["unfinished", c => c.state === "unfinished"],
  ["with alarms", c => c.flags.some(f => f[0] === "alarm")],
  ["with warnings", c => c.flags.some(f => f[0] === "warning")],
  ["with any flag", c => c.flags.length > 0],
  ...[...new Set(cases.map(c => c.split).filter(Boolean))].sort().map(s => [`split ${s}`, c => c.split === s]),
];
const compareIds = new Intl.Collator(undefined, { numeric: true }).compare;
const SORTS = [
  ["urgency", (a, b) => a.rank - b.rank || compareIds(a.id, b.id)],
  ["case id", (a, b) => compareIds(a.id, b.id)],
  ...measures.map(one => [label(one).replace("\n", ": "), (a, b) => {
    const [x, y] = [a.values[one.index], b.values[one.index]];
    if (x === null || y === null) return (x === null) - (y === null) || compareIds(a.id, b.id);
    return size(one, y) - size(one, x) || compareIds(a.id, b.id);
  }]),
];
const view = { search: "", filter: 0, sort: 0, reversed: false, shown: CHUNK, selected: null };
let chosen = [];

function choose() {
  const text = view.search.trim().toLowerCase(), keep = FILTERS[view.filter][1], order = SORTS[view.sort][1];
  chosen = cases.filter(c => keep(c) && c.id.toLowerCase().includes(text)).sort(order);
  if (view.reversed) chosen.reverse();
}

// ------------------------------------------------------------------------------------------------------------- the table
function row(c) {
  const picture = element("td", { className: "picture" });
  if (c.picture || c.thumbnail) {
    const image = element("img", { src: c.thumbnail || c.picture, alt: `picture of ${c.id}`, loading: "lazy", decoding: "async" });
    image.onerror = () => image.remove();
    picture.append(c.picture ? element("a", { href: c.picture }, image) : image);
  }
  const name = element("td", { className: "case" }, c.picture ? element("a", { href: c.picture }, c.id) : c.id);
  if (c.split) name.append(element("br"), element("span", { className: "quiet" }, c.split));
  const list = element("ul");
  for (const [step, why, log] of c.problems) {
    list.append(element("li", { className: "alarm" }, `failed in ${step}: ${why}`, ...(log ? [` (log: ${log})`] : [])));
  }
  for (const [severity, text] of c.flags) list.append(element("li", { className: severity }, text));
  if (c.state === "unfinished") list.append(element("li", { className: "note" }, "unfinished"));
  const flags = element("td", { className: "flags" }, ...(list.children.length ? [list] : []));
  const numbers = measures.map(one => {
    const value = c.values[one.index], remark = c.remarks[one.index];
    const cell = element("td", { className: value === null ? "number empty" : "number" }, written(one, value));
    cell.dataset.title = label(one).replace("\n", " ");
    if (remark && value !== null) cell.append(element("br"), element("span", { className: "quiet" }, remark));
    if (one.title === "inexact maps" && value > 0) cell.classList.add("alarm");
    return cell;
  });
  const made = element("tr", { className: c.id === view.selected ? "selected" : "" }, picture, name, flags, ...numbers);
  made.dataset.case = c.id;
  return made;
}

function show() {
  choose();
  const shown = chosen.slice(0, view.shown);
  find("table").tBodies[0].replaceChildren(...shown.map(row));
  find("count").textContent = `${chosen.length} of ${cases.length} cases`;
  find("more").hidden = shown.length === chosen.length;
  for (const head of document.querySelectorAll("#table th[data-sort]")) {
    head.ariaSort = Number(head.dataset.sort) === view.sort ? (view.reversed ? "ascending" : "descending") : "none";
  }
}

function heads() {
  const titles = [["", null], ["case", 1], ["flags", 0], ...measures.map((one, i) => [label(one), i + 2])];
  const line = element("tr");
  for (const [title, sort] of titles) {
    const head = element("th", {}, title);
    if (sort !== null) {
      head.dataset.sort = sort;
      head.tabIndex = 0;
      head.onclick = () => sortBy(sort, view.sort === sort && !view.reversed);
      head.onkeydown = event => event.key === "Enter" && head.onclick();
    }
    line.append(head);
  }
  find("table").tHead.append(line);
}

function sortBy(sort, reversed = false) {
  Object.assign(view, { sort, reversed, shown: CHUNK });
  find("sort").value = sort;
  show();
}

function select(id) {
  Object.assign(view, { search: "", filter: 0, selected: id });
  find("search").value = "";
  find("filter").value = 0;
  choose();
  view.shown = Math.max(CHUNK, chosen.findIndex(c => c.id === id) + 10);
  show();
  [...find("table").tBodies[0].rows].find(r => r.dataset.case === id)?.scrollIntoView({ block: "center" });
}

// ------------------------------------------------------------------------------------------------------------ the strips
const ROW = 26, PAD = 10;
const tip = document.body.appendChild(element("div", { id: "tip" }));
const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function strip(title, group) {
  const canvas = element("canvas", { height: ROW * group.length + 4 });
  const box = element("div", { className: "strip" }, element("b", {}, title));
  const values = group.flatMap(one => cases.map(c => c.values[one.index]).filter(v => v !== null));
  const low = Math.min(0, ...[values.reduce((a, b) => Math.min(a, b), 0)]), high = values.reduce((a, b) => Math.max(a, b), 0) || 1;
  let dots = [];
  const draw = () => {
    const width = canvas.clientWidth || 320, ratio = devicePixelRatio || 1;
    canvas.width = width * ratio;
    canvas.height = (ROW * group.length + 4) * ratio;
    canvas.style.height = `${ROW * group.length + 4}px`;
    const pen = canvas.getContext("2d"), at = v => PAD + (v - low) / (high - low || 1) * (width - 2 * PAD);
    pen.scale(ratio, ratio);
    dots = [];
    group.forEach((one, line) => {
      const middle = ROW * line + ROW / 2 + 4, own = [];
      if (one.target) {
        pen.fillStyle = colour("--quiet");
        pen.font = "11px system-ui, sans-serif";
        pen.fillText(one.target, PAD, ROW * line + 9);
      }
      cases.forEach((c, i) => {
        const value = c.values[one.index];
        if (value === null) return;
        own.push(value);
        dots.push({ x: at(value), y: middle + 5 * Math.sin(2.4 * i), c, one, value });
      });
      own.sort((a, b) => a - b);
      pen.fillStyle = colour("--text");
      pen.globalAlpha = 1;
      if (own.length) pen.fillRect(at(own[own.length >> 1]) - 0.75, middle - 9, 1.5, 18);
    });
    for (const dot of dots) {
      const isSelected = dot.c.id === view.selected;
      pen.fillStyle = colour(dot.c.rank <= 1 ? "--alarm" : "--dot");
      pen.globalAlpha = isSelected || dots.length < 200 ? 0.8 : 0.4;
      pen.beginPath();
      pen.arc(dot.x, dot.y, isSelected ? 5 : 3, 0, 7);
      pen.fill();
    }
  };
  const nearest = event => {
    const frame = canvas.getBoundingClientRect(), x = event.clientX - frame.left, y = event.clientY - frame.top;
    let best = null, least = 12 ** 2;
    for (const dot of dots) {
      const distance = (dot.x - x) ** 2 + (dot.y - y) ** 2;
      if (distance < least) [best, least] = [dot, distance];
    }
    return best;
  };
  canvas.onclick = event => {
    const dot = nearest(event);
    if (dot) select(dot.c.id);
  };
  canvas.onmousemove = event => {
    const dot = nearest(event);
    tip.style.display = dot ? "block" : "none";
    if (!dot) return;
    tip.textContent = `${dot.c.id}: ${written(dot.one, dot.value)} ${dot.c.remarks[dot.one.index] || ""}`;
    tip.style.left = `${Math.min(event.clientX + 12, innerWidth - 180)}px`;
    tip.style.top = `${event.clientY + 12}px`;
  };
  canvas.onmouseleave = () => { tip.style.display = "none"; };
  canvas.redraw = draw;
  const [first] = group;
  const ends = element("div", { className: "ends quiet" }, element("span", {}, written(first, low)), element("span", {}, written(first, high)));
  box.append(canvas, ends);
  find("plots").append(box);
  draw();
}

function strips() {
  const groups = new Map();
  for (const one of measures) groups.set(one.title, [...(groups.get(one.title) || []), one]);
  for (const [title, group] of groups) strip(title, group);
}
const redraw = () => document.querySelectorAll("#plots canvas").forEach(canvas => canvas.redraw());

// ------------------------------------------------------------------------------------------------------------- the start
FILTERS.forEach(([name, keep], i) => {
  const n = cases.filter(keep).length;
  if (i === 0 || n) find("filter").append(element("option", { value: i }, `${name} (${n})`));
});
SORTS.forEach(([name], i) => find("sort").append(element("option", { value: i }, name)));
find("search").oninput = event => { Object.assign(view, { search: event.target.value, shown: CHUNK }); show(); };
find("filter").onchange = event => { Object.assign(view, { filter: Number(event.target.value), shown: CHUNK }); show(); };
find("sort").onchange = event => sortBy(Number(event.target.value));
find("controls").onsubmit = event => event.preventDefault();
find("more").onclick = () => { view.shown += 4 * CHUNK; show(); };
for (const link of document.querySelectorAll("[data-case]")) {
  if (link.tagName === "A") link.onclick = event => { event.preventDefault(); select(link.dataset.case); redraw(); };
}
addEventListener("resize", redraw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
addEventListener("beforeprint", () => { view.shown = cases.length; show(); });
heads();
show();
strips();
