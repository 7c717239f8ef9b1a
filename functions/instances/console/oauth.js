// Where the vendor sends the browser back to: hands what came to the form that is waiting for it.

import { ROOT } from "./api.js";
import { CHANNEL, pending, returned } from "./login.js";

/** How long the form in another window may take to answer, in milliseconds. */
const PATIENCE = 1500;

const said = document.getElementById("said");
const parameters = Object.fromEntries(new URLSearchParams(location.search));
// The code is nobody else's business, the history's neither.
history.replaceState(null, "", location.pathname);

const left = pending.read();
if (!parameters.state || (!parameters.code && !parameters.error)) {
  said.textContent = "Nothing came along with this address. Start the login from the form.";
} else if (left && left.state === parameters.state) {
  pending.write({ ...left, back: returned(parameters) });
  location.replace(new URL(left.hash, ROOT));
} else {
  const channel = new BroadcastChannel(CHANNEL);
  const nobody = setTimeout(() => {
    said.textContent =
      "No form is waiting for this login. It may be closed, or the login was not started there. Nothing was stored; start it again from the form.";
  }, PATIENCE);
  channel.onmessage = ({ data }) => {
    if (data.taken !== parameters.state) return;
    clearTimeout(nobody);
    said.textContent = "Done. You can close this window.";
    window.close();
  };
  channel.postMessage({ state: parameters.state, parameters });
}
