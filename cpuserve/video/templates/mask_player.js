"use strict";
// Plays comments over the video, and hides them where the mask track says that people are.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const part = (name) => document.getElementById(name);
  const video = part("video");
  const layer = part("comments");
  const outside = part("outside");
  const frame = `M0 0h${data.width}v${data.height}h-${data.width}z`;
  let shown = null;

  // The last moment at or before a time; -1 before the first.
  function place(time) {
    let low = 0;
    let high = data.times.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (data.times[middle] <= time) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  // A frame's time may lie a little below the rounded one in the track.
  function draw(time) {
    const found = place(time + 0.002);
    if (found === shown) return;
    shown = found;
    outside.setAttribute("d", frame + (found < 0 ? "" : data.paths[found]));
  }

  if ("requestVideoFrameCallback" in HTMLVideoElement.prototype) {
    const next = (_now, metadata) => {
      draw(metadata.mediaTime);
      video.requestVideoFrameCallback(next);
    };
    video.requestVideoFrameCallback(next);
  } else {
    const next = () => {
      draw(video.currentTime);
      requestAnimationFrame(next);
    };
    next();
  }
  draw(0);
  layer.classList.add("behind");

  const styled = (comment) => ({
    text: comment.text,
    time: comment.time,
    mode: comment.mode,
    style: { color: comment.colour },
  });
  const danmaku = new Danmaku({
    container: layer,
    media: video,
    comments: data.comments.map(styled),
    engine: "dom",
  });
  new ResizeObserver(() => danmaku.resize()).observe(layer);

  part("write").addEventListener("submit", (event) => {
    event.preventDefault();
    const text = part("text").value.trim();
    if (!text) return;
    const comment = { time: video.currentTime, text, colour: part("colour").value, mode: "rtl" };
    data.comments.push(comment);
    danmaku.emit(styled(comment));
    part("text").value = "";
  });
  part("show").addEventListener("change", (event) => {
    if (event.target.checked) danmaku.show();
    else danmaku.hide();
  });
  part("behind").addEventListener("change", (event) => {
    layer.classList.toggle("behind", event.target.checked);
  });
  video.addEventListener("loadedmetadata", () => {
    part("stage").style.setProperty("--ratio", video.videoWidth / video.videoHeight);
  });
  part("whole").addEventListener("click", () => part("screen").requestFullscreen());
  part("save").addEventListener("click", () => {
    const lines = data.comments
      .slice()
      .sort((a, b) => a.time - b.time)
      .map((comment) => JSON.stringify(comment) + "\n");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob(lines, { type: "application/jsonl" }));
    link.download = "comments.jsonl";
    link.click();
    URL.revokeObjectURL(link.href);
  });
  video.addEventListener("error", () => {
    part("failed").hidden = false;
  });
})();
