// A disk that is soon full, for who may mount one.

import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, rmSync, statfsSync, writeFileSync } from "node:fs";
import path from "node:path";

/** A small disk, in memory. */
export class SmallDisk {
  constructor(folder) {
    this.path = path.join(folder, "disk");
    mkdirSync(this.path);
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=400m", "tmpfs", this.path], { stdio: "ignore" });
  }

  /** Leaves so many bytes of it. */
  fill(bytes) {
    const { bavail, bsize } = statfsSync(this.path);
    const file = path.join(this.path, "ballast");
    try {
      writeFileSync(file, Buffer.alloc(Math.max(0, bavail * bsize - bytes)));
      if (bytes === 0) for (let part = 0; ; part += 1) writeFileSync(`${file}-${part}`, Buffer.alloc(65_536));
    } catch (error) {
      if (error.code !== "ENOSPC") throw error;
    }
  }

  free() {
    for (const name of readdirSync(this.path)) if (name.startsWith("ballast")) rmSync(path.join(this.path, name));
  }

  close() {
    execFileSync("umount", ["-l", this.path], { stdio: "ignore" });
  }

  /** One in this folder; nothing where this user may not mount one. */
  static inFolder(folder) {
    try {
      return new SmallDisk(folder);
    } catch {
      return undefined;
    }
  }
}
