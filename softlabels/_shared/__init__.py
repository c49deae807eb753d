"""What several wings need and none owns: bounding boxes, compiled kernels, reproducible exponentials."""
