// Loaded by every page: finds the widgets of the page and loads the scripts that draw them, each once.
// Works from a plain file server and from a folder alike: scripts are loaded as scripts, never fetched.
(() => {
  "use strict";
  const base = new URL(".", document.currentScript.src).href;
  const loading = new Map();
  const companion = (window.companion = {
    // Load a script of the site's static folder; resolves once it has run.
    load(file) {
      if (!loading.has(file)) {
        loading.set(file, new Promise((resolve, reject) => {
          const script = document.createElement("script");
          script.src = base + file;
          script.onload = resolve;
          script.onerror = () => reject(new Error(`${file} cannot be loaded`));
          document.head.append(script);
        }));
      }
      return loading.get(file);
    },
    // Call back now, and whenever the reader changes between the light and the dark theme.
    onTheme(callback) {
      callback();
      const watched = { attributes: true, attributeFilter: ["data-theme"] };
      new MutationObserver(callback).observe(document.documentElement, watched);
    },
    // The value of a colour of the theme, e.g. "--pst-color-text-base".
    color(name) {
      return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    },
  });

  async function draw(element) {
    const name = element.dataset.companion;
    const data = JSON.parse(element.querySelector('script[type="application/json"]').textContent);
    await companion.load(`${name}.js`);
    element.querySelector(".companion-note")?.classList.add("companion-replaced");
    await companion[name](element, data);
    element.dataset.ready = "yes";
  }

  // A picture leads to itself alone, which a phone can enlarge. It has 144 dots an inch; at 84 % of its size on
  // paper its smallest words are 10 pixels high, which the style asks for where the page is narrower.
  function link(image) {
    const self = document.createElement("a");
    self.className = "picture";
    self.href = image.src;
    image.replaceWith(self);
    self.append(image);
    const size = () => {
      const legible = Math.round(image.naturalWidth / 1.75);
      self.style.setProperty("--legible", `${legible}px`);
      self.classList.toggle("wide", legible > 400);
    };
    if (image.complete) size();
    else image.addEventListener("load", size);
  }

  // Sphinx asks for a name such as grokking_core.data by a selector whose dots it does not escape; what it then
  // finds of a module is an empty mark. The excerpt is of what is named, or of the page.
  function excerpt(search) {
    const plain = search.htmlToText;
    search.htmlToText = (html, anchor) =>
      (anchor && plain(html, `#${CSS.escape(anchor.slice(1))}`)) || plain(html);
  }

  document.addEventListener("DOMContentLoaded", () => {
    if (typeof Search !== "undefined") excerpt(Search);
    // From a folder a browser lets no page read another: the search then lists pages without excerpts.
    const isSearch = document.getElementById("search-results");
    if (isSearch && location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
    for (const image of document.querySelectorAll(".bd-content figure img")) link(image);
    for (const element of document.querySelectorAll("[data-companion]")) draw(element);
  });
})();
