// The HTTP API as the console uses it: one function a question. The two secrets live in this tab's session storage only.

/** Where the service is mounted: assets are at `<root>console/<version>/`. */
export const ROOT = new URL("../../", import.meta.url);
const API = new URL("elements/api-v2", ROOT).href;
const SECRETS = "pollux.secrets";

/** An answer that says no. `problems` are `{field, read, expected}`. */
export class ApiError extends Error {
  constructor(status, body) {
    super(body.message ?? body.error ?? `The service answered ${status}.`);
    this.status = status;
    this.problems = body.errors ?? [];
    this.provider = body.providerMessage;
    this.requestId = body.requestId;
  }
}

export function secrets() {
  try {
    return JSON.parse(sessionStorage.getItem(SECRETS));
  } catch {
    return null;
  }
}

export function remember(user, organization) {
  sessionStorage.setItem(SECRETS, JSON.stringify({ user, organization }));
}

export function forget() {
  sessionStorage.clear();
}

async function fetched(url, init) {
  try {
    return await fetch(url, { credentials: "omit", ...init });
  } catch (cause) {
    if (cause.name === "AbortError") throw cause;
    throw new ApiError(0, { message: "The service cannot be reached. Is it running, and are you online?" });
  }
}

async function read(response) {
  const text = await response.text();
  let body = null;
  try {
    body = text === "" ? null : JSON.parse(text);
  } catch {
    body = { message: text.slice(0, 300) };
  }
  if (!response.ok) throw new ApiError(response.status, body ?? {});
  return body;
}

function query(parameters) {
  const entries = Object.entries(parameters ?? {}).filter(
    ([, value]) => value !== undefined && value !== null && value !== "",
  );
  return entries.length === 0 ? "" : `?${new URLSearchParams(entries)}`;
}

async function answered(method, path, { parameters, body, as, signal, version } = {}) {
  const who = as ?? secrets();
  // Signed out meanwhile: whoever asked is gone too.
  if (!who) throw new DOMException("Signed out.", "AbortError");
  const headers = { Accept: "application/json", Authorization: `User ${who.user}, Organization ${who.organization}` };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (version) headers["If-Match"] = version;
  const response = await fetched(`${API}${path}${query(parameters)}`, {
    method,
    headers,
    body: body === undefined ? undefined : JSON.stringify(body),
    signal,
  });
  if (response.status === 401 && !as) dispatchEvent(new Event("pollux:signed-out"));
  return response;
}

const call = async (method, path, options) => read(await answered(method, path, options));
const part = encodeURIComponent;

// ---------------------------------------------------------------- Accounts and elements

/** Whether these secrets open the door. */
export async function knock(user, organization) {
  const response = await answered("GET", "/notifications/subscriptions", {
    parameters: { pageSize: 1 },
    as: { user, organization },
  });
  // A service without this route still says who is not known.
  if (response.status !== 404) await read(response);
}

let catalog;

/** All elements, asked for once. */
export function elements() {
  catalog ??= call("GET", "/elements").catch((error) => {
    catalog = undefined;
    throw error;
  });
  return catalog;
}

export async function element(key) {
  const found = (await elements()).find((one) => one.key === key);
  if (!found) throw new ApiError(404, { message: `There is no element “${key}”.` });
  return found;
}

/** Where one logs in at the vendor; of an instance with what it has stored, less what `fields` puts in its place. */
export const loginAddress = (key, fields, id) =>
  call("POST", id ? `${of(id)}/oauth/url` : `/elements/${part(key)}/oauth/url`, { body: fields });

// ---------------------------------------------------------------- Instances

/** Everything of a listing, page after page. None found is an empty list here. */
export async function instances() {
  const all = [];
  let nextPage;
  do {
    const response = await answered("GET", "/instances", { parameters: { allowEmpty: true, nextPage } });
    if (response.status === 404) return all;
    all.push(...(await read(response)));
    nextPage = response.headers.get("elements-next-page-token");
  } while (nextPage);
  return all;
}

const of = (id) => `/instances/${part(id)}`;
/** An instance; its `version` says that a change is for it as it was read. */
export async function instance(id) {
  const response = await answered("GET", of(id));
  const found = await read(response);
  return { ...found, version: response.headers.get("etag") };
}
export const createInstance = (body) => call("POST", "/instances", { body });
export const changeInstance = (id, body, version) => call("PATCH", of(id), { body, version });
export const removeInstance = (id) => call("DELETE", of(id));
export const setEnabled = (id, enabled) => call(enabled ? "PUT" : "DELETE", `${of(id)}/enabled`);
export const pollNow = (id, resource, sweep) =>
  call("POST", `${of(id)}/poll`, { parameters: { resource, sweep: sweep ? "true" : undefined } });
export const coverage = (id) => call("GET", `${of(id)}/coverage`);
/** `decision`: approve or reject. */
export const decideDeletions = (id, resource, decision) =>
  call("POST", `${of(id)}/resources/${part(resource)}/held`, { body: { decision } });
export const why = (id, resource, record) =>
  call("GET", `${of(id)}/resources/${part(resource)}/records/${part(record)}/why`);
/** Tries a configuration at the vendor; nothing is saved. */
export const rehearse = (body, id, signal) =>
  call("POST", `${id ? of(id) : "/instances"}/rehearse`, { body, signal });
/** What would be refused, and what read differently. */
export const check = (body, id, signal) => call("POST", `${id ? of(id) : "/instances"}/check`, { body, signal });
/** Posts one test event to the callback that the body describes; answers the attempt. */
export const tryCallback = (body, id) => call("POST", `${id ? of(id) : ""}/notifications/test`, { body });

// ---------------------------------------------------------------- Events and deliveries

/** The youngest deliveries, of one instance or of all. */
export function deliveries(id, { status, limit = 100, page } = {}) {
  if (id) return paged(`${of(id)}/deliveries`, { status, pageSize: limit, nextPage: page });
  return paged("/notifications/subscriptions/deliveries", {
    where: status && `status='${status}'`,
    pageSize: limit,
    nextPage: page,
  });
}

async function paged(path, parameters) {
  const response = await answered("GET", path, { parameters });
  return { list: await read(response), next: response.headers.get("elements-next-page-token") };
}

export const delivery = (id, name) => call("GET", `${of(id)}/deliveries/${part(name)}`);
export const resend = (id, name) => call("PUT", `${of(id)}/deliveries/${part(name)}`);
export const resume = (id) => call("PUT", `${of(id)}/deliveries`);
export const sendTest = (id) => call("POST", `${of(id)}/deliveries/test`);
export const callback = (id) => call("GET", `${of(id)}/callback`);

// ---------------------------------------------------------------- Sandbox and inbox, on one's own machine only

async function local(method, path, body) {
  const init =
    body === undefined
      ? { method }
      : { method, headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  return read(await fetched(new URL(path, ROOT), init));
}

let described;

/** What the sandbox offers; null where there is none. Asked for once. */
export function sandbox() {
  described ??= local("GET", "sandbox/control").catch(() => null);
  return described;
}

const records = (vendor, collection, id = "") =>
  `sandbox/control/${part(vendor)}/${part(collection)}${id && `/${part(id)}`}`;
export const sandboxRecords = (vendor, collection, account) =>
  local("GET", records(vendor, collection) + query({ account }));
export const sandboxCreate = (vendor, collection, account, fields) =>
  local("POST", records(vendor, collection) + query({ account }), fields);
export const sandboxUpdate = (vendor, collection, account, id, fields) =>
  local("PATCH", records(vendor, collection, id) + query({ account }), fields);
export const sandboxDelete = (vendor, collection, account, id) =>
  local("DELETE", records(vendor, collection, id) + query({ account }));
export const sandboxExpire = (vendor, account, what) =>
  local("POST", `sandbox/control/${part(vendor)}/expire${query({ account })}`, { what });
export const sandboxFaults = (vendor, faults) => local("PUT", "sandbox/control/faults", { vendor, faults });

export const inboxes = () => local("GET", "inbox");
export const inbox = (name, after, limit) => local("GET", `inbox/${part(name)}${query({ after, limit })}`);
export const inboxBehaviour = (name, behaviour) => local("PUT", `inbox/${part(name)}`, behaviour);
export const inboxClear = (name) => local("DELETE", `inbox/${part(name)}`);

/** Resumes a callback and everything that stopped at it. Answers how many deliveries set out. */
export async function resumeCallback(url, users) {
  // A quote would end the text in the clause; then instance by instance.
  if (url.includes("'")) {
    let sent = 0;
    for (const instance of users) sent += (await resume(instance.id)).redelivered;
    return sent;
  }
  const put = (status) =>
    call("PUT", "/notifications/subscriptions/deliveries", {
      parameters: { where: `status='${status}' and config.url='${url}'` },
    });
  const stopped = await put("queued");
  return stopped.redelivered > 0 ? stopped.redelivered : (await put("waiting")).redelivered;
}
