// What the trainer computes with: matrix products and the optimizer's update on float32 numbers, in
// WebAssembly with vectors of four where the browser has them, else in plain JavaScript, about five times slower.
//
// Self-contained: its source is handed to a worker as text.
companion.trainerKernels = function trainerKernels(bytesNeeded, plain) {
  "use strict";

  // ----------------------------------------------------------------------------------------------
  // From WebAssembly's text format to a module: the few instructions that are used here.

  const I32 = 0x7f, V128 = 0x7b, NO_RESULT = 0x40;
  const SIMPLE = { // instructions without immediates
    "i32.add": [0x6a], "f32x4.gt": [0xfd, 0x44], "v128.and": [0xfd, 0x4e], "f32x4.sqrt": [0xfd, 0xe3, 1],
    "f32x4.add": [0xfd, 0xe4, 1], "f32x4.sub": [0xfd, 0xe5, 1], "f32x4.mul": [0xfd, 0xe6, 1],
    "f32x4.div": [0xfd, 0xe7, 1], "f32x4.max": [0xfd, 0xe9, 1],
  };
  const MEMORY = { // those with an alignment and an offset
    "i32.load": [0x28, 2], "v128.load": [0xfd, 0x00, 2], "v128.load32_splat": [0xfd, 0x09, 2],
    "v128.store": [0xfd, 0x0b, 2],
  };

  // A whole number in LEB128, as all numbers of a module are written; `signed` for constants.
  function leb(value, signed = false) {
    const out = [];
    for (;;) {
      const byte = value & 0x7f;
      value >>= 7;
      const done = signed ? (value === 0 && !(byte & 0x40)) || (value === -1 && byte & 0x40) : value === 0;
      out.push(done ? byte : byte | 0x80);
      if (done) return out;
    }
  }

  const vector = (items) => [...leb(items.length), ...items.flat()];
  const section = (number, body) => [number, ...leb(body.length), ...body];
  const text = (name) => vector([...name].map((letter) => [letter.charCodeAt(0)]));

  // Nested lists of words from text in parentheses.
  function parsed(source) {
    const stack = [[]];
    for (const word of source.match(/[()]|[^\s()]+/g)) {
      if (word === "(") stack.push([]);
      else if (word === ")") stack.at(-2).push(stack.pop());
      else stack.at(-1).push(word);
    }
    return stack[0];
  }

  // The body of one function: the locals are its parameters, other integers, and vectors.
  function assembled({ params, integers = [], vectors, body }) {
    const locals = [...params, ...integers, ...vectors];
    const place = (name) => leb(locals.indexOf(name));
    const emit = ([op, ...rest]) => {
      if (op === "i32.const") return [0x41, ...leb(Number(rest[0]), true)];
      if (op === "local.get") return [0x20, ...place(rest[0])];
      if (op === "local.set") return [...emit(rest[1]), 0x21, ...place(rest[0])];
      if (op === "loop") return [0x03, NO_RESULT, ...rest.flatMap(emit), 0x0b];
      if (op === "if") return [...emit(rest[0]), 0x04, NO_RESULT, ...rest.slice(1).flatMap(emit), 0x0b];
      if (op === "again-while") return [...emit(rest[0]), 0x0d, 0]; // branch to the innermost loop
      if (op in MEMORY) {
        const offset = typeof rest[0] === "string" ? Number(rest.shift()) : 0;
        return [...rest.flatMap(emit), ...MEMORY[op], ...leb(offset)];
      }
      return [...rest.flatMap(emit), ...SIMPLE[op]];
    };
    const types = [...integers.map(() => [1, I32]), ...vectors.map(() => [1, V128])];
    const code = [...vector(types), ...parsed(body).flatMap(emit), 0x0b];
    return [...leb(code.length), ...code];
  }

  // A module that imports a memory and exports functions {name: {params, integers, vectors, body}} of integers.
  function moduleOf(functions) {
    const all = Object.entries(functions);
    const types = all.map(([, { params }]) => [0x60, ...vector(params.map(() => [I32])), 0]);
    const exports = all.map(([name], i) => [...text(name), 0, ...leb(i)]);
    const bodies = all.map(([, each]) => assembled(each));
    return new Uint8Array([
      0, 0x61, 0x73, 0x6d, 1, 0, 0, 0,
      ...section(1, vector(types)),
      ...section(2, vector([[...text("js"), ...text("memory"), 2, 0, 1]])),
      ...section(3, vector(all.map((_, i) => leb(i)))),
      ...section(7, vector(exports)),
      ...section(10, vector(bodies)),
    ]);
  }

  // ----------------------------------------------------------------------------------------------
  // The kernels in vectors of four. All places and distances are in bytes.

  const each = (n, write) => Array.from({ length: n }, (_, i) => write(i)).join("\n");
  const get = (name) => `(local.get ${name})`;
  const set = (name, value) => `(local.set ${name} ${value})`;
  const move = (name, by) => set(name, `(i32.add ${get(name)} ${by})`);
  const count = (name, by = 1) => `${move(name, `(i32.const -${by})`)} (again-while ${get(name)})`;

  // Some rows of a product, in tiles of 8 columns: c_rj <- sum over k of a_rk b_kj, or added to what is there.
  // `am` and `ak` lead from a row of a to the next and from a k to the next, `bk` from a k of b, `cm` from a
  // row of c.
  function productRows(rows) {
    const cells = (write) => each(rows, (r) => each(2, (j) => write(`$s${r}${j}`, r, j)));
    const names = (letter) => Array.from({ length: rows }, (_, r) => `$${letter}${r}`);
    const [starts, tops] = [names("a"), names("c")];
    const at = names("at");
    const term = (r, j) => `(f32x4.mul (v128.load32_splat ${get(at[r])}) ${get(`$b${j}`)})`;
    return {
      params: ["$a0", "$b", "$c0", "$tiles", "$k", "$am", "$ak", "$bk", "$cm", "$add"],
      integers: ["$left", "$row", ...starts.slice(1), ...tops.slice(1), ...at],
      vectors: ["$b0", "$b1", ...names("s").flatMap((name) => [`${name}0`, `${name}1`])],
      body: `
        ${each(rows - 1, (r) => `${set(starts[r + 1], `(i32.add ${get(starts[r])} ${get("$am")})`)}
          ${set(tops[r + 1], `(i32.add ${get(tops[r])} ${get("$cm")})`)}`)}
        (loop
          ${cells((sum) => set(sum, `(f32x4.sub ${get(sum)} ${get(sum)})`))}
          (if ${get("$add")} ${cells((sum, r, j) => set(sum, `(v128.load ${16 * j} ${get(tops[r])})`))})
          ${each(rows, (r) => set(at[r], get(starts[r])))}
          ${set("$row", get("$b"))}
          ${set("$left", get("$k"))}
          (loop
            ${each(2, (j) => set(`$b${j}`, `(v128.load ${16 * j} ${get("$row")})`))}
            ${cells((sum, r, j) => set(sum, `(f32x4.add ${get(sum)} ${term(r, j)})`))}
            ${each(rows, (r) => move(at[r], get("$ak")))}
            ${move("$row", get("$bk"))}
            ${count("$left")})
          ${cells((sum, r, j) => `(v128.store ${16 * j} ${get(tops[r])} ${get(sum)})`)}
          ${each(rows, (r) => move(tops[r], "(i32.const 32)"))}
          ${move("$b", "(i32.const 32)")}
          ${count("$tiles")})`,
    };
  }

  // Rows of h: the larger of 0 and the sum of a row of u and a row of v, which `is` and `js` have the places of.
  const JOIN = {
    params: ["$h", "$u", "$v", "$is", "$js", "$rows", "$width"],
    integers: ["$i", "$j", "$left"],
    vectors: ["$zero"],
    body: `
      (loop
        ${set("$i", `(i32.add ${get("$u")} (i32.load ${get("$is")}))`)}
        ${set("$j", `(i32.add ${get("$v")} (i32.load ${get("$js")}))`)}
        ${set("$left", get("$width"))}
        (loop
          (v128.store ${get("$h")}
            (f32x4.max (f32x4.add (v128.load ${get("$i")}) (v128.load ${get("$j")})) ${get("$zero")}))
          ${["$h", "$i", "$j"].map((name) => move(name, "(i32.const 16)")).join("\n")}
          ${count("$left", 16)})
        ${["$is", "$js"].map((name) => move(name, "(i32.const 4)")).join("\n")}
        ${count("$rows")})`,
  };

  // Back from there: where h is above 0, rows of its gradient g are added to those of u and v.
  const SPREAD = {
    params: ["$h", "$g", "$u", "$v", "$is", "$js", "$rows", "$width"],
    integers: ["$i", "$j", "$left"],
    vectors: ["$zero", "$passed"],
    body: `
      (loop
        ${set("$i", `(i32.add ${get("$u")} (i32.load ${get("$is")}))`)}
        ${set("$j", `(i32.add ${get("$v")} (i32.load ${get("$js")}))`)}
        ${set("$left", get("$width"))}
        (loop
          ${set("$passed", `(v128.and (v128.load ${get("$g")}) (f32x4.gt (v128.load ${get("$h")}) ${get("$zero")}))`)}
          (v128.store ${get("$i")} (f32x4.add (v128.load ${get("$i")}) ${get("$passed")}))
          (v128.store ${get("$j")} (f32x4.add (v128.load ${get("$j")}) ${get("$passed")}))
          ${["$h", "$g", "$i", "$j"].map((name) => move(name, "(i32.const 16)")).join("\n")}
          ${count("$left", 16)})
        ${["$is", "$js"].map((name) => move(name, "(i32.const 4)")).join("\n")}
        ${count("$rows")})`,
  };

  // Adam's update with decoupled decay of n numbers (a multiple of 4), as the package's `_adamw`; `values`
  // leads to old1, new1, old2, new2, floor, step and keep.
  const VALUES = ["$old1", "$new1", "$old2", "$new2", "$floor", "$step", "$keep"];
  const mean = (old, past, fresh, now) => `(f32x4.add (f32x4.mul ${get(old)} (v128.load ${get(past)}))
    (f32x4.mul ${fresh} ${get(now)}))`;
  const ADAMW = {
    params: ["$p", "$g", "$m", "$v", "$n", "$values"],
    vectors: [...VALUES, "$gi", "$mi", "$vi"],
    body: `
      ${each(VALUES.length, (i) => set(VALUES[i], `(v128.load32_splat ${4 * i} ${get("$values")})`))}
      (loop
        ${set("$gi", `(v128.load ${get("$g")})`)}
        ${set("$mi", mean("$old1", "$m", get("$new1"), "$gi"))}
        ${set("$vi", mean("$old2", "$v", `(f32x4.mul ${get("$new2")} ${get("$gi")})`, "$gi"))}
        (v128.store ${get("$m")} ${get("$mi")})
        (v128.store ${get("$v")} ${get("$vi")})
        (v128.store ${get("$p")}
          (f32x4.sub (f32x4.mul (v128.load ${get("$p")}) ${get("$keep")})
                     (f32x4.div (f32x4.mul ${get("$step")} ${get("$mi")})
                                (f32x4.add (f32x4.sqrt ${get("$vi")}) ${get("$floor")}))))
        ${["$p", "$g", "$m", "$v"].map((name) => move(name, "(i32.const 16)")).join("\n")}
        ${count("$n", 4)})`,
  };

  // ----------------------------------------------------------------------------------------------
  // Their twins in plain JavaScript. Sums are in float64 there: rounding each to float32 would cost five times as
  // much.

  function plainKernels(buffer) {
    const [f, integers, round] = [new Float32Array(buffer), new Uint32Array(buffer), Math.fround];

    // Two rows and four columns at a time: what is read of b serves both rows.
    const productOf = (rows) => (a, b, c, tiles, k, am, ak, bk, cm, add) => {
      for (let r = 0; r < rows; r += 2) {
        const next = r + 1 < rows ? 1 : 0; // 0: of a single row, the same once more
        for (let j = 0; j < 8 * tiles; j += 4) {
          const [c0, c1] = [((c + r * cm) >> 2) + j, ((c + (r + next) * cm) >> 2) + j];
          let s0 = add ? f[c0] : 0;
          let s1 = add ? f[c0 + 1] : 0;
          let s2 = add ? f[c0 + 2] : 0;
          let s3 = add ? f[c0 + 3] : 0;
          let t0 = add ? f[c1] : 0;
          let t1 = add ? f[c1 + 1] : 0;
          let t2 = add ? f[c1 + 2] : 0;
          let t3 = add ? f[c1 + 3] : 0;
          const other = (next * am) >> 2;
          for (let i = 0, ai = (a + r * am) >> 2, bi = (b >> 2) + j; i < k; i++, ai += ak >> 2, bi += bk >> 2) {
            const x = f[ai];
            const y = f[ai + other];
            const b0 = f[bi];
            const b1 = f[bi + 1];
            const b2 = f[bi + 2];
            const b3 = f[bi + 3];
            s0 += x * b0;
            s1 += x * b1;
            s2 += x * b2;
            s3 += x * b3;
            t0 += y * b0;
            t1 += y * b1;
            t2 += y * b2;
            t3 += y * b3;
          }
          f[c0] = s0;
          f[c0 + 1] = s1;
          f[c0 + 2] = s2;
          f[c0 + 3] = s3;
          f[c1] = t0;
          f[c1 + 1] = t1;
          f[c1 + 2] = t2;
          f[c1 + 3] = t3;
        }
      }
    };

    const join = (h, u, v, is, js, rows, width) => {
      for (let row = 0, at = h >> 2; row < rows; row++) {
        const [i, j] = [(u + integers[(is >> 2) + row]) >> 2, (v + integers[(js >> 2) + row]) >> 2];
        for (let column = 0; column < width >> 2; column++, at++) {
          const sum = f[i + column] + f[j + column];
          f[at] = sum > 0 ? sum : 0;
        }
      }
    };

    const spread = (h, g, u, v, is, js, rows, width) => {
      for (let row = 0, at = 0; row < rows; row++) {
        const [i, j] = [(u + integers[(is >> 2) + row]) >> 2, (v + integers[(js >> 2) + row]) >> 2];
        for (let column = 0; column < width >> 2; column++, at++) {
          if (f[(h >> 2) + at] > 0) {
            f[i + column] += f[(g >> 2) + at];
            f[j + column] += f[(g >> 2) + at];
          }
        }
      }
    };

    const adamw = (p, g, m, v, n, values) => {
      const [old1, new1, old2, new2, floor, step, keep] = f.subarray(values >> 2, (values >> 2) + 7);
      [p, g, m, v] = [p >> 2, g >> 2, m >> 2, v >> 2];
      for (let i = 0; i < n; i++) {
        const gi = f[g + i];
        const mi = (f[m + i] = round(round(old1 * f[m + i]) + round(new1 * gi)));
        const vi = (f[v + i] = round(round(old2 * f[v + i]) + round(round(new2 * gi) * gi)));
        const moved = round(round(step * mi) / round(round(Math.sqrt(vi)) + floor));
        f[p + i] = round(round(f[p + i] * keep) - moved);
      }
    };

    return { productOf1: productOf(1), productOf4: productOf(4), join, spread, adamw };
  }

  // ----------------------------------------------------------------------------------------------

  // {kernels, buffer, vectors}: vectors of four where WebAssembly has them, and is not refused.
  function made() {
    if (!plain && typeof WebAssembly === "object") {
      const products = { productOf1: productRows(1), productOf4: productRows(4) };
      const bytes = moduleOf({ ...products, join: JOIN, spread: SPREAD, adamw: ADAMW });
      if (WebAssembly.validate(bytes)) {
        const memory = new WebAssembly.Memory({ initial: Math.ceil(bytesNeeded / 65536) });
        const { exports } = new WebAssembly.Instance(new WebAssembly.Module(bytes), { js: { memory } });
        return { kernels: exports, buffer: memory.buffer, vectors: true };
      }
    }
    const buffer = new ArrayBuffer(16 * Math.ceil(bytesNeeded / 16));
    return { kernels: plainKernels(buffer), buffer, vectors: false };
  }

  const { kernels, buffer, vectors } = made();
  let used = 0;

  // Memory for n numbers that the kernels can reach by its byteOffset, all zeros.
  function array(kind, n) {
    const found = new kind(buffer, used, n);
    used += 16 * Math.ceil(n / 4);
    return found;
  }

  return {
    vectors,
    ...kernels,
    floats: (n) => array(Float32Array, n),
    integers: (n) => array(Uint32Array, n),

    // c <- a b, or c + a b: m x n, n a multiple of 8, summed over k. `am` and `ak` are the distances in a from
    // one m and one k to the next, `bk` and `cm` those of rows in b and c, all in numbers.
    product(m, n, k, a, am, ak, b, bk, c, cm, add = 0) {
      for (let row = 0; row < m; ) {
        const four = m - row >= 4;
        const [from, to] = [a.byteOffset + 4 * row * am, c.byteOffset + 4 * row * cm];
        const kernel = four ? kernels.productOf4 : kernels.productOf1;
        kernel(from, b.byteOffset, to, n / 8, k, 4 * am, 4 * ak, 4 * bk, 4 * cm, add);
        row += four ? 4 : 1;
      }
    },
  };
};
