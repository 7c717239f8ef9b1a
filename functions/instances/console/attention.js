// What waits for somebody: held deletes, dead callbacks, logins that ended, polls that fail.

import { decideDeletions, pollNow, resumeCallback } from "./api.js";
import {
  announce,
  badge,
  busy,
  button,
  empty,
  failure,
  h,
  icon,
  instant,
  linkButton,
  modal,
  number,
  pageHead,
  plural,
  show,
  toast,
  update,
  when,
} from "./dom.js";
import { attention, recount } from "./health.js";

const toInstance = (instance) => h("a", { href: `#/instances/${instance.id}` }, instance.name);

/** Held deletes of one resource, with what can be done. `done` is called when something was. */
export function heldDeletes(instance, resource, done) {
  const { held } = resource;
  const share = held.known > 0 ? ` (${Math.round((100 * held.missing) / held.known)} %)` : "";
  const approve = button("Approve the deletes", () => confirm(), { icon: "check", kind: "danger" });
  const refuse = async () => {
    await decideDeletions(instance.id, resource.resource, "reject");
    toast("Rejected: no event is sent, and the records stay known.");
    done();
  };
  const reject = button("Reject", (event) => busy(event.currentTarget, refuse), { icon: "cross" });
  function confirm() {
    const go = button(
      `Send ${plural(held.missing, "delete")}`,
      (event) =>
        busy(event.currentTarget, async () => {
          await decideDeletions(instance.id, resource.resource, "approve");
          // The next complete listing emits them, and this is it.
          await pollNow(instance.id, resource.resource, true);
          dialog.close();
          toast("Approved. Each is confirmed at the vendor by its id, and then an event is sent.");
          done();
        }),
      { kind: "danger solid", icon: "trash" },
    );
    const dialog = modal("Approve held deletes?", [
      h(
        "p",
        null,
        `Events of type deleted will be sent for the records of ${resource.resource} that the vendor confirms as gone. Receivers usually remove their copies then.`,
      ),
      h(
        "div",
        { class: "row" },
        go,
        button("Cancel", () => dialog.close()),
      ),
    ]);
  }
  return h(
    "div",
    { class: "notice warn" },
    icon("question"),
    h(
      "div",
      { class: "grow" },
      h("h3", null, `${plural(held.missing, "delete")} of ${resource.resource} held`),
      h(
        "p",
        null,
        `${number(held.missing)} of ${number(held.known)} known records${share} were missing from the vendor's listing of ${instant(held.since)}. That is more than is believed without asking.`,
      ),
      held.sample.length > 0 &&
        h(
          "p",
          { class: "small" },
          "Among them: ",
          held.sample.map((id, at) => [at > 0 && ", ", h("code", null, id)]),
        ),
      h("div", { class: "row" }, approve, reject),
    ),
  );
}

function callbackCard({ url, users, view }, done) {
  const dead = view.status === "disabled";
  const reason = view.disabled?.reason ?? view.disabled?.why;
  const resume = button(
    dead ? "Resume and send what waits" : "Try now",
    (event) =>
      busy(event.currentTarget, async () => {
        const sent = await resumeCallback(url, users);
        toast(`Resumed: ${plural(sent, "delivery", "deliveries")} on the way.`);
        done();
      }),
    { icon: "play", kind: "primary" },
  );
  return h(
    "li",
    { class: "card stack", "data-key": url },
    h(
      "div",
      { class: "row between" },
      h("h2", null, dead ? "A callback is switched off" : "A callback is failing"),
      badge("bad", dead ? "pause" : "warn", dead ? "off" : "failing"),
    ),
    h("p", null, h("code", null, url)),
    reason && h("p", { class: "small" }, String(reason)),
    h(
      "p",
      { class: "small dim" },
      view.failingSince && ["failing since ", when(view.failingSince), " · "],
      plural(view.failures, "failed attempt"),
      view.nextProbe && [" · next try ", when(view.nextProbe, "–", { expected: true })],
      view.waiting > 0 && ` · ${number(view.waiting)} waiting in line`,
    ),
    h(
      "p",
      { class: "small dim" },
      "Used by ",
      users.map((instance, at) => [at > 0 && ", ", toInstance(instance)]),
      ". Nothing is lost: what waits is sent in order when it answers.",
    ),
    h("div", { class: "row" }, resume),
  );
}

function card(item, done) {
  const { kind, instance, resource } = item;
  if (kind === "callback") return callbackCard(item, done);
  const key = `${kind} ${instance.id} ${resource?.resource ?? ""}`;
  if (kind === "held")
    return h("li", { class: "card stack", "data-key": key }, h("h2", null, toInstance(instance)), heldDeletes(instance, resource, done));
  if (kind === "login")
    return h(
      "li",
      { class: "card stack", "data-key": key },
      h("div", { class: "row between" }, h("h2", null, toInstance(instance)), badge("bad", "key", "needs a new login")),
      h("p", null, instance.reconnect?.reason ?? "The vendor no longer accepts the credentials."),
      h(
        "p",
        { class: "dim small" },
        instance.reconnect && ["Since ", when(instance.reconnect.since), ". "],
        "Polling goes on where it stopped.",
      ),
      h(
        "div",
        { class: "row" },
        linkButton("Reconnect", `#/instances/${instance.id}/reconnect`, { icon: "key", kind: "primary" }),
      ),
    );
  return h(
    "li",
    { class: "card stack", "data-key": key },
    h(
      "div",
      { class: "row between" },
      h("h2", null, toInstance(instance), ` · ${resource.resource}`),
      badge("bad", "warn", "polls are failing"),
    ),
    h("p", null, resource.trouble.message),
    h(
      "p",
      { class: "dim small" },
      "Since ",
      when(resource.trouble.since),
      ` · ${plural(resource.failures, "failure")} in a row`,
      resource.nextPoll && [" · next poll ", when(resource.nextPoll, "–", { expected: true })],
    ),
    h(
      "div",
      { class: "row" },
      button(
        "Poll now",
        (event) =>
          busy(event.currentTarget, async () => {
            await pollNow(instance.id, resource.resource);
            done();
          }),
        { icon: "refresh" },
      ),
    ),
  );
}

export default async function screen(visit) {
  const list = h("ul", { class: "stack plain" });
  let said;
  const draw = async () => {
    const items = await attention();
    if (visit.isOver) return;
    const done = () => {
      draw();
      recount();
    };
    update(
      list,
      items.length > 0
        ? items.map((item) => card(item, done))
        : h(
            "li",
            { class: "card", "data-key": "none" },
            empty(
              "check",
              "Nothing waits for you",
              "Held deletes, failing callbacks and logins that ended show up here.",
            ),
          ),
    );
    const now = `${plural(items.length, "thing")} to look at`;
    if (items.length > 0 && now !== said) announce(now);
    said = now;
  };
  show(
    visit.place,
    pageHead("Attention", "What cannot go on, or should not, without somebody's word."),
    list,
  );
  await draw().catch((error) => show(list, h("li", null, failure(error))));
  visit.every(8, draw);
}
