// The pictures of the page on which readers train, and what they are made with.
//
// Each is made once; a state changes attributes of what is there. Nothing is taken away or added while a run
// trains but the grid of a chart whose axes have grown, and no size is asked for between two changes.
companion.trainerPictures = (() => {
  "use strict";
  const SVG = "http://www.w3.org/2000/svg";
  const INK = "#333333"; // the panels are white in both themes, as the figures are
  const GRID = "#dddddd";
  const CHART = { height: 190, left: 54, right: 22, top: 10, bottom: 38 };
  const SIDES = { train: "training", validation: "validation" };

  const number = (value) => value.toLocaleString("en");
  const percent = (share) => (share === 1 ? "100 %" : `${(Math.floor(1000 * share) / 10).toFixed(1)} %`);

  function set(element, attributes) {
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  }

  // A text of the page, changed only where it is another: readers aloud, and the layout, begin anew otherwise.
  function write(element, text) {
    if (element.textContent !== text) element.textContent = text;
  }

  // An element of the page with attributes and children, which may be texts.
  function made(name, attributes = {}, ...children) {
    const element = set(document.createElement(name), attributes);
    element.append(...children);
    return element;
  }

  function drawn(parent, name, attributes = {}, text = null) {
    const element = set(document.createElementNS(SVG, name), attributes);
    if (text !== null) element.textContent = text;
    parent.append(element);
    return element;
  }

  function panel(parent, title, kind) {
    const figure = made("figure", { class: `film-panel trainer-${kind}` }, made("figcaption", {}, title));
    parent.append(figure);
    return figure;
  }

  function legend(figure, entries) {
    const list = made("ul", { class: "film-legend" });
    figure.append(list);
    return entries.map(([name, colour]) => {
      const count = made("span", { class: "film-count" });
      const swatch = made("span", { class: "film-swatch", style: `background: ${colour}` });
      list.append(made("li", {}, swatch, name, count));
      return count;
    });
  }

  const written = (points) => points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ");

  // The elements by their numbers, joined along the circle, a stretch of it a colour; returns what draws a state.
  function drawPlane(parent, colours) {
    const figure = panel(parent, "", "plane");
    const svg = drawn(figure, "svg", { viewBox: "-100 -100 200 200", role: "img" });
    let [circle, stretches, labels] = [null, [], []];

    function begin({ plane: { n, place }, table }) {
      const off = table.first === 1 && place[0] < 0 ? 1 : 0; // 0 is no element of the circle
      if (circle === `${n} ${off} ${place}`) return;
      circle = `${n} ${off} ${place}`;
      svg.replaceChildren();
      stretches = colours.map((stroke) => drawn(svg, "polyline", { fill: "none", stroke }));
      const style = { "font-size": 8, "text-anchor": "middle", fill: INK };
      const halo = { stroke: "#ffffff", "stroke-width": 2, "paint-order": "stroke" };
      labels = [...place.keys()].slice(off).map((x) => [x, drawn(svg, "text", { ...style, ...halo }, x)]);
    }

    return (state) => {
      begin(state);
      const { frequency, share, n, place, points } = state.plane;
      const title = `Embeddings in the plane of frequency ${frequency}, ${percent(share)} of their variance`;
      write(figure.firstChild, title);
      svg.setAttribute("aria-label", `${title}; by chance ${percent(2 / (n - 1))}.`);
      const size = Math.max(...points.map(Math.abs)) || 1;
      const at = (x) => [(90 * points[2 * x]) / size, (-90 * points[2 * x + 1]) / size];
      const along = (x) => (frequency * place[x]) % n;
      const order = [...place.keys()].filter((x) => place[x] >= 0).sort((a, b) => along(a) - along(b)).map(at);
      const ends = [...stretches.keys(), stretches.length].map((k) => Math.ceil((k * n) / stretches.length));
      stretches.forEach((line, k) => {
        const part = [...order, order[0]].slice(ends[k], ends[k + 1] + 1);
        line.setAttribute("points", written(part));
      });
      for (const [x, label] of labels) {
        const [cx, cy] = at(x);
        label.setAttribute("transform", `translate(${cx.toFixed(1)} ${(cy + 2.8).toFixed(1)})`);
      }
    };
  }

  // The operation table, a pixel a cell; returns what draws a state.
  function drawTable(parent, kinds) {
    const figure = panel(parent, "The table: x down, y across", "cells");
    const canvas = made("canvas", { class: "film-table", role: "img" });
    figure.append(canvas);
    const context = canvas.getContext("2d");
    const inks = Uint32Array.from(kinds, ([, colour]) => {
      const [red, green, blue] = [1, 3, 5].map((k) => parseInt(colour.slice(k, k + 2), 16));
      return new Uint32Array(Uint8Array.of(red, green, blue, 255).buffer)[0];
    });
    const counts = legend(figure, kinds.map(([name, colour]) => [`${name}: `, colour]));
    return ({ right, table: { isTrain, columns, n } }) => {
      if (canvas.width !== columns || canvas.height !== n / columns) set(canvas, { width: columns, height: n / columns });
      const [image, found] = [context.createImageData(columns, n / columns), [0, 0, 0, 0]];
      const cells = new Uint32Array(image.data.buffer);
      for (let cell = 0; cell < n; cell++) {
        const kind = 2 * (1 - isTrain[cell]) + (1 - right[cell]);
        found[kind]++;
        cells[cell] = inks[kind];
      }
      context.putImageData(image, 0, 0);
      found.forEach((count, kind) => write(counts[kind], number(count)));
      const words = kinds.map(([name], kind) => `${name} ${number(found[kind])}`).join(", ");
      canvas.setAttribute("aria-label", `The operation table. Cells: ${words}.`);
    };
  }

  // Two charts over the same steps on a log axis: {draw, measure}; `draw` takes curves, and a record's beside them.
  function drawCurves(parent, colours, threshold) {
    const accuracy = chart(parent, "Accuracy", "accuracy");
    const loss = chart(parent, "Loss in nats", "loss");
    const names = Object.entries(SIDES).map(([side, name]) => [name, colours[side]]);
    legend(accuracy.figure, [...names, ["the package's record (dashed)", INK]]);
    const ofRecord = accuracy.figure.querySelector("li:last-child");
    const key = (side, quantity) => `${side}_${quantity}`;
    const measure = () => [accuracy, loss].forEach((each) => each.measure());
    const draw = (rows, record, milestones) => {
      const shown = [rows, ...(record ? [record.rows] : [])];
      ofRecord.hidden = !record;
      const last = Math.max(1000, ...shown.map((some) => some.at(-1).step));
      const end = [1, 2, 5, 10].map((m) => m * 10 ** Math.floor(Math.log10(last))).find((each) => each >= last);
      const losses = shown.flat().flatMap((row) => [row.train_loss, row.validation_loss]).filter((value) => value > 0);
      const powers = losses.map(Math.log10).filter(Number.isFinite);
      const ends = [Math.floor(Math.min(-1, ...powers)), Math.ceil(Math.max(1, ...powers))];
      accuracy.begin(end, [0, 1], [0, 0.5, 1], (share) => `${100 * share} %`);
      loss.begin(end, ends, ticks(ends), (power) => (power < -3 ? `1e${power}` : String(10 ** power)));
      for (const [side, colour] of Object.entries(colours)) {
        for (const [some, dashed] of shown.map((each, i) => [each, i === 1])) {
          accuracy.line(some, (row) => row[key(side, "accuracy")], { side, colour, dashed });
          loss.line(some, (row) => Math.log10(row[key(side, "loss")]), { side, colour, dashed });
        }
        const anchor = side === "train" ? "start" : "end";
        if (milestones[side]) accuracy.mark(milestones[side], threshold, { side, colour, anchor });
      }
      accuracy.end(`Accuracy to step ${number(rows.at(-1).step)}.`);
      loss.end(`Loss to step ${number(rows.at(-1).step)}.`);
    };
    return { draw, measure };
  }

  function ticks([low, high]) {
    const every = Math.ceil((high - low) / 4);
    return Array.from({ length: high - low + 1 }, (_, i) => high - i).filter((_, i) => i % every === 0);
  }

  // A chart: `begin` with its axes, `line` and `mark` what is on it, `end`; what was on it before and is not
  // drawn again is taken away.
  function chart(parent, title, kind) {
    const figure = panel(parent, title, kind);
    const svg = drawn(figure, "svg", { role: "img" });
    const [grid, content] = [drawn(svg, "g"), drawn(svg, "g")];
    const { height, left, right, top, bottom } = CHART;
    let [width, axes, across, up] = [260, "", null, null];
    const [there, fresh] = [new Map(), new Set()];
    const label = (within, x, y, anchor, text) =>
      drawn(within, "text", { x, y, "text-anchor": anchor, fill: INK, "font-size": 12 }, text);

    // The element of this name, made by `make` where it is not there.
    function part(name, make) {
      fresh.add(name);
      if (!there.has(name)) there.set(name, make());
      return there.get(name);
    }

    function drawGrid(lastStep, marks, words) {
      set(svg, { viewBox: `0 0 ${width} ${height}` });
      grid.replaceChildren();
      for (const value of marks) {
        drawn(grid, "line", { x1: left, x2: width - right, y1: up(value), y2: up(value), stroke: GRID });
        label(grid, left - 6, up(value) + 4, "end", words(value));
      }
      for (let step = 1; step <= lastStep; step *= 10) {
        label(grid, across(step), height - bottom + 16, "middle", number(step));
      }
      label(grid, (left + width) / 2, height - 5, "middle", "optimizer steps");
    }

    return {
      figure,
      measure: () => (width = Math.max(260, figure.clientWidth - 18)),
      begin(lastStep, [low, high], marks, words) {
        fresh.clear();
        if (axes === `${[width, lastStep, low, high]}`) return;
        axes = `${[width, lastStep, low, high]}`;
        across = (step) => left + ((width - left - right) * Math.log10(step)) / Math.log10(lastStep);
        up = (value) => height - bottom - ((height - top - bottom) * (value - low)) / (high - low);
        drawGrid(lastStep, marks, words);
      },
      line(rows, valueIn, { side, colour, dashed }) {
        const style = dashed ? { "stroke-width": 1.2, "stroke-dasharray": "4 3" } : { "stroke-width": 2 };
        const look = { fill: "none", stroke: dashed ? INK : colour, ...style };
        const line = part(`${side} ${dashed}`, () => drawn(content, "polyline", look));
        const shown = rows.filter((row) => row.step > 0 && Number.isFinite(valueIn(row)));
        line.setAttribute("points", written(shown.map((row) => [across(row.step), up(valueIn(row))])));
      },
      mark(step, value, { side, colour, anchor }) {
        const mark = part(`milestone ${side}`, () => {
          const group = drawn(content, "g");
          drawn(group, "line", { y1: top, y2: height - bottom, stroke: colour, "stroke-dasharray": "2 3" });
          drawn(group, "circle", { cy: up(value), r: 4, fill: colour, stroke: "#ffffff" });
          label(group, anchor === "start" ? 6 : -6, up(anchor === "start" ? 0.3 : 0.15), anchor, number(step));
          return group;
        });
        write(mark.lastChild, number(step));
        mark.setAttribute("transform", `translate(${across(step).toFixed(1)} 0)`);
      },
      end(text) {
        svg.setAttribute("aria-label", text);
        for (const [name, element] of there) {
          if (fresh.has(name)) continue;
          element.remove();
          there.delete(name);
        }
      },
    };
  }

  // All pictures of a page's data: {draw(state, rows, record, milestones), measure()}; `measure` is for when
  // the page has another width.
  function pictures(parent, { stretches, kinds, colours, threshold }) {
    const [plane, table] = [drawPlane(parent, stretches), drawTable(parent, kinds)];
    const curves = drawCurves(parent, colours, threshold);
    const draw = (state, rows, record, milestones) => {
      plane(state);
      table(state);
      curves.draw(rows, record, milestones);
    };
    return { draw, measure: curves.measure };
  }

  return { pictures, number, percent, set, made, write, SIDES };
})();
