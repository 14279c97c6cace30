// Keeps the page as it would be if it were loaded anew: asks now and then whether anything was stored, and if so for
// the page itself, of which the panels that differ are put in place. Nothing is counted here, so nothing can drift.
(function () {
  "use strict";
  const EVERY_MS = 2000;
  const WORDS = { live: "Live", paused: "Paused", waiting: "Waiting" };
  const sign = document.querySelector("[data-live]");
  if (!sign) return;
  const button = sign.closest("button");
  let version = sign.dataset.version;
  let asking = false;

  function show(state, words) {
    if (sign.dataset.state !== state) sign.dataset.state = state;
    const said = words || WORDS[state];
    if (sign.textContent !== said) sign.textContent = said;
  }

  function isPaused() {
    return sign.dataset.state === "paused";
  }

  function isEmpty() {
    return document.querySelector("[data-empty]") !== null;
  }

  async function look() {
    if (asking || isPaused() || document.hidden) return;
    asking = true;
    try {
      const found = await (await fetch(button.dataset.href, { cache: "no-store" })).json();
      if (found.version === null) throw new Error("the database cannot be read");
      if (found.version !== version) {
        await renew();
        version = found.version;
      }
      if (!isPaused()) show(isEmpty() ? "waiting" : "live");
    } catch {
      if (!isPaused()) show("waiting", "No answer");
    } finally {
      asking = false;
    }
  }

  async function renew() {
    const answer = await fetch(location.href, { cache: "no-store" });
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (isPaused()) return;
    const whole = fresh.querySelector("[data-empty], [data-error]") || document.querySelector("[data-empty], [data-error]");
    if (whole) {
      // The first request came, or the database came or went: other panels than before.
      document.querySelector("main").replaceWith(document.adoptNode(fresh.querySelector("main")));
    } else {
      for (const panel of document.querySelectorAll("main [data-panel]")) {
        replace(panel, fresh.querySelector(`main [data-panel="${panel.dataset.panel}"]`));
      }
    }
    for (const list of document.querySelectorAll("header datalist")) {
      const other = fresh.getElementById(list.id);
      if (other && list.id !== "zones") list.replaceChildren(...other.children);
    }
    await window.ccr.drawAll();
  }

  // A panel's chart stays, and is drawn on; its other parts are exchanged where they differ.
  function replace(panel, other) {
    if (!other) return;
    const place = panel.querySelector("[data-figure]");
    const otherPlace = other.querySelector("[data-figure]");
    const open = [...panel.querySelectorAll("details")].map((details) => details.open);
    if (place && otherPlace) {
      const source = place.nextElementSibling;
      if (source.textContent !== otherPlace.nextElementSibling.textContent) {
        source.textContent = otherPlace.nextElementSibling.textContent;
      }
      const [table, otherTable] = [panel.querySelector("details"), other.querySelector("details")];
      if (table && otherTable) table.querySelector("table").replaceWith(otherTable.querySelector("table"));
      return;
    }
    if (panel.innerHTML === other.innerHTML) return;
    const focused = panel.contains(document.activeElement) ? addressOf(document.activeElement) : null;
    panel.replaceChildren(...other.childNodes);
    panel.querySelectorAll("details").forEach((details, n) => (details.open = open[n] ?? details.open));
    if (focused) panel.querySelector(focused)?.focus({ preventScroll: true });
  }

  function addressOf(element) {
    const href = element.getAttribute("href");
    return href === null ? element.localName : `${element.localName}[href="${CSS.escape(href)}"]`;
  }

  function toggle() {
    const paused = !isPaused();
    show(paused ? "paused" : isEmpty() ? "waiting" : "live");
    button.setAttribute("aria-pressed", String(paused));
    button.title = paused ? "Go on" : "Pause";
    if (!paused) look();
  }

  button.addEventListener("click", toggle);
  document.addEventListener("visibilitychange", look);
  setInterval(look, EVERY_MS);
})();
