// What a page without scripts has too, a little handier: the theme, copying, filters that apply themselves, countdowns.
(function () {
  "use strict";
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");

  function isDark() {
    return root.dataset.theme ? root.dataset.theme === "dark" : system.matches;
  }

  function switchTheme() {
    root.dataset.theme = isDark() ? "light" : "dark";
    try {
      localStorage.setItem("theme", root.dataset.theme);
    } catch {
      // Then the choice lasts until the page is left.
    }
    document.dispatchEvent(new Event("themechange"));
  }

  async function copy(button) {
    const code = button.closest(".command").querySelector("code");
    let done = false;
    try {
      await navigator.clipboard.writeText(code.textContent);
      done = true;
    } catch {
      // Over plain http from another machine there is no clipboard: select, so that Ctrl+C does it.
      getSelection().selectAllChildren(code);
    }
    const before = button.textContent;
    button.textContent = done ? "Copied" : "Selected";
    setTimeout(() => (button.textContent = before), 1500);
  }

  function apply(event) {
    const control = event.target;
    const form = control.form;
    if (!form || !form.matches("[data-filters]")) return;
    if (control.name === "range" && control.value === "custom") {
      form.elements.from.focus();
      return;
    }
    submit(form);
  }

  function submit(form) {
    const given = new URLSearchParams();
    for (const [name, value] of new FormData(form)) {
      const dated = name === "from" || name === "to";
      if (value !== "" && !(dated && form.elements.range.value !== "custom")) given.append(name, value);
    }
    location.assign(`${form.action}?${given}`);
  }

  function spell(milliseconds) {
    const minutes = Math.max(0, Math.floor(milliseconds / 60000));
    const [days, hours] = [Math.floor(minutes / 1440), Math.floor(minutes / 60) % 24];
    if (days) return `${days} d ${hours} h`;
    return hours ? `${hours} h ${minutes % 60} min` : `${minutes} min`;
  }

  function countDown() {
    for (const time of document.querySelectorAll("time[data-until]")) {
      const words = spell(new Date(time.dataset.until) - Date.now());
      if (time.textContent !== words) time.textContent = words;
    }
  }

  function offerZone() {
    const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
    const zones = document.getElementById("zones");
    if (!zones || !zone || zone === "UTC") return;
    const option = document.createElement("option");
    option.value = zone;
    zones.append(option);
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-action]");
    if (!button) return;
    if (button.dataset.action === "theme") switchTheme();
    if (button.dataset.action === "copy") copy(button);
  });
  document.addEventListener("change", apply);
  document.addEventListener("submit", (event) => {
    if (!event.target.matches("[data-filters]")) return;
    event.preventDefault(); // the address is left with what was given alone
    submit(event.target);
  });
  system.addEventListener("change", () => document.dispatchEvent(new Event("themechange")));
  offerZone();
  countDown();
  setInterval(countDown, 20000);

  window.ccr = { isDark };
})();
