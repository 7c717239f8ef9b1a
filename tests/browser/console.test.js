// The console as people use it: every screen's job, for all elements, by what stands on the page.

import assert from "node:assert/strict";
import { mkdir, readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { chromium } from "playwright-core";
import { SCREENSHOTS, start } from "./service.js";

/** What a person types for each element, by label. The sandbox takes any key that is not empty. */
const ELEMENTS = {
  square: { fields: { "Application ID": "sq0idp-app", "Application secret": "a secret" }, login: true },
  maximizer: { fields: { "App key": "a key", "App secret": "a secret" }, login: true },
  googlesuite: {
    fields: { "Client ID": "a client", "Client secret": "a secret" },
    login: true,
    resource: "calendars/primary/changed-events",
  },
  revel: { fields: { Subdomain: "testhumanity", "API key": "main", "API secret": "s3cret" } },
  icontact: { fields: { "API-AppId": "app", "User name": "main", "API password": "a password" } },
};

const CHROMIUM = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

let service;
let browser;
let page;
/** Errors of the page and requests that were refused, less those that a step asked for. */
let complaints = [];
const ids = {};

function watch(watched) {
  watched.on("pageerror", (error) => complaints.push(`${error.stack}`));
  watched.on("console", (message) => {
    // Refused requests are looked at by their status below.
    if (message.type() === "error" && !message.text().startsWith("Failed to load resource"))
      complaints.push(message.text());
  });
  watched.on("response", (response) => {
    if (response.status() >= 400)
      complaints.push(`${response.status()} ${response.request().method()} ${response.url()}`);
  });
  watched.on("requestfailed", (request) => {
    const { errorText } = request.failure();
    if (errorText !== "net::ERR_ABORTED") complaints.push(`${errorText} ${request.url()}`);
  });
  watched.on("request", (request) => {
    const url = new URL(request.url());
    if (url.protocol.startsWith("http") && url.origin !== service.url)
      complaints.push(`request to another host: ${url}`);
  });
}

/** Does something that the service refuses with one of these statuses. */
async function refused(statuses, job) {
  const earlier = complaints;
  complaints = [];
  await job();
  complaints = [...earlier, ...complaints.filter((line) => !statuses.some((status) => line.startsWith(`${status} `)))];
}

/** Nothing went wrong since the last time it was asked. */
function quiet() {
  const said = complaints;
  complaints = [];
  assert.deepEqual(said, []);
}
const go = (hash) => page.goto(`${service.url}/${hash}`);
const seen = (text, options) => page.getByText(text, options).first().waitFor();
const press = (name, options = {}) =>
  page
    .getByRole("button", { name, exact: true, ...options })
    .first()
    .click();
const heading = (name) => page.getByRole("heading", { level: 1, name }).waitFor();
const json = async () => JSON.parse(await page.getByLabel("The request as JSON").inputValue());

/** Takes a picture of a screen and answers what is wrong with it: too wide, or not accessible to everybody. */
async function look(shown, name, width, scheme) {
  const problems = [];
  const [height, overflow] = await shown.evaluate(() => {
    const { scrollHeight, scrollWidth } = document.documentElement;
    return [scrollHeight, scrollWidth - innerWidth];
  });
  if (overflow > 0) problems.push(`${name} ${width}: ${overflow} px too wide`);
  await shown.setViewportSize({ width, height: Math.min(Math.max(height, 844), 4000) });
  await shown.screenshot({ path: join(SCREENSHOTS, `${name}-${width > 600 ? "wide" : "narrow"}-${scheme}.png`) });
  await shown.evaluate(`${axe};0`);
  const { violations } = await shown.evaluate(() =>
    globalThis.axe.run({ rules: { "target-size": { enabled: true } } }),
  );
  for (const { id, impact, nodes } of violations)
    problems.push(`${name} ${width} ${scheme}: ${impact} ${id} at ${nodes.map((node) => node.html).slice(0, 2)}`);
  return problems;
}

/** Signs a fresh page in without typing. */
async function signedIn(context) {
  const fresh = await context.newPage();
  watch(fresh);
  await fresh.goto(`${service.url}/`);
  await fresh.evaluate(
    ([user, organization]) => sessionStorage.setItem("pollux.secrets", JSON.stringify({ user, organization })),
    [service.userSecret, service.organizationSecret],
  );
  await fresh.reload();
  return fresh;
}

before(async () => {
  await mkdir(SCREENSHOTS, { recursive: true });
  service = await start();
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: CHROMIUM });
  const context = await browser.newContext({ viewport: { width: 1360, height: 900 } });
  page = await context.newPage();
  page.setDefaultTimeout(20_000);
  watch(page);
});

after(async () => {
  await browser?.close();
  await service?.stop();
});

describe("the console", { concurrency: false }, () => {
  test("is small, quick, and asks no other host", async (t) => {
    const session = await page.context().newCDPSession(page);
    await session.send("Network.enable");
    let bytes = 0;
    session.on("Network.loadingFinished", ({ encodedDataLength }) => (bytes += encodedDataLength));
    await page.goto(service.url, { waitUntil: "networkidle" });
    await heading("Sign in");
    const paint = await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0].startTime);
    assert.ok(bytes > 10_000 && bytes < 150_000, `${bytes} bytes over the wire`);
    assert.ok(paint < 1000, `first content after ${paint} ms`);
    t.diagnostic(`${(bytes / 1000).toFixed(1)} KB over the wire, first content after ${Math.round(paint)} ms`);
    await session.detach();
    const policy = (await page.request.get(service.url)).headers()["content-security-policy"];
    assert.match(policy, /default-src 'none'/);
    assert.doesNotMatch(policy, /unsafe|\*/);
  });

  test("lets nobody in without the two secrets", async () => {
    await press("Sign in");
    await seen("Enter the secret.");
    await page.getByLabel("User secret", { exact: true }).fill("wrong");
    await page.getByLabel("Organization secret", { exact: true }).fill("wrong");
    await refused([401], async () => {
      await press("Sign in");
      await seen("No user and organization are known");
    });
    // The whole credentials.json, pasted into one field.
    await page.getByLabel("User secret", { exact: true }).evaluate((input, text) => {
      const clipboardData = new DataTransfer();
      clipboardData.setData("text", text);
      input.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true }));
    }, service.credentials);
    assert.equal(
      await page.getByLabel("Organization secret", { exact: true }).inputValue(),
      service.organizationSecret,
    );
    await press("Sign in");
    await heading("Instances");
    await seen("Connect your first account");
    assert.deepEqual(await look(page, "first", 1360, "light"), []);
    const kept = await page.evaluate(() => [JSON.stringify(localStorage), document.cookie].join());
    assert.ok(!kept.includes(service.userSecret), "the secret outlives the tab");
    const other = await page.context().newPage();
    await other.goto(service.url);
    await other.getByRole("heading", { level: 1, name: "Sign in" }).waitFor();
    await other.close();
    quiet();
  });

  test("skips to the content by keyboard", async () => {
    await page.reload();
    await heading("Instances");
    await page.keyboard.press("Tab");
    assert.equal(await page.evaluate(() => document.activeElement.textContent), "Skip to the content");
    await page.keyboard.press("Enter");
    assert.equal(await page.evaluate(() => document.activeElement.id), "main");
  });

  test("finds elements by name and by what they keep", async () => {
    await page.getByRole("link", { name: "Catalog" }).click();
    await heading("Catalog");
    await seen("5 elements");
    await page.getByLabel("Search elements").fill("time cards");
    await seen("1 element");
    await page.getByRole("link", { name: "Connect Square" }).waitFor();
    await page.getByLabel("Search elements").fill("zzz");
    await seen("No element matches");
    quiet();
  });

  for (const [key, element] of Object.entries(ELEMENTS)) {
    test(`connects ${key} through the form`, async () => {
      await go("#/catalog");
      await page.getByLabel("Search elements").fill(key);
      await page.getByRole("link", { name: /^Connect / }).click();
      await page.getByRole("heading", { level: 1, name: /^Connect / }).waitFor();

      // Nothing filled in: every field that has to be says so, and the first has the focus.
      await press("Create instance");
      await seen("Expected a name to find it again by.");
      assert.equal(await page.evaluate(() => document.activeElement.getAttribute("aria-invalid")), "true");
      await page.getByLabel("Name", { exact: true }).fill(`My ${key}`);
      await page.getByLabel("Tags – optional").fill("browser, test");

      // Every field of the element's own says what goes there; what is optional is folded away.
      for (const label of Object.keys(element.fields)) {
        const described = await page.getByLabel(label, { exact: true }).getAttribute("aria-describedby");
        assert.match(described, /-help/, `${label} has no help`);
      }
      if (await page.getByText("Show optional fields").count()) {
        await page.getByText("Show optional fields").click();
        await page.locator("details[open] .marker").first().waitFor();
      }
      await page.getByRole("switch", { name: /^Events enabled/ }).setChecked(false);
      assert.ok(!(await page.getByRole("heading", { name: "Resources to poll" }).isVisible()));
      assert.equal((await json()).configuration["event.notification.enabled"], false);
      await page.getByRole("switch", { name: /^Events enabled/ }).setChecked(true);

      // What only the service can say stands beside its field as well.
      await page.getByLabel("Event notification callback URL").fill("ftp://nowhere");
      await page.getByLabel("Event poller refresh interval (mins)").fill("0");
      for (const [label, text] of Object.entries(element.fields))
        await page.getByLabel(label, { exact: true }).fill(text);
      await refused([400], async () => {
        await press("Create instance");
        await seen("a whole number of minutes from 1 to 1440");
      });
      await seen("Read: ftp://nowhere");
      assert.equal(await page.getByLabel("Event notification callback URL").getAttribute("aria-invalid"), "true");

      await press("Use the inbox of this machine");
      await page.getByLabel("Interval", { exact: true }).fill("0");
      assert.equal(await page.getByLabel("Event poller refresh interval (mins)").inputValue(), "1");
      await page.getByText("Signature and delivery").click();
      await press("Generate");

      if (element.login) {
        const [vendor] = await Promise.all([
          page.waitForEvent("popup"),
          page.getByRole("button", { name: /^Log in at / }).click(),
        ]);
        await vendor.getByRole("button", { name: "Allow" }).click();
        await page.getByText("Logged in", { exact: true }).waitFor();
      }

      const names = await page.getByRole("switch").evaluateAll((switches) => switches.length);
      assert.ok(names > 1, "no resource to pick");
      const [first] = Object.keys((await json()).configuration["event.poller.configuration"]);
      const wanted = element.resource ?? first;
      const toggle = page
        .getByRole("switch", { name: new RegExp(`(^|\\s)${wanted.replaceAll("/", "\\/")}$`) })
        .or(page.locator("li.resource").filter({ hasText: wanted }).getByRole("switch"))
        .first();
      await toggle.setChecked(true);
      const body = await json();
      assert.equal(body.name, `My ${key}`);
      assert.deepEqual(body.tags, ["browser", "test"]);
      assert.ok(wanted in body.configuration["event.poller.configuration"]);
      assert.ok(!JSON.stringify(body).includes("a secret"), "the JSON shows a secret");

      await press("Create instance");
      await heading(`My ${key}`);
      await seen("Watching");
      ids[key] = new URL(page.url()).hash.split("/").at(-1);
      quiet();
    });
  }

  test("keeps form and JSON in step, and puts a bad date pattern beside its field", async () => {
    await go("#/connect/square");
    await heading("Connect Square");
    await press("Edit customers");
    await page.locator("li.resource").filter({ hasText: "customers" }).getByText("Dates and more").click();
    await page.getByLabel("Updated: format").fill("qq");
    assert.equal(
      (await json()).configuration["event.poller.configuration"].customers.datesConfiguration.updatedDateFormat,
      "qq",
    );
    const body = await json();
    body.name = "From JSON";
    body.configuration["event.poller.refresh_interval"] = "45";
    body.configuration["oauth.api.key"] = "typed";
    body.configuration["oauth.api.secret"] = "typed";
    body.configuration["event.poller.configuration"].orders = {};
    body.providerData = { code: "sandbox-code-main" };
    await page.getByLabel("The request as JSON").fill(JSON.stringify(body));
    assert.equal(await page.getByLabel("Name", { exact: true }).inputValue(), "From JSON");
    assert.equal(await page.getByLabel("Event poller refresh interval (mins)").inputValue(), "45");
    assert.ok(await page.locator("li.resource").filter({ hasText: "Orders" }).getByRole("switch").isChecked());
    await refused([400], async () => {
      await press("Create instance");
      await seen(/Expected a pattern of the letters/);
    });
    assert.equal(await page.getByLabel("Updated: format").getAttribute("aria-invalid"), "true");
    await page.getByLabel("The request as JSON").fill("{");
    await seen(/^Not JSON:/);
    quiet();
  });

  test("says what is wrong while one types, and what the vendor makes of it", async () => {
    await go("#/connect/revel");
    await heading("Connect Revel");
    const wrong = (label) => page.getByLabel(label, { exact: true }).and(page.locator('[aria-invalid="true"]'));
    const right = (label) => page.getByLabel(label, { exact: true }).and(page.locator(":not([aria-invalid])"));
    const url = "Event notification callback URL";
    await page.getByLabel(url).fill("ftp://nowhere");
    await wrong(url).waitFor();
    await seen("Read: ftp://nowhere");
    // What nobody has come to yet is left alone.
    assert.equal(await page.locator('[aria-invalid="true"]').count(), 1);
    await page.getByLabel(url).fill("https://example.com/events");
    await right(url).waitFor();
    const minutes = "Event poller refresh interval (mins)";
    await page.getByLabel(minutes).fill("0");
    await wrong(minutes).waitFor();
    await page.getByLabel(minutes).fill("30");
    await right(minutes).waitFor();
    await page.getByLabel("Name", { exact: true }).fill("x");
    await page.getByLabel("Name", { exact: true }).fill("");
    await wrong("Name").waitFor();
    await page.getByLabel("Subdomain", { exact: true }).fill("not a name/");
    await wrong("Subdomain").waitFor();
    await page.getByLabel("Subdomain", { exact: true }).fill("testhumanity");
    await right("Subdomain").waitFor();
    await page.getByLabel("API key", { exact: true }).fill("main");
    await page.getByLabel("API secret", { exact: true }).fill("s3cret");

    await press("Edit employees");
    const editor = page.locator("li.resource").filter({ hasText: "employees" }).first();
    await editor.getByText("Dates and more").click();
    const address = await page.getByLabel("URL", { exact: true }).inputValue();
    await page.getByLabel("URL", { exact: true }).fill("/hubs/employee/employes");
    await wrong("URL").waitFor();
    await page.getByLabel("URL", { exact: true }).fill(address);
    await editor.getByText(/[1-9]\d* records read from the vendor/).waitFor();
    await editor.getByText(/^Such as /).waitFor();
    await page.getByLabel("Updated: format", { exact: true }).fill("yyyy-QQ");
    await wrong("Updated: format").waitFor();
    await page.getByLabel("Updated: format", { exact: true }).fill("yyyy-MM-dd'T'HH:mm:ss");
    await right("Updated: format").waitFor();
    // A zone that exists and is not the vendor's: only its records tell.
    await page.request.post(`${service.url}/sandbox/control/revel/Employee`, { data: { first_name: "Ada" } });
    await page.getByLabel("Updated: time zone", { exact: true }).fill("Pacific/Honolulu");
    await editor.getByText("ahead of the vendor's own clock").waitFor();
    await wrong("Updated: time zone").waitFor();
    await press("Back to the default");
    await right("Updated: time zone").waitFor();
    quiet();
  });

  test("of two checks under way only the younger counts", async () => {
    await go("#/connect/icontact");
    await heading("Connect iContact");
    const url = "Event notification callback URL";
    const held = [];
    let asked = 0;
    await page.route("**/instances/check", (route) => (asked++ === 0 ? held.push(route) : route.continue()));
    await page.getByLabel(url).fill("ftp://old");
    await page.waitForRequest("**/instances/check");
    await page.getByLabel(url).fill("https://example.com/new");
    await page.waitForResponse("**/instances/check");
    // The older answer comes late, to nobody.
    for (const route of held) await route.continue().catch(() => {});
    await page.unroute("**/instances/check");
    await page.getByLabel(url).fill("https://example.com/newer");
    await page.waitForResponse("**/instances/check");
    assert.equal(await page.getByLabel(url).getAttribute("aria-invalid"), null);
    quiet();
  });

  test("lists what is wrong with the JSON beside it", async () => {
    const body = await json();
    body.configuration["event.poller.refresh_interval"] = "often";
    body.configuration["event.poller.configuration"] = { contacts: { url: 7 } };
    await page.getByLabel("The request as JSON").fill(JSON.stringify(body));
    const list = page.getByRole("list", { name: "What is wrong" });
    await list.getByText("event.poller.refresh_interval: Expected a whole number").first().waitFor();
    await list.getByText("contacts › url: Expected").first().waitFor();
    await list.getByText("api.username").first().waitFor();
    assert.equal(
      await page.getByLabel("Event poller refresh interval (mins)").getAttribute("aria-invalid"),
      "true",
      "the field on the other side says it as well",
    );
    quiet();
  });

  test("sends a test event before anything is saved, and not too many", async () => {
    await go("#/connect/square");
    await heading("Connect Square");
    const send = page.getByRole("button", { name: "Send test event" });
    await send.click();
    await seen("Enter the address to test.");
    await press("Use the inbox of this machine");
    await page.getByText("Signature and delivery").click();
    await press("Generate");
    await send.click();
    await seen(/^The callback answered 200 in \d+ ms$/);
    const callback = page.getByLabel("Event notification callback URL");
    await page.request.put(`${service.url}/inbox/tried`, { data: { status: 500 } });
    await callback.fill(`${service.url}/inbox/tried`);
    await send.click();
    await seen(/^The callback answered 500 in \d+ ms$/);
    // Nobody listens on port 1.
    await callback.fill("http://127.0.0.1:1/events");
    await send.click();
    await seen("The callback did not answer");
    await refused([400], async () => {
      await callback.fill("nonsense");
      await send.click();
      await seen("Read: nonsense");
    });
    await callback.fill(`${service.url}/inbox/square`);
    await refused([429], async () => {
      for (let sent = 0; sent < 8 && !(await page.getByText("Enough test events for now").isVisible()); sent++) {
        await Promise.all([page.waitForResponse("**/notifications/test"), send.click()]);
        await page.locator('button:not([aria-busy="true"])', { hasText: "Send test event" }).waitFor();
      }
      await seen("Enough test events for now");
    });
    quiet();
  });

  test("a refused login says so, and a stranger's answer is not taken", async () => {
    await go("#/connect/square");
    await heading("Connect Square");
    await page.getByLabel("Application ID", { exact: true }).fill("app");
    const [vendor] = await Promise.all([page.waitForEvent("popup"), press("Log in at Square")]);
    const stranger = await page.context().newPage();
    await stranger.goto(`${service.url}/console/oauth?code=evil&state=square.0000`);
    await stranger.getByText("No form is waiting for this login").waitFor();
    await stranger.close();
    assert.equal(await page.getByText("Logged in", { exact: true }).count(), 0);
    await vendor.getByRole("button", { name: "Deny" }).click();
    await seen("The user denied the request.");
    quiet();
  });

  test("goes to the vendor in this tab where no window opens, and finds the form as it was", async () => {
    await go("#/connect/maximizer");
    await heading("Connect Maximizer");
    await page.getByLabel("Name", { exact: true }).fill("In one tab");
    await page.getByLabel("App key", { exact: true }).fill("a key");
    await page.getByLabel("App secret", { exact: true }).fill("kept over the way");
    await page.getByLabel("Event poller refresh interval (mins)").fill("7");
    await page.locator("li.resource").filter({ hasText: "opportunities" }).getByRole("switch").setChecked(true);
    await page.evaluate(() => (window.open = () => null));
    await press("Log in at Maximizer");
    await page.getByRole("button", { name: "Allow" }).click();
    await heading("Connect Maximizer");
    await page.getByText("Logged in", { exact: true }).waitFor();
    assert.equal(await page.getByLabel("Name", { exact: true }).inputValue(), "In one tab");
    assert.equal(await page.getByLabel("App secret", { exact: true }).inputValue(), "kept over the way");
    assert.equal(await page.getByLabel("Event poller refresh interval (mins)").inputValue(), "7");
    assert.ok("opportunities" in (await json()).configuration["event.poller.configuration"]);
    assert.equal(await page.evaluate(() => sessionStorage.getItem("pollux.login")), null);
    quiet();
  });

  test("shows a change within seconds, from the sandbox to the inbox", async () => {
    await page.getByRole("link", { name: "Sandbox" }).click();
    await heading("Sandbox");
    await page.getByLabel("Vendor", { exact: true }).selectOption("square");
    await page.getByLabel("Records", { exact: true }).selectOption("timecards");
    await press("Make a record");
    const said = await page.getByText(/ is made\.$/).first().textContent();
    const record = said.split(" ")[0];
    await page.getByLabel("Inbox", { exact: true }).selectOption("square");
    await page.locator(".inbox-item").filter({ hasText: `created ${record}` }).first().waitFor();
    await press(`Change ${record}`);
    await page.locator(".inbox-item").filter({ hasText: `updated ${record}` }).first().waitFor();
    await press(`Edit ${record}`);
    const fields = page.getByLabel("Fields, as JSON");
    await fields.fill("{");
    await press("Save");
    await page.getByRole("dialog").locator(".wrong").first().waitFor();
    await fields.fill('{"note": "by hand"}');
    await press("Save");
    await seen(`${record} is changed.`);
    await page.locator(".inbox-item").filter({ hasText: `updated ${record}` }).nth(1).waitFor();
    await press("With fields…");
    await fields.fill('{"status": "CLOSED"}');
    await press("Save");
    await page.getByRole("dialog").waitFor({ state: "detached" });
    await page.locator(".sandbox-item").filter({ hasText: "CLOSED" }).first().waitFor();
    await page.locator(".inbox-item").first().click();
    await page.getByRole("dialog").getByText("elements-webhook-signature").waitFor();
    await press("Close");
    quiet();
  });

  test("lists the event with its body and attempts, filters, and sends again", async () => {
    await page.getByRole("link", { name: "Events", exact: true }).click();
    await heading("Events");
    await page.getByLabel("Instance", { exact: true }).selectOption(ids.square);
    const row = page.locator(".event-item").filter({ hasText: "created" }).first();
    await row.filter({ hasText: "delivered" }).waitFor();
    await page.getByLabel("Resource", { exact: true }).selectOption("timesheets");
    await page.getByLabel("Delivery", { exact: true }).selectOption("delivered");
    const record = await row.locator(".mono").textContent();
    await page.getByLabel("Record id").fill(record);
    assert.deepEqual([...new Set(await page.locator(".event-item .mono").allTextContents())], [record]);
    await page.getByLabel("Type").selectOption("DELETED");
    await seen("No event matches");
    await page.getByLabel("Type").selectOption("CREATED");
    assert.equal(await page.locator(".event-item").count(), 1);
    await row.click();
    const dialog = page.getByRole("dialog");
    await dialog.getByText(`"objectId": "${record}"`).waitFor();
    await dialog.getByRole("cell", { name: "200" }).waitFor();
    await dialog.getByRole("button", { name: "Send again" }).click();
    await seen("On its way again");
    await dialog.getByRole("button", { name: "Close" }).click();
    await row.click();
    await page.getByRole("dialog").getByRole("cell", { name: "200" }).nth(1).waitFor();
    await page.getByRole("dialog").getByRole("button", { name: "Close" }).click();
    await page.getByRole("img", { name: /^Events: 1 created/ }).waitFor();
    await page.getByRole("img", { name: /^Deliveries: \d+ answered 2xx, 0 failed/ }).waitFor();
    await page.getByRole("img", { name: /^Callback latency: median/ }).waitFor();
    await page.locator("figure").filter({ hasText: "Callback latency" }).getByText("As a table").click();
    await page.getByRole("region", { name: "Callback latency" }).getByRole("cell", { name: "200" }).first().waitFor();
    quiet();
  });

  test("the feed is live: what comes in is shown, said, and leaves the focus where it is", async () => {
    await go(`#/events?instance=${ids.square}`);
    await page.locator(".event-item").first().focus();
    const focused = await page.evaluate(() => document.activeElement.dataset.event);
    const made = await (
      await page.request.post(`${service.url}/sandbox/control/square/timecards`, { data: {} })
    ).json();
    await page.locator(".event-item").filter({ hasText: made.id }).waitFor();
    assert.equal(await page.evaluate(() => document.activeElement.dataset.event), focused);
    assert.match(await page.locator("#polite").textContent(), new RegExp(`new events?: .*created ${made.id}`));
    quiet();
  });

  test("says why a record became an event, and what is known of one that did not", async () => {
    await go(`#/instances/${ids.square}`);
    await heading("My square");
    const ask = async (record, answer) => {
      await page.getByLabel("Record id").fill(record);
      await press("Ask why");
      await page.getByRole("dialog").getByText(answer).first().waitFor();
      await page.getByRole("dialog").getByRole("button", { name: "Close" }).click();
    };
    const record = await page.locator(".event-item .mono").first().textContent();
    await ask(record, /One notification told of it/);
    // There from the start: remembered by the first poll, told to nobody.
    const control = `${service.url}/sandbox/control/square/timecards`;
    const told = await page.locator(".event-item .mono").allTextContents();
    const quietly = (await (await page.request.get(control)).json()).find(({ id }) => !told.includes(id));
    await ask(quietly.id, /Nothing was sent of it/);
    await ask("no-such-record", /Never seen/);
    quiet();
  });

  test("polls now with a report, pauses and resumes", async () => {
    await page.getByRole("button", { name: "Poll now", exact: true }).click();
    await page.getByRole("region", { name: "Poll report", exact: true }).getByText("committed").first().waitFor();
    await press("Pause");
    await seen("Paused. Nothing is polled or sent");
    await press("Resume");
    await seen("Watching");
    await press("Send a test event");
    await page.locator(".event-item").filter({ hasText: "pollux-test" }).filter({ hasText: "delivered" }).waitFor();
    quiet();
  });

  test("edits without losing what is stored", async () => {
    await page.getByRole("link", { name: "Edit", exact: true }).click();
    await heading("Edit My square");
    assert.equal(await page.getByLabel("Application secret", { exact: true }).inputValue(), "");
    await page.getByLabel("Name", { exact: true }).fill("Our square");
    await page.locator("li.resource").filter({ hasText: "Customers" }).getByRole("switch").setChecked(true);
    await press("Try it without saving");
    await page.getByRole("heading", { level: 2, name: "What it would find" }).waitFor();
    await seen(/[1-9]\d* records read/);
    await press("Save changes");
    await heading("Our square");
    await page.getByRole("heading", { level: 3, name: "customers" }).waitFor();
    quiet();
  });

  test("sets the failure policy and sends only the newest event", async () => {
    await go(`#/instances/${ids.icontact}/edit`);
    await heading("Edit My icontact");
    await page.getByText("Signature and delivery").click();
    await page.getByLabel("Delivery Failure Policy – optional").selectOption("queue");
    await page.getByLabel("Send Only the Newest – optional").selectOption("true");
    const { configuration } = await json();
    assert.equal(configuration["notification.webhook.failure.policy"], "queue");
    assert.equal(configuration["event.notification.coalesce"], "true");
    await press("Save changes");
    await page.waitForURL(`**/#/instances/${ids.icontact}`);
    await go(`#/instances/${ids.icontact}/edit`);
    await heading("Edit My icontact");
    await page.getByText("Signature and delivery").click();
    assert.equal(await page.getByLabel("Delivery Failure Policy – optional").inputValue(), "queue");
    assert.equal(await page.getByLabel("Send Only the Newest – optional").inputValue(), "true");
    await page.getByLabel("Delivery Failure Policy – optional").selectOption("");
    await page.getByLabel("Send Only the Newest – optional").selectOption("");
    await press("Save changes");
    await page.waitForURL(`**/#/instances/${ids.icontact}`);
    quiet();
  });

  test("does not write over what somebody else saved meanwhile", async () => {
    await go(`#/instances/${ids.revel}/edit`);
    await heading("Edit My revel");
    await page.getByLabel("Name", { exact: true }).fill("Mine");
    const other = await page.request.patch(`${service.url}/elements/api-v2/instances/${ids.revel}`, {
      headers: { Authorization: `User ${service.userSecret}, Organization ${service.organizationSecret}` },
      data: { tags: ["browser", "theirs"] },
    });
    assert.equal(other.status(), 200);
    await refused([412], async () => {
      await press("Save changes");
      await seen("Somebody changed this instance since the form was opened");
    });
    await press("Open it as it is now");
    await page.waitForFunction(() => document.querySelector("form input")?.value === "My revel");
    assert.equal(await page.getByLabel("Tags – optional").inputValue(), "browser, theirs");
    quiet();
  });

  test("a login that ended is mended without typing anything again", async () => {
    await go("#/sandbox");
    await page.getByLabel("Vendor", { exact: true }).selectOption("square");
    await page.getByText("Let it forget").click();
    await press("Logins");
    await seen("every login is over");
    await go(`#/instances/${ids.square}`);
    await press("Poll now");
    await seen("Needs a new login");
    await seen("Polling waits for a new login");
    await page.getByRole("link", { name: /Attention/ }).click();
    await page.locator("li.card").filter({ hasText: "Our square" }).getByRole("link", { name: "Reconnect" }).click();
    await heading("Reconnect Our square");
    assert.ok(!(await page.getByLabel("Application ID", { exact: true }).isVisible()));
    await press("Reconnect");
    await seen("Log in first");
    // Somebody else's answer is not taken here either.
    const [vendor] = await Promise.all([page.waitForEvent("popup"), press("Log in at Square")]);
    await vendor.waitForURL(/client_id=sq0idp-app/);
    const stranger = await page.context().newPage();
    await stranger.goto(`${service.url}/console/oauth?code=evil&state=square.0000`);
    await stranger.getByText("No form is waiting for this login").waitFor();
    await stranger.close();
    await vendor.getByRole("button", { name: "Allow" }).click();
    await heading("Our square");
    await seen("Watching");
    await press("Poll now");
    await page.getByRole("region", { name: "Poll report", exact: true }).getByText("committed").first().waitFor();
    quiet();
  });

  test("shows the gap that a vendor's lost history leaves", async () => {
    await go(`#/instances/${ids.googlesuite}/edit`);
    await heading("Edit My googlesuite");
    await page.locator("li.resource").filter({ hasText: "changed-messages" }).getByRole("switch").setChecked(true);
    await press("Save changes");
    await heading("My googlesuite");
    const messages = page.locator("li.card").filter({ has: page.getByRole("heading", { name: "changed-messages" }) });
    await messages.getByRole("img", { name: /^Covered without a gap/ }).waitFor();
    await go("#/sandbox");
    await page.getByLabel("Vendor", { exact: true }).selectOption("googlesuite");
    await page.getByText("Let it forget").click();
    await press("Its history");
    await seen("its history is gone");
    await go(`#/instances/${ids.googlesuite}`);
    await press("Poll now: changed-messages");
    await messages.getByRole("img", { name: /^Covered since .*, with a gap of \d+ / }).waitFor();
    await messages.getByText("has a gap").waitFor();
    await go("#/instances");
    await page.locator(".instance-item").filter({ hasText: "My googlesuite" }).getByText("Watching, with a gap").waitFor();
    quiet();
  });

  test("a vendor in trouble is shown where one looks, and mended", async () => {
    await go("#/sandbox");
    await page.getByLabel("Vendor", { exact: true }).selectOption("maximizer");
    await page.getByLabel("Behavior").selectOption({ label: "is down" });
    await seen("Maximizer now is one that is down.");
    await go(`#/instances/${ids.maximizer}`);
    await press("Poll now");
    await page.getByRole("region", { name: "Poll report", exact: true }).getByText("failed").first().waitFor();
    await page.locator("li.card").getByText("failing", { exact: true }).first().waitFor();
    await seen(/failures? in a row\. What changed meanwhile is found by the next poll that succeeds/);
    await page.getByRole("link", { name: /Attention \d+ to look at/ }).click();
    const card = page.locator("li.card").filter({ hasText: "My maximizer" }).first();
    await card.getByText("polls are failing").waitFor();
    await page.request.put(`${service.url}/sandbox/control/faults`, { data: { vendor: "maximizer", faults: {} } });
    await card.getByRole("button", { name: "Poll now" }).click();
    await seen("Nothing waits for you");
    await go(`#/instances/${ids.maximizer}`);
    await seen("Watching");
    quiet();
  });

  test("events are switched off and on again", async () => {
    await go(`#/instances/${ids.maximizer}/edit`);
    await heading("Edit My maximizer");
    await page.getByRole("switch", { name: /^Events enabled/ }).setChecked(false);
    await press("Save changes");
    await heading("My maximizer");
    await page.getByRole("heading", { name: "Events are off" }).waitFor();
    await go("#/instances");
    await page.locator(".instance-item").filter({ hasText: "My maximizer" }).getByText("Events are off").waitFor();
    await go(`#/instances/${ids.maximizer}/edit`);
    await page.getByRole("switch", { name: /^Events enabled/ }).setChecked(true);
    await press("Save changes");
    await seen("Watching");
    quiet();
  });

  test("holds a mass delete until somebody rejects or approves it", async () => {
    // More than the few that are always believed, and then nearly all of them gone.
    const control = `${service.url}/sandbox/control/square/timecards`;
    const made = [];
    for (let count = 0; count < 12; count++)
      made.push((await (await page.request.post(control, { data: {} })).json()).id);
    await go(`#/instances/${ids.square}`);
    await page.getByRole("button", { name: "Poll now: timesheets" }).click();
    // The page shows the youngest ten events only: that all twelve are known, the report says.
    await page.getByRole("region", { name: "Poll report", exact: true }).getByText("committed").first().waitFor();
    await go("#/sandbox");
    await press(`Delete ${made[11]}`);
    await seen(`${made[11]} is deleted.`);
    for (const id of made.slice(0, 11)) await page.request.delete(`${control}/${id}`);
    await go(`#/instances/${ids.square}`);
    await page.getByRole("button", { name: "Look for deletes: timesheets" }).click();
    await seen(/deletes? of timesheets held/);
    const known = page.locator("li.card").filter({ has: page.getByRole("heading", { name: "timesheets" }) });
    const records = async () => Number(await known.locator(".facts div", { hasText: "Records known" }).locator("dd").textContent());
    const before = await records();
    await page.getByRole("link", { name: /Attention/ }).click();
    await heading("Attention");
    await press("Reject");
    await seen("Rejected: no event is sent");
    await seen("Nothing waits for you");
    await go(`#/instances/${ids.square}`);
    await heading("Our square");
    await page.getByRole("button", { name: "Look for deletes: timesheets" }).waitFor();
    assert.equal(await records(), before, "they stay known");
    await page.getByRole("button", { name: "Look for deletes: timesheets" }).click();
    await seen(/deletes? of timesheets held/);
    await press("Approve the deletes");
    await page
      .getByRole("dialog")
      .getByRole("button", { name: /^Send / })
      .click();
    await seen("Approved.");
    await page.waitForFunction(
      ([resource, most]) => {
        const card = [...document.querySelectorAll("li.card")].find((one) => one.dataset.key === resource);
        const fact = [...(card?.querySelectorAll(".facts div") ?? [])].find((one) => one.textContent.startsWith("Records known"));
        return fact && Number(fact.querySelector("dd").textContent) === most;
      },
      ["timesheets", before - 12],
    );
    await go(`#/events?instance=${ids.square}&type=DELETED`);
    await page.locator(".event-item").filter({ hasText: "deleted" }).first().waitFor();
    quiet();
  });

  test("looks back page by page over all instances, and stays live", async () => {
    // Pages of three in place of two hundred.
    const short = "**/notifications/subscriptions/deliveries?*";
    await page.route(short, (route) => route.continue({ url: route.request().url().replace("pageSize=200", "pageSize=3") }));
    await go("#/events");
    await seen("in the last 3 notifications");
    const before = await page.locator(".event-item").count();
    await press("Look further back");
    await seen(/in the last [4-6] notifications/);
    assert.ok((await page.locator(".event-item").count()) > before);
    while (await page.getByRole("button", { name: "Look further back" }).isVisible()) {
      await Promise.all([page.waitForResponse(short), press("Look further back")]);
      await page.locator('button:not([aria-busy="true"])', { hasText: "Look further back" }).or(page.locator(".event-item").first()).first().waitFor();
    }
    const shown = await page.locator(".event-item").evaluateAll((items) => items.map((item) => item.dataset.event));
    assert.equal(new Set(shown).size, shown.length, "an event is shown twice");
    const made = await (
      await page.request.post(`${service.url}/sandbox/control/square/timecards`, { data: {} })
    ).json();
    await page.locator(".event-item").filter({ hasText: made.id }).waitFor();
    assert.ok((await page.locator(".event-item").count()) > shown.length, "what was looked back at stays");
    await page.unroute(short);
    quiet();
  });

  test("resumes a callback that was switched off", async () => {
    await go("#/sandbox");
    await page.getByLabel("Inbox", { exact: true }).selectOption("revel");
    await press("Say it is gone");
    await seen(/answered with 410/);
    await go(`#/instances/${ids.revel}`);
    await press("Send a test event");
    await seen("switched off");
    await seen("Callback is off");
    await go("#/instances");
    await page.locator(".instance-item").filter({ hasText: "My revel" }).getByText("Callback is off").waitFor();
    await go("#/attention");
    await seen("A callback is switched off");
    await page.request.put(`${service.url}/inbox/revel`, { data: { status: 200 } });
    await press("Resume and send what waits");
    await seen("Nothing waits for you");
    await go(`#/events?instance=${ids.revel}`);
    await page.locator(".event-item").filter({ hasText: "delivered" }).first().waitFor();
    quiet();
  });

  test("is used by keyboard: focus goes where one reads on, into dialogs and back", async () => {
    await go("#/instances");
    await heading("Instances");
    await page.getByLabel("Search instances").focus();
    await page.keyboard.type("our square");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await heading("Our square");
    const focused = () => page.evaluate(() => document.activeElement.textContent);
    await page.waitForFunction(() => document.activeElement.tagName === "H1");
    assert.equal(await focused(), "Our square", "a screen reader begins at the new screen's title");
    assert.equal(await page.title(), "Our square – Pollux");
    assert.equal(await page.locator("[tabindex]:not([tabindex='0'], [tabindex='-1'])").count(), 0);

    const row = page.locator(".event-item").first();
    await row.focus();
    const event = await row.getAttribute("data-event");
    await page.keyboard.press("Enter");
    await page.getByRole("dialog").getByText("Body as sent").waitFor();
    assert.ok(await page.evaluate(() => document.activeElement.closest("dialog") !== null));
    // Nothing behind the dialog is reached from it: what is left of the round is the browser itself.
    for (let presses = 0; presses < 12; presses++) {
      await page.keyboard.press("Tab");
      assert.ok(await page.evaluate(() => document.activeElement === document.body || document.activeElement.closest("dialog")));
    }
    await page.keyboard.press("Escape");
    assert.equal(await page.evaluate(() => document.activeElement.dataset.event), event);

    await page.getByRole("button", { name: "Delete", exact: true }).press("Enter");
    assert.equal(await page.evaluate(() => document.activeElement.tagName), "INPUT", "ready to type");
    await page.keyboard.press("Escape");
    assert.equal(await page.evaluate(() => document.activeElement.getAttribute("aria-label")), "Delete");

    await go("#/connect/square");
    await heading("Connect Square");
    await page.getByRole("switch", { name: /^Team members/ }).press("Space");
    assert.ok("employees" in (await json()).configuration["event.poller.configuration"]);
    await page.getByLabel("Interval", { exact: true }).press("ArrowRight");
    assert.equal(await page.getByLabel("Event poller refresh interval (mins)").inputValue(), "20");
    assert.equal(await page.getByLabel("Interval", { exact: true }).getAttribute("aria-valuetext"), "every 20 min");
    quiet();
  });

  test("holds still for who asked for that", async () => {
    const animation = () =>
      page.evaluate(() => {
        const bars = document.createElement("div");
        bars.className = "skeleton";
        bars.append(document.createElement("span"));
        document.body.append(bars);
        const { animationName } = getComputedStyle(bars.firstChild);
        bars.remove();
        return animationName;
      });
    assert.equal(await animation(), "breathe");
    await page.emulateMedia({ reducedMotion: "reduce" });
    assert.equal(await animation(), "none");
    await page.emulateMedia({ reducedMotion: null });
  });

  test("looks right and is accessible on every screen, wide and narrow, light and dark", async () => {
    // Something of everything: a vendor that is down, deletes that are held, a callback that is gone.
    const put = (path, data) => page.request.put(`${service.url}/${path}`, { data });
    await put("sandbox/control/faults", { vendor: "maximizer", faults: { seed: 7, status_5xx_every: 1 } });
    await put("inbox/revel", { status: 410 });
    const control = `${service.url}/sandbox/control/square/timecards`;
    await go(`#/instances/${ids.maximizer}`);
    await press("Poll now");
    await page.getByRole("region", { name: "Poll report", exact: true }).getByText("failed").first().waitFor();
    await go(`#/instances/${ids.revel}`);
    await press("Send a test event");
    await seen("switched off");
    const made = [];
    for (let count = 0; count < 12; count++)
      made.push((await (await page.request.post(control, { data: {} })).json()).id);
    await go(`#/instances/${ids.square}`);
    await press("Poll now: timesheets");
    await page.getByRole("region", { name: "Poll report", exact: true }).getByText("committed").first().waitFor();
    for (const id of made) await page.request.delete(`${control}/${id}`);
    await press("Look for deletes: timesheets");
    await seen(/deletes? of timesheets held/);

    // And a name that no line has room for.
    const rename = async (name) => {
      const answer = await page.request.patch(`${service.url}/elements/api-v2/instances/${ids.icontact}`, {
        headers: { Authorization: `User ${service.userSecret}, Organization ${service.organizationSecret}` },
        data: { name, tags: [name, "browser"] },
      });
      assert.equal(answer.status(), 200);
    };
    await rename("Donaudampfschifffahrtsgesellschaft".repeat(7));

    const screens = {
      long: [`#/instances/${ids.icontact}`, ".strip"],
      instances: ["#/instances", ".instance-item .badge.good"],
      catalog: ["#/catalog", ".card .button"],
      connect: ["#/connect/square", ".resource"],
      instance: [`#/instances/${ids.square}`, ".strip"],
      gap: [`#/instances/${ids.googlesuite}`, ".strip"],
      trouble: [`#/instances/${ids.maximizer}`, ".notice.bad"],
      edit: [`#/instances/${ids.square}/edit`, ".resource"],
      reconnect: [`#/instances/${ids.square}/reconnect`, "form"],
      events: ["#/events", ".event-item"],
      attention: ["#/attention", "li.card >> nth=2"],
      sandbox: ["#/sandbox", ".inbox-item"],
      nowhere: ["#/nowhere", "h1"],
    };
    const problems = [];
    /** Opens what is shown only when asked for, on top of a screen. */
    const opened = {
      event: [
        "#/events",
        async (shown) => {
          await shown.locator(".event-item").first().click();
          await shown.getByRole("dialog").getByText("Body as sent").waitFor();
        },
      ],
      why: [
        `#/instances/${ids.square}`,
        async (shown) => {
          await shown.getByLabel("Resource", { exact: true }).selectOption("timesheets");
          await shown.getByLabel("Record id").fill(made[0]);
          await shown.getByRole("button", { name: "Ask why" }).click();
          await shown.getByRole("dialog").getByText("What was sent of it").waitFor();
        },
      ],
      delete: [
        `#/instances/${ids.square}`,
        async (shown) => {
          await shown.getByRole("button", { name: "Delete", exact: true }).click();
          await shown.getByRole("dialog").waitFor();
        },
      ],
      report: [
        `#/instances/${ids.revel}`,
        async (shown) => {
          await shown.getByRole("button", { name: "Poll now", exact: true }).click();
          await shown.getByRole("region", { name: "Poll report", exact: true }).waitFor();
        },
      ],
      editor: [
        `#/instances/${ids.square}/edit`,
        async (shown) => {
          await shown.getByRole("button", { name: "Edit timesheets" }).click();
          await shown.getByText("Dates and more").click();
          await shown.getByLabel("Updated: format", { exact: true }).fill("qq");
          await shown.locator('[aria-invalid="true"]').first().waitFor();
          await shown.getByRole("button", { name: "Send test event" }).click();
          await shown.getByText(/^The callback answered|^Enough test events/).waitFor();
        },
      ],
    };
    const visit = async (scheme, width) => {
      const context = await browser.newContext({ viewport: { width, height: 844 }, colorScheme: scheme });
      const visitor = await context.newPage();
      watch(visitor);
      await visitor.goto(service.url);
      await visitor.getByRole("heading", { level: 1 }).waitFor();
      problems.push(...(await look(visitor, "sign-in", width, scheme)));
      await visitor.close();
      const shown = await signedIn(context);
      for (const [name, [hash, there]] of Object.entries(screens)) {
        await shown.setViewportSize({ width, height: 844 });
        await shown.goto(`${service.url}/${hash}`);
        await shown.locator(there).first().waitFor();
        problems.push(...(await look(shown, name, width, scheme)));
      }
      for (const [name, [hash, open]] of Object.entries(opened)) {
        await shown.setViewportSize({ width, height: 844 });
        await shown.goto(`${service.url}/#/nowhere`);
        await shown.goto(`${service.url}/${hash}`);
        await open(shown);
        problems.push(...(await look(shown, name, width, scheme)));
        await shown.keyboard.press("Escape");
      }
      await context.close();
    };
    await refused([429], () =>
      Promise.all(["light", "dark"].flatMap((scheme) => [visit(scheme, 1360), visit(scheme, 390)])),
    );
    assert.deepEqual(problems, []);
    await put("sandbox/control/faults", { vendor: "maximizer", faults: {} });
    await put("inbox/revel", { status: 200 });
    await rename("My icontact");
    quiet();
  });

  test("deletes only what was named", async () => {
    await go(`#/instances/${ids.icontact}`);
    await heading("My icontact");
    await press("Delete");
    await press("Delete for good");
    await seen("This is not its name.");
    await page.getByLabel(/^Type the name/).fill("My icontact");
    await press("Delete for good");
    await seen("My icontact is deleted.");
    await heading("Instances");
    await seen("4 instances");
    quiet();
  });

  test("signs out and forgets", async () => {
    await press("Sign out");
    await heading("Sign in");
    assert.equal(await page.evaluate(() => sessionStorage.length), 0);
    quiet();
  });
});
