// Enlarges a frame of the flame graph to the whole width; the frames above it stay as the way back.
(() => {
  const flame = document.getElementById("flame");
  if (!flame) return;
  const frames = [...flame.querySelectorAll("g")].map((node) => ({
    node,
    rect: node.querySelector("rect"),
    text: node.querySelector("text"),
    x: +node.dataset.x,
    w: +node.dataset.w,
    depth: +node.dataset.d,
    name: node.dataset.n,
  }));
  const whole = flame.viewBox.baseVal.width;
  const least = 1e-5;
  const show = (chosen) => {
    for (const frame of frames) {
      const around = frame.depth < chosen.depth && frame.x <= chosen.x + least && frame.x + frame.w >= chosen.x + chosen.w - least;
      const inside = frame.depth >= chosen.depth && frame.x >= chosen.x - least && frame.x + frame.w <= chosen.x + chosen.w + least;
      frame.node.style.display = around || inside ? "" : "none";
      const x = around ? 0 : ((frame.x - chosen.x) / chosen.w) * whole;
      const width = around ? whole : (frame.w / chosen.w) * whole;
      const room = Math.floor((width - 8) / 6.3);
      frame.rect.setAttribute("x", x);
      frame.rect.setAttribute("width", Math.max(width - 0.5, 0.3));
      frame.text.setAttribute("x", x + 4);
      frame.text.textContent = room < 3 ? "" : frame.name.length <= room ? frame.name : frame.name.slice(0, room - 1) + "\u2026";
    }
  };
  for (const frame of frames) frame.node.addEventListener("click", () => show(frame));
})();
