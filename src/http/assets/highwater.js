// Keeps a page live: fetches its changing part every two seconds and swaps it
// in. Rests while the tab is hidden; says so when the server does not answer.
(() => {
  "use strict";
  const PERIOD = 2000;
  const PATIENCE = 8000;
  const live = document.getElementById("live");
  const liveness = document.getElementById("liveness");
  if (!live || !liveness) return;

  let timer = 0;
  let busy = false;
  let shown = null;
  let lost = null;

  const tell = (state, words) => {
    if (liveness.dataset.state === state && liveness.textContent === words) return;
    liveness.dataset.state = state;
    liveness.textContent = words;
    liveness.hidden = false;
  };

  // What the reader opened or stands on survives the swap.
  const swap = (html) => {
    if (html === shown) return;
    const selection = document.getSelection();
    if (selection && !selection.isCollapsed && live.contains(selection.anchorNode)) return;
    const open = [...live.querySelectorAll("details[open][id]")].map((d) => d.id);
    const focused = live.contains(document.activeElement) ? document.activeElement : null;
    const key = focused && (focused.id || focused.getAttribute("href"));
    const summary = focused && focused.closest("details");
    live.innerHTML = html;
    shown = html;
    for (const id of open) {
      const details = document.getElementById(id);
      if (details) details.open = true;
    }
    let again = null;
    if (focused && focused.tagName === "SUMMARY" && summary) {
      again = document.getElementById(summary.id)?.querySelector("summary");
    } else if (key) {
      again = [...live.querySelectorAll("a, [id]")].find(
        (e) => e.id === key || e.getAttribute("href") === key);
    }
    if (again) again.focus({ preventScroll: true });
  };

  const refresh = async () => {
    if (busy || document.hidden) return;
    busy = true;
    try {
      const answer = await fetch(location.href, {
        headers: { "X-Highwater-Fragment": "1" },
        cache: "no-store",
        redirect: "manual",
        signal: AbortSignal.timeout(PATIENCE),
      });
      if (answer.type === "opaqueredirect") {
        location.reload();
        return;
      }
      const kind = answer.headers.get("content-type") || "";
      if (!kind.startsWith("text/html")) throw new Error(String(answer.status));
      swap(await answer.text());
      lost = null;
      tell("live", "live");
    } catch {
      lost = lost || new Date();
      tell("lost", "not live since " + lost.toLocaleTimeString());
    } finally {
      busy = false;
    }
  };

  const schedule = () => {
    clearInterval(timer);
    if (document.hidden) {
      tell("paused", "paused");
      return;
    }
    refresh();
    timer = setInterval(refresh, PERIOD);
  };
  document.addEventListener("visibilitychange", schedule);
  tell("live", "live");
  if (document.hidden) schedule();
  else timer = setInterval(refresh, PERIOD);
})();
