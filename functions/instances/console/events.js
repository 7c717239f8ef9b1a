// The live feed of events, with filters and charts.

import { deliveries, instances } from "./api.js";
import {
  announce,
  button,
  deliveryBadge,
  empty,
  failure,
  h,
  icon,
  kindBadge,
  linkButton,
  plural,
  show,
  skeleton,
  when,
} from "./dom.js";
import { columns, latencies } from "./charts.js";
import { open } from "./delivery.js";
import { Field, Switch } from "./fields.js";

const SECONDS = 4;
/** The youngest deliveries that the feed and the charts are made of. */
const LIMIT = 200;
/** Rows of the feed at first. */
const ROWS = 40;

/** A line a record's event. */
export function eventRow(row, event, nameOf, { fresh, changed } = {}) {
  const last = row.attempts.at(-1);
  return h(
    "li",
    null,
    h(
      "button",
      {
        type: "button",
        class: `item event-item${fresh ? " fresh" : ""}`,
        onclick: () => open(row, changed),
        "data-event": event.id,
      },
      kindBadge(event.kind),
      h("span", { class: "mono" }, event.objectId),
      h("span", { class: "dim small" }, row.resource, nameOf && ` · ${nameOf(row)}`),
      h("span", null, deliveryBadge(row.status)),
      h("span", { class: "dim small wide-only" }, last ? `${last.status ?? "no answer"} in ${last.durationMs} ms` : ""),
      h("span", { class: "dim small" }, when(row.createdDate)),
    ),
  );
}

/** Each event with the delivery that carries it, the youngest first. */
export const flatten = (list) => list.flatMap((row) => row.events.toReversed().map((event) => ({ row, event })));

const KINDS = ["CREATED", "UPDATED", "DELETED"];

export default async function events(visit) {
  const all = await instances();
  if (visit.isOver) return;
  const names = new Map(all.map((instance) => [instance.id, instance.name]));
  const sorted = all.toSorted((a, b) => a.name.localeCompare(b.name));
  const instance = new Field({
    label: "Instance",
    kind: "select",
    options: [["", "All instances"], ...sorted.map(({ id, name }) => [String(id), name])],
    value: visit.query.get("instance") ?? "",
  });
  const resource = new Field({ label: "Resource", kind: "select", options: [["", "All resources"]] });
  const kind = new Field({
    label: "Type",
    kind: "select",
    options: [["", "All types"], ...KINDS.map((one) => [one, one.toLowerCase()])],
    value: visit.query.get("type") ?? "",
  });
  const status = new Field({
    label: "Delivery",
    kind: "select",
    options: [
      ["", "All"],
      ["delivered", "delivered"],
      ["retry", "will be retried"],
      ["waiting", "waiting"],
      ["queued", "stopped"],
      ["kept", "kept"],
    ],
  });
  const id = new Field({
    label: "Record id",
    kind: "search",
    placeholder: "contains…",
    value: visit.query.get("id") ?? "",
  });
  let wantedResource = visit.query.get("resource") ?? "";
  const live = new Switch({ label: "Live", checked: true });
  const charts = h("div", { class: "charts" });
  const feed = h("ul", { class: "list" }, h("li", { class: "item" }, skeleton(6)));
  const summary = h("p", { class: "dim small", role: "status" });
  let rows = [];
  let seen = null;
  let next;
  let rowsShown = ROWS;

  const matching = () => {
    const text = id.value.trim().toLowerCase();
    return flatten(rows).filter(
      ({ row, event }) =>
        (!resource.value || row.resource === resource.value) &&
        (!kind.value || event.kind === kind.value) &&
        (!status.value || row.status === status.value) &&
        (!text || event.objectId.toLowerCase().includes(text)),
    );
  };
  const offerResources = () => {
    const known = [...new Set(rows.map((row) => row.resource))].sort();
    const offered = [...resource.input.options].slice(1).map((option) => option.value);
    if (known.join("\n") === offered.join("\n")) return;
    const chosen = resource.value || wantedResource;
    show(
      resource.input,
      h("option", { value: "" }, "All resources"),
      known.map((name) => h("option", { value: name }, name)),
    );
    resource.value = known.includes(chosen) ? chosen : "";
    wantedResource = "";
  };
  const draw = () => {
    offerResources();
    const found = matching();
    const focused = document.activeElement?.dataset?.event;
    const fresh = seen && new Set(found.filter(({ event }) => !seen.has(event.id)).map(({ event }) => event.id));
    show(
      feed,
      found.slice(0, rowsShown).map(({ row, event }) =>
        eventRow(row, event, instance.value ? null : (one) => names.get(one.elementInstanceId) ?? one.elementKey, {
          fresh: fresh?.has(event.id),
          changed: load,
        }),
      ),
    );
    further.hidden = found.length <= rowsShown;
    if (focused) feed.querySelector(`[data-event="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
    if (found.length === 0)
      show(
        feed,
        h(
          "li",
          null,
          rows.length === 0
            ? nothing()
            : empty("search", "No event matches", "Loosen the filters, or look further back."),
        ),
      );
    if (fresh?.size > 0)
      announce(
        `${plural(fresh.size, "new event")}: ${found
          .filter(({ event }) => fresh.has(event.id))
          .slice(0, 3)
          .map(({ event }) => `${event.kind.toLowerCase()} ${event.objectId}`)
          .join(", ")}`,
      );
    seen = new Set([...(seen ?? []), ...flatten(rows).map(({ event }) => event.id)]);
    const said = `${plural(found.length, "event")} in the last ${plural(rows.length, "notification")}`;
    if (summary.textContent !== said) summary.textContent = said;
    drawCharts(found);
  };
  const drawCharts = (found) => {
    // A table that somebody opened stays open through a redraw.
    const openTables = [...charts.querySelectorAll("details")].map((details) => details.open);
    const shown = [...new Set(found.map(({ row }) => row))];
    const at = (one) => found.filter(({ event }) => event.kind === one).map(({ row }) => Date.parse(row.createdDate));
    const attempts = shown.flatMap((row) => row.attempts);
    const result = (good) =>
      attempts
        .filter((attempt) => (attempt.status >= 200 && attempt.status < 300) === good)
        .map((attempt) => Date.parse(attempt.at));
    if (found.length === 0) return show(charts);
    show(
      charts,
      columns(
        "Events",
        KINDS.map((one, which) => [one.toLowerCase(), at(one), `s${which + 1}`]),
      ),
      columns("Deliveries", [
        ["answered 2xx", result(true), "s1"],
        ["failed", result(false), "s3"],
      ]),
      latencies("Callback latency", attempts),
    );
    charts.querySelectorAll("details").forEach((details, index) => (details.open = openTables[index] ?? false));
    return charts;
  };
  const nothing = () =>
    all.length === 0
      ? empty(
          "link",
          "No account is connected",
          "Connect one, and its changes show up here.",
          linkButton("Open the catalog", "#/catalog", { icon: "grid", kind: "primary" }),
        )
      : empty(
          "send",
          "No events yet",
          "The first poll of a resource only remembers what is there. Change a record at the vendor, and its event shows up here with the next poll.",
        );
  async function load() {
    try {
      const page = await deliveries(instance.value || undefined, { limit: LIMIT });
      if (visit.isOver) return;
      const changed = JSON.stringify(page.list) !== JSON.stringify(rows.slice(0, page.list.length)) || seen === null;
      next = page.next;
      more.hidden = !next;
      if (!changed) return;
      rows = page.list;
      draw();
    } catch (error) {
      if (!visit.isOver && seen === null)
        show(
          feed,
          h(
            "li",
            { class: "item" },
            error.isMissing
              ? empty("send", "Events cannot be listed", "This service does not offer its deliveries for reading.")
              : failure(error, load),
          ),
        );
    }
  }
  const further = button(
    "Show more",
    () => {
      rowsShown *= 4;
      draw();
    },
    { icon: "plus", hidden: true },
  );
  const more = button(
    "Look further back",
    async () => {
      const page = await deliveries(instance.value || undefined, { limit: LIMIT, page: next });
      rows = [...rows, ...page.list];
      live.checked = false;
      rowsShown = Infinity;
      next = page.next;
      more.hidden = !next;
      draw();
    },
    { icon: "clock", hidden: true },
  );

  for (const field of [resource, kind, status]) field.input.addEventListener("change", draw);
  id.input.addEventListener("input", draw);
  instance.input.addEventListener("change", () => {
    rows = [];
    seen = null;
    show(feed, h("li", { class: "item" }, skeleton(6)));
    load();
  });
  show(
    visit.place,
    h(
      "div",
      { class: "head" },
      h(
        "div",
        null,
        h("h1", { tabindex: "-1" }, "Events"),
        h("p", null, "What changed, what was told, and how the callback answered."),
      ),
      live.node,
    ),
    h("div", { class: "filters" }, instance.node, resource.node, kind.node, status.node, id.node),
    h(
      "div",
      { class: "stack" },
      h("details", { open: matchMedia("(min-width: 760px)").matches }, h("summary", null, "Charts"), charts),
      summary,
      h("section", { class: "card flush", "aria-label": "Feed" }, feed),
      h("div", { class: "row center" }, further, more),
    ),
  );
  await load();
  visit.every(SECONDS, async () => {
    if (live.checked) await load();
  });
}
