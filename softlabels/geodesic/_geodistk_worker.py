"""Run GeodisTK's raster scan on a file and write a file: python _geodistk_worker.py ASKED.npz ANSWER.npz.

`softlabels.geodesic.third_party` runs this with its own interpreter, because GeodisTK cannot be built or imported
beside numpy 2. Hence it imports nothing but numpy and GeodisTK.
"""

import sys
import time
from importlib.metadata import version

import GeodisTK
import numpy as np


def main(asked: str, answer: str) -> None:
    """Read image (M, D, H, W), seeds (C, D, H, W), spacing, lamb and iterations; write distance and times."""
    with np.load(asked) as given:
        image, seeds = given["image"], given["seeds"]
        spacing = [float(side) for side in given["spacing"]]
        lamb, iterations = float(given["lamb"]), int(given["iterations"])
    # Channels last, and no channel axis for one: GeodisTK's convention.
    image = np.ascontiguousarray(image[0] if len(image) == 1 else np.moveaxis(image, 0, -1), np.float32)
    started = time.perf_counter(), time.process_time()
    distance = [
        GeodisTK.geodesic3d_raster_scan(image, np.ascontiguousarray(one, np.uint8), spacing, lamb, iterations)
        for one in seeds
    ]
    seconds, cpu_seconds = time.perf_counter() - started[0], time.process_time() - started[1]
    np.savez(answer, distance=np.stack(distance), version=version("GeodisTK"), seconds=seconds, cpu_seconds=cpu_seconds)


if __name__ == "__main__":
    main(*sys.argv[1:])
