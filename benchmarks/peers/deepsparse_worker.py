"""DeepSparse in a process and an environment of its own: reads commands from standard input, answers each with a line of JSON.

`open NAME MODEL INPUTS BATCH THREADS`, `run NAMES REPS WARM_MS` (several names, joined by commas, take turns), `out NAME FILE`,
`forget NAMES`.
"""

import json
import os
import resource
import sys
import time

import deepsparse
import numpy as np


def main():
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the library prints goes to stderr
    calls = {}

    def answer(line):
        verb, *args = line.split()
        if verb == "open":
            name, model, inputs, batch, threads = args
            with np.load(inputs) as z:
                arrays = [z[key] for key in z.files]
            engine = deepsparse.Engine(model, batch_size=int(batch), num_cores=int(threads))
            calls[name] = lambda: engine.run(arrays, val_inp=False)[0]
            return {}
        if verb == "run":
            return {"sample": timed([calls[name] for name in args[0].split(",")], int(args[1]), float(args[2]))}
        if verb == "forget":
            for name in args[0].split(","):
                calls.pop(name)
            return {}
        np.save(args[1], calls[args[0]]())
        return {}

    def say(**facts):
        channel.write(json.dumps(facts) + "\n")
        channel.flush()

    say(version=deepsparse.__version__)
    for line in sys.stdin:
        try:
            say(**answer(line))
        except Exception as error:
            say(error=f"{type(error).__name__}: {error}")


def timed(turns, reps, warm_ms):
    """Seconds per call, and whether another program took the core meanwhile."""
    until = time.perf_counter() + warm_ms * 1e-3
    turns[-1]()
    while time.perf_counter() < until:
        turns[-1]()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
    start = time.perf_counter()
    for i in range(reps):
        turns[i % len(turns)]()
    seconds = (time.perf_counter() - start) / reps
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw > before


if __name__ == "__main__":
    main()
