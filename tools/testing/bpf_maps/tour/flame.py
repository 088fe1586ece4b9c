#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""flame.py KALLSYMS STACKS FOLDED SVG FILE...: puts names into what profile wrote, and draws it.

User symbols are those of the ELF FILEs, which are found by their build ids. FOLDED is for other tools, too; kernel functions have "_[k]" there."""
import bisect
import html
import os
import re
import subprocess
import sys
import zlib

WIDTH, ROW, TOP, CHAR = 1200, 18, 64, 6.7


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


class Symbols:
    """Names by address; (address, size, name) from nm, size 0: up to the next symbol."""
    def __init__(self, symbols):
        self.symbols = [(0, 1, None), *sorted(symbols)]
        self.starts = [s[0] for s in self.symbols]

    def find(self, address):
        start, size, name = self.symbols[bisect.bisect(self.starts, address) - 1]
        return name if address >= start and (not size or address < start + size) else None


class File:
    """An ELF file: its build id, and names by offset in the file."""
    def __init__(self, path):
        self.name = f"[{os.path.basename(path)}]"
        self.id = re.search(r"Build ID: (\w+)", output("readelf", "-n", path)).group(1)
        self.loads = [[int(n, 16) for n in load.split()[1:6]] for load in
                      output("readelf", "-lW", path).splitlines() if load.startswith("  LOAD")]
        nm = output("nm", "-S", path) or output("nm", "-DS", path)
        self.symbols = Symbols((int(a, 16), int(s, 16), n.split("@")[0]) for a, s, n in
                               re.findall(r"^(\w+) (\w+) [TtWwi] (\S+)$", nm, re.M))

    def find(self, offset):
        for start, address, _, size, _ in self.loads:
            if start <= offset < start + size:
                return self.symbols.find(offset - start + address) or self.name
        return self.name


def named(line, kernel, files):
    """The line with names for addresses, and how often."""
    stack, count = line.rsplit(" ", 1)
    comm, *frames = stack.split(";")
    names = [comm]
    for frame in frames:
        # All but the innermost are return addresses, one behind the call.
        back = frame is not frames[-1]
        if "+" in frame:
            build_id, offset = frame.split("+")
            file = files.get(build_id)
            name = file.find(int(offset, 16) - back) if file else "[unknown]"
            # Beyond code without frame pointers, what looks like frames is none.
            if names[-1] == "[unknown]" or (name == names[-1] and name.startswith("[")):
                names.pop()
        else:
            name = (kernel.find(int(frame, 16) - back) or "[kernel]") + "_[k]"
        names.append(name)
    # Beyond main() is the start of the program, without frame pointers.
    if "main" in names:
        del names[1:names.index("main")]
    return ";".join(names), int(count)


def rectangles(stacks, depth, x):
    """(depth, left, width, name) in samples; stacks are lists of names with counts, sorted."""
    while stacks:
        name = stacks[0][0][depth] if len(stacks[0][0]) > depth else None
        same = [s for s in stacks if (s[0][depth:depth + 1] or [None])[0] == name]
        width = sum(count for _, count in same)
        if name is not None:
            yield depth, x, width, name
            yield from rectangles(same, depth + 1, x)
        x += width
        stacks = stacks[len(same):]


def colour(name, depth):
    shade = zlib.crc32(name.encode()) % 100
    if depth < 2:
        return f"hsl(0, 0%, {88 - 8 * depth + shade // 25}%)"
    if name.endswith("_[k]"):
        return f"hsl({200 + shade // 5}, 65%, {70 + shade % 12}%)"
    return f"hsl({24 + shade // 4}, 90%, {62 + shade % 12}%)"


def draw(folded, title):
    total = sum(folded.values())
    stacks = sorted((["all", *stack.split(";")], count) for stack, count in folded.items())
    frames = [f for f in rectangles(stacks, 0, 0) if f[2] * WIDTH / total >= 0.8]
    height = TOP + (max(f[0] for f in frames) + 1) * ROW + 10
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-10 0 {WIDTH + 20} {height}" '
           f'width="{WIDTH + 20}" height="{height}" font-family="DejaVu Sans Mono, monospace" '
           'font-size="11"><style>g:hover rect { stroke: #000 }</style>'
           f'<rect x="-10" width="{WIDTH + 20}" height="{height}" fill="#fff"/>'
           f'<text y="24" font-size="16">{html.escape(title)}</text>']
    for x, text, name in (0, "user space", "main"), (110, "kernel", "main_[k]"):
        out.append(f'<rect x="{x}" y="36" width="12" height="12" fill="{colour(name, 2)}"/>'
                   f'<text x="{x + 18}" y="46">{text}</text>')
    for depth, x, width, name in frames:
        left, wide = x * WIDTH / total, width * WIDTH / total
        top = height - 10 - (depth + 1) * ROW
        text = name.removesuffix("_[k]")
        room = int((wide - 6) / CHAR)
        label = text if len(text) <= room else text[:room - 1] + "…" if room > 3 else ""
        out.append(f'<g><title>{html.escape(text)}: {width} samples, {100 * width / total:.1f} %'
                   f'</title><rect x="{left:.1f}" y="{top}" width="{max(wide - 0.5, 0.3):.1f}" '
                   f'height="{ROW - 1}" rx="2" fill="{colour(name, depth)}"/>'
                   f'<text x="{left + 4:.1f}" y="{top + 12}">{html.escape(label)}</text></g>')
    return "\n".join(out) + "\n</svg>\n"


def main():
    kallsyms, raw, folded_file, svg, *paths = sys.argv[1:]
    files = {f.id: f for f in map(File, paths)}
    with open(kallsyms, encoding="ascii") as f:
        kernel = Symbols((int(a, 16), 0, n) for a, n in
                         re.findall(r"^(\w+) [TtWw] (\S+)", f.read(), re.M))
    folded = {}
    with open(raw, encoding="utf-8") as f:
        for line in f:
            stack, count = named(line, kernel, files)
            folded[stack] = folded.get(stack, 0) + count
    with open(folded_file, "w", encoding="utf-8") as f:
        f.writelines(f"{stack} {count}\n" for stack, count in sorted(folded.items()))
    with open(svg, "w", encoding="utf-8") as f:
        f.write(draw(folded, f"CPU profile, {sum(folded.values())} samples"))


main()
