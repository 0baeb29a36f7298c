// Train one yourself: a run of the package, trained in the reader's browser, in a worker so that the page stays
// free. `trainer_core.js` is the run, this is the page: settings, buttons, pictures, the address.
//
// What is set and how far it was trained is kept in the address, so that a link leads back to it.
(() => {
  "use strict";
  const SVG = "http://www.w3.org/2000/svg";
  const INK = "#333333"; // the panels are white in both themes, as the figures are
  const GRID = "#dddddd";
  const SLICE = { worker: 30, page: 12 }; // milliseconds of training between two looks at messages
  const PACE = 120; // milliseconds between two states of a run that is under way
  const CALM = 1000; // milliseconds between two pictures for readers who want little motion
  const FURTHER = 20_000; // steps after which a run pauses by itself
  const CHART = { height: 190, left: 54, right: 14, top: 10, bottom: 38 };
  const SIDES = { train: "training", validation: "validation" };

  const number = (value) => value.toLocaleString("en");
  const percent = (share) => (share === 1 ? "100 %" : `${(Math.floor(1000 * share) / 10).toFixed(1)} %`);

  function set(element, attributes) {
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
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

  // ---------------------------------------------------------------------------------------------
  // Settings: what is allowed, read from text

  // The value of one setting: {value}, or {wrong}: what is allowed, in words.
  function valueOf(field, text) {
    const { options, lowest, highest, multiple } = field;
    if (options) return options.includes(text) ? { value: text } : { wrong: `one of ${options.join(", ")}` };
    const value = text.trim() === "" ? NaN : Number(text);
    const inside = value >= lowest && value <= highest; // no NaN is
    if (inside && (!multiple || value % multiple === 0)) return { value };
    const kind = multiple > 1 ? `a multiple of ${multiple}` : multiple ? "a whole number" : "a number";
    const bound = (each) => (each < 1 ? String(each) : number(each));
    return { wrong: `${kind} from ${bound(lowest)} to ${bound(highest)}` };
  }

  // A run from texts by name; what is wrong gives way to the default, and is told: {run, told: [sentence]}.
  function runOf(texts, { fields, core }) {
    const [run, told] = [{}, []];
    const refuse = (name, text, allowed) => {
      run[name] = fields[name].default;
      told.push(`${fields[name].title} ${text.slice(0, 20) || "(empty)"}: it must be ${allowed}; it is ${run[name]} now.`);
    };
    for (const [name, field] of Object.entries(fields)) {
      const text = texts[name] ?? String(field.default);
      const { value, wrong } = valueOf(field, text);
      run[name] = value;
      if (wrong) refuse(name, text, wrong);
    }
    if (run.operation === "x/y" && !core.isPrime(run.p)) {
      refuse("p", String(run.p), "a prime number for x/y: only then has every residue but 0 an inverse");
    }
    const nTrain = core.nTrain(run.train_fraction, run.p * (run.p - (run.operation === "x/y" ? 1 : 0)));
    if (run.outliers > nTrain) {
      refuse("outliers", String(run.outliers), `at most ${nTrain}, the number of training equations`);
    }
    return { run, told };
  }

  // ---------------------------------------------------------------------------------------------
  // The address: #operation=x+y&p=41&...&step=1200&record=shown

  const plain = (text) => encodeURIComponent(text).replace(/%(2F|2B|2A)/g, decodeURIComponent);

  function written({ run, step, record }) {
    const pairs = Object.entries(run).map(([name, value]) => `${name}=${plain(String(value))}`);
    if (step) pairs.push(`step=${step}`);
    if (record) pairs.push("record=shown");
    return `#${pairs.join("&")}`;
  }

  // {run, step, record, told} of an address; null if it speaks of something else, such as a heading.
  function stateOf(hash, known) {
    const texts = {};
    for (const pair of hash.slice(1).split("&")) {
      const [name, ...rest] = pair.split("=");
      if (rest.length) texts[name] = decoded(rest.join("="));
    }
    if (![...Object.keys(known.fields), "step", "record"].some((name) => name in texts)) return null;
    const { run, told } = runOf(texts, known);
    const { value: step, wrong } = valueOf({ lowest: 0, highest: known.furthest, multiple: 1 }, texts.step ?? "0");
    if (wrong) told.push(`Step ${texts.step.slice(0, 20)}: it must be ${wrong}; it is 0 now.`);
    return { run, told, step: step ?? 0, record: texts.record === "shown" };
  }

  function decoded(text) {
    try {
      return decodeURIComponent(text);
    } catch {
      return text; // a stray percent sign
    }
  }

  // ---------------------------------------------------------------------------------------------
  // Where it trains: a worker made from the very functions that this page has, or the page itself

  // Its parameters are the self-contained functions of the other scripts; in a worker `self` is its scope.
  function workerBody(kernelsOf, coreOf, slice, pace) {
    const { port1, port2 } = new MessageChannel(); // a timer would wait for milliseconds
    const waiting = [];
    port1.onmessage = () => waiting.shift()();
    const later = (callback) => {
      waiting.push(callback);
      port2.postMessage(null);
    };
    const receive = coreOf(kernelsOf).serve((state) => self.postMessage(state), later, slice, pace);
    self.onmessage = ({ data }) => receive(data);
  }

  // {send, inWorker}; `hear` is called with each state.
  function engine(hear) {
    const inPage = () => {
      const core = companion.trainerCore(companion.trainerKernels);
      return core.serve(hear, (callback) => setTimeout(callback, 8), SLICE.page, PACE);
    };
    try {
      const parts = [companion.trainerKernels, companion.trainerCore, SLICE.worker, PACE];
      const source = `const companion = {}; (${workerBody})(${parts.join(", ")});`;
      const worker = new Worker(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
      worker.onmessage = ({ data }) => hear(data);
      return { send: (message) => worker.postMessage(message), inWorker: true };
    } catch {
      return { send: inPage(), inWorker: false };
    }
  }

  // ---------------------------------------------------------------------------------------------
  // Pictures

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

  // The elements by their numbers, joined along the circle; returns what draws a state.
  function drawPlane(parent, colours) {
    const figure = panel(parent, "", "plane");
    const svg = drawn(figure, "svg", { viewBox: "-100 -100 200 200", role: "img" });
    return ({ plane: { frequency, share, n, place, points }, table }) => {
      const title = `Embeddings in the plane of frequency ${frequency}, ${percent(share)} of their variance`;
      figure.firstChild.textContent = title;
      svg.setAttribute("aria-label", `${title}; by chance ${percent(2 / (n - 1))}.`);
      const size = Math.max(...points.map(Math.abs)) || 1;
      const at = (x) => [(90 * points[2 * x]) / size, (-90 * points[2 * x + 1]) / size];
      const along = (x) => (frequency * place[x]) % n;
      const order = [...place.keys()].filter((x) => place[x] >= 0).sort((a, b) => along(a) - along(b));
      svg.replaceChildren();
      order.forEach((x, k) => {
        const [[x1, y1], [x2, y2]] = [at(x), at(order[(k + 1) % n])];
        drawn(svg, "line", { x1, y1, x2, y2, stroke: colours[Math.floor((colours.length * k) / n)] });
      });
      const off = Number(table.first === 1 && place[0] < 0); // 0 is no element of the circle
      for (const x of [...place.keys()].slice(off)) {
        const [cx, cy] = at(x);
        const size = { x: cx, y: cy + 2.8, "font-size": 8, "text-anchor": "middle", fill: INK };
        drawn(svg, "text", { ...size, stroke: "#ffffff", "stroke-width": 2, "paint-order": "stroke" }, x);
      }
    };
  }

  // The operation table, a pixel a cell; returns what draws a state.
  function drawTable(parent, kinds) {
    const figure = panel(parent, "The table: x down, y across", "cells");
    const canvas = made("canvas", { class: "film-table", role: "img" });
    figure.append(canvas);
    const context = canvas.getContext("2d");
    const inks = kinds.map(([, colour]) => [1, 3, 5].map((k) => parseInt(colour.slice(k, k + 2), 16)));
    const counts = legend(figure, kinds.map(([name, colour]) => [`${name}: `, colour]));
    return ({ right, table: { isTrain, columns, n } }) => {
      if (canvas.width !== columns || canvas.height !== n / columns) set(canvas, { width: columns, height: n / columns });
      const [image, found] = [context.createImageData(columns, n / columns), [0, 0, 0, 0]];
      for (let cell = 0; cell < n; cell++) {
        const kind = 2 * (1 - isTrain[cell]) + (1 - right[cell]);
        found[kind]++;
        image.data.set([...inks[kind], 255], 4 * cell);
      }
      context.putImageData(image, 0, 0);
      found.forEach((count, kind) => (counts[kind].textContent = number(count)));
      const told = kinds.map(([name], kind) => `${name} ${number(found[kind])}`).join(", ");
      canvas.setAttribute("aria-label", `The operation table. Cells: ${told}.`);
    };
  }

  // Two charts over the same steps on a log axis; returns what draws curves, the record's beside them.
  function drawCurves(parent, colours, threshold) {
    const accuracy = chart(parent, "Accuracy", "accuracy");
    const loss = chart(parent, "Loss in nats", "loss");
    const names = Object.entries(SIDES).map(([side, name]) => [name, colours[side]]);
    legend(accuracy.figure, [...names, ["the package's record (dashed)", INK]]);
    const ofRecord = accuracy.figure.querySelector("li:last-child");
    const key = (side, quantity) => `${side}_${quantity}`;
    return (rows, record, milestones) => {
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
          accuracy.line(some, (row) => row[key(side, "accuracy")], dashed ? INK : colour, dashed);
          loss.line(some, (row) => Math.log10(row[key(side, "loss")]), dashed ? INK : colour, dashed);
        }
        if (milestones[side]) accuracy.mark(milestones[side], threshold, colour, side === "train" ? "start" : "end");
      }
      accuracy.tell(`Accuracy to step ${number(rows.at(-1).step)}.`);
      loss.tell(`Loss to step ${number(rows.at(-1).step)}.`);
    };
  }

  function ticks([low, high]) {
    const every = Math.ceil((high - low) / 4);
    return Array.from({ length: high - low + 1 }, (_, i) => high - i).filter((_, i) => i % every === 0);
  }

  function chart(parent, title, kind) {
    const figure = panel(parent, title, kind);
    const svg = drawn(figure, "svg", { role: "img" });
    const { height, left, right, top, bottom } = CHART;
    let [width, across, up] = [0, null, null];
    const write = (x, y, anchor, text) =>
      drawn(svg, "text", { x, y, "text-anchor": anchor, fill: INK, "font-size": 12 }, text);
    return {
      figure,
      tell: (text) => svg.setAttribute("aria-label", text),
      begin(lastStep, [low, high], marks, label) {
        width = Math.max(260, figure.clientWidth - 18);
        set(svg, { viewBox: `0 0 ${width} ${height}` });
        svg.replaceChildren();
        across = (step) => left + ((width - left - right) * Math.log10(step)) / Math.log10(lastStep);
        up = (value) => height - bottom - ((height - top - bottom) * (value - low)) / (high - low);
        for (const value of marks) {
          drawn(svg, "line", { x1: left, x2: width - right, y1: up(value), y2: up(value), stroke: GRID });
          write(left - 6, up(value) + 4, "end", label(value));
        }
        for (let step = 1; step <= lastStep; step *= 10) write(across(step), height - bottom + 16, "middle", number(step));
        write((left + width) / 2, height - 5, "middle", "optimizer steps");
      },
      line(rows, valueIn, colour, dashed) {
        const points = rows.filter((row) => row.step > 0 && Number.isFinite(valueIn(row)));
        const at = points.map((row) => `${across(row.step).toFixed(1)},${up(valueIn(row)).toFixed(1)}`);
        const style = dashed ? { "stroke-width": 1.2, "stroke-dasharray": "4 3" } : { "stroke-width": 2 };
        drawn(svg, "polyline", { points: at.join(" "), fill: "none", stroke: colour, ...style });
      },
      mark(step, value, colour, anchor) {
        const [x, side] = [across(step), anchor === "start" ? 6 : -6];
        drawn(svg, "line", { x1: x, x2: x, y1: top, y2: height - bottom, stroke: colour, "stroke-dasharray": "2 3" });
        drawn(svg, "circle", { cx: x, cy: up(value), r: 4, fill: colour, stroke: "#ffffff" });
        write(x + side, up(0.25), anchor, number(step));
      },
    };
  }

  // ---------------------------------------------------------------------------------------------
  // What the package says of the same run

  const firstAt = (rows, side, share) => rows.find((row) => row[`${side}_accuracy`] >= share)?.step ?? null;

  function milestonesOf(rows, threshold) {
    return Object.fromEntries(Object.keys(SIDES).map((side) => [side, firstAt(rows, side, threshold)]));
  }

  // How the reader's rows compare with a record's, in words.
  function compared(rows, record, threshold) {
    const [here, there] = [rows, record.rows].map((some) => milestonesOf(some, threshold));
    const at = (step, followed) => (step === null ? `not within ${number(followed)}` : `at step ${number(step)}`);
    const told = Object.entries(SIDES).map(([side, name]) => {
      const [own, kept] = [at(here[side], rows.at(-1).step), at(there[side], record.rows.at(-1).step)];
      return `${name} ${kept}, here ${own}`;
    });
    const until = there.train ?? record.rows.at(-1).step;
    const byStep = new Map(record.rows.map((row) => [row.step, row]));
    const differences = rows.filter(({ step }) => step <= until && byStep.has(step)).flatMap((row) =>
      ["train_loss", "validation_loss"].map((name) => Math.abs(row[name] / byStep.get(row.step)[name] - 1)));
    const most = Math.max(0, ...differences).toExponential(0);
    return `The package's record of this run: ${100 * threshold} % in ${told.join("; in ")}. Up to its first milestone`
      + ` the losses here differ from the record's by at most ${most} of themselves.`;
  }

  // ---------------------------------------------------------------------------------------------
  // The same outside the page

  // A number as Python writes it where it stands for a float.
  const float = (value) => (Number.isInteger(value) ? `${value}.0` : String(value));

  function commandOf(run, fixed, steps, threshold) {
    const options = { ...run, ...fixed };
    delete options.seed;
    const told = Object.entries(options).map(([name, value]) => `--${name.replaceAll("_", "-")} ${value}`);
    return `grokking train ${told.join(" ")} --seeds ${run.seed} --steps ${steps} --stop-at ${threshold}`;
  }

  // The operation with this fraction, decay, seed and these wrong answers on the paper's network and modulus.
  function fullSizeOf(run, threshold) {
    const given = [`operation="${run.operation}"`, `train_fraction=${float(run.train_fraction)}`];
    given.push(`weight_decay=${float(run.weight_decay)}`, `outliers=${run.outliers}`, `seed=${run.seed}`);
    return `from grokking_core import Run, sweep

run = Run(${given.join(", ")})
(record,) = sweep([run], steps=10_000, stop_at=${threshold})
print(record.steps_to(${threshold}, "train"), record.steps_to(${threshold}, "validation"))`;
  }

  // ---------------------------------------------------------------------------------------------
  // The page

  function button(name, text) {
    return made("button", { type: "button", name }, text);
  }

  function control(name, { title, options, lowest, highest, multiple }) {
    const input = options
      ? made("select", { name }, ...options.map((value) => made("option", { value }, value)))
      : made("input", { name, type: "number", inputmode: "decimal", min: lowest, max: highest, step: multiple ?? "any" });
    return made("label", {}, made("span", {}, title), input);
  }

  class Page {
    constructor(element, data) {
      const core = companion.trainerCore(companion.trainerKernels);
      Object.assign(this, { data, core, known: { fields: data.fields, core, furthest: data.furthest } });
      this.build(element);
      this.engine = engine((state) => this.hear(state));
      this.noVectors = typeof WebAssembly === "undefined";
      [this.rows, this.state, this.due, this.drawnAt] = [[], null, false, 0];
    }

    build(element) {
      const { data } = this;
      const controls = Object.entries(data.fields).map(([name, field]) => control(name, field));
      this.buttons = {
        go: button("go", "Start"),
        update: button("update", "One step"),
        reset: button("reset", "Reset"),
        record: set(button("record", "Show the package's record"), { "aria-pressed": "false" }),
        link: button("link", "Copy the link"),
      };
      this.wrong = made("p", { class: "trainer-wrong", role: "alert" });
      this.words = made("p", { class: "trainer-words" });
      this.news = made("p", { class: "trainer-news", role: "status" });
      this.comparison = made("p", { class: "trainer-compared", "aria-live": "polite" });
      const panels = made("div", { class: "film-panels" });
      this.form = made(
        "form",
        { class: "trainer", novalidate: "" },
        made("div", { class: "trainer-settings", role: "group", "aria-label": "The run" }, ...controls),
        made("div", { class: "trainer-buttons" }, ...Object.values(this.buttons)),
        this.wrong, this.words, this.news, panels, this.comparison,
        this.outside(),
      );
      element.append(this.form);
      const plane = drawPlane(panels, data.stretches);
      const table = drawTable(panels, data.kinds);
      const curves = drawCurves(panels, data.colours, data.threshold);
      this.draw = () => {
        plane(this.state);
        table(this.state);
        curves(this.rows, this.shown, milestonesOf(this.rows, data.threshold));
      };
      this.listen();
    }

    // Two texts to copy.
    outside() {
      this.texts = { command: made("code"), python: made("code") };
      const titles = {
        command: "This very run, by the package's command:",
        python: "The same question at full size, modulo 97 with the paper's transformer, in Python:",
      };
      const blocks = Object.entries(titles).flatMap(([name, title]) => {
        const copy = set(button(`copy-${name}`, "Copy"), { "aria-label": `Copy: ${title.slice(0, -1)}` });
        copy.addEventListener("click", () => this.copy(copy, this.texts[name].textContent));
        return [made("p", {}, title, " ", copy), made("pre", { tabindex: 0 }, this.texts[name])];
      });
      return made("details", { class: "trainer-outside" }, made("summary", {}, "The same on your own machine"), ...blocks);
    }

    async copy(pressed, text) {
      const before = pressed.textContent;
      const copied = await navigator.clipboard?.writeText(text).then(() => true, () => false);
      pressed.textContent = copied ? "Copied" : "Not allowed here: select and copy it";
      setTimeout(() => (pressed.textContent = before), 3000);
    }

    listen() {
      const { go, update, reset, record, link } = this.buttons;
      go.addEventListener("click", () => (this.state.going ? this.pause() : this.go()));
      update.addEventListener("click", () => this.engine.send({ update: true }));
      reset.addEventListener("click", () => this.load(this.run));
      record.addEventListener("click", () => this.showRecord(!this.shown));
      link.addEventListener("click", () => {
        this.address();
        this.copy(link, location.href);
      });
      this.form.addEventListener("submit", (event) => event.preventDefault());
      this.form.addEventListener("change", () => {
        const texts = Object.keys(this.data.fields).map((name) => [name, this.form.elements[name].value]);
        const { run, told } = runOf(Object.fromEntries(texts), this.known);
        this.load(run, { told });
      });
      addEventListener("hashchange", () => this.follow(location.hash));
      for (const tried of document.querySelectorAll("[data-trainer]")) {
        tried.hidden = false;
        tried.addEventListener("click", () => this.follow(tried.dataset.trainer));
      }
      new ResizeObserver(() => this.state && this.redraw()).observe(this.form);
    }

    // Go where an address leads, if it speaks of a run.
    follow(hash) {
      const state = stateOf(hash, this.known);
      if (!state) return;
      this.load(state.run, state);
      this.form.scrollIntoView();
      this.buttons.go.focus({ preventScroll: true });
    }

    // Begin with a run; `step` is how far to train it at once.
    load(run, { told = [], step = 0, record = false } = {}) {
      this.run = run;
      this.wrong.textContent = told.join(" ");
      for (const [name, value] of Object.entries(run)) this.form.elements[name].value = value;
      this.texts.command.textContent = commandOf(run, this.data.fixed, FURTHER, this.data.threshold);
      this.texts.python.textContent = fullSizeOf(run, this.data.threshold);
      this.rows = [];
      this.goal = step;
      this.news.textContent = "";
      this.showRecord(record);
      this.engine.send({ load: run, plain: this.noVectors });
      if (step) this.engine.send({ go: true, until: step, stopAt: Infinity });
    }

    get learned() {
      return milestonesOf(this.rows, this.data.threshold).validation !== null;
    }

    go() {
      const until = FURTHER * (Math.floor(this.state.row.step / FURTHER) + 1);
      this.engine.send({ go: true, until, stopAt: this.learned ? Infinity : this.data.threshold });
    }

    pause() {
      this.engine.send({ pause: true });
    }

    // A state of the run has come: {row, rows, right, plane, table, rate, vectors, going, why, loaded}.
    hear(state) {
      if (state.loaded) this.rows = [];
      this.rows.push(...state.rows);
      this.state = state;
      const { go, update } = this.buttons;
      go.textContent = state.going ? "Pause" : this.rows.at(-1).step > 0 || state.row.step > 0 ? "Go on" : "Start";
      update.disabled = state.going;
      if (!state.going && !state.loaded) this.address();
      if (state.why) this.news.textContent = this.newsOf(state);
      this.redraw(!state.going);
    }

    newsOf({ why, row }) {
      const { train, validation } = milestonesOf(this.rows, this.data.threshold);
      const goal = `${100 * this.data.threshold} %`;
      if (why === "diverged") return `It diverged by step ${number(row.step)}: the loss is no number any more. Try a lower rate.`;
      if (why === "learned") {
        return `Learned: ${goal} of the training equations were right at step ${train === null ? "—" : number(train)},`
          + ` ${goal} of those held out at step ${number(validation)}.`;
      }
      if (row.step % FURTHER === 0) return `Paused at step ${number(row.step)}. “Go on” goes on.`;
      return "";
    }

    // Draw at the screen's next picture; for readers who want little motion, once a second.
    redraw(atOnce = false) {
      if (this.due && !atOnce) return;
      this.due = true;
      const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
      const wait = calm && !atOnce ? Math.max(0, this.drawnAt + CALM - performance.now()) : 0;
      setTimeout(() => requestAnimationFrame(() => {
        [this.due, this.drawnAt] = [false, performance.now()];
        if (!this.rows.length) return; // another run is about to come
        this.draw();
        this.tell();
      }), wait);
    }

    tell() {
      const { row, rate, vectors } = this.state;
      const parts = [`Step ${number(row.step)}: training ${percent(row.train_accuracy)}, validation`];
      parts.push(`${percent(row.validation_accuracy)} of the equations right`);
      this.words.textContent = `${parts.join(" ")}${rate ? `; ${number(Math.round(rate))} steps a second` : ""}.`;
      if (!this.engine.inWorker) this.words.append(" This browser runs no workers: it trains in the page, in short slices.");
      if (!vectors) this.words.append(" This browser has no vectors in WebAssembly: it trains several times slower.");
      this.form.dataset.step = row.step;
      this.form.dataset.going = this.state.going;
      this.compare();
    }

    showRecord(wanted) {
      const same = ({ run }) => Object.entries(this.run).every(([name, value]) => run[name] === value);
      const found = this.data.records.find(same);
      this.shown = wanted && found ? { rows: rowsOf(found) } : null;
      this.buttons.record.setAttribute("aria-pressed", String(Boolean(this.shown)));
      this.comparison.textContent = wanted && !found
        ? "The book has no record of this very run; the command below makes one. It has those of the default and of the"
          + " runs that the questions lead to."
        : "";
      if (!this.rows.length) return;
      this.compare();
      this.redraw(true);
    }

    compare() {
      if (this.shown) this.comparison.textContent = compared(this.rows, this.shown, this.data.threshold);
    }

    address() {
      const state = { run: this.run, step: this.state.row.step, record: Boolean(this.shown) };
      history.replaceState(null, "", written(state));
    }
  }

  // The rows of a record, which the page has by columns.
  function rowsOf({ curve }) {
    return curve.step.map((step, i) => ({ ...Object.fromEntries(Object.entries(curve).map(([k, v]) => [k, v[i]])), step }));
  }

  companion.trainer = async (element, data) => {
    await Promise.all(["trainer_kernels.js", "trainer_core.js"].map(companion.load));
    const page = new Page(element, data);
    const state = stateOf(location.hash, page.known) ?? { ...runOf({}, page.known), step: 0, record: false };
    page.load(state.run, state);
    await new Promise((drawn) => {
      const waiting = setInterval(() => page.form.dataset.step && (clearInterval(waiting), drawn()), 20);
    });
  };
})();
