// The instances of the organization, with health at a glance.

import { coverage, elements, instances } from "./api.js";
import { empty, h, icon, linkButton, pageHead, plural, show, update, when } from "./dom.js";
import { searchBox } from "./fields.js";
import { callbacks, each, health, healthBadge } from "./health.js";

/** How many rows ask for their coverage; the rest says what the listing knows. */
const DETAILED = 100;

function row(instance, name, resources, view) {
  const polls = (resources ?? [])
    .map((resource) => resource.lastPoll?.at)
    .filter(Boolean)
    .sort();
  const known = (resources ?? []).reduce((sum, resource) => sum + (resource.records ?? 0), 0);
  return h(
    "li",
    { "data-key": instance.id },
    h(
      "a",
      { class: "item instance-item", href: `#/instances/${instance.id}` },
      h("span", { class: "tile", "aria-hidden": "true" }, name[0]),
      h(
        "span",
        { class: "stack tight" },
        h("span", { class: "strong", title: instance.name }, instance.name),
        h(
          "span",
          { class: "chips small dim" },
          name,
          instance.tags.map((tag) => h("span", { class: "chip", title: tag }, tag)),
        ),
      ),
      h("span", null, healthBadge(instance, resources, view)),
      h(
        "span",
        { class: "small dim wide-only" },
        resources?.length
          ? [
              h("div", null, plural(resources.length, "resource"), " · ", plural(known, "record")),
              h("div", null, "polled ", when(polls.at(-1), "not yet")),
            ]
          : null,
      ),
      h("span", { class: "go dim" }, icon("right")),
    ),
  );
}

export default async function list(visit) {
  const [catalog, first] = await Promise.all([elements(), instances()]);
  if (visit.isOver) return;
  let all = first;
  let text = "";
  const states = new Map();
  const views = new Map();
  const viewOf = (instance) => views.get(instance.eventsNotificationCallbackUrl);
  const names = new Map(catalog.map((element) => [element.key, element.name]));
  const nameOf = (instance) => names.get(instance.element?.key) ?? instance.element?.key ?? "?";

  const rows = h("ul", { class: "list" });
  const summary = h("p", { class: "dim small", role: "status" });
  const draw = () => {
    const fits = (instance) =>
      [instance.name, nameOf(instance), String(instance.id), ...instance.tags].join(" ").toLowerCase().includes(text);
    const found = all.filter(fits).sort((a, b) => a.name.localeCompare(b.name));
    const unwell = found.filter((instance) =>
      ["bad", "warn"].includes(health(instance, states.get(instance.id), viewOf(instance))?.[0]),
    ).length;
    const said = `${plural(found.length, "instance")}${unwell > 0 ? `, ${unwell} to look at` : ""}`;
    if (summary.textContent !== said) summary.textContent = said;
    update(
      rows,
      found.length > 0
        ? found.map((instance) => row(instance, nameOf(instance), states.get(instance.id), viewOf(instance)))
        : h(
            "li",
            { "data-key": "none" },
            empty("search", "No instance matches", "Search for a name, a tag, an element or an id."),
          ),
    );
  };
  const look = async () => {
    const watched = all.filter((instance) => instance.eventsEnabled && !instance.disabled).slice(0, DETAILED);
    await each(watched, async (instance) => {
      if (!visit.isOver) states.set(instance.id, await coverage(instance.id).catch(() => states.get(instance.id)));
    });
    if (visit.isOver) return;
    for (const { url, view } of await callbacks(watched)) views.set(url, view);
    if (!visit.isOver) draw();
  };

  const connect = () => linkButton("Connect an account", "#/catalog", { icon: "plus", kind: "primary" });
  const heading = pageHead("Instances", "Each is one account at one vendor, watched for changes.", all.length > 0 && connect());
  if (all.length === 0) {
    show(
      visit.place,
      heading,
      h(
        "div",
        { class: "card" },
        empty(
          "link",
          "Connect your first account",
          "Choose a vendor, say what to watch and where events should go. The first event arrives with the next change.",
          connect(),
        ),
      ),
    );
    return;
  }
  show(
    visit.place,
    heading,
    h(
      "div",
      { class: "filters" },
      searchBox("Search instances", (typed) => {
        text = typed;
        draw();
      }),
      summary,
    ),
    h("div", { class: "card flush" }, rows),
  );
  draw();
  look();
  visit.every(10, async () => {
    all = await instances();
    await look();
  });
}
