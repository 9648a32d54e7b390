// The page: reads the API and draws its responses. Text is inserted as text, never as HTML.
import { forecastChart, stackedChart } from "./chart.js";

const $ = (id) => document.getElementById(id);
const REFRESH_MS = 5000, SLOW_MS = 60000, PAST_DAYS = 60, TOP = 7, OTHER = "other", MAX_EPISODES = 6, MAX_FINDINGS = 20;
const number = (digits) => new Intl.NumberFormat("en", { maximumFractionDigits: digits, minimumFractionDigits: digits });
const whole = number(0), compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 2 });
const state = { period: "latest-month", colours: new Map(), simulated: new Set(), charts: new Map(), refreshes: 0 };

const withToken = (path) => {
  const token = sessionStorage.getItem("wattlog-token");
  return fetch(path, { headers: token ? { Authorization: `Bearer ${token}` } : {} });
};

async function ask(path) {
  const response = await withToken(path);
  const text = await response.text();
  if (response.status === 401) signIn();
  // Energies in µJ may exceed 2^53: keep them as text, and parse them as BigInt where every digit is shown.
  const body = JSON.parse(text.replace(/("[a-z_]+_uj":)(-?\d+)/g, '$1"$2"'));
  if (!response.ok) throw Object.assign(new Error(body.detail || response.statusText), { status: response.status });
  return body;
}

function signIn() {
  if (!$("signin").open) $("signin").showModal();
}

function node(name, className, text) {
  const element = document.createElement(name);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

// Energy in kWh at every scale: three significant digits and a unit that fits.
function energy(kwh) {
  const v = Math.abs(kwh);
  if (v >= 1000) return [number(2).format(kwh / 1000), "MWh"];
  if (v >= 1 || v === 0) return [number(v >= 100 ? 1 : 2).format(kwh), "kWh"];
  return v >= 1e-3 ? [number(v >= 0.1 ? 1 : 2).format(kwh * 1000), "Wh"] : [number(1).format(kwh * 3.6e6), "J"];
}
const money = (text) => (text === null ? "no price" : number(Math.abs(text) >= 1 ? 2 : 6).format(text));
// A total of no row has no cost either, but lacks no price.
const cost = (row) => (row.cost === null && !row.missing_prices.length && !row.mixed_currencies ? "–" : money(row.cost));
function measuredAt(total) {
  if (total.wall_uj === total.energy_uj && Number(total.wall_uj)) return "at the wall";
  const hosts = Number(total.host_uj) ? " and hosts" : "";
  return `of the GPUs${hosts}${Number(total.wall_uj) ? ", and at the wall" : ""}`;
}
const ratio = (value) => (value === null ? "–" : value >= 1 ? number(2).format(value) : value.toPrecision(3));
const name = (tenant) => ({ __idle__: "idle, without owner", __unallocated__: "unallocated GPUs" })[tenant] || tenant;
const part = (value, sum) => (sum > 0 ? Math.max(0, (100 * value) / sum) : 0);

function colour(key) {
  if (key === OTHER || key === "__unallocated__" || key === "__idle__") return "var(--c7)";
  if (!state.colours.has(key)) state.colours.set(key, `var(--c${state.colours.size % 7})`);
  return state.colours.get(key);
}

function simulated(where, yes) {
  yes ? state.simulated.add(where) : state.simulated.delete(where);
  $("simulated").hidden = state.simulated.size === 0;
}

function totals(total) {
  const [value, unit] = total.kwh === null ? ["–", ""] : energy(Number(total.kwh));
  const kg = total.gco2 === null ? "–" : number(1).format(total.gco2 / 1000);
  const facility = total.kwh_facility === null ? (total.missing_prices.length ? "no PUE" : "nothing was measured") : `${energy(Number(total.kwh_facility)).join(" ")} with cooling (PUE)`;
  const cards = [
    [`Energy ${measuredAt(total)}`, value, unit, facility],
    ["Cost", cost(total), total.cost === null ? "" : total.currency, "energy × PUE × tariff"],
    ["Energy per token", ratio(total.joules_per_token), "J", `${ratio(total.joules_per_output_token)} J per output token`],
    ["Tokens", compact.format(total.tokens), "", `${compact.format(total.requests)} ${total.requests === 1 ? "request" : "requests"}, ${compact.format(total.failures)} failed`],
    ["Emissions", kg, "kg", "CO₂eq of the grid where it ran"],
  ];
  $("totals").replaceChildren(...cards.map(([title, big, small, below]) => {
    const card = node("div", "card"), list = node("dl"), value = node("dd", "", big);
    value.append(node("small", "", small));
    list.append(node("dt", "", title), value);
    card.append(list, node("p", "", below));
    return card;
  }));
}

function balance(b) {
  const joined = (uj) => BigInt(uj).toLocaleString("en");
  const line = [node("b", "", `${joined(b.measured_uj)} µJ`), " measured = ", node("b", "", joined(b.active_uj)), " active + ",
    node("b", "", joined(b.idle_uj)), " idle + ", node("b", "", joined(b.unallocated_uj)), " unallocated "];
  const ok = BigInt(b.residual_uj) === 0n;
  line.push(node("span", ok ? "ok" : "off", ok ? "✓ residual 0 µJ" : `✗ residual ${joined(b.residual_uj)} µJ`));
  $("balance").replaceChildren(...line);
  const parts = ["active", "idle", "unallocated"].map((key) => [key, Number(b[`${key}_uj`])]);
  const sum = parts.reduce((s, [, v]) => s + v, 0);
  $("split").setAttribute("aria-label", parts.map(([k, v]) => `${k} ${part(v, sum).toFixed(1)} %`).join(", "));
  $("split").replaceChildren(...parts.map(([key, value]) => {
    const bar = node("span");
    bar.style.width = `${part(value, sum)}%`;
    bar.style.background = `var(--${key})`;
    return bar;
  }));
  $("split-key").replaceChildren(...parts.map(([k, v]) => keyItem(`var(--${k})`, `${k} ${part(v, sum).toFixed(1)} %`)));
}

function keyItem(fill, text) {
  const item = node("li"), dot = node("i");
  dot.style.background = fill;
  item.append(dot, text);
  return item;
}

function tenants(rows, total) {
  const sum = Number(total.kwh);
  const cells = (row) => [whole.format(row.tokens), whole.format(row.requests), row.kwh === null ? "–" : number(3).format(row.kwh)];
  const after = (row) => [ratio(row.joules_per_token), row.gco2 === null ? "–" : number(2).format(row.gco2 / 1000), cost(row)];
  $("currency").textContent = total.currency;
  $("tenants").replaceChildren(...rows.map((row) => {
    const tr = node("tr"), th = node("th", "", name(row.tenant)), share = node("td", "wide"), meter = node("div", "meter"), fill = node("span");
    th.scope = "row";
    if (row.simulated) th.append(node("span", "badge small", "SIMULATED"));
    if (row.unmetered_requests) th.append(node("span", "badge small", `${compact.format(row.unmetered_tokens)} tokens UNMETERED`));
    fill.style.width = `${part(Number(row.kwh), sum)}%`;
    fill.style.background = colour(row.tenant);
    meter.append(fill);
    meter.title = `${part(Number(row.kwh), sum).toFixed(1)} %`;
    share.append(meter);
    tr.append(th, ...cells(row).map((t) => node("td", "n", t)), share, ...after(row).map((t) => node("td", "n", t)));
    return tr;
  }));
  const tr = node("tr"), th = node("th", "", "Total");
  th.scope = "row";
  tr.append(th, ...cells(total).map((t) => node("td", "n", t)), node("td", "wide"), ...after(total).map((t) => node("td", "n", t)));
  $("tenants-total").replaceChildren(rows.length ? tr : "");
  const missing = total.missing_prices.map((m) => `${m.kind} of ${m.cluster}`);
  $("missing").hidden = !missing.length && !total.mixed_currencies;
  $("missing").textContent = missing.length
    ? `No price: ${missing.join(", ")}. Costs without a price are left empty, never taken as 0.`
    : "Clusters are priced in several currencies, which do not add up: group by cluster.";
}

// Tokens without measured energy: their cost is open, and in no sum.
function unmetered(total) {
  $("unmetered").hidden = !total.unmetered_requests && !total.unmetered_tokens;
  $("unmetered").textContent = `${whole.format(total.unmetered_tokens)} of ${whole.format(total.tokens)} tokens (${whole.format(total.unmetered_requests)} ${total.unmetered_requests === 1 ? "request" : "requests"}) have no measured energy: ` +
    "their cost is open and in no sum. wattlog doctor names the workloads.";
}

function overTime(rows, step) {
  const order = new Map();
  for (const row of rows) order.set(row.tenant, (order.get(row.tenant) || 0) + Number(row.kwh));
  const ranked = [...order].sort((a, b) => b[1] - a[1]).map(([key]) => key);
  const shown = ranked.slice(0, TOP), keys = ranked.length > TOP ? [...shown, OTHER] : shown;
  const steps = new Map();
  for (const row of rows) {
    const at = row[step], key = shown.includes(row.tenant) ? row.tenant : OTHER;
    if (!steps.has(at)) steps.set(at, { label: label(at, step), full: at, parts: {} });
    const parts = steps.get(at).parts;
    parts[key] = (parts[key] || 0) + Number(row.kwh);
  }
  const sorted = [...steps].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, value]) => value);
  $("time-unit").textContent = `kWh per ${step}, by tenant`;
  draw("energy", () => stackedChart($("energy"), sorted, keys, colour, "Energy over time, stacked by tenant", "kWh"));
  $("energy-key").replaceChildren(...keys.map((key) => keyItem(colour(key), name(key))));
}

// Draw a chart now, and again whenever its column changes its width.
function draw(chart, task) {
  state.charts.set(chart, task);
  task();
}

function label(at, step) {
  if (step === "hour") return `${at.slice(11, 13)}:00`;
  return new Date(`${at.slice(0, 10)}T00:00:00Z`).toLocaleDateString("en", { timeZone: "UTC", day: "numeric", month: "short" });
}

function stepOf(period) {
  return (Date.parse(period.end) - Date.parse(period.start)) / 3600e3 <= 48 ? "hour" : "day";
}

async function pages(path) {
  const first = await ask(path), rows = first.rows;
  for (let page = first; page.next && rows.length < 20000; ) {
    page = await ask(`${path}&cursor=${encodeURIComponent(page.next)}`);
    rows.push(...page.rows);
  }
  return rows;
}

async function refresh() {
  const mine = ++state.refreshes, query = `period=${state.period}`;
  try {
    const [bill, books] = await Promise.all([ask(`/v1/chargeback?${query}&limit=10000`), ask(`/v1/balance?${query}`).catch(onlyForbidden)]);
    const step = stepOf(bill.period);
    const rows = await pages(`/v1/chargeback?${query}&by=${step},tenant&limit=10000`);
    if (mine !== state.refreshes) return;
    bill.rows.sort((a, b) => b.kwh - a.kwh);
    bill.rows.forEach((row) => colour(row.tenant));
    simulated("bill", bill.simulated);
    totals(bill.total);
    tenants(bill.rows, bill.total);
    unmetered(bill.total);
    balance(books || { ...bill.total, measured_uj: bill.total.energy_uj, residual_uj: "0" });
    overTime(rows, step);
    $("csv").href = `/v1/chargeback?${query}&format=csv`;
    const span = (p) => `${p.start.replace(".000", "")} to ${p.end.replace(".000", "")}`, held = bill.coverage;
    $("period").textContent = span(bill.period) + (held && span(held) !== span(bill.period) ? `, of which the ledger covers ${span(held)}` : "");
    $("status").className = "status";
    $("status").textContent = bill.rows.length ? "" : "The ledger has no final window yet. It fills as windows close.";
  } catch (error) {
    $("status").className = "status bad";
    $("status").textContent = error.message;
  }
}

function onlyForbidden(error) {
  if (error.status === 403) return null;
  throw error;
}

async function showForecast() {
  const from = await ask("/v1/forecast?measure=cost&by=total").catch(() => null);
  const f = from && from.rows[0];
  simulated("forecast", Boolean(f && f.simulated));
  if (!f || f.withheld) {
    $("forecast-text").textContent = f ? `No forecast yet: ${f.withheld}.` : "No forecast yet.";
    return;
  }
  const since = new Date(Date.parse(f.steps[0].time) - PAST_DAYS * 86400e3).toISOString().slice(0, 10);
  const past = await ask(`/v1/chargeback?by=day&from=${since}T00:00:00Z&to=${f.steps[0].time.slice(0, 10)}T00:00:00Z&limit=1000`);
  const known = past.rows.filter((row) => row.cost !== null).map((row) => ({ label: label(row.day, "day"), value: Number(row.cost) }));
  const ahead = f.steps.map((s) => ({ ...s, label: label(s.time, "day") }));
  draw("forecast", () => forecastChart($("forecast"), known, ahead, `Cost per day, past and forecast, in ${f.unit}`));
  $("forecast-unit").textContent = `${f.unit} per day`;
  $("forecast-key").replaceChildren(keyItem("var(--ink)", "measured"), keyItem("var(--accent)", "forecast, with 80 and 95 % intervals"));
  const month = f.next_month, put = number(2);
  const best = f.backtest.find((score) => score.model === f.model);
  $("forecast-text").textContent = month
    ? `${new Date(month.start).toLocaleDateString("en", { timeZone: "UTC", month: "long", year: "numeric" })}: ${put.format(month.mean)} ${f.unit}, with 80 % between ${put.format(month.lower_80)} and ${put.format(month.upper_80)}. ` +
      `Model ${f.model}${best && best.wape !== null ? `, ${(100 * best.wape).toFixed(1)} % off in its backtest` : ""}.`
    : `Model ${f.model}.`;
}

async function showAnomalies() {
  const reports = await Promise.all(["tenant", "workload"].map((by) => ask(`/v1/anomalies?by=${by}`)));
  const rows = reports.flatMap((f) => f.rows);
  simulated("anomalies", rows.some((row) => row.simulated));
  // Energy and its cost have the same episodes: show one per key and start.
  const episodes = new Map();
  for (const row of rows.sort((a, b) => b.score - a.score)) {
    const key = `${row.start} ${row.key}`;
    if (!episodes.has(key)) episodes.set(key, row);
  }
  const shown = [...episodes.values()].slice(0, MAX_EPISODES).sort((a, b) => (a.start < b.start ? 1 : -1));
  $("anomalies").replaceChildren(...shown.map((row) => {
    const item = node("li"), text = node("div"), up = row.direction === "up", title = node("p");
    title.append(node("b", "", name(row.key)), ` ${row.measure.replace("joules_per_token", "J/token")}`);
    if (row.simulated) title.append(node("span", "badge small", "SIMULATED"));
    const change = row.expected ? `${Math.abs((100 * (row.actual - row.expected)) / row.expected).toFixed(0)} % ${up ? "above" : "below"} the expected value` : row.kind;
    text.append(title, node("p", "", `${change}: ${ratio(row.actual)} instead of ${ratio(row.expected)} ${row.unit} per day`));
    text.append(node("time", "", `${label(row.start, "day")} – ${label(new Date(Date.parse(row.end) - 1).toISOString(), "day")}${row.ongoing ? ", ongoing" : ""}`));
    const arrow = node("span", up ? "dir" : "dir down", up ? "▲" : "▼");
    arrow.setAttribute("aria-label", up ? "more" : "less");
    item.append(arrow, text);
    return item;
  }));
  const judged = reports.reduce((sum, f) => sum + f.judged, 0);
  $("anomalies-note").textContent = shown.length ? `The ${shown.length} strongest of ${episodes.size} episodes in ${judged} series.`
    : judged ? `No anomalies in ${judged} series.` : "Too little history to judge.";
}

// For operators: what two sources tell differently, as wattlog reconcile found it last.
async function showReconciliation() {
  const run = await ask("/v1/reconciliation?period=all&limit=1").catch(() => null);
  $("reconciliation").hidden = !run;
  if (!run) return;
  const shown = run.findings.slice(0, MAX_FINDINGS), more = run.findings.length - shown.length;
  $("findings").replaceChildren(...shown.map((finding) => {
    const item = node("li"), text = node("div"), mark = node("span", "dir", "≠");
    mark.setAttribute("aria-hidden", "true");
    text.append(node("p", "", finding.says), node("time", "", `since ${minute(finding.since)}`));
    item.append(mark, text);
    return item;
  }));
  const compared = `${whole.format(run.comparisons)} pairs of series over the hours before ${run.until && minute(run.until)}`;
  $("findings-note").textContent = !run.run_at ? "Not compared yet: wattlog reconcile runs from a timer, every hour."
    : `${shown.length ? "Differences in" : "No difference in"} ${compared}; compared at ${minute(run.run_at)}.${more > 0 ? ` ${more} more: wattlog reconcile.` : ""}`;
}
const minute = (at) => `${at.slice(0, 16).replace("T", " ")} UTC`;

// A browser follows a link without the token: where there is one, fetch with it, and save what came.
async function save(event) {
  if (!sessionStorage.getItem("wattlog-token")) return;
  event.preventDefault();
  const link = event.currentTarget;
  try {
    const response = await withToken(link.href);
    if (response.status === 401) signIn();
    if (!response.ok) throw new Error((await response.json()).detail || response.statusText);
    const file = node("a");
    file.href = URL.createObjectURL(await response.blob());
    file.download = link.download;
    file.click();
    setTimeout(() => URL.revokeObjectURL(file.href), SLOW_MS);
  } catch (error) {
    $("status").className = "status bad";
    $("status").textContent = `${link.download} was not saved: ${error.message}`;
  }
}
for (const link of document.querySelectorAll("a[download]")) link.addEventListener("click", save);

const quietly = (task) => task().catch(() => undefined);

// Run a task every `ms`, or less often if it takes long: at most a twentieth of the time goes into it.
async function every(task, ms) {
  const began = performance.now();
  if (!document.hidden) await task();
  setTimeout(() => every(task, ms), Math.max(ms, 20 * (performance.now() - began)));
}

$("periods").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  for (const other of $("periods").children) other.setAttribute("aria-pressed", String(other === button));
  state.period = button.dataset.period;
  refresh();
});
$("signin-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("wattlog-token", $("token").value.trim());
  $("token").value = "";
  $("signin").close();
  refresh();
  quietly(showAnomalies);
  quietly(showForecast);
  quietly(showReconciliation);
});

addEventListener("resize", () => {
  for (const task of state.charts.values()) task();
});

await every(refresh, REFRESH_MS);
every(() => quietly(showAnomalies), SLOW_MS);
every(() => quietly(showForecast), SLOW_MS);
every(() => quietly(showReconciliation), SLOW_MS);
document.body.dataset.ready = "yes";
