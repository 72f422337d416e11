"use strict";
// Looks at the server again and again, and says when it has gone.

let rounds = 0;
let gone = 0; // looks in a row that nobody answered

async function round() {
  if (!document.hidden) {
    try {
      const answer = await fetch("v2/health/ready", { cache: "no-store" });
      gone = 0;
      $("health").textContent = answer.ok ? "ready" : "not ready";
      $("health").className = answer.ok ? "ready" : "not";
      document.body.classList.remove("gone");
      if (!$("version").textContent) $("version").textContent = (await json("v2")).version;
      await look();
      if (rounds++ % SEATS_EVERY === 0) await seats();
    } catch (error) {
      gone += error instanceof TypeError;
      $("health").textContent = gone ? "the server is gone: what is shown is old" : error.message;
      $("health").className = "not";
      document.body.classList.toggle("gone", gone > 0);
    }
  }
  setTimeout(round, EVERY_MS);
}

$("access").addEventListener("submit", (event) => { event.preventDefault(); key = $("key").value; rounds = 0; describe(); });
round();
