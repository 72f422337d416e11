"use strict";
// One picture at a time to a model: what it answers, drawn over the picture.

const COLOURS = ["#2f6fd0", "#e8912d", "#2c9c6a", "#b3261e", "#8250df", "#0e7490", "#be185d", "#4d7c0f"];
let inputs = {}; // width and height by model, until another version of any serves
let chosen = null; // the picture, as a File
let latest = 0; // number of the newest attempt: answers to older ones are not shown

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

async function send(model, picture, shrinking) {
  const began = performance.now();
  const size = shrinking ? await sides(model) : null;
  // what this browser cannot read goes as it is: the server says what is wrong with it
  const body = size ? await shrunk(picture, size).catch(() => picture) : picture;
  const path = `predictions/${encodeURIComponent(model)}`;
  const answer = await ask(path, { method: "POST", body, headers: { Accept: "application/json" } });
  const text = await answer.text();
  const sent = { body, text, ms: performance.now() - began, server: answer.headers.get("Server-Timing") || "" };
  const found = JSON.parse(text);
  // the classes of pixels are drawn by the server: the answer has their areas only
  const overlay = found.classes && (await ask(path, { method: "POST", body, headers: { Accept: "image/png" } }));
  return { ...sent, found, overlay: overlay && (await overlay.blob()) };
}

function serverTime(header) {
  return [...header.matchAll(/([\w-]+);dur=([\d.]+)/g)].map(([, name, ms]) => `${name} ${Number(ms).toFixed(1)}`).join(", ");
}

const entries = ({ predictions, classes, detections, keypoints, text, probability }) =>
  predictions || classes || detections || keypoints || (text === undefined ? [] : [{ label: text, probability }]);

function list(found) {
  $("answers").replaceChildren(...entries(found).slice(0, 10).map((one) => {
    const share = one.probability ?? one.area ?? 0;
    const line = element("li");
    const meter = element("meter");
    meter.value = share;
    line.append(element("span", one.label || `class ${one.class_id}`), meter, element("span", number(share, 3), "n"));
    return line;
  }));
  if (!entries(found).length) $("answers").replaceChildren(element("li", "nothing found"));
}

/** Draw the picture and what was found in it, whose places are in pixels of what was sent. */
async function draw(original, { body, overlay, found }) {
  const canvas = $("preview");
  const [picture, sent] = await Promise.all([overlay || original, body].map((one) => createImageBitmap(one).catch(() => null)));
  canvas.hidden = !picture || !sent; // a format that only the server reads
  if (canvas.hidden) return;
  const wide = 480 * Math.min(1, picture.width / picture.height) * (devicePixelRatio || 1);
  canvas.width = Math.round(wide);
  canvas.height = Math.round((wide * picture.height) / picture.width);
  const scale = canvas.width / sent.width;
  const drawing = canvas.getContext("2d");
  drawing.drawImage(picture, 0, 0, canvas.width, canvas.height);
  const thick = Math.max(2, canvas.width / 300);
  Object.assign(drawing, { lineWidth: thick, font: `${7 * thick}px system-ui`, textBaseline: "bottom" });
  const dot = ([x, y], colour) => {
    drawing.fillStyle = colour;
    drawing.beginPath();
    drawing.arc(x * scale, y * scale, 1.5 * thick, 0, 7);
    drawing.fill();
  };
  for (const one of [...(found.detections || [])].reverse()) { // the best comes last and lies on top
    const colour = COLOURS[one.class_id % COLOURS.length];
    const corners = one.polygon || [[one.box[0], one.box[1]], [one.box[2], one.box[1]], [one.box[2], one.box[3]], [one.box[0], one.box[3]]];
    drawing.strokeStyle = drawing.fillStyle = colour;
    drawing.beginPath();
    for (const [x, y] of corners) drawing.lineTo(x * scale, y * scale);
    drawing.closePath();
    drawing.stroke();
    const words = ` ${one.label || one.class_id} ${number(one.probability, 2)} `;
    const [left, top] = [corners[0][0] * scale, Math.max(9 * thick, corners[0][1] * scale)];
    drawing.fillRect(left - thick / 2, top - 8.5 * thick, drawing.measureText(words).width, 8.5 * thick);
    drawing.fillStyle = "#fff";
    drawing.fillText(words, left, top);
    for (const point of one.keypoints || []) dot(point.point || point, colour);
  }
  (found.keypoints || []).forEach((one, place) => dot(one.point, COLOURS[place % COLOURS.length]));
}

function clear() {
  $("problem").textContent = "";
  $("result").hidden = $("sent").hidden = $("raw").hidden = true;
  $("answers").replaceChildren();
}

async function attempt(ways) {
  if (!chosen) return;
  const mine = ++latest;
  const model = $("model").value;
  const picture = chosen;
  if (!model) {
    clear();
    $("problem").textContent = "no model is ready";
    return;
  }
  $("again").disabled = true;
  $("doing").textContent = `asking ${model} …`;
  try {
    const rows = [];
    for (const shrinking of ways) {
      const sent = await send(model, picture, shrinking);
      if (mine !== latest) return;
      rows.push([shrinking ? "shrunk here" : "as it is", [number(sent.body.size), "n"], [number(sent.ms, 1), "n"], serverTime(sent.server)]);
      clear();
      list(sent.found);
      await draw(picture, sent);
      $("raw").querySelector("pre").textContent = sent.text.length > 20000 ? `${sent.text.slice(0, 20000)}…` : sent.text;
      $("result").hidden = $("raw").hidden = false;
    }
    fill("sent", rows);
    $("sent").hidden = false;
    $("doing").textContent = "";
  } catch (error) {
    if (mine !== latest) return;
    clear();
    $("doing").textContent = "";
    $("problem").textContent = error instanceof TypeError ? "the server does not answer" : error.message;
  }
  $("again").disabled = false;
}

function choose(files) {
  if (!files.length) return;
  chosen = files[0];
  attempt([$("shrink").checked]);
}

/** How a program asks the chosen model, and what the server says of it. */
async function describe() {
  const model = $("model").value;
  const base = new URL(".", location.href).href.replace(/\/$/, "");
  const secret = key ? ' -H "Authorization: Bearer $KEY"' : "";
  $("curl").textContent = `curl${secret} --data-binary @picture.jpg ${base}/predictions/${encodeURIComponent(model)}`;
  $("python").textContent = [
    "import cpuserve", "",
    `with cpuserve.Client("${base}"${key ? ", api_key=KEY" : ""}) as client:`,
    `    print(client.predict("${model}", open("picture.jpg", "rb").read()))`,
  ].join("\n");
  if (!model || !$("details").open) return;
  const path = `v2/models/${encodeURIComponent(model)}`;
  const found = await Promise.all([json(path), json(`${path}/config`)]).catch((error) => [error.message]);
  $("details").querySelector("pre").textContent = found.map((one) => (typeof one === "string" ? one : JSON.stringify(one, null, 1))).join("\n");
}

$("file").addEventListener("change", ({ target }) => choose(target.files));
$("try").addEventListener("submit", (event) => { event.preventDefault(); attempt([false, true]); });
for (const name of ["model", "shrink"]) $(name).addEventListener("change", () => attempt([$("shrink").checked]));
$("model").addEventListener("change", describe);
$("details").addEventListener("toggle", describe);
for (const kind of ["dragover", "dragleave", "drop"]) $("drop").addEventListener(kind, (event) => {
  event.preventDefault();
  $("drop").classList.toggle("over", kind === "dragover");
  if (kind === "drop") choose(event.dataTransfer.files);
});
for (const button of document.querySelectorAll("[data-copies]")) button.addEventListener("click", async () => {
  await navigator.clipboard.writeText($(button.dataset.copies).textContent);
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = "Copy"), 1500);
});
