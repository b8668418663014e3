"""The authors' location encoders as their user runs them, in a process without georama.

Started by location_speed.py: reads arrays from a file, then for every line on standard input runs
once and prints wall-clock and processor seconds.
"""

import importlib
import sys
import time
import types
from pathlib import Path

import numpy as np
import torch


def authors(folder):
    package = types.ModuleType("authors")
    package.__path__ = [str(folder)]
    sys.modules["authors"] = package
    return importlib.import_module("authors.location_encoder")


def satclip(folder, arrays):
    code = authors(folder)
    weights = {k: torch.from_numpy(v) for k, v in arrays.items() if k != "lonlat"}
    hidden, columns = weights["layers.0.weight"].shape
    degrees, width = round(columns**0.5), len(weights["last_layer.weight"])
    basis = code.get_positional_encoding("sphericalharmonics", degrees, "analytic")
    net = code.get_neural_network("siren", columns, width, hidden, 2)
    net.load_state_dict(weights)
    encoder = code.LocationEncoder(basis, net).double().eval()
    points = torch.from_numpy(arrays["lonlat"])
    return lambda: encoder(points)


def geoclip(folder, arrays):
    encoder = authors(folder).LocationEncoder().eval()
    points = torch.tensor(arrays["lonlat"][:, ::-1].copy(), dtype=torch.float32)
    return lambda: encoder(points)


def geoclip_without_tiny_weights(folder, arrays):
    encoder = authors(folder).LocationEncoder().eval()
    with torch.no_grad():
        for values in encoder.parameters():
            values[values.abs() < 1e-12] = 0
    points = torch.tensor(arrays["lonlat"][:, ::-1].copy(), dtype=torch.float32)
    return lambda: encoder(points)


if __name__ == "__main__":
    name, folder, file, also, threads = sys.argv[1:]
    sys.path.append(also)
    if int(threads):
        torch.set_num_threads(int(threads))
    peers = {f.__name__: f for f in (satclip, geoclip, geoclip_without_tiny_weights)}
    run = peers[name](Path(folder), dict(np.load(file)))
    print("ready", flush=True)
    for _ in sys.stdin:
        wall, processor = time.perf_counter(), time.process_time()
        with torch.no_grad():
            run()
        print(time.perf_counter() - wall, time.process_time() - processor, flush=True)
