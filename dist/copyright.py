#!/usr/bin/env python3
"""Prints the package's copyright file: our licence, then each crate that is linked, its licence and its texts.

A text that several crates share is printed once.
"""

import json
import pathlib
import re
import subprocess

metadata = json.loads(
    subprocess.check_output(
        ["cargo", "metadata", "--format-version", "1", "--locked",
         "--filter-platform", "x86_64-unknown-linux-gnu"]
    )
)
packages = {package["id"]: package for package in metadata["packages"]}
nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}

ours = [id for id in packages if id in metadata["workspace_members"]]
linked, to_do = set(), list(ours)
while to_do:
    id = to_do.pop()
    if id in linked:
        continue
    linked.add(id)
    for dependency in nodes[id]["deps"]:
        # Not what only builds and tests use.
        if any(kind["kind"] is None for kind in dependency["dep_kinds"]):
            to_do.append(dependency["pkg"])

IS_LICENCE = re.compile(r"(licen[cs]e|copying|notice|unlicense|copyright)", re.I)
texts, crates = {}, []
for package in sorted((packages[id] for id in linked - set(ours)), key=lambda p: (p["name"], p["version"])):
    name = f"{package['name']} {package['version']}"
    crates.append((name, package["license"] or package["license_file"], ", ".join(package["authors"])))
    folder = pathlib.Path(package["manifest_path"]).parent
    for file in sorted(folder.iterdir()):
        if IS_LICENCE.match(file.name) and file.is_file():
            text = file.read_text(errors="replace").strip()
            key = re.sub(r"\s+", " ", text)
            # Debian has these in one place (Apache, and GPL of what is ours under another licence).
            if "TERMS AND CONDITIONS FOR USE, REPRODUCTION" in key or "GNU GENERAL PUBLIC LICENSE Version 2" in key:
                continue
            texts.setdefault(key, (text, []))[1].append(name)

print("rustic-hapi is licensed under Apache-2.0 or MIT, at your option.\n")
print("On Debian systems the text of Apache-2.0 is in /usr/share/common-licenses/Apache-2.0; MIT's:\n")
print(pathlib.Path("LICENSE-MIT").read_text())
print("It contains SQLite, which is in the public domain, zstd (BSD-3-Clause), and these crates:\n")
for name, licence, authors in crates:
    print(f"{name}: {licence}" + (f"; {authors}" if authors else ""))
print("\nTheir texts, each once:")
for text, users in texts.values():
    print("\n" + "-" * 78 + "\n" + ", ".join(users) + "\n\n" + text)
