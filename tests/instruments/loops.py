"""What several tests of instruments compute again, in loops over Python floats."""

import math


def rows(table):
    """A table's rows, by their columns."""
    return [dict(zip([column.key for column in table.columns], row, strict=True)) for row in table.rows]


def softmax(row, temperature):
    weights = [math.exp((z - max(row)) / temperature) for z in row]
    return [weight / math.fsum(weights) for weight in weights]


def nucleus(p, top_p):
    """Ids, best first, by adding one token after another."""
    kept, mass = [], 0.0
    for token in sorted(range(len(p)), key=lambda token: (-p[token], token)):
        kept.append(token)
        mass += p[token]
        if mass >= top_p:
            break
    return kept
