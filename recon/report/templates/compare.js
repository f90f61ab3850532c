// Two pictures of one view, one over the other, with a handle between them.
const KINDS = {
  truth: "ground truth", prediction: "prediction", difference: "difference", normals: "normals",
  depth: "depth", object: "object alone", background: "background alone",
  albedo: "base colour", roughness: "roughness",
};
const KIND_SCALES = {
  difference: { label: "absolute difference", map: "magma" },
  depth: { label: "depth", map: "viridis" },
};

class Compare {
  constructor(element) {
    this.element = element;
    for (const name of ["set", "left", "right", "view", "pair", "strip"]) this[name] = element.querySelector(`.${name}`);
    this.split = element.querySelector(".split input");
    this.set.addEventListener("change", () => this.showSet());
    for (const input of [this.left, this.right, this.view, this.split]) input.addEventListener("input", () => this.show());
    this.pair.addEventListener("pointerdown", event => { this.pair.setPointerCapture(event.pointerId); this.drag(event); });
    this.pair.addEventListener("pointermove", event => this.pair.hasPointerCapture(event.pointerId) && this.drag(event));
  }

  setRun(run) {
    this.run = run;
    const names = Object.keys(run.sets);
    this.element.hidden = names.length === 0;
    document.getElementById("no-views").hidden = names.length > 0;
    if (!names.length) return;
    fill(this.set, names.map(name => [name, name]));
    this.showSet();
  }

  showSet() {
    const { views, kinds, aspect } = this.current;
    const options = Object.keys(KINDS).filter(kind => kind in kinds).map(kind => [kind, KINDS[kind]]);
    fill(this.left, options, "truth");
    fill(this.right, options, "prediction");
    this.view.max = views - 1;
    this.pair.style.aspectRatio = aspect;
    this.fillStrip();
    this.show();
  }

  // A small picture of every view, to be clicked; by keyboard the slider does the same.
  fillStrip() {
    const { views, aspect, errors } = this.current;
    const worst = Math.max(...errors, 1e-9);
    this.strip.replaceChildren(...Array.from({ length: views }, (_, view) => {
      const button = document.createElement("button");
      Object.assign(button, { type: "button", tabIndex: -1, onclick: () => { this.view.value = view; this.show(); } });
      button.setAttribute("aria-label", `View ${view}`);
      const [thumb, bar] = ["thumb", "share"].map(name => Object.assign(document.createElement("i"), { className: name }));
      thumb.style.aspectRatio = aspect;
      bar.style.width = `${(100 * (errors[view] ?? 0)) / worst}%`;
      button.append(thumb, bar);
      return button;
    }));
    this.stripKind = undefined;
  }

  showStrip(current) {
    const kind = this.right.value;
    [...this.strip.children].forEach((button, view) => {
      if (this.stripKind !== kind) this.place(button.firstChild, kind, view);
      view === current ? button.setAttribute("aria-current", "true") : button.removeAttribute("aria-current");
    });
    this.stripKind = kind;
  }

  get current() {
    return this.run.sets[this.set.value];
  }

  show() {
    const view = Number(this.view.value);
    this.place(this.element.querySelector(".a"), this.left.value, view);
    this.place(this.element.querySelector(".b"), this.right.value, view);
    this.showStrip(view);
    this.pair.style.setProperty("--split", `${this.split.value}%`);
    const error = this.current.errors[view];
    this.view.nextElementSibling.textContent = `${view}${error == null ? "" : ` · error ${error.toFixed(4)}`}`;
    this.view.setAttribute("aria-valuetext", `view ${view} of ${this.set.value}`);
    this.pair.setAttribute("aria-label",
      `View ${view} of ${this.set.value}, run ${this.run.name}: ${KINDS[this.left.value]} left, ${KINDS[this.right.value]} right`);
    const kinds = [...new Set([this.left.value, this.right.value])];
    ["left", "right"].forEach((side, i) => showScale(document.getElementById(`scale-${side}`), this.scale(kinds[i])));
    memory.write("compare", { set: this.set.value, left: this.left.value, right: this.right.value, view, split: this.split.value });
  }

  scale(kind) {
    const range = KIND_SCALES[kind] && this.current.ranges[kind];
    return range && { ...KIND_SCALES[kind], low: range[0], high: range[1] };
  }

  place(element, kind, view) {
    const { columns, rows, kinds } = this.current;
    const column = view % columns;
    const row = Math.floor(view / columns);
    element.style.backgroundImage = `url(${pictureUrl(kinds[kind])})`;
    element.style.backgroundSize = `${100 * columns}% ${100 * rows}%`;
    element.style.backgroundPosition = `${(100 * column) / Math.max(columns - 1, 1)}% ${(100 * row) / Math.max(rows - 1, 1)}%`;
  }

  drag({ clientX }) {
    const { left, width } = this.pair.getBoundingClientRect();
    this.split.value = (100 * (clientX - left)) / width;
    this.show();
  }

  restore() {
    const kept = memory.read("compare");
    if (!kept || !(kept.set in this.run.sets)) return;
    this.set.value = kept.set;
    this.showSet();
    for (const name of ["left", "right", "view", "split"]) this[name].value = kept[name];
    this.show();
  }
}

// Options of a <select>, which keeps its choice where it can.
function fill(select, options, first) {
  const kept = select.value || first;
  select.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
  const values = options.map(([value]) => value);
  select.value = values.includes(kept) ? kept : values.includes(first) ? first : values[0];
}
