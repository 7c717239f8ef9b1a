// One instance: its resources, polls and events, and every action on it.

import * as api from "./api.js";
import {
  badge,
  busy,
  button,
  copy,
  empty,
  failure,
  h,
  icon,
  instant,
  linkButton,
  modal,
  notice,
  number,
  plural,
  show,
  skeleton,
  span,
  toast,
  update,
  when,
} from "./dom.js";
import { heldDeletes } from "./attention.js";
import { coverageStrip } from "./charts.js";
import { eventRow, flatten } from "./events.js";
import { whyForm } from "./delivery.js";
import { Field, inWords } from "./fields.js";
import { healthBadge, recount } from "./health.js";

const OUTCOMES = {
  committed: ["good", "check", "committed"],
  suspended: ["plain", "clock", "goes on in the background"],
  outrunByAnother: ["plain", "clock", "another poll was faster"],
  failed: ["bad", "warn", "failed"],
  alreadyCovered: ["plain", "check", "covered already"],
  backingOff: ["warn", "clock", "backing off"],
  disabled: ["plain", "pause", "switched off"],
  needsLogin: ["bad", "key", "needs a new login"],
  gone: ["plain", "trash", "gone"],
};

function pollReport(report) {
  const columns = ["records", "created", "updated", "deleted", "suppressed"];
  const problems = report.resources.flatMap((one) => [
    ...(one.failure ? [`${one.resource}: ${one.failure}`] : []),
    ...one.problems.map((problem) => `${one.resource}: ${problem.what}${problem.sample ? ` (${problem.sample})` : ""}`),
    ...one.warnings.map((warning) => `${one.resource}: ${warning.message}`),
  ]);
  return h(
    "section",
    { class: "card stack", "aria-label": "Poll report" },
    h(
      "div",
      { class: "row between" },
      h("h2", null, "Polled just now"),
      h(
        "span",
        { class: "dim small" },
        `${plural(report.pages, "page")}, ${plural(report.notifications, "notification")}`,
      ),
    ),
    h(
      "div",
      { class: "table", tabindex: "0", role: "region", "aria-label": "Poll report by resource" },
      h(
        "table",
        null,
        h(
          "thead",
          null,
          h(
            "tr",
            null,
            h("th", { scope: "col" }, "Resource"),
            h("th", { scope: "col" }, "Outcome"),
            columns.map((name) => h("th", { scope: "col", class: "number" }, name)),
            h("th", { scope: "col", class: "number" }, "took"),
            h("th", { scope: "col", class: "number" }, "vendor"),
          ),
        ),
        h(
          "tbody",
          null,
          report.resources.map((one) =>
            h(
              "tr",
              null,
              h("th", { scope: "row" }, one.resource),
              h(
                "td",
                null,
                badge(...(OUTCOMES[one.outcome] ?? ["plain", "question", one.outcome])),
                one.baseline && h("span", { class: "dim small" }, " first poll: remembered, no events"),
              ),
              columns.map((name) => h("td", { class: "number" }, number(one[name]))),
              h("td", { class: "number" }, `${number(one.durationMs)} ms`),
              h("td", { class: "number" }, `${number(one.vendorMs)} ms`),
            ),
          ),
        ),
      ),
    ),
    problems.length > 0 &&
      notice(
        "warn",
        "warn",
        problems.map((line) => h("p", null, line)),
      ),
  );
}

function resourceCard(instance, resource, { poll, changed }) {
  const { lastPoll, trouble } = resource;
  const state = trouble
    ? ["bad", "warn", "failing"]
    : !resource.baselined
      ? ["plain", "clock", "first poll to come"]
      : resource.gaps.length > 0
        ? ["warn", "dash", "has a gap"]
        : ["good", "check", "covered"];
  return h(
    "li",
    { class: "card stack", "data-key": resource.resource },
    h(
      "header",
      { class: "row between" },
      h(
        "div",
        { class: "row" },
        h("h3", null, resource.resource),
        badge(...state),
        resource.suspended && badge("plain", "clock", "long listing under way"),
      ),
      h(
        "div",
        { class: "row" },
        button("Look for deletes", (event) => busy(event.currentTarget, () => poll(resource.resource, true)), {
          icon: "search",
          kind: "quiet slim",
          title: "Lists everything, not only what changed",
          "aria-label": `Look for deletes: ${resource.resource}`,
        }),
        button("Poll now", (event) => busy(event.currentTarget, () => poll(resource.resource)), {
          icon: "refresh",
          kind: "quiet slim",
          "aria-label": `Poll now: ${resource.resource}`,
        }),
      ),
    ),
    trouble &&
      notice(
        "bad",
        "warn",
        h("p", null, trouble.message),
        h(
          "p",
          { class: "small dim" },
          "Since ",
          when(trouble.since),
          ` · ${plural(resource.failures, "failure")} in a row. What changed meanwhile is found by the next poll that succeeds.`,
        ),
      ),
    resource.held && !resource.held.approved && heldDeletes(instance, resource, changed),
    coverageStrip(resource),
    h(
      "dl",
      { class: "facts" },
      [
        ["Last poll", when(lastPoll?.at, "not yet")],
        ["Next poll", instance.disabled ? h("span", { class: "dim" }, "paused") : when(resource.nextPoll, "–", { expected: true })],
        ["Every", plural(resource.intervalMinutes, "minute")],
        ["Records known", number(resource.records)],
        ["Appear late by up to", span(resource.latenessSeconds)],
        ["Last poll read", lastPoll ? plural(lastPoll.records, "record") : "–"],
        ["and emitted", lastPoll ? plural(lastPoll.changes, "change") : "–"],
        ["in", lastPoll ? `${number(lastPoll.durationMs)} ms` : "–"],
        ["of it the vendor", lastPoll?.vendorMs === undefined ? "–" : `${number(lastPoll.vendorMs)} ms`],
        ["Complete listing", when(resource.lastSweep, "never")],
      ].map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value))),
    ),
  );
}

function deleteDialog(instance) {
  const name = new Field({ label: `Type the name of the instance, “${instance.name}”, to confirm` });
  const go = button(
    "Delete for good",
    (event) => {
      if (name.value.trim() !== instance.name) {
        name.complain(`This is not its name.`);
        name.input.focus();
        return;
      }
      busy(event.currentTarget, async () => {
        await api.removeInstance(instance.id);
        dialog.close();
        toast(`${instance.name} is deleted.`);
        recount();
        location.hash = "#/instances";
      });
    },
    { icon: "trash", kind: "danger solid" },
  );
  const dialog = modal("Delete this instance?", [
    h(
      "p",
      null,
      "Polling ends, its token stops working, and what it remembers of the vendor’s records goes. Deliveries that still wait are not sent. This cannot be undone; to stop for a while, pause it.",
    ),
    name.node,
    h(
      "div",
      { class: "row" },
      go,
      button("Cancel", () => dialog.close()),
    ),
  ]);
  name.input.focus();
}

function callbackCard(instance, view, changed) {
  const url = instance.eventsNotificationCallbackUrl;
  if (!url)
    return h(
      "section",
      { class: "card stack" },
      h("h2", null, "Callback"),
      h("p", { class: "dim" }, "None is set: events are kept for reading only."),
      h("div", { class: "row" }, linkButton("Set one", `#/instances/${instance.id}/edit`, { icon: "pencil" })),
    );
  const states = {
    ok: ["good", "check", "answers"],
    failing: ["warn", "warn", "failing"],
    open: ["bad", "warn", "failing, deliveries wait"],
    disabled: ["bad", "pause", "switched off"],
  };
  return h(
    "section",
    { class: "card stack" },
    h(
      "div",
      { class: "row between" },
      h("h2", null, "Callback"),
      view && badge(...(states[view.status] ?? ["plain", "question", view.status])),
    ),
    h("p", null, h("code", null, url)),
    view?.failures > 0 &&
      h(
        "p",
        { class: "dim small" },
        plural(view.failures, "failed attempt"),
        view.failingSince && [" since ", when(view.failingSince)],
        view.nextProbe && [", next try ", when(view.nextProbe, "–", { expected: true })],
        view.waiting > 0 && `, ${number(view.waiting)} waiting`,
      ),
    h(
      "div",
      { class: "row" },
      button(
        "Send a test event",
        (event) =>
          busy(event.currentTarget, async () => {
            const answer = await api.sendTest(instance.id);
            toast(answer?.delivery ? "A test event is on its way." : "The test event is kept: there is no callback.");
            changed();
          }),
        { icon: "send" },
      ),
      (view?.status === "open" || view?.status === "disabled") &&
        button(
          "Resume",
          (event) =>
            busy(event.currentTarget, async () => {
              toast(
                `Resumed: ${plural(await api.resumeCallback(url, [instance]), "delivery", "deliveries")} on the way.`,
              );
              changed();
              recount();
            }),
          { icon: "play", kind: "primary" },
        ),
    ),
  );
}

export default async function screen(visit) {
  const { id } = visit.parameters;
  const head = h("div", { class: "head" }, h("h1", { tabindex: "-1" }, "Instance"), skeleton(1));
  const messages = h("div", { class: "stack" });
  const report = h("div", { role: "status" });
  const resources = h("ul", { class: "stack plain" }, h("li", { class: "card" }, skeleton(5)));
  const feed = h("ul", { class: "list" }, h("li", { class: "item" }, skeleton(3)));
  const callbackPlace = h("div", null, h("div", { class: "card" }, skeleton(2)));
  const whyPlace = h("section", { class: "card stack" });
  let instance;

  async function poll(resource, sweep) {
    try {
      show(report, pollReport(await api.pollNow(id, resource, sweep)));
    } catch (error) {
      show(report, failure(error));
    }
    await load();
    recount();
  }
  async function toggle() {
    instance = await api.setEnabled(id, instance.disabled);
    toast(instance.disabled ? "Paused: nothing is polled or sent." : "Resumed: polling goes on where it stopped.");
    await load();
    recount();
  }

  function drawHead(states, view) {
    const element = instance.element;
    update(
      head,
      h(
        "div",
        null,
        h("a", { class: "crumb", href: "#/instances" }, icon("right"), "Instances"),
        h("h1", { tabindex: "-1" }, instance.name),
        h(
          "div",
          { class: "row" },
          healthBadge(instance, states, view),
          h("span", { class: "dim" }, element?.name ?? ""),
          h("span", { class: "dim small" }, "id ", h("code", null, instance.id)),
          instance.tags.map((tag) => h("span", { class: "chip", title: tag }, tag)),
        ),
      ),
      h(
        "div",
        { class: "row" },
        instance.eventsEnabled &&
          !instance.disabled &&
          button("Poll now", (event) => busy(event.currentTarget, () => poll()), { icon: "refresh", kind: "primary" }),
        button(instance.disabled ? "Resume" : "Pause", (event) => busy(event.currentTarget, toggle), {
          icon: instance.disabled ? "play" : "pause",
        }),
        linkButton("Edit", `#/instances/${id}/edit`, { icon: "pencil" }),
        linkButton("Reconnect", `#/instances/${id}/reconnect`, { icon: "key" }),
        button("Copy token", () => copy(instance.token, "Token"), { icon: "copy", hideLabel: true }),
        button("Delete", () => deleteDialog(instance), { icon: "trash", kind: "danger", hideLabel: true }),
      ),
    );
  }
  function drawMessages() {
    update(
      messages,
      !instance.valid &&
        notice(
          "bad",
          "key",
          h("p", null, instance.reconnect?.reason ?? "The vendor no longer accepts the credentials."),
          h(
            "p",
            { class: "small dim" },
            "Polling waits for a new login",
            instance.reconnect && [" since ", instant(instance.reconnect.since)],
            " and then goes on where it stopped.",
          ),
          linkButton("Reconnect", `#/instances/${id}/reconnect`, { icon: "key", kind: "primary" }),
        ),
      instance.disabled &&
        notice(
          "plain",
          "pause",
          h("p", null, "Paused. Nothing is polled or sent; changes made meanwhile are found when it is resumed."),
        ),
      instance.warnings?.length > 0 &&
        notice(
          "warn",
          "warn",
          h("p", null, "Read differently from how it was written:"),
          h(
            "ul",
            { class: "stack tight plain small" },
            instance.warnings.map((warning) => h("li", null, h("span", { class: "strong" }, inWords(warning.field)), ": ", warning.message)),
          ),
        ),
    );
  }

  async function load() {
    const url = instance?.eventsNotificationCallbackUrl;
    const [fresh, states, sent, view] = await Promise.all([
      api.instance(id),
      api.coverage(id),
      api.deliveries(id, { limit: 30 }).catch(() => null),
      url ? api.callback(id).catch(() => null) : null,
    ]);
    if (visit.isOver) return;
    instance = fresh;
    drawHead(states, view);
    drawMessages();
    const polled = states.map((resource) =>
      resourceCard(instance, resource, {
        poll,
        changed: () => {
          load();
          recount();
        },
      }),
    );
    update(
      resources,
      polled.length > 0
        ? polled
        : h(
            "li",
            { class: "card" },
            instance.eventsEnabled
              ? empty(
                  "grid",
                  "No resource is polled",
                  "Pick what to watch.",
                  linkButton("Edit", `#/instances/${id}/edit`, { icon: "pencil", kind: "primary" }),
                )
              : empty(
                  "pulse",
                  "Events are off",
                  "Switch them on and pick what to watch.",
                  linkButton("Edit", `#/instances/${id}/edit`, { icon: "pencil", kind: "primary" }),
                ),
          ),
    );
    const events = flatten(sent?.list ?? []).slice(0, 10);
    update(
      feed,
      events.length > 0
        ? events.map(({ row, event }) => eventRow(row, event, null, { changed: load }))
        : h(
            "li",
            { "data-key": "none" },
            empty(
              "send",
              "No events yet",
              "Change a record at the vendor and poll. The first poll only remembers what is there.",
            ),
          ),
    );
    update(callbackPlace, callbackCard(instance, view, load));
    if (whyPlace.childElementCount === 0 && states.length > 0)
      show(
        whyPlace,
        h("h2", null, "Why did nothing arrive?"),
        h("p", { class: "dim small" }, "Ask about any record, also one that produced no event."),
        whyForm(
          id,
          states.map((resource) => resource.resource),
        ),
      );
    whyPlace.hidden = whyPlace.childElementCount === 0;
  }

  instance = await api.instance(id);
  if (visit.isOver) return;
  drawHead(null);
  show(
    visit.place,
    head,
    h(
      "div",
      { class: "columns" },
      h(
        "div",
        { class: "stack" },
        messages,
        report,
        h("section", { class: "stack" }, h("h2", { class: "hidden" }, "Resources"), resources),
        whyPlace,
      ),
      h(
        "div",
        { class: "stack" },
        callbackPlace,
        h(
          "section",
          { class: "card flush" },
          h(
            "div",
            { class: "row between list-head" },
            h("h2", null, "Recent events"),
            h("a", { class: "small", href: `#/events?instance=${id}` }, "All events"),
          ),
          feed,
        ),
      ),
    ),
  );
  await load();
  visit.every(5, load);
}
