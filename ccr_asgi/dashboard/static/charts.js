// Draws the figures that stand in the page as JSON, in the looks of the theme; again when either changes.
(function () {
  "use strict";
  const CONFIG = { displayModeBar: false, responsive: true, showTips: false };

  function templates() {
    const holder = document.getElementById("themes");
    return holder ? JSON.parse(holder.textContent) : {};
  }

  async function draw(place, template) {
    const source = place.nextElementSibling.textContent;
    const figure = JSON.parse(source);
    // react() draws the first time too, and later moves no more than has changed.
    await Plotly.react(place, figure.data, { ...figure.layout, template, autosize: true }, CONFIG);
    place.dataset.drawn = "true";
  }

  function drawAll() {
    const template = templates()[window.ccr.isDark() ? "dark" : "light"];
    return Promise.all([...document.querySelectorAll("[data-figure]")].map((place) => draw(place, template)));
  }

  window.ccr.drawAll = drawAll;
  document.addEventListener("themechange", drawAll);
  document.addEventListener("DOMContentLoaded", drawAll); // deferred scripts come before it, Plotly the last of them
})();
