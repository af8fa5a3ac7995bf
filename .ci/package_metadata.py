"""Checks what `cargo metadata` says of the crates that are published: complete, and no dependency asks for a newer Rust.

    cargo metadata --format-version 1 --locked --all-features --filter-platform HOST | python package_metadata.py CRATE...

Prints what is still to be decided before a first release; fails on what is wrong.
"""

import json
import sys

REQUIRED = ("description", "license", "documentation", "readme", "rust_version", "keywords", "categories", "authors")
UNDECIDED = ("repository",)


def version(text):
    return tuple(int(part) for part in text.split("-")[0].split("."))[:2]


def used_by(crate, nodes):
    """What is compiled into it, or to build it: every dependency but those of tests."""
    seen, queue = set(), [crate]
    while queue:
        for dependency in nodes[queue.pop()]["deps"]:
            kinds = {kind["kind"] for kind in dependency["dep_kinds"]}
            if kinds != {"dev"} and dependency["pkg"] not in seen:
                seen.add(dependency["pkg"])
                queue.append(dependency["pkg"])
    return seen


def main(crates):
    metadata = json.load(sys.stdin)
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    members = {packages[member]["name"]: packages[member] for member in metadata["workspace_members"]}
    wrong, undecided = [], []
    for name in crates:
        crate = members[name]
        wrong += [f"{name}: no {field}" for field in REQUIRED if not crate[field]]
        undecided += [f"{name}: no {field}" for field in UNDECIDED if not crate[field]]
        if len(crate["keywords"]) > 5 or any(len(keyword) > 20 for keyword in crate["keywords"]):
            wrong.append(f"{name}: at most 5 keywords, of at most 20 letters")
        if "docs" not in (crate["metadata"] or {}):
            wrong.append(f"{name}: no metadata for docs.rs")
        dependencies = used_by(crate["id"], nodes) - set(metadata["workspace_members"])
        newest = ((0, 0), "")
        for package in (packages[dependency] for dependency in dependencies):
            needed = package["rust_version"]
            if needed and version(needed) > version(crate["rust_version"]):
                wrong.append(
                    f"{name} says Rust {crate['rust_version']}; {package['name']} {package['version']} needs {needed}"
                )
            if needed:
                newest = max(newest, (version(needed), f"{needed} ({package['name']} {package['version']})"))
        print(f"{name}: {len(dependencies)} dependencies, the newest Rust that one asks for is {newest[1] or 'none'}")
    for line in undecided:
        print(f"TO DECIDE before a release: {line}")
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
