// Form fields: label, help, the control and what is wrong with it, tied together for eyes and screen readers alike.

import { button, h, icon, newId, show } from "./dom.js";

/** A labelled control. `kind`: text, password, url, number, search, area, select (with `options`: [value, label] pairs). */
export class Field {
  constructor({
    label,
    help,
    kind = "text",
    options,
    required,
    optional,
    value = "",
    path,
    beside,
    hideLabel,
    live,
    ...attributes
  }) {
    const id = newId("field");
    this.path = path;
    this.wrong = h("p", { class: "wrong", id: `${id}-wrong`, hidden: true });
    const described = [help && `${id}-help`, `${id}-wrong`].filter(Boolean).join(" ");
    const common = {
      id,
      "aria-describedby": described,
      "aria-required": required ? "true" : null,
      spellcheck: "false",
      ...attributes,
    };
    if (kind === "area") this.input = h("textarea", common);
    else if (kind === "select")
      this.input = h(
        "select",
        common,
        options.map(([known, text]) => h("option", { value: known }, text)),
      );
    else
      this.input = h("input", {
        type: kind,
        autocapitalize: "off",
        ...(kind === "password" ? { autocomplete: "new-password" } : {}),
        ...common,
      });
    if (kind !== "select" || options.some(([known]) => known === value)) this.input.value = value;
    const control =
      kind === "password"
        ? h("div", { class: "with" }, this.input, this.#reveal(label), beside)
        : beside
          ? h("div", { class: "with" }, this.input, beside)
          : this.input;
    this.node = h(
      "div",
      { class: "field" },
      h(
        "label",
        { for: id, class: hideLabel ? "hidden" : null },
        label,
        optional && h("span", { class: "marker" }, " – optional"),
      ),
      control,
      help && h("p", { class: "help", id: `${id}-help` }, help),
      this.wrong,
    );
    this.input.addEventListener("input", () => {
      this.touched = true;
      // Where somebody else looks while one types, what is wrong stays until that one says otherwise.
      if (!live) this.complain(null);
    });
  }

  #reveal(label) {
    const toggle = button(
      "Show",
      () => {
        const hidden = this.input.type === "password";
        this.input.type = hidden ? "text" : "password";
        toggle.setAttribute("aria-label", `${hidden ? "Hide" : "Show"} ${label}`);
        show(toggle, hidden ? "Hide" : "Show");
      },
      { "aria-label": `Show ${label}` },
    );
    return toggle;
  }

  get value() {
    return this.input.value;
  }
  set value(text) {
    this.input.value = text;
  }
  /** Takes a value from elsewhere. A word that is not offered becomes an option: the service says what is wrong with it. */
  take(text) {
    if (this.input.options && ![...this.input.options].some(({ value }) => value === text))
      this.input.append(h("option", { value: text }, text));
    this.value = text;
  }

  /** Says what is wrong, or with null that nothing is. */
  complain(text) {
    complain(this.input, this.wrong, text);
  }
  get isWrong() {
    return !this.wrong.hidden;
  }
}

function complain(input, place, text) {
  if (!place.hidden && place.textContent === text) return;
  place.hidden = !text;
  show(place, text && [icon("warn"), h("span", null, text)]);
  if (text) input.setAttribute("aria-invalid", "true");
  else input.removeAttribute("aria-invalid");
}

/** A switch with a line of explanation. */
export class Switch {
  constructor({ label, help, checked = false, path, onchange }) {
    this.path = path;
    const id = newId("switch");
    this.input = h("input", {
      type: "checkbox",
      role: "switch",
      checked,
      "aria-describedby": `${id}-wrong`,
      onchange: () => {
        this.touched = true;
        onchange?.(this.input.checked);
      },
    });
    this.wrong = h("p", { class: "wrong", id: `${id}-wrong`, hidden: true });
    this.node = h(
      "div",
      { class: "field" },
      h("label", { class: "switch" }, this.input, h("span", { class: "text" }, label, help && h("span", null, help))),
      this.wrong,
    );
  }
  get checked() {
    return this.input.checked;
  }
  set checked(on) {
    this.input.checked = on;
  }
  complain(text) {
    complain(this.input, this.wrong, text);
  }
  get isWrong() {
    return !this.wrong.hidden;
  }
}

/** A search box. */
export function searchBox(label, oninput) {
  const input = h("input", {
    type: "search",
    placeholder: label,
    "aria-label": label,
    oninput: () => oninput(input.value.trim().toLowerCase()),
  });
  return h("div", { class: "searchbox" }, icon("search"), input);
}

/** The parts of a field path: dots part them, and quotes keep a part together. */
export function pathParts(path) {
  return [...path.matchAll(/"([^"]*)"|([^."]+)/g)].map(([, quoted, plain]) => quoted ?? plain);
}

/** A path as people read it. Below a configuration key, the rest says enough. */
export function inWords(path) {
  const [first, ...rest] = pathParts(path);
  return (first !== "configuration" ? [first, ...rest] : rest.length > 1 ? rest.slice(1) : rest).join(" › ");
}

/** The field that a problem is about: the one with the longest path that leads there. */
export function fieldFor(fields, path) {
  const wanted = pathParts(path);
  const fits = (field) => {
    const parts = pathParts(field.path ?? "");
    return parts.length > 0 && parts.length <= wanted.length && parts.every((part, at) => part === wanted[at])
      ? parts.length
      : 0;
  };
  return fields.reduce((best, field) => (fits(field) > (best ? fits(best) : 0) ? field : best), null);
}
