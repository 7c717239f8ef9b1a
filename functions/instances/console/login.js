// The login at the vendor: in a small window if the browser allows one, else in this tab. The state that comes back must be the one that was sent.

import { ROOT } from "./api.js";

/** Where vendors send the browser back to. */
export const redirectAddress = new URL("console/oauth", ROOT).href;

const KEY = "pollux.login";
export const CHANNEL = "pollux.login";

/** The login under way in this tab: state, where to go on, and what the form held. */
export const pending = {
  read() {
    try {
      return JSON.parse(sessionStorage.getItem(KEY));
    } catch {
      return null;
    }
  },
  write: (value) => sessionStorage.setItem(KEY, JSON.stringify(value)),
  clear: () => sessionStorage.removeItem(KEY),
};

/** What the vendor sent back, less what is not for the service. */
export function returned(parameters) {
  const { state: _, ...rest } = parameters;
  return rest;
}

/**
 * Sends the user to the vendor, whose address `ask` gets for a state. `came` is called with the parameters that came back, `failed` with a reason. Answers a
 * function that stops listening. Where no window opens, this tab goes to the vendor: the page is left.
 */
export async function logIn(element, ask, left, came, failed) {
  // Opened within the click, or the browser takes it for an advertisement.
  const popup = open("about:blank", "pollux-login", "popup,width=560,height=720");
  const state = `${element}.${[...crypto.getRandomValues(new Uint8Array(16))].join("-")}`;
  let address;
  try {
    address = (await ask(state)).oauthUrl;
    // A login is followed to web addresses only.
    if (!/^https?:$/.test(new URL(address).protocol)) throw new Error("The login’s address is not one of the web.");
  } catch (error) {
    popup?.close();
    throw error;
  }
  if (!popup) {
    pending.write({ state, ...left });
    location.assign(address);
    return () => {};
  }
  // Nothing shows that the window is still open: a vendor's page may cut the tie to its opener. Only the message counts.
  const channel = new BroadcastChannel(CHANNEL);
  channel.onmessage = ({ data }) => {
    // Another tab's login, or somebody else's: not ours to take.
    if (data.state !== state || !data.parameters) return;
    channel.postMessage({ taken: state });
    channel.close();
    if (data.parameters.error) failed(data.parameters.error_description ?? data.parameters.error);
    else if (!data.parameters.code) failed("The vendor sent no code.");
    else came(returned(data.parameters));
  };
  popup.location.replace(address);
  return () => channel.close();
}
