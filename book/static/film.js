// The grokking film: a slider over the frames of a run moves three panels together, the elements as
// points, the operation table with right and wrong cells, and the accuracy curve. Frames are what was
// measured: nothing is drawn between them.
(() => {
  "use strict";
  const SVG = "http://www.w3.org/2000/svg";
  const INK = "#333333"; // the panels are white in both themes, as the figures are
  const SIDE = 100; // units of the drawings, which scale with the page
  const CURVE = { height: 180, left: 46, right: 12, top: 8, bottom: 40 }; // as wide as there is room
  const SECONDS = { usual: 0.35, calm: 1.2 }; // a frame, when playing
  const SHAPES = { // markers by matplotlib's letters, of radius about 1
    o: "M-1 0a1 1 0 1 0 2 0a1 1 0 1 0-2 0",
    D: "M0-1.2L1.2 0 0 1.2-1.2 0Z",
    s: "M-.9-.9H.9V.9H-.9Z",
    "^": "M0-1.1L1.1.9H-1.1Z",
    v: "M0 1.1L1.1-.9H-1.1Z",
    P: "M-.4-1.1H.4V-.4H1.1V.4H.4V1.1H-.4V.4H-1.1V-.4H-.4Z",
    "*": "M0-1.3L.4-.4 1.3-.3.6.3.8 1.2 0 .7-.8 1.2-.6.3-1.3-.3-.4-.4Z",
    X: "M-1.1-.6L-.6-1.1 0-.5.6-1.1 1.1-.6.5 0 1.1.6.6 1.1 0 .5-.6 1.1-1.1.6-.5 0Z",
    p: "M0-1.1L1.1-.3.7 1H-.7L-1.1-.3Z",
  };
  const percent = (share) => (share === 1 ? "100 %" : `${(Math.floor(1000 * share) / 10).toFixed(1)} %`);
  const number = (value) => value.toLocaleString("en");
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const bit = (packed, i) => (packed[i >> 3] >> (7 - (i & 7))) & 1;

  // An element of the page with attributes, in a parent; `text` is its content.
  function add(parent, name, attributes = {}, text = null) {
    const inSvg = name === "svg" || parent.namespaceURI === SVG;
    const made = inSvg ? document.createElementNS(SVG, name) : document.createElement(name);
    set(made, attributes);
    if (text !== null) made.textContent = text;
    parent.append(made);
    return made;
  }

  function set(element, attributes) {
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  }

  function panel(parent, title, kind) {
    const figure = add(parent, "figure", { class: `film-panel film-${kind}` });
    add(figure, "figcaption", {}, title);
    return figure;
  }

  // A legend's entry: a colour and a name; returns where more can be written.
  function entry(legend, colour, name) {
    const item = add(legend, "li");
    add(item, "span", { class: "film-swatch", style: `background: ${colour}` });
    add(item, "span", {}, name);
    return add(item, "span", { class: "film-count" });
  }

  // Points in the plane; returns what draws frame i.
  function drawPoints(parent, film) {
    const figure = panel(parent, `Output rows: ${film.order}`, "points");
    const label = `Each element is a point; colours and markers tell the ${film.order}.`;
    const box = { viewBox: `${-SIDE} ${-SIDE} ${2 * SIDE} ${2 * SIDE}`, role: "img", "aria-label": label };
    const svg = add(figure, "svg", box);
    const stored = new Int16Array(bytes(film.points).buffer); // x and y of each element, frame by frame
    const n = film.labels.length;
    const at = (i, element) => {
      const place = 2 * (i * n + element);
      return [stored[place], -stored[place + 1]].map((value) => (0.94 * SIDE * value) / 32767);
    };
    const lines = (film.line ?? []).map((element) =>
      add(svg, "line", { stroke: film.marks[film.labels[element]][0], "stroke-width": 0.8 }));
    const points = film.labels.map((label) => {
      const [colour, shape] = film.marks[label];
      return add(svg, "path", { d: SHAPES[shape], fill: colour, stroke: "#ffffff", "stroke-width": 0.2 });
    });
    return (i) => {
      points.forEach((point, element) => {
        const [x, y] = at(i, element);
        point.setAttribute("transform", `translate(${x.toFixed(2)} ${y.toFixed(2)}) scale(2.6)`);
      });
      lines.forEach((line, k) => {
        const [x1, y1] = at(i, film.line[k]);
        const [x2, y2] = at(i, film.line[(k + 1) % n]);
        set(line, { x1, y1, x2, y2 });
      });
    };
  }

  // The operation table, a pixel a cell, and how many cells are of each kind; returns what draws frame i.
  function drawTable(parent, film, kinds) {
    const figure = panel(parent, "The table: x down, y across", "cells");
    const train = bytes(film.train);
    const right = bytes(film.right);
    const perFrame = right.length / film.frames.step.length;
    const columns = film.columns;
    const n = film.cells;
    const size = { class: "film-table", width: columns, height: n / columns, role: "img" };
    const canvas = add(figure, "canvas", size);
    const context = canvas.getContext("2d");
    const image = context.createImageData(columns, n / columns);
    const inks = kinds.map(([, colour]) => [1, 3, 5].map((k) => parseInt(colour.slice(k, k + 2), 16)));
    const legend = add(figure, "ul", { class: "film-legend" });
    const counts = kinds.map(([name, colour]) => entry(legend, colour, `${name}: `));
    return (i) => {
      const found = [0, 0, 0, 0];
      const frame = right.subarray(i * perFrame, (i + 1) * perFrame);
      for (let cell = 0; cell < n; cell++) {
        const kind = 2 * (1 - bit(train, cell)) + (1 - bit(frame, cell));
        found[kind]++;
        image.data.set(inks[kind], 4 * cell);
        image.data[4 * cell + 3] = 255;
      }
      context.putImageData(image, 0, 0);
      found.forEach((count, kind) => (counts[kind].textContent = number(count)));
      const told = kinds.map(([name], kind) => `${name} ${number(found[kind])}`).join(", ");
      canvas.setAttribute("aria-label", `The operation table. Cells: ${told}.`);
    };
  }

  // Accuracies against steps on a log axis, the share that the order explains, and a line at the frame.
  function drawCurve(parent, film, colours) {
    const figure = panel(parent, "Accuracy, and what the order explains of the output rows", "curve");
    const { height, left, right, top, bottom } = CURVE;
    const width = Math.max(280, figure.clientWidth - 20);
    const label = "Training and validation accuracy, and the share of the order, against optimizer steps.";
    const svg = add(figure, "svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
    const last = Math.log10(film.curve.step.at(-1)) || 1;
    const across = (step) => left + ((width - left - right) * Math.log10(step)) / last;
    const up = (share) => height - bottom - (height - top - bottom) * share;
    const write = (x, y, anchor, text) =>
      add(svg, "text", { x, y, "text-anchor": anchor, fill: INK, "font-size": 12 }, text);
    for (const share of [0, 0.5, 1]) {
      const y = up(share);
      add(svg, "line", { x1: left, x2: width - right, y1: y, y2: y, stroke: "#dddddd" });
      write(left - 6, y + 4, "end", `${100 * share} %`);
    }
    for (let power = 0; power <= last; power++) {
      write(across(10 ** power), height - bottom + 16, "middle", number(10 ** power));
    }
    write((left + width) / 2, height - 6, "middle", "optimizer steps");
    const drawn = { train: film.curve, validation: film.curve, order: film.frames };
    for (const [name, shown] of Object.entries(drawn)) {
      const points = shown.step.map((step, k) => `${across(step).toFixed(1)},${up(shown[name][k]).toFixed(1)}`);
      const line = { points: points.join(" "), fill: "none", stroke: colours[name], "stroke-width": 2 };
      add(svg, "polyline", name === "order" ? { ...line, "stroke-dasharray": "5 3" } : line);
    }
    const now = add(svg, "line", { y1: top, y2: height - bottom, stroke: INK, "stroke-width": 1.5 });
    const legend = add(figure, "ul", { class: "film-legend" });
    const names = { train: "training", validation: "validation", order: `${film.order} (dashed)` };
    for (const [name, said] of Object.entries(names)) entry(legend, colours[name], said);
    return (i) => {
      const x = across(film.frames.step[i]);
      set(now, { x1: x, x2: x });
    };
  }

  // The slider, the button and the words of one film; returns what shows frame i and what stops it.
  function drawControls(parent, film, show) {
    const last = film.frames.step.length - 1;
    const row = add(parent, "div", { class: "film-controls" });
    const button = add(row, "button", { type: "button", class: "film-play" }, "Play");
    const range = { type: "range", class: "film-slider", min: 0, max: last, step: 1 };
    const slider = add(row, "input", { ...range, "aria-label": "Frame of the film" });
    const words = add(parent, "p", { class: "film-words" });
    add(words, "span", {}, "step ");
    const step = add(words, "span", { class: "film-step" });
    const rest = add(words, "span");
    let timer = null;
    const stop = () => {
      clearInterval(timer);
      timer = null;
      button.textContent = "Play";
    };
    const go = (i) => {
      slider.value = i;
      const { step: steps, train, validation, order } = film.frames;
      const told = `training ${percent(train[i])}, validation ${percent(validation[i])}`;
      const explained = `${percent(order[i])} of the output rows' variance explained by the ${film.order}`;
      step.textContent = number(steps[i]);
      rest.textContent = `: ${told}; ${explained} (by chance ${percent(film.chance)})`;
      slider.setAttribute("aria-valuetext", `step ${number(steps[i])}: ${told}`);
      show(i);
    };
    slider.addEventListener("input", () => {
      stop();
      go(Number(slider.value));
    });
    button.addEventListener("click", () => {
      if (timer !== null) return stop();
      if (Number(slider.value) === last) go(0);
      button.textContent = "Pause";
      const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
      timer = setInterval(() => {
        go(Number(slider.value) + 1);
        if (Number(slider.value) === last) stop();
      }, 1000 * SECONDS[calm ? "calm" : "usual"]);
    });
    go(film.start);
    return stop;
  }

  companion.film = (element, data) => {
    if (!data.films.length) {
      add(element, "p", { class: "film-words" }, element.querySelector(".companion-note").textContent);
      return;
    }
    const choice = add(element, "fieldset", { class: "film-choice" });
    add(choice, "legend", {}, "Which network");
    const stage = add(element, "div", { class: "film-stage" });
    let stop = () => {};
    const choose = (film) => {
      stop();
      stage.replaceChildren();
      const controls = add(stage, "div");
      const panels = add(stage, "div", { class: "film-panels" });
      const points = drawPoints(panels, film);
      const table = drawTable(panels, film, data.kinds);
      const curve = drawCurve(panels, film, data.colours);
      stop = drawControls(controls, film, (i) => [points, table, curve].forEach((draw) => draw(i)));
    };
    data.films.forEach((film, k) => {
      const label = add(choice, "label");
      const radio = add(label, "input", { type: "radio", name: "film", value: k });
      radio.checked = k === 0;
      radio.addEventListener("change", () => choose(film));
      add(label, "span", {}, ` ${film.name}`);
    });
    choice.hidden = data.films.length === 1;
    choose(data.films[0]);
  };
})();
