// The form that makes an instance, changes one, or logs in again: every field, and the same as JSON beside it.

import * as api from "./api.js";
import { announce, badge, busy, button, copy, h, icon, latest, notice, number, show, span, toast } from "./dom.js";
import { Field, fieldFor, inWords, pathParts, Switch } from "./fields.js";
import { recount } from "./health.js";
import { logIn, pending, redirectAddress } from "./login.js";
import { Resource } from "./resource.js";

const MASK = "********";

/** Controls that have a place of their own in the form. The fields of other properties stand in lists. */
const PLACED = ["eventsSwitch", "callbackUrl", "interval", "resources", "redirectUrl"];
const IS_SECRET = (property) => property.type === "PASSWORD";
const inConfiguration = (key) => `configuration."${key}"`;

/** How long somebody has stopped typing before the service is asked, and before the vendor is. */
const REVIEW_MS = 350;
const ASK_MS = 700;

/** Stops of the slider: minutes people mean, up to the longest interval that the service takes (a day). */
const STOPS = [1, 2, 3, 5, 10, 15, 20, 30, 45, 60, 120, 180, 240, 360, 720, 1440];

// ---------------------------------------------------------------- The form

class Form {
  constructor(visit, element, task, instance) {
    Object.assign(this, { visit, element, task, instance, code: null, fields: [] });
    this.stored = instance?.configuration ?? {};
    // The element's configuration says which key each control edits.
    const controlled = element.configuration.filter((property) => property.control);
    this.keys = Object.fromEntries(controlled.map(({ control, key }) => [control, key]));
    this.placed = new Set(PLACED.map((control) => this.keys[control]));
    this.isNew = task === "connect";
    this.onlyLogin = task === "reconnect";
    // While somebody types, only the last question matters.
    this.review = latest(REVIEW_MS, (signal) => this.#review(signal), visit.signal);
    this.ask = latest(ASK_MS, (signal, resource) => this.#ask(resource, signal), visit.signal);
    this.#build();
    this.#writeJson();
  }

  #add(options) {
    const field = new Field({ live: true, ...options });
    field.input.addEventListener("input", () => this.changed());
    this.fields.push(field);
    return field;
  }

  /** A field for one property of the element. A stored secret is never shown; left empty, it stays. */
  #property(property) {
    const { key } = property;
    const hidden = this.stored[key] === MASK;
    const shared = {
      label: property.name,
      help: [
        property.description && property.description[0].toUpperCase() + property.description.slice(1),
        hidden && "Stored; leave it empty to keep it.",
      ]
        .filter(Boolean)
        .join(". "),
      path: inConfiguration(key),
      required: property.required,
      optional: !property.required && !property.requiredUnless,
      placeholder: hidden ? "unchanged" : property.defaultValue,
      value: hidden ? "" : (this.stored[key] ?? ""),
    };
    let field;
    const choices = property.options ?? (property.type === "BOOLEAN" ? ["true", "false"] : null);
    if (choices) {
      const usual = property.defaultValue === null ? "" : `as usual (${property.defaultValue})`;
      const options = choices.map((one) => [one, one]);
      field = this.#add({ ...shared, kind: "select", options: property.required ? options : [["", usual], ...options] });
      // The service takes words in any case.
      const stored = String(shared.value);
      if (stored) field.take(choices.find((one) => one.toLowerCase() === stored.toLowerCase()) ?? stored);
    } else
      field = this.#add({
        ...shared,
        kind: IS_SECRET(property) ? "password" : "text",
        beside: property.control === "signingKey" && this.#generate(),
      });
    field.key = key;
    field.section = property.section;
    field.hidden = hidden;
    field.isSecret = IS_SECRET(property) || hidden;
    return field;
  }

  #generate() {
    return button("Generate", () => {
      const bytes = crypto.getRandomValues(new Uint8Array(32));
      const field = this.fields.find((one) => one.key === this.keys.signingKey);
      field.value = btoa(String.fromCharCode(...bytes)).replace(/=+$/, "");
      field.input.type = "text";
      this.changed();
    });
  }

  #build() {
    const { element, instance } = this;
    const properties = element.configuration.filter((property) => !this.placed.has(property.key));
    const isMain = (property) => property.required || property.requiredUnless;
    const own = properties.filter((property) => property.section === "account");
    const asked = own.filter(isMain);
    const folded = own.filter((property) => !isMain(property));
    const ofEvents = properties.filter((property) => property.section === "events");
    this.summary = h("div", { tabindex: "-1" });

    this.name = this.#add({
      label: "Name",
      path: "name",
      required: true,
      value: instance?.name ?? "",
      placeholder: `${element.name} of our shop`,
    });
    this.tags = this.#add({
      label: "Tags",
      path: "tags",
      optional: true,
      help: "Words to find it by, separated by commas.",
      value: (instance?.tags ?? []).join(", "),
    });
    // A stored application is used as it is, unless somebody opens this.
    const stored = asked.filter((property) => element.typeOauth && this.stored[property.key] === MASK);
    const fields = (some) => some.map((property) => this.#property(property).node);
    const fold = (title, ...children) =>
      h("details", null, h("summary", null, title), h("div", { class: "stack" }, children));
    const account = [
      fields(asked.filter((property) => !stored.includes(property))),
      stored.length > 0 && fold("Use another application", fields(stored)),
    ];
    const optional = folded.map((property) => this.#property(property).node);
    const optionalHere = optional.length > 0 && fold("Show optional fields", optional);
    const login = element.typeOauth && this.#login();
    const events = this.#events(ofEvents);
    const resources = this.#resources();

    const submit = button(
      { connect: "Create instance", edit: "Save changes", reconnect: "Reconnect" }[this.task],
      null,
      // Where one logs in at the vendor, that is what comes first.
      { kind: this.onlyLogin && login ? null : "primary", type: "submit", icon: this.onlyLogin ? "key" : "check" },
    );
    this.rehearse = button("Try it without saving", (event) => busy(event.currentTarget, () => this.#rehearse()), {
      icon: "flask",
    });
    this.outcome = h("div", { role: "status" });
    const section = (title, ...children) => h("section", { class: "card stack" }, h("h2", null, title), children);
    const accountParts = {
      connect: () => [account, login && [login.where, login.row, login.paste], optionalHere],
      // Editing seldom needs a login.
      edit: () => [account, login && fold("Log in again", login.where, login.row, login.paste), optionalHere],
      reconnect: () =>
        login
          ? [
              h("p", null, `Log in at ${element.name} with the same account. Polling goes on where it stopped.`),
              login.row,
              fold("Application, redirect URL and code", login.where, login.paste, account, optionalHere),
            ]
          : [account, optionalHere],
    };
    this.form = h(
      "form",
      {
        class: "form",
        novalidate: true,
        onsubmit: (event) => {
          event.preventDefault();
          busy(submit, () => this.#submit());
        },
      },
      this.summary,
      !this.onlyLogin && section("Instance", h("div", { class: "pair" }, this.name.node, this.tags.node)),
      section("Account", accountParts[this.task]()),
      !this.onlyLogin && section("Events", events),
      !this.onlyLogin && resources,
      this.outcome,
      h(
        "div",
        { class: "actions" },
        submit,
        !this.onlyLogin && this.rehearse,
        h("a", { class: "button quiet", href: instance ? `#/instances/${instance.id}` : "#/catalog" }, "Cancel"),
      ),
    );
    this.json = this.#json();
    const titles = {
      connect: `Connect ${element.name}`,
      edit: `Edit ${instance?.name}`,
      reconnect: `Reconnect ${instance?.name}`,
    };
    show(
      this.visit.place,
      h(
        "div",
        { class: "head" },
        h(
          "div",
          null,
          h(
            "a",
            { class: "crumb", href: instance ? `#/instances/${instance.id}` : "#/catalog" },
            icon("right"),
            instance?.name ?? "Catalog",
          ),
          h("h1", { tabindex: "-1" }, titles[this.task]),
          h(
            "p",
            null,
            this.onlyLogin ? "A new login for the same account. What is watched and known stays." : element.description,
          ),
        ),
      ),
      this.onlyLogin ? h("div", { class: "columns" }, this.form) : h("div", { class: "columns" }, this.form, this.json),
    );
  }

  // ---------------------------------------------------------------- Login at the vendor

  #login() {
    this.redirect = this.#add({
      label: "Redirect URL",
      path: inConfiguration(this.keys.redirectUrl),
      help: "Register exactly this address with the vendor’s application. Another address works too, if you paste the code yourself.",
      value: this.stored[this.keys.redirectUrl] || redirectAddress,
      beside: button("Copy", () => copy(this.redirect.value, "Redirect URL"), { icon: "copy", hideLabel: true }),
    });
    this.state = h("div", { role: "status" });
    this.pasted = this.#add({
      label: "Code",
      path: "providerData.code",
      optional: true,
      help: "The code parameter of the address at which the browser arrived.",
    });
    this.pasted.input.addEventListener(
      "input",
      () => (this.code = this.pasted.value.trim() ? { code: this.pasted.value.trim() } : null),
    );
    this.loginButton = button(
      `Log in at ${this.element.name}`,
      (event) => busy(event.currentTarget, () => this.#logIn()),
      { icon: "key", kind: this.onlyLogin ? "primary" : null },
    );
    const elsewhere = h("p", { class: "small dim", hidden: true });
    const whereTo = () => {
      elsewhere.hidden = this.redirect.value.trim() === redirectAddress;
      show(
        elsewhere,
        "The vendor will send the browser to this address and not back here: paste the code from there below, or ",
        button(
          "use this console’s address",
          () => {
            this.redirect.value = redirectAddress;
            whereTo();
            this.changed();
          },
          { kind: "link" },
        ),
        ".",
      );
    };
    this.redirect.input.addEventListener("input", whereTo);
    whereTo();
    this.paste = h("details", null, h("summary", null, "I have a code already"), this.pasted.node);
    return {
      where: h("div", { class: "stack tight" }, this.redirect.node, elsewhere),
      row: h("div", { class: "row" }, this.loginButton, this.state),
      paste: this.paste,
    };
  }

  async #logIn() {
    const clientId = this.fields.find((field) => field.key === this.keys.clientId);
    const given = Object.fromEntries(
      this.fields
        .filter((field) => field.key && !field.isSecret && field.value.trim())
        .map((field) => [field.key, field.value.trim()]),
    );
    if (clientId?.value.trim()) given[clientId.key] = clientId.value.trim();
    given[this.keys.redirectUrl] = this.redirect.value.trim();
    this.#clear();
    this.stopWaiting?.();
    show(this.state, badge("plain", "clock", "Waiting for the login in the other window"));
    const failed = (text) => show(this.state, badge("bad", "warn", text));
    try {
      this.stopWaiting = await logIn(
        this.element.key,
        (state) => api.loginAddress(this.element.key, { ...given, state }, this.instance?.id),
        { hash: location.hash, form: this.#draft() },
        (back) => this.took(back),
        failed,
      );
      this.visit.signal.addEventListener("abort", this.stopWaiting);
    } catch (error) {
      show(this.state);
      if (error instanceof api.ApiError)
        this.#refused(error, {
          apiKey: inConfiguration(this.keys.clientId),
          callbackUrl: inConfiguration(this.keys.redirectUrl),
        });
      else failed(error.message);
    }
    return undefined;
  }

  /** Takes what the vendor sent back. */
  took(back) {
    this.code = back;
    this.pasted.value = back.code ?? "";
    show(this.state, badge("good", "check", "Logged in"));
    announce(`Logged in at ${this.element.name}.`);
    this.changed();
    // There is nothing else to say here.
    if (this.onlyLogin) this.form.requestSubmit();
  }

  /** Everything typed, for the way through the vendor's page in this tab. */
  #draft() {
    return { body: this.body(true) };
  }
  restore({ body }) {
    this.#read(body);
    this.changed();
  }

  // ---------------------------------------------------------------- Events and resources

  #events(properties) {
    const on = this.isNew || this.instance.eventsEnabled;
    const rest = h("div", { class: "stack", hidden: !on });
    this.enabled = new Switch({
      label: "Events enabled",
      help: "Nothing is polled while this is off.",
      checked: on,
      path: inConfiguration(this.keys.eventsSwitch),
      onchange: (checked) => {
        rest.hidden = !checked;
        this.resourceSection.hidden = !checked;
        this.changed();
      },
    });
    const test = button("Send test event", (event) => busy(event.currentTarget, () => this.#test()), { icon: "send" });
    this.callback = this.#add({
      label: "Event notification callback URL",
      kind: "url",
      path: inConfiguration(this.keys.callbackUrl),
      help: "Events are posted here, signed. Without one they are only kept for reading.",
      value: this.stored[this.keys.callbackUrl] ?? "",
      placeholder: "https://example.com/events",
      beside: test,
    });
    this.tested = h("div", { class: "stack tight", role: "status" });
    api.sandbox().then((found) => {
      if (found && this.isNew)
        this.tested.before(
          h(
            "div",
            null,
            button(
              "Use the inbox of this machine",
              () => {
                this.callback.value = new URL(`inbox/${this.element.key}`, api.ROOT).href;
                this.callback.complain(null);
                this.changed();
              },
              { icon: "inbox", kind: "slim" },
            ),
          ),
        );
    });
    const { defaultValue } = this.element.configuration.find((property) => property.key === this.keys.interval);
    const stored = Number(this.stored[this.keys.interval]) || Number(defaultValue);
    const slider = h("input", {
      type: "range",
      min: 0,
      max: STOPS.length - 1,
      step: 1,
      "aria-label": "Interval",
      oninput: () => {
        this.interval.value = STOPS[slider.value];
        this.interval.complain(null);
        spoken();
        this.changed();
      },
    });
    this.interval = this.#add({
      label: "Event poller refresh interval (mins)",
      inputmode: "numeric",
      class: "short",
      path: inConfiguration(this.keys.interval),
      value: stored,
    });
    const spoken = () => {
      const minutes = Number(this.interval.value);
      if (!(minutes > 0)) return;
      const nearest = STOPS.reduce(
        (best, stop, at) => (Math.abs(stop - minutes) < Math.abs(STOPS[best] - minutes) ? at : best),
        0,
      );
      slider.value = nearest;
      slider.setAttribute("aria-valuetext", `every ${span(minutes * 60)}`);
    };
    this.interval.input.addEventListener("input", spoken);
    this.spoken = spoken;
    spoken();
    const interval = h(
      "div",
      { class: "stack tight" },
      this.interval.node,
      slider,
      h(
        "div",
        { class: "strip-ends", "aria-hidden": "true" },
        h("span", null, "1 min"),
        h("span", null, "1 h"),
        h("span", null, "24 h"),
      ),
    );
    show(
      rest,
      this.callback.node,
      this.tested,
      interval,
      h(
        "details",
        null,
        h("summary", null, "Signature and delivery"),
        h(
          "div",
          { class: "stack" },
          properties.map((property) => this.#property(property).node),
        ),
      ),
    );
    return [this.enabled.node, rest];
  }

  async #test() {
    if (!this.callback.value.trim()) {
      this.callback.complain("Enter the address to test.");
      return this.callback.input.focus();
    }
    this.callback.complain(null);
    show(this.tested, badge("plain", "clock", "Waiting for the answer…"));
    try {
      const { status, durationMs, error, response } = await api.tryCallback(this.body(true), this.instance?.id);
      const good = status >= 200 && status < 300;
      const said = status ? `The callback answered ${status} in ${number(durationMs)} ms` : "The callback did not answer";
      show(
        this.tested,
        badge(good ? "good" : "bad", good ? "check" : "warn", said),
        error && h("p", { class: "small" }, error),
        !good && response && h("pre", { tabindex: "0", "aria-label": "Its answer" }, response),
        !good && status && h("p", { class: "small dim" }, "An answer of 200 to 299 counts as received."),
      );
    } catch (error) {
      if (!(error instanceof api.ApiError)) throw error;
      show(this.tested);
      if (error.problems.length > 0) this.#refused(error);
      else show(this.tested, notice("warn", "clock", h("p", { class: "small" }, error.message)));
    }
    return undefined;
  }

  #resources() {
    this.list = h("ul", { class: "stack plain" });
    this.resources = [];
    const stored = parsed(this.stored[this.keys.resources]);
    for (const { name, label, pollerConfiguration } of this.element.resources)
      this.#resource(name, label, pollerConfiguration);
    for (const [name, config] of Object.entries(stored ?? {}))
      this.#resourceNamed(name).set(true, filled(config) ? config : undefined);
    this.custom = new Field({
      label: "Name of another resource",
      hideLabel: true,
      placeholder: "another resource, such as orders/{id}/items",
    });
    const add = () => {
      const name = this.custom.value.trim();
      if (!name) {
        this.custom.complain("Enter the name under which it is polled.");
        return this.custom.input.focus();
      }
      const known = this.resources.find((one) => one.name === name);
      const template = this.element.resources[0]?.pollerConfiguration ?? {};
      const made = known ?? this.#resource(name, null, null);
      made.set(true, known ? undefined : { ...structuredClone(template), url: `/hubs/${this.element.hub}/${name}` });
      this.custom.value = "";
      made.edited = true;
      this.changed();
      made.edit.click();
      return undefined;
    };
    this.custom.input.addEventListener("keydown", (event) => {
      if (event.key !== "Enter") return;
      event.preventDefault();
      add();
    });
    this.resourceSection = h(
      "section",
      { class: "card stack", hidden: !this.enabled.checked },
      h("h2", null, "Resources to poll"),
      h(
        "p",
        { class: "dim small" },
        "The defaults fit. The pencil opens a resource’s URL, id field and dates, checked as you type",
        this.#canAsk() ? " and tried at the vendor." : "; once connected, tried at the vendor as well.",
      ),
      this.list,
      h(
        "details",
        null,
        h("summary", null, "Add another resource"),
        h("div", { class: "with" }, this.custom.node, button("Add", add, { icon: "plus" })),
      ),
    );
    return this.resourceSection;
  }
  #resource(name, label, defaults) {
    const made = new Resource(this, `${inConfiguration(this.keys.resources)}."${name}"`, name, label, defaults);
    this.resources.push(made);
    this.list.append(made.node);
    return made;
  }
  #resourceNamed(name) {
    return this.resources.find((one) => one.name === name) ?? this.#resource(name, null, null);
  }

  // ---------------------------------------------------------------- The request's body, from the form and as JSON

  /** The body. Secrets are masked unless `open`. */
  body(open) {
    const configuration = {};
    for (const field of this.fields.filter((one) => one.key)) {
      const text = field.value.trim();
      if (text) configuration[field.key] = field.isSecret && !open ? MASK : text;
      else if (!this.isNew && !field.hidden && this.stored[field.key] !== undefined) configuration[field.key] = null;
    }
    if (this.redirect) configuration[this.keys.redirectUrl] = this.redirect.value.trim();
    if (this.onlyLogin)
      return { configuration, ...(this.code ? { providerData: open ? this.code : { code: MASK } } : {}) };
    configuration[this.keys.eventsSwitch] = this.enabled.checked;
    const url = this.callback.value.trim();
    if (url) configuration[this.keys.callbackUrl] = url;
    else if (this.stored[this.keys.callbackUrl]) configuration[this.keys.callbackUrl] = null;
    configuration[this.keys.interval] = this.interval.value.trim();
    configuration[this.keys.resources] = Object.fromEntries(
      this.resources.filter((one) => one.isOn).map((one) => [one.name, one.config]),
    );
    // Whatever the form has no field for came from the JSON, and stays.
    Object.assign(configuration, this.extra);
    return {
      ...(this.isNew ? { element: { key: this.element.key } } : {}),
      name: this.name.value.trim(),
      tags: this.tags.value
        .split(",")
        .map((tag) => tag.trim())
        .filter(Boolean),
      ...(this.code
        ? { providerData: open ? this.code : Object.fromEntries(Object.keys(this.code).map((name) => [name, MASK])) }
        : {}),
      configuration,
    };
  }

  /** Fills the form from a body. A mask stands for what the form has. */
  #read(body) {
    const { name, tags, configuration = {}, providerData } = body;
    if (typeof name === "string") this.name.value = name;
    if (Array.isArray(tags)) this.tags.value = tags.join(", ");
    const rest = { ...configuration };
    for (const field of this.fields.filter((one) => one.key)) {
      const given = rest[field.key];
      delete rest[field.key];
      if (given !== MASK) field.take(given === undefined || given === null ? "" : String(given));
    }
    const { callbackUrl, eventsSwitch, interval, redirectUrl, resources } = this.keys;
    if (this.redirect && typeof rest[redirectUrl] === "string") this.redirect.value = rest[redirectUrl];
    if (!this.onlyLogin) {
      this.enabled.checked = rest[eventsSwitch] === true || rest[eventsSwitch] === "true";
      this.enabled.input.dispatchEvent(new Event("change"));
      this.callback.value = rest[callbackUrl] ?? "";
      this.interval.value = rest[interval] ?? "";
      this.spoken();
      const given = parsed(rest[resources]);
      const polled = given !== null && typeof given === "object" ? given : {};
      for (const resource of this.resources) resource.set(resource.name in polled, polled[resource.name]);
      for (const [resource, config] of Object.entries(polled)) this.#resourceNamed(resource).set(true, config);
    }
    // What the form cannot show goes along as it is: the service says what is wrong with it.
    const isOdd = resources in rest && (parsed(rest[resources]) === null || typeof parsed(rest[resources]) !== "object");
    const odd = isOdd ? { [resources]: rest[resources] } : {};
    for (const key of this.placed) delete rest[key];
    this.extra = { ...rest, ...odd };
    if (providerData && Object.values(providerData).every((value) => value !== MASK)) {
      this.code = providerData;
      if (this.pasted) this.pasted.value = providerData.code ?? "";
    }
  }

  #json() {
    this.text = h("textarea", {
      spellcheck: "false",
      "aria-label": "The request as JSON",
      "aria-describedby": "json-wrong",
      oninput: () => this.#readJson(),
    });
    this.jsonSaid = h("div", { role: "status" });
    this.jsonWrong = h("p", { class: "wrong", id: "json-wrong", hidden: true });
    return h(
      "aside",
      { class: "card flush json sticky", "aria-label": "JSON" },
      h(
        "header",
        { class: "row between" },
        h(
          "div",
          null,
          h("h2", null, "As JSON"),
          h("p", { class: "dim small" }, "Edit either side; the other follows."),
        ),
        button("Copy", () => copy(this.text.value, "JSON"), { icon: "copy", kind: "quiet slim" }),
      ),
      this.jsonWrong,
      this.jsonSaid,
      this.text,
    );
  }
  #writeJson() {
    this.text.value = JSON.stringify(this.body(false), null, 2);
    this.jsonWrong.hidden = true;
    this.text.removeAttribute("aria-invalid");
  }
  #readJson() {
    this.jsonEdited = true;
    let body;
    let wrong = null;
    try {
      body = JSON.parse(this.text.value);
      if (body === null || typeof body !== "object" || Array.isArray(body)) wrong = "it must be an object";
    } catch (error) {
      wrong = error.message;
    }
    this.jsonWrong.hidden = !wrong;
    show(this.jsonWrong, wrong && `Not JSON: ${wrong}`);
    if (wrong) return this.text.setAttribute("aria-invalid", "true");
    this.text.removeAttribute("aria-invalid");
    this.syncing = true;
    this.#read(body);
    this.syncing = false;
    for (const field of this.#everyField()) field.touched = true;
    return this.review();
  }
  /** The form changed: the JSON follows, unless it is what is being typed in; and the service looks at it. */
  changed() {
    if (this.syncing || !this.text) return;
    this.jsonEdited = false;
    delete this.extra?.[this.keys.resources];
    this.#writeJson();
    this.review();
  }

  // ---------------------------------------------------------------- What the service says meanwhile

  #everyField() {
    return [
      ...this.fields,
      ...(this.enabled ? [this.enabled] : []),
      ...this.resources.flatMap((one) => [one.toggle, ...one.fields.map(({ field }) => field)]),
    ];
  }

  /** Where a problem belongs: a field, and the resource whose it is; and what to say there. */
  #placed({ field: written, read, expected }, aliases = {}) {
    const path =
      aliases[written] ??
      (written.startsWith("configuration.") || /^(name|tags|element|providerData)\b/.test(written)
        ? written
        : inConfiguration(written));
    const text = `Expected ${expected}${/[.!?]$/.test(expected) ? "" : "."}${read && read !== "nothing" && !read.startsWith(MASK) ? ` Read: ${read}` : ""}`;
    const [, key, name] = pathParts(path);
    const resource = key === this.keys.resources ? this.resources.find((one) => one.name === name) : undefined;
    const field = resource
      ? (resource.fieldOf(path) ?? resource.toggle)
      : fieldFor([...this.fields, ...(this.enabled ? [this.enabled] : [])], path);
    return { path, text, resource, field };
  }

  /** Asks what would be refused now, and says it beside what was typed. What nobody has come to yet is left alone. */
  async #review(signal) {
    const { problems, warnings } = await api.check(this.body(true), this.instance?.id, signal);
    const placed = [...problems, ...this.#missing()].map((problem) => this.#placed(problem));
    const said = new Map();
    for (const { field, text } of placed) if (field && !said.has(field)) said.set(field, text);
    for (const field of this.#everyField())
      if (field.touched || field.isWrong) field.complain(said.get(field) ?? null);
    const wrong = this.jsonEdited ? placed.filter(({ field, text }) => !field || said.get(field) === text) : [];
    show(
      this.jsonSaid,
      wrong.length > 0 &&
        h(
          "ul",
          { class: "plain problems small", "aria-label": "What is wrong" },
          wrong.map(({ path, text }) => h("li", null, h("span", { class: "strong" }, inWords(path)), ": ", text)),
        ),
    );
    const isBelow = (resource) => (one) => one.resource === resource;
    for (const resource of this.resources.filter((one) => one.edited && one.isOn)) {
      const differently = warnings.filter(({ field }) => this.#placed({ field, expected: "" }).resource === resource);
      const config = JSON.stringify(resource.config);
      if (placed.some(isBelow(resource))) resource.tell(null);
      else if (this.#canAsk(placed) && resource.asked !== config) this.ask(resource);
      resource.note(differently.map(({ message }) => message));
    }
  }

  /** The vendor can be asked where there is a login already, or none is needed. */
  #canAsk(placed = []) {
    if (this.onlyLogin) return false;
    if (this.instance) return this.instance.valid !== false;
    const isOfAccount = ({ field }) => field?.section === "account";
    return !this.element.typeOauth && !placed.some(isOfAccount);
  }

  /** Asks the vendor about one resource, without saving anything. */
  async #ask(resource, signal) {
    const config = JSON.stringify(resource.config);
    const { element, configuration } = this.body(true);
    const account = Object.entries(configuration).filter(([key]) => !key.startsWith("event."));
    const body = {
      ...(element ? { element } : {}),
      configuration: { ...Object.fromEntries(account), [this.keys.resources]: { [resource.name]: resource.config } },
    };
    resource.asking();
    try {
      const report = await api.rehearse(body, this.instance?.id, signal);
      resource.asked = config;
      resource.tell(report.resources.find((one) => one.resource === resource.name) ?? null);
    } catch (error) {
      if (!(error instanceof api.ApiError)) throw error;
      resource.tell({ failure: error.provider ?? error.message });
    }
  }

  // ---------------------------------------------------------------- Saving

  #clear() {
    show(this.summary);
    for (const field of this.#everyField()) field.complain(null);
  }

  /** Puts every problem beside its field, and those without one above the form. */
  #refused(error, aliases = {}) {
    const [beside, above] = [[], []];
    for (const problem of error.problems) {
      const { path, text, resource, field } = this.#placed(problem, aliases);
      if (resource) beside.push(resource.complain(path, text));
      else if (field) {
        field.complain(text);
        for (let folded = field.node.closest("details"); folded; folded = folded.parentElement.closest("details"))
          folded.open = true;
        beside.push(field.input);
      } else above.push(`${inWords(path)}: ${text}`);
    }
    const count = beside.length + above.length;
    show(
      this.summary,
      notice(
        "bad",
        "warn",
        h(
          "p",
          null,
          count > 0
            ? count === 1
              ? "One thing has to be put right."
              : `${count} things have to be put right.`
            : error.message,
        ),
        above.map((line) => h("p", { class: "small" }, line)),
        error.provider && h("p", { class: "small" }, `The vendor said: ${error.provider}`),
        error.requestId && h("p", { class: "small dim" }, "Request ", h("code", null, error.requestId)),
      ),
    );
    const shown = beside
      .filter((input) => input.offsetParent !== null)
      .sort((a, b) => (a.compareDocumentPosition(b) & Node.DOCUMENT_POSITION_FOLLOWING ? -1 : 1));
    (shown[0] ?? this.summary).focus();
    (shown[0] ?? this.summary).scrollIntoView({ block: "center" });
  }

  /** What can be said without asking the service. */
  #missing() {
    const problems = [];
    const missing = (field, expected) => problems.push({ field, read: "nothing", expected });
    if (!this.onlyLogin && !this.name.value.trim()) missing("name", "a name to find it again by");
    for (const field of this.fields)
      if (field.input.getAttribute("aria-required") && field.key && !field.value.trim() && !field.hidden)
        missing(field.path, "a value");
    return problems;
  }

  async #submit() {
    this.#clear();
    const problems = this.#missing();
    if (problems.length > 0) return this.#refused({ problems });
    if (this.element.typeOauth && this.onlyLogin && !this.code) {
      show(this.state, badge("bad", "warn", "Log in first"));
      return this.loginButton.focus();
    }
    try {
      const body = this.body(true);
      // An API-key element logs in again with what is sent; an empty login would change nothing.
      // What others saved since the form was opened is not written over; a login takes nothing from anybody.
      const version = this.onlyLogin ? null : this.instance?.version;
      const saved = this.isNew
        ? await api.createInstance(body)
        : await api.changeInstance(this.instance.id, body, version);
      pending.clear();
      await this.#tellInbox(body.configuration);
      toast({ connect: `${saved.name} is connected.`, edit: "Saved.", reconnect: "Connected again." }[this.task]);
      recount();
      location.hash = `#/instances/${saved.id}`;
    } catch (error) {
      if (!(error instanceof api.ApiError)) throw error;
      // A code works once, whatever came of it.
      if (error.provider) this.#loggedOut();
      if (error.status === 412) this.#superseded();
      else this.#refused(error);
    }
    return undefined;
  }

  /** Shows that somebody else changed the instance first. */
  #superseded() {
    show(
      this.summary,
      notice(
        "bad",
        "warn",
        h("p", null, "Somebody changed this instance since the form was opened. Nothing was saved."),
        button("Open it as it is now", () => dispatchEvent(new Event("hashchange")), { icon: "refresh" }),
      ),
    );
    this.summary.focus();
    this.summary.scrollIntoView({ block: "center" });
  }

  /** An inbox of this machine can check signatures once it knows the key. */
  async #tellInbox({ [this.keys.callbackUrl]: url, [this.keys.signingKey]: signatureKey }) {
    const inboxes = new URL("inbox/", api.ROOT).href;
    if (!url?.startsWith(inboxes) || !signatureKey || !(await api.sandbox())) return;
    await api.inboxBehaviour(decodeURIComponent(url.slice(inboxes.length)), { signatureKey });
  }

  #loggedOut() {
    this.code = null;
    if (this.pasted) this.pasted.value = "";
    if (this.state) show(this.state, badge("warn", "key", "Log in again"));
    this.changed();
  }

  async #rehearse() {
    this.#clear();
    try {
      const report = await api.rehearse(this.body(true), this.instance?.id);
      show(this.outcome, rehearsal(report));
    } catch (error) {
      this.#refused(error);
    }
  }
}

/** A rehearsal's report, resource by resource. */
const rehearsal = ({ resources, warnings }) =>
  h(
    "section",
    { class: "card stack" },
    h("h2", null, "What it would find"),
    warnings.length > 0 &&
      notice(
        "warn",
        "warn",
        h("p", null, "Read differently from how it was written:"),
        warnings.map(({ field, message }) => h("p", { class: "small" }, h("span", { class: "strong" }, inWords(field)), ": ", message)),
      ),
    resources.map(({ resource, failure, records, problems, findings, samples }) =>
      h(
        "div",
        { class: "stack tight" },
        h(
          "div",
          { class: "row" },
          h("h3", null, resource),
          failure ? badge("bad", "warn", "failed") : badge("good", "check", `${records} records read`),
        ),
        failure && h("p", { class: "small" }, failure),
        problems.map((line) => h("p", { class: "small" }, icon("warn"), " ", line)),
        findings.map((line) => h("p", { class: "small dim" }, line)),
        samples.length > 0 &&
          h(
            "details",
            { class: "small" },
            h("summary", null, "Sample events"),
            h("pre", { tabindex: "0", "aria-label": `Sample events of ${resource}` }, JSON.stringify(samples, null, 2)),
          ),
      ),
    ),
  );

const filled = (config) => config && Object.keys(config).length > 0;

/** The poller configuration, as an object or as the text of one. */
function parsed(value) {
  if (typeof value !== "string") return value;
  try {
    return JSON.parse(value);
  } catch {
    return null;
  }
}

export default async function connect(visit) {
  const { key, id, task = "connect" } = visit.parameters;
  let form;
  if (id) {
    const instance = await api.instance(id);
    const element = await api.element(instance.element.key);
    if (visit.isOver) return;
    form = new Form(visit, element, task, instance);
  } else {
    const element = await api.element(decodeURIComponent(key));
    if (visit.isOver) return;
    form = new Form(visit, element, task, null);
    if (!pending.read()) form.resources[0]?.set(true);
    form.changed();
  }
  // Back from the vendor in this very tab: the form is filled as it was left.
  const left = pending.read();
  if (left?.hash === location.hash && left.back) {
    pending.clear();
    form.restore(left.form);
    if (left.back.error) show(form.state, badge("bad", "warn", left.back.error_description ?? left.back.error));
    else form.took(left.back);
  }
}
