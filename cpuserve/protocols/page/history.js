"use strict";
// Lines of the last minutes: what came, how long it took, what waited, what it cost, what was refused.

const KEPT_MS = 5 * 60 * 1000;
const WIDE = 300, HIGH = 60;
const LINES = [
  ["images/s", [["", (look) => look.images]], 1],
  ["latency, ms", [["p50", (look) => look.p50], ["p99", (look) => look.p99]], 1],
  ["waiting requests", [["", (look) => look.queue]], 0],
  ["CPUs", [["", (look) => look.cpus]], 2],
  ["memory, MiB", [["", (look) => look.memory]], 0],
  ["refused/s", [["", (look) => look.refused]], 1],
];
const looks = []; // the oldest first

const total = (text, name) =>
  [...text.matchAll(new RegExp(`^${name}(?:\\{.*\\})? ([0-9.e+]+)$`, "gm"))].reduce((sum, [, value]) => sum + Number(value), 0);

/** All models' buckets in one histogram. */
function together(buckets) {
  const all = Object.values(buckets);
  return all.length ? all[0].map(([end], place) => [end, all.reduce((sum, one) => sum + (one[place]?.[1] ?? 0), 0)]) : [];
}

/** Keep what two looks tell, and draw it. */
function keep(now, then, metrics) {
  now.images = Object.values(now.by).reduce((sum, row) => sum + row.inference_count, 0);
  now.cpu = total(metrics, "process_cpu_seconds_total");
  now.refusals = total(metrics, "cpuserve_refused_total");
  now.all = together(now.buckets);
  if (then && now.cpu >= then.cpu && now.images >= then.images) { // else a worker was replaced
    const seconds = (now.at - then.at) / 1000;
    const old = then.all.length === now.all.length ? then.all : null;
    looks.push({
      at: now.at,
      images: (now.images - then.images) / seconds,
      p50: old && percentile(now.all, old, 0.5),
      p99: old && percentile(now.all, old, 0.99),
      queue: total(metrics, "cpuserve_queue_depth"),
      cpus: (now.cpu - then.cpu) / seconds,
      memory: total(metrics, "process_resident_memory_bytes") / 2 ** 20,
      refused: (now.refusals - then.refusals) / seconds,
    });
  }
  while (looks.length && now.at - looks[0].at > KEPT_MS) looks.shift();
  $("history").replaceChildren(...LINES.map(chart));
}

function drawn(tag, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function chart([title, lines, digits]) {
  const figure = element("figure");
  const values = lines.flatMap(([, of]) => looks.map(of)).filter(Number.isFinite);
  const most = Math.max(...values, 0) || 1;
  const latest = lines.map(([word, of]) => {
    const value = looks.length ? of(looks.at(-1)) : NaN;
    return `${word && `${word} `}${Number.isFinite(value) ? number(value, digits) : "–"}`;
  });
  figure.append(element("figcaption", title), element("strong", latest.join(", ")));
  const picture = drawn("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, preserveAspectRatio: "none", role: "img", "aria-label": `${title}: ${latest.join(", ")}` });
  const end = looks.at(-1)?.at ?? 0;
  const long = Math.max(60000, end - (looks[0]?.at ?? end));
  lines.forEach(([, of], place) => {
    const points = looks.filter((look) => Number.isFinite(of(look)))
      .map((look) => `${(WIDE * (1 - (end - look.at) / long)).toFixed(1)},${(HIGH - 3 - ((HIGH - 6) * of(look)) / most).toFixed(1)}`);
    picture.append(drawn("polyline", { points: points.join(" "), class: `line${place}` }));
  });
  figure.append(picture, element("small", `up to ${number(most, digits)}`));
  return figure;
}
