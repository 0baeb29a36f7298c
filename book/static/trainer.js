// Train one yourself: a run of the package, trained in the reader's browser, in a worker so that the page stays
// free. `trainer_core.js` is the run, `trainer_pictures.js` what is drawn of it, this is the page: settings,
// buttons, the address. A button answers at once, and the worker's next state says what came of it.
//
// What is set and how far it was trained is kept in the address, so that a link leads back to it.
(() => {
  "use strict";
  const SLICE = { worker: 30, page: 12 }; // milliseconds of training between two looks at messages
  const PACE = 120; // milliseconds between two states of a run that is under way
  const CALM = 1000; // milliseconds between two pictures for readers who want little motion
  const FURTHER = 20_000; // steps after which a run pauses by itself

  // Of the script of the pictures, which is loaded before a page is made.
  let number, percent, set, made, write, SIDES;

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
    const [texts, names] = [Object.create(null), [...Object.keys(known.fields), "step", "record"]];
    for (const pair of hash.slice(1).split("&")) {
      const [name, ...rest] = pair.split("=");
      if (rest.length) texts[name] = decoded(rest.join("="));
    }
    if (!Object.keys(texts).length) return null;
    const { run, told } = runOf(texts, known);
    for (const name of Object.keys(texts).filter((each) => !names.includes(each))) {
      told.push(`${name.slice(0, 20) || "(empty)"} is no setting; an address has ${names.join(", ")}.`);
    }
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
      [this.rows, this.state, this.asked, this.waiting, this.drawnAt] = [[], null, null, null, 0];
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
      this.pictures = companion.trainerPictures.pictures(panels, data);
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
      go.addEventListener("click", () => (this.going ? this.pause() : this.go()));
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
      new ResizeObserver(() => {
        this.pictures.measure();
        if (this.state) this.redraw();
      }).observe(this.form);
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
      this.asked = null;
      this.news.textContent = "";
      this.showRecord(record);
      this.engine.send({ load: run, plain: this.noVectors });
      if (step) this.engine.send({ go: true, until: step, stopAt: Infinity });
    }

    get learned() {
      return milestonesOf(this.rows, this.data.threshold).validation !== null;
    }

    // Whether it trains, as the reader asked last.
    get going() {
      return this.asked ?? this.state.going;
    }

    go() {
      const until = FURTHER * (Math.floor(this.state.row.step / FURTHER) + 1);
      this.engine.send({ go: true, until, stopAt: this.learned ? Infinity : this.data.threshold });
      this.asked = true;
      this.label();
    }

    pause() {
      this.engine.send({ pause: true });
      this.asked = false;
      this.label();
    }

    // The words of the button that starts and pauses.
    label() {
      const { go, update } = this.buttons;
      write(go, this.going ? "Pause" : this.state.row.step > 0 ? "Go on" : "Start");
      update.disabled = this.going;
    }

    // A state of the run has come: {row, rows, right, plane, table, rate, vectors, going, why, loaded}.
    hear(state) {
      if (state.loaded) this.rows = [];
      this.rows.push(...state.rows);
      this.state = state;
      if (state.going === this.asked || state.why) this.asked = null; // else it is from before the button
      this.label();
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

    // Draw what is there by then at the screen's next picture; for readers who want little motion, once a second.
    redraw(atOnce = false) {
      if (this.waiting === "picture" || (this.waiting && !atOnce)) return;
      clearTimeout(this.waiting);
      const calm = !atOnce && matchMedia("(prefers-reduced-motion: reduce)").matches;
      const wait = calm ? this.drawnAt + CALM - performance.now() : 0;
      this.waiting = wait > 0 ? setTimeout(() => this.draw(), wait) : this.draw();
    }

    draw() {
      requestAnimationFrame(() => {
        [this.waiting, this.drawnAt] = [null, performance.now()];
        if (!this.rows.length) return; // another run is about to come
        this.pictures.draw(this.state, this.rows, this.shown, milestonesOf(this.rows, this.data.threshold));
        this.tell();
      });
      return (this.waiting = "picture");
    }

    tell() {
      const { row, rate, vectors } = this.state;
      const parts = [`Step ${number(row.step)}: training ${percent(row.train_accuracy)}, validation`];
      parts.push(`${percent(row.validation_accuracy)} of the equations right`);
      const words = [`${parts.join(" ")}${rate ? `; ${number(Math.round(rate))} steps a second` : ""}.`];
      if (!this.engine.inWorker) words.push("This browser runs no workers: it trains in the page, in short slices.");
      if (!vectors) words.push("This browser has no vectors in WebAssembly: it trains several times slower.");
      write(this.words, words.join(" "));
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
      if (this.shown) write(this.comparison, compared(this.rows, this.shown, this.data.threshold));
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
    await Promise.all(["trainer_pictures.js", "trainer_kernels.js", "trainer_core.js"].map(companion.load));
    ({ number, percent, set, made, write, SIDES } = companion.trainerPictures);
    const page = new Page(element, data);
    const state = stateOf(location.hash, page.known) ?? { ...runOf({}, page.known), step: 0, record: false };
    page.load(state.run, state);
    await new Promise((drawn) => {
      const waiting = setInterval(() => page.form.dataset.step && (clearInterval(waiting), drawn()), 20);
    });
  };
})();
