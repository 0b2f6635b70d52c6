"""Looks at the built site in a headless browser: the search finds things, and nothing is cut off on a phone.

    mkdocs build && python docs/check_site.py site            # needs chromium or Chrome

Ends with 1 and says what is wrong where something is.
"""

import functools
import http.server
import json
import queue
import shutil
import subprocess
import sys
import tempfile
import threading

PHONE = 390  # pixels
PAGES = (
    "", "gallery/", "by_task/", "by_name/", "cards/augmentation/", "cards/attribution/",
    "guides/photos/", "benchmarks/",
    "limits/", "packages/explain/", "packages/augment/", "migration/", "examples/quickstart/", "notebooks/own_photos/",
)  # fmt: skip
#: What is typed, and a word of the title of one of the first results.
SEARCHES = {
    "grad-cam": "cam",
    "warm up": "warm",
    "MixUp": "mixup",
    "dead relu": "dead",
    "early stopping": "early",
}
SCRIPT = """
const wait = ms => new Promise(done => setTimeout(done, ms));
async function open(path, width) {
  const frame = document.createElement("iframe");
  frame.style.width = width + "px"; frame.style.height = "900px"; frame.src = path;
  document.body.append(frame);
  await new Promise(done => frame.onload = done);
  await wait(700);
  return frame;
}
function scrolls(element) {
  for (let up = element; up; up = up.parentElement) {
    const style = up.ownerDocument.defaultView.getComputedStyle(up);
    const held = ["auto", "scroll", "hidden", "clip"].includes(style.overflowX);
    if (held && up.tagName !== "BODY" && up.tagName !== "HTML") return true;
  }
  return false;
}
async function look() {
  const found = {narrow: {}, search: {}};
  for (const path of PAGES) {
    const frame = await open("/" + path, PHONE), inside = frame.contentDocument;
    const wide = [...inside.querySelectorAll(".md-content *")].filter(one =>
      one.getBoundingClientRect().right > PHONE + 1 && !scrolls(one));
    const pictures = [...inside.images].filter(one => one.loading !== "lazy" && one.complete && !one.naturalWidth);
    found.narrow[path] = {
      width: inside.documentElement.scrollWidth,
      cut: wide.slice(0, 3).map(one => one.outerHTML.slice(0, 120)),
      broken: pictures.map(one => one.src),
      title: inside.title,
    };
    frame.remove();
  }
  for (const words of SEARCHES) {
    const frame = await open("/?q=" + encodeURIComponent(words), 1200);
    let titles = [];
    for (let tries = 0; tries < 40 && !titles.length; tries++) {
      await wait(500);
      titles = [...frame.contentDocument.querySelectorAll(".md-search-result__item h1, .md-search-result__item h2")]
        .map(one => one.textContent);
    }
    found.search[words] = titles.slice(0, 8);
    frame.remove();
  }
  await fetch("/report", {method: "POST", body: JSON.stringify(found)});
}
look().catch(error => fetch("/report", {method: "POST", body: JSON.stringify({error: String(error)})}));
"""


class Handler(http.server.SimpleHTTPRequestHandler):
    """The site, a page that looks at it, and the place where it reports to."""

    reports: queue.Queue = queue.Queue()

    def do_GET(self):
        if self.path != "/look":
            super().do_GET()
            return
        head = f"const PHONE={PHONE}, PAGES={json.dumps(PAGES)}, SEARCHES={json.dumps(list(SEARCHES))};"
        page = f"<!DOCTYPE html><body><script>{head}{SCRIPT}</script>".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(page)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(204)
        self.end_headers()
        self.reports.put(json.loads(body))

    def log_message(self, *arguments):
        pass


def look(site, seconds=300):
    """What the browser saw: `{"narrow": {page: ...}, "search": {words: titles}}`; None without one that answers."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        return None
    handler = functools.partial(Handler, directory=str(site))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as profile:
        flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
        address = f"http://127.0.0.1:{server.server_port}/look"
        process = subprocess.Popen(
            [browser, *flags, "--remote-debugging-port=0", address],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            return Handler.reports.get(timeout=seconds)
        except queue.Empty:
            return None
        finally:
            process.terminate()
            process.wait()
            server.shutdown()


def wrong(found):
    """What is not as it should be, a line each."""
    if "error" in found:
        return [found["error"]]
    lines = []
    for path, seen in found["narrow"].items():
        if seen["width"] > PHONE or seen["cut"]:
            lines.append(
                f"/{path}: {seen['width']} pixels wide on a phone of {PHONE}; cut off: {seen['cut']}"
            )
        if seen["broken"]:
            lines.append(f"/{path}: pictures that do not load: {seen['broken']}")
        if "keras-recipes" not in seen["title"]:
            lines.append(f"/{path}: there is no such page")
    for words, titles in found["search"].items():
        if not any(SEARCHES[words] in title.lower() for title in titles):
            lines.append(f"a search for {words!r} finds {titles}")
    return lines


def main():
    found = look(sys.argv[1])
    if found is None:
        print("no browser that answers: the site was not looked at")
        return 0
    lines = wrong(found)
    print(
        "\n".join(lines)
        or f"{len(PAGES)} pages fit {PHONE} pixels; {len(SEARCHES)} searches find what they should"
    )
    return bool(lines)


if __name__ == "__main__":
    sys.exit(main())
