"""How long a card takes from a cold start: whole commands, in turn, each a process of its own.

    python benchmarks/cards.py [--rounds 5] [--cards temperature,nucleus]

Prints a table for people, and one JSON line last. The model's file is in the system's page cache.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time

PROMPT = "The capital of France is"
LIMIT = 5.0  # seconds, of `thermoscope temperature PROMPT`


def seconds(card: str) -> float:
    """One whole command."""
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "thermoscope", card, PROMPT, "--json"], check=True, capture_output=True
    )
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--cards", type=lambda text: text.split(","), default=["temperature", "nucleus", "boltzmann"]
    )
    given = parser.parse_args()
    taken: dict[str, list[float]] = {card: [] for card in given.cards}
    for card in given.cards:
        seconds(card)  # once for nothing: files come into the page cache
    for _ in range(given.rounds):
        for card in given.cards:
            taken[card].append(seconds(card))
    result = {
        card: {"median": round(statistics.median(each), 2), "most": round(max(each), 2)}
        for card, each in taken.items()
    }
    print(f"{'card':12} {'median':>7} {'most':>7}   seconds of {given.rounds} cold commands")
    for card, each in result.items():
        print(f"{card:12} {each['median']:7.2f} {each['most']:7.2f}")
    print(json.dumps({"rounds": given.rounds, "seconds": result, "limit": {"temperature": LIMIT}}))


if __name__ == "__main__":
    main()
