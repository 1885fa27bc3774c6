#!/usr/bin/env python3
"""Where the machine code of CUDA kernels touches local memory.

  nvdisasm -c KERNEL.cubin | tools/cuda_local_memory.py [--all]

For each function a row of a table: instructions that load or store local memory,
so that a spill where a layer computes can be told from a register saved once a
call. A cell `s + o` is s spills (registers that did not suffice) and o others
(arguments of calls, arrays under an index that varies):

  once a call    in no loop
  between calls  in a loop, but the innermost one calls other functions: what a
                 kernel keeps while a layer computes
  in loops       in a loop that calls nothing, and of these
  innermost      in one that has no other loop inside

Without --all only functions with a spill, or with anything in a loop, are listed.

Loops are found in the control flow graph, not by the order of the code: blocks
that reach each other, and within those, without their entry, again. The slow
paths of division and square root are not counted as calls. Needs an nvdisasm
that marks spills (CUDA 13); with older ones they count as others.

SPDX-FileCopyrightText: The fewstep authors
SPDX-License-Identifier: Apache-2.0
"""
import re
import subprocess
import sys

LABEL = re.compile(r'^(\S.*):$')
INSTRUCTION = re.compile(
    r'^\s+/\*[0-9a-f]+\*/\s+(?:(@!?U?P\w+)\s+)?([A-Z][\w.]*)(.*?);')
TARGET = re.compile(r'`\((\.L\w+)\)')


def functions(lines):
    """(name, [(labels before it, predicate, opcode, operands)])"""
    named = set()
    name, code, labels = None, [], []
    for line in lines:
        line = line.rstrip()
        declared = re.match(r'^\s+\.type\s+(.*),@function$', line)
        if declared:
            named.add(declared.group(1).strip())
            continue
        label = LABEL.match(line)
        if label:
            if label.group(1) in named:
                if code:
                    yield name, code
                name, code, labels = label.group(1), [], []
            elif label.group(1).startswith('.L'):
                labels.append(label.group(1))
            continue
        found = INSTRUCTION.match(line)
        if found and name is not None:
            code.append((labels, *found.groups()))
            labels = []
    if code:
        yield name, code


def successors(code):
    """Of each instruction, the instructions that may follow it."""
    at = {label: i for i, row in enumerate(code) for label in row[0]}
    following = []
    for i, (_, predicate, opcode, operands) in enumerate(code):
        base = opcode.split('.')[0]
        next_ = [i + 1] if i + 1 < len(code) else []
        if base in ('EXIT', 'RET', 'KILL', 'BPT'):
            following.append(next_ if predicate else [])
        elif base in ('BRX', 'JMX', 'JMP', 'BRXU', 'JMXU'):
            raise SystemExit(f'cuda_local_memory.py: no idea where {opcode} goes')
        elif base == 'BRA':
            target = TARGET.search(operands)
            to = [at[target.group(1)]] if target and target.group(1) in at else []
            # BRA P0, `(..): the predicate may be an operand.
            may_pass = predicate or opcode != 'BRA' or 'P' in operands.split('`')[0]
            following.append(to + (next_ if may_pass else []))
        else:
            following.append(next_)
    return following


def components(nodes, following):
    """Strongly connected components of more than one node, or with a loop
    (Tarjan 1972, without recursion)."""
    index, low, on_stack, stack, found = {}, {}, set(), [], []
    for root in nodes:
        if root in index:
            continue
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        work = [(root, iter(following[root]))]
        while work:
            node, rest = work[-1]
            for other in rest:
                if other not in nodes:
                    continue
                if other not in index:
                    index[other] = low[other] = len(index)
                    stack.append(other)
                    on_stack.add(other)
                    work.append((other, iter(following[other])))
                    break
                if other in on_stack:
                    low[node] = min(low[node], index[other])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    part = set()
                    while True:
                        other = stack.pop()
                        on_stack.discard(other)
                        part.add(other)
                        if other == node:
                            break
                    if len(part) > 1 or node in following[node]:
                        found.append(part)
    return found


def loops(following):
    """The loops, outer ones before inner ones: sets of instructions."""
    before = [[] for _ in following]
    for i, to in enumerate(following):
        for j in to:
            before[j].append(i)
    found = []
    work = [set(range(len(following)))]
    while work:
        nodes = work.pop(0)
        for part in components(nodes, following):
            found.append(part)
            entries = {i for i in part
                       if i == 0 or any(j not in part for j in before[i])}
            work.append(part - (entries or {min(part)}))
    return found


ONCE, BETWEEN, LOOP, INNERMOST = range(4)


def places(code):
    """Of each instruction, which of these it is in."""
    following = successors(code)
    calls = {i for i, (_, _, opcode, operands) in enumerate(code)
             if opcode.split('.')[0] == 'CALL' and '__cuda_' not in operands
             and not TARGET.search(operands)}
    place = [ONCE] * len(code)
    inside = []
    for part in loops(following):  # Inner ones overwrite outer ones.
        inside.append(part)
        kind = BETWEEN if part & calls else LOOP
        for i in part:
            place[i] = kind
    for part in inside:
        if not part & calls and not any(o < part for o in inside):
            for i in part:
                place[i] = INNERMOST
    return place


def short(name):
    """A name without what all of them have."""
    name = subprocess.run(['c++filt', name.rsplit('$', 1)[-1]], check=True,
                          capture_output=True, text=True).stdout.strip()
    for what in ('fewstep::host::', 'fewstep::', '(anonymous namespace)::',
                 'void '):
        name = name.replace(what, '')
    name = name.replace('PlainView<float>', 'float')
    name = re.sub(r', (Block|Cluster)Executor', '', name)
    name = re.sub(r'(Block|Cluster)Team', '..', name)
    name = name.replace(' >', '>')
    return name.split('(')[0]


def main():
    everything = '--all' in sys.argv[1:]
    rows = {}
    for name, code in functions(sys.stdin):
        counts = [[0, 0] for _ in range(4)]
        if any(row[2].split('.')[0] in ('LDL', 'STL') for row in code):
            for place, (_, _, opcode, operands) in zip(places(code), code):
                if opcode.split('.')[0] in ('LDL', 'STL'):
                    counts[place][0 if 'SpillRefill' in operands else 1] += 1
        counts[LOOP] = [a + b for a, b in zip(counts[LOOP], counts[INNERMOST])]
        spills = sum(counts[place][0] for place in (ONCE, BETWEEN, LOOP))
        if not everything and not spills and not sum(counts[LOOP]):
            continue
        # Of a function in several kernels, the worst.
        if rows.get(short(name), (-1,))[0] < spills:
            rows[short(name)] = (spills, counts)
    if not rows:
        print('None in a loop, and no spills.')
        return
    print('| function | once a call | between calls | in loops | innermost |')
    print('|---|---|---|---|---|')
    for name, (_, counts) in sorted(rows.items()):
        cells = ('{} + {}'.format(*pair) if any(pair) else '0' for pair in counts)
        print(f'| `{name}` | ' + ' | '.join(cells) + ' |')


if __name__ == '__main__':
    main()
