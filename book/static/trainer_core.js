// One run of the package in a browser: the same random streams, split, first weights and batches, the same
// network (`model.MLP` with one hidden layer), loss and optimizer, evaluated at the same steps.
//
// Self-contained: its source is handed to a worker as text. A run is {operation, p, train_fraction, outliers,
// seed, d_model, lr, weight_decay}; what else a `Run` has is at the package's default, or in FIXED.
// Shapes: N equations, B of a batch, P elements, V = P + 2 tokens, D = d_model, F = 4 D.
companion.trainerCore = function trainerCore(kernelsOf) {
  "use strict";
  const FIXED = { beta1: 0.9, beta2: 0.98, eps: 1e-8, warmup: 10, batch: 512 };
  const PART = 512; // equations evaluated at once

  // ----------------------------------------------------------------------------------------------
  // Random numbers, as `streams`: integers of 64 bits as two of 32, [high, low]

  const PURPOSE = { split: 0, outliers: 1, init: 2, order: 3 };
  const GOLDEN = [0x9e3779b9, 0x7f4a7c15];
  let [high, low] = [0, 0]; // what `times` and `mix` give: two numbers, without an array for each

  function times(h, l, factorHigh, factorLow) {
    const [l0, l1, f0, f1] = [l & 0xffff, l >>> 16, factorLow & 0xffff, factorLow >>> 16];
    const middle = l1 * f0 + ((l0 * f0) >>> 16);
    const carry = l1 * f1 + (middle >>> 16) + ((l0 * f1 + (middle & 0xffff)) >>> 16);
    high = (Math.imul(h, factorLow) + Math.imul(l, factorHigh) + carry) | 0;
    low = Math.imul(l, factorLow) >>> 0;
  }

  function mix(h, l) {
    times(h ^ (h >>> 30), l ^ ((l >>> 30) | (h << 2)), 0xbf58476d, 0x1ce4e5b9);
    times(high ^ (high >>> 27), low ^ ((low >>> 27) | (high << 5)), 0x94d049bb, 0x133111eb);
    [high, low] = [high ^ (high >>> 31), (low ^ ((low >>> 31) | (high << 1))) >>> 0];
  }

  function plus([h, l], [h2, l2]) {
    const sum = l + l2;
    return [(h + h2 + (sum > 0xffffffff ? 1 : 0)) | 0, sum >>> 0];
  }

  function fold(key, value) {
    times(0, value, ...GOLDEN);
    const offset = [high, low];
    mix(...key);
    mix(...plus([high, low], offset));
    return [high, low];
  }

  const stream = (seed, purpose, step = 0) => fold(fold([0, seed], purpose), step);

  // 64 random bits for each of n counters: {high: Int32Array, low: Uint32Array}.
  function bits(key, n) {
    const found = { high: new Int32Array(n), low: new Uint32Array(n) };
    for (let i = 0, at = key; i < n; i++, at = plus(at, GOLDEN)) {
      mix(...at);
      found.high[i] = high;
      found.low[i] = low;
    }
    return found;
  }

  const uniform = (key, n) => Float32Array.from(bits(key, n).high, (h) => (h >>> 8) * 2 ** -24);

  function normal(key, n) {
    const quantiles = normalQuantiles();
    const { high: h, low: l } = bits(key, Math.ceil(n / 4));
    const sixteen = (i) => ((i & 2 ? h[i >> 2] : l[i >> 2]) >>> (i & 1 ? 16 : 0)) & 0xffff;
    return Float32Array.from({ length: n }, (_, i) => quantiles[sixteen(i) ^ 0x8000]);
  }

  function permutation(key, n) {
    const { high: h, low: l } = bits(key, n);
    return Uint32Array.from({ length: n }, (_, i) => i).sort((a, b) => h[a] - h[b] || l[a] - l[b] || a - b);
  }

  // The 2 ** 16 equally likely quantiles of the normal distribution, scaled to variance 1.
  let quantilesMade = null;
  function normalQuantiles() {
    if (quantilesMade) return quantilesMade;
    const n = 2 ** 16;
    const values = Float64Array.from({ length: n }, (_, i) => quantile((i + 0.5) / n));
    let [sum, lost] = [0, 0]; // Kahan's: the plain sum is wrong by more than float32 would show
    for (const value of values) {
      const term = value * value - lost;
      lost = sum + term - sum - term;
      sum += term;
    }
    return (quantilesMade = Float32Array.from(values, (value) => value / Math.sqrt(sum / n)));
  }

  // Wichura's algorithm AS 241, right to about 1e-16, for shares from exp(-25) on.
  function quantile(share) {
    const ratio = (r, above, below) => polynomial(r, above) / polynomial(r, below);
    const q = share - 0.5;
    if (Math.abs(q) <= 0.425) return q * ratio(0.180625 - q * q, CENTRE.above, CENTRE.below);
    const r = Math.sqrt(-Math.log(q < 0 ? share : 1 - share));
    return Math.sign(q) * ratio(r - 1.6, TAIL.above, TAIL.below);
  }

  const polynomial = (r, coefficients) => coefficients.reduce((sum, c) => sum * r + c);
  const CENTRE = { // highest power first
    above: [
      2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4, 4.5921953931549871457e4,
      1.3731693765509461125e4, 1.9715909503065514427e3, 1.3314166789178437745e2, 3.387132872796366608,
    ],
    below: [
      5.226495278852854561e3, 2.8729085735721942674e4, 3.930789580009271061e4, 2.1213794301586595867e4,
      5.3941960214247511077e3, 6.871870074920579083e2, 4.2313330701600911252e1, 1,
    ],
  };
  const TAIL = {
    above: [
      7.7454501427834140764e-4, 2.27238449892691845833e-2, 2.4178072517745061177e-1, 1.27045825245236838258,
      3.64784832476320460504, 5.7694972214606914055, 4.6303378461565452959, 1.42343711074968357734,
    ],
    below: [
      1.05075007164441684324e-9, 5.475938084995344946e-4, 1.51986665636164571966e-2, 1.4810397642748007459e-1,
      6.8976733498510000455e-1, 1.6763848301838038494, 2.05319162663775882187, 1,
    ],
  };

  // ----------------------------------------------------------------------------------------------
  // Table, split and batches, as `data` and `schedule`

  const power = (base, exponent, p) => {
    let result = 1;
    for (let i = 0; i < exponent; i++) result = (result * base) % p;
    return result;
  };
  const OPERATIONS = {
    "x+y": (x, y, p) => (x + y) % p,
    "x-y": (x, y, p) => (x - y + p) % p,
    "x*y": (x, y, p) => (x * y) % p,
    "x/y": (x, y, p) => (x * power(y, p - 2, p)) % p, // of a prime p, without y = 0
  };

  const isPrime = (p) => p > 1 && !Array.from({ length: p }, (_, d) => d).some((d) => d > 1 && p % d === 0);

  // Equations of a training fraction: the nearest whole number, and of two the even one.
  function nTrain(fraction, n) {
    const [whole, rest] = [Math.floor(fraction * n), (fraction * n) % 1];
    return rest === 0.5 ? whole + (whole % 2) : whole + (rest > 0.5);
  }

  // {x, y, label, isTrain: an entry an equation; train: training equations in shuffled order, outliers first}
  function dataset({ operation, p, train_fraction: fraction, outliers, seed }) {
    const first = operation === "x/y" ? 1 : 0; // of the second operands
    const n = p * (p - first);
    const x = Uint16Array.from({ length: n }, (_, i) => Math.floor(i / (p - first)));
    const y = Uint16Array.from({ length: n }, (_, i) => first + (i % (p - first)));
    const answer = x.map((each, i) => OPERATIONS[operation](each, y[i], p));
    const train = permutation(stream(seed, PURPOSE.split), n).subarray(0, nTrain(fraction, n));
    const isTrain = new Uint8Array(n);
    for (const equation of train) isTrain[equation] = 1;
    const label = answer.slice();
    const drawn = bits(stream(seed, PURPOSE.outliers), outliers);
    for (let i = 0; i < outliers; i++) {
      const value = (BigInt(drawn.high[i]) * 2n ** 32n + BigInt(drawn.low[i])) >> 1n;
      const [size, rest] = [BigInt(n), value % BigInt(n)];
      label[train[i]] = answer[Number((rest + size) % size)];
    }
    return { x, y, label, train, isTrain };
  }

  // A function from an update to the equations of its batch, as `schedule.batch`.
  function batches(seed, train) {
    const size = Math.min(train.length, FIXED.batch, Math.ceil(train.length / 2));
    const perEpoch = Math.ceil(train.length / size);
    let [epoch, order] = [-1, null];
    return (update) => {
      const number = update % perEpoch;
      if (epoch !== (update - number) / perEpoch) {
        epoch = (update - number) / perEpoch;
        order = permutation(stream(seed, PURPOSE.order, epoch), train.length).map((place) => train[place]);
      }
      return order.subarray(number * size, (number + 1) * size);
    };
  }

  // The first step after another at which every run is evaluated: 40 a decade from 100 on.
  function nextEvaluation(step) {
    if (step < 10) return [1, 2, 5, 10].find((each) => each > step);
    const decade = 10 ** Math.floor(Math.log10(step) + 1e-9);
    const tenths = Math.floor((10 * step) / decade); // 10 to 99
    if (decade === 10) return 10 * (Math.floor(step / 10) + 1);
    const spacing = tenths < 30 ? 1 : tenths < 50 ? 2 : 5;
    return ((Math.floor(tenths / spacing) + 1) * spacing * decade) / 10;
  }

  // ----------------------------------------------------------------------------------------------
  // Network, gradient and update, as `model.MLP`, `ensemble` and `optim`

  class Trainer {
    constructor(run, plain) {
      this.run = run;
      this.data = dataset(run);
      this.batch = batches(run.seed, this.data.train);
      this.step = 0;
      const [P, V, D, F] = [run.p, run.p + 2, run.d_model, 4 * run.d_model];
      this.sizes = { P, V, D, F, wide: 8 * Math.ceil(V / 8) }; // logits in rows of whole tiles
      const n = V * D + 2 * D * F + V * F;
      const others = 4 * P * F + 2 * D * F + this.sizes.wide * (F + PART) + 2 * PART * F + 2 * PART;
      this.kernels = kernelsOf(4 * (4 * n + others + 200), plain);
      const floats = (size) => this.kernels.floats(size);
      Object.assign(this, { weights: floats(n), gradient: floats(n), first: floats(n), second: floats(n) });
      const parts = (flat) => ({
        embedding: flat.subarray(0, V * D),
        hidden: flat.subarray(V * D, V * D + 2 * D * F), // (F, 2 D)
        output: flat.subarray(V * D + 2 * D * F), // (V, F)
      });
      [this.w, this.dw] = [parts(this.weights), parts(this.gradient)];
      this.turned = { hidden: floats(2 * D * F), output: floats(F * this.sizes.wide) };
      this.ofX = floats(P * F); // what x adds to the hidden layer, and y
      this.ofY = floats(P * F);
      [this.dOfX, this.dOfY] = [floats(P * F), floats(P * F)];
      [this.h, this.dh, this.z] = [floats(PART * F), floats(PART * F), floats(PART * this.sizes.wide)];
      [this.xs, this.ys] = [this.kernels.integers(PART), this.kernels.integers(PART)]; // where in them, in bytes
      this.values = floats(8);
      this.initialise();
    }

    // Embeddings N(0, 1), linear layers uniform within 1 / sqrt(fan_in).
    initialise() {
      const { D, F } = this.sizes;
      const key = stream(this.run.seed, PURPOSE.init);
      this.w.embedding.set(normal(fold(key, 0), this.w.embedding.length));
      for (const [number, weights, fanIn] of [[1, this.w.hidden, 2 * D], [2, this.w.output, F]]) {
        const draws = uniform(fold(key, number), weights.length);
        weights.set(draws.map((u) => Math.fround(2 * u - 1) / Math.fround(Math.sqrt(fanIn))));
      }
    }

    // What only depends on the weights: transposes, and the hidden layer's sums for each x and each y.
    prepare() {
      const { P, V, D, F, wide } = this.sizes;
      transpose(this.w.hidden, F, 2 * D, this.turned.hidden, F);
      transpose(this.w.output, V, F, this.turned.output, wide);
      const [forX, forY] = [this.turned.hidden, this.turned.hidden.subarray(D * F)];
      this.kernels.product(P, F, D, this.w.embedding, D, 1, forX, F, this.ofX, F);
      this.kernels.product(P, F, D, this.w.embedding, D, 1, forY, F, this.ofY, F);
    }

    // Logits of some equations into z, (B, wide), and their hidden layer into h, (B, F).
    forward(equations) {
      const { F, wide } = this.sizes;
      const { h, kernels } = this;
      this.xs.set(equations.map((equation) => 4 * F * this.data.x[equation]));
      this.ys.set(equations.map((equation) => 4 * F * this.data.y[equation]));
      kernels.join(...[h, this.ofX, this.ofY, this.xs, this.ys].map(placeOf), equations.length, 4 * F);
      kernels.product(equations.length, wide, F, h, F, 1, this.turned.output, wide, this.z, wide);
    }

    // One update: forward, the gradient of the batch's mean cross-entropy, AdamW.
    update() {
      const equations = this.batch(this.step);
      this.prepare();
      this.forward(equations);
      this.lossGradient(equations);
      this.backward(equations);
      this.adamw();
      this.step++;
    }

    // z <- (softmax(z) - one_hot) / B
    lossGradient(equations) {
      const { V, wide } = this.sizes;
      const { z } = this;
      for (let b = 0; b < equations.length; b++) {
        const at = b * wide;
        let [most, sum] = [-Infinity, 0];
        for (let v = at; v < at + V; v++) if (z[v] > most) most = z[v];
        for (let v = at; v < at + V; v++) sum += z[v] = Math.exp(z[v] - most);
        const share = 1 / (sum * equations.length);
        for (let v = at; v < at + V; v++) z[v] *= share;
        z[at + this.data.label[equations[b]]] -= 1 / equations.length;
      }
    }

    backward(equations) {
      const { P, V, D, F, wide } = this.sizes;
      const { kernels, w, dw, h, dh, dOfX, dOfY } = this;
      kernels.product(V, F, equations.length, this.z, 1, wide, h, F, dw.output, F);
      kernels.product(equations.length, F, V, this.z, wide, 1, w.output, F, dh, F);
      dOfX.fill(0);
      dOfY.fill(0);
      kernels.spread(...[h, dh, dOfX, dOfY, this.xs, this.ys].map(placeOf), equations.length, 4 * F);
      // The hidden weights are those of x and those of y side by side.
      kernels.product(F, D, P, dOfX, 1, F, w.embedding, D, dw.hidden, 2 * D);
      kernels.product(F, D, P, dOfY, 1, F, w.embedding, D, dw.hidden.subarray(D), 2 * D);
      kernels.product(P, D, F, dOfX, F, 1, w.hidden, 2 * D, dw.embedding, D);
      kernels.product(P, D, F, dOfY, F, 1, w.hidden.subarray(D), 2 * D, dw.embedding, D, 1);
    }

    adamw() {
      const { lr, weight_decay: decay } = this.run;
      const { beta1, beta2, eps, warmup } = FIXED;
      const rate = lr * Math.min(this.step / warmup, 1);
      const root = Math.sqrt(1 - beta2 ** (this.step + 1));
      const scale = root / (1 - beta1 ** (this.step + 1));
      this.values.set([beta1, 1 - beta1, beta2, 1 - beta2, eps * root, rate * scale, 1 - rate * decay]);
      const flat = [this.weights, this.gradient, this.first, this.second].map(placeOf);
      this.kernels.adamw(...flat, this.weights.length, placeOf(this.values));
    }

    // ------------------------------------------------------------------------------------------
    // What is seen of it

    // Losses and accuracies over the whole table, and which equations are answered rightly.
    evaluate() {
      const { V, wide } = this.sizes;
      const { label, isTrain } = this.data;
      const n = label.length;
      const totals = [0, 1].map(() => ({ loss: 0, right: 0, count: 0 })); // validation, training
      const right = new Uint8Array(n);
      this.prepare();
      for (let start = 0; start < n; start += PART) {
        const equations = Uint32Array.from({ length: Math.min(PART, n - start) }, (_, i) => start + i);
        this.forward(equations);
        equations.forEach((equation, b) => {
          const logits = this.z.subarray(b * wide, b * wide + V);
          const total = totals[isTrain[equation]];
          right[equation] = argmax(logits) === label[equation] ? 1 : 0;
          total.loss += crossEntropy(logits, label[equation]);
          total.right += right[equation];
          total.count += 1;
        });
      }
      const [validation, train] = totals.map(({ loss, right, count }) => [loss / count, right / count]);
      const norm = Math.sqrt(this.weights.reduce((sum, weight) => sum + weight * weight, 0));
      const row = { step: this.step, train_loss: train[0], train_accuracy: train[1] };
      return { row: { ...row, validation_loss: validation[0], validation_accuracy: validation[1], norm }, right };
    }

    // The elements in the plane of the strongest frequency of their embeddings.
    plane() {
      const { P, D } = this.sizes;
      return planeOf(this.w.embedding.subarray(0, P * D), D, places(this.run));
    }
  }

  const placeOf = (array) => array.byteOffset;

  function transpose(from, rows, columns, to, stride) {
    for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) to[c * stride + r] = from[r * columns + c];
  }

  function argmax(values) {
    let best = 0;
    for (let i = 1; i < values.length; i++) if (values[i] > values[best]) best = i;
    return best;
  }

  // log(1 + sum of exp(z_v - z_label) over v != label) in float64, as `layers.cross_entropy`.
  function crossEntropy(logits, label) {
    let [most, others] = [-Infinity, 0];
    for (const z of logits) if (z > most) most = z;
    for (let v = 0; v < logits.length; v++) if (v !== label) others += Math.exp(logits[v] - most);
    const odds = Math.log(others) - (logits[label] - most);
    return odds > 0 ? odds + Math.log1p(Math.exp(-odds)) : Math.log1p(Math.exp(odds));
  }

  // Where each element stands on the circle that the operation may be learned as: x itself, or for products
  // modulo a prime its logarithm, which 0 does not have (-1).
  function places({ operation, p }) {
    const natural = Array.from({ length: p }, (_, x) => x);
    if (!/[*/]/.test(operation) || !isPrime(p)) return { place: natural, n: p };
    const ofGenerator = (g) => natural.slice(1).map((k) => power(g, k, p));
    const cycle = natural.slice(2).map(ofGenerator).find((powers) => new Set(powers).size === p - 1);
    const place = new Array(p).fill(-1);
    cycle.forEach((x, k) => (place[x] = (k + 1) % (p - 1)));
    return { place, n: p - 1 };
  }

  // The strongest frequency f of rows (P, D) along the circle, its share of their variance, and each row in the
  // plane that cos and sin of 2 pi f place / n span: {frequency, share, n, place, points: (P, 2)}.
  function planeOf(rows, D, { place, n }) {
    const members = [...place.keys()].filter((x) => place[x] >= 0);
    const mean = new Float64Array(D);
    for (const x of members) for (let d = 0; d < D; d++) mean[d] += rows[x * D + d] / n;
    const centred = Float64Array.from(rows, (value, i) => value - mean[i % D]);
    const waves = (f) => {
      const found = [new Float64Array(D), new Float64Array(D)];
      for (const x of members) {
        const angle = (2 * Math.PI * ((f * place[x]) % n)) / n;
        const [c, s] = [Math.cos(angle), Math.sin(angle)];
        for (let d = 0; d < D; d++) {
          found[0][d] += c * centred[x * D + d];
          found[1][d] += s * centred[x * D + d];
        }
      }
      return found;
    };
    const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);
    let best = { size: -1 };
    for (let f = 1; 2 * f < n; f++) {
      const [c, s] = waves(f);
      const size = dot(c, c) + dot(s, s);
      if (size > best.size) best = { size, frequency: f, c, s };
    }
    const ofMember = (x) => centred.subarray(x * D, (x + 1) * D);
    const variance = members.reduce((sum, x) => sum + dot(ofMember(x), ofMember(x)), 0);
    const axes = orthonormal(best.c, best.s, dot);
    const points = Float32Array.from([...place.keys()].flatMap((x) => axes.map((axis) => dot(axis, ofMember(x)))));
    return { frequency: best.frequency, share: (2 * best.size) / (n * variance), n, place, points };
  }

  // The pair of orthonormal vectors nearest to two vectors M, (M M')^(-1/2) M, which turns as little as it can.
  function orthonormal(c, s, dot) {
    const [a, b, d] = [dot(c, c), dot(c, s), dot(s, s)];
    const root = Math.sqrt(Math.max(0, a * d - b * b)); // of the determinant
    const trace = Math.sqrt(a + d + 2 * root);
    const [p, q, r] = [(a + root) / trace, b / trace, (d + root) / trace]; // the square root of M M'
    const area = p * r - q * q;
    return [c.map((value, i) => (r * value - q * s[i]) / area), s.map((value, i) => (p * value - q * c[i]) / area)];
  }

  // ----------------------------------------------------------------------------------------------
  // Training in slices, between which messages are answered

  // `post` tells the page what happens, about every `pace` milliseconds; `later` calls back after other events,
  // when a `slice` of milliseconds is over. Returns what takes messages: {load: run, plain},
  // {go: true, until, stopAt}, {pause: true}, {update: true}.
  function serve(post, later, slice, pace) {
    let [trainer, going, next, round] = [null, null, 0, 0];
    let [rows, spent, done, toldAt] = [[], 0, 0, 0];

    function tell(more = {}) {
      const { row, right } = trainer.evaluate();
      const { isTrain, label, x, y } = trainer.data;
      const table = { isTrain, columns: x.lastIndexOf(0) + 1, first: y[0], n: label.length };
      const state = { row, rows, right, plane: trainer.plane(), table, rate: spent ? done / spent : null };
      post({ ...state, vectors: trainer.kernels.vectors, going: going !== null, ...more });
      [rows, toldAt] = [[], performance.now()];
    }

    // Train until the slice is over, or the run is; only what is on the grid of steps enters the curve.
    function work(mine) {
      if (mine !== round || !going) return;
      const started = performance.now();
      let why = null;
      while (why === null && performance.now() - started < slice) {
        trainer.update();
        done++;
        if (trainer.step === next) {
          const { row } = trainer.evaluate();
          rows.push(row);
          next = nextEvaluation(next);
          if (!Number.isFinite(row.train_loss + row.norm)) why = "diverged";
          else if (row.validation_accuracy >= going.stopAt) why = "learned";
        }
        if (trainer.step === going.until) why ??= "until";
      }
      spent += (performance.now() - started) / 1000;
      if (why !== null) going = null;
      if (why !== null || performance.now() - toldAt >= pace) tell({ why });
      if (going) later(() => work(mine));
    }

    return (message) => {
      if (message.load) {
        trainer = new Trainer(message.load, message.plain);
        [going, next, rows, spent, done] = [null, 1, [trainer.evaluate().row], 0, 0];
        round++;
        tell({ loaded: true });
      } else if (message.go) {
        going = message;
        round++;
        work(round);
      } else if (message.pause) {
        going = null;
        tell();
      } else if (message.update) {
        [going, spent, done] = [{ until: trainer.step + 1, stopAt: Infinity }, 0, 0];
        round++;
        work(round);
      }
    };
  }

  return {
    PURPOSE, stream, fold, bits, uniform, normal, permutation, normalQuantiles, dataset, batches, nextEvaluation,
    isPrime, nTrain, Trainer, planeOf, places, crossEntropy, serve,
  };
};
