// Small SVG charts: stacked bars over time, and a line with forecast bands. No dependency; colours come from CSS.
const NS = "http://www.w3.org/2000/svg";
const PAD = { l: 52, r: 10, t: 10, b: 26 };

function el(name, attributes, text) {
  const node = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

// Up to five round steps that reach `max`.
function ticks(max) {
  if (!(max > 0)) return [0];
  const rough = max / 4, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= rough);
  return Array.from({ length: Math.ceil(max / step - 1e-9) + 1 }, (_, i) => i * step);
}

const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

// One unit is one CSS pixel, so that text keeps its size in a narrow column.
function frame(host, height, max, label, min = 0) {
  const W = Math.max(host.clientWidth, 280);
  const svg = el("svg", { viewBox: `0 0 ${W} ${height}`, role: "img", "aria-label": label });
  const marks = ticks(max - min), top = min + marks[marks.length - 1];
  const y = (value) => height - PAD.b - ((value - min) / (top - min || 1)) * (height - PAD.t - PAD.b);
  for (const mark of marks) {
    svg.append(el("line", { class: "grid", x1: PAD.l, x2: W - PAD.r, y1: y(min + mark), y2: y(min + mark) }));
    svg.append(el("text", { x: PAD.l - 8, y: y(min + mark) + 4, "text-anchor": "end" }, short.format(min + mark)));
  }
  host.replaceChildren(svg);
  return { svg, y, W };
}

function dates(svg, height, labels, x) {
  const room = x(labels.length - 1) - x(0), every = Math.max(1, Math.ceil(labels.length / Math.max(2, Math.floor(room / 85))));
  labels.forEach((text, i) => {
    if (i % every === 0) svg.append(el("text", { x: x(i), y: height - 7, "text-anchor": "middle" }, text));
  });
}

// steps: [{label, full, parts: {key: number}}]; keys: bottom first; colour(key) -> CSS colour.
export function stackedChart(host, steps, keys, colour, label, unit, height = 270) {
  const max = Math.max(0, ...steps.map((s) => keys.reduce((sum, k) => sum + (s.parts[k] || 0), 0)));
  const { svg, y, W } = frame(host, height, max, label);
  const slot = (W - PAD.l - PAD.r) / Math.max(steps.length, 1);
  const width = Math.min(Math.max(1, slot * 0.78), 64), x = (i) => PAD.l + slot * (i + 0.5);
  steps.forEach((step, i) => {
    let base = 0;
    for (const key of keys) {
      const value = step.parts[key] || 0;
      if (value <= 0) continue;
      const rect = el("rect", { x: x(i) - width / 2, width, y: y(base + value), height: Math.max(0, y(base) - y(base + value)) });
      rect.style.fill = colour(key);
      rect.append(el("title", {}, `${step.full}\n${key}: ${value.toPrecision(4)} ${unit}`));
      svg.append(rect);
      base += value;
    }
  });
  dates(svg, height, steps.map((s) => s.label), x);
}

// past: [{label, value}], ahead: [{label, mean, lower_80, upper_80, lower_95, upper_95}].
export function forecastChart(host, past, ahead, label, height = 270) {
  const all = [...past.map((p) => p.value), ...ahead.map((p) => p.upper_95)];
  const { svg, y, W } = frame(host, height, Math.max(0, ...all), label);
  const n = past.length + ahead.length, x = (i) => PAD.l + ((W - PAD.l - PAD.r) * (i + 0.5)) / Math.max(n, 1);
  const at = (i) => x(past.length + i);
  const path = (points) => points.map(([px, py], i) => `${i ? "L" : "M"}${px.toFixed(1)} ${py.toFixed(1)}`).join("");
  for (const level of ["95", "80"]) {
    const up = ahead.map((p, i) => [at(i), y(p[`upper_${level}`])]);
    const down = ahead.map((p, i) => [at(i), y(Math.max(0, p[`lower_${level}`]))]).reverse();
    if (ahead.length) svg.append(el("path", { class: `band${level}`, d: `${path([...up, ...down])}Z` }));
  }
  svg.append(el("path", { class: "line", d: path(past.map((p, i) => [x(i), y(p.value)])) }));
  const last = past.length ? [[x(past.length - 1), y(past[past.length - 1].value)]] : [];
  svg.append(el("path", { class: "ahead", d: path([...last, ...ahead.map((p, i) => [at(i), y(p.mean)])]) }));
  const now = (x(past.length - 1) + at(0)) / 2;
  svg.append(el("line", { class: "now", x1: now, x2: now, y1: PAD.t, y2: height - PAD.b }));
  dates(svg, height, [...past, ...ahead].map((p) => p.label), x);
}
