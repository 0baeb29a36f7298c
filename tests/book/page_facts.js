// What a reader sees of a page, as data: test_browser.py runs this in every page and holds it to rules.
() => {
  "use strict";
  const canvas = document.createElement("canvas");
  const pen = Object.assign(canvas, { width: 1, height: 1 }).getContext("2d", { willReadFrequently: true });
  const known = new Map();

  // Any CSS colour as [red, green, blue, alpha], 0 to 255 and 0 to 1: painted, since CSS writes them in many ways.
  function rgba(colour) {
    if (!known.has(colour)) {
      pen.clearRect(0, 0, 1, 1);
      pen.fillStyle = colour;
      pen.fillRect(0, 0, 1, 1);
      const [r, g, b, a] = pen.getImageData(0, 0, 1, 1).data;
      known.set(colour, [r, g, b, a / 255]);
    }
    return known.get(colour);
  }

  const over = (top, below) => below.map((value, i) => top[3] * top[i] + (1 - top[3]) * value);

  // The colour behind an element: the backgrounds of all that it lies in, from the outermost inwards.
  function behind(element) {
    const layers = [];
    for (let at = element; at; at = at.parentElement) {
      const style = getComputedStyle(at);
      const colour = rgba(style.backgroundColor);
      layers.push([...colour.slice(0, 3), colour[3] * style.opacity]);
      if (style.backgroundImage.includes("gradient")) return null; // no single colour
    }
    return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255]);
  }

  // Relative luminance and contrast as WCAG 2 defines them.
  function luminance(colour) {
    const [r, g, b] = colour.map((value) => {
      const share = value / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  }

  function contrast(element, pseudo) {
    const style = getComputedStyle(element, pseudo);
    const background = behind(element);
    if (!background) return null;
    const ink = rgba(element instanceof SVGElement ? style.fill : style.color);
    let opacity = 1;
    for (let at = element; at; at = at.parentElement) opacity *= getComputedStyle(at).opacity;
    const text = over([...ink.slice(0, 3), ink[3] * opacity], background);
    const [light, dark] = [luminance(text), luminance(background)].sort((a, b) => b - a);
    return (light + 0.05) / (dark + 0.05);
  }

  function isSeen(element) {
    const box = element.getBoundingClientRect();
    const shown = element.checkVisibility({ opacityProperty: true, visibilityProperty: true });
    return shown && box.width > 1 && box.height > 1; // 1 pixel: text for screen readers alone
  }

  const path = (element) => {
    const names = [];
    for (let at = element; at && names.length < 4; at = at.parentElement) {
      names.unshift(at.localName + [...at.classList].map((name) => `.${name}`).join(""));
    }
    return names.join(" > ");
  };

  // Text that is too faint, a line a place: 4.5 is asked for, 3 of large text; what is switched off is exempt.
  function faint() {
    const found = new Map();
    const judge = (element, text, pseudo) => {
      if (element.closest(":disabled, [aria-disabled=true], noscript") || !isSeen(element)) return;
      const style = getComputedStyle(element);
      const size = parseFloat(style.fontSize);
      const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
      const ratio = contrast(element, pseudo);
      if (ratio === null || ratio >= (large ? 3 : 4.5)) return;
      found.set(`${ratio.toFixed(2)} in ${path(element)}`, text.trim().slice(0, 30));
    };
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
      const { parentElement, data } = texts.currentNode;
      if (data.trim()) judge(parentElement, data);
    }
    for (const field of document.querySelectorAll("input, select, textarea")) {
      if (field.value && !["range", "checkbox", "radio"].includes(field.type)) judge(field, field.value);
      if (field.placeholder) judge(field, field.placeholder, "::placeholder");
    }
    return [...found].map(([place, text]) => `${place}: ${text}`);
  }

  // Elements that reach beyond the right edge of the window, and lie in no box that scrolls or cuts them.
  function wide() {
    const edge = document.documentElement.clientWidth + 1;
    if (document.documentElement.scrollWidth <= edge) return [];
    const boxed = (element) => {
      for (let at = element.parentElement; at && at !== document.body; at = at.parentElement) {
        if (getComputedStyle(at).overflowX !== "visible") return true;
      }
      return false;
    };
    const beyond = [...document.body.querySelectorAll("*")].filter(
      (element) => isSeen(element) && element.getBoundingClientRect().right > edge && !boxed(element),
    );
    return [`page: ${document.documentElement.scrollWidth} pixels`, ...beyond.slice(0, 5).map(path)];
  }

  // Pictures shown so small that their words cannot be read; a width of 0 is that of a picture not loaded.
  function small() {
    const pictures = [...document.querySelectorAll(".bd-content figure img")].filter(isSeen);
    const asked = (image) => Math.min(image.naturalWidth / 1.75, 500);
    return pictures.filter((image) => image.clientWidth < asked(image) - 1).map((image) => image.src);
  }

  const formulas = [...document.querySelectorAll(".math")];
  return {
    faint: faint(),
    wide: wide(),
    small: small(),
    broken: [...document.images].filter((image) => !image.naturalWidth).map((image) => image.src),
    raw: formulas.filter((one) => !one.querySelector("mjx-container")).map((one) => one.textContent),
    formulas: formulas.length,
    waiting: [...document.querySelectorAll("[data-companion]")]
      .filter((part) => part.dataset.ready !== "yes")
      .map((part) => part.dataset.companion),
  };
}
