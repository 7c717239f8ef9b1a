// The live feed of events, with filters and charts.

import { deliveries, instances } from "./api.js";
import {
  announce,
  busy,
  button,
  deliveryBadge,
  empty,
  failure,
  h,
  icon,
  kindBadge,
  linkButton,
  pageHead,
  plural,
  show,
  skeleton,
  update,
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
    { "data-key": `${row.id} ${event.id}` },
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
  const summary = h("p", { class: "dim small" });
  let rows = [];
  let seen = null;
  let latestPage;
  let next;
  let lookedBack = false;
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
    const fresh = seen && new Set(found.filter(({ event }) => !seen.has(event.id)).map(({ event }) => event.id));
    const shownName = instance.value ? null : (one) => names.get(one.elementInstanceId) ?? one.elementKey;
    update(
      feed,
      found.length > 0
        ? found
            .slice(0, rowsShown)
            .map(({ row, event }) => eventRow(row, event, shownName, { fresh: fresh?.has(event.id), changed: load }))
        : h(
            "li",
            { "data-key": "none" },
            rows.length === 0
              ? nothing()
              : empty("search", "No event matches", "Loosen the filters, or look further back."),
          ),
    );
    further.hidden = found.length <= rowsShown;
    if (fresh?.size > 0)
      announce(
        `${plural(fresh.size, "new event")}: ${found
          .filter(({ event }) => fresh.has(event.id))
          .slice(0, 3)
          .map(({ event }) => `${event.kind.toLowerCase()} ${event.objectId}`)
          .join(", ")}`,
      );
    seen = new Set([...(seen ?? []), ...flatten(rows).map(({ event }) => event.id)]);
    update(summary, `${plural(found.length, "event")} in the last ${plural(rows.length, "notification")}`);
    drawCharts(found);
  };
  const drawCharts = (found) => {
    const shown = [...new Set(found.map(({ row }) => row))];
    const at = (one) => found.filter(({ event }) => event.kind === one).map(({ row }) => Date.parse(row.createdDate));
    const attempts = shown.flatMap((row) => row.attempts);
    const result = (good) =>
      attempts
        .filter((attempt) => (attempt.status >= 200 && attempt.status < 300) === good)
        .map((attempt) => Date.parse(attempt.at));
    if (found.length === 0) return update(charts);
    return update(
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
      const now = JSON.stringify(page.list);
      if (now === latestPage && seen !== null) return;
      latestPage = now;
      // What somebody looked back at stays below what is new, unless so much came at once that the two do not meet.
      const young = new Set(page.list.map((row) => row.id));
      const meets = rows.length === 0 || rows.some((row) => young.has(row.id));
      if (!lookedBack || !meets) [next, lookedBack] = [page.next, false];
      rows = lookedBack ? [...page.list, ...rows.filter((row) => !young.has(row.id))] : page.list;
      more.hidden = !next;
      draw();
    } catch (error) {
      if (!visit.isOver && seen === null)
        show(
          feed,
          h(
            "li",
            { class: "item" },
            failure(error, load),
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
    (event) =>
      busy(event.currentTarget, async () => {
        const page = await deliveries(instance.value || undefined, { limit: LIMIT, page: next });
        if (visit.isOver) return;
        const known = new Set(rows.map((row) => row.id));
        rows = [...rows, ...page.list.filter((row) => !known.has(row.id))];
        [next, lookedBack, rowsShown] = [page.next, true, Infinity];
        more.hidden = !next;
        draw();
        announce(summary.textContent);
      }),
    { icon: "clock", hidden: true },
  );

  const filter = () => {
    draw();
    announce(summary.textContent);
  };
  for (const field of [resource, kind, status]) field.input.addEventListener("change", filter);
  id.input.addEventListener("input", filter);
  instance.input.addEventListener("change", () => {
    [rows, seen, lookedBack] = [[], null, false];
    show(feed, h("li", { class: "item" }, skeleton(6)));
    load();
  });
  show(
    visit.place,
    pageHead("Events", "The changes, their events, and how the callback answered.", live.node),
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
