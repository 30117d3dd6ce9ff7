"""``python -m tests.campaign --minutes 30``: long runs, which print how to repeat a failure.

``python -m tests.campaign forward --seed 17`` runs one case; ``--cases 1000`` runs 1000 of each.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
import warnings
from importlib import import_module
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

from campaign import NAMES

BATCH = 500


def run(name: str, seeds: range) -> None:
    """Run the cases of one campaign in this process; each number is printed before it starts."""
    warnings.simplefilter("error")
    check = import_module(f"campaign.{name}").check
    for seed in seeds:
        print(seed, file=sys.stderr, flush=True)
        check(np.random.default_rng(seed))


def run_apart(name: str, seeds: range) -> bool:
    """Run the cases of one campaign in a separate process, which may crash or hang."""
    command = [sys.executable, "-m", "tests.campaign", name, "--seed", str(seeds.start),
               "--cases", str(len(seeds)), "--here"]  # fmt: skip
    try:
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=1200)
        text, code = done.stderr, done.returncode
    except subprocess.TimeoutExpired as error:
        text, code = (error.stderr or b"").decode(), "a timeout"
    if code == 0:
        return True
    seed = [line for line in text.splitlines() if line.isdecimal()][-1:]
    print("".join(line for line in text.splitlines(True) if not line.strip().isdecimal()))
    print(f"FAILED with {code}: python -m tests.campaign {name} --seed {' '.join(seed)}")
    return False


def main() -> None:
    """Run the campaigns in turn until the time is up."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *NAMES], help="left out: all of them")
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--cases", type=int, help="of each, in place of minutes")
    parser.add_argument("--seed", type=int, help="of the first case; left out: another each time")
    parser.add_argument("--here", action="store_true", help="in this process")
    given = parser.parse_args()
    first = given.seed if given.seed is not None else int(np.random.default_rng().integers(2**40))
    cases = given.cases or (1 if given.seed is not None and given.minutes is None else None)
    names = given.names or NAMES
    if given.here:
        return run(names[0], range(first, first + (cases or 1)))
    end = time.monotonic() + 60 * (given.minutes or (0 if cases else 1))
    done, is_fine = 0, True
    while done < (cases or np.inf) and (cases or time.monotonic() < end):
        count = min(BATCH, (cases or np.inf) - done)
        for name in names:
            is_fine &= run_apart(name, range(first + done, first + done + int(count)))
        done += int(count)
    print(f"{done} cases of each of {', '.join(names)}, the first with seed {first}")
    sys.exit(0 if is_fine else 1)


if __name__ == "__main__":
    main()
