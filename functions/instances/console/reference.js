// The reference: openapi.json as a page. It asks for nothing else and keeps nothing.

import { h, show } from "./dom.js";

const place = (id) => document.getElementById(id);
const theme = localStorage.getItem("pollux.theme");
if (theme) document.documentElement.dataset.theme = theme;

/** Markdown as far as the document uses it: code, bold and paragraphs. */
function prose(text) {
  return (text ?? "").split("\n\n").map((paragraph) => h("p", {}, inline(paragraph)));
}

function inline(text) {
  return (text ?? "").split(/(`[^`]+`|\*\*[^*]+\*\*)/).map((part) => {
    if (part.startsWith("`") && part.length > 2) return h("code", {}, part.slice(1, -1));
    if (part.startsWith("**") && part.length > 4) return h("strong", {}, part.slice(2, -2));
    return part;
  });
}

class Reference {
  constructor(document) {
    this.document = document;
    this.calls = Object.entries(document.paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, call]) => ({ path, method, ...call })),
    );
  }

  at(reference) {
    return reference
      .slice(2)
      .split("/")
      .reduce((node, part) => node?.[part], this.document);
  }

  /** The schema itself and the name under which it is known, if it has one. */
  open(schema) {
    if (!schema?.$ref) return { schema: schema ?? {}, name: null };
    return { schema: this.at(schema.$ref) ?? {}, name: schema.$ref.split("/").pop() };
  }

  kind(given) {
    const { schema, name } = this.open(given);
    const several = schema.anyOf ?? schema.oneOf;
    if (several) return several.map((one) => this.kind(one)).join(" or ");
    if (schema.allOf) return name ?? "object";
    if (schema.const !== undefined) return JSON.stringify(schema.const);
    if (schema.type === "array" || schema.items) return `list of ${this.kind(schema.items)}`;
    const type = [schema.type ?? "anything"].flat().join(" or ");
    return schema.format ? `${type}, ${schema.format}` : name && type === "object" ? name : type;
  }

  bounds(given) {
    const { schema } = this.open(given);
    const said = [];
    if (schema.enum) said.push(`one of ${schema.enum.join(", ")}`);
    if (schema.minimum !== undefined && schema.maximum !== undefined) said.push(`${schema.minimum} to ${schema.maximum}`);
    else if (schema.maximum !== undefined) said.push(`at most ${schema.maximum}`);
    else if (schema.minimum) said.push(`at least ${schema.minimum}`);
    if (schema.maxLength !== undefined) said.push(`at most ${schema.maxLength} characters`);
    if (schema.maxItems !== undefined) said.push(`at most ${schema.maxItems} entries`);
    if (schema.maxProperties !== undefined) said.push(`at most ${schema.maxProperties} keys`);
    if (schema.default !== undefined) said.push(`${JSON.stringify(schema.default)} where absent`);
    return said.join("; ");
  }

  /** The members of an object, of the entries of a list, of each alternative. */
  shape(given, above = []) {
    const { schema, name } = this.open(given);
    if (name && above.includes(name)) return null;
    const path = name ? [...above, name] : above;
    const inner = [
      ...(schema.allOf ?? []),
      ...(schema.anyOf ?? schema.oneOf ?? []),
      ...(schema.items ? [schema.items] : []),
    ].map((one) => this.shape(one, path));
    const members = Object.entries(schema.properties ?? {}).map(([key, member]) => {
      const about = member.description ?? (member.$ref ? this.at(member.$ref)?.description : undefined);
      return h(
        "li",
        {},
        h("code", {}, key),
        " ",
        h("span", { class: "kind small" }, this.kind(member)),
        schema.required?.includes(key) ? null : h("span", { class: "dim small" }, " optional"),
        this.bounds(member) ? h("span", { class: "dim small" }, `, ${this.bounds(member)}`) : null,
        about ? [" – ", inline(about)] : null,
        this.shape(member, path),
      );
    });
    const list = members.length ? h("ul", {}, members) : null;
    return list || inner.some(Boolean) ? [list, inner] : null;
  }

  who(call) {
    const names = (call.security ?? []).map((one) => Object.keys(one)[0]);
    if (!names.length) return "Anybody may call.";
    const said = { organization: "`User <secret>, Organization <secret>`", element: "`User <secret>, Element <token>`" };
    return `\`Authorization:\` ${names.map((name) => said[name] ?? name).join(" or ")}.`;
  }

  call(call) {
    const parameters = (call.parameters ?? []).map((one) =>
      h(
        "tr",
        {},
        h("td", {}, h("code", {}, one.name), one.required ? h("div", { class: "needed" }, "required") : null),
        h("td", {}, one.in),
        h("td", {}, this.kind(one.schema), this.bounds(one.schema) ? h("div", { class: "dim small" }, this.bounds(one.schema)) : null),
        h("td", {}, inline(one.description)),
      ),
    );
    const answers = Object.entries(call.responses).map(([status, given]) => {
      const answer = given.$ref ? this.at(given.$ref) : given;
      const schema = answer.content?.["application/json"]?.schema;
      const shown = status === "200" && schema ? h("div", { class: "kind" }, this.kind(schema)) : null;
      return h("tr", {}, h("td", {}, h("code", {}, status)), h("td", {}, inline(answer.description), shown));
    });
    const taken = call.requestBody?.content["application/json"]?.schema;
    const given = call.responses["200"]?.content?.["application/json"]?.schema;
    const example = taken && this.open(taken).schema.example;
    const heads = (...names) => h("thead", {}, h("tr", {}, names.map((name) => h("th", { scope: "col" }, name))));
    const shape = (title, schema) => {
      const shape = schema && this.shape(schema);
      return shape ? [h("h3", {}, title), h("div", { class: "shape" }, shape)] : null;
    };
    return h(
      "details",
      { class: "call", id: call.operationId },
      h(
        "summary",
        {},
        h("span", { class: `verb ${call.method}` }, call.method),
        h("code", { class: "path" }, call.path),
        h("span", { class: "what" }, call.summary),
      ),
      h(
        "div",
        {},
        prose(call.description),
        h("p", { class: "small" }, inline(this.who(call))),
        parameters.length
          ? [h("h3", {}, "Parameters"), h("table", {}, heads("Name", "In", "Value", "What"), h("tbody", {}, parameters))]
          : null,
        shape(call.requestBody?.required === false ? "Body, optional" : "Body", taken),
        example ? h("pre", { tabindex: "0", "aria-label": "Example of a body" }, JSON.stringify(example, null, 2)) : null,
        shape("Answer", given),
        h("h3", {}, "Statuses"),
        h("table", {}, heads("Status", "What"), h("tbody", {}, answers)),
      ),
    );
  }

  of(tag) {
    return this.calls.filter((call) => call.tags.includes(tag.name));
  }

  draw() {
    const entry = (call) =>
      h(
        "li",
        { "data-call": call.operationId },
        h("a", { href: `#${call.operationId}` }, h("span", { class: `verb ${call.method}` }, call.method), h("span", {}, call.summary)),
      );
    show(place("contents"), this.document.tags.map((tag) => h("section", {}, h("h3", {}, tag.name), h("ul", {}, this.of(tag).map(entry)))));
    show(
      place("reference"),
      prose(this.document.info.description),
      h("p", {}, "The same for programs: ", h("a", { href: "elements/api-v2/openapi.json" }, "openapi.json"), `, OpenAPI ${this.document.openapi}.`),
      this.document.tags.map((tag) => h("section", {}, h("h2", {}, tag.name), h("p", { class: "dim" }, tag.description), this.of(tag).map((call) => this.call(call)))),
    );
    place("reference").removeAttribute("aria-busy");
  }

  /** Hides what does not hold every word. */
  find(words) {
    const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
    let found = 0;
    for (const call of this.calls) {
      const text = [call.path, call.method, call.summary, call.description, ...call.tags, ...Object.keys(call.responses)].join(" ").toLowerCase();
      const hidden = !wanted.every((word) => text.includes(word));
      found += hidden ? 0 : 1;
      place(call.operationId).hidden = hidden;
      document.querySelector(`[data-call="${call.operationId}"]`).hidden = hidden;
    }
    for (const section of document.querySelectorAll("#contents section, #reference section")) {
      section.hidden = !section.querySelector("li:not([hidden]), details:not([hidden])");
    }
    place("found").textContent = wanted.length ? `${found} of ${this.calls.length} calls` : `${this.calls.length} calls`;
  }
}

/** Opens the call that the address names. */
function turn() {
  const named = place(decodeURIComponent(location.hash.slice(1)));
  if (!(named instanceof HTMLDetailsElement)) return;
  named.open = true;
  named.scrollIntoView();
  named.querySelector("summary").focus({ preventScroll: true });
}

try {
  const answer = await fetch("elements/api-v2/openapi.json", { headers: { Accept: "application/json" } });
  if (!answer.ok) throw new Error(`the service answered ${answer.status}`);
  const reference = new Reference(await answer.json());
  reference.draw();
  reference.find("");
  place("find").addEventListener("input", (event) => reference.find(event.target.value));
  addEventListener("hashchange", turn);
  turn();
} catch (error) {
  show(place("reference"), h("p", { role: "alert" }, `The document cannot be read: ${error.message}.`));
  place("reference").removeAttribute("aria-busy");
}

addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.target.matches("input")) return;
  event.preventDefault();
  place("find").focus();
});
