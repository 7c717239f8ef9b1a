// One notification: its events, the body as it is sent, every attempt, and redelivery; and why a record did or did not become an event.

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
      attempt.next && h("div", { class: "dim" }, "next ", when(attempt.next, "–", { expected: true })),
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
        found.nextAttempt && ["Next attempt", when(found.nextAttempt, "–", { expected: true })],
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
                ["#", "When", "Answer", "Took"].map((text) =>
                  h("th", { scope: "col", class: text === "#" || text === "Took" ? "number" : null }, text),
                ),
                h("th", { scope: "col" }, h("span", { class: "hidden" }, "What came of it")),
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

function knownOf({ partition, seen, stamp, sequence, gone, because }, _, all) {
  return h(
    "li",
    { class: gone ? "bad" : "" },
    icon(gone ? "minus" : "search"),
    h(
      "div",
      { class: "stack tight" },
      // The answer above says it of one.
      all.length > 1 && h("p", null, because),
      h(
        "p",
        { class: "small dim" },
        "Last found new or changed by a poll ",
        when(seen, "at an unknown time"),
        stamp && [" · its own date is ", h("time", { datetime: stamp }, instant(stamp))],
        ` · revision ${number(sequence)}`,
        partition && [" · in ", h("code", null, partition)],
      ),
    ),
  );
}

function carriedBy({ delivery, status, committed, events, attempts }) {
  const last = attempts.at(-1);
  return h(
    "li",
    { class: status === "delivered" ? "good" : "" },
    icon(status === "delivered" ? "check" : "clock"),
    h(
      "div",
      { class: "stack tight" },
      h(
        "div",
        { class: "row" },
        events.map((event) => kindBadge(event.kind)),
        deliveryBadge(status),
        h("span", { class: "dim small" }, when(committed)),
      ),
      h(
        "p",
        { class: "small dim" },
        last
          ? `${plural(attempts.length, "attempt")}, the last answered ${last.status ?? last.error ?? "nothing"} in ${number(last.durationMs)} ms · `
          : "Not tried yet · ",
        h("code", null, delivery),
      ),
    ),
  );
}

function whyAnswer({ answer, known, notifications }) {
  return [
    notice(
      notifications.length > 0 ? "good" : "plain",
      notifications.length > 0 ? "check" : "question",
      h("p", null, answer),
    ),
    known.length > 0 &&
      h(
        "section",
        { class: "stack tight" },
        h("h3", null, "What is remembered of it"),
        h("ul", { class: "timeline" }, known.map(knownOf)),
      ),
    notifications.length > 0 &&
      h(
        "section",
        { class: "stack tight" },
        h("h3", null, "What was sent of it"),
        h("ol", { class: "timeline" }, notifications.map(carriedBy)),
      ),
    known.length === 0 &&
      h(
        "p",
        { class: "small dim" },
        "Is the id written as the vendor writes it, and does the resource list this kind of record? A poll now shows what is listed.",
      ),
  ];
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
    show(place, heading, failure(error));
  }
}
