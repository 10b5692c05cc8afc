// Requests to this server: relative addresses, so that the page also works below a path of a reverse proxy.

const KEY = "mmseek.key";
let key = sessionStorage.getItem(KEY);
let asking = null;
let base = "v1";

export class Problem extends Error {
  constructor(message, code) {
    super(message);
    this.code = code;
  }
}

/** What follows is asked of this collection; of the server's own one if there is no name. */
export const setCollection = (name) => { base = name ? `v1/collections/${encodeURIComponent(name)}` : "v1"; };

/** The address of something of the collection that is asked. */
export const here = (path) => `${base}/${path}`;

/** The address of what the collection holds. */
export const about = () => (base === "v1" ? "v1/collection" : base);

/** The address of something that the server names from its root. */
export const local = (address) => new URL(address.replace(/^\//, ""), document.baseURI).href;

export const headers = () => (key ? { Authorization: `Bearer ${key}` } : {});

export async function call(path, { body, method, signal } = {}) {
  const answer = await fetched(path, {
    method: method ?? (body === undefined ? "GET" : "POST"),
    headers: body === undefined ? {} : { "Content-Type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
    signal,
  });
  return answer.json();
}

/** The answer of a request; an error of the server is raised with its own sentence. */
export async function fetched(path, options) {
  let answer;
  try {
    answer = await fetch(local(path), { ...options, headers: { ...options?.headers, ...headers() } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The server does not answer. Is it running?", "unreachable");
  }
  if (answer.status === 401) {
    await askForKey();
    return fetched(path, options);
  }
  if (!answer.ok) throw await problemOf(answer);
  return answer;
}

async function problemOf(answer) {
  try {
    const { error } = await answer.json();
    return new Problem(error.message, error.code);
  } catch {
    return new Problem(`The server answered ${answer.status}.`, "error");
  }
}

/** Asks once, however many requests were refused. */
export function askForKey() {
  asking ??= new Promise((done) => {
    const dialog = document.getElementById("key");
    const value = document.getElementById("key-value");
    value.value = "";
    dialog.addEventListener("close", () => {
      asking = null;
      key = value.value.trim();
      sessionStorage.setItem(KEY, key);
      done();
    }, { once: true });
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    dialog.showModal();
  });
  return asking;
}

/** Show a picture of this server in an image. Where there is a key, the image cannot send it itself. */
export function showPicture(image, address, failed) {
  image.addEventListener("error", failed, { once: true });
  if (!key) {
    image.src = local(address);
    return;
  }
  fetched(address).then((answer) => answer.blob()).then((blob) => {
    const url = URL.createObjectURL(blob);
    image.addEventListener("load", () => URL.revokeObjectURL(url), { once: true });
    image.src = url;
  }).catch(failed);
}
