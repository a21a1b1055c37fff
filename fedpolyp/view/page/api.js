// Requests to the server that this page is from. Each carries the token, which no other page can know.

const KEPT = "fedpolyp-token";
let token = "";

export class Failure extends Error {
  constructor(sentence, status) {
    super(sentence);
    this.status = status;
  }
}

// The token is behind the '#' of the address, which browsers send nowhere; it is taken out of the address bar.
export async function enter() {
  const given = new URLSearchParams(location.hash.slice(1));
  if (given.has("token")) token = given.get("token");
  else if (given.has("once")) {
    token = given.get("once");
    token = (await ask("/api/enter", { method: "POST" })).token;
  } else token = localStorage.getItem(KEPT) ?? "";
  localStorage.setItem(KEPT, token);
  if (given.has("token") || given.has("once")) history.replaceState(null, "", "/");
}

export async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { ...options, headers: { ...options.headers, authorization: `Bearer ${token}` } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure("The server does not answer: 'fedpolyp view' may have ended.", 0);
  }
  let said;
  try {
    said = await answer.json();
  } catch {
    throw new Failure(`The server answered with ${answer.status}, without a message.`, answer.status);
  }
  if (!answer.ok) throw new Failure(said.error ?? `The server answered with ${answer.status}.`, answer.status);
  return said;
}

export const send = (path, file, signal) =>
  ask(path, { method: "POST", body: file, headers: { "content-type": "application/octet-stream" }, signal });
