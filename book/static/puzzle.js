// A table with holes to fill in by hand, and beside it its equations as a network gets them.
// All that has to be worked out (solution, hints and their reasons, batches) comes with the data.
(() => {
  "use strict";

  // An element with attributes and children; texts are text.
  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  function button(name, text, onClick) {
    const element = make("button", { type: "button", name }, text);
    element.addEventListener("click", onClick);
    return element;
  }

  // Cells by name, so that they can be looked up.
  const key = (row, column) => `${row},${column}`;

  companion.puzzle = (element, { puzzles }) => {
    const root = make("div", { class: "puzzle" });
    element.append(root);
    let number = 0;
    function show() {
      const network = new Network(puzzles[number]);
      const table = new Table(puzzles[number], `Puzzle ${number + 1} of ${puzzles.length}`);
      table.onVisit = (row, column) => network.ask(row, column);
      table.onAgain = again;
      root.replaceChildren(table.element, network.element);
    }
    // The same puzzle from the start, or the next; the button that was pressed keeps the focus.
    function again(pressed, forward) {
      number = (number + forward) % puzzles.length;
      show();
      root.querySelector(`button[name=${pressed}]`).focus();
    }
    show();
  };

  // ------------------------------------------------------------------------------------------------
  // The table to fill in

  const SIGNS = { right: "✓", wrong: "✗", "": "" };
  const BACK = ["ArrowLeft", "ArrowUp"];
  const ALONG_ROWS = ["ArrowLeft", "ArrowRight"];

  class Table {
    constructor(puzzle, title) {
      this.puzzle = puzzle;
      this.cells = new Map(); // to <td>
      this.entered = new Map(puzzle.holes.map(([row, column]) => [key(row, column), ""]));
      this.told = make("p", { class: "puzzle-told", role: "status" });
      this.why = make("p", { class: "puzzle-why", "aria-live": "polite" });
      this.solved = make("div", { class: "puzzle-solved", "aria-live": "polite" });
      const { letters, laws } = puzzle;
      const heading = `${title}: ${letters.length} letters, ${puzzle.holes.length} holes`;
      this.element = make("div", { class: "puzzle-table" },
        make("p", { class: "puzzle-title" }, heading),
        this.makeTable(), this.makeLetters(), this.makeButtons(), this.told, this.why, this.solved,
        make("details", {}, make("summary", {}, "What holds in this table"),
          make("ul", {}, ...laws.map((law) => make("li", {}, law)))));
      this.current = this.holes[0]; // where the letters below the table go
      this.cells.get(this.current).classList.add("puzzle-current");
      this.told.textContent = `${this.open} open`;
    }

    get holes() {
      return [...this.entered.keys()];
    }

    get open() {
      return this.holes.filter((hole) => !this.entered.get(hole)).length;
    }

    get wrong() {
      return this.holes.filter((hole) => this.entered.get(hole) && !this.isRight(hole)).length;
    }

    isRight(hole) {
      const [row, column] = hole.split(",");
      return this.entered.get(hole) === this.puzzle.table[row][column];
    }

    where(hole) {
      const [row, column] = hole.split(",").map((place) => this.puzzle.letters[place]);
      return `row ${row}, column ${column}`;
    }

    input(hole) {
      return this.cells.get(hole).querySelector("input");
    }

    // Put a letter into a hole; with the last one the table is checked.
    enter(hole, letter) {
      this.clearReason();
      this.entered.set(hole, letter);
      this.input(hole).value = letter;
      this.mark(hole);
      this.told.textContent = `${this.open} open`;
      if (!this.open) this.check();
    }

    // ✓ or ✗ in a cell, or nothing; said too, for those who cannot see it.
    mark(hole, verdict = "") {
      this.cells.get(hole).dataset.verdict = verdict;
      this.cells.get(hole).querySelector(".puzzle-sign").textContent = SIGNS[verdict];
      const said = verdict ? `${this.where(hole)}, ${verdict}` : this.where(hole);
      this.input(hole).setAttribute("aria-label", said);
      this.input(hole).setAttribute("aria-invalid", String(verdict === "wrong"));
    }

    check() {
      this.clearReason();
      for (const hole of this.holes.filter((hole) => this.entered.get(hole))) {
        this.mark(hole, this.isRight(hole) ? "right" : "wrong");
      }
      const right = this.holes.length - this.open - this.wrong;
      this.told.textContent = `${right} right, ${this.wrong} wrong, ${this.open} open`;
      if (right === this.holes.length) this.congratulate();
    }

    // Each step follows from what is given and from the steps before. So the first that the reader has
    // not taken follows from what is right in the table.
    hint() {
      const step = this.puzzle.steps.find((step) => !this.isRight(key(...step.cell)));
      if (!step) return this.check();
      const hole = key(...step.cell);
      this.enter(hole, this.puzzle.letters[step.letter]);
      this.mark(hole, "right");
      this.visit(hole);
      const warning = this.wrong ? ` Letters of yours that are wrong: ${this.wrong}.` : "";
      const found = `The hole in ${this.where(hole)} is ${this.entered.get(hole)}.`;
      this.why.textContent = `${found} ${step.reason}${warning}`;
      for (const cell of step.because) this.cells.get(key(...cell)).classList.add("puzzle-because");
    }

    clearReason() {
      this.why.textContent = "";
      for (const cell of this.cells.values()) cell.classList.remove("puzzle-because");
    }

    congratulate() {
      const order = button("order", "Put the letters in order", () => this.sort());
      const words = make("p", {}, make("strong", {}, "Solved. "), this.puzzle.told);
      this.solved.replaceChildren(words, order);
    }

    // Rows and columns in the order that shows the pattern; every line begins with its heading.
    sort() {
      const { letters, order } = this.puzzle;
      const places = [0, ...[...order].map((letter) => 1 + letters.indexOf(letter))];
      const rows = [...this.element.querySelectorAll("tr")];
      const body = rows[1].parentElement;
      for (const row of rows) {
        const cells = [...row.children];
        row.append(...places.map((place) => cells[place]));
      }
      body.append(...places.slice(1).map((place) => rows[place]));
      this.solved.querySelector("button").remove();
    }

    visit(hole) {
      this.cells.get(this.current).classList.remove("puzzle-current");
      this.cells.get(hole).classList.add("puzzle-current");
      this.current = hole;
      this.onVisit(...hole.split(","));
    }

    // Left and right lead through the holes along the rows, up and down along the columns.
    move(hole, arrow) {
      const places = this.holes.map((hole) => {
        const cell = this.cells.get(hole);
        const [row, column] = [cell.parentElement.rowIndex, cell.cellIndex];
        return [ALONG_ROWS.includes(arrow) ? row * 100 + column : column * 100 + row, hole];
      });
      const path = places.sort(([one], [other]) => one - other).map(([, hole]) => hole);
      const next = path.indexOf(hole) + (BACK.includes(arrow) ? -1 : 1);
      this.input(path.at(next % path.length)).focus();
    }

    makeTable() {
      const { letters, table } = this.puzzle;
      const heads = [...letters].map((letter) => make("th", { scope: "col" }, letter));
      const rows = [...letters].map((letter, row) => {
        const cells = [...table[row]].map((answer, column) => {
          const isHole = this.entered.has(key(row, column));
          const cell = isHole ? this.makeHole(row, column) : make("td", {}, answer);
          this.cells.set(key(row, column), cell);
          return cell;
        });
        return make("tr", {}, make("th", { scope: "row" }, letter), ...cells);
      });
      return make("table", { "aria-label": "Operation table with holes" },
        make("thead", {}, make("tr", {}, make("td"), ...heads)), make("tbody", {}, ...rows));
    }

    // With inputmode none a phone shows the letters below the table, not its keyboard.
    makeHole(row, column) {
      const hole = key(row, column);
      const input = make("input", {
        type: "text", inputmode: "none", autocomplete: "off", autocapitalize: "off", spellcheck: "false",
        "data-row": row, "data-column": column, "aria-label": this.where(hole),
      });
      input.addEventListener("focus", () => {
        input.select();
        this.visit(hole);
      });
      input.addEventListener("input", (event) => this.type(hole, event.data ?? input.value));
      input.addEventListener("keydown", (event) => {
        if (!event.key.startsWith("Arrow")) return;
        event.preventDefault();
        this.move(hole, event.key);
      });
      const sign = make("span", { class: "puzzle-sign", "aria-hidden": "true" });
      return make("td", { class: "puzzle-hole" }, input, sign);
    }

    // What is no letter of the table is refused: the cell keeps what it had.
    type(hole, text) {
      const { letters } = this.puzzle;
      const typed = text.trim().slice(-1).toLowerCase();
      if (!typed || letters.includes(typed)) {
        this.enter(hole, typed);
      } else {
        this.input(hole).value = this.entered.get(hole);
        this.why.textContent = `“${typed}” is none of the letters ${letters[0]} to ${letters.at(-1)}.`;
      }
      this.input(hole).select();
    }

    makeLetters() {
      const keys = [...this.puzzle.letters, ""].map((letter) => {
        const made = button("letter", letter || "⌫", () => this.enter(this.current, letter));
        if (!letter) made.setAttribute("aria-label", "empty the cell");
        made.addEventListener("pointerdown", (event) => event.preventDefault()); // the cell keeps the focus
        return made;
      });
      return make("div", { class: "puzzle-letters", role: "group", "aria-label": "Letters to put in" }, ...keys);
    }

    makeButtons() {
      return make("div", { class: "puzzle-buttons" },
        button("check", "Check", () => this.check()),
        button("hint", "Hint", () => this.hint()),
        button("restart", "Start again", () => this.onAgain("restart", 0)),
        button("another", "Another puzzle", () => this.onAgain("another", 1)));
    }
  }

  // ------------------------------------------------------------------------------------------------
  // What the network gets: numbers of symbols, five an equation, a batch at a time

  const RENAMED = "Every symbol has a new number, and nothing else has changed: a number only says which of"
    + " the network's vectors stands for the symbol, and those are random at first.";

  class Network {
    constructor(puzzle) {
      this.puzzle = puzzle;
      this.update = 0;
      this.numbers = [...Array(puzzle.letters.length + 2).keys()]; // of the elements, op and =
      this.asked = puzzle.holes[0];
      this.batch = make("tbody");
      this.question = make("tbody", { class: "puzzle-question" });
      this.which = make("p");
      this.hole = make("p");
      this.note = make("p", { "aria-live": "polite" });
      const heads = ["x", "op", "y", "=", "answer"].map((head) => make("th", { scope: "col" }, head));
      this.element = make("div", { class: "puzzle-network" },
        make("p", { class: "puzzle-title" }, "The same table, as the network sees it"),
        this.which,
        make("table", { "aria-label": "Equations as token ids" },
          make("thead", {}, make("tr", {}, ...heads)), this.batch, this.question),
        this.hole,
        make("div", { class: "puzzle-buttons" },
          button("batch", "Next batch", () => this.next()),
          button("numbers", "New numbers", () => this.renumber())),
        this.note);
      this.draw();
    }

    draw() {
      const { letters, holes, batches } = this.puzzle;
      const cells = batches[this.update];
      const trained = letters.length ** 2 - holes.length;
      this.which.textContent = `Update ${this.update + 1}: ${cells.length} of the ${trained} cells that are shown.`;
      this.batch.replaceChildren(...cells.map((cell) => this.line(this.tokens(cell))));
      this.question.replaceChildren(this.line([...this.tokens(this.asked).slice(0, 4), "?"]));
      const [row, column] = this.asked;
      this.hole.textContent = `Last, the hole in row ${letters[row]}, column ${letters[column]}: never in a batch.`;
    }

    tokens([row, column]) {
      return this.puzzle.tokens[row][column].map((id) => this.numbers[id]);
    }

    line(ids) {
      return make("tr", {}, ...ids.map((id) => make("td", {}, String(id))));
    }

    ask(row, column) {
      this.asked = [row, column];
      this.draw();
    }

    next() {
      this.update = (this.update + 1) % this.puzzle.batches.length;
      this.draw();
    }

    // New numbers at random (Fisher and Yates).
    renumber() {
      const { numbers } = this;
      for (let i = numbers.length - 1; i > 0; i -= 1) {
        const j = Math.floor(Math.random() * (i + 1));
        [numbers[i], numbers[j]] = [numbers[j], numbers[i]];
      }
      this.note.textContent = RENAMED;
      this.draw();
    }
  }
})();
