// One resource of the form: a toggle, and behind the pencil an editor of its URL, id field and dates that says what is
// wrong while it is being typed, and what the vendor makes of it.

import { badge, button, h, icon, plural, show, when } from "./dom.js";
import { Field, fieldFor, Switch } from "./fields.js";

const DATES = [
  ["updatedDateField", "Updated: field", "where the record says when it last changed"],
  ["updatedDateFormat", "Updated: format", "such as yyyy-MM-dd'T'HH:mm:ssXXX, or milliseconds"],
  ["updatedDateTimezone", "Updated: time zone", "for dates without an offset: GMT, PST, Europe/Berlin"],
  ["createdDateField", "Created: field", "where the record says when it was made"],
  ["createdDateFormat", "Created: format", "as above"],
  ["createdDateTimezone", "Created: time zone", "as above"],
];
const NUMBERS = [
  ["refreshInterval", "Minutes between polls", "only for this resource; else as above"],
  ["createdCheckTolerance", "Tolerance in seconds", "between made and changed, still read as made"],
  ["pollDelay", "Poll delay in seconds", "for vendors whose search lags"],
  ["pageSize", "Page size", "records on a page"],
];

/** One resource. `path` is where its configuration stands in the body. */
export class Resource {
  constructor(form, path, name, label, defaults) {
    Object.assign(this, { form, path, name, defaults, config: structuredClone(defaults ?? {}) });
    // What the vendor was asked about last; null while nobody has edited anything.
    this.asked = null;
    this.edited = false;
    this.fields = [];
    this.toggle = new Switch({
      label: label ?? name,
      help: label && label !== name ? name : null,
      path: this.path,
      onchange: (on) => this.#switched(on),
    });
    this.edit = button(`Edit ${name}`, () => this.#open(this.editor.hidden), {
      icon: "pencil",
      kind: "quiet",
      hideLabel: true,
      "aria-expanded": "false",
    });
    this.editor = h("div", { class: "resource-editor stack", hidden: true });
    this.notes = h("div", { class: "stack tight" });
    this.outcome = h("div", { class: "stack tight", role: "status" });
    this.node = h(
      "li",
      { class: "resource" },
      h("div", { class: "row between" }, h("div", { class: "grow" }, this.toggle.node), this.edit),
      this.editor,
    );
  }
  get isOn() {
    return this.toggle.checked;
  }
  set(on, config) {
    this.toggle.checked = on;
    this.node.classList.toggle("on", on);
    if (config) this.config = structuredClone(config);
    for (const { field, key, group } of this.fields) field.value = this.#at(group)[key] ?? "";
  }
  #at(group) {
    return (group ? this.config[group] : this.config) ?? {};
  }
  #switched(on) {
    this.node.classList.toggle("on", on);
    this.form.changed();
  }
  #open(open) {
    if (open && this.fields.length === 0) this.#build();
    this.editor.hidden = !open;
    this.edit.setAttribute("aria-expanded", String(open));
    if (open) this.fields[0].field.input.focus();
  }
  /** A field that edits one value of the configuration. */
  #field(key, label, help, { group, kind, numeric } = {}) {
    const field = new Field({
      label,
      help,
      kind,
      path: [this.path, group, key].filter(Boolean).join("."),
      value: this.#at(group)[key] ?? "",
      live: true,
      ...(numeric ? { inputmode: "numeric" } : {}),
      ...(kind === "area" ? { rows: 2 } : {}),
    });
    field.input.addEventListener("input", () => {
      const target = group ? (this.config[group] ??= {}) : this.config;
      const text = field.value.trim();
      if (text === "" && key !== "idField") delete target[key];
      else target[key] = numeric && /^\d+$/.test(text) ? Number(text) : text;
      if (group && Object.keys(target).length === 0) delete this.config[group];
      if (!this.isOn) this.set(true);
      this.edited = true;
      this.form.changed();
    });
    this.fields.push({ field, key, group });
    return field.node;
  }
  #build() {
    const reset = button(
      "Back to the default",
      () => {
        this.set(this.isOn, this.defaults ?? {});
        this.edited = true;
        this.form.changed();
      },
      { icon: "refresh", kind: "slim" },
    );
    show(
      this.editor,
      this.#field("url", "URL", "what is asked for; ${…} stands for the time up to which everything is known", {
        kind: "area",
      }),
      this.#field("idField", "ID field", "where a record says its id; dots lead inwards"),
      h(
        "details",
        null,
        h("summary", null, "Dates and more"),
        h(
          "div",
          { class: "stack" },
          h(
            "div",
            { class: "triple" },
            DATES.map(([key, label, help]) => this.#field(key, label, help, { group: "datesConfiguration" })),
          ),
          h(
            "div",
            { class: "pair" },
            NUMBERS.map(([key, label, help]) => this.#field(key, label, help, { numeric: true })),
          ),
        ),
      ),
      this.notes,
      this.outcome,
      h("div", { class: "row" }, this.defaults && reset),
    );
  }

  /** The field that a problem is about, if the editor has one and is there. */
  fieldOf(path) {
    return fieldFor(
      this.fields.map((one) => one.field),
      path,
    );
  }

  /** Shows what is wrong, opening the editor where the field is. */
  complain(path, text) {
    this.#open(true);
    const field = this.fieldOf(path);
    const folded = field?.node.closest("details");
    if (folded) folded.open = true;
    (field ?? this.toggle).complain(text);
    return (field ?? this.toggle).input;
  }

  /** What was read differently from how it is written. */
  note(lines) {
    show(
      this.notes,
      lines.map((line) => h("p", { class: "small dim" }, icon("warn"), " ", line)),
    );
  }

  /** The vendor is being asked. */
  asking() {
    show(this.outcome, badge("plain", "clock", "Asking the vendor…"));
  }

  /** What the vendor made of it, or null while there is nothing to say. */
  tell(rehearsed) {
    if (!rehearsed) return show(this.outcome);
    const { failure, problems = [], findings = [], samples = [], records = 0 } = rehearsed;
    const rest = [];
    for (const text of problems) {
      const field = this.fields.find(({ key }) => key === keyIn(text))?.field;
      if (field) {
        field.complain(`${text[0].toUpperCase()}${text.slice(1)}.`);
        const folded = field.node.closest("details");
        if (folded) folded.open = true;
      } else rest.push(text);
    }
    return show(
      this.outcome,
      failure
        ? [badge("bad", "warn", "The vendor does not answer this"), h("p", { class: "small" }, failure)]
        : badge(
            problems.length > 0 ? "warn" : "good",
            problems.length > 0 ? "warn" : "check",
            `${plural(records, "record")} read from the vendor`,
          ),
      rest.map((text) => h("p", { class: "small" }, icon("warn"), " ", text)),
      findings.map((text) => h("p", { class: "small dim" }, text)),
      samples.length > 0 &&
        h(
          "p",
          { class: "small dim" },
          "Such as ",
          samples.map((one, at) => [
            at > 0 && ", ",
            h("code", null, one.objectId),
            one.date && [", changed ", when(one.date)],
          ]),
        ),
    );
  }
}

/** The key of the configuration that a sentence is about. */
function keyIn(text) {
  if (text.includes("time zone")) return "updatedDateTimezone";
  return /\b((?:updated|created)Date(?:Field|Format|Timezone)|idField|pageSize)\b/.exec(text)?.[1];
}
