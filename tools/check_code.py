"""What a linter does not know: rules of this repository for the exported code. `make check` runs it."""
import ast
import json
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]
# two ways to name a detector; both show the same steps
ALIKE = {('nbs/train_detector.ipynb', 'nbs/train_vld.ipynb')}
COMPREHENSIONS = ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp
FUNCTIONS = ast.FunctionDef, ast.AsyncFunctionDef


def nested_comprehensions(tree):
    "Comprehensions that hold another one; of three in each other the outer two."
    for node in ast.walk(tree):
        if not isinstance(node, COMPREHENSIONS): continue
        inside = (n for n in ast.walk(node) if n is not node)
        if not any(isinstance(n, COMPREHENSIONS) for n in inside): continue
        yield node.lineno, 'a comprehension inside a comprehension'


def shared_lines(tree):
    "Statements on the line of the one before; `if x: return y` is a header and its body, and allowed."
    for node in ast.walk(tree):
        for name in ('body', 'orelse', 'finalbody'):
            block = getattr(node, name, None)
            if not isinstance(block, list): continue
            for before, after in zip(block, block[1:]):
                if before.end_lineno == after.lineno: yield after.lineno, 'two statements on one line'


def long_summaries(tree):
    "Docstrings whose first line is longer than 80 characters."
    for node in ast.walk(tree):
        if not isinstance(node, (*FUNCTIONS, ast.ClassDef, ast.Module)): continue
        first = (ast.get_docstring(node) or '').partition('\n')[0]
        if len(first) <= 80: continue
        yield node.body[0].lineno, f'the first line of a docstring has {len(first)} characters, 80 at most'


def problems(path):
    "Lines of a module that break a rule, with what is wrong."
    tree = ast.parse(path.read_text())
    for rule in (nested_comprehensions, shared_lines, long_summaries):
        for line, says in rule(tree): yield f'{path.relative_to(ROOT)}:{line}: {says}'


def _own_lines(text):
    "(number, line) of code that says something of its own: no blank line, comment, import or bracket."
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if len(line) > 3 and not line.startswith(('#', 'import ', 'from ', '@')): yield number, line


def _passages():
    "Name: code of each module, and of each experiment without its parameters."
    for path in sorted((ROOT/'lesionlab').rglob('*.py')):
        if path.name != '_modidx.py': yield str(path.relative_to(ROOT)), path.read_text()
    for path in sorted((ROOT/'nbs').glob('*.ipynb')):
        cells = json.loads(path.read_text())['cells']
        code = [''.join(c['source']) for c in cells if c['cell_type'] == 'code' and not c['metadata'].get('tags')]
        yield str(path.relative_to(ROOT)), '\n'.join(code)


def repeated_passages(n=6):
    "Places where `n` lines in a row are the same as elsewhere, once for each pair of files."
    places = defaultdict(list)
    for name, text in _passages():
        lines = list(_own_lines(text))
        for i in range(len(lines) - n + 1): places[tuple(l for _, l in lines[i:i+n])].append((name, lines[i][0]))
    pairs = {}
    for found in places.values():
        (one, at), *others = found
        for other, there in others: pairs.setdefault((one, other), f'{other}:{there}: {n} lines as at {one}:{at}')
    return [says for pair, says in pairs.items() if pair not in ALIKE]


if __name__ == '__main__':
    wings = [ROOT/'lesionlab'/w for w in sys.argv[1:]] or [ROOT/'lesionlab']
    files = sorted(p for w in wings for p in (w.rglob('*.py') if w.is_dir() else [w]) if p.name != '_modidx.py')
    found = [says for path in files for says in problems(path)]
    if len(sys.argv) == 1: found += repeated_passages()
    print(*found, sep='\n')
    sys.exit(bool(found))
