"""Shared by several subpackages: bounding boxes, compiled kernels, reproducible exponentials."""
