// How a kernel is written here: as phases. In a phase each thread t of a block runs the body once, and no thread begins
// the next phase before all have ended this one. In a phase no thread may read what another one writes.
//
//     EACH_THREAD(t) { ... }        one phase
//     if (ANY_THREAD(flag)) { ... } the same answer for all threads: whether any of them has set its flag
//
// What lies between phases must come out the same in every thread. So the tests can run the very same text on a CPU,
// where a phase is a loop over t: they define these macros themselves.
#pragma once

#ifndef EACH_THREAD
#define EACH_THREAD(t) for (int t = threadIdx.x, once = 1; once; once = 0, __syncthreads())
#define ANY_THREAD(flag) __syncthreads_or(flag)
#endif

#define INFINITE __int_as_float(0x7f800000)  // NVRTC has no <cmath>

typedef long long Voxel;  // an index into a volume: volumes may hold more than 2^31 voxels

struct Shape {
    int depth, height, width;
};
