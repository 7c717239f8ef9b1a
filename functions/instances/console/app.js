// The frame: who is signed in, which screen the address names, navigation, theme.

import { forget, sandbox, secrets } from "./api.js";
import { button, failure, h, icon, show, skeleton, toast } from "./dom.js";
import { attention } from "./health.js";
import attentionScreen from "./attention.js";
import catalogScreen from "./catalog.js";
import connectScreen from "./connect.js";
import eventsScreen from "./events.js";
import instanceScreen from "./instance.js";
import instancesScreen from "./instances.js";
import sandboxScreen from "./sandbox.js";
import signInScreen from "./sign-in.js";

/** Path patterns after `#` and their screens. A screen takes its place in the page and what the address says. */
const SCREENS = [
  [/^\/?$/, instancesScreen, "instances"],
  [/^\/instances$/, instancesScreen, "instances"],
  [/^\/instances\/(?<id>\d+)$/, instanceScreen, "instances"],
  [/^\/instances\/(?<id>\d+)\/(?<task>edit|reconnect)$/, connectScreen, "instances"],
  [/^\/catalog$/, catalogScreen, "catalog"],
  [/^\/connect\/(?<key>[^/]+)$/, connectScreen, "catalog"],
  [/^\/events$/, eventsScreen, "events"],
  [/^\/attention$/, attentionScreen, "attention"],
  [/^\/sandbox$/, sandboxScreen, "sandbox"],
];

const NAVIGATION = [
  ["instances", "#/instances", "pulse", "Instances"],
  ["catalog", "#/catalog", "grid", "Catalog"],
  ["events", "#/events", "send", "Events"],
  ["attention", "#/attention", "bell", "Attention"],
];

const app = document.getElementById("app");
let current;
let visits = 0;

// ---------------------------------------------------------------- Theme

const THEMES = {
  auto: ["auto", "Colours as in the system"],
  light: ["sun", "Light colours"],
  dark: ["moon", "Dark colours"],
};

function themed() {
  const theme = localStorage.getItem("pollux.theme");
  return theme in THEMES ? theme : "auto";
}

function applyTheme() {
  document.documentElement.dataset.theme = themed();
}

function themeButton() {
  const names = Object.keys(THEMES);
  const label = () => `${THEMES[themed()][1]}; change`;
  const node = button(
    label(),
    () => {
      localStorage.setItem("pollux.theme", names[(names.indexOf(themed()) + 1) % names.length]);
      applyTheme();
      show(node, icon(THEMES[themed()][0]));
      node.setAttribute("aria-label", label());
      node.title = label();
    },
    { icon: THEMES[themed()][0], kind: "quiet", hideLabel: true },
  );
  return node;
}

// ---------------------------------------------------------------- Frame

function frame() {
  const items = h("ul", { class: "plain" });
  const item = ([name, href, picture, label]) =>
    h("li", null, h("a", { href, "data-screen": name }, icon(picture), h("span", null, label)));
  show(items, NAVIGATION.map(item));
  sandbox().then((found) => {
    if (found && !items.querySelector("[data-screen=sandbox]"))
      items.append(item(["sandbox", "#/sandbox", "flask", "Sandbox"]));
    mark();
  });
  const main = h("main", { id: "main" });
  const side = h(
    "header",
    { class: "side" },
    h(
      "a",
      { class: "brand", href: "#/instances" },
      h("img", { src: new URL("logo.svg", import.meta.url).href, alt: "" }),
      "Pollux",
    ),
    h("nav", { "aria-label": "Main" }, items),
    h(
      "div",
      { class: "foot" },
      themeButton(),
      h("a", { href: "reference", class: "small" }, "API reference"),
      button("Sign out", signOut, { icon: "exit", kind: "quiet", hideLabel: true }),
    ),
  );
  show(app, h("div", { class: "frame" }, side, main));
  count();
  return main;
}

/** Marks the place of the screen in the navigation. */
function mark() {
  for (const link of app.querySelectorAll("nav a")) {
    if (link.dataset.screen === current?.section) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

/** How many things wait for somebody, beside the bell. */
async function count() {
  if (!secrets() || document.hidden) return;
  try {
    const { length } = await attention();
    const link = app.querySelector("[data-screen=attention]");
    link?.querySelector(".count")?.remove();
    if (length > 0) link?.append(h("span", { class: "count" }, length, h("span", { class: "hidden" }, " to look at")));
  } catch {
    // The next round counts again; screens say what is wrong.
  }
}
setInterval(count, 30_000);
addEventListener("pollux:attention", count);

function signOut() {
  forget();
  location.hash = "#/";
  route();
}

// ---------------------------------------------------------------- Screens

/** What a screen may ask of its surroundings. Everything ends when the screen is left. */
class Visit {
  #left = new AbortController();
  constructor(section, place, parameters, query) {
    Object.assign(this, { section, place, parameters, query });
  }
  get signal() {
    return this.#left.signal;
  }
  get isOver() {
    return this.#left.signal.aborted;
  }
  leave() {
    this.#left.abort();
  }
  /** Does something again and again while the page is in sight. One run ends before the next begins. */
  every(seconds, job) {
    const round = async () => {
      if (this.isOver) return;
      if (!document.hidden) await job().catch(() => {});
      if (!this.isOver) setTimeout(round, seconds * 1000);
    };
    setTimeout(round, seconds * 1000);
  }
}

async function route() {
  const address = location.hash.slice(1) || "/";
  const [path, search = ""] = address.split("?");
  current?.leave();
  const first = visits++ === 0;
  if (!secrets()) {
    current = new Visit("sign-in", app, {}, new URLSearchParams());
    document.title = "Sign in – Pollux";
    signInScreen(current, route);
    return;
  }
  const main = app.querySelector("#main:not(.lone)") ?? frame();
  const match = SCREENS.map(([pattern, screen, section]) => ({ found: pattern.exec(path), screen, section })).find(
    ({ found }) => found,
  );
  const visit = new Visit(match?.section, main, match?.found.groups ?? {}, new URLSearchParams(search));
  current = visit;
  mark();
  window.scrollTo(0, 0);
  show(main, skeleton(6));
  if (!match) {
    show(
      main,
      h("h1", { tabindex: "-1" }, "There is nothing here"),
      h("p", null, h("a", { href: "#/instances" }, "To the instances")),
    );
    return;
  }
  try {
    await match.screen(visit);
  } catch (error) {
    if (visit.isOver || error.name === "AbortError") return;
    show(main, h("h1", { tabindex: "-1" }, "This did not work"), failure(error, route));
  }
  if (visit.isOver) return;
  const heading = main.querySelector("h1");
  document.title = `${heading?.textContent ?? "Console"} – Pollux`;
  // Screen readers begin to read at the new screen's title. The first page is read by itself.
  if (!first) heading?.focus({ preventScroll: true });
}

addEventListener("hashchange", route);
addEventListener("pollux:signed-out", () => {
  if (!secrets()) return;
  forget();
  toast("The service no longer knows these secrets. Sign in again.", "bad");
  route();
});
addEventListener("unhandledrejection", ({ reason }) => toast(reason?.message ?? "Something went wrong.", "bad"));
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  const main = document.getElementById("main");
  main.tabIndex = -1;
  main.focus();
});

applyTheme();
route();
