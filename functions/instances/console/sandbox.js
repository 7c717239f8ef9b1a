// The sandbox vendors of one's own machine: change their records and watch the inbox, where callbacks arrive.

import * as api from "./api.js";
import {
  badge,
  busy,
  button,
  empty,
  failure,
  h,
  modal,
  number,
  pageHead,
  plural,
  pretty,
  show,
  skeleton,
  toast,
  update,
  when,
} from "./dom.js";
import { Field } from "./fields.js";

const SHOWN = 50;
const CALLBACKS = 20;

/** What the first resource of each element is made of. */
const WATCHED = {
  square: "timecards",
  maximizer: "AbEntry",
  googlesuite: "events",
  revel: "Employee",
  icontact: "contacts",
};

/** Behaviors of a vendor, as faults of the sandbox. */
const BEHAVIORS = [
  ["{}", "well behaved"],
  ['{"seed":7,"rate_limit_every":3}', "answers 429 every third time"],
  ['{"seed":7,"status_5xx_every":3}', "fails every third time"],
  ['{"seed":7,"status_5xx_every":1}', "is down"],
  ['{"seed":7,"cut_connection_every":3}', "cuts every third answer"],
  ['{"seed":7,"late_indexing":[2,6]}', "shows records 2 to 6 s late"],
  ['{"seed":7,"latency_ms":1500}', "answers slowly"],
  ['{"seed":7,"page_shift":1}', "shifts rows between pages"],
  ['{"seed":7,"duplicate_rows":4}', "lists rows twice"],
];

/** A title by which records can be distinguished. */
function title(record) {
  const named = [
    "name",
    "display_name",
    "summary",
    "snippet",
    "given_name",
    "first_name",
    "firstName",
    "FullName",
    "CompanyName",
    "email",
    "title",
    "subject",
    "state",
    "status",
  ].find((key) => typeof record[key] === "string" && record[key]);
  return named ? record[named] : "";
}

function editor(heading, value, save) {
  const area = new Field({ label: "Fields, as JSON", kind: "area", value: pretty(value), rows: 14 });
  const go = button(
    "Save",
    (event) =>
      busy(event.currentTarget, async () => {
        let fields;
        try {
          fields = JSON.parse(area.value);
        } catch (error) {
          area.complain(error.message);
          return area.input.focus();
        }
        try {
          await save(fields);
          dialog.close();
        } catch (error) {
          area.complain(error.message);
        }
        return undefined;
      }),
    { kind: "primary", icon: "check" },
  );
  const dialog = modal(heading, [
    area.node,
    h(
      "div",
      { class: "row" },
      go,
      button("Cancel", () => dialog.close()),
    ),
  ]);
  area.input.focus();
}

function vendorPanel(visit, described) {
  const { vendors } = described;
  let vendor = vendors[0];
  let collection;
  const vendorField = new Field({
    label: "Vendor",
    kind: "select",
    options: vendors.map((one) => [one.key, one.name]),
  });
  const collectionField = new Field({ label: "Records", kind: "select", options: [] });
  const account = new Field({ label: "Account", value: "main", help: "Each account name is a data set of its own." });
  const behavior = new Field({ label: "Behavior", kind: "select", options: BEHAVIORS });
  const names = h("datalist", { id: "accounts" });
  account.input.setAttribute("list", "accounts");
  const list = h("ul", { class: "list" }, h("li", { class: "item" }, skeleton(4)));
  const counted = h("p", { class: "dim small", role: "status" });
  const who = () => account.value.trim() || "main";

  const offer = () => {
    vendor = vendors.find((one) => one.key === vendorField.value) ?? vendors[0];
    show(
      names,
      vendor.accounts.map((name) => h("option", { value: name })),
    );
    show(
      collectionField.input,
      vendor.collections.map(({ name }) => h("option", { value: name }, name)),
    );
    if (vendor.collections.some(({ name }) => name === WATCHED[vendor.key]))
      collectionField.value = WATCHED[vendor.key];
  };
  const load = async () => {
    collection = vendor.collections.find((one) => one.name === collectionField.value);
    try {
      const records = await api.sandboxRecords(vendor.key, collection.name, who());
      if (visit.isOver) return;
      counted.textContent = plural(records.length, "record");
      const stamp = (record) =>
        collection.updatedField?.split("/").reduce((value, part) => value?.[part], record) ?? "";
      const sorted = records.toSorted((a, b) => String(stamp(b)).localeCompare(String(stamp(a))));
      update(
        list,
        records.length > 0
          ? sorted.slice(0, SHOWN).map((record) => row(record, stamp(record)))
          : h("li", { "data-key": "none" }, empty("flask", "No records", "Make one: a poll will find it.")),
      );
    } catch (error) {
      show(list, h("li", { class: "item" }, failure(error, load)));
    }
  };
  const row = (record, stamp) => {
    const id = String(record[collection.idField] ?? "");
    const change = async (fields) => {
      await api.sandboxUpdate(vendor.key, collection.name, who(), id, fields);
      toast(`${id} is changed.`);
      await load();
    };
    return h(
      "li",
      { class: "item sandbox-item", "data-key": id },
      h(
        "div",
        { class: "stack tight" },
        h("span", null, h("code", null, id), " ", title(record)),
        stamp && h("span", { class: "dim small" }, `changed ${stamp}`),
      ),
      h(
        "div",
        { class: "row nowrap" },
        button(
          "Change",
          (event) => busy(event.currentTarget, () => change({ note: `changed ${new Date().toISOString()}` })),
          { kind: "slim", "aria-label": `Change ${id}` },
        ),
        button(`Edit ${id}`, () => editor(`Edit ${id}`, record, change), {
          icon: "pencil",
          kind: "quiet",
          hideLabel: true,
        }),
        button(
          `Delete ${id}`,
          (event) =>
            busy(event.currentTarget, async () => {
              await api.sandboxDelete(vendor.key, collection.name, who(), id);
              toast(`${id} is deleted.`);
              await load();
            }),
          { icon: "trash", kind: "quiet", hideLabel: true },
        ),
      ),
    );
  };
  const expire = (label, what, said) =>
    button(
      label,
      (event) =>
        busy(event.currentTarget, async () => {
          await api.sandboxExpire(vendor.key, who(), what);
          toast(`${vendor.name}: ${said}`);
        }),
      { kind: "slim" },
    );
  const make = button(
    "Make a record",
    (event) =>
      busy(event.currentTarget, async () => {
        const made = await api.sandboxCreate(vendor.key, collection.name, who(), {});
        toast(`${made[collection.idField] ?? "A record"} is made.`);
        await load();
      }),
    { icon: "plus", kind: "primary" },
  );
  const makeWith = button("With fields…", () =>
    editor(`New in ${collection.name}`, collection.example, async (fields) => {
      await api.sandboxCreate(vendor.key, collection.name, who(), fields);
      await load();
    }),
  );

  vendorField.input.addEventListener("change", () => {
    offer();
    load();
  });
  collectionField.input.addEventListener("change", load);
  account.input.addEventListener("change", load);
  behavior.input.addEventListener("change", async () => {
    try {
      await api.sandboxFaults(vendor.key, JSON.parse(behavior.value));
      toast(
        `${vendor.name} now is one that ${behavior.value === "{}" ? "behaves well" : behavior.input.selectedOptions[0].text}.`,
      );
    } catch (error) {
      behavior.complain(error.message);
    }
  });
  offer();
  load();
  visit.every(10, load);
  return h(
    "section",
    { class: "stack" },
    h(
      "div",
      { class: "card stack" },
      h("h2", null, "Vendors"),
      h("div", { class: "pair" }, vendorField.node, collectionField.node),
      h("div", { class: "pair" }, account.node, behavior.node),
      names,
      h("div", { class: "row between" }, h("div", { class: "row" }, make, makeWith), counted),
      h(
        "details",
        null,
        h("summary", null, "Let it forget"),
        h(
          "div",
          { class: "row" },
          expire("Access tokens", "tokens", "access tokens are over; polls renew them."),
          expire("Logins", "grants", "every login is over; instances need a new one."),
          expire("Its history", "history", "its history is gone; where there is nothing else to go by, a gap shows."),
          expire("Sync tokens", "sync_tokens", "sync tokens are over; polls list everything once."),
        ),
      ),
    ),
    h("div", { class: "card flush" }, list),
  );
}

function inboxPanel(visit) {
  const name = new Field({ label: "Inbox", kind: "select", options: [] });
  const list = h("ul", { class: "list" }, h("li", { class: "item" }, skeleton(3)));
  const facts = h("dl", { class: "facts" });
  let shown;

  const verdict = ({ verified }) => {
    const verdicts = [verified.elements, verified.standard].filter((one) => one !== null);
    if (verdicts.length === 0) return null;
    return verdicts.includes(false) ? badge("bad", "warn", "wrong signature") : badge("good", "check", "signed");
  };
  const row = (receipt) => {
    const good = receipt.status >= 200 && receipt.status < 300;
    const events = receipt.body?.message?.events ?? [];
    return h(
      "li",
      { "data-key": receipt.number },
      h(
        "button",
        {
          type: "button",
          class: "item inbox-item",
          "data-number": receipt.number,
          onclick: () =>
            modal(
              `Callback ${receipt.number}`,
              [
                h(
                  "div",
                  { class: "table", tabindex: "0", role: "region", "aria-label": "Headers" },
                  h(
                    "table",
                    null,
                    h(
                      "tbody",
                      null,
                      Object.entries(receipt.headers).map(([header, value]) =>
                        h("tr", null, h("th", { scope: "row" }, header), h("td", null, h("code", null, value))),
                      ),
                    ),
                  ),
                ),
                h("pre", { tabindex: "0", "aria-label": "Body" }, pretty(receipt.raw)),
              ],
              { wide: true },
            ),
        },
        h(
          "span",
          { class: "strong" },
          events.length > 0
            ? events
                .map((event) => `${event.eventType.toLowerCase()} ${event.objectId}`)
                .slice(0, 3)
                .join(", ")
            : `callback ${receipt.number}`,
          events.length > 3 && ` and ${events.length - 3} more`,
        ),
        h(
          "span",
          { class: "row" },
          verdict(receipt),
          receipt.duplicate && badge("plain", "copy", "seen before"),
          !good && badge("warn", "warn", `answered ${receipt.status}`),
          h("span", { class: "dim small" }, when(receipt.receivedAt)),
        ),
      ),
    );
  };
  const load = async () => {
    const { inboxes } = await api.inboxes();
    if (visit.isOver) return;
    const known = inboxes.map((one) => one.name);
    if ([...name.input.options].map((option) => option.value).join("\n") !== known.join("\n")) {
      const latest = inboxes.toSorted((a, b) =>
        String(b.lastReceivedAt ?? "").localeCompare(String(a.lastReceivedAt ?? "")),
      )[0]?.name;
      const chosen = name.value || latest;
      show(
        name.input,
        known.map((one) => h("option", { value: one }, one)),
      );
      name.value = chosen ?? "";
    }
    const now = inboxes.find((one) => one.name === name.value);
    controls.hidden = !now;
    if (!now)
      return show(
        list,
        h(
          "li",
          null,
          empty(
            "inbox",
            "No callback has arrived",
            "Give an instance the callback URL “inbox/” and a name of this service, and change a record.",
          ),
        ),
      );
    const mark = `${now.name} ${now.received}`;
    if (mark === shown) return undefined;
    const { callbacks, counters } = await api.inbox(now.name, Math.max(0, now.received - CALLBACKS), CALLBACKS);
    if (visit.isOver) return undefined;
    shown = mark;
    show(
      facts,
      [
        ["Callbacks", counters.received],
        ["Events", counters.events],
        ["Seen before", counters.duplicates],
        ["Wrong signature", counters.badlySigned],
        ["Refused", counters.refused],
      ].map(([label, value]) => h("div", null, h("dt", null, label), h("dd", null, number(value)))),
    );
    update(
      list,
      callbacks.length > 0
        ? callbacks.toReversed().map(row)
        : h("li", { "data-key": "none" }, empty("inbox", "Empty", "The next callback shows up here.")),
    );
    return undefined;
  };
  const behave = (label, behaviour, said) =>
    button(
      label,
      (event) =>
        busy(event.currentTarget, async () => {
          await api.inboxBehaviour(name.value, behaviour);
          toast(said);
        }),
      { kind: "slim" },
    );
  const controls = h(
    "div",
    { class: "row" },
    behave("Fail the next 3", { failNext: 3, failStatus: 503 }, "The next three callbacks are answered with 503."),
    behave("Fail always", { status: 500 }, "Every callback is answered with 500 from now on."),
    behave("Say it is gone", { status: 410 }, "Every callback is answered with 410, which switches it off."),
    behave("Answer well", { status: 200, failNext: 0, delayMs: 0 }, "Callbacks are answered with 200."),
    button(
      "Clear",
      (event) =>
        busy(event.currentTarget, async () => {
          await api.inboxClear(name.value);
          shown = undefined;
          await load();
        }),
      { icon: "trash", kind: "quiet slim" },
    ),
  );
  name.input.addEventListener("change", () => {
    shown = undefined;
    load();
  });
  load();
  visit.every(2, load);
  return h(
    "section",
    { class: "stack" },
    h("div", { class: "card stack" }, h("h2", null, "Inbox"), name.node, facts, controls),
    h("div", { class: "card flush" }, list),
  );
}

export default async function sandbox(visit) {
  const described = await api.sandbox();
  if (visit.isOver) return;
  const heading = pageHead(
    "Sandbox",
    "Vendors to play with, on this machine only. Change a record on the left; the signed callback arrives on the right.",
  );
  if (!described)
    show(
      visit.place,
      heading,
      h(
        "div",
        { class: "card" },
        empty(
          "flask",
          "There is no sandbox here",
          "It comes with the service on one’s own machine, unless it was started without.",
        ),
      ),
    );
  else
    show(visit.place, heading, h("div", { class: "columns even" }, vendorPanel(visit, described), inboxPanel(visit)));
}
