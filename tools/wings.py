"The wings in the order in which data flows, what each room imports, and a picture of it in docs/images/wings.png."
import ast
import re
from collections import Counter
from pathlib import Path

root = Path(__file__).parents[1]
WINGS = 'core nets ct annotations viz phantom data evaluation detectors engine harvesting experiments apps'.split()


def rooms():
    "Module: (place of its wing, number in the wing), from the notebooks that export them."
    found = {}
    for wing in WINGS:
        for path in sorted((root/'nbs'/wing).glob('*.ipynb')):
            name = re.search(r'#\| default_exp ([\w.]+)', path.read_text())
            if name: found[name[1]] = (WINGS.index(wing), path.name[:2])
    return found


def imports(module):
    "Rooms that a room imports, within functions too."
    package = ['lesionlab', *module.split('.')[:-1]]
    tree = ast.parse((root/'lesionlab'/f'{module.replace(".", "/")}.py').read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (a.name.removeprefix('lesionlab.') for a in node.names if a.name.startswith('lesionlab.'))
        if isinstance(node, ast.ImportFrom): yield from _from(node, package)


def _from(node, package):
    """Rooms of one `from` statement.
    `from ..ct import volume` names a room, `from ..ct.volume import Volume` a thing in it."""
    base = package[:len(package) - node.level + 1] if node.level else []
    full = '.'.join([*base, *filter(None, [node.module])])
    if not full.startswith('lesionlab'): return
    for a in node.names:
        there = f'{full}.{a.name}'.removeprefix('lesionlab.')
        is_room = (root/'lesionlab'/f'{there.replace(".", "/")}.py').exists()
        yield there if is_room else full.removeprefix('lesionlab.')


def arrows():
    "(wing, wing that it imports): number of imports between their rooms."
    pairs = ((room.split('.')[0], other.split('.')[0]) for room in rooms() for other in imports(room))
    return Counter((one, other) for one, other in pairs if one != other)


def draw(path):
    "Wings from top to bottom, an arc from each to those that it imports; upward ones would be red."
    import matplotlib.pyplot as plt
    from matplotlib.patches import FancyArrowPatch
    count = Counter(r.split('.')[0] for r in rooms())
    fig, ax = plt.subplots(figsize=(7, 6.5), layout='constrained')
    for i, wing in enumerate(WINGS):
        box = dict(boxstyle='round', fc='#eef3f8', ec='#8aa')
        ax.text(0, -i, f'{wing}  ({count[wing]})', ha='center', va='center', fontsize=11, bbox=box)
    for (a, b), n in arrows().items():
        i, j = WINGS.index(a), WINGS.index(b)
        side = 1 if (i + j) % 2 else -1
        bend = side * min(.95, .35 + .05 * abs(i - j))
        style = dict(connectionstyle=f'arc3,rad={bend}', arrowstyle='-|>', mutation_scale=9, alpha=.55)
        color = '#4a6fa5' if j < i else 'red'
        ax.add_patch(FancyArrowPatch((side * .75, -i), (side * .75, -j), lw=.5 + n / 12, color=color, **style))
    ax.set(xlim=(-6, 6), ylim=(-len(WINGS) + .4, .6))
    ax.axis('off')
    fig.savefig(path, dpi=110)


if __name__ == '__main__':
    draw(root/'docs'/'images'/'wings.png')
    for (a, b), n in sorted(arrows().items(), key=lambda x: tuple(map(WINGS.index, x[0]))): print(f'{a} -> {b}: {n}')
