// Sign-in: two secrets, kept for this tab only. A pasted credentials.json or header fills both fields.

import { knock, remember } from "./api.js";
import { busy, button, h, icon, show } from "./dom.js";
import { Field } from "./fields.js";

/** Both secrets out of what somebody pasted, if they are in there. */
export function parse(text) {
  try {
    const { userSecret, organizationSecret } = JSON.parse(text);
    if (userSecret && organizationSecret) return [userSecret, organizationSecret];
  } catch {
    // Not the file: perhaps the header.
  }
  const user = /\bUser\s+([\w-]+)/.exec(text);
  const organization = /\bOrganization\s+([\w-]+)/.exec(text);
  return user && organization ? [user[1], organization[1]] : null;
}

export default function signIn(visit, done) {
  const user = new Field({ label: "User secret", kind: "password", autocomplete: "off", required: true });
  const organization = new Field({
    label: "Organization secret",
    kind: "password",
    autocomplete: "off",
    required: true,
  });
  for (const field of [user, organization]) {
    field.input.addEventListener("paste", (event) => {
      const both = parse(event.clipboardData.getData("text"));
      if (!both) return;
      event.preventDefault();
      [user.value, organization.value] = both;
      submit.focus();
    });
  }
  const said = h("p", { class: "wrong", role: "alert" });
  const submit = button("Sign in", null, { kind: "primary", type: "submit" });
  const form = h(
    "form",
    {
      class: "form",
      novalidate: true,
      onsubmit: (event) => {
        event.preventDefault();
        busy(submit, () => enter());
      },
    },
    user.node,
    organization.node,
    h("div", { class: "field" }, said),
    submit,
  );
  async function enter() {
    show(said);
    const missing = [user, organization].filter((field) => !field.value.trim());
    for (const field of [user, organization]) field.complain(missing.includes(field) ? "Enter the secret." : null);
    if (missing.length > 0) return missing[0].input.focus();
    try {
      await knock(user.value.trim(), organization.value.trim());
    } catch (error) {
      show(
        said,
        icon("warn"),
        h(
          "span",
          null,
          error.status === 401 ? "No user and organization are known by these two secrets." : error.message,
        ),
      );
      return user.input.focus();
    }
    remember(user.value.trim(), organization.value.trim());
    done();
  }
  show(
    visit.place,
    h(
      "main",
      { class: "lone", id: "main" },
      h(
        "div",
        { class: "card lone-card" },
        h("div", { class: "brand" }, h("img", { src: new URL("logo.svg", import.meta.url).href, alt: "" }), "Pollux"),
        h(
          "div",
          { class: "stack tight" },
          h("h1", { tabindex: "-1" }, "Sign in"),
          h(
            "p",
            { class: "dim" },
            "With the two secrets of your organization. They stay in this tab and go when it closes.",
          ),
        ),
        form,
        h(
          "details",
          null,
          h("summary", null, "Where are they?"),
          h(
            "div",
            { class: "stack small" },
            h(
              "p",
              null,
              "On your own machine, ",
              h("code", null, "pollux"),
              " prints both when it starts and writes them to ",
              h("code", null, "credentials.json"),
              " in its data directory, ",
              h("code", null, ".pollux"),
              " unless told otherwise. Paste the whole file into either field.",
            ),
            h(
              "p",
              null,
              "Elsewhere, whoever runs the service gives them out with ",
              h("code", null, "pollux admin"),
              ".",
            ),
          ),
        ),
      ),
    ),
  );
  user.input.focus();
}
