// Starts the local service for a test: the built binary, a free port, a data directory of its own.

import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const target = process.env.CARGO_TARGET_DIR ?? fileURLToPath(new URL("../../target", import.meta.url));
const BINARY = join(target, "debug", "pollux");

/** Where pictures go. */
export const SCREENSHOTS = join(target, "screenshots");

/** `{url, userSecret, organizationSecret, credentials, stop}`. Schedule minutes are short, so that polls come soon. */
export async function start() {
  const data = await mkdtemp(join(tmpdir(), "pollux-browser-"));
  const child = spawn(BINARY, ["serve", "--addr", "127.0.0.1:0", "--data", data, "--minute", "2s"], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, POLLUX_LOG: "warn" },
  });
  let log = "";
  child.stderr.on("data", (text) => (log += text));
  const ended = new Promise((resolve) => child.once("exit", resolve));
  // What it prints first says that it answers.
  await Promise.race([
    new Promise((resolve) => child.stdout.once("data", resolve)),
    ended.then(() => Promise.reject(new Error(`pollux did not start: ${log}`))),
  ]);
  child.stdout.resume();
  const credentials = await readFile(join(data, "credentials.json"), "utf8");
  const stop = async () => {
    child.kill("SIGTERM");
    await ended;
    await rm(data, { recursive: true, force: true });
  };
  return { ...JSON.parse(credentials), credentials, stop };
}
