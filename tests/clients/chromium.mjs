// The headless browser of the tests.

import { chromium } from "playwright-core";

/** A Chromium that was just started: the one that CHROMIUM names, or Debian's. `keepsPages`: pages that are left stay alive for who goes back. */
export function launchChromium({ keepsPages = false } = {}) {
  return chromium.launch({
    ignoreDefaultArgs: keepsPages ? ["--disable-back-forward-cache"] : [],
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    timeout: 120_000,
    args: [
      "--headless",
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
}
