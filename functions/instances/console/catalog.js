// The catalog: which vendors can be connected.

import { elements } from "./api.js";
import { empty, h, linkButton, pageHead, plural, show } from "./dom.js";
import { searchBox } from "./fields.js";

const login = (element) => (element.typeOauth ? "Log in at the vendor" : "API keys");

function card(element) {
  const names = element.resources.map((resource) => resource.label ?? resource.name);
  const shown = names.slice(0, 5);
  return h(
    "li",
    { class: "card stack" },
    h(
      "div",
      { class: "row nowrap" },
      h("span", { class: "tile", "aria-hidden": "true" }, element.name[0]),
      h(
        "div",
        { class: "grow" },
        h("h2", null, element.name),
        h("p", { class: "dim small" }, `${element.hub} · ${login(element)}`),
      ),
    ),
    h("p", { class: "grow" }, element.description),
    h(
      "div",
      { class: "chips", "aria-label": "Resources" },
      shown.map((name) => h("span", { class: "chip" }, name)),
      names.length > shown.length && h("span", { class: "chip" }, `+ ${names.length - shown.length}`),
    ),
    h(
      "div",
      { class: "row between" },
      linkButton(`Connect ${element.name}`, `#/connect/${encodeURIComponent(element.key)}`, {
        icon: "link",
        kind: "primary",
      }),
      element.docs && h("a", { class: "small", href: element.docs, target: "_blank", rel: "noreferrer" }, "API manual"),
    ),
  );
}

export default async function catalog(visit) {
  const all = await elements();
  if (visit.isOver) return;
  const list = h("ul", { class: "grid plain" });
  const counted = h("p", { class: "dim small", role: "status" });
  const words = (element) =>
    [
      element.name,
      element.key,
      element.hub,
      element.description,
      ...element.resources.flatMap(({ name, label }) => [name, label]),
    ]
      .join(" ")
      .toLowerCase();
  const search = (text) => {
    const found = all.filter((element) => text.split(/\s+/).every((word) => words(element).includes(word)));
    counted.textContent = plural(found.length, "element");
    show(list, found.map(card));
    if (found.length === 0)
      show(
        list,
        h(
          "li",
          { class: "card" },
          empty(
            "search",
            "No element matches",
            "Search for the name of a vendor or of something it keeps, such as “contacts”.",
          ),
        ),
      );
  };
  show(
    visit.place,
    pageHead("Catalog", "Connect an account, and from then on every change in it arrives at your callback."),
    h("div", { class: "filters" }, searchBox("Search elements", search), counted),
    list,
  );
  search("");
}
