// Elements, icons, words for times and numbers. Text from outside always becomes text nodes, never markup.

const HERE = import.meta.url;
const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    // As a property, so that `update` can put another in its place.
    if (name.startsWith("on")) element[name] = value;
    else if (name === "value" || name === "checked" || name === "disabled" || name === "open") element[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...flat(children));
  return element;
}

function flat(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
}

/** An HTML element. Attributes that start with `on` are listeners; absent values are left out. */
export const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);

/** An SVG element. */
export const s = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

/** Puts other children into a node. */
export function show(node, ...children) {
  node.replaceChildren(...flat(children));
  return node;
}

/** What people and scripts do to an element in between, which a redraw leaves alone. */
const LIVING = new Set(["aria-busy", "open", "id", "aria-labelledby", "aria-describedby", "for"]);

/**
 * Makes a node's children like these, changing what is there where it can: what a user is about to press stays under
 * the finger, and the focus, an opened fold and a scroll position stay where they are. Children with a `data-key` are
 * matched by it, others by their place.
 */
export function update(node, ...children) {
  const keyed = new Map();
  for (const child of node.children) if (child.dataset.key) keyed.set(child.dataset.key, child);
  const wanted = flat(children).map((child) => (child instanceof Node ? child : document.createTextNode(child)));
  let at = node.firstChild;
  for (const fresh of wanted) {
    const key = fresh.dataset?.key;
    let old = at;
    if (key) old = keyed.get(key);
    else while (old?.dataset?.key) old = old.nextSibling;
    if (old && old.nodeName === fresh.nodeName && old.namespaceURI === fresh.namespaceURI && old.dataset?.key === key) {
      if (old === at) at = at.nextSibling;
      else node.insertBefore(old, at);
      become(old, fresh);
    } else node.insertBefore(fresh, at);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
  return node;
}

function become(old, fresh) {
  if (!(fresh instanceof Element)) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  for (const { name } of [...old.attributes])
    if (!fresh.hasAttribute(name) && !LIVING.has(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes)
    if (old.getAttribute(name) !== value && !LIVING.has(name)) old.setAttribute(name, value);
  for (const happening of ["onclick", "onchange", "oninput", "onsubmit"]) old[happening] = fresh[happening];
  if ("disabled" in old) old.disabled = fresh.disabled;
  update(old, ...fresh.childNodes);
}

let drawn = 0;

/** An id that no other element of the page has. */
export const newId = (prefix) => `${prefix}-${++drawn}`;

/** A symbol of icons.svg. With a label it is an image that says it, else decoration. */
export function icon(name, label) {
  const attributes = label ? { role: "img", "aria-label": label } : { "aria-hidden": "true" };
  return s("svg", { class: "icon", ...attributes }, s("use", { href: new URL(`icons.svg#${name}`, HERE).href }));
}

/** A button. `options`: icon, kind (primary, danger, quiet), and attributes. */
export function button(label, onclick, { icon: picture, kind, hideLabel, ...attributes } = {}) {
  const classes = ["button", kind, hideLabel && "square"].filter(Boolean).join(" ");
  return h(
    "button",
    {
      type: "button",
      class: classes,
      onclick,
      ...(hideLabel ? { "aria-label": label, title: label } : {}),
      ...attributes,
    },
    picture && icon(picture),
    hideLabel ? null : h("span", null, label),
  );
}

/** A link that looks like a button. */
export function linkButton(label, href, { icon: picture, kind } = {}) {
  return h(
    "a",
    { class: ["button", kind].filter(Boolean).join(" "), href },
    picture && icon(picture),
    h("span", null, label),
  );
}

/** Runs a slow job for a button: it is busy meanwhile and cannot be pressed twice. */
export async function busy(pressed, job) {
  if (pressed.getAttribute("aria-busy") === "true") return undefined;
  pressed.setAttribute("aria-busy", "true");
  try {
    return await job();
  } finally {
    pressed.removeAttribute("aria-busy");
  }
}

/**
 * A job that is done once nobody has asked for it for `delay` milliseconds. Asking again gives up what is under way: its
 * signal is aborted. What the service refuses is left: who saves hears of it.
 */
export function latest(delay, job, over) {
  let timer;
  let running;
  const stop = () => {
    clearTimeout(timer);
    running?.abort();
  };
  over.addEventListener("abort", stop);
  return (...given) => {
    stop();
    timer = setTimeout(() => {
      running = new AbortController();
      job(running.signal, ...given).catch((error) => {
        if (error.name !== "AbortError" && error.status === undefined) throw error;
      });
    }, delay);
  };
}

/** Says something to screen readers. */
export function announce(text) {
  document.getElementById("polite").textContent = text;
}

/** A short message that goes away by itself. */
export function toast(text, kind = "good") {
  announce(text);
  const node = h("div", { class: `toast ${kind}` }, icon(kind === "good" ? "check" : "warn"), h("span", null, text));
  document.getElementById("toasts").append(node);
  setTimeout(() => node.remove(), kind === "good" ? 4000 : 9000);
}

/** Copies and says so. */
export async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    toast(`${what} copied.`);
  } catch {
    toast(`The browser did not allow copying. Select the text and copy it by hand.`, "bad");
  }
}

/** An icon and a word for a state; never colour alone. */
export const badge = (tone, picture, text) =>
  h("span", { class: `badge ${tone}` }, icon(picture), h("span", null, text));

const KINDS = { CREATED: ["created", "plus"], UPDATED: ["updated", "pencil"], DELETED: ["deleted", "minus"] };

/** The head of a page: its title, which takes the focus on arrival, a line, and what can be done or switched there. */
export function pageHead(title, line, ...actions) {
  return h("div", { class: "head" }, h("div", null, h("h1", { tabindex: "-1" }, title), h("p", null, line)), ...actions);
}

/** The badge of an event's type. */
export function kindBadge(kind) {
  const [tone, picture] = KINDS[kind] ?? ["plain", "question"];
  return badge(`kind ${tone}`, picture, kind.toLowerCase());
}

const DELIVERY = {
  created: ["plain", "clock", "on its way"],
  delivered: ["good", "check", "delivered"],
  retry: ["warn", "refresh", "will be retried"],
  waiting: ["warn", "clock", "waiting in line"],
  queued: ["bad", "pause", "stopped"],
  kept: ["plain", "inbox", "kept, no callback"],
  superseded: ["plain", "check", "superseded"],
};

/** The badge of a delivery's status. */
export function deliveryBadge(status) {
  const [tone, picture, text] = DELIVERY[status] ?? ["plain", "question", status];
  return badge(tone, picture, text);
}

/** Grey bars while something is loaded. */
export const skeleton = (lines = 3) =>
  h(
    "div",
    { class: "skeleton", "aria-hidden": "true" },
    Array.from({ length: lines }, () => h("span", null)),
  );

/** What to show where there is nothing. */
export const empty = (picture, title, text, ...actions) =>
  h(
    "div",
    { class: "empty" },
    icon(picture),
    h("h2", null, title),
    h("p", null, text),
    h("div", { class: "row center" }, actions),
  );

/** A message in a box. */
export const notice = (tone, picture, ...children) =>
  h(
    "div",
    { class: `notice ${tone}`, role: tone === "bad" ? "alert" : null },
    icon(picture),
    h("div", { class: "grow" }, children),
  );

/** What an error says, with what the vendor said. */
export function failure(error, retry) {
  return notice(
    "bad",
    "warn",
    h("p", null, error.message),
    error.provider && h("p", { class: "dim" }, `The vendor said: ${error.provider}`),
    error.requestId && h("p", { class: "dim small" }, "Request ", h("code", null, error.requestId)),
    retry && button("Try again", retry, { icon: "refresh" }),
  );
}

// ---------------------------------------------------------------- Times and numbers

const numbers = new Intl.NumberFormat("en");
export const number = (value) => (value === null || value === undefined ? "–" : numbers.format(value));
export const plural = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;

const UNITS = [
  [86400, "d"],
  [3600, "h"],
  [60, "min"],
  [1, "s"],
];

/** A length of time in its largest units: `2 h`, `45 s`. */
export function span(seconds) {
  const length = Math.max(0, seconds);
  if (length < 1) return length === 0 ? "0 s" : `${Math.round(length * 1000)} ms`;
  const at = UNITS.findIndex(([size]) => length >= size);
  const [size, unit] = UNITS[at];
  return `${Math.floor(length / size)} ${unit}`;
}

function fromNow(when, expected) {
  const seconds = (when - Date.now()) / 1000;
  if (Math.abs(seconds) < 2) return "now";
  if (expected && seconds < 0) return "due";
  return seconds < 0 ? `${span(-seconds)} ago` : `in ${span(seconds)}`;
}

const full = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });
export const instant = (text) => full.format(new Date(text));

/** A time that says how far away it is and keeps saying so. One that is `expected` is due once it is past. */
export function when(text, otherwise = "–", { expected = false } = {}) {
  if (!text) return h("span", { class: "dim" }, otherwise);
  const live = expected ? "expected" : "live";
  return h("time", { datetime: text, title: instant(text), "data-live": live }, fromNow(new Date(text), expected));
}

setInterval(() => {
  for (const node of document.querySelectorAll("time[data-live]")) {
    const text = fromNow(new Date(node.dateTime), node.dataset.live === "expected");
    if (node.textContent !== text) node.textContent = text;
  }
}, 1000);

/** JSON set out over lines. A text keeps every number and string as it is written: parsing would round large numbers. */
export function pretty(value) {
  const text = typeof value === "string" ? value : JSON.stringify(value);
  try {
    JSON.parse(text);
  } catch {
    return text;
  }
  let deep = 0;
  let out = "";
  const line = () => `\n${"  ".repeat(deep)}`;
  for (const [token] of text.matchAll(/"(?:\\.|[^"\\])*"|[{}[\],:]|[^\s{}[\],:"]+/g)) {
    if (token === "{" || token === "[") {
      deep++;
      out += token + line();
    } else if (token === "}" || token === "]") {
      deep--;
      // Nothing inside: the brackets stay together.
      out = /[{[]\s*$/.test(out) ? out.trimEnd() + token : out + line() + token;
    } else if (token === ",") out += token + line();
    else out += token === ":" ? ": " : token;
  }
  return out;
}

/** A modal dialog that gives the focus back when it closes. Answers the dialog. */
export function modal(title, content, { wide } = {}) {
  const heading = h("h2", { id: newId("dialog"), tabindex: "-1" }, title);
  const dialog = h(
    "dialog",
    { class: wide ? "wide" : null, "aria-labelledby": heading.id, onclose: () => dialog.remove() },
    h(
      "header",
      null,
      heading,
      button("Close", () => dialog.close(), { icon: "cross", kind: "quiet", hideLabel: true }),
    ),
    h("div", { class: "dialog-body" }, content),
  );
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}
