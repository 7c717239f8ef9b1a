// One notification: what it tells, the body as it is sent, every attempt, sending it again; and why a record did or did not become an event.

import * as api from "./api.js";
import {
  badge,
  busy,
  button,
  copy,
  deliveryBadge,
  failure,
  h,
  icon,
  instant,
  kindBadge,
  modal,
  notice,
  number,
  plural,
  pretty,
  show,
  skeleton,
  toast,
  when,
} from "./dom.js";
import { Field } from "./fields.js";

function attemptRow(attempt) {
  const good = attempt.status >= 200 && attempt.status < 300;
  return h(
    "tr",
    null,
    h("td", { class: "number" }, attempt.number),
    h("td", null, h("time", { datetime: attempt.at, title: attempt.at }, instant(attempt.at))),
    h("td", null, badge(good ? "good" : "bad", good ? "check" : "warn", attempt.status ?? "no answer")),
    h("td", { class: "number" }, `${number(attempt.durationMs)} ms`),
    h(
      "td",
      null,
      attempt.error ?? "",
      attempt.response && h("details", null, h("summary", null, "Answer"), h("pre", null, attempt.response)),
      attempt.next && h("div", { class: "dim" }, "next ", when(attempt.next)),
    ),
  );
}

function content(found, dialog, changed) {
  const resend = button(
    found.status === "delivered" ? "Send again" : "Send now",
    (event) =>
      busy(event.currentTarget, async () => {
        const answer = await api.resend(found.elementInstanceId, found.id);
        toast(answer.redelivered > 0 ? "On its way again, under the same id." : "It is on its way already.");
        changed?.();
        await refresh(found, dialog, changed);
      }),
    { icon: "send", kind: "primary" },
  );
  const body = pretty(found.notification);
  return [
    h(
      "div",
      { class: "row between" },
      h(
        "div",
        { class: "row" },
        deliveryBadge(found.status),
        h("span", { class: "dim small" }, `${found.resource} · `, when(found.createdDate)),
      ),
      h("div", { class: "row" }, resend),
    ),
    h(
      "dl",
      { class: "facts" },
      [
        ["Notification", found.notificationId],
        ["Delivery", found.id],
        ["Body", `${number(found.bytes)} bytes`],
        ["Attempts", number(found.attemptsMade)],
        found.nextAttempt && ["Next attempt", when(found.nextAttempt)],
      ]
        .filter(Boolean)
        .map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value))),
    ),
    h(
      "p",
      { class: "small dim" },
      found.callbackUrl
        ? ["To ", h("code", null, found.callbackUrl)]
        : "There was no callback: it is kept for reading.",
    ),
    h(
      "section",
      { class: "stack tight" },
      h("h3", null, plural(found.events.length, "event")),
      h(
        "ul",
        { class: "stack tight plain" },
        found.events.map((event) =>
          h(
            "li",
            { class: "row" },
            kindBadge(event.kind),
            h("code", null, event.objectId),
            h(
              "span",
              { class: "dim small" },
              `revision ${event.sequence}`,
              event.date && [" · changed ", when(event.date)],
            ),
            button("Why?", () => whyDialog(found.elementInstanceId, found.resource, event.objectId), {
              icon: "question",
              kind: "quiet slim",
              "aria-label": `Why? ${event.objectId}`,
            }),
          ),
        ),
      ),
    ),
    found.attempts.length > 0 &&
      h(
        "section",
        { class: "stack tight" },
        h("h3", null, "Attempts"),
        h(
          "div",
          { class: "table", tabindex: "0", role: "region", "aria-label": "Attempts" },
          h(
            "table",
            null,
            h(
              "thead",
              null,
              h(
                "tr",
                null,
                ["#", "When", "Answer", "Took", ""].map((text) => h("th", { scope: "col" }, text)),
              ),
            ),
            h("tbody", null, found.attempts.map(attemptRow)),
          ),
        ),
      ),
    found.omitted.length > 0 &&
      notice(
        "warn",
        "warn",
        found.omitted.map((line) => h("p", null, line)),
      ),
    h(
      "section",
      { class: "stack tight" },
      h(
        "div",
        { class: "row between" },
        h("h3", null, "Body as sent"),
        button("Copy", () => copy(found.notification, "Body"), { icon: "copy", kind: "quiet slim" }),
      ),
      h("pre", { tabindex: "0", "aria-label": "Body as sent" }, body),
    ),
  ];
}

async function refresh({ elementInstanceId, id }, dialog, changed) {
  const place = dialog.querySelector(".dialog-body");
  try {
    const found = await api.delivery(elementInstanceId, id);
    show(place, content(found, dialog, changed));
  } catch (error) {
    show(place, failure(error));
  }
}

/** Opens a delivery. `changed` is called when something was sent again. */
export function open(row, changed) {
  const first = row.events[0];
  const title =
    row.events.length === 1 && first
      ? `${first.kind.toLowerCase()} ${first.objectId}`
      : `${plural(row.events.length, "event")} of ${row.resource}`;
  const dialog = modal(title, skeleton(8), { wide: true });
  refresh(row, dialog, changed);
}

// ---------------------------------------------------------------- Why

/** camelCase into words. */
const words = (name) => name.replaceAll(/([A-Z])/g, " $1").toLowerCase();

function value(found) {
  if (found === null || found === undefined || found === "") return h("span", { class: "dim" }, "–");
  if (Array.isArray(found))
    return found.length === 0
      ? h("span", { class: "dim" }, "none")
      : h(
          "ul",
          { class: "stack tight plain" },
          found.map((one) => h("li", null, value(one))),
        );
  if (typeof found === "object") return facts(found);
  if (typeof found === "string" && /^\d{4}-\d\d-\d\dT/.test(found))
    return h("time", { datetime: found, title: found }, instant(found));
  return String(found);
}

const facts = (found) =>
  h(
    "dl",
    { class: "facts" },
    Object.entries(found).map(([name, one]) => h("div", null, h("dt", null, words(name)), h("dd", null, value(one)))),
  );

function whyAnswer(answer) {
  const { summary, verdict, message, because, ...rest } = answer;
  const said = summary ?? verdict ?? message ?? because;
  return [
    said && notice("plain", "question", h("p", null, said)),
    facts(rest),
    h(
      "details",
      { class: "small" },
      h("summary", null, "The whole answer"),
      h("pre", { tabindex: "0" }, pretty(answer)),
    ),
  ];
}

/** What the deliveries at hand know of a record, where the service keeps no better account. */
async function fromDeliveries(instance, resource, record) {
  const { list } = await api.deliveries(instance, { limit: 200 });
  const carried = list.flatMap((row) =>
    row.events
      .filter((event) => row.resource === resource && event.objectId === record)
      .map((event) => ({ row, event })),
  );
  if (carried.length === 0)
    return notice(
      "plain",
      "question",
      h(
        "p",
        null,
        "No recent notification carried this record. Either it did not change since the first poll, or its id is written differently.",
      ),
    );
  return h(
    "ol",
    { class: "timeline" },
    carried.map(({ row, event }) =>
      h(
        "li",
        { class: row.status === "delivered" ? "good" : "" },
        icon(row.status === "delivered" ? "check" : "clock"),
        h(
          "div",
          { class: "stack tight" },
          h("div", { class: "row" }, kindBadge(event.kind), deliveryBadge(row.status), when(row.createdDate)),
          h("span", { class: "small dim" }, `revision ${event.sequence}, notification ${row.notificationId}`),
        ),
      ),
    ),
  );
}

/** Asks for a record and says why it did or did not become an event. */
export function whyForm(instance, resources) {
  const resource = new Field({
    label: "Resource",
    kind: "select",
    options: resources.map((name) => [name, name]),
    value: resources[0],
  });
  const record = new Field({ label: "Record id", placeholder: "as the vendor writes it" });
  const ask = button("Ask why", null, { icon: "question", type: "submit" });
  return h(
    "form",
    {
      class: "stack",
      onsubmit: (event) => {
        event.preventDefault();
        if (!record.value.trim()) {
          record.complain("Enter the id of a record.");
          record.input.focus();
          return;
        }
        whyDialog(instance, resource.value, record.value.trim());
      },
    },
    h("div", { class: "pair" }, resource.node, record.node),
    h("div", { class: "row" }, ask),
  );
}

export async function whyDialog(instance, resource, record) {
  const dialog = modal(`Why: ${record}`, skeleton(5), { wide: true });
  const place = dialog.querySelector(".dialog-body");
  const heading = h("p", { class: "dim" }, `A record of ${resource}.`);
  try {
    show(place, heading, whyAnswer(await api.why(instance, resource, record)));
  } catch (error) {
    // A service that keeps no account of records still has its deliveries.
    if (error.isMissing)
      show(place, heading, await fromDeliveries(instance, resource, record).catch((cause) => failure(cause)));
    else show(place, heading, failure(error));
  }
}
