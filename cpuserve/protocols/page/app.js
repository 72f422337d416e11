"use strict";
// The server's page: what /v2 and /metrics say, and one picture at a time to a model.

const $ = (id) => document.getElementById(id);
const EVERY_MS = 2000;
const SEATS_EVERY = 5;
const STAGES = { queue: "queue", compute_input: "decode", compute_infer: "infer", compute_output: "post" };
let key = "";
let before = null; // counters of the last look, to tell rates from
let inputs = {}; // width and height by model
let chosen = null; // the picture, as a File

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
  before = now;
  offer(index.filter(({ state }) => state === "READY").map(({ name }) => name));
}

function offer(names) {
  const wanted = [...new Set(names)];
  const select = $("model");
  if ([...select.options].map((option) => option.value).join() === wanted.join()) return;
  const old = select.value;
  select.replaceChildren(...wanted.map((name) => new Option(name)));
  if (wanted.includes(old)) select.value = old;
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
  const { machine, budget, preset } = found;
  const words = [machine && `${machine.cpu}: ${machine.cores} cores, ${machine.nodes} NUMA node${machine.nodes > 1 ? "s" : ""}`,
    budget && `${budget.effective} threads may run at once`, preset?.layout_from && `tuned for ${preset.layout_from}`];
  $("machine").textContent = words.filter(Boolean).join(" · ");
}

// ---- one picture ----------------------------------------------------------------------------------------------

async function sides(model) {
  if (!(model in inputs)) {
    const { inputs: [first] } = await json(`v2/models/${encodeURIComponent(model)}`);
    const shape = first.shape.slice(-3).map(Number);
    const [height, width] = shape[2] <= 4 ? shape : shape.slice(1);
    inputs[model] = width > 0 && height > 0 ? [width, height] : null;
  }
  return inputs[model];
}

/** The whole picture as JPEG, as small as still covers what the model sees; the picture itself if that is smaller. */
async function shrunk(file, [width, height]) {
  const picture = await createImageBitmap(file);
  const scale = Math.min(1, Math.max(width / picture.width, height / picture.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(picture.width * scale));
  canvas.height = Math.max(1, Math.round(picture.height * scale));
  const drawing = canvas.getContext("2d");
  drawing.imageSmoothingQuality = "high";
  drawing.drawImage(picture, 0, 0, canvas.width, canvas.height);
  const small = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.9));
  return small && small.size < file.size ? small : file;
}

async function send(shrinking) {
  const model = $("model").value;
  const began = performance.now();
  const size = shrinking ? await sides(model) : null;
  // what this browser cannot read goes as it is: the server says what is wrong with it
  const body = size ? await shrunk(chosen, size).catch(() => chosen) : chosen;
  const accept = $("drawn").checked ? "image/png" : "application/json";
  const answer = await ask(`predictions/${encodeURIComponent(model)}`, { method: "POST", body, headers: { Accept: accept } });
  const content = await answer.blob();
  return { bytes: body.size, ms: performance.now() - began, server: answer.headers.get("Server-Timing") || "", content };
}

function serverTime(header) {
  return [...header.matchAll(/([\w-]+);dur=([\d.]+)/g)].map(([, name, ms]) => `${name} ${Number(ms).toFixed(1)}`).join(", ");
}

async function show({ content }) {
  let drawn = chosen;
  $("answers").replaceChildren();
  $("raw").hidden = true;
  if (content.type.startsWith("image/")) drawn = content;
  else {
    const text = await content.text();
    $("raw").hidden = false;
    $("raw").querySelector("pre").textContent = text.length > 20000 ? `${text.slice(0, 20000)}…` : text;
    const { predictions = [], text: read, probability } = JSON.parse(text);
    const shown = read === undefined ? predictions : [{ label: read, probability }];
    $("answers").replaceChildren(...shown.slice(0, 10).filter((one) => one.label !== undefined).map((one) => {
      const share = one.probability ?? one.score ?? one.area ?? 0;
      const line = element("li");
      const meter = element("meter");
      meter.value = share;
      line.append(element("span", one.label), meter, element("span", number(share, 3), "n"));
      return line;
    }));
  }
  URL.revokeObjectURL($("preview").src);
  $("preview").src = URL.createObjectURL(drawn);
  $("preview").hidden = false;
}

async function attempt(ways) {
  if (!chosen) return;
  $("problem").textContent = "";
  $("again").disabled = true;
  try {
    const rows = [];
    for (const shrinking of ways) {
      const sent = await send(shrinking);
      rows.push([shrinking ? "shrunk here" : "as it is", [number(sent.bytes), "n"], [number(sent.ms, 1), "n"], serverTime(sent.server)]);
      await show(sent);
    }
    fill("sent", rows);
    $("sent").hidden = false;
  } catch (error) {
    $("problem").textContent = error.message;
  }
  $("again").disabled = false;
}

function choose(files) {
  if (!files.length) return;
  chosen = files[0];
  attempt([$("shrink").checked]);
}

$("file").addEventListener("change", ({ target }) => choose(target.files));
$("try").addEventListener("submit", (event) => { event.preventDefault(); attempt([false, true]); });
for (const name of ["model", "shrink", "drawn"]) $(name).addEventListener("change", () => attempt([$("shrink").checked]));
for (const kind of ["dragover", "dragleave", "drop"]) $("drop").addEventListener(kind, (event) => {
  event.preventDefault();
  $("drop").classList.toggle("over", kind === "dragover");
  if (kind === "drop") choose(event.dataTransfer.files);
});
$("access").addEventListener("submit", (event) => { event.preventDefault(); key = $("key").value; rounds = 0; });

// ---- the clock ------------------------------------------------------------------------------------------------

let rounds = 0;

async function round() {
  if (!document.hidden) {
    try {
      const ready = (await fetch("v2/health/ready", { cache: "no-store" })).ok;
      $("health").textContent = ready ? "ready" : "not ready";
      $("health").className = ready ? "ready" : "not";
      if (!$("version").textContent) $("version").textContent = (await json("v2")).version;
      await look();
      if (rounds++ % SEATS_EVERY === 0) await seats();
    } catch (error) {
      $("health").textContent = error instanceof TypeError ? "no answer" : error.message;
      $("health").className = "not";
    }
  }
  setTimeout(round, EVERY_MS);
}

round();
