// How an instance is doing, and what waits for somebody to act.

import { callback, coverage, instances } from "./api.js";
import { badge } from "./dom.js";

/** Runs a job for every item, a few at once. Answers in the order of the items. */
export async function each(items, job, atOnce = 4) {
  const answers = new Array(items.length);
  let next = 0;
  const worker = async () => {
    while (next < items.length) {
      const at = next++;
      answers[at] = await job(items[at]);
    }
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, items.length) }, worker));
  return answers;
}

const isHeld = (resource) => resource.held && !resource.held.approved;

/**
 * Tone, icon and words for an instance. `resources` is its coverage, or null while it is not known; `view` is how its
 * callback is doing, where that is known.
 */
export function health(instance, resources, view) {
  if (instance.disabled) return ["plain", "pause", "Paused"];
  if (!instance.valid) return ["bad", "key", "Needs a new login"];
  if (!instance.eventsEnabled) return ["plain", "minus", "Events are off"];
  if (!resources) return null;
  const failing = resources.filter((resource) => resource.trouble);
  if (failing.length > 0)
    return [
      "bad",
      "warn",
      failing.length === resources.length ? "Polls are failing" : `${failing.length} of ${resources.length} failing`,
    ];
  if (view?.status === "disabled") return ["bad", "pause", "Callback is off"];
  if (view?.status === "open") return ["bad", "warn", "Callback is failing"];
  if (resources.some(isHeld)) return ["warn", "question", "Deletes are held"];
  if (resources.length === 0) return ["plain", "minus", "Polls nothing"];
  if (resources.some((resource) => !resource.baselined)) return ["plain", "clock", "First poll to come"];
  if (resources.some((resource) => resource.gaps.length > 0)) return ["warn", "dash", "Watching, with a gap"];
  return ["good", "check", "Watching"];
}

export const healthBadge = (instance, resources, view) => {
  const known = health(instance, resources, view);
  return known ? badge(...known) : badge("plain", "clock", "Looking…");
};

/** How many instances one round looks at. */
const LOOKED_AT = 100;

/** How the callbacks of these instances are doing: `{url, users, view}`, each address once. */
export async function callbacks(watched) {
  const addresses = new Map();
  for (const instance of watched) {
    const url = instance.eventsNotificationCallbackUrl;
    if (url) addresses.set(url, [...(addresses.get(url) ?? []), instance]);
  }
  return each([...addresses], async ([url, users]) => ({
    url,
    users,
    view: await callback(users[0].id).catch(() => null),
  }));
}

/**
 * Everything that waits for somebody: `{kind, instance, …}` with kind `login`, `failing`, `held` or `callback`.
 * Callbacks belong to the organization, so each address stands once.
 */
export async function attention() {
  const all = (await instances()).slice(0, LOOKED_AT);
  const watched = all.filter((instance) => instance.eventsEnabled && !instance.disabled);
  const found = all.filter((instance) => !instance.valid).map((instance) => ({ kind: "login", instance }));
  const states = await each(watched, (instance) => coverage(instance.id).catch(() => []));
  watched.forEach((instance, at) => {
    for (const resource of states[at]) {
      if (resource.trouble && instance.valid) found.push({ kind: "failing", instance, resource });
      if (isHeld(resource)) found.push({ kind: "held", instance, resource });
    }
  });
  for (const { url, users, view } of await callbacks(watched)) {
    if (view && (view.status === "open" || view.status === "disabled"))
      found.push({ kind: "callback", instance: users[0], users, url, view });
  }
  return found;
}

/** Lets the frame count again. */
export const recount = () => dispatchEvent(new Event("pollux:attention"));
