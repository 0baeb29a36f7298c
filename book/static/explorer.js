// The explorer: a reader chooses among the runs on record, and sees their curves, their milestones and a
// table of them. The choice is kept in the address, so that a link leads back to it.
//
// A state is {choice: {facet: [values]}, settings: {name: value}}; a facet with nothing chosen allows all.
(() => {
  "use strict";
  const MOST = 150; // runs drawn at once
  const SIDES = { train: "training", validation: "validation" };
  const SIDE_COLOURS = { train: "#0072B2", validation: "#D55E00" }; // as in all figures of the book
  const SYMBOLS = { train: "square", validation: "circle" };
  const SETTINGS = {
    x: { title: "Steps", options: { log: "logarithmic", linear: "linear" } },
    loss: { title: "Loss", options: { log: "logarithmic", linear: "linear" } },
    curves: { title: "Curves", options: { both: "training and validation", ...SIDES } },
    colour: { title: "Colour by", options: { side: "training and validation" } },
    diagnostic: { title: "Beside accuracy", options: { none: "nothing" } },
  };
  const DIAGNOSTIC_COLOUR = "#009E73"; // where training and validation have the others
  const MARKS = { train: "■", validation: "●" }; // the symbols in words

  // The settings; colours go by any facet in which runs differ.
  function settingsOf(data) {
    const titles = differing(data).map(([key, facet]) => [key, facet.title.toLowerCase()]);
    const options = { ...SETTINGS.colour.options, ...Object.fromEntries(titles) };
    const seen = Object.entries(data.curves.diagnostics).map(([name, { title }]) => [name, title]);
    const diagnostics = { ...SETTINGS.diagnostic.options, ...Object.fromEntries(seen) };
    const diagnostic = { ...SETTINGS.diagnostic, options: diagnostics };
    return { ...SETTINGS, colour: { ...SETTINGS.colour, options }, diagnostic };
  }

  // The facets in which runs differ, [key, facet] each.
  function differing(data) {
    return Object.entries(data.facets).filter(([, facet]) => facet.values.length > 1);
  }

  // ---------------------------------------------------------------------------------------------
  // The records, as grokking_core/explorer.py has packed them

  async function unpacked(text) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    const planes = new Uint8Array(await new Response(stream).arrayBuffer());
    const values = new Uint16Array(planes.length / 2);
    for (let i = 0, value = 0; i < values.length; i++) {
      value += planes[i] + 256 * planes[values.length + i];
      values[i] = value; // modulo 65,536, as the differences were taken
    }
    return values;
  }

  // One object a run: {step, train_accuracy, ..., validation_loss: arrays; facets, milestones, page}.
  async function runsOf({ curves, runs, facets }) {
    const columns = {};
    for (const [name, text] of Object.entries(curves.packed)) columns[name] = await unpacked(text);
    const accuracy = (code) => code / curves.per_unit;
    const loss = (code) => (code ? curves.lowest * 10 ** ((code - 1) / curves.per_decade) : null);
    let start = 0;
    return curves.points.map((points, i) => {
      const end = start + points;
      const part = (name, read) => Array.from(columns[name].subarray(start, end), read);
      const run = { step: part("row", (row) => curves.grid[row]), facets: {} };
      for (const side of Object.keys(SIDES)) {
        run[`${side}_accuracy`] = part(`${side}_accuracy`, accuracy);
        run[`${side}_loss`] = part(`${side}_loss`, loss);
        run[side] = runs[side][i];
      }
      for (const name of Object.keys(curves.diagnostics)) run[name] = part(name, loss);
      for (const key of Object.keys(facets)) run.facets[key] = facets[key].values[runs[key][i]];
      start = end;
      return { ...run, diverged: runs.diverged[i], page: runs.page[i] };
    });
  }

  // ---------------------------------------------------------------------------------------------
  // The state, and its address: #operation=x/y&fraction=0.5&x=log, a key once for each value

  function written(state) {
    const chosen = Object.entries(state.choice).flatMap(([key, values]) => values.map((v) => [key, v]));
    const pairs = [...chosen, ...Object.entries(state.settings)];
    const plain = (text) => encodeURIComponent(text).replace(/%(2F|2B|3A|2C|7C)/g, decodeURIComponent);
    return "#" + pairs.map(([key, value]) => `${key}=${plain(value)}`).join("&");
  }

  // The state of an address, null if it speaks of something else, such as a heading of the page.
  function read(hash, data) {
    const [state, settings] = [stateOf(data, {}, {}), settingsOf(data)];
    let known = false;
    for (const pair of hash.slice(1).split("&")) {
      const [key, ...rest] = pair.split("=");
      const value = decoded(rest.join("="));
      if (Object.hasOwn(data.facets, key) && rest.length) {
        known = true;
        state.choice[key].push(value);
      } else if (Object.hasOwn(settings, key) && Object.hasOwn(settings[key].options, value)) {
        known = true;
        state.settings[key] = value;
      }
    }
    return known ? state : null;
  }

  function decoded(text) {
    try {
      return decodeURIComponent(text);
    } catch {
      return text; // a stray percent sign
    }
  }

  function stateOf(data, choose, settings) {
    const first = ([name, { options }]) => [name, Object.keys(options)[0]];
    const choice = Object.keys(data.facets).map((key) => [key, key in choose ? [choose[key]] : []]);
    const defaults = Object.fromEntries(Object.entries(SETTINGS).map(first));
    return { choice: Object.fromEntries(choice), settings: { ...defaults, ...settings } };
  }

  function ofView(data, view) {
    const curves = view.colour === "side" ? "both" : "validation";
    return stateOf(data, view.choose, { colour: view.colour, curves });
  }

  // Whether a run is allowed by the choice, that of one facet perhaps left aside.
  function fits(run, choice, aside) {
    return Object.entries(choice).every(
      ([key, values]) => key === aside || !values.length || values.includes(run.facets[key]),
    );
  }

  // At most about MOST of the runs, evenly over all of them.
  function selection(runs) {
    const share = Math.min(1, MOST / runs.length);
    return runs.filter((_, i) => Math.floor((i + 1) * share) > Math.floor(i * share));
  }

  // ---------------------------------------------------------------------------------------------
  // The parts of the page

  function made(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  // What a reader chooses by: one fold a facet, a box a value. Facets with one value need no choice.
  function facetControls(data) {
    const wide = matchMedia("(min-width: 700px)").matches;
    return Object.entries(data.facets).map(([key, facet]) => {
      const boxes = facet.values.map((value, i) => {
        const box = made("input", { type: "checkbox", name: key, value });
        return made("label", { class: "explorer-chip" }, box, made("span", {}, facet.written[i]));
      });
      const summary = made("summary", {}, `${facet.title}: `, made("b", { "data-chosen": key }));
      const group = made("div", { role: "group", "aria-label": facet.title }, ...boxes);
      const fold = made("details", { class: "explorer-facet" }, summary, group);
      fold.open = wide;
      fold.hidden = facet.values.length < 2;
      return fold;
    });
  }

  function settingControls(data) {
    return Object.entries(settingsOf(data)).map(([name, { title, options }]) => {
      const choices = Object.entries(options).map(([value, text]) => made("option", { value }, text));
      return made("label", {}, `${title} `, made("select", { name }, ...choices));
    });
  }

  function skeleton(data) {
    const link = (title, state) => made("a", { href: written(state) }, title);
    const views = data.views.map((view) => link(view.title, ofView(data, view)));
    views.push(link("all runs", stateOf(data, {}, {})));
    const button = (name, text) => made("button", { type: "button", name }, text);
    const buttons = [button("copy", "copy link"), button("csv", "curves as CSV"), button("svg", "picture as SVG")];
    const count = made("p", { class: "explorer-said", role: "status" });
    return made(
      "form",
      { class: "explorer" },
      made("nav", { class: "explorer-views", "aria-label": "Views to begin with" }, "Views: ", ...views),
      made("div", { class: "explorer-facets" }, ...facetControls(data)),
      made("div", { class: "explorer-settings" }, ...settingControls(data), ...buttons),
      count,
      made("ul", { class: "explorer-legend" }),
      made("div", { class: "explorer-plot", role: "img" }),
      made("p", { class: "explorer-shared" }),
      made("div", { class: "explorer-table", role: "region", tabindex: 0, "aria-label": "The runs shown" }),
    );
  }

  // Show the state in the controls; what would leave no run cannot be chosen.
  function showState(form, data, runs, state) {
    for (const [key, facet] of Object.entries(data.facets)) {
      const chosen = state.choice[key];
      const possible = new Set(runs.filter((run) => fits(run, state.choice, key)).map((run) => run.facets[key]));
      for (const box of form.querySelectorAll(`input[name=${key}]`)) {
        box.checked = chosen.includes(box.value);
        box.disabled = !box.checked && !possible.has(box.value);
        box.parentElement.title = box.disabled ? "no run on record, given the other choices" : "";
      }
      const texts = chosen.map((value) => facet.written[facet.values.indexOf(value)] ?? `${value} (unknown)`);
      form.querySelector(`[data-chosen=${key}]`).textContent = texts.join("; ") || "any";
    }
    for (const [name, value] of Object.entries(state.settings)) form.elements[name].value = value;
  }

  function showCount(form, matching, drawn, all) {
    const count = made("span", { class: "explorer-count" }, String(drawn.length));
    let text = ` of ${all.length} runs shown.`;
    if (!all.length) text = " runs shown: none is on record yet; make book makes them.";
    else if (!matching.length) text += " No run on record has all of this: choose less.";
    else if (matching.length > drawn.length) {
      text += ` ${matching.length} have what you chose, and these are an even selection of them.`;
    }
    form.querySelector(".explorer-said").replaceChildren(count, text);
  }

  // ---------------------------------------------------------------------------------------------
  // The curves

  const probe = made("span", { hidden: "" });

  function rgb(colour) {
    probe.style.color = colour;
    return getComputedStyle(probe).color.match(/[\d.]+/g).slice(0, 3).map(Number);
  }

  // Relative luminance, as WCAG 2 defines it.
  function luminance(channels) {
    const linear = (c) => (c <= 10.3 ? c / 3294.6 : ((c / 255 + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = channels.map(linear);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  }

  // The colour, drawn towards that of the text until it stands out from the ground at 3 to 1.
  function legible(colour) {
    const ground = luminance(rgb(companion.color("--pst-color-background")));
    const text = rgb(companion.color("--pst-color-text-base"));
    let mixed = rgb(colour);
    for (let share = 0; share <= 1; share += 0.1) {
      mixed = rgb(colour).map((c, i) => Math.round((1 - share) * c + share * text[i]));
      const [low, high] = [luminance(mixed), ground].sort((a, b) => a - b);
      if ((high + 0.05) / (low + 0.05) >= 3) break;
    }
    return `rgb(${mixed.join(", ")})`;
  }

  function nameOf(run, data) {
    const told = ([key, { title, values, written }]) => `${title}: ${written[values.indexOf(run.facets[key])]}`;
    return differing(data).map(told).join("<br>");
  }

  // Groups of runs with a colour: [{label, colour, side, runs}], training below validation.
  function groupsOf(drawn, data, { colour, curves }) {
    const sides = Object.keys(SIDES).filter((side) => curves === "both" || curves === side);
    const facet = data.facets[colour];
    if (!facet) {
      return sides.map((side) => ({ label: SIDES[side], colour: SIDE_COLOURS[side], side, runs: drawn }));
    }
    return sides.flatMap((side) => facet.values.map((value, i) => {
      const runs = drawn.filter((run) => run.facets[colour] === value);
      const label = ["outliers", "seed"].includes(colour) ? `${colour} ${facet.written[i]}` : facet.written[i];
      return { label, colour: facet.colours[i], side, runs };
    })).filter(({ runs }) => runs.length);
  }

  // One line of the plot for all runs of a group, with a gap after each; and the marks of their milestones.
  function traces({ colour, side, runs }, quantity, data, dotted) {
    const value = (number) => (quantity === "accuracy" ? 100 * number : number); // accuracies in percent
    const line = { x: [], y: [], text: [] };
    const marks = { x: [], y: [], text: [] };
    for (const run of runs) {
      const values = run[`${side}_${quantity}`].map((number) => number && value(number));
      const text = `${nameOf(run, data)}<br>${SIDES[side]}`;
      line.x.push(...run.step, null);
      line.y.push(...values, null);
      line.text.push(...run.step.map(() => text), "");
      if (run[side] !== null) {
        marks.x.push(run[side]);
        marks.y.push(values[run.step.indexOf(run[side])]);
        marks.text.push(`${text}: first at ${100 * data.curves.threshold} %`);
      }
    }
    const ink = legible(colour);
    const told = quantity === "accuracy" ? "accuracy %{y:.1f} %" : "loss %{y:.3g}";
    const shared = {
      type: "scatter",
      yaxis: quantity === "accuracy" ? "y" : "y2",
      hovertemplate: `%{text}<br>step %{x:,}, ${told}<extra></extra>`,
    };
    const ground = companion.color("--pst-color-background");
    const marker = { symbol: SYMBOLS[side], size: 9, color: ink, line: { width: 1.5, color: ground } };
    const dash = dotted && side === "train" ? "dot" : "solid";
    return [
      { ...shared, ...line, mode: "lines", line: { color: ink, width: 1.6, dash } },
      { ...shared, ...marks, mode: "markers", marker },
    ];
  }

  // What a probe saw of the runs of a group, on the axis at the right: one dashed line, without milestones.
  function diagnosticTrace({ colour, runs }, name, data) {
    const { title } = data.curves.diagnostics[name];
    const line = { x: [], y: [], text: [] };
    for (const run of runs) {
      const seen = run.step.map((_, i) => i).filter((i) => run[name][i] !== null);
      line.x.push(...seen.map((i) => run.step[i]), null);
      line.y.push(...seen.map((i) => run[name][i]), null);
      line.text.push(...seen.map(() => nameOf(run, data)), "");
    }
    const hovertemplate = `%{text}<br>step %{x:,}, ${title} %{y:.3g}<extra></extra>`;
    const style = { color: legible(colour), width: 1.6, dash: "dash" };
    return { ...line, type: "scatter", mode: "lines", yaxis: "y3", hovertemplate, line: style, name: title };
  }

  function diagnosticTraces(groups, { colour, diagnostic }, data) {
    if (diagnostic === "none" || !groups.length) return [];
    const last = groups.at(-1).side;
    const of = colour === "side" ? [{ ...groups[0], colour: DIAGNOSTIC_COLOUR }] : groups.filter((g) => g.side === last);
    return of.map((group) => diagnosticTrace(group, diagnostic, data));
  }

  function layoutOf(plot, { x, loss, diagnostic }, { threshold, diagnostics }) {
    const percent = 100 * threshold;
    const text = companion.color("--pst-color-text-base");
    const border = companion.color("--pst-color-border");
    const ground = companion.color("--pst-color-background");
    const axis = { color: text, gridcolor: border, zeroline: false, automargin: true, exponentformat: "power" };
    const scale = (type) => (type === "log" ? { type, dtick: 1 } : { type });
    const seen = diagnostics[diagnostic];
    const right = { overlaying: "y", side: "right", showgrid: false, title: { text: seen?.title } };
    const guide = { type: "line", xref: "paper", x0: 0, x1: 1, y0: percent, y1: percent };
    return {
      height: 620,
      margin: { l: 60, r: seen ? 60 : 10, t: 10, b: 45 },
      paper_bgcolor: ground,
      plot_bgcolor: ground,
      font: { color: text, family: getComputedStyle(plot).fontFamily, size: 13 },
      showlegend: false,
      hovermode: "closest",
      hoverlabel: { bgcolor: ground, bordercolor: text, font: { color: text }, align: "left" },
      dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom", // a finger scrolls the page
      uirevision: `${x} ${loss} ${diagnostic}`, // what was enlarged stays so while the axes are the same
      xaxis: { ...axis, ...scale(x), anchor: "y2", title: { text: "optimizer steps" } },
      yaxis: { ...axis, domain: [0.53, 1], range: [-3, 103], ticksuffix: " %", title: { text: "accuracy" } },
      yaxis2: { ...axis, ...scale(loss), domain: [0, 0.47], title: { text: "loss (nats)" } },
      ...(seen && { yaxis3: { ...axis, ...scale(seen.log ? "log" : "linear"), ...right } }),
      shapes: [{ ...guide, line: { color: text, width: 1, dash: "dash" } }],
    };
  }

  function showCurves(form, data, drawn, state) {
    const groups = groupsOf(drawn, data, state.settings);
    const dotted = state.settings.colour !== "side";
    const plot = form.querySelector(".explorer-plot");
    const lines = ["accuracy", "loss"].flatMap((q) => groups.flatMap((group) => traces(group, q, data, dotted)));
    lines.push(...diagnosticTraces(groups, state.settings, data));
    plot.setAttribute("aria-label", `Accuracy and loss of ${drawn.length} runs, by optimizer steps.`);
    const options = { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["select2d", "lasso2d"] };
    Plotly.react(plot, lines, layoutOf(plot, state.settings, data.curves), options);
    const entry = ({ label, colour }) => {
      const swatch = made("span", { class: "explorer-swatch", style: `background: ${legible(colour)}` });
      return made("li", {}, swatch, label);
    };
    const once = new Map(groups.map((group) => [group.label, group]));
    const kinds = dotted && state.settings.curves === "both" ? "training dotted, validation solid" : "";
    const first = groups.map(({ side }) => `${MARKS[side]} in ${SIDES[side]}`);
    const marks = `first at ${100 * data.curves.threshold} %: ${[...new Set(first)].join(", ")}`;
    const beside = data.curves.diagnostics[state.settings.diagnostic];
    const unseen = drawn.filter((run) => beside && run[state.settings.diagnostic].every((v) => v === null)).length;
    const dashed = beside ? `${beside.title} dashed, axis at the right` : "";
    const lack = unseen ? `not watched in ${unseen} of ${drawn.length} runs` : "";
    const words = [kinds, marks, dashed, lack].filter(Boolean).map((text) => made("li", {}, text));
    form.querySelector(".explorer-legend").replaceChildren(...[...once.values()].map(entry), ...words);
  }

  // ---------------------------------------------------------------------------------------------
  // The table of runs

  // A row a run; what all of them share stands once, above.
  function showTable(form, data, drawn) {
    const text = (run, [key, { values, written }]) => written[values.indexOf(run.facets[key])];
    const differ = ([key]) => new Set(drawn.map((run) => run.facets[key])).size > 1;
    const columns = differing(data).filter(differ);
    const shared = drawn.length ? differing(data).filter((facet) => !differ(facet)) : [];
    const told = shared.map((facet) => `${facet[1].title}: ${text(drawn[0], facet)}`);
    form.querySelector(".explorer-shared").textContent = told.join(" · ");
    const reached = Object.values(SIDES).map((side) => `${100 * data.curves.threshold} % in ${side}`);
    const titles = [...columns.map(([, facet]) => facet.title), ...reached, "Figure"];
    const head = made("tr", {}, ...titles.map((title) => made("th", { scope: "col" }, title)));
    const rows = drawn.map((run) => {
      const facets = columns.map((facet) => text(run, facet));
      const cells = [...facets, ...Object.keys(SIDES).map((side) => stepOf(run, side))];
      const link = made("a", { href: `figures/${run.page}.html` }, run.page.replaceAll("_", " "));
      return made("tr", {}, ...cells.map((cell) => made("td", {}, cell)), made("td", {}, link));
    });
    const table = made("table", {}, made("thead", {}, head), made("tbody", {}, ...rows));
    form.querySelector(".explorer-table").replaceChildren(...(drawn.length ? [table] : []));
  }

  // The step of a milestone, or how far the run was followed without it.
  function stepOf(run, side) {
    const last = run.step.at(-1).toLocaleString("en");
    if (run[side] !== null) return run[side].toLocaleString("en");
    return run.diverged ? `not before it diverged at ${last}` : `not within ${last} steps`;
  }

  // ---------------------------------------------------------------------------------------------
  // To take away

  // The curves of the runs drawn, a row an evaluation, with what the runs differ in; as they are packed, rounded.
  function csvOf(drawn, data, { diagnostic }) {
    const columns = ["train_accuracy", "validation_accuracy", "train_loss", "validation_loss"];
    if (Object.hasOwn(data.curves.diagnostics, diagnostic)) columns.push(diagnostic);
    const quoted = (value) => (/[",\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : String(value));
    const facets = Object.keys(data.facets);
    const rows = drawn.flatMap((run) => run.step.map((step, i) => [
      ...facets.map((key) => run.facets[key]),
      step,
      ...columns.map((name) => (run[name][i] === null ? "" : Number(run[name][i].toPrecision(4)))),
    ]));
    return [[...facets, "step", ...columns], ...rows].map((row) => `${row.map(quoted).join(",")}\n`).join("");
  }

  function save(name, text, type) {
    const link = made("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  }

  // ---------------------------------------------------------------------------------------------

  companion.explorer = async (element, data) => {
    await companion.load("plotly-basic.min.js");
    const runs = await runsOf(data);
    const form = skeleton(data);
    element.append(form, probe);
    const opening = data.views.length ? ofView(data, data.views[0]) : stateOf(data, {}, {});
    let state = read(location.hash, data) ?? opening;

    const drawnNow = () => selection(runs.filter((run) => fits(run, state.choice)));

    function show() {
      const matching = runs.filter((run) => fits(run, state.choice));
      const drawn = selection(matching);
      showState(form, data, runs, state);
      showCount(form, matching, drawn, runs);
      showCurves(form, data, drawn, state);
      showTable(form, data, drawn);
    }

    form.addEventListener("change", () => {
      for (const key of Object.keys(state.choice)) {
        const chosen = form.querySelectorAll(`input[name=${key}]:checked`);
        state.choice[key] = Array.from(chosen, (box) => box.value);
      }
      for (const name of Object.keys(state.settings)) state.settings[name] = form.elements[name].value;
      history.replaceState(null, "", written(state));
      show();
    });
    window.addEventListener("hashchange", () => {
      state = read(location.hash, data) ?? state;
      show();
    });
    const copy = form.elements.copy;
    copy.addEventListener("click", async () => {
      history.replaceState(null, "", written(state));
      const copied = await navigator.clipboard?.writeText(location.href).then(() => true, () => false);
      copy.textContent = copied ? "copied" : "the link is in the address bar";
      setTimeout(() => (copy.textContent = "copy link"), 3000);
    });
    form.elements.csv.addEventListener("click", () => save("curves.csv", csvOf(drawnNow(), data, state.settings), "text/csv"));
    form.elements.svg.addEventListener("click", () => {
      const plot = form.querySelector(".explorer-plot");
      Plotly.downloadImage(plot, { format: "svg", filename: "curves", width: plot.clientWidth, height: 620 });
    });
    form.addEventListener("submit", (event) => event.preventDefault());
    companion.onTheme(show);
  };
})();
