"use strict";
// What all parts of the server's page use, and its tables: what /v2 and /metrics say of models and seats.

const $ = (id) => document.getElementById(id);
const EVERY_MS = 2000;
const SEATS_EVERY = 5;
const STAGES = { queue: "queue", compute_input: "decode", compute_infer: "infer", compute_output: "post" };
let key = "";
let offered = ""; // the versions that answer, as of the last look
let before = null; // counters of the last look, to tell rates from

const headers = (more) => (key ? { ...more, Authorization: `Bearer ${key}` } : more || {});

async function ask(path, options = {}) {
  const answer = await fetch(path, { ...options, headers: headers(options.headers), cache: "no-store" });
  $("access").hidden = answer.status !== 401 && !key;
  if (!answer.ok) {
    const body = await answer.json().catch(() => ({}));
    throw new Error(body.error || `${answer.status} ${answer.statusText}`);
  }
  return answer;
}

const json = async (path, options) => (await ask(path, options)).json();

function element(tag, text = "", kind = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  made.className = kind;
  return made;
}

function fill(table, rows) {
  $(table).tBodies[0].replaceChildren(
    ...rows.map((cells) => {
      const row = document.createElement("tr");
      row.append(...cells.map((cell) => (cell instanceof Node ? cell : element("td", ...[].concat(cell)))));
      return row;
    }),
  );
}

const number = (value, digits = 0) =>
  Number.isFinite(value) ? value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }) : "–";

// ---- models ---------------------------------------------------------------------------------------------------

function histograms(text) {
  const found = {};
  for (const line of text.split("\n")) {
    const match = /^ovms_request_time_us_bucket\{.*name="(.*)",version="(.*)",le="(.*)"\} (\d+)$/.exec(line);
    if (!match) continue;
    const buckets = (found[`${match[1]}/${match[2]}`] ||= []);
    const end = Number(match[3].replace("+Inf", "Infinity"));
    const same = buckets.find(([other]) => other === end); // of the other transport
    if (same) same[1] += Number(match[4]);
    else buckets.push([end, Number(match[4])]);
  }
  return found;
}

/** A percentile in ms from two looks at a cumulative histogram, linear within its bucket. */
function percentile(now, then, share) {
  const counts = now.map(([end, count], place) => [end, count - (then ? then[place][1] : 0)]);
  const wanted = (counts.at(-1)?.[1] ?? 0) * share;
  if (!wanted) return NaN;
  let low = 0, under = 0;
  for (const [end, count] of counts) {
    if (count >= wanted) return (Number.isFinite(end) ? low + ((end - low) * (wanted - under)) / (count - under) : low) / 1000;
    [low, under] = [end, count];
  }
  return NaN;
}

function stageBar(now, then) {
  const spent = Object.entries(STAGES).map(([word, kind]) => [kind, now[word].ns - (then ? then[word].ns : 0)]);
  const total = spent.reduce((sum, [, ns]) => sum + ns, 0);
  const cell = element("td");
  const bar = element("div", "", "bar");
  for (const [kind, ns] of spent) {
    const part = element("i", "", kind);
    part.style.width = `${total ? (100 * ns) / total : 0}%`;
    part.title = `${kind} ${total ? Math.round((100 * ns) / total) : 0} %`;
    bar.append(part);
  }
  cell.append(bar);
  return cell;
}

async function look() {
  const [index, stats, metrics] = await Promise.all([
    json("v2/repository/index", { method: "POST" }),
    json("v2/models/stats"),
    ask("metrics").then((answer) => answer.text()),
  ]);
  const now = { at: performance.now(), by: {}, buckets: histograms(metrics) };
  for (const row of stats.model_stats) now.by[`${row.name}/${row.version}`] = row;
  fill("models", index.map(({ name, version, state, reason }) => {
    const id = `${name}/${version}`;
    const row = now.by[id];
    const place = [name, version, [reason ? `${state}: ${reason}` : state, state === "READY" ? "" : "failed"]];
    if (!row) return [...place, ...Array(7).fill("")];
    const old = before?.by[id];
    const moved = old && row.inference_count > old.inference_count;
    const buckets = now.buckets[id] || [];
    const since = moved ? before.buckets[id] : null;
    return [
      ...place,
      [old ? number((row.inference_count - old.inference_count) / ((now.at - before.at) / 1000), 1) : "–", "n"],
      [number(row.inference_count), "n"],
      [number(percentile(buckets, since, 0.5), 1), "n"],
      [number(percentile(buckets, since, 0.99), 1), "n"],
      stageBar(row.inference_stats, moved ? old.inference_stats : null),
      [row.execution_count ? number(row.inference_count / row.execution_count, 2) : "–", "n"],
      [number(row.inference_stats.fail.count), "n"],
    ];
  }));
  const refused = [...metrics.matchAll(/^cpuserve_refused_total\{reason="(.*)"\} (\d+)$/gm)].filter(([, , count]) => count > 0);
  $("refused").textContent = refused.length
    ? `refused: ${refused.map(([, reason, count]) => `${number(Number(count))} ${reason.replace("_", " ")}`).join(", ")}` : "";
  keep(now, before, metrics);
  before = now;
  offer(index.filter(({ state }) => state === "READY"));
}

function offer(ready) {
  const versions = ready.map(({ name, version }) => `${name}/${version}`).join();
  if (versions !== offered) [inputs, offered] = [{}, versions];
  const wanted = [...new Set(ready.map(({ name }) => name))];
  const select = $("model");
  if ([...select.options].map((option) => option.value).join() === wanted.join()) return;
  const old = select.value;
  select.replaceChildren(...wanted.map((name) => new Option(name)));
  if (wanted.includes(old)) select.value = old;
  describe();
}

// ---- seats ----------------------------------------------------------------------------------------------------

async function seats() {
  const found = await json("v2/placement");
  const workers = Object.fromEntries((found.workers || []).map((worker) => [worker.seat, worker]));
  fill("seats", (found.seats || []).map(({ index, node, cpus }) => {
    const worker = workers[index] || {};
    const share = worker.share_on_node;
    return [[index, "n"], [node ?? "–", "n"], cpus, [worker.pid ?? "–", "n"], worker.state ?? "gone",
      [share == null ? "–" : `${Math.round(100 * share)} %`, "n"]];
  }));
  const settings = Object.entries(found.server?.settings || {});
  fill("settings", settings.map(([name, { value, from }]) => [name, JSON.stringify(value), from]));
  $("settings").hidden = !settings.length;
  $("defaults").textContent = settings.length ? "" : "Every setting has its default.";
  const { machine, budget, preset } = found;
  const words = [machine && `${machine.cpu}: ${machine.cores} cores, ${machine.nodes} NUMA node${machine.nodes > 1 ? "s" : ""}`,
    budget && `${budget.effective} threads may run at once`, preset?.layout_from && `tuned for ${preset.layout_from}`];
  $("machine").textContent = words.filter(Boolean).join(" · ");
}
